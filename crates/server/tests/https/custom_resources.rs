//! Custom resources through the API: created, read, changed, applied, watched, shown and deleted like built-in kinds.

use crate::harness::World;
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const TABS: &str = "/apis/example.com/v1/namespaces/default/crontabs";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["cron"], "properties": {
                        "cron": {"type": "string", "pattern": "^[0-9* ]+$"},
                        "replicas": {"type": "integer", "minimum": 0, "default": 1},
                        "color": {"type": "string"},
                        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                            "items": {"type": "object", "required": ["port"], "properties": {
                                "port": {"type": "integer"}, "name": {"type": "string"}}}}}},
                    "status": {"type": "object", "properties": {
                        "replicas": {"type": "integer"}, "selector": {"type": "string"}}}}}},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [{"name": "Cron", "type": "string", "jsonPath": ".spec.cron"},
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1}]}]},
    })
}

fn tab(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

/// A server with the definition.
async fn world() -> World {
    let world = World::start().await;
    assert!(world.define(definition()).await);
    world
}

#[tokio::test]
async fn objects_live_as_their_schema_says() {
    let world = World::start().await;
    let early = world.call("POST", TABS, tab("a", json!({"cron": "*"}))).await;
    assert_eq!((early.code, early.text().as_str()), (404, "404 page not found\n"));
    assert!(world.define(definition()).await);

    let created = world.call("POST", TABS, tab("a", json!({"cron": "* *", "extra": 1}))).await;
    assert_eq!(created.code, 201, "{}", created.text());
    assert_eq!(created.headers["warning"], "299 - \"unknown field \\\"spec.extra\\\"\"");
    let object = created.json();
    assert_eq!(object["spec"], json!({"cron": "* *", "replicas": 1}));
    assert_eq!(object["metadata"]["generation"], 1);
    assert_eq!(
        object["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"],
        json!({".": {}, "f:cron": {}, "f:replicas": {}})
    );

    for (case, spec, message) in [
        (
            "pattern",
            json!({"cron": "x"}),
            "CronTab.example.com \"b\" is invalid: spec.cron: Invalid value: \"x\": spec.cron in body should match '^[0-9* ]+$'",
        ),
        ("required", json!({}), "CronTab.example.com \"b\" is invalid: spec.cron: Required value"),
        (
            "type",
            json!({"cron": 1}),
            "CronTab.example.com \"b\" is invalid: spec.cron: Invalid value: \"integer\": spec.cron in body must be of type string: \"integer\"",
        ),
    ] {
        let refused = world.call("POST", TABS, tab("b", spec)).await;
        assert_eq!((refused.code, refused.json()["message"].as_str().unwrap()), (422, message), "{case}");
    }
    let strict =
        world.call("POST", &format!("{TABS}?fieldValidation=Strict"), tab("b", json!({"cron": "*", "foo": 1}))).await;
    assert_eq!(strict.code, 400);
    assert!(strict.text().contains("strict decoding error: unknown field \\\"spec.foo\\\""), "{}", strict.text());
    let dry = world.call("POST", &format!("{TABS}?dryRun=All"), tab("b", json!({"cron": "*"}))).await;
    assert_eq!(dry.code, 201);
    assert_eq!(world.call("GET", &format!("{TABS}/b"), Value::Null).await.code, 404);

    let list = world.get(TABS).await;
    assert_eq!((list["kind"].as_str(), list["items"][0]["kind"].as_str()), (Some("CronTabList"), Some("CronTab")));
    world.stop().await;
}

#[tokio::test]
async fn changes_follow_the_rules_of_generation_and_status() {
    let world = world().await;
    let path = format!("{TABS}/a");
    let mut object = world.call("POST", TABS, tab("a", json!({"cron": "*"}))).await.json();
    object["metadata"]["resourceVersion"] = "".into();
    let refused = world.call("PUT", &path, object.clone()).await;
    assert_eq!(refused.code, 422, "{}", refused.text());
    assert!(refused.text().contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update"));

    let patch = |path: String, body: Value| {
        let world = &world;
        async move {
            let headers = [("content-type", "application/merge-patch+json")];
            world.send("PATCH", &path, &headers, body.to_string()).await
        }
    };
    let patched = patch(path.clone(), json!({"spec": {"color": "blue"}, "status": {"replicas": 5}})).await.json();
    assert_eq!((&patched["metadata"]["generation"], &patched["status"]), (&json!(2), &Value::Null));
    let labelled = patch(path.clone(), json!({"metadata": {"labels": {"a": "b"}}})).await.json();
    assert_eq!(labelled["metadata"]["generation"], 2);
    let status = patch(format!("{path}/status"), json!({"spec": {"cron": "1"}, "metadata": {"labels": {"x": "y"}}, "status": {"replicas": 2, "selector": "app=x"}})).await.json();
    assert_eq!((&status["metadata"]["generation"], &status["status"]["replicas"]), (&json!(2), &json!(2)));
    assert_eq!((&status["spec"]["cron"], &status["metadata"]["labels"]), (&json!("*"), &json!({"a": "b"})));

    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    assert_eq!(world.send("PATCH", &path, &strategic, "{}").await.code, 415);

    let scale = world.get(&format!("{path}/scale")).await;
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=x"}));
    let scaled = patch(format!("{path}/scale"), json!({"spec": {"replicas": 7}})).await;
    assert_eq!((scaled.code, &scaled.json()["spec"]["replicas"]), (200, &json!(7)));
    let object = world.get(&path).await;
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(7), &json!(3)));

    let same = patch(path.clone(), json!({"spec": {"replicas": 7}})).await.json();
    assert_eq!(same["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"]);
    let deleted = world.send("DELETE", &path, &[], "").await.json();
    assert_eq!((&deleted["kind"], &deleted["details"]["kind"]), (&json!("Status"), &json!("crontabs")));
    world.stop().await;
}

#[tokio::test]
async fn appliers_share_the_items_of_lists() {
    let world = world().await;
    let apply = |manager: &'static str, spec: Value, force: bool| {
        let world = &world;
        async move {
            let path = format!("{TABS}/a?fieldManager={manager}&force={force}");
            let headers = [("content-type", "application/apply-patch+yaml")];
            world.send("PATCH", &path, &headers, tab("a", spec).to_string()).await
        }
    };
    let created = apply("one", json!({"cron": "*", "ports": [{"port": 80, "name": "x"}]}), false).await;
    assert_eq!(created.code, 201, "{}", created.text());
    let fields = &created.json()["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:ports"];
    assert_eq!(fields, &json!({"k:{\"port\":80}": {".": {}, "f:name": {}, "f:port": {}}}));
    let shared = apply("two", json!({"cron": "*", "ports": [{"port": 81}]}), false).await.json();
    assert_eq!(shared["spec"]["ports"], json!([{"port": 80, "name": "x"}, {"port": 81}]));
    let conflict = apply("two", json!({"cron": "1"}), false).await;
    assert_eq!(conflict.code, 409, "{}", conflict.text());
    assert!(conflict.text().contains("conflict with \\\"one\\\": .spec.cron"), "{}", conflict.text());
    let forced = apply("two", json!({"cron": "1"}), true).await.json();
    assert_eq!((&forced["spec"]["cron"], &forced["spec"]["ports"]), (&json!("1"), &json!([{"port": 80, "name": "x"}])));
    let unknown = apply("two", json!({"cron": "1", "foo": 1}), true).await;
    assert_eq!(unknown.code, 400);
    assert!(unknown.text().contains(".spec.foo: field not declared in schema"), "{}", unknown.text());
    world.stop().await;
}

#[tokio::test]
async fn objects_are_shown_and_selected() {
    let world = world().await;
    for (name, color) in [("a", "blue"), ("b", "red")] {
        world.call("POST", TABS, tab(name, json!({"cron": "*", "color": color}))).await;
    }
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = world.send("GET", TABS, &table, "").await.json();
    let columns: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(columns, ["Name", "Cron", "Replicas"]);
    assert_eq!(table["rows"][0]["cells"], json!(["a", "*", 1]));
    let partial = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let partial = world.send("GET", TABS, &partial, "").await.json();
    assert_eq!(partial["items"][1]["kind"], "PartialObjectMetadata");
    let selected = world.get(&format!("{TABS}?fieldSelector=spec.color%3Dblue")).await;
    assert_eq!(selected["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(world.call("GET", &format!("{TABS}?fieldSelector=spec.cron%3Dx"), Value::Null).await.code, 400);

    let discovery = world.get("/apis/example.com/v1").await;
    let names: Vec<&str> =
        discovery["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(names, ["crontabs", "crontabs/status", "crontabs/scale"]);
    assert_eq!(discovery["resources"][0]["shortNames"], json!(["ct"]));
    let headers = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let groups = world.send("GET", "/apis", &headers, "").await;
    let last = groups.json()["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["metadata"]["name"], "example.com");
    let tag = groups.headers["etag"].to_str().unwrap().to_string();
    assert!(world.get("/apis").await["groups"].as_array().unwrap().iter().any(|g| g["name"] == "example.com"));
    world.send("DELETE", &format!("{DEFINITIONS}/crontabs.example.com"), &[], "").await;
    let after = world.send("GET", "/apis", &headers, "").await;
    assert_ne!(after.headers["etag"].to_str().unwrap(), tag);
    world.stop().await;
}

#[tokio::test]
async fn names_belong_to_one_definition() {
    let world = world().await;
    let mut other = definition();
    other["metadata"]["name"] = "tabs.example.com".into();
    other["spec"]["names"] = json!({"plural": "tabs", "kind": "CronTab", "listKind": "TabList"});
    assert!(!world.define(other).await);
    assert_eq!(world.call("GET", "/apis/example.com/v1/tabs", Value::Null).await.code, 404);
    let stored = world.get(&format!("{DEFINITIONS}/tabs.example.com")).await;
    let accepted =
        stored["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "NamesAccepted").unwrap();
    assert_eq!(
        (&accepted["reason"], &accepted["message"]),
        (&json!("KindConflict"), &json!("\"CronTab\" is already in use"))
    );
    // The name becomes free, and is given on.
    let mut events = world
        .watch(&format!("{DEFINITIONS}?watch=true&fieldSelector=metadata.name%3Dtabs.example.com"), "application/json")
        .await;
    world.call("DELETE", &format!("{DEFINITIONS}/crontabs.example.com"), Value::Null).await;
    loop {
        let event = events.next().await.expect("the watch ended");
        if event["object"]["status"]["acceptedNames"]["kind"] == "CronTab" {
            break;
        }
    }
    world.get("/apis/example.com/v1/tabs").await;
    world.stop().await;
}

#[tokio::test]
async fn a_definition_takes_its_objects_along() {
    let world = world().await;
    world.create(TABS, tab("a", json!({"cron": "*"}))).await;
    let mut held = tab("b", json!({"cron": "*"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.create(TABS, held).await;
    let mut watch = world.watch(&format!("{TABS}?watch=true"), "application/json").await;
    assert_eq!((watch.brief().await, watch.brief().await), ("ADDED a".to_string(), "ADDED b".to_string()));

    let path = format!("{DEFINITIONS}/crontabs.example.com");
    let deleted = world.call("DELETE", &path, Value::Null).await.json();
    assert_eq!(deleted["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    let refused = world.call("POST", TABS, tab("c", json!({"cron": "*"}))).await;
    assert_eq!(refused.code, 403, "{}", refused.text());
    assert!(refused.text().contains("create not allowed while custom resource definition is terminating"));
    let mut gone = Vec::new();
    while gone.len() < 2 {
        gone.push(watch.brief().await);
    }
    gone.sort();
    assert_eq!(gone, ["DELETED a", "MODIFIED b"]);
    let mut definitions = world.watch(&format!("{DEFINITIONS}?watch=true"), "application/json").await;
    world.call("PATCH", &format!("{TABS}/b"), json!({"metadata": {"finalizers": null}})).await;
    loop {
        if definitions.brief().await == "DELETED crontabs.example.com" {
            break;
        }
    }
    assert_eq!(watch.brief().await, "DELETED b");
    assert_eq!(watch.brief().await, "END");
    assert_eq!(world.call("GET", TABS, Value::Null).await.code, 404);
    world.stop().await;
}

#[tokio::test]
async fn several_versions_show_the_same_objects() {
    let world = World::start().await;
    let mut definition = definition();
    let mut newer = definition["spec"]["versions"][0].clone();
    newer["name"] = "v2".into();
    newer["storage"] = false.into();
    newer["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"] =
        json!({"type": "string", "default": "L"});
    definition["spec"]["versions"][0]["deprecated"] = true.into();
    definition["spec"]["versions"].as_array_mut().unwrap().push(newer);
    assert!(world.define(definition.clone()).await);
    let (path, at_v2) = (format!("{DEFINITIONS}/crontabs.example.com"), TABS.replace("/v1/", "/v2/"));

    let created = world.call("POST", TABS, tab("a", json!({"cron": "*"}))).await;
    assert_eq!(
        created.headers["warning"],
        "299 - \"example.com/v1 CronTab is deprecated; use example.com/v2 CronTab\""
    );
    let in_v2 = world.get(&format!("{at_v2}/a")).await;
    assert_eq!((&in_v2["apiVersion"], &in_v2["spec"]["size"]), (&json!("example.com/v2"), &json!("L")));
    let mut second = tab("b", json!({"cron": "*", "size": "S"}));
    second["apiVersion"] = "example.com/v2".into();
    world.create(&at_v2, second).await;
    // What only the other version knows is not shown in this one.
    assert_eq!(world.get(&format!("{TABS}/b")).await["spec"].get("size"), None);
    let list = world.get(&at_v2).await;
    let versions: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|i| &i["apiVersion"]).collect();
    assert_eq!(versions, ["example.com/v2", "example.com/v2"]);
    let mut watch = world.watch(&format!("{at_v2}?watch=true"), "application/json").await;
    let seen = watch.next().await.unwrap();
    assert_eq!(
        (&seen["object"]["apiVersion"], &seen["object"]["spec"]["size"]),
        (&json!("example.com/v2"), &json!("L"))
    );
    assert_eq!(watch.brief().await, "ADDED b");

    // The other version is stored from now on, and the first no longer served.
    let versions = definition["spec"]["versions"].as_array_mut().unwrap();
    (versions[0]["storage"], versions[0]["served"], versions[1]["storage"]) = (false.into(), false.into(), true.into());
    let changed = world.call("PATCH", &path, json!({"spec": {"versions": definition["spec"]["versions"]}})).await;
    assert_eq!(changed.json()["status"]["storedVersions"], json!(["v1", "v2"]), "{}", changed.text());
    assert_eq!(world.call("GET", TABS, Value::Null).await.code, 404);
    let touched = world.call("PATCH", &format!("{at_v2}/a"), json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!((touched.code, &touched.json()["spec"]), (200, &json!({"cron": "*", "replicas": 1, "size": "L"})));
    let modified = watch.next().await.unwrap();
    assert_eq!((&modified["type"], &modified["object"]["apiVersion"]), (&json!("MODIFIED"), &json!("example.com/v2")));
    let gone = world.call("PATCH", &path, json!({"spec": {"versions": [definition["spec"]["versions"][1]]}})).await;
    assert_eq!(gone.code, 422);
    assert!(
        gone.text().contains("status.storedVersions[0]: Invalid value: \\\"v1\\\": missing from spec.versions"),
        "{}",
        gone.text()
    );
    world.stop().await;
}

#[tokio::test]
async fn a_stricter_schema_holds_for_what_changes() {
    let world = world().await;
    world.create(TABS, tab("a", json!({"cron": "* *", "color": "blue", "replicas": 3}))).await;
    let mut stricter = definition();
    let spec = &mut stricter["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    spec["cron"]["maxLength"] = 1.into();
    spec["shade"] = json!({"type": "string", "default": "dark"});
    spec.as_object_mut().unwrap().remove("color");
    stricter["spec"]["versions"][0].as_object_mut().unwrap().remove("selectableFields");
    let changed =
        world.call("PATCH", &format!("{DEFINITIONS}/crontabs.example.com"), json!({"spec": stricter["spec"]})).await;
    assert_eq!(changed.code, 200, "{}", changed.text());
    let shown = world.get(&format!("{TABS}/a")).await;
    assert_eq!(shown["spec"], json!({"cron": "* *", "replicas": 3, "shade": "dark"}));
    let kept = world.call("PATCH", &format!("{TABS}/a"), json!({"spec": {"replicas": 4}})).await;
    assert_eq!(kept.code, 200, "{}", kept.text());
    let refused = world.call("PATCH", &format!("{TABS}/a"), json!({"spec": {"cron": "1 1"}})).await;
    assert!(refused.text().contains("spec.cron: Too long: may not be more than 1 bytes"), "{}", refused.text());
    world.stop().await;
}
