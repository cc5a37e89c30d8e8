//! Priority and fairness over the wire: who is classified how, who is refused, what a time-out says.

use std::time::Duration;

use crate::harness::{PATIENCE, World};
use mizzen_server::Config;
use serde_json::json;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

/// As a user that RBAC lets read everything: the administrators themselves are exempt.
const READER: [(&str, &str); 2] = [("impersonate-user", "reader"), ("impersonate-group", "system:authenticated")];

async fn let_read(world: &World) {
    let binding = json!({
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}],
    });
    world.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
}

#[tokio::test]
async fn a_full_server_refuses_all_but_the_exempt() {
    let world = World::with(Config { max_requests: 0, ..Config::default() }).await;
    // No seats at all: levels that queue would make the request wait for its time-out, the catch-all refuses at once.
    for name in ["global-default", "service-accounts"] {
        let schema = json!({
            "metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}},
            "spec": {"priorityLevelConfiguration": {"name": "catch-all"}},
        });
        let moved = world.call("PATCH", &format!("{FLOW}/flowschemas/{name}"), schema).await;
        assert_eq!(moved.code, 200, "{}", moved.text());
    }
    let refused = tokio::time::timeout(PATIENCE, async {
        loop {
            let got = world.send("GET", &format!("{MAPS}?timeout=1s"), &READER, "").await;
            if got.code == 429 {
                return got;
            }
        }
    });
    let refused = refused.await.expect("never refused");
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(refused.headers.contains_key("x-kubernetes-pf-flowschema-uid"));
    assert_eq!(world.call("GET", MAPS, json!(null)).await.code, 200);
    let text = world.call("GET", "/metrics", json!(null)).await.text();
    let counted = "apiserver_flowcontrol_rejected_requests_total{priority_level=\"catch-all\",\
                   flow_schema=\"global-default\",reason=\"concurrency-limit\"} ";
    assert!(text.contains(counted), "{text}");
    world.stop().await;
}

#[tokio::test]
async fn new_schemas_and_levels_take_effect_and_say_what_they_lack() {
    let world = World::start().await;
    let uid = |got: &crate::harness::Got, which: &str| got.headers[format!("x-kubernetes-pf-{which}-uid")].clone();
    let schema = json!({
        "metadata": {"name": "mine"},
        "spec": {
            "priorityLevelConfiguration": {"name": "mine"},
            "matchingPrecedence": 1000,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "reader"}}],
                "resourceRules": [{
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true,
                }],
            }],
        },
    });
    let schema = world.create(&format!("{FLOW}/flowschemas"), schema).await;
    let before = world.send("GET", MAPS, &READER, "").await;
    assert_ne!(uid(&before, "flowschema"), schema["metadata"]["uid"].as_str().unwrap());
    dangling(&world, "True").await;
    let level = json!({
        "metadata": {"name": "mine"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}},
    });
    let level = world.create(&format!("{FLOW}/prioritylevelconfigurations"), level).await;
    dangling(&world, "False").await;
    // Even the answer to one who may not read says where he belongs.
    let after = world.send("GET", MAPS, &READER, "").await;
    assert_eq!(after.code, 403);
    assert_eq!(uid(&after, "flowschema"), schema["metadata"]["uid"].as_str().unwrap());
    assert_eq!(uid(&after, "prioritylevel"), level["metadata"]["uid"].as_str().unwrap());
    world.stop().await;
}

async fn dangling(world: &World, status: &str) {
    let mut watch = world.watch(&format!("{FLOW}/flowschemas?watch=true"), "application/json").await;
    while let Some(event) = watch.next().await {
        let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is = conditions.iter().any(|c| c["type"] == "Dangling" && c["status"] == status);
        if event["object"]["metadata"]["name"] == "mine" && is {
            return;
        }
    }
    panic!("the watch ended");
}

#[tokio::test]
async fn suggested_objects_come_back() {
    let world = World::start().await;
    let path = format!("{FLOW}/prioritylevelconfigurations");
    let mut watch = world.watch(&format!("{path}?watch=true"), "application/json").await;
    assert_eq!(world.call("DELETE", &format!("{path}/workload-low"), json!(null)).await.code, 200);
    let mut deleted = false;
    loop {
        match watch.brief().await.as_str() {
            "DELETED workload-low" => deleted = true,
            "ADDED workload-low" if deleted => break,
            "END" => panic!("the watch ended"),
            _ => {}
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn requests_end_in_time() {
    let world = World::with(Config { max_requests: 0, ..Config::default() }).await;
    let_read(&world).await;
    // Waits for a seat that never comes.
    let late = world.send("GET", &format!("{MAPS}?timeout=50ms"), &READER, "").await;
    assert_eq!((late.code, late.json()["reason"].as_str()), (504, Some("Timeout")), "{}", late.text());
    let bad = world.send("GET", &format!("{MAPS}?timeout=soon"), &[], "").await;
    assert_eq!(bad.code, 400);
    assert!(bad.text().contains("invalid timeout specified in the request URL"), "{}", bad.text());
    for good in ["0s", "30s", "5m"] {
        assert_eq!(world.send("GET", &format!("{MAPS}?timeout={good}"), &[], "").await.code, 200);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_queue_serves_when_seats_come_free() {
    let config = Config { max_requests: 1, request_timeout: Duration::from_secs(60), ..Config::default() };
    let world = World::with(config).await;
    let_read(&world).await;
    let requests = (0..20).map(|_| world.send("GET", MAPS, &READER, ""));
    let answers = futures_util::future::join_all(requests).await;
    assert!(answers.iter().all(|got| got.code == 200), "{:?}", answers.iter().map(|g| g.code).collect::<Vec<_>>());
    world.stop().await;
}
