//! Protobuf both ways, as Go clients speak it.

use crate::harness::World;
use bytes::Bytes;
use http_body_util::BodyExt;
use mizzen_api::protobuf;
use serde_json::json;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn objects_lists_and_errors() {
    let world = World::start().await;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let headers = [("content-type", PROTOBUF), ("accept", "application/vnd.kubernetes.protobuf,application/json")];
    let made = world.send("POST", MAPS, &headers, protobuf::encode(&object).unwrap()).await;
    assert_eq!((made.code, made.headers["content-type"].to_str().unwrap()), (201, PROTOBUF), "{}", made.text());
    let decoded = protobuf::decode(&made.body, ("", "")).unwrap();
    assert_eq!((&decoded["kind"], &decoded["data"]["k"]), (&json!("ConfigMap"), &json!("v")));
    assert_eq!(decoded["metadata"]["uid"], world.get(&format!("{MAPS}/a")).await["metadata"]["uid"]);
    let list = world.send("GET", MAPS, &headers, "").await;
    assert_eq!(list.headers["content-type"], PROTOBUF);
    let envelope = protobuf::open(&list.body).unwrap();
    assert_eq!((envelope.api_version, envelope.kind), ("v1", "ConfigMapList"));
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "other"}});
    let refused = world.send("DELETE", &format!("{MAPS}/a"), &headers, protobuf::encode(&options).unwrap()).await;
    assert_eq!(refused.code, 409, "{}", refused.text());
    let gone = world.send("DELETE", &format!("{MAPS}/a"), &headers, "").await;
    let status = protobuf::decode(&gone.body, ("", "")).unwrap();
    assert_eq!((gone.code, &status["kind"], &status["status"]), (200, &json!("Status"), &json!("Success")));
    let broken = world.send("POST", MAPS, &headers, "k8s\0\u{a}").await;
    assert_eq!(broken.code, 400, "{}", broken.text());
    world.stop().await;
}

#[tokio::test]
async fn watches() {
    let world = World::start().await;
    world.create(MAPS, json!({"metadata": {"name": "a"}})).await;
    let request =
        http::Request::get(format!("{MAPS}?watch=true")).header("host", "localhost").header("accept", PROTOBUF);
    let answer = world.open(request.body(http_body_util::Full::default()).unwrap()).await;
    assert_eq!(answer.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let mut body = answer.into_body();
    let frame = tokio::time::timeout(crate::harness::PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
    let frame: Bytes = frame.into_data().unwrap();
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
    assert_eq!(frame.len(), length + 4);
    assert_eq!(&frame[4..11], b"\x0a\x05ADDED");
    world.stop().await;
}
