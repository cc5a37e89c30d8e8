//! Watches over real HTTPS.

use crate::harness::World;
use mizzen_server::Config;
use mizzen_store::{Memory, Retention};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";

#[tokio::test]
async fn events_follow_the_state() {
    let world = World::start().await;
    world.create(MAPS, json!({"metadata": {"name": "old"}})).await;
    let mut events = world.watch(&format!("{MAPS}?watch=true"), JSON).await;
    assert_eq!(events.brief().await, "ADDED old");
    world.create(MAPS, json!({"metadata": {"name": "new"}})).await;
    world.call("PATCH", &format!("{MAPS}/new"), json!({"data": {"k": "v"}})).await;
    let updated = world.get(&format!("{MAPS}/new")).await;
    world.call("DELETE", &format!("{MAPS}/new"), json!(null)).await;
    assert_eq!(events.brief().await, "ADDED new");
    let modified = events.next().await.unwrap();
    assert_eq!((&modified["type"], &modified["object"]), (&json!("MODIFIED"), &updated));
    let deleted = events.next().await.unwrap();
    assert_eq!((&deleted["type"], &deleted["object"]["data"]["k"]), (&json!("DELETED"), &json!("v")));
    let revision = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(revision(&deleted["object"]) > revision(&updated), "a deletion has a revision of its own");
    world.stop().await;
    assert_eq!(events.brief().await, "END");
}

#[tokio::test]
async fn a_watch_resumes_after_a_revision() {
    let world = World::start().await;
    let first = world.create(MAPS, json!({"metadata": {"name": "a"}})).await;
    world.create(MAPS, json!({"metadata": {"name": "b"}})).await;
    let after = first["metadata"]["resourceVersion"].as_str().unwrap();
    let mut events = world.watch(&format!("{MAPS}?watch=true&resourceVersion={after}"), JSON).await;
    assert_eq!(events.brief().await, "ADDED b");
    world.stop().await;
}

#[tokio::test]
async fn selectors_turn_changes_into_comings_and_goings() {
    let world = World::start().await;
    let mut events = world.watch(&format!("{MAPS}?watch=true&labelSelector=on%3Dyes"), JSON).await;
    let labels = |value: &str| json!({"metadata": {"labels": {"on": value}}});
    world.create(MAPS, json!({"metadata": {"name": "a", "labels": {"on": "no"}}})).await;
    world.call("PATCH", &format!("{MAPS}/a"), labels("yes")).await;
    world.call("PATCH", &format!("{MAPS}/a"), labels("no")).await;
    let gone = world.get(&format!("{MAPS}/a")).await;
    assert_eq!(events.brief().await, "ADDED a");
    let deleted = events.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    assert_eq!(deleted["object"]["metadata"]["labels"]["on"], "yes", "the content is what was selected");
    assert_eq!(deleted["object"]["metadata"]["resourceVersion"], gone["metadata"]["resourceVersion"]);
    world.stop().await;
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let world = World::start().await;
    world.create(MAPS, json!({"metadata": {"name": "a"}})).await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = world.watch(&format!("{MAPS}?{query}"), JSON).await;
    assert_eq!(events.brief().await, "ADDED a");
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    world.create(MAPS, json!({"metadata": {"name": "b"}})).await;
    assert_eq!(events.brief().await, "ADDED b");
    world.stop().await;
}

#[tokio::test]
async fn a_watch_ends_in_time_with_a_last_bookmark() {
    let world = World::start().await;
    let mut events = world.watch(&format!("{MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=3"), JSON).await;
    assert_eq!(events.brief().await, "BOOKMARK -");
    assert_eq!(events.brief().await, "END");
    world.stop().await;
}

#[tokio::test]
async fn errors_are_events() {
    let world = World::start().await;
    let mut ahead = world.watch(&format!("{MAPS}?watch=true&resourceVersion=1000000"), JSON).await;
    let event = ahead.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(504)));
    assert_eq!(ahead.brief().await, "END");
    let bad = world.call("GET", &format!("{MAPS}?watch=true&sendInitialEvents=true"), json!(null)).await;
    assert_eq!(bad.code, 422, "options that make no sense are refused outright: {}", bad.text());
    world.stop().await;
}

#[tokio::test]
async fn tables_send_their_columns_once() {
    let world = World::start().await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut events = world.watch(&format!("{MAPS}?watch=true"), accept).await;
    world.create(MAPS, json!({"metadata": {"name": "a"}})).await;
    world.create(MAPS, json!({"metadata": {"name": "b"}})).await;
    let (first, second) = (events.next().await.unwrap(), events.next().await.unwrap());
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(second["object"]["columnDefinitions"], json!([]));
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
    assert_eq!(second["object"]["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    world.stop().await;
}

/// A store that keeps next to nothing of the past.
fn forgetful() -> Memory {
    Memory::new(Retention { events: 2, ..Retention::default() })
}

#[tokio::test]
async fn a_revision_that_is_forgotten_is_410() {
    let world = World::over(forgetful(), Config::default()).await;
    let first = world.create(MAPS, json!({"metadata": {"name": "m0"}})).await;
    let old = first["metadata"]["resourceVersion"].as_str().unwrap().to_string();
    world.create(MAPS, json!({"metadata": {"name": "m1"}})).await;
    let page = world.get(&format!("{MAPS}?limit=1")).await;
    let token = page["metadata"]["continue"].as_str().unwrap();
    for n in 2..8 {
        world.create(MAPS, json!({"metadata": {"name": format!("m{n}")}})).await;
    }
    let mut events = world.watch(&format!("{MAPS}?watch=true&resourceVersion={old}"), JSON).await;
    let error = events.next().await.unwrap();
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(error["object"]["reason"], "Expired");
    assert!(error["object"]["message"].as_str().unwrap().starts_with(&format!("too old resource version: {old} (")));
    assert_eq!(events.brief().await, "END");

    let expired = world.call("GET", &format!("{MAPS}?limit=1&continue={token}"), json!(null)).await;
    assert_eq!((expired.code, &expired.json()["reason"]), (410, &json!("Expired")));
    let fresh = expired.json()["metadata"]["continue"].as_str().unwrap().to_string();
    let rest = world.get(&format!("{MAPS}?continue={fresh}")).await;
    assert_eq!(rest["items"][0]["metadata"]["name"], "m1", "it goes on where it was");
    assert_ne!(rest["metadata"]["resourceVersion"], page["metadata"]["resourceVersion"]);
    let exact =
        world.call("GET", &format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact"), json!(null)).await;
    assert_eq!(exact.code, 410, "{}", exact.text());
    world.stop().await;
}

#[tokio::test]
async fn one_name_is_watched_by_itself() {
    let world = World::start().await;
    let mut events = world.watch(&format!("{MAPS}?watch=true&fieldSelector=metadata.name%3Da"), JSON).await;
    let mut old_form = world.watch("/api/v1/watch/namespaces/default/configmaps/a", JSON).await;
    for name in ["aa", "b", "a"] {
        world.create(MAPS, json!({"metadata": {"name": name}})).await;
    }
    assert_eq!(events.brief().await, "ADDED a");
    assert_eq!(old_form.brief().await, "ADDED a");
    world.stop().await;
}

#[tokio::test]
async fn a_watch_over_websocket_sends_an_event_a_frame() {
    use futures_util::StreamExt;
    use http_body_util::Full;
    use hyper_util::rt::TokioIo;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    let world = World::start().await;
    let path = "/api/v1/namespaces/default/configmaps?watch=true";
    let open = async |accept: &str| {
        let request = http::Request::get(path)
            .header("host", "localhost")
            .header("accept", accept)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let mut answer = world.open(request.body(Full::default()).unwrap()).await;
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let upgraded = hyper::upgrade::on(&mut answer).await.unwrap();
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
    };
    let mut json = open("application/json").await;
    let mut protobuf = open("application/vnd.kubernetes.protobuf").await;
    for name in ["a", "b"] {
        let object = serde_json::json!({"metadata": {"name": name}});
        world.create("/api/v1/namespaces/default/configmaps", object).await;
    }
    for name in ["a", "b"] {
        let message = tokio::time::timeout(crate::harness::PATIENCE, json.next()).await.unwrap().unwrap().unwrap();
        let event: serde_json::Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert_eq!((event["type"].as_str(), event["object"]["metadata"]["name"].as_str()), (Some("ADDED"), Some(name)));
        let message = tokio::time::timeout(crate::harness::PATIENCE, protobuf.next()).await.unwrap().unwrap().unwrap();
        assert!(message.is_binary());
        let text = String::from_utf8_lossy(&message.into_data()).into_owned();
        assert!(text.contains("ADDED") && text.contains("k8s\0"), "{text}");
    }
    let refused = http::Request::get("/api/v1/namespaces/default/pods/x/nonsense?watch=true")
        .header("host", "localhost")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(world.open(refused.body(Full::default()).unwrap()).await.status(), 404);
    world.stop().await;
    let end = tokio::time::timeout(crate::harness::PATIENCE, json.next()).await.unwrap();
    assert!(end.is_none_or(|m| m.is_ok_and(|m| m.is_close())), "the watch ends with the server");
}
