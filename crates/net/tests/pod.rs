//! The pod network against the real kernel, in network namespaces of its own. Needs root.

mod common;

use std::time::{Duration, Instant};

use common::{Netns, Pod, ask_tcp, config, in_new_network, make_sysctls_read_only, neighbour, serve_tcp};
use mizzen_net::netlink::nft::{Table, commented_rules};
use mizzen_net::netlink::{Family, Socket, route};
use mizzen_net::pod::PodNetwork;

fn links() -> Vec<String> {
    let mut socket = Socket::open(Family::Route).unwrap();
    route::links(&mut socket).unwrap().into_iter().map(|link| link.name).collect()
}

#[test]
fn pods_reach_each_other_the_host_and_the_world() {
    in_new_network(|| async {
        let state = tempfile::tempdir().unwrap();
        let network = PodNetwork::open(config(state.path())).await.unwrap();
        let outside = neighbour();
        serve_tcp("outside", &outside.path, 80);
        let (a, b) = (Pod::start(&network, "a").await, Pod::start(&network, "b").await);
        a.serve_tcp(80);
        serve_tcp("host", "/proc/thread-self/ns/net".as_ref(), 8080);
        assert_eq!(b.ask(a.at(80)).unwrap(), ("a".into(), b.address.ip()), "pods see each other's addresses");
        assert_eq!(a.ask(a.at(80)).unwrap(), ("a".into(), a.address.ip()), "a pod reaches itself");
        assert_eq!(ask_tcp(a.at(80)).unwrap(), ("a".into(), network.gateway()), "the host reaches pods");
        let host = (network.gateway(), 8080).into();
        assert_eq!(a.ask(host).unwrap(), ("host".into(), a.address.ip()), "pods reach the host");
        let (who, from) = a.ask("192.0.2.2:80".parse().unwrap()).unwrap();
        assert_eq!((who.as_str(), from.to_string().as_str()), ("outside", "192.0.2.1"), "with the node's address");
    });
}

#[test]
fn repeating_and_restarting_change_nothing_and_detaching_frees() {
    in_new_network(|| async {
        let state = tempfile::tempdir().unwrap();
        let network = PodNetwork::open(config(state.path())).await.unwrap();
        let a = Pod::start(&network, "a").await;
        let b = Pod::start(&network, "b").await;
        assert_eq!(network.attach(&a.netns.path, "a").await.unwrap(), a.address);
        drop(network);
        let network = PodNetwork::open(config(state.path())).await.unwrap();
        let kept = network.adopt(&["a".into()]).await.unwrap();
        assert_eq!(kept.into_iter().collect::<Vec<_>>(), [("a".to_owned(), a.address.clone())]);
        a.serve_tcp(80);
        assert!(ask_tcp(a.at(80)).is_ok(), "a running pod stays connected");
        let c = Pod::start(&network, "c").await;
        assert_ne!(c.address, b.address, "an address rests before its next use");
        network.detach("a").await.unwrap();
        network.detach("a").await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while links().iter().filter(|name| name.starts_with("mz") && name.len() == 15).count() > 1 {
            assert!(Instant::now() < deadline, "interfaces of ended pods are removed: {:?}", links());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(network);
        for _ in 0..2 {
            PodNetwork::clean_up(config(state.path())).await.unwrap();
        }
        assert_eq!(links().iter().filter(|name| name.starts_with("m")).count(), 0, "{:?}", links());
    });
}

#[test]
fn it_works_where_sysctls_are_read_only() {
    in_new_network(|| async {
        make_sysctls_read_only();
        assert!(std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").is_err());
        let state = tempfile::tempdir().unwrap();
        let outside = neighbour();
        serve_tcp("outside", &outside.path, 80);
        let network = PodNetwork::open(config(state.path())).await.unwrap();
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "0");
        let (a, b) = (Pod::start(&network, "a").await, Pod::start(&network, "b").await);
        a.serve_tcp(80);
        assert!(b.ask(a.at(80)).is_ok(), "pods reach each other");
        assert!(a.ask("192.0.2.2:80".parse().unwrap()).is_ok(), "pods reach the world");
    });
}

#[test]
fn a_pod_that_is_made_anew_at_once_keeps_its_new_interface() {
    in_new_network(|| async {
        let state = tempfile::tempdir().unwrap();
        let network = PodNetwork::open(config(state.path())).await.unwrap();
        let first = Pod::start(&network, "a").await;
        network.detach("a").await.unwrap();
        let second = Pod::start(&network, "a").await;
        second.serve_tcp(80);
        assert_ne!(first.address, second.address);
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert!(ask_tcp(second.at(80)).is_ok(), "what is removed later is the old one");
    });
}

#[test]
fn a_failed_attachment_frees_its_address() {
    in_new_network(|| async {
        let state = tempfile::tempdir().unwrap();
        let network = PodNetwork::open(config(state.path())).await.unwrap();
        assert!(network.attach("/nonexistent".as_ref(), "a").await.is_err());
        let kept = network.adopt(&["a".into()]).await.unwrap();
        assert!(kept.is_empty(), "{kept:?}");
    });
}

#[test]
fn many_pods_are_attached_at_once() {
    in_new_network(|| async {
        let state = tempfile::tempdir().unwrap();
        let network = PodNetwork::open(config(state.path())).await.unwrap();
        let namespaces: Vec<_> = (0..20).map(|_| Netns::new()).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for (number, netns) in namespaces.iter().enumerate() {
            let (network, path) = (network.clone(), netns.path.clone());
            tasks.spawn(async move { network.attach(&path, &format!("pod-{number}")).await.unwrap().ip() });
        }
        let addresses: std::collections::BTreeSet<_> = tasks.join_all().await.into_iter().collect();
        assert_eq!(addresses.len(), 20);
    });
}

/// What Docker leaves on a machine: forwarded packets are dropped. Returns how many rules the chain has.
fn firewall() -> usize {
    use mizzen_net::netlink::message::Batch;
    let mut socket = Socket::open(Family::Netfilter).unwrap();
    let mut batch = Batch::new();
    let header = [libc::NFPROTO_IPV4 as u8, 0, 0, 0];
    batch.message(0x10, 0, "begin", |m| m.raw(&[0, 0, 0, 10]));
    batch.message(10 << 8, libc::NLM_F_CREATE, "table", |m| {
        m.raw(&header);
        m.text(1, "filter");
    });
    batch.message(10 << 8 | 3, libc::NLM_F_CREATE, "chain", |m| {
        m.raw(&header);
        m.text(1, "filter");
        m.text(3, "FORWARD");
        m.nested(4, |m| {
            m.be32(1, 2);
            m.be32(2, 0);
        });
        m.be32(5, 0);
        m.text(7, "filter");
    });
    batch.message(0x11, 0, "end", |m| m.raw(&[0, 0, 0, 10]));
    socket.send(&batch).unwrap();
    let table = Table { family: mizzen_net::netlink::nft::Family::V4, name: "filter".into() };
    commented_rules(&mut socket, &table, "FORWARD", "mizzen-test-pods").unwrap().len()
}

#[test]
fn pods_pass_a_firewall_that_drops_forwarded_packets() {
    in_new_network(|| async {
        assert_eq!(firewall(), 0);
        let state = tempfile::tempdir().unwrap();
        let outside = neighbour();
        serve_tcp("outside", &outside.path, 80);
        let network = PodNetwork::open(config(state.path())).await.unwrap();
        let (a, b) = (Pod::start(&network, "a").await, Pod::start(&network, "b").await);
        a.serve_tcp(80);
        assert!(b.ask(a.at(80)).is_ok(), "pods reach each other");
        assert!(a.ask("192.0.2.2:80".parse().unwrap()).is_ok(), "pods reach the world");
        drop(network);
        let again = PodNetwork::open(config(state.path())).await.unwrap();
        assert_eq!(firewall(), 2, "our rules are there once");
        drop(again);
        PodNetwork::clean_up(config(state.path())).await.unwrap();
        assert_eq!(firewall(), 0);
    });
}

#[test]
fn attaching_takes_about_a_millisecond() {
    in_new_network(|| async {
        let state = tempfile::tempdir().unwrap();
        let network = PodNetwork::open(config(state.path())).await.unwrap();
        let namespaces: Vec<_> = (0..50).map(|_| Netns::new()).collect();
        let mut times = Vec::new();
        for (number, netns) in namespaces.iter().enumerate() {
            let start = Instant::now();
            network.attach(&netns.path, &format!("pod-{number}")).await.unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        println!("attach: median {:?}, p90 {:?}, max {:?}", times[25], times[45], times[49]);
        assert!(times[25] < Duration::from_millis(50));
    });
}
