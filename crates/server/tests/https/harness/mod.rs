//! A server on a real port over a memory store, and a client that sends what a test says.

pub mod https;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use mizzen_server::auth::tokens::TokenIssuer;
use mizzen_server::auth::{Authenticator, Authorizer, Identity};
use mizzen_server::pki::{Client, Options, Pki};
use mizzen_server::{Config, Security, Server};
use mizzen_store::Memory;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything in a test.
pub const PATIENCE: Duration = Duration::from_secs(10);

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// A running server and what a test needs to talk to it.
pub struct World {
    pub server: Server,
    pub store: Arc<Memory>,
    pub port: u16,
    /// What a kubelet of this cluster serves with.
    pub kubelet_tls: Arc<rustls::ServerConfig>,
    admin: TlsConnector,
    /// A connection that waits for the next request.
    idle: Mutex<Option<Sender>>,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    /// The controller of CustomResourceDefinitions.
    definitions: tokio::task::JoinHandle<()>,
    dir: tempfile::TempDir,
}

async fn connect(tls: &TlsConnector, address: &str) -> Sender {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = rustls_pki_types::ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let stream = tls.connect(name, stream).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

/// Sends one request with a JSON body on a connection of its own.
pub async fn send(tls: &TlsConnector, address: &str, method: Method, path: &str, body: &Value) -> Got {
    let mut sender = connect(tls, address).await;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.header("content-type", "application/json").body(Full::new(body.into())).unwrap();
    let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
    let (parts, body) = answer.expect("no answer in time").unwrap().into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("body not in time").unwrap().to_bytes();
    Got { code: parts.status.as_u16(), headers: parts.headers, body }
}

/// An answer, read to its end.
pub struct Got {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl World {
    pub async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        Self::over(Memory::default(), config).await
    }

    /// Over a store that may forget sooner than others.
    pub async fn over(store: Memory, config: Config) -> Self {
        Self::assembled(store, config, Authorizer::new()).await
    }

    /// Where an authorizer says who may what.
    pub async fn ruled_by(authorizer: Authorizer) -> Self {
        Self::assembled(Memory::default(), Config::default(), authorizer).await
    }

    async fn assembled(store: Memory, config: Config, authorizer: Authorizer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = jiff::Timestamp::now();
        let options = Options {
            dir: dir.path().join("pki"),
            node_name: "n1".into(),
            service_address: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)),
            addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            names: vec![],
            cluster_domain: "cluster.local".into(),
        };
        let pki = Pki::open(&options, now).unwrap();
        let issuer = Arc::new(TokenIssuer::new(pki.token_keys(), "https://kubernetes.default.svc".into(), vec![]));
        let security = Security {
            authenticator: Authenticator::new(Arc::clone(&issuer)),
            authorizer,
            issuer,
            kubelet_tls: Some(pki.client_config(Client::ApiServerToKubelet)),
            front_proxy: Some(pki.front_proxy()),
        };
        let store = Arc::new(store);
        let server = Server::new(config, Arc::clone(&store) as Arc<dyn mizzen_store::Store>, security);
        server.bootstrap_core().await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shutdown = CancellationToken::new();
        let serving = {
            let (server, tls, shutdown) = (server.clone(), pki.server_config(), shutdown.clone());
            tokio::spawn(async move { server.serve(listener, tls, shutdown).await })
        };
        let definitions = {
            let (server, of_store, shutdown) = (server.clone(), Arc::clone(&store), shutdown.clone());
            let api = move |name: &str| server.api_as(Identity::service_account("kube-system", name));
            tokio::spawn(mizzen_controllers::shell::run(
                mizzen_controllers::definitions(),
                of_store,
                api,
                Arc::default(),
                shutdown,
            ))
        };
        let admin = TlsConnector::from(pki.client_config(Client::Admin));
        let kubeconfig = pki.admin_kubeconfig(&format!("https://127.0.0.1:{port}"));
        std::fs::write(dir.path().join("kubeconfig"), kubeconfig).unwrap();
        let kubelet_tls = pki.kubelet_server_config();
        Self { server, store, port, kubelet_tls, admin, idle: Mutex::default(), shutdown, serving, definitions, dir }
    }

    /// The kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> std::path::PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Stops the server and waits for its end.
    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.serving).await.expect("the server does not stop").unwrap();
        tokio::time::timeout(PATIENCE, self.definitions).await.expect("a controller does not stop").unwrap();
    }

    /// A connection of the admin.
    async fn connect(&self) -> Sender {
        connect(&self.admin, &format!("127.0.0.1:{}", self.port)).await
    }

    /// Sends a request as the admin and returns the answer with its body still to be read.
    pub async fn open(&self, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
        let mut sender = self.connect().await;
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        answer.expect("no answer in time").unwrap()
    }

    /// Sends a request with headers and returns the whole answer.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Got {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        request = request.header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let idle = self.idle.lock().unwrap().take();
        let ready = match idle {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let mut sender = match ready {
            Some(sender) => sender,
            None => self.connect().await,
        };
        let answer =
            tokio::time::timeout(PATIENCE, sender.send_request(request.body(Full::new(body.into())).unwrap())).await;
        let (parts, body) = answer.expect("no answer in time").unwrap().into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("body not in time").unwrap().to_bytes();
        *self.idle.lock().unwrap() = Some(sender);
        Got { code: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// A request with a JSON body (PATCH: a merge patch).
    pub async fn call(&self, method: &str, path: &str, body: Value) -> Got {
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &[("content-type", content_type)], body).await
    }

    /// A GET that must succeed.
    pub async fn get(&self, path: &str) -> Value {
        let got = self.call("GET", path, Value::Null).await;
        assert_eq!(got.code, 200, "GET {path}: {}", got.text());
        got.json()
    }

    /// A POST that must create.
    pub async fn create(&self, path: &str, object: Value) -> Value {
        let got = self.call("POST", path, object).await;
        assert_eq!(got.code, 201, "POST {path}: {}", got.text());
        got.json()
    }

    /// Opens a watch.
    pub async fn watch(&self, path: &str, accept: &str) -> Events {
        let request = Request::get(path).header("host", "localhost").header("accept", accept);
        let answer = self.open(request.body(Full::default()).unwrap()).await;
        assert_eq!(answer.status(), 200, "{path}");
        Events { body: answer.into_body(), buffer: Vec::new() }
    }

    /// Creates a CustomResourceDefinition and waits until its names are decided about; answers whether they are its own.
    pub async fn define(&self, definition: Value) -> bool {
        const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let name = self.create(DEFINITIONS, definition).await["metadata"]["name"].as_str().unwrap().to_string();
        let path = format!("{DEFINITIONS}?watch=true&fieldSelector=metadata.name%3D{name}");
        let mut events = self.watch(&path, "application/json").await;
        loop {
            let event = events.next().await.expect("the watch ended");
            let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if let Some(established) = conditions.iter().find(|c| c["type"] == "Established") {
                return established["status"] == "True";
            }
        }
    }

    /// Sends every row of a table and compares code and pieces of the body.
    pub async fn check(&self, table: &[Row]) {
        for Row(method, path, body, code, pieces) in table {
            let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
            let got = self.call(method, path, body.clone()).await;
            let text = got.text();
            assert_eq!(got.code, *code, "{method} {path} {body}: {text}");
            for piece in *pieces {
                assert!(text.contains(piece), "{method} {path} {body}: no {piece} in {text}");
            }
        }
    }
}

/// Method, path, JSON body → code, pieces of the body.
pub struct Row(pub &'static str, pub &'static str, pub &'static str, pub u16, pub &'static [&'static str]);

/// The events of a watch.
pub struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("no event in time")?.unwrap();
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// The next event as `TYPE name`.
    pub async fn brief(&mut self) -> String {
        match self.next().await {
            Some(event) => {
                let name = event["object"]["metadata"]["name"].as_str().unwrap_or("-");
                format!("{} {name}", event["type"].as_str().unwrap_or("?"))
            }
            None => "END".into(),
        }
    }
}
