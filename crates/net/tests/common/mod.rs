//! A network namespace for each test, and pods in it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::File;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mizzen_net::netlink::message::Batch;
use mizzen_net::netlink::{Family, Socket, route};
use mizzen_net::pod::{Config, PodAddress, PodNetwork};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

fn unshare() {
    // SAFETY: only the calling thread, which the test owns, changes its network namespace; no memory is affected.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("network namespaces need root");
    let mut batch = Batch::new();
    route::set_up(&mut batch, 1);
    Socket::open(Family::Route).unwrap().send(&batch).unwrap();
}

/// Runs a test in a new network namespace: this thread and all that it starts.
pub fn in_new_network<F: Future>(test: impl FnOnce() -> F + Send) {
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            unshare();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(test());
        });
        run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Makes `/proc/sys` read-only for this thread and those that it starts, as container engines do.
pub fn make_sysctls_read_only() {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
    // SAFETY: only the calling thread, which the test owns, changes its mount namespace; no memory is affected.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    mount_bind("/proc/sys", "/proc/sys").unwrap();
    mount_remount("/proc/sys", MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
}

/// A network namespace kept by a sleeping thread, as a pod's is kept by its sandbox.
pub struct Netns {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pub path: PathBuf,
}

impl Netns {
    pub fn new() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = std::sync::mpsc::channel();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            unshare();
            let tid = rustix::thread::gettid().as_raw_nonzero();
            sender.send(PathBuf::from(format!("/proc/self/task/{tid}/ns/net"))).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                thread::park();
            }
        });
        Self { stop, path: receiver.recv().unwrap(), thread: Some(thread) }
    }

    /// Runs something inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        run_in(&self.path, work)
    }
}

pub fn run_in<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    let netns = File::open(path).unwrap();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// A pod with servers that answer with its name (TCP at connection, UDP to each datagram) followed by the client's
/// address as they see it. TCP servers then echo until the client closes.
pub struct Pod {
    pub name: String,
    pub netns: Netns,
    pub address: PodAddress,
}

impl Pod {
    pub async fn start(network: &PodNetwork, name: &str) -> Self {
        let netns = Netns::new();
        let address = network.attach(&netns.path, name).await.unwrap();
        Self { name: name.to_owned(), netns, address }
    }

    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address.ip(), port)
    }

    pub fn serve_tcp(&self, port: u16) {
        let (name, path) = (self.name.clone(), self.netns.path.clone());
        serve_tcp(&name, &path, port);
    }

    pub fn serve_udp(&self, port: u16) {
        let name = self.name.clone();
        let socket = run_in(&self.netns.path, || UdpSocket::bind(("0.0.0.0", port)).unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
            }
        });
    }

    pub fn ask(&self, to: SocketAddr) -> Result<(String, IpAddr), std::io::ErrorKind> {
        self.netns.run(|| ask_tcp(to))
    }
}

/// A server that answers with `name` in the network namespace at `path`.
pub fn serve_tcp(name: &str, path: &Path, port: u16) {
    let listener = run_in(path, || TcpListener::bind(("0.0.0.0", port)).unwrap());
    let name = name.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let name = name.clone();
            thread::spawn(move || {
                let peer = stream.peer_addr().unwrap().ip();
                let _ = stream.write_all(format!("{name} {peer}\n").as_bytes());
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let _ = stream.write_all(&buffer[..length]);
                }
            });
        }
    });
}

fn parse(answer: &str) -> (String, IpAddr) {
    let (name, peer) = answer.trim().split_once(' ').unwrap();
    (name.to_owned(), peer.parse().unwrap())
}

/// Connects from this thread's network namespace; who answered, and from which address it saw us come.
pub fn ask_tcp(to: SocketAddr) -> Result<(String, IpAddr), std::io::ErrorKind> {
    connect(to).map(|(_, answer)| answer)
}

pub fn connect(to: SocketAddr) -> Result<(TcpStream, (String, IpAddr)), std::io::ErrorKind> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(1_500)).map_err(|e| e.kind())?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).map_err(|e| e.kind())? == 1 && byte[0] != b'\n' {
        answer.push(byte[0]);
    }
    Ok((stream, parse(&String::from_utf8(answer).unwrap())))
}

/// Still the same connection: what is sent comes back.
pub fn echoes(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut buffer).is_ok() && &buffer == b"ping"
}

pub fn ask_udp(socket: &UdpSocket, to: SocketAddr) -> Result<(String, IpAddr), std::io::ErrorKind> {
    socket.set_read_timeout(Some(Duration::from_millis(1_500))).unwrap();
    socket.connect(to).map_err(|e| e.kind())?;
    socket.send(b"hello").map_err(|e| e.kind())?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).map_err(|e| e.kind())?;
    Ok(parse(std::str::from_utf8(&buffer[..length]).unwrap()))
}

pub fn config(state_dir: &Path) -> Config {
    Config {
        instance: "test".into(),
        bridge: "mizzen0".into(),
        pod_cidr: "10.244.0.0/24".parse().unwrap(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        mtu: 1500,
        state_dir: state_dir.to_owned(),
    }
}

/// A neighbour of the node: another machine on its network, `192.0.2.2`, the node being `192.0.2.1` on `up0`.
pub fn neighbour() -> Netns {
    let netns = Netns::new();
    let mut host = Socket::open(Family::Route).unwrap();
    let mut batch = Batch::new();
    let file = File::open(&netns.path).unwrap();
    // A veth wants a bridge in this module; the interface is taken out of use as a port by its own address.
    route::add_bridge(&mut batch, "up0", [2, 0, 0, 0, 0, 1], 1500);
    host.send(&batch).unwrap();
    let bridge = route::link(&mut host, "up0").unwrap().unwrap().index;
    let mut batch = Batch::new();
    let veth = route::Veth {
        name: "upv",
        master: bridge,
        mtu: 1500,
        peer_name: "eth0",
        peer_mac: [2, 0, 0, 0, 0, 2],
        peer_netns: file.as_fd(),
    };
    route::add_veth(&mut batch, &veth);
    route::add_address(&mut batch, bridge, "192.0.2.1".parse().unwrap(), 24);
    host.send(&batch).unwrap();
    netns.run(|| {
        let mut inside = Socket::open(Family::Route).unwrap();
        let index = route::link(&mut inside, "eth0").unwrap().unwrap().index;
        let mut batch = Batch::new();
        route::set_up(&mut batch, index);
        route::add_address(&mut batch, index, "192.0.2.2".parse().unwrap(), 24);
        // It takes the node for a router to Services and pods, as a misconfigured or curious one may.
        let gateway = Some("192.0.2.1".parse().unwrap());
        for destination in ["10.96.0.0", "10.244.0.0"] {
            let destination = destination.parse().unwrap();
            route::add_route(&mut batch, &route::Route { destination, prefix: 16, gateway, index });
        }
        inside.send(&batch).unwrap();
    });
    while !route::link(&mut host, "upv").unwrap().unwrap().ready {
        thread::sleep(Duration::from_millis(1));
    }
    netns
}
