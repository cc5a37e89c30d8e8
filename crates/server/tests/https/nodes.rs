//! What is passed on to nodes: a kubelet that echoes stands in for a real one.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::harness::World;
use bytes::Bytes;
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

/// TLS with a certificate that nobody knows, as pods have it.
fn self_signed() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["pod".into()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A pod that serves one page and sends everybody else there, on a port of its own.
async fn pod(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let page = Response::builder().header("content-type", "text/html; charset=utf-8");
    Ok(match request.uri().path() {
        "/" if request.method() == "POST" => page.body("posted".into()).unwrap(),
        "/" => page.body(r#"<a href="/next">next</a>"#.into()).unwrap(),
        _ => Response::builder().status(302).header("location", "/").body(Full::default()).unwrap(),
    })
}

#[tokio::test]
async fn pages_of_pods_link_through_the_proxy() {
    let (world, serving) = with_node().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = self_signed();
    let pods = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut first = [0];
                stream.peek(&mut first).await.unwrap();
                let http = hyper::server::conn::http1::Builder::new();
                let service = hyper::service::service_fn(pod);
                // 22 is the first byte of a TLS handshake.
                if first == [22] {
                    let stream = acceptor.accept(stream).await.unwrap();
                    http.serve_connection(TokioIo::new(stream), service).await.unwrap();
                } else {
                    http.serve_connection(TokioIo::new(stream), service).await.unwrap();
                }
            });
        }
    });
    let status = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    assert_eq!(world.call("PATCH", &format!("{POD}/status"), status).await.code, 200);
    for scheme in ["http", "https"] {
        let proxy = format!("/api/v1/namespaces/default/pods/{scheme}:p:{port}/proxy");
        let page = world.send("GET", &format!("{proxy}/"), &[("accept-encoding", "gzip")], "").await;
        assert_eq!(page.text(), format!(r#"<a href="{proxy}/next">next</a>"#));
        let moved = world.send("GET", &format!("{proxy}/next"), &[], "").await;
        assert_eq!((moved.code, moved.headers["location"].to_str().unwrap()), (302, format!("{proxy}/").as_str()));
        assert_eq!(world.send("POST", &proxy, &[], "").await.text(), "posted");
        let rooted = world.send("GET", &format!("{proxy}?a=b"), &[], "").await;
        assert_eq!(
            (rooted.code, rooted.headers["location"].to_str().unwrap()),
            (301, format!("{proxy}/?a=b").as_str())
        );
    }
    pods.abort();
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
