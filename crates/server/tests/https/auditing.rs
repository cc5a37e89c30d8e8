//! The audit log as a client makes it: what is told of requests, streams, and those who may not.

use std::sync::Arc;

use crate::harness::{PATIENCE, World};
use mizzen_server::Config;
use mizzen_server::audit::{Audit, FileOptions, Mode, Options, Output, Policy};
use serde_json::{Value, json};

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: None, resources: [{group: '', resources: [pods]}]}
- {level: Request, resources: [{group: '', resources: [configmaps]}]}
- {level: Metadata}
";

async fn world(dir: &std::path::Path) -> World {
    let file = FileOptions { path: dir.join("audit.log"), bytes_max: 1 << 20, kept: 1 };
    let options = Options { policy: Policy::parse(POLICY).unwrap(), output: Output::File(file), mode: Mode::Blocking };
    World::with(Config { audit: Some(Arc::new(Audit::open(options).unwrap())), ..Config::default() }).await
}

/// The events told so far, once there are so many.
async fn events(dir: &std::path::Path, count: usize) -> Vec<Value> {
    let read = async {
        loop {
            let text = std::fs::read_to_string(dir.join("audit.log")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            if lines.len() >= count && text.ends_with('\n') {
                return lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the events are not told")
}

fn brief(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
    let code = event["responseStatus"]["code"].as_u64().map_or("-".into(), |code| code.to_string());
    format!("{} {} {} {code}", text(&event["stage"]), text(&event["verb"]), text(&event["objectRef"]["resource"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_told_at_their_stages() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}});
    let got = world
        .send(
            "POST",
            "/api/v1/namespaces/default/configmaps",
            &[("content-type", "application/json"), ("audit-id", "mine"), ("x-forwarded-for", "192.0.2.7")],
            map.to_string(),
        )
        .await;
    assert_eq!((got.code, got.headers["audit-id"].to_str().unwrap()), (201, "mine"));
    world.call("GET", "/api/v1/namespaces/default/pods", Value::Null).await;
    let watch = world.watch("/api/v1/namespaces/default/secrets?watch=1", "application/json").await;
    let told = events(dir.path(), 4).await;
    drop(watch);
    let all = events(dir.path(), 5).await;
    assert_eq!(
        all.iter().map(brief).collect::<Vec<_>>(),
        [
            "RequestReceived create configmaps -",
            "ResponseComplete create configmaps 201",
            "RequestReceived watch secrets -",
            "ResponseStarted watch secrets 200",
            "ResponseComplete watch secrets 200",
        ]
    );
    assert_eq!(told.len(), 4, "the end of a stream is told when it is there");
    let done = &all[1];
    assert_eq!((&done["auditID"], &done["requestObject"]["data"]["k"]), (&"mine".into(), &"v".into()));
    assert!(done.get("responseObject").is_none());
    assert_eq!(done["sourceIPs"], json!(["192.0.2.7", "127.0.0.1"]));
    assert_eq!(done["user"]["username"], "kubernetes-admin");
    assert_eq!(done["annotations"]["authorization.k8s.io/decision"], "allow");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    let refused = world.send("GET", "/api/v1/nodes", &[("impersonate-user", "bob")], "").await;
    assert_eq!(refused.code, 403);
    let events = events(dir.path(), 2).await;
    let event = &events[1];
    assert_eq!(
        (&event["user"]["username"], &event["impersonatedUser"]["username"]),
        (&"kubernetes-admin".into(), &"bob".into())
    );
    assert_eq!(
        (&event["responseStatus"]["code"], &event["responseStatus"]["reason"]),
        (&403.into(), &"Forbidden".into())
    );
    assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "forbid");
    world.stop().await;
}
