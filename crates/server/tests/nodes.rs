//! What is passed on to nodes: a kubelet that echoes stands in for a real one.

mod harness;

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use harness::World;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Answers with method and path; of an upgrade echoes what is sent.
async fn kubelet(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    if request.headers().contains_key("upgrade") {
        let protocol = request.headers()["upgrade"].clone();
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgraded.await.unwrap());
            let mut buffer = [0; 64];
            while let Ok(count @ 1..) = io.read(&mut buffer).await {
                io.write_all(&buffer[..count]).await.unwrap();
            }
        });
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        return Ok(response.header("connection", "Upgrade").header("upgrade", protocol).body(Full::default()).unwrap());
    }
    if request.uri().query() == Some("tailLines=400") {
        let refusal = Response::builder().status(StatusCode::BAD_REQUEST).header("content-type", "text/plain");
        return Ok(refusal.body("container \"c\" is waiting to start".into()).unwrap());
    }
    let text = format!("{} {}", request.method(), request.uri());
    let secrets = request.headers().contains_key("authorization");
    Ok(Response::builder()
        .header("content-type", "text/plain")
        .header("x-secret", secrets.to_string())
        .body(text.into())
        .unwrap())
}

/// A world with a kubelet, a node that points to it, and a pod on the node.
async fn with_node() -> (World, tokio::task::JoinHandle<()>) {
    let world = World::start().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::clone(&world.kubelet_tls));
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let service = hyper::service::service_fn(kubelet);
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connection.with_upgrades().await.unwrap();
            });
        }
    });
    world.create("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    assert_eq!(world.call("PATCH", "/api/v1/nodes/n1/status", status).await.code, 200);
    world.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
    world.create("/api/v1/namespaces/default/pods", pod).await;
    (world, serving)
}

const POD: &str = "/api/v1/namespaces/default/pods/p";

#[tokio::test]
async fn logs_and_proxies_reach_the_kubelet() {
    let (world, serving) = with_node().await;
    let log = world.send("GET", &format!("{POD}/log?tailLines=5"), &[("authorization", "Bearer x")], "").await;
    assert_eq!((log.code, log.text().as_str()), (200, "GET /containerLogs/default/p/c?tailLines=5"));
    let refused = world.send("GET", &format!("{POD}/log?tailLines=400"), &[], "").await;
    let status: serde_json::Value = serde_json::from_str(&refused.text()).unwrap();
    assert_eq!((refused.code, &status["message"]), (400, &json!("container \"c\" is waiting to start")));
    assert_eq!(log.headers["x-secret"], "false", "credentials are for the API server alone");
    let stats = world.send("GET", "/api/v1/nodes/n1/proxy/stats/summary?a=b", &[], "").await;
    assert_eq!(stats.text(), "GET /stats/summary?a=b");
    serving.abort();
    world.stop().await;
}

#[tokio::test]
async fn streams_are_copied_in_both_directions() {
    let (world, serving) = with_node().await;
    let request = Request::post(format!("{POD}/exec?command=cat&stdin=true"))
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1");
    let mut response = world.open(request.body(Full::default()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    io.write_all(b"over and back").await.unwrap();
    let mut buffer = [0; 13];
    io.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"over and back");
    drop(io);
    serving.abort();
    world.stop().await;
}

#[tokio::test]
async fn a_node_that_is_away_is_said_to_be() {
    let (world, serving) = with_node().await;
    serving.abort();
    let _ = serving.await; // Aborted, so its listener is closed.
    let log = world.send("GET", &format!("{POD}/log"), &[], "").await;
    assert_eq!(log.code, 503);
    assert!(log.text().contains("error dialing backend"), "{}", log.text());
    world.stop().await;
}
