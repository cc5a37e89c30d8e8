//! Whatever is sent is answered: with a Status of the client's error, never with a crash or an error of the server.

use crate::harness::World;
use serde_json::{Value, json};

const BODIES: &[&str] = &[
    "",
    "{",
    "null",
    "[]",
    "7",
    "\"text\"",
    "{}",
    r#"{"metadata":null}"#,
    r#"{"metadata":[]}"#,
    r#"{"metadata":{"name":7}}"#,
    r#"{"metadata":{"name":"x","labels":["a"]}}"#,
    r#"{"metadata":{"name":"x","labels":{"a b":"c"}}}"#,
    r#"{"metadata":{"name":"x","finalizers":[null]}}"#,
    r#"{"metadata":{"name":"x","ownerReferences":[{}]}}"#,
    r#"{"metadata":{"name":"x","managedFields":[{"manager":1}]}}"#,
    r#"{"metadata":{"name":"x","managedFields":[{"manager":"m","operation":"Update","fieldsType":"FieldsV1","fieldsV1":{"k:{":{}}}]}}"#,
    r#"{"metadata":{"name":"x","creationTimestamp":"yesterday"}}"#,
    r#"{"metadata":{"name":"x","generation":99999999999999999999}}"#,
    r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"}}"#,
    r#"{"metadata":{"name":"x"},"spec":null,"status":null}"#,
    r#"{"metadata":{"name":"x"},"spec":{"containers":null,"ports":7,"replicas":"many","template":[]}}"#,
    r#"{"metadata":{"name":"x"},"spec":{"type":"NodePort","clusterIP":"256.1.1.1","ports":[{"port":0,"nodePort":-1}]}}"#,
    r#"{"metadata":{"name":"x"},"spec":{"containers":[{}],"nodeName":{}}}"#,
    r#"[{"op":"replace","path":"/metadata","value":7}]"#,
    r#"[{"op":"remove","path":""}]"#,
    r#"{"metadata":null,"spec":{"$patch":"delete"}}"#,
    r#"{"spec":{"containers":[{"$patch":"replace"}],"$setElementOrder/containers":[7]}}"#,
    "\u{0}\u{1}",
];

const KINDS: &[&str] = &[
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/pods",
    "/api/v1/namespaces/default/services",
    "/apis/apps/v1/namespaces/default/deployments",
    "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers",
    "/apis/events.k8s.io/v1/namespaces/default/events",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/api/v1/nodes",
];

/// Sends a request and checks that the client is told of its own error, or that all is well.
async fn check(world: &World, method: &str, path: &str, content_type: &str, body: &str) {
    let got = world.send(method, path, &[("content-type", content_type)], body.to_string()).await;
    assert!(got.code < 500, "{method} {path} {content_type} {body:?}: {} {}", got.code, got.text());
    if got.code >= 400 && got.code != 404 {
        let status: Value = serde_json::from_slice(&got.body).unwrap_or_default();
        assert_eq!(
            (&status["kind"], &status["code"]),
            (&json!("Status"), &json!(got.code)),
            "{method} {path} {body:?}"
        );
    }
}

#[tokio::test]
async fn bodies() {
    let world = World::start().await;
    for kind in KINDS {
        for body in BODIES {
            for content_type in ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"] {
                check(&world, "POST", kind, content_type, body).await;
            }
            let object = format!("{kind}/x");
            check(&world, "PUT", &object, "application/json", body).await;
            for patch in ["json-patch+json", "merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml"] {
                let path = format!("{object}?fieldManager=m&force={}", patch == "apply-patch+yaml");
                check(&world, "PATCH", &path, &format!("application/{patch}"), body).await;
            }
            check(&world, "DELETE", &object, "application/json", body).await;
        }
    }
    assert_eq!(world.send("GET", "/readyz", &[], "").await.text(), "ok");
    world.stop().await;
}

#[tokio::test]
async fn paths_and_queries() {
    let world = World::start().await;
    let queries = [
        "",
        "limit=-1",
        "limit=x",
        "continue=%00",
        "continue=eyJ9",
        "resourceVersion=-1",
        "resourceVersionMatch=Exact",
        "labelSelector=%21%21",
        "labelSelector=a+in",
        "fieldSelector=%2C%2C%3D",
        "timeoutSeconds=x&watch=1",
        "dryRun=x",
        "gracePeriodSeconds=x",
        "propagationPolicy=x",
        "fieldManager=%00",
        "%zz=%",
    ];
    let paths = [
        "/api/v1/namespaces/default/configmaps",
        "/api/v1/namespaces/default/configmaps/x",
        "/api/v1/namespaces//configmaps/x",
        "/api/v1/namespaces/default/configmaps/x/status",
        "/api/v1/namespaces/default/pods/x/exec",
        "/api/v1/namespaces/default/pods/x/log/y/z",
        "/api/v1/namespaces/default/services/x:y:z/proxy/../..",
        "/api/v1/nodes/default/../x",
        "/api/v1/watch",
        "/apis//v1/x",
        "/openapi/v3/apis/none/v1",
        "//",
    ];
    for path in paths {
        for query in queries {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
                let path = format!("{path}?{query}");
                check(&world, method, &path, "application/json", "{}").await;
            }
        }
    }
    world.stop().await;
}
