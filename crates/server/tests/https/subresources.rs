//! Sub-resources and the kinds that the server treats in their own way, over real HTTPS.

use crate::harness::{Row, World};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SERVICES: &str = "/api/v1/namespaces/default/services";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

async fn with_account() -> World {
    let world = World::start().await;
    world.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    world
}

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn status_and_spec_have_their_own_doors() {
    let world = World::start().await;
    world.create(DEPLOYMENTS, deployment("a")).await;
    let path = format!("{DEPLOYMENTS}/a");
    let both = json!({"spec": {"replicas": 7}, "status": {"replicas": 5}});
    let status = world.call("PATCH", &format!("{path}/status"), both.clone()).await.json();
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(1), &json!(5)));
    assert_eq!(status["metadata"]["generation"], 1);
    let main = world.call("PATCH", &path, json!({"spec": {"replicas": 7}, "status": {"replicas": 9}})).await.json();
    assert_eq!((&main["spec"]["replicas"], &main["status"]["replicas"]), (&json!(7), &json!(5)));
    assert_eq!(main["metadata"]["generation"], 2);
    world.stop().await;
}

#[tokio::test]
async fn a_deployment_is_scaled() {
    let world = World::start().await;
    world.create(DEPLOYMENTS, deployment("a")).await;
    let path = format!("{DEPLOYMENTS}/a/scale");
    let mut scale = world.get(&path).await;
    assert_eq!((&scale["kind"], &scale["status"]["selector"]), (&json!("Scale"), &json!("app=x")));
    scale["spec"]["replicas"] = 4.into();
    let scaled = world.call("PUT", &path, scale.clone()).await;
    assert_eq!((scaled.code, &scaled.json()["spec"]["replicas"]), (200, &json!(4)));
    assert_eq!(world.call("PUT", &path, scale).await.code, 409, "its resourceVersion is the parent's");
    let patched = world.call("PATCH", &path, json!({"spec": {"replicas": 2}})).await;
    assert_eq!(patched.json()["spec"]["replicas"], 2);
    let parent = world.get(&format!("{DEPLOYMENTS}/a")).await;
    assert_eq!((&parent["spec"]["replicas"], &parent["metadata"]["generation"]), (&json!(2), &json!(3)));
    world.stop().await;
}

#[tokio::test]
async fn a_pod_is_bound_and_deleted_in_two_steps() {
    let world = with_account().await;
    world.create(PODS, pod("p")).await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let bound = world.create(&format!("{PODS}/p/binding"), binding.clone()).await;
    assert_eq!((&bound["kind"], &bound["status"]), (&json!("Status"), &json!("Success")));
    let again = world.call("POST", &format!("{PODS}/p/binding"), binding).await;
    assert_eq!(again.code, 409);
    assert!(again.text().contains("already assigned to node"), "{}", again.text());
    let stored = world.get(&format!("{PODS}/p")).await;
    assert_eq!((&stored["spec"]["nodeName"], &stored["metadata"]["generation"]), (&json!("n1"), &json!(1)));
    let selected = world.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await;
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);

    let marked = world.call("DELETE", &format!("{PODS}/p"), json!(null)).await.json();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let uid = marked["metadata"]["uid"].clone();
    let done = world
        .call("DELETE", &format!("{PODS}/p"), json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}))
        .await;
    assert_eq!((done.code, &done.json()["kind"]), (200, &json!("Pod")));
    assert_eq!(world.call("GET", &format!("{PODS}/p"), json!(null)).await.code, 404);
    world.stop().await;
}

#[tokio::test]
async fn parts_of_a_pod_are_changed_through_their_doors() {
    let world = with_account().await;
    let mut small = pod("p");
    small["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "50m"}});
    world.create(PODS, small).await;
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "busybox"}]}}).to_string();
    let got = world.send("PATCH", &format!("{PODS}/p/ephemeralcontainers"), &strategic, debug.clone()).await;
    assert_eq!(got.code, 200, "{}", got.text());
    assert_eq!(got.json()["spec"]["ephemeralContainers"][0]["terminationMessagePolicy"], "File", "with defaults");
    assert_eq!(got.json()["metadata"]["generation"], 2);
    let main = world.send("PATCH", &format!("{PODS}/p"), &strategic, debug.replace("\"d\"", "\"e\"")).await;
    assert_eq!(main.code, 422, "{}", main.text());
    let removed = world
        .call("PATCH", &format!("{PODS}/p/ephemeralcontainers"), json!({"spec": {"ephemeralContainers": []}}))
        .await;
    assert!(removed.text().contains("may not be removed"), "{}", removed.text());
    let bad = json!({"spec": {"ephemeralContainers": [{"name": "x", "image": ""}]}}).to_string();
    let bad = world.send("PATCH", &format!("{PODS}/p/ephemeralcontainers"), &strategic, bad).await;
    assert_eq!(bad.code, 422, "{}", bad.text());

    let resize =
        json!({"spec": {"containers": [{"name": "c", "image": "other", "resources": {"requests": {"cpu": "100m"}}}]}});
    let got = world.send("PATCH", &format!("{PODS}/p/resize"), &strategic, resize.to_string()).await;
    assert_eq!(got.code, 200, "{}", got.text());
    let container = &got.json()["spec"]["containers"][0];
    assert_eq!((&container["image"], &container["resources"]["requests"]["cpu"]), (&json!("i"), &json!("100m")));
    let limits = resize.to_string().replace("requests", "limits");
    let got =
        world.send("PATCH", &format!("{PODS}/p/resize"), &strategic, limits.replace("cpu", "example.com/x")).await;
    assert!(got.text().contains("only cpu and memory resources are mutable"), "{}", got.text());
    world.stop().await;
}

#[tokio::test]
async fn budgets_limit_evictions() {
    let world = with_account().await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    world
        .create(
            budgets,
            json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}}),
        )
        .await;
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}});
    assert_eq!(world.call("PATCH", &format!("{budgets}/b/status"), status).await.code, 200);
    let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    for name in ["p", "q"] {
        world.create(PODS, pod(name)).await;
        let got = world.call("PATCH", &format!("{PODS}/{name}/status"), running.clone()).await;
        assert_eq!(got.code, 200, "{}", got.text());
    }
    let evict = |name: &str| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let first = world.call("POST", &format!("{PODS}/p/eviction"), evict("p")).await;
    assert_eq!(first.code, 201, "{}", first.text());
    let second = world.call("POST", &format!("{PODS}/q/eviction"), evict("q")).await;
    assert_eq!(second.code, 429, "{}", second.text());
    assert!(second.text().contains("DisruptionBudget"), "{}", second.text());
    let budget = world.get(&format!("{budgets}/b")).await;
    assert!(budget["status"]["disruptedPods"]["p"].is_string(), "{budget}");
    world.stop().await;
}

#[tokio::test]
async fn services_hold_addresses_and_ports() {
    let world = World::start().await;
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let made = world.create(SERVICES, service("a", json!({"type": "NodePort", "ports": [{"port": 80}]}))).await;
    let (address, port) = (made["spec"]["clusterIP"].clone(), made["spec"]["ports"][0]["nodePort"].clone());
    let object = world.get(&format!("/apis/networking.k8s.io/v1/ipaddresses/{}", address.as_str().unwrap())).await;
    assert_eq!(object["spec"]["parentRef"]["name"], "a");
    let taken =
        world.call("POST", SERVICES, service("b", json!({"clusterIP": address, "ports": [{"port": 80}]}))).await;
    assert_eq!(taken.code, 422);
    assert!(taken.text().contains("provided IP is already allocated"), "{}", taken.text());
    let taken = world
        .call("POST", SERVICES, service("b", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]})))
        .await;
    assert!(taken.text().contains("provided port is already allocated"), "{}", taken.text());
    let kept = world
        .call("PUT", &format!("{SERVICES}/a"), service("a", json!({"type": "NodePort", "ports": [{"port": 80}]})))
        .await
        .json();
    assert_eq!((&kept["spec"]["clusterIP"], &kept["spec"]["ports"][0]["nodePort"]), (&address, &port));
    assert_eq!(world.call("DELETE", &format!("{SERVICES}/a"), json!(null)).await.code, 200);
    world
        .create(
            SERVICES,
            service("b", json!({"type": "NodePort", "clusterIP": address, "ports": [{"port": 80, "nodePort": port}]})),
        )
        .await;
    world.stop().await;
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized() {
    let world = World::start().await;
    let made = world.create("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await;
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    let mut marked = world.call("DELETE", "/api/v1/namespaces/n", json!(null)).await.json();
    assert_eq!(marked["status"]["phase"], "Terminating");
    world
        .check(&[Row(
            "POST",
            "/api/v1/namespaces/n/configmaps",
            r#"{"metadata":{"name":"a"}}"#,
            403,
            &["NamespaceTerminating"],
        )])
        .await;
    marked["spec"]["finalizers"] = json!([]);
    assert_eq!(world.call("PUT", "/api/v1/namespaces/n/finalize", marked).await.code, 200);
    assert_eq!(world.call("GET", "/api/v1/namespaces/n", json!(null)).await.code, 404);
    world.stop().await;
}

#[tokio::test]
async fn applying_owns_fields() {
    let world = World::start().await;
    let path = format!("{DEPLOYMENTS}/a");
    let apply = |manager: &'static str, force: bool, replicas: i64| {
        let mut config = deployment("a");
        config["apiVersion"] = "apps/v1".into();
        config["kind"] = "Deployment".into();
        config["spec"]["replicas"] = replicas.into();
        let query = format!("{path}?fieldManager={manager}&force={force}");
        let world = &world;
        async move {
            world.send("PATCH", &query, &[("content-type", "application/apply-patch+yaml")], config.to_string()).await
        }
    };
    let created = apply("one", false, 1).await;
    assert_eq!(created.code, 201, "{}", created.text());
    assert_eq!(created.json()["metadata"]["managedFields"][0]["manager"], "one");
    let same = apply("one", false, 1).await;
    assert_eq!(
        same.json()["metadata"]["resourceVersion"],
        created.json()["metadata"]["resourceVersion"],
        "nothing changed"
    );
    let conflict = apply("two", false, 3).await;
    assert_eq!(conflict.code, 409);
    assert!(conflict.text().contains("FieldManagerConflict"), "{}", conflict.text());
    let forced = apply("two", true, 3).await;
    assert_eq!((forced.code, &forced.json()["spec"]["replicas"]), (200, &json!(3)));
    let nobody = world.send("PATCH", &path, &[("content-type", "application/apply-patch+yaml")], "{}").await;
    assert!(nobody.text().contains("is required for apply patch"), "{}", nobody.text());
    world.stop().await;
}

#[tokio::test]
async fn events_are_one_object_in_two_groups() {
    let world = World::start().await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "R", "message": "m", "type": "Normal"});
    world.create("/api/v1/namespaces/default/events", event).await;
    let other = world.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await;
    assert_eq!((&other["note"], &other["regarding"]["name"]), (&json!("m"), &json!("p")));
    let selected =
        world.get("/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dp,reportingController%3D").await;
    assert_eq!(selected["items"][0]["metadata"]["name"], "e");
    let list = world.get("/apis/events.k8s.io/v1/events").await;
    assert_eq!((&list["items"][0]["note"], &list["items"][0]["kind"]), (&json!("m"), &Value::Null));
    world.stop().await;
}

#[tokio::test]
async fn paths_beside_resources() {
    let world = World::start().await;
    world
        .check(&[
            Row("GET", "/version", "", 200, &[r#""gitVersion":"v1.36."#]),
            Row("GET", "/readyz", "", 200, &["ok"]),
            Row("GET", "/api", "", 200, &["APIVersions"]),
            Row("GET", "/apis", "", 200, &["APIGroupList"]),
            Row("GET", "/apis/apps", "", 200, &[r#""kind":"APIGroup""#]),
            Row("GET", "/apis/apps/v1", "", 200, &["APIResourceList", "deployments/scale"]),
            Row("GET", "/apis/none", "", 404, &["404 page not found"]),
            Row("GET", "/openapi/v3", "", 200, &["/openapi/v3/apis/apps/v1?hash="]),
            Row("GET", "/metrics", "", 200, &["apiserver_request_total"]),
            Row("GET", "/nothing", "", 404, &["404 page not found"]),
        ])
        .await;
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let got = world.send("GET", "/apis", &[("accept", aggregated)], "").await;
    assert_eq!(got.headers["content-type"], aggregated);
    let tag = got.headers["etag"].to_str().unwrap().to_string();
    let again = world.send("GET", "/apis", &[("accept", aggregated), ("if-none-match", &tag)], "").await;
    assert_eq!((again.code, again.body.len()), (304, 0));
    world.stop().await;
}

#[tokio::test]
async fn a_log_without_a_node_is_empty() {
    let world = with_account().await;
    world.create(PODS, pod("p")).await;
    let got = world.send("GET", &format!("{PODS}/p/log"), &[], "").await;
    assert_eq!((got.code, got.body.len()), (204, 0));
    let exec = world.send("POST", &format!("{PODS}/p/exec?command=ls"), &[], "").await;
    assert!(exec.text().contains("does not have a host assigned"), "{}", exec.text());
    world.stop().await;
}
