//! The service proxy against the real kernel: pods and services in network namespaces of their own. Needs root.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use common::{Netns, Pod, ask_tcp, ask_udp, config, connect, echoes, in_new_network, neighbour, serve_tcp};
use mizzen_net::pod::PodNetwork;
use mizzen_net::proxy::{Config, Proxy};
use mizzen_net::service::{HostPort, Protocol, ServicePort, ServiceTable};

const SERVICE: &str = "10.96.0.10";

fn proxy() -> Proxy {
    let pods = config("/unused".as_ref());
    Proxy::new(Config { instance: pods.instance, pod_cidr: pods.pod_cidr, cluster_cidrs: pods.cluster_cidrs })
}

fn service(endpoints: &[SocketAddr]) -> ServicePort {
    ServicePort {
        protocol: Protocol::Tcp,
        port: 80,
        cluster_ips: vec![SERVICE.parse().unwrap()],
        external_ips: vec![],
        node_port: Some(30080),
        affinity_seconds: None,
        internal_endpoints: endpoints.to_vec(),
        external_endpoints: endpoints.to_vec(),
        internal_drop: false,
        external_drop: false,
        external_local: false,
    }
}

fn table(ports: &[ServicePort]) -> Arc<ServiceTable> {
    let ports = ports.iter().enumerate().map(|(number, port)| (format!("default/service:{number}"), port.clone()));
    Arc::new(ServiceTable { ports: ports.collect(), host_ports: vec![] })
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn cluster_ip() -> SocketAddr {
    at("10.96.0.10:80")
}

/// A node with two pods, a and b, that serve TCP and UDP at port 8080, and another machine.
struct Node {
    _state: tempfile::TempDir,
    network: PodNetwork,
    proxy: Proxy,
    a: Pod,
    b: Pod,
    outside: Netns,
}

impl Node {
    async fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        let network = PodNetwork::open(config(state.path())).await.unwrap();
        let (a, b) = (Pod::start(&network, "a").await, Pod::start(&network, "b").await);
        for pod in [&a, &b] {
            pod.serve_tcp(8080);
            pod.serve_udp(8080);
        }
        Self { _state: state, network, proxy: proxy(), a, b, outside: neighbour() }
    }

    fn both(&self) -> [SocketAddr; 2] {
        [self.a.at(8080), self.b.at(8080)]
    }

    async fn apply(&self, ports: &[ServicePort]) {
        self.proxy.apply(table(ports)).await.unwrap();
    }
}

fn names(mut ask: impl FnMut() -> Result<(String, IpAddr), ErrorKind>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..100 {
        *counts.entry(ask().unwrap().0).or_default() += 1;
    }
    counts
}

#[test]
fn a_service_is_reached_from_the_host_a_pod_and_its_own_endpoint() {
    in_new_network(|| async {
        let node = Node::start().await;
        node.apply(&[service(&[node.a.at(8080)])]).await;
        assert_eq!(ask_tcp(cluster_ip()).unwrap(), ("a".into(), node.network.gateway()), "from the host");
        assert_eq!(
            node.b.ask(cluster_ip()).unwrap(),
            ("a".into(), node.b.address.ip()),
            "the client keeps its address"
        );
        assert_eq!(node.a.ask(cluster_ip()).unwrap(), ("a".into(), node.network.gateway()), "a pod reaches itself");
    });
}

#[test]
fn it_works_whether_or_not_bridged_frames_meet_the_rules() {
    for setting in ["0", "1"] {
        in_new_network(|| async move {
            // Present where the module br_netfilter is loaded; other software switches it on.
            let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", setting);
            let node = Node::start().await;
            node.apply(&[service(&[node.a.at(8080)])]).await;
            assert_eq!(node.b.ask(cluster_ip()).unwrap(), ("a".into(), node.b.address.ip()), "{setting}");
            assert_eq!(node.a.ask(cluster_ip()).unwrap().0, "a", "{setting}");
            assert_eq!(node.b.ask(node.a.at(8080)).unwrap().0, "a", "{setting}");
            let (mut stream, _) = node.b.netns.run(|| connect(cluster_ip())).unwrap();
            for _ in 0..50 {
                assert!(echoes(&mut stream), "{setting}");
            }
        });
    }
}

#[test]
fn ipv6_services_are_served() {
    use mizzen_net::netlink::{Family, Socket, message::Batch, route};
    in_new_network(|| async {
        let node = Node::start().await;
        let mut socket = Socket::open(Family::Route).unwrap();
        let index = route::link(&mut socket, "mizzen0").unwrap().unwrap().index;
        let mut batch = Batch::new();
        route::add_address(&mut batch, index, "fd00::1".parse().unwrap(), 64);
        let services = route::Route { destination: "fd10::".parse().unwrap(), prefix: 64, gateway: None, index };
        route::add_route(&mut batch, &services);
        socket.send(&batch).unwrap();
        let listener = std::net::TcpListener::bind("[fd00::1]:8080").unwrap();
        let affine = ServicePort {
            cluster_ips: vec!["fd10::10".parse().unwrap(), SERVICE.parse().unwrap()],
            affinity_seconds: Some(60),
            ..service(&[at("[fd00::1]:8080"), node.a.at(8080)])
        };
        node.apply(&[affine]).await;
        for _ in 0..2 {
            assert!(
                std::net::TcpStream::connect_timeout(&at("[fd10::10]:80"), std::time::Duration::from_secs(1)).is_ok()
            );
            assert_eq!(listener.accept().unwrap().0.local_addr().unwrap(), at("[fd00::1]:8080"));
        }
        assert_eq!(ask_tcp(at("[fd10::10]:81")).unwrap_err(), ErrorKind::ConnectionRefused);
        assert_eq!(ask_tcp(cluster_ip()).unwrap().0, "a", "each family has its own endpoints");
        node.apply(&[]).await;
    });
}

#[test]
fn the_host_reaches_services_past_its_default_route() {
    use mizzen_net::netlink::{Family, Socket, message::Batch, route};
    in_new_network(|| async {
        let node = Node::start().await;
        let mut socket = Socket::open(Family::Route).unwrap();
        let index = route::link(&mut socket, "up0").unwrap().unwrap().index;
        let mut batch = Batch::new();
        let (destination, gateway) = ("0.0.0.0".parse().unwrap(), Some("192.0.2.2".parse().unwrap()));
        route::add_route(&mut batch, &route::Route { destination, prefix: 0, gateway, index });
        socket.send(&batch).unwrap();
        node.apply(&[service(&[node.a.at(8080)])]).await;
        assert_eq!(ask_tcp(cluster_ip()).unwrap(), ("a".into(), node.network.gateway()));
        // An address of the Services' range that is none of theirs goes where it always went.
        node.outside.run(|| {
            let mut socket = Socket::open(Family::Route).unwrap();
            let index = route::link(&mut socket, "eth0").unwrap().unwrap().index;
            let mut batch = Batch::new();
            route::add_address(&mut batch, index, "10.96.9.9".parse().unwrap(), 32);
            socket.send(&batch).unwrap();
        });
        serve_tcp("outside", &node.outside.path, 80);
        assert_eq!(ask_tcp(at("10.96.9.9:80")).unwrap().0, "outside");
    });
}

#[test]
fn clients_outside_of_the_cluster_reach_services_with_the_nodes_address() {
    in_new_network(|| async {
        let node = Node::start().await;
        node.apply(&[service(&[node.a.at(8080)])]).await;
        let answer = node.outside.run(|| ask_tcp(cluster_ip())).unwrap();
        assert_eq!(answer, ("a".into(), node.network.gateway()), "so that answers come back this way");
    });
}

#[test]
fn pods_are_not_told_of_a_shorter_way() {
    in_new_network(|| async {
        let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
        let node = Node::start().await;
        let (mut stream, _) = node.b.netns.run(|| connect(node.a.at(8080))).unwrap();
        for _ in 0..50 {
            assert!(echoes(&mut stream));
        }
        let neighbours = node.b.netns.run(|| std::fs::read_to_string("/proc/thread-self/net/arp").unwrap());
        assert!(neighbours.contains("10.244.0.1 "), "{neighbours}");
        assert!(!neighbours.contains(&node.a.address.ip().to_string()), "{neighbours}");
    });
}

#[test]
fn connections_spread_over_all_endpoints() {
    in_new_network(|| async {
        let node = Node::start().await;
        node.apply(&[service(&node.both())]).await;
        let counts = names(|| node.b.ask(cluster_ip()));
        assert_eq!(counts.len(), 2, "{counts:?}");
        assert!(counts.values().all(|count| *count > 20), "{counts:?}");
    });
}

#[test]
fn what_no_endpoint_serves_is_refused_or_dropped() {
    in_new_network(|| async {
        let node = Node::start().await;
        let udp = ServicePort { protocol: Protocol::Udp, node_port: Some(30053), port: 53, ..service(&[]) };
        node.apply(&[service(&[]), udp]).await;
        for (what, to) in
            [("service", cluster_ip()), ("other port", at("10.96.0.10:81")), ("node", at("192.0.2.1:30080"))]
        {
            assert_eq!(node.a.ask(to).unwrap_err(), ErrorKind::ConnectionRefused, "{what} from a pod");
            assert_eq!(ask_tcp(to).unwrap_err(), ErrorKind::ConnectionRefused, "{what} from the host");
        }
        let refused = node.a.netns.run(|| ask_udp(&UdpSocket::bind("0.0.0.0:0").unwrap(), at("10.96.0.10:53")));
        assert_eq!(refused.unwrap_err(), ErrorKind::ConnectionRefused, "UDP");
        let drop = ServicePort { internal_drop: true, external_drop: true, ..service(&[]) };
        node.apply(&[drop]).await;
        assert_eq!(node.a.ask(cluster_ip()).unwrap_err(), ErrorKind::TimedOut, "dropped");
        node.apply(&[service(&[node.a.at(8080)])]).await;
        assert!(node.a.ask(cluster_ip()).is_ok(), "served again");
        node.apply(&[]).await;
        assert!(node.a.ask(cluster_ip()).is_err(), "gone");
    });
}

#[test]
fn clients_keep_their_endpoint_until_it_is_gone() {
    in_new_network(|| async {
        let node = Node::start().await;
        let affinity = |endpoints: &[SocketAddr]| ServicePort { affinity_seconds: Some(3), ..service(endpoints) };
        node.apply(&[affinity(&node.both())]).await;
        for client in [&node.a, &node.b] {
            let counts = names(|| client.ask(cluster_ip()));
            assert_eq!(counts.values().copied().collect::<Vec<_>>(), [100], "{counts:?}");
        }
        let mut used = BTreeSet::new();
        for _ in 0..20 {
            used.insert(node.b.ask(cluster_ip()).unwrap().0);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let first = used.pop_first().unwrap();
        let other = if first == "a" { &node.b } else { &node.a };
        node.apply(&[affinity(&[other.at(8080)])]).await;
        assert_eq!(node.b.ask(cluster_ip()).unwrap().0, other.name, "its endpoint is gone");
        node.apply(&[affinity(&node.both())]).await;
        assert_eq!(names(|| node.b.ask(cluster_ip())).keys().collect::<Vec<_>>(), [&other.name]);
        let start = Instant::now();
        let mut seen = BTreeSet::new();
        while seen.len() < 2 {
            assert!(start.elapsed().as_secs() < 60, "affinity ends with its time");
            tokio::time::sleep(std::time::Duration::from_millis(3_200)).await;
            seen.insert(node.b.ask(cluster_ip()).unwrap().0);
        }
    });
}

#[test]
fn node_ports_are_reached_from_everywhere() {
    in_new_network(|| async {
        // Distributions differ; strict checking of sources must not be in the way.
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap();
        let node = Node::start().await;
        node.apply(&[service(&[node.a.at(8080)])]).await;
        let to = at("192.0.2.1:30080");
        let gateway = node.network.gateway();
        assert_eq!(node.outside.run(|| ask_tcp(to)).unwrap(), ("a".into(), gateway), "from outside, masqueraded");
        assert_eq!(node.b.ask(to).unwrap().0, "a", "from a pod");
        assert_eq!(node.a.ask(to).unwrap().0, "a", "from itself");
        assert_eq!(ask_tcp(to).unwrap().0, "a", "from the host");
        assert_eq!(ask_tcp(at("127.0.0.1:30080")).unwrap(), ("a".into(), gateway), "from the host by loopback");
        assert_eq!(node.outside.run(|| ask_tcp(at("192.0.2.1:30081"))).unwrap_err(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn the_local_policy_keeps_the_source_and_serves_pods_as_cluster() {
    in_new_network(|| async {
        let node = Node::start().await;
        let external = "198.51.100.7".parse().unwrap();
        let local = |external_endpoints: &[SocketAddr]| ServicePort {
            external_local: true,
            external_ips: vec![external],
            external_endpoints: external_endpoints.to_vec(),
            external_drop: external_endpoints.is_empty(),
            ..service(&node.both())
        };
        node.apply(&[local(&[node.a.at(8080)])]).await;
        let to = at("192.0.2.1:30080");
        let client: IpAddr = "192.0.2.2".parse().unwrap();
        for _ in 0..10 {
            assert_eq!(node.outside.run(|| ask_tcp(to)).unwrap(), ("a".into(), client));
        }
        assert_eq!(names(|| node.b.ask(to)).len(), 2, "pods reach all endpoints");
        assert_eq!(names(|| ask_tcp(at("127.0.0.1:30080"))).len(), 2, "the host reaches all endpoints");
        assert_eq!(names(|| node.b.ask(SocketAddr::new(external, 80))).len(), 2, "at the external address too");
        node.apply(&[local(&[])]).await;
        assert_eq!(node.outside.run(|| ask_tcp(to)).unwrap_err(), ErrorKind::TimedOut, "none here: dropped");
        assert!(node.b.ask(to).is_ok());
    });
}

#[test]
fn established_connections_outlive_changes() {
    in_new_network(|| async {
        let node = Node::start().await;
        node.apply(&[service(&[node.a.at(8080)])]).await;
        let (mut stream, (who, _)) = node.b.netns.run(|| connect(cluster_ip())).unwrap();
        assert_eq!(who, "a");
        node.apply(&[service(&[node.b.at(8080)])]).await;
        assert!(echoes(&mut stream), "after a change");
        assert_eq!(node.b.ask(cluster_ip()).unwrap().0, "b", "new ones go to the new endpoint");
        node.proxy.rebuild().await.unwrap();
        assert!(echoes(&mut stream), "after rebuilding");
        let restarted = proxy();
        assert!(restarted.apply(table(&[service(&node.both())])).await.unwrap().rebuilt);
        assert!(echoes(&mut stream), "after a restart");
        assert_eq!(node.proxy.apply(table(&[service(&[node.b.at(8080)])])).await.unwrap().steps, 0, "nothing to do");
    });
}

#[test]
fn udp_clients_move_on_when_their_endpoint_is_gone() {
    in_new_network(|| async {
        let node = Node::start().await;
        let udp = |to: SocketAddr| ServicePort { protocol: Protocol::Udp, port: 53, ..service(&[to]) };
        node.apply(&[udp(node.a.at(8080))]).await;
        let to = at("10.96.0.10:53");
        let socket = node.b.netns.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        assert_eq!(ask_udp(&socket, to).unwrap().0, "a");
        let applied = node.proxy.apply(table(&[udp(node.b.at(8080))])).await.unwrap();
        assert_eq!(applied.forgotten, 1);
        assert_eq!(ask_udp(&socket, to).unwrap().0, "b", "the same socket reaches the new endpoint");
    });
}

#[test]
fn host_ports_lead_to_pods() {
    in_new_network(|| async {
        let node = Node::start().await;
        let to_a = HostPort { protocol: Protocol::Tcp, host_ip: None, host_port: 8088, to: node.a.at(8080) };
        let to_b =
            HostPort { host_ip: Some("127.0.0.1".parse().unwrap()), host_port: 8089, to: node.b.at(8080), ..to_a };
        let table = ServiceTable { ports: BTreeMap::new(), host_ports: vec![to_a, to_b] };
        node.proxy.apply(Arc::new(table)).await.unwrap();
        let client: IpAddr = "192.0.2.2".parse().unwrap();
        assert_eq!(node.outside.run(|| ask_tcp(at("192.0.2.1:8088"))).unwrap(), ("a".into(), client));
        assert_eq!(node.a.ask(at("192.0.2.1:8088")).unwrap().0, "a", "itself");
        assert_eq!(ask_tcp(at("127.0.0.1:8088")).unwrap().0, "a");
        assert_eq!(ask_tcp(at("127.0.0.1:8089")).unwrap().0, "b");
        assert!(ask_tcp(at("192.0.2.1:8089")).is_err(), "only at its address");
    });
}

#[test]
fn endpoints_on_the_host_and_outside_are_reached() {
    in_new_network(|| async {
        let node = Node::start().await;
        serve_tcp("host", "/proc/thread-self/ns/net".as_ref(), 6443);
        serve_tcp("outside", &node.outside.path, 9000);
        let outside = ServicePort {
            cluster_ips: vec!["10.96.0.11".parse().unwrap()],
            node_port: None,
            ..service(&[at("192.0.2.2:9000")])
        };
        node.apply(&[service(&[at("192.0.2.1:6443")]), outside]).await;
        assert_eq!(node.a.ask(cluster_ip()).unwrap(), ("host".into(), node.a.address.ip()));
        assert_eq!(ask_tcp(cluster_ip()).unwrap().0, "host");
        assert_eq!(node.a.ask(at("10.96.0.11:80")).unwrap(), ("outside".into(), "192.0.2.1".parse().unwrap()));
        assert_eq!(ask_tcp(at("10.96.0.11:80")).unwrap(), ("outside".into(), "192.0.2.1".parse().unwrap()));
    });
}

#[test]
fn pods_do_not_reach_what_listens_on_loopback() {
    in_new_network(|| async {
        let node = Node::start().await;
        serve_tcp("host", "/proc/thread-self/ns/net".as_ref(), 9999);
        assert!(ask_tcp(at("127.0.0.1:9999")).is_ok());
        let reached = node.a.netns.run(|| {
            use mizzen_net::netlink::{Family, Socket, message::Batch, route};
            // A hostile pod with the right to change its routes sends loopback addresses to the node.
            let mut socket = Socket::open(Family::Route).unwrap();
            let index = route::link(&mut socket, "eth0").unwrap().unwrap().index;
            let mut batch = Batch::new();
            batch.message(libc::RTM_NEWLINK, libc::NLM_F_ACK, "take lo down", |m| {
                m.raw(&[0; 4]);
                m.raw(&1u32.to_ne_bytes());
                m.raw(&0u32.to_ne_bytes());
                m.raw(&(libc::IFF_UP as u32).to_ne_bytes());
            });
            route::set_device(&mut batch, index, route::DeviceSetting::RouteLocalnet, 1);
            let destination = "127.0.0.2".parse().unwrap();
            let gateway = Some(node.network.gateway());
            route::add_route(&mut batch, &route::Route { destination, prefix: 32, gateway, index });
            socket.send(&batch).unwrap();
            ask_tcp(at("127.0.0.2:9999"))
        });
        assert!(reached.is_err(), "{reached:?}");
    });
}

#[test]
fn removed_rules_come_back_and_clean_up_leaves_nothing() {
    in_new_network(|| async {
        let node = Node::start().await;
        node.apply(&[service(&[node.a.at(8080)])]).await;
        let pods = config("/unused".as_ref());
        let cfg = Config { instance: pods.instance, pod_cidr: pods.pod_cidr, cluster_cidrs: pods.cluster_cidrs };
        for _ in 0..2 {
            Proxy::clean_up(cfg.clone()).await.unwrap();
        }
        assert!(ask_tcp(cluster_ip()).is_err());
        let applied = node.proxy.apply(table(&[service(&node.both())])).await.unwrap();
        assert!(applied.rebuilt);
        assert!(ask_tcp(cluster_ip()).is_ok());
    });
}

#[test]
fn a_thousand_services_are_programmed_fast() {
    in_new_network(|| async {
        let many = |services: u16, changed: u8| {
            let ports = (0..services).map(|n| {
                let [high, low] = n.to_be_bytes();
                let endpoints: Vec<_> = (0..10).map(|e| SocketAddr::from(([10, 244, high + e, low], 8080))).collect();
                let mut port = ServicePort {
                    cluster_ips: vec![IpAddr::from([10, 96, high + 1, low])],
                    node_port: None,
                    ..service(&endpoints)
                };
                if n == 7 {
                    port.internal_endpoints[3] = SocketAddr::from(([10, 244, 99, changed], 8080));
                }
                (format!("default/s{n}:http"), port)
            });
            Arc::new(ServiceTable { ports: ports.collect(), host_ports: vec![] })
        };
        for services in [1_000, 10_000] {
            let proxy = proxy();
            let table = many(services, 1);
            let start = Instant::now();
            proxy.apply(table).await.unwrap();
            let built = start.elapsed();
            let changed = many(services, 2);
            let start = Instant::now();
            let steps = proxy.apply(changed).await.unwrap().steps;
            println!("{services} services x 10: built in {built:?}, one endpoint changed in {:?}", start.elapsed());
            assert_eq!(steps, 2, "one element goes, one comes");
        }
    });
}
