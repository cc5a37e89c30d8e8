//! An API server alone, without nodes and with no controller but that of definitions: for trying clients on it and for measuring it.
//!
//! `cargo run --example apiserver -- <dir> <port> [memory]` keeps its data in `<dir>` and writes `<dir>/kubeconfig`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use mizzen_server::auth::tokens::TokenIssuer;
use mizzen_server::auth::{Authenticator, Authorizer, Identity};
use mizzen_server::pki::{Client, Options, Pki};
use mizzen_server::{Config, Security, Server};
use mizzen_store::{Embedded, Memory, Store};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().unwrap_or_else(|| "/tmp/mizzen-apiserver".into()));
    let port: u16 = arguments.next().map_or(Ok(6443), |text| text.parse())?;
    let memory = arguments.next().is_some_and(|word| word == "memory");
    let pki = open_pki(&dir)?;
    let store: Arc<dyn Store> = if memory {
        Arc::new(Memory::default())
    } else {
        Arc::new(Embedded::open(dir.join("store"), mizzen_store::Options::default())?)
    };
    let issuer =
        Arc::new(TokenIssuer::new(pki.token_keys(), "https://kubernetes.default.svc.cluster.local".into(), vec![]));
    let security = Security {
        authenticator: Authenticator::new(Arc::clone(&issuer)),
        authorizer: Authorizer::new(),
        issuer,
        kubelet_tls: Some(pki.client_config(Client::ApiServerToKubelet)),
        front_proxy: Some(pki.front_proxy()),
    };
    let server = Server::new(Config { port, ..Config::default() }, Arc::clone(&store), security);
    server.bootstrap_core().await?;
    std::fs::write(dir.join("kubeconfig"), pki.admin_kubeconfig(&format!("https://127.0.0.1:{port}")))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("serving on 127.0.0.1:{port}, kubeconfig in {}", dir.join("kubeconfig").display());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let controllers = {
        let server = server.clone();
        let api = move |name: &str| server.api_as(Identity::service_account("kube-system", name));
        tokio::spawn(mizzen_controllers::shell::run(
            mizzen_controllers::definitions(),
            store,
            api,
            Arc::default(),
            shutdown.clone(),
        ))
    };
    let signal = tokio::spawn(async move {
        // Without signals there is no way to stop but to kill.
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    server.serve(listener, pki.server_config(), shutdown).await;
    signal.abort();
    controllers.await?;
    Ok(())
}

fn open_pki(dir: &std::path::Path) -> Result<Pki, Failure> {
    let options = Options {
        dir: dir.join("pki"),
        node_name: "none".into(),
        service_address: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)),
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        names: vec![],
        cluster_domain: "cluster.local".into(),
    };
    std::fs::create_dir_all(dir)?;
    Ok(Pki::open(&options, jiff::Timestamp::now())?)
}
