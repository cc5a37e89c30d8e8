//! `metrics.k8s.io`: a kubelet that reports fixed figures stands in for a real one.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::World;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn report() -> Value {
    let pod = |name: &str| {
        json!({"metadata": {"name": name, "namespace": "default"}, "timestamp": "2026-01-01T00:00:00Z", "window": "5.000s",
            "containers": [{"name": "c", "usage": {"cpu": "2500000n", "memory": "1024Ki"}}]})
    };
    json!({
        "node": {"metadata": {"name": "n1"}, "timestamp": "2026-01-01T00:00:00Z", "window": "5.000s",
            "usage": {"cpu": "150000000n", "memory": "2048Ki"}},
        "pods": [pod("a"), pod("b"), pod("stranger")],
    })
}

/// Two nodes of which one answers, and pods on both. Counts how often the node is asked.
async fn with_nodes() -> (World, Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let world = World::start().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::clone(&world.kubelet_tls));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    assert_eq!(request.uri().path(), "/mizzen/usage");
                    count.fetch_add(1, Ordering::Relaxed);
                    std::future::ready(Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::from(report().to_string()))))
                });
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .unwrap();
            });
        }
    });
    for (name, port) in [("n1", port), ("n2", 9)] {
        let node = json!({"metadata": {"name": name, "labels": {"zone": name}}});
        world.create("/api/v1/nodes", node).await;
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
        assert_eq!(world.call("PATCH", &format!("/api/v1/nodes/{name}/status"), status).await.code, 200);
    }
    world.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    for (name, node) in [("a", "n1"), ("b", "n1"), ("unmeasured", "n1"), ("away", "n2"), ("pending", "")] {
        let pod = json!({"metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        world.create("/api/v1/namespaces/default/pods", pod).await;
    }
    (world, asked, serving)
}

const BASE: &str = "/apis/metrics.k8s.io/v1beta1";

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn metrics_come_from_the_nodes() {
    let (world, asked, serving) = with_nodes().await;
    let nodes = world.get(&format!("{BASE}/nodes")).await;
    assert_eq!((nodes["kind"].as_str(), names(&nodes)), (Some("NodeMetricsList"), vec!["n1"]));
    let (item, labels) = (&nodes["items"][0], &nodes["items"][0]["metadata"]["labels"]);
    assert_eq!(
        (&item["usage"], &item["window"], &labels["zone"]),
        (&json!({"cpu": "150000000n", "memory": "2048Ki"}), &json!("5s"), &json!("n1"))
    );
    for (path, expected) in [
        ("pods", vec!["a", "b"]),
        ("namespaces/default/pods", vec!["a", "b"]),
        ("namespaces/other/pods", vec![]),
        ("pods?labelSelector=app%3Db", vec!["b"]),
        ("pods?fieldSelector=metadata.name%3Da", vec!["a"]),
        ("pods?fieldSelector=spec.nodeName%3Dn2", vec![]),
    ] {
        assert_eq!(names(&world.get(&format!("{BASE}/{path}")).await), expected, "{path}");
    }
    let pod = world.get(&format!("{BASE}/namespaces/default/pods/a")).await;
    assert_eq!(pod["containers"], report()["pods"][0]["containers"]);
    assert_eq!(asked.load(Ordering::Relaxed), 1, "an answer counts for some seconds");
    world
        .check(&[
            crate::harness::Row(
                "GET",
                "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/stranger",
                "",
                404,
                &["pods.metrics.k8s.io \\\"stranger\\\" not found"],
            ),
            crate::harness::Row("GET", "/apis/metrics.k8s.io/v1beta1/nodes/n2", "", 404, &["NotFound"]),
            crate::harness::Row(
                "GET",
                "/apis/metrics.k8s.io/v1beta1/nodes?watch=1",
                "",
                405,
                &["watch is not supported"],
            ),
            crate::harness::Row("DELETE", "/apis/metrics.k8s.io/v1beta1/nodes/n1", "", 405, &[]),
            crate::harness::Row("GET", "/apis/metrics.k8s.io/v1/nodes", "", 404, &[]),
        ])
        .await;
    serving.abort();
    world.stop().await;
}

#[tokio::test]
async fn clients_find_and_print_them() {
    let (world, _, serving) = with_nodes().await;
    let plain = world.get(BASE).await;
    assert_eq!(plain["resources"][1]["name"], "pods");
    assert!(world.get("/apis").await["groups"].as_array().unwrap().iter().any(|g| g["name"] == "metrics.k8s.io"));
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let aggregated = world.send("GET", "/apis", &[("accept", accept)], Bytes::new()).await;
    let last = aggregated.json()["items"].as_array().unwrap().last().cloned().unwrap();
    assert_eq!(last["versions"][0]["resources"][0]["responseKind"]["kind"], "NodeMetrics");
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = world.send("GET", &format!("{BASE}/pods"), &[("accept", accept)], Bytes::new()).await.json();
    assert_eq!(table["rows"][0]["cells"], json!(["a", "2500u", "1Mi", "5s"]));
    serving.abort();
    world.stop().await;
}
