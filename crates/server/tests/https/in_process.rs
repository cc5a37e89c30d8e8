//! The API for parts of the same process: no HTTP, but the same rules.

use crate::harness::{PATIENCE, World};
use bytes::Bytes;
use futures_util::StreamExt;
use http::Method;
use mizzen_client::{ClientError, Request};
use mizzen_server::auth::Identity;
use serde_json::{Value, json};

fn request(method: Method, path: &str, query: &[(&str, &str)], body: Value) -> Request {
    Request {
        method,
        path: path.into(),
        query: query.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        content_type: "",
        body: if body.is_null() { Bytes::new() } else { body.to_string().into() },
    }
}

fn identity(user: &str, groups: &[&str]) -> Identity {
    Identity { user: user.into(), groups: groups.iter().map(|g| (*g).into()).collect(), ..Identity::default() }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn requests_and_watches_take_the_same_road() {
    let world = World::start().await;
    let api = world.server.api_as(identity("system:admin", &["system:masters"]));
    let mut events = api.watch(request(Method::GET, MAPS, &[("watch", "true")], Value::Null)).await.unwrap();
    let made = api.send(request(Method::POST, MAPS, &[], json!({"metadata": {"name": "a"}}))).await.unwrap();
    assert_eq!(made.code, 201);
    let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
    let event: Value = serde_json::from_slice(&event).unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("a")));
    assert_eq!(event["object"]["metadata"]["uid"], world.get(&format!("{MAPS}/a")).await["metadata"]["uid"]);
    let invalid = api.send(request(Method::POST, MAPS, &[], json!({"metadata": {"name": "A"}}))).await.unwrap();
    assert_eq!(invalid.code, 422);
    world.stop().await;
    assert!(tokio::time::timeout(PATIENCE, events.next()).await.unwrap().is_none(), "the watch ends with the server");
}

#[tokio::test]
async fn nobody_is_above_the_rules() {
    let world = World::start().await;
    let api = world.server.api_as(identity("nobody", &[]));
    let refused = api.send(request(Method::GET, MAPS, &[], Value::Null)).await.unwrap();
    assert_eq!(refused.code, 403);
    let watch = api.watch(request(Method::GET, MAPS, &[("watch", "true")], Value::Null)).await;
    let Err(ClientError::Status { code: 403, message, .. }) = watch else { panic!("watch was allowed") };
    assert!(message.contains("cannot watch resource \"configmaps\""), "{message}");
    world.stop().await;
}
