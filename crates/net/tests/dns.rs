//! The DNS server with real sockets on loopback, and an upstream that is another such server or a small fake.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use mizzen_net::dns::{Config, DnsServer, EndpointName, ServiceNames, Zone};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

fn zone(web: [u8; 4]) -> Arc<Zone> {
    let many =
        (0..200u8).map(|n| EndpointName { hostname: None, address: IpAddr::from([10, 244, 1, n]), ports: vec![] });
    let services = [
        ("web", ServiceNames::Cluster { addresses: vec![IpAddr::from(web)], ports: vec![] }),
        ("many", ServiceNames::Headless { endpoints: many.collect() }),
        ("away", ServiceNames::External { target: "example.com".into() }),
    ];
    let services = services.into_iter().map(|(name, names)| (("default".to_owned(), name.to_owned()), names));
    Arc::new(Zone { domain: "cluster.local".into(), services: services.collect() })
}

async fn server(upstreams: Vec<SocketAddr>) -> DnsServer {
    let config = Config { domain: "cluster.local".into(), upstreams, ttl_seconds: 5 };
    let server = DnsServer::bind(&["127.0.0.1:0".parse().unwrap()], config).await.unwrap();
    server.set_zone(zone([10, 96, 0, 10]));
    server
}

fn question(name: &str) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message
}

async fn by_udp(server: &DnsServer, name: &str) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.addresses()[0]).await.unwrap();
    socket.send(&question(name).to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(8), socket.recv(&mut buffer)).await.unwrap().unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn by_tcp(server: &DnsServer, name: &str) -> Message {
    let mut stream = TcpStream::connect(server.addresses()[0]).await.unwrap();
    let bytes = question(name).to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut buffer).await.unwrap();
    Message::from_vec(&buffer).unwrap()
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().filter(|record| record.record_type() == RecordType::A).map(|r| r.data.to_string()).collect()
}

/// An upstream that gives the name `example.com` many addresses, cut by UDP; counts what it is asked by UDP.
async fn upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = UdpSocket::bind(address).await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let answer = |bytes: &[u8], by_udp: bool| {
        let request = Message::from_vec(bytes).unwrap();
        let mut reply = Message::response(request.metadata.id, OpCode::Query);
        reply.add_query(request.queries[0].clone());
        let name = request.queries[0].name().clone();
        match name.to_ascii().as_str() {
            "example.com." if by_udp => reply.metadata.truncation = true,
            "example.com." | "short.com." => {
                for last in 1..=20 {
                    reply.add_answer(Record::from_rdata(name.clone(), 300, RData::A(A::new(192, 0, 2, last))));
                }
            }
            _ => reply.metadata.response_code = ResponseCode::NXDomain,
        }
        reply.to_vec().unwrap()
    };
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            counted.fetch_add(1, Ordering::Relaxed);
            // A forged answer first: its id is wrong.
            let mut forged = answer(&buffer[..length], true);
            forged[0] ^= 0xff;
            socket.send_to(&forged, peer).await.unwrap();
            socket.send_to(&answer(&buffer[..length], true), peer).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut buffer).await.unwrap();
            let reply = answer(&buffer, false);
            stream.write_u16(reply.len() as u16).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    (address, count)
}

#[tokio::test]
async fn names_of_the_cluster_are_answered_and_change_at_once() {
    let server = server(vec![]).await;
    assert_eq!(addresses(&by_udp(&server, "web.default.svc.cluster.local.").await), ["10.96.0.10"]);
    assert_eq!(addresses(&by_tcp(&server, "web.default.svc.cluster.local.").await), ["10.96.0.10"]);
    server.set_zone(zone([10, 96, 0, 11]));
    assert_eq!(addresses(&by_udp(&server, "web.default.svc.cluster.local.").await), ["10.96.0.11"]);
    let missing = by_udp(&server, "none.default.svc.cluster.local.").await;
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    let elsewhere = by_udp(&server, "example.com.").await;
    assert_eq!(elsewhere.metadata.response_code, ResponseCode::Refused, "there is nobody to ask");
}

#[tokio::test]
async fn long_answers_are_cut_by_udp_and_whole_by_tcp() {
    let server = server(vec![]).await;
    let cut = by_udp(&server, "many.default.svc.cluster.local.").await;
    assert!(cut.metadata.truncation && !cut.answers.is_empty() && cut.answers.len() < 200);
    assert_eq!(by_tcp(&server, "many.default.svc.cluster.local.").await.answers.len(), 200);
}

#[tokio::test]
async fn other_names_come_from_upstream_and_are_remembered() {
    let (address, count) = upstream().await;
    let server = server(vec![address]).await;
    assert_eq!(addresses(&by_udp(&server, "short.com.").await).len(), 20);
    let answer = by_tcp(&server, "example.com.").await;
    assert_eq!(addresses(&answer).len(), 20, "a cut answer is asked for again by TCP");
    let asked = count.load(Ordering::Relaxed);
    assert_eq!(addresses(&by_tcp(&server, "EXAMPLE.com.").await).len(), 20);
    assert_eq!(count.load(Ordering::Relaxed), asked, "from memory");
    assert_eq!(by_udp(&server, "missing.com.").await.metadata.response_code, ResponseCode::NXDomain);
    let alias = by_tcp(&server, "away.default.svc.cluster.local.").await;
    assert_eq!(alias.answers[0].record_type(), RecordType::CNAME);
    assert_eq!(addresses(&alias).len(), 20, "an external name is followed");
}

#[tokio::test]
async fn a_silent_upstream_delays_nobody_else() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, _) = upstream().await;
    let server = Arc::new(server(vec![silent.local_addr().unwrap(), address]).await);
    let asking = Arc::clone(&server);
    let slow = tokio::spawn(async move { by_udp(&asking, "missing.com.").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let start = Instant::now();
    assert_eq!(by_udp(&server, "web.default.svc.cluster.local.").await.answers.len(), 1);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(slow.await.unwrap().metadata.response_code, ResponseCode::NXDomain, "the second one answers");
}

#[tokio::test]
async fn garbage_does_not_stop_it() {
    let server = server(vec![]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in 0..200 {
        let garbage: Vec<u8> = (0..length).map(|n: usize| (n * 37 + length) as u8).collect();
        socket.send_to(&garbage, server.addresses()[0]).await.unwrap();
    }
    assert_eq!(by_udp(&server, "web.default.svc.cluster.local.").await.answers.len(), 1);
}
