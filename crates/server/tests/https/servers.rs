//! Three API servers over one replicated store, each on a port of its own.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::Method;
use mizzen_server::auth::tokens::TokenIssuer;
use mizzen_server::auth::{Authenticator, Authorizer};
use mizzen_server::peers::Https;
use mizzen_server::pki::{Client, Options, Pki};
use mizzen_server::{Config, Security, Server};
use mizzen_store::{Embedded, Identity, Store};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::harness::{Got, PATIENCE, send};

/// One server of the cluster.
struct Node {
    address: String,
    store: Arc<Embedded>,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

struct Cluster {
    nodes: Vec<Option<Node>>,
    pki: Pki,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn of_three() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            dir: dir.path().join("pki"),
            node_name: "s".into(),
            service_address: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)),
            addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            names: vec![],
            cluster_domain: "cluster.local".into(),
        };
        let pki = Pki::open(&options, jiff::Timestamp::now()).unwrap();
        let mut nodes: Vec<Option<Node>> = Vec::new();
        for id in 1..=3 {
            let node = start(id, dir.path(), &pki).await;
            if let Some(Some(first)) = nodes.first() {
                first.store.add(id, &node.address).await.unwrap();
                first.store.promote(id).await.unwrap();
            }
            nodes.push(Some(node));
        }
        Self { nodes, pki, _dir: dir }
    }

    fn node(&self, index: usize) -> &Node {
        self.nodes[index].as_ref().expect("it runs")
    }

    async fn ask(&self, index: usize, method: Method, path: &str, body: &serde_json::Value) -> Got {
        let admin = TlsConnector::from(self.pki.client_config(Client::Admin));
        send(&admin, &self.node(index).address, method, path, body).await
    }

    /// Ends a server, if it still runs.
    async fn stop(&mut self, index: usize) {
        let Some(node) = self.nodes[index].take() else { return };
        node.shutdown.cancel();
        node.store.shutdown().await;
        tokio::time::timeout(PATIENCE, node.serving).await.expect("the server does not stop").unwrap();
    }

    /// Ends them all: a store waits for its own calls, so it must be closed before the runtime that makes them is.
    async fn end(mut self) {
        for index in 0..3 {
            self.stop(index).await;
        }
    }
}

async fn start(id: u64, dir: &std::path::Path, pki: &Pki) -> Node {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peers = Arc::new(Https::new(&pki.client_config(Client::Server)));
    let identity = Identity { id, address: address.clone(), founds: id == 1, peers };
    let store = dir.join(id.to_string());
    let store = Arc::new(Embedded::open_as(store, mizzen_store::Options::default(), None, identity).unwrap());
    let issuer = Arc::new(TokenIssuer::new(pki.token_keys(), "https://kubernetes.default.svc".into(), vec![]));
    let security = Security {
        authenticator: Authenticator::new(Arc::clone(&issuer)),
        authorizer: Authorizer::new(),
        issuer,
        kubelet_tls: None,
        front_proxy: None,
    };
    let server = Server::new(Config::default(), Arc::clone(&store) as Arc<dyn Store>, security);
    if id == 1 {
        server.bootstrap_core().await.unwrap();
    }
    let shutdown = CancellationToken::new();
    let (tls, stop) = (pki.server_config(), shutdown.clone());
    let serving = tokio::spawn(async move { server.serve(listener, tls, stop).await });
    Node { address, store, shutdown, serving }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, value: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": value}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_wrote_every_server_reads_at_once() {
    let cluster = Cluster::of_three().await;
    for round in 0..30 {
        let (writer, reader) = (round % 3, (round + 1) % 3);
        let name = format!("m{round}");
        let made = cluster.ask(writer, Method::POST, MAPS, &map(&name, "one")).await;
        assert_eq!(made.code, 201, "{}", made.text());
        let path = format!("{MAPS}/{name}");
        let read = cluster.ask(reader, Method::GET, &path, &json!(null)).await;
        assert_eq!((read.code, read.json()["data"]["k"].clone()), (200, json!("one")), "round {round}");
        let mut changed = read.json();
        changed["data"]["k"] = json!("two");
        let put = cluster.ask((round + 2) % 3, Method::PUT, &path, &changed).await;
        assert_eq!(put.code, 200, "{}", put.text());
        let listed = cluster.ask(writer, Method::GET, MAPS, &json!(null)).await.json();
        let items = listed["items"].as_array().expect("a list");
        let found = items.iter().find(|item| item["metadata"]["name"] == name.as_str()).expect("it is listed");
        assert_eq!(found["data"]["k"], "two", "round {round}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_go_on_without_the_leader() {
    let mut cluster = Cluster::of_three().await;
    let made = cluster.ask(1, Method::POST, MAPS, &map("before", "x")).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let leader = cluster.node(0).store.leader().expect("one leads") as usize - 1;
    cluster.stop(leader).await;
    for index in (0..3).filter(|index| *index != leader) {
        let made = cluster.ask(index, Method::POST, MAPS, &map(&format!("after{index}"), "x")).await;
        assert_eq!(made.code, 201, "{}", made.text());
        let read = cluster.ask(index, Method::GET, &format!("{MAPS}/before"), &json!(null)).await;
        assert_eq!(read.code, 200, "{}", read.text());
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_servers_speak_to_the_store() {
    let cluster = Cluster::of_three().await;
    let address = cluster.node(0).address.clone();
    for client in [Client::Admin, Client::Node, Client::ApiServerToKubelet] {
        let tls = TlsConnector::from(cluster.pki.client_config(client));
        let got = send(&tls, &address, Method::POST, "/mizzen/v1/peers", &json!(null)).await;
        assert_eq!(got.code, 403, "{client:?}: {}", got.text());
    }
    cluster.end().await;
}
