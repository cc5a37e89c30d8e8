//! Long lists in every form: made in pieces while they are sent, and the same as if they had been made at once.

use crate::harness::World;
use mizzen_api::protobuf;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn long_lists_are_the_same_in_every_form() {
    let world = World::start().await;
    for i in 0..24 {
        let data = format!("{i}\n").repeat(20_000);
        world
            .create(MAPS, json!({"metadata": {"name": format!("m{i:02}"), "labels": {"i": "x"}}, "data": {"k": data}}))
            .await;
    }
    let plain = world.get(MAPS).await;
    let items = plain["items"].as_array().unwrap();
    assert_eq!(items.len(), 24);
    let get = async |accept: &str, query: &str| {
        let got = world.send("GET", &format!("{MAPS}{query}"), &[("accept", accept)], "").await;
        assert_eq!(got.code, 200, "{accept}");
        got
    };
    let pretty = get("application/json", "?pretty=true").await;
    assert_eq!(pretty.json(), plain);
    assert!(pretty.text().contains("\n  \"items\": [\n    {\n      \"metadata\": {\n        \"name\": \"m00\""));
    let table = get("application/json;as=Table;v=v1;g=meta.k8s.io", "?includeObject=Object").await.json();
    let rows = table["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[23]["cells"][0]), (24, &json!("m23")));
    assert_eq!(table["metadata"], plain["metadata"]);
    let metadata = get("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "").await.json();
    let names: Vec<&Value> = metadata["items"].as_array().unwrap().iter().map(|i| &i["metadata"]).collect();
    assert_eq!(names, items.iter().map(|i| &i["metadata"]).collect::<Vec<_>>());
    // Long enough to be encoded twice, and a short one that is encoded at once.
    for query in ["", "?limit=2"] {
        let plain = world.get(&format!("{MAPS}{query}")).await;
        let packed = get("application/vnd.kubernetes.protobuf", query).await;
        let list = protobuf::decode(&packed.body, ("v1", "ConfigMapList")).unwrap();
        let bare = |list: &Value| {
            let items = list["items"].as_array().unwrap().iter();
            items.map(|i| json!([i["metadata"]["uid"], i["data"]])).collect::<Vec<_>>()
        };
        assert_eq!(bare(&list), bare(&plain), "{query}");
        assert_eq!(list["metadata"]["resourceVersion"], plain["metadata"]["resourceVersion"]);
    }
    world.stop().await;
}
