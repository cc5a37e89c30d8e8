//! Objects over real HTTPS: create, read, list, change, delete.

use crate::harness::{Row, World};
use serde_json::json;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn one_object_from_create_to_delete() {
    let world = World::start().await;
    world
        .check(&[
            Row(
                "POST",
                MAPS,
                r#"{"metadata":{"name":"a","labels":{"x":"y"}},"data":{"k":"v"}}"#,
                201,
                &[r#""kind":"ConfigMap""#, r#""uid":""#, r#""namespace":"default""#],
            ),
            Row(
                "POST",
                MAPS,
                r#"{"metadata":{"name":"a"}}"#,
                409,
                &["AlreadyExists", r#"configmaps \"a\" already exists"#],
            ),
            Row("POST", MAPS, r#"{"metadata":{"name":"A_"}}"#, 422, &[r#""reason":"Invalid""#, "metadata.name"]),
            Row("POST", MAPS, r#"{"metadata":{}}"#, 422, &["name or generateName is required"]),
            Row(
                "POST",
                MAPS,
                r#"{"metadata":{"name":"b","namespace":"other"}}"#,
                400,
                &["does not match the namespace sent"],
            ),
            Row("POST", MAPS, r#"{"metadata":{"name":"b","resourceVersion":"1"}}"#, 500, &["should not be set"]),
            Row("POST", MAPS, r#"{"kind":"Pod","metadata":{"name":"b"}}"#, 400, &["Pod"]),
            Row(
                "POST",
                "/api/v1/namespaces/none/configmaps",
                r#"{"metadata":{"name":"b"}}"#,
                404,
                &[r#"namespaces \"none\" not found"#],
            ),
            Row("GET", "/api/v1/namespaces/default/configmaps/a", "", 200, &[r#""k":"v""#]),
            Row(
                "GET",
                "/api/v1/namespaces/default/configmaps/b",
                "",
                404,
                &[r#"configmaps \"b\" not found"#, r#""kind":"configmaps""#],
            ),
            Row(
                "GET",
                MAPS,
                "",
                200,
                &[
                    r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":""#,
                    r#""items":[{"metadata":{"name":"a""#,
                ],
            ),
            Row("GET", "/api/v1/configmaps?labelSelector=x%3Dz", "", 200, &[r#""items":[]"#]),
            Row("GET", "/api/v1/configmaps?labelSelector=x%3Dy", "", 200, &[r#""name":"a""#]),
            Row("GET", "/api/v1/configmaps?fieldSelector=spec.x%3Dy", "", 400, &["field label not supported: spec.x"]),
            Row("GET", "/api/v1/nothings", "", 404, &["404 page not found"]),
            Row(
                "PUT",
                "/api/v1/namespaces/default/configmaps/a",
                r#"{"metadata":{"name":"b"}}"#,
                400,
                &["does not match the name on the URL"],
            ),
            Row(
                "PUT",
                "/api/v1/namespaces/default/configmaps/a",
                r#"{"metadata":{"name":"a","resourceVersion":"1"}}"#,
                409,
                &["the object has been modified"],
            ),
            Row("PUT", "/api/v1/namespaces/default/configmaps/b", r#"{"metadata":{"name":"b"}}"#, 404, &["not found"]),
            Row(
                "PUT",
                "/api/v1/namespaces/default/configmaps/a",
                r#"{"metadata":{"name":"a"},"data":{"k":"w"}}"#,
                200,
                &[r#""k":"w""#],
            ),
            Row(
                "PATCH",
                "/api/v1/namespaces/default/configmaps/a",
                r#"{"data":{"l":"m"}}"#,
                200,
                &[r#""k":"w""#, r#""l":"m""#],
            ),
            Row(
                "DELETE",
                "/api/v1/namespaces/default/configmaps/a",
                r#"{"preconditions":{"uid":"other"}}"#,
                409,
                &["UID in the precondition"],
            ),
            Row(
                "DELETE",
                "/api/v1/namespaces/default/configmaps/a",
                "",
                200,
                &[r#""status":"Success""#, r#""kind":"configmaps""#],
            ),
            Row("DELETE", "/api/v1/namespaces/default/configmaps/a", "", 404, &["not found"]),
        ])
        .await;
    world.stop().await;
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_revision() {
    let world = World::start().await;
    let created = world.create(MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await;
    let again = world.call("PUT", &format!("{MAPS}/a"), created.clone()).await.json();
    assert_eq!(again["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    let patched = world.call("PATCH", &format!("{MAPS}/a"), json!({"data": {"k": "v"}})).await.json();
    assert_eq!(patched, created);
    world.stop().await;
}

#[tokio::test]
async fn dry_runs_store_nothing() {
    let world = World::start().await;
    let made = world.create(&format!("{MAPS}?dryRun=All"), json!({"metadata": {"generateName": "a-"}})).await;
    assert!(made["metadata"]["name"].as_str().unwrap().starts_with("a-"));
    assert_eq!(world.get(MAPS).await["items"], json!([]));
    world.create(MAPS, json!({"metadata": {"name": "a"}})).await;
    let changed = world.call("PATCH", &format!("{MAPS}/a?dryRun=All"), json!({"data": {"k": "v"}})).await;
    assert_eq!((changed.code, &changed.json()["data"]["k"]), (200, &json!("v")));
    assert!(world.get(&format!("{MAPS}/a")).await["data"].is_null());
    assert_eq!(world.call("DELETE", &format!("{MAPS}/a?dryRun=All"), json!(null)).await.code, 200);
    world.get(&format!("{MAPS}/a")).await;
    world.stop().await;
}

#[tokio::test]
async fn lists_come_in_pages() {
    let world = World::start().await;
    for n in 0..5 {
        world.create(MAPS, json!({"metadata": {"name": format!("m{n}")}})).await;
    }
    let first = world.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    world.create(MAPS, json!({"metadata": {"name": "m9"}})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = world.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = world.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    let names: Vec<&str> = [&first, &second, &third]
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4"], "the later object is not in the first page's state");
    assert!(third["metadata"]["continue"].is_null());
    let exact = first["metadata"]["resourceVersion"].as_str().unwrap();
    let then = world.get(&format!("{MAPS}?resourceVersion={exact}&resourceVersionMatch=Exact")).await;
    assert_eq!(then["items"].as_array().unwrap().len(), 5);
    world.stop().await;
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let world = World::start().await;
    world.create(MAPS, json!({"metadata": {"name": "a", "finalizers": ["example.com/x"]}})).await;
    let path = format!("{MAPS}/a");
    let deleted = world.call("DELETE", &path, json!(null)).await;
    assert_eq!((deleted.code, deleted.json()["kind"].clone()), (200, json!("ConfigMap")));
    let held = world.get(&path).await;
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    let more =
        world.call("PATCH", &path, json!({"metadata": {"finalizers": ["example.com/x", "example.com/y"]}})).await;
    assert_eq!(more.code, 422, "{}", more.text());
    let freed = world.call("PATCH", &path, json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(freed.code, 200, "{}", freed.text());
    assert_eq!(world.call("GET", &path, json!(null)).await.code, 404);
    world.stop().await;
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let world = World::start().await;
    for (name, group) in [("a", "x"), ("b", "x"), ("c", "y")] {
        world.create(MAPS, json!({"metadata": {"name": name, "labels": {"g": group}}})).await;
    }
    let deleted = world.call("DELETE", &format!("{MAPS}?labelSelector=g%3Dx"), json!(null)).await;
    assert_eq!((deleted.code, deleted.json()["items"].as_array().unwrap().len()), (200, 2));
    let left = world.get(MAPS).await;
    assert_eq!(left["items"][0]["metadata"]["name"], "c");
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn bodies_have_limits_and_forms() {
    let world = World::start().await;
    let huge = vec![b' '; (3 << 20) + 1];
    for (content_type, body, code, piece) in [
        ("application/json", &b"{"[..], 400, "BadRequest"),
        ("application/json", &huge[..], 413, "Request entity too large"),
        ("text/plain", &b"{}"[..], 415, "UnsupportedMediaType"),
        ("application/yaml", &b"metadata:\n  name: from-yaml\ndata:\n  a: b\n"[..], 201, "from-yaml"),
    ] {
        let got = world.send("POST", MAPS, &[("content-type", content_type)], body.to_vec()).await;
        assert_eq!(got.code, code, "{}", got.text());
        assert!(got.text().contains(piece), "{}", got.text());
    }
    let strict = world
        .call("POST", &format!("{MAPS}?fieldValidation=Strict"), json!({"metadata": {"name": "s"}, "spec": {}}))
        .await;
    assert_eq!(strict.code, 400);
    assert!(strict.text().contains(r#"unknown field \"spec\""#), "{}", strict.text());
    let warned = world.call("POST", MAPS, json!({"metadata": {"name": "s"}, "spec": {}})).await;
    assert_eq!(warned.code, 201);
    assert_eq!(warned.headers["warning"], r#"299 - "unknown field \"spec\"""#);
    assert!(warned.json()["spec"].is_null());
    world.stop().await;
}

#[tokio::test]
async fn answers_take_the_shape_asked_for() {
    let world = World::start().await;
    world.create(MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await;
    let one = format!("{MAPS}/a");
    for (path, accept, code, pieces) in [
        (
            MAPS,
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            200,
            &[
                r#""kind":"Table","apiVersion":"meta.k8s.io/v1""#,
                r#""columnDefinitions":[{"name":"Name""#,
                r#""kind":"PartialObjectMetadata""#,
            ][..],
        ),
        (&one, "application/json;as=Table;v=v1beta1;g=meta.k8s.io", 200, &["meta.k8s.io/v1beta1"]),
        (MAPS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", 200, &["PartialObjectMetadataList"]),
        (&one, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", 406, &["NotAcceptable"]),
        (&one, "application/yaml", 200, &["kind: ConfigMap"]),
        (&one, "text/html", 406, &["only the following media types are accepted"]),
        (&one, "application/vnd.unknown,application/json", 200, &[r#""k":"v""#]),
    ] {
        let got = world.send("GET", path, &[("accept", accept)], "").await;
        assert_eq!(got.code, code, "{accept}: {}", got.text());
        for piece in pieces {
            assert!(got.text().contains(piece), "{accept}: no {piece} in {}", got.text());
        }
    }
    let pretty = world.send("GET", &one, &[("user-agent", "curl/8")], "").await;
    assert!(pretty.text().starts_with("{\n  \"apiVersion\""), "{}", pretty.text());
    assert!(pretty.headers.contains_key("audit-id"));
    world.stop().await;
}

#[tokio::test]
async fn long_lists_are_streamed_and_compressed() {
    let world = World::start().await;
    let data = "x".repeat(40_000);
    for n in 0..20 {
        world.create(MAPS, json!({"metadata": {"name": format!("m{n:02}")}, "data": {"d": data}})).await;
    }
    let plain = world.get(MAPS).await;
    assert_eq!(plain["items"].as_array().unwrap().len(), 20);
    assert!(plain["items"][3]["kind"].is_null());
    let packed = world.send("GET", MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut text).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), plain);
    world.stop().await;
}

#[tokio::test]
async fn deleting_a_job_silently_keeps_its_pods_and_warns() {
    let world = World::start().await;
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let spec = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
    for name in ["a", "b"] {
        world.create(jobs, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    let silent = world.call("DELETE", &format!("{jobs}/a"), json!(null)).await;
    assert_eq!(silent.json()["metadata"]["finalizers"], json!(["orphan"]), "{}", silent.text());
    assert!(silent.headers["warning"].to_str().unwrap().contains("child pods are preserved"));
    let told = world.call("DELETE", &format!("{jobs}/b"), json!({"propagationPolicy": "Background"})).await;
    assert_eq!(told.json()["status"], "Success", "{}", told.text());
    assert!(!told.headers.contains_key("warning"));
    world.stop().await;
}
