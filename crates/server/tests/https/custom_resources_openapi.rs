//! What clients read about custom resources before they touch any: OpenAPI documents and their hashes.

use crate::harness::World;
use serde_json::{Value, json};

const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tabs.example.com";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "tabs.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "tabs", "kind": "Tab"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "description": "A tab.", "properties": {"spec": {"type": "object", "required": ["n"],
                    "properties": {"n": {"type": "integer", "nullable": true}, "p": {"x-kubernetes-int-or-string": true}}}}}}}]},
    })
}

#[tokio::test]
async fn definitions_are_published() {
    let world = World::start().await;
    let before = world.get("/openapi/v3").await;
    assert!(before["paths"].get("apis/example.com/v1").is_none());
    let old_v2 = world.call("GET", "/openapi/v2", Value::Null).await.headers["etag"].clone();
    assert!(world.define(definition()).await);

    let entry = world.get("/openapi/v3").await["paths"]["apis/example.com/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_string();
    let v3 = world.get(&entry).await;
    let tab = &v3["components"]["schemas"]["com.example.v1.Tab"];
    assert_eq!(tab["description"], "A tab.");
    assert_eq!(tab["properties"]["spec"]["properties"]["n"], json!({"type": "integer", "nullable": true}));
    assert_eq!(
        tab["x-kubernetes-group-version-kind"],
        json!([{"group": "example.com", "kind": "Tab", "version": "v1"}])
    );
    assert!(v3["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"].is_object());
    let patch = &v3["paths"]["/apis/example.com/v1/namespaces/{namespace}/tabs/{name}"]["patch"];
    assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_none());
    assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));

    let v2 = world.call("GET", "/openapi/v2", Value::Null).await;
    let tag = v2.headers["etag"].to_str().unwrap().to_string();
    assert_ne!(v2.headers["etag"], old_v2);
    let tab = &v2.json()["definitions"]["com.example.v1.Tab"];
    assert_eq!(
        tab["properties"]["spec"],
        json!({"type": "object", "properties": {"n": {}, "p": {"x-kubernetes-int-or-string": true}}})
    );
    let again = world.send("GET", "/openapi/v2", &[("if-none-match", &tag)], "").await;
    assert_eq!(again.code, 304);
    let protobuf = [("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
    let protobuf = world.send("GET", "/openapi/v2", &protobuf, "").await;
    assert!(protobuf.body.windows(18).any(|w| w == b"com.example.v1.Tab"));

    let mut changed = definition();
    changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "Another.".into();
    world.call("PATCH", DEFINITION, json!({"spec": changed["spec"]})).await;
    let moved = world.call("GET", &entry, Value::Null).await;
    assert_eq!(moved.code, 301);
    let v3 = world.get(moved.headers["location"].to_str().unwrap()).await;
    assert_eq!(v3["components"]["schemas"]["com.example.v1.Tab"]["description"], "Another.");
    assert_eq!(world.send("GET", "/openapi/v2", &[("if-none-match", &tag)], "").await.code, 200);
    world.stop().await;
}
