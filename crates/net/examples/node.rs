//! A node's network in a network namespace of its own: two pods that serve HTTP, a Service in front of them, DNS.
//! Runs a command in a third pod, with a `resolv.conf` as pods have it, and ends. Needs root; leaves nothing behind.
//!
//! ```text
//! cargo run -p mizzen-net --example node -- curl -s http://web
//! ```

use std::error::Error;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;

use mizzen_net::dns::{self, DnsServer, ServiceNames, Zone};
use mizzen_net::netlink::{Family, Socket, message::Batch, route};
use mizzen_net::pod::{self, PodNetwork};
use mizzen_net::proxy::{self, Proxy};
use mizzen_net::service::{Protocol, ServicePort, ServiceTable};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

const WEB: &str = "10.96.0.20";
const DNS: &str = "10.96.0.10";

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    for (feature, result) in mizzen_net::required_features() {
        result.map_err(|reason| format!("this kernel lacks {feature}: {reason}"))?;
    }
    // SAFETY: this is the only thread; nothing that others share changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    let mut batch = Batch::new();
    route::set_up(&mut batch, 1);
    Socket::open(Family::Route)?.send(&batch)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(node())
}

async fn node() -> Result<()> {
    let state = tempfile::tempdir()?;
    let (pod_cidr, cluster) = ("10.244.0.0/24".parse()?, vec!["10.244.0.0/16".parse()?]);
    let network = PodNetwork::open(pod::Config {
        instance: "example".into(),
        bridge: "mizzen0".into(),
        pod_cidr,
        cluster_cidrs: cluster.clone(),
        service_cidrs: vec!["10.96.0.0/16".parse()?],
        mtu: 1500,
        state_dir: state.path().to_owned(),
    })
    .await?;
    let mut endpoints = Vec::new();
    for name in ["web-0", "web-1"] {
        let netns = new_netns()?;
        let address = network.attach(&netns, name).await?;
        serve(name, &netns)?;
        endpoints.push(SocketAddr::new(address.ip(), 8080));
    }

    let dns_address = SocketAddr::new(network.gateway(), 53);
    let config = dns::Config { domain: "cluster.local".into(), upstreams: vec![], ttl_seconds: 5 };
    let server = DnsServer::bind(&[dns_address], config).await?;
    let names = ServiceNames::Cluster { addresses: vec![WEB.parse()?], ports: vec![("http".into(), "tcp".into(), 80)] };
    let services = [(("default".to_owned(), "web".to_owned()), names)].into();
    server.set_zone(Arc::new(Zone { domain: "cluster.local".into(), services }));

    let proxy = Proxy::new(proxy::Config { instance: "example".into(), pod_cidr, cluster_cidrs: cluster });
    let ports = [
        ("default/web:http".to_owned(), service(Protocol::Tcp, WEB.parse()?, 80, &endpoints)),
        ("kube-system/kube-dns:dns".to_owned(), service(Protocol::Udp, DNS.parse()?, 53, &[dns_address])),
        ("kube-system/kube-dns:dns-tcp".to_owned(), service(Protocol::Tcp, DNS.parse()?, 53, &[dns_address])),
    ];
    proxy.apply(Arc::new(ServiceTable { ports: ports.into(), host_ports: vec![] })).await?;

    let netns = new_netns()?;
    network.attach(&netns, "client").await?;
    let resolv_conf = state.path().join("resolv.conf");
    let text = format!(
        "nameserver {DNS}\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    );
    std::fs::write(&resolv_conf, text)?;
    let command: Vec<_> = std::env::args().skip(1).collect();
    tokio::task::spawn_blocking(move || run(&command, &netns, &resolv_conf)).await?
}

fn service(protocol: Protocol, address: IpAddr, port: u16, endpoints: &[SocketAddr]) -> ServicePort {
    ServicePort {
        protocol,
        port,
        cluster_ips: vec![address],
        external_ips: vec![],
        node_port: None,
        affinity_seconds: None,
        internal_endpoints: endpoints.to_vec(),
        external_endpoints: endpoints.to_vec(),
        internal_drop: false,
        external_drop: false,
        external_local: false,
    }
}

/// A network namespace that a sleeping thread keeps until the process ends.
fn new_netns() -> Result<PathBuf> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // SAFETY: only this thread changes its network namespace; nothing that others share changes.
        let made = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
        let tid = rustix::thread::gettid().as_raw_nonzero();
        let path = PathBuf::from(format!("/proc/self/task/{tid}/ns/net"));
        if sender.send(made.map(|()| path)).is_ok() {
            loop {
                thread::park();
            }
        }
    });
    Ok(receiver.recv()??)
}

fn enter(netns: &Path) -> Result<()> {
    Ok(move_into_link_name_space(File::open(netns)?.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Answers every request in the pod with its name.
fn serve(name: &'static str, netns: &Path) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    let netns = netns.to_owned();
    thread::spawn(move || {
        let listener = enter(&netns).and_then(|()| Ok(TcpListener::bind("0.0.0.0:8080")?));
        let (listener, result) = match listener {
            Ok(listener) => (Some(listener), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let _ = sender.send(result);
        for mut stream in listener.iter().flat_map(TcpListener::incoming).flatten() {
            let body = format!("{name}\n");
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    receiver.recv()?
}

/// Runs the command in the pod, where `/etc/resolv.conf` is another one.
fn run(command: &[String], netns: &Path, resolv_conf: &Path) -> Result<()> {
    let [program, arguments @ ..] = command else { return Err("which command shall run in the pod?".into()) };
    thread::scope(|scope| {
        let ran = scope.spawn(|| -> Result<()> {
            enter(netns)?;
            // SAFETY: only this thread changes its mounts and working folder.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            mount_bind(resolv_conf, "/etc/resolv.conf")?;
            let status = Command::new(program).args(arguments).status()?;
            if status.success() { Ok(()) } else { Err(format!("{program}: {status}").into()) }
        });
        ran.join().unwrap_or_else(|_| Err("the command's thread panicked".into()))
    })
}
