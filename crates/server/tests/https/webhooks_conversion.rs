//! Conversion webhooks of custom resources, through an HTTPS server of the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::World;
use crate::harness::https::{Asked, Https, Reply};
use serde_json::{Value, json};

/// Moves `host` and `port` of v1 into `address` of v2, and back.
fn convert(asked: &Asked, lies: bool) -> Reply {
    let request = asked.json()["request"].clone();
    let desired = request["desiredAPIVersion"].as_str().unwrap().to_string();
    let converted = request["objects"].as_array().unwrap().iter().map(|object| {
        let mut object = object.clone();
        let spec = &mut object["spec"];
        if desired.ends_with("/v2") {
            *spec =
                json!({"address": format!("{}:{}", spec["host"].as_str().unwrap(), spec["port"].as_str().unwrap())});
        } else {
            let address = spec["address"].as_str().unwrap().to_string();
            let (host, port) = address.split_once(':').unwrap();
            *spec = json!({"host": host, "port": port});
        }
        object["apiVersion"] = desired.as_str().into();
        object["metadata"]["labels"]["converted"] = "yes".into();
        if lies {
            object["metadata"]["name"] = "other".into();
        }
        object
    });
    let converted: Vec<Value> = converted.collect();
    Reply::Json(json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
        "response": {"uid": request["uid"], "convertedObjects": converted, "result": {"status": "Success"}}}))
}

#[tokio::test]
async fn objects_come_in_every_version() {
    let lies = Arc::new(AtomicBool::new(false));
    let hooks = {
        let lies = Arc::clone(&lies);
        Https::start(&["localhost"], None, move |asked| convert(asked, lies.load(Ordering::Relaxed))).await
    };
    let world = World::start().await;
    let version = |name: &str, storage: bool, fields: &[&str]| {
        let fields: serde_json::Map<String, Value> =
            fields.iter().map(|field| (field.to_string(), json!({"type": "string"}))).collect();
        let selectable: Vec<Value> = fields.keys().map(|field| json!({"jsonPath": format!(".spec.{field}")})).collect();
        json!({"name": name, "served": true, "storage": storage, "selectableFields": selectable, "schema": {"openAPIV3Schema": {"type": "object",
            "properties": {"spec": {"type": "object", "properties": fields}}}}})
    };
    let names = json!({"plural": "doors", "singular": "door", "kind": "Door", "listKind": "DoorList"});
    let client = json!({"url": format!("https://localhost:{}/convert", hooks.port), "caBundle": hooks.ca_bundle()});
    let webhook = json!({"clientConfig": client, "conversionReviewVersions": ["v1"]});
    let definition = json!({"metadata": {"name": "doors.example.com"}, "spec": {"group": "example.com",
        "scope": "Namespaced", "names": names, "conversion": {"strategy": "Webhook", "webhook": webhook},
        "versions": [version("v1", true, &["host", "port"]), version("v2", false, &["address"])]}});
    assert!(world.define(definition).await);

    let at = |version: &str| format!("/apis/example.com/{version}/namespaces/default/doors");
    let door = |version: &str, name: &str, spec: Value| json!({"kind": "Door", "apiVersion": format!("example.com/{version}"), "metadata": {"name": name}, "spec": spec});
    world.create(&at("v1"), door("v1", "one", json!({"host": "h", "port": "1"}))).await;
    assert_eq!(hooks.count("/convert"), 0, "written and stored in one version");
    let created = world.create(&at("v2"), door("v2", "two", json!({"address": "g:2"}))).await;
    assert_eq!((&created["apiVersion"], &created["spec"]), (&json!("example.com/v2"), &json!({"address": "g:2"})));
    let stored = world.get(&format!("{}/two", at("v1"))).await;
    assert_eq!(stored["spec"], json!({"host": "g", "port": "2"}));
    assert_eq!(stored["metadata"]["uid"], created["metadata"]["uid"]);
    let before = hooks.count("/convert");
    let list = world.get(&at("v2")).await;
    let addresses: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|i| &i["spec"]["address"]).collect();
    assert_eq!(addresses, ["h:1", "g:2"]);
    assert_eq!(hooks.count("/convert"), before + 1, "a list is converted at once");
    let chosen = world.get(&format!("{}?fieldSelector=spec.address%3Dg:2", at("v2"))).await;
    assert_eq!(chosen["items"].as_array().map(Vec::len), Some(1), "chosen by the fields of its own version");
    assert_eq!(chosen["items"][0]["metadata"]["name"], "two");

    lies.store(true, Ordering::Relaxed);
    let got = world.call("GET", &format!("{}/one", at("v2")), Value::Null).await;
    assert_eq!(got.code, 500);
    let message = "conversion webhook for example.com/v1, Kind=Door returned invalid converted object at index 0: must have the same name: one != other";
    assert!(got.text().contains(message), "{}", got.text());
    assert_eq!(world.call("GET", &format!("{}/one", at("v1")), Value::Null).await.code, 200);
    drop(hooks);
    world.stop().await;
}
