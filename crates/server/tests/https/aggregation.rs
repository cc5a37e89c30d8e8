//! Aggregated API servers, with an HTTPS server of the test in the place of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::https::{Asked, Https, Reply};
use crate::harness::{Events, World};
use mizzen_store::{Operation, Store, Txn};
use serde_json::{Value, json};

const GROUP: &str = "wardle.example.com";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What the aggregated server answers. `healthy` is whether it tells what it serves.
fn answer(asked: &Asked, healthy: bool) -> Reply {
    let flunders = json!({"resource": "flunders", "responseKind": {"group": "", "version": "", "kind": "Flunder"},
        "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get", "list"]});
    match asked.path.as_str() {
        _ if !healthy => Reply::Text(500, b"out of order".to_vec()),
        "/apis" => Reply::Text(404, b"404 page not found".to_vec()),
        "/apis/wardle.example.com/v1alpha1" | "/apis/metrics.k8s.io/v1beta1" => Reply::Json(
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1",
                "resources": [{"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": flunders["responseKind"]["kind"], "verbs": ["get", "list"]}]}),
        ),
        "/openapi/v3" => Reply::Json(json!({"paths": {"apis/wardle.example.com/v1alpha1":
            {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=ABC"}}})),
        "/openapi/v2" => Reply::Json(json!({"swagger": "2.0", "paths": {"/apis/wardle.example.com/v1alpha1/flunders":
            {"get": {"schema": {"$ref": "#/definitions/com.example.Flunder"}}}}, "definitions": {"com.example.Flunder": {"type": "object"}}})),
        path => {
            let header = |name: &str| -> Vec<String> {
                asked.headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_string()).collect()
            };
            Reply::Json(json!({"path": path, "query": asked.query, "method": asked.method,
                "user": header("x-remote-user"), "groups": header("x-remote-group"), "authorization": header("authorization"),
                "body": asked.json()}))
        }
    }
}

struct Setup {
    world: World,
    server: Https,
    healthy: Arc<AtomicBool>,
}

impl Setup {
    async fn new() -> Self {
        let world = World::start().await;
        let map = world.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await;
        let proxies = map["data"]["requestheader-client-ca-file"].as_str().unwrap().to_string();
        assert_eq!(map["data"]["requestheader-allowed-names"], r#"["front-proxy-client"]"#);
        assert_ne!(proxies, map["data"]["client-ca-file"].as_str().unwrap(), "clients cannot pass for the proxy");
        let healthy = Arc::new(AtomicBool::new(true));
        let says = Arc::clone(&healthy);
        let server = Https::start(&["api.default.svc"], Some(&proxies), move |asked| {
            answer(asked, says.load(Ordering::Relaxed))
        });
        Self { world, server: server.await, healthy }
    }

    /// Puts the Service, and endpoints on loopback, which the API would refuse.
    async fn deploy(&self) {
        let service = json!({"metadata": {"name": "api"}, "spec": {"ports": [{"name": "https", "port": 443}]}});
        self.world.create("/api/v1/namespaces/default/services", service).await;
        let slice = json!({"metadata": {"name": "api-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "api"}},
            "addressType": "IPv4", "ports": [{"name": "https", "port": self.server.port, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}]});
        let value = mizzen_store::Value { bytes: slice.to_string().into(), revision_at: None };
        self.commit(Operation::Put { key: SLICE.into(), value }).await;
    }

    async fn commit(&self, operation: Operation) {
        self.world.store.commit(Txn { expect: vec![], operations: vec![operation] }).await.unwrap();
    }

    fn service(&self, group: &str, version: &str) -> Value {
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": format!("{version}.{group}")},
            "spec": {"group": group, "version": version, "groupPriorityMinimum": 2000, "versionPriority": 200,
                "caBundle": self.server.ca_bundle(), "service": {"namespace": "default", "name": "api", "port": 443}}})
    }

    /// Waits until an APIService is available or not for this reason.
    async fn until(&self, events: &mut Events, name: &str, expected: &str) {
        let mut last = Value::Null;
        loop {
            let event = events.next().await.unwrap_or_else(|| panic!("{name} never got {expected}: {last}"));
            if event["object"]["metadata"]["name"] != name {
                continue;
            }
            let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let condition = conditions.into_iter().find(|c| c["type"] == "Available").unwrap_or_default();
            let text = |field: &str| condition[field].as_str().unwrap_or_default().to_string();
            if format!("{} {}", text("status"), text("reason")) == expected {
                return;
            }
            last = condition;
        }
    }
}

const SLICE: &str = "discovery.k8s.io/endpointslices/default/api-1";

#[tokio::test]
async fn another_server_answers_for_its_group() {
    let setup = Setup::new().await;
    let world = &setup.world;
    let mut events = world.watch(&format!("{SERVICES}?watch=true"), "application/json").await;
    setup.until(&mut events, "v1.apps", "True Local").await;

    world.create(SERVICES, setup.service(GROUP, "v1alpha1")).await;
    setup.until(&mut events, "v1alpha1.wardle.example.com", "False ServiceNotFound").await;
    let path = format!("/apis/{GROUP}/v1alpha1/namespaces/default/flunders");
    let got = world.call("GET", &path, Value::Null).await;
    assert_eq!((got.code, got.text().as_str()), (503, "service unavailable\n"));

    setup.deploy().await;
    setup.until(&mut events, "v1alpha1.wardle.example.com", "True Passed").await;
    let headers = [("x-remote-user", "root"), ("x-remote-group", "wheel"), ("content-type", "application/json")];
    let got = world.send("POST", &format!("{path}?dryRun=All"), &headers, r#"{"a": 1}"#).await;
    assert_eq!(got.code, 200, "{}", got.text());
    let seen = got.json();
    assert_eq!((&seen["method"], &seen["path"], &seen["query"]), (&json!("POST"), &json!(path), &json!("dryRun=All")));
    assert_eq!(seen["user"], json!(["kubernetes-admin"]), "the client cannot name itself");
    assert!(seen["groups"].as_array().unwrap().contains(&json!("system:masters")), "{seen}");
    assert!(!seen["groups"].as_array().unwrap().contains(&json!("wheel")), "{seen}");
    assert_eq!((&seen["authorization"], &seen["body"]), (&json!([]), &json!({"a": 1})));
    {
        let asked = setup.server.asked.lock().unwrap();
        let der = asked.last().unwrap().client.clone().unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(certificate.subject().to_string(), "CN=front-proxy-client");
    }

    let refused = world.send("GET", &path, &[("impersonate-user", "jane")], "").await;
    assert_eq!(refused.code, 403, "who may do what is decided here: {}", refused.text());

    // Discovery tells what it serves.
    let whole = world.send("GET", "/apis", &[("accept", AGGREGATED)], "").await.json();
    let items = whole["items"].as_array().unwrap();
    let found = items.iter().find(|item| item["metadata"]["name"] == GROUP).unwrap();
    assert_eq!(
        (&found["versions"][0]["freshness"], &found["versions"][0]["resources"][0]["resource"]),
        (&json!("Current"), &json!("flunders"))
    );
    let names: Vec<&str> = items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect();
    let at = |name: &str| names.iter().position(|n| *n == name).unwrap();
    assert!(at("apps") < at(GROUP) && at(GROUP) < at("metrics.k8s.io"), "{names:?}");
    let group = world.get(&format!("/apis/{GROUP}")).await;
    assert_eq!(group["preferredVersion"]["groupVersion"], "wardle.example.com/v1alpha1");
    assert!(world.get("/apis").await["groups"].as_array().unwrap().iter().any(|g| g["name"] == GROUP));
    let index = world.get("/openapi/v3").await;
    assert_eq!(
        index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"],
        "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=ABC"
    );
    assert_eq!(world.get("/openapi/v3/apis/wardle.example.com/v1alpha1").await["user"], json!(["kubernetes-admin"]));
    let v2 = world.get("/openapi/v2").await;
    assert!(
        v2["definitions"]["com.example.Flunder"].is_object()
            && v2["paths"]["/apis/wardle.example.com/v1alpha1/flunders"].is_object()
    );

    // It stops telling, loses its endpoints, and goes.
    setup.healthy.store(false, Ordering::Relaxed);
    let touch = json!({"metadata": {"labels": {"touched": "yes"}}});
    assert_eq!(world.call("PATCH", &format!("{SERVICES}/v1alpha1.wardle.example.com"), touch).await.code, 200);
    setup.until(&mut events, "v1alpha1.wardle.example.com", "False FailedDiscoveryCheck").await;
    let whole = world.send("GET", "/apis", &[("accept", AGGREGATED)], "").await.json();
    let found = whole["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == GROUP).unwrap();
    assert_eq!(
        (&found["versions"][0]["freshness"], &found["versions"][0]["resources"][0]["resource"]),
        (&json!("Stale"), &json!("flunders"))
    );
    setup.commit(Operation::Delete { key: SLICE.into() }).await;
    setup.until(&mut events, "v1alpha1.wardle.example.com", "False EndpointsNotFound").await;
    assert_eq!(world.call("DELETE", &format!("{SERVICES}/v1alpha1.wardle.example.com"), Value::Null).await.code, 200);
    assert_eq!(world.call("GET", &path, Value::Null).await.code, 404);
    setup.world.stop().await;
}

#[tokio::test]
async fn metrics_can_come_from_another_server() {
    let setup = Setup::new().await;
    let mut events = setup.world.watch(&format!("{SERVICES}?watch=true"), "application/json").await;
    setup.until(&mut events, "v1beta1.metrics.k8s.io", "True Local").await;
    setup.deploy().await;
    let own = setup.world.get("/apis/metrics.k8s.io/v1beta1/nodes").await;
    assert_eq!(own["kind"], "NodeMetricsList");
    let spec = setup.service("metrics.k8s.io", "v1beta1")["spec"].clone();
    let got = setup.world.call("PATCH", &format!("{SERVICES}/v1beta1.metrics.k8s.io"), json!({"spec": spec})).await;
    assert_eq!(got.code, 200, "{}", got.text());
    setup.until(&mut events, "v1beta1.metrics.k8s.io", "True Passed").await;
    assert_eq!(
        setup.world.get("/apis/metrics.k8s.io/v1beta1/nodes").await["path"],
        "/apis/metrics.k8s.io/v1beta1/nodes"
    );
    setup.world.stop().await;
}

#[tokio::test]
async fn custom_resources_have_their_services() {
    let world = World::start().await;
    let mut events = world
        .watch(
            &format!("{SERVICES}?watch=true&labelSelector=kube-aggregator.kubernetes.io%2Fautomanaged%3Dtrue"),
            "application/json",
        )
        .await;
    let names = json!({"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"});
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": names, "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world.create(path, definition).await;
    assert_eq!(events.brief().await, "ADDED v1.example.com");
    let mut object = world.get(&format!("{path}/things.example.com")).await;
    object["spec"]["versions"][0]["name"] = "v2".into();
    object["status"]["storedVersions"] = json!(["v2"]);
    let key = "apiextensions.k8s.io/customresourcedefinitions//things.example.com";
    let value = mizzen_store::Value { bytes: object.to_string().into(), revision_at: None };
    let put = Operation::Put { key: key.into(), value };
    world.store.commit(Txn { expect: vec![], operations: vec![put] }).await.unwrap();
    let mut seen = Vec::new();
    while !seen.iter().any(|event| event == "DELETED v1.example.com")
        || !seen.iter().any(|event| event == "ADDED v2.example.com")
    {
        seen.push(events.brief().await);
    }
    world.stop().await;
}
