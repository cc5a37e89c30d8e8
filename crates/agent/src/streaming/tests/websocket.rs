//! WebSocket clients.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::super::spdy::test_client::SpdyClient;
use super::super::websocket::tunnel::Tunnel;
use super::world::{World, script};

type Socket = WebSocketStream<TcpStream>;

async fn open(world: &World, path: &str, protocol: &str) -> Socket {
    let mut request = format!("ws://test{path}").into_client_request().unwrap();
    if !protocol.is_empty() {
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    }
    let (socket, answer) = tokio_tungstenite::client_async(request, world.connect().await).await.unwrap();
    let chosen = answer.headers().get("sec-websocket-protocol").map(|v| v.to_str().unwrap());
    assert_eq!(chosen.unwrap_or_default(), protocol);
    socket
}

/// A message's channel and payload, by hand.
fn split(message: Message) -> Option<(u8, Vec<u8>)> {
    match message {
        Message::Binary(data) => Some((data[0], data[1..].to_vec())),
        Message::Text(text) => Some((text.as_bytes()[0] - b'0', STANDARD.decode(&text[1..]).unwrap())),
        _ => None,
    }
}

async fn next(socket: &mut Socket) -> (u8, Vec<u8>) {
    loop {
        if let Some(message) = split(socket.next().await.unwrap().unwrap()) {
            return message;
        }
    }
}

/// What each channel carries until the server closes.
async fn rest(socket: &mut Socket) -> BTreeMap<u8, String> {
    let mut all: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Some((channel, payload)) = split(message) {
            all.entry(channel).or_default().extend(payload);
        }
    }
    all.into_iter().map(|(channel, bytes)| (channel, String::from_utf8(bytes).unwrap())).collect()
}

#[tokio::test]
async fn exec_in_every_subprotocol() {
    let world = World::new().await;
    let path = script("input=1&output=1&error=1", "read line; echo \"got $line\"; echo oops >&2; exit 3");
    let protocols = [
        "",
        "channel.k8s.io",
        "base64.channel.k8s.io",
        "v4.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "v5.channel.k8s.io",
    ];
    for protocol in protocols {
        let mut socket = open(&world, &path, protocol).await;
        assert_eq!(next(&mut socket).await, (1, vec![]), "{protocol}: the connection stands");
        let input = match protocol.contains("base64") {
            true => Message::text(format!("0{}", STANDARD.encode("hello\n"))),
            false => Message::binary(&b"\x00hello\n"[..]),
        };
        socket.send(input).await.unwrap();
        let said = rest(&mut socket).await;
        assert_eq!((said[&1].as_str(), said[&2].as_str()), ("got hello\n", "oops\n"), "{protocol}");
        if protocol.starts_with('v') {
            let status: Value = serde_json::from_str(&said[&3]).unwrap();
            assert_eq!(status["reason"], "NonZeroExitCode", "{protocol}");
            assert_eq!(status["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]), "{protocol}");
        } else {
            assert!(said[&3].contains("exit status 3"), "{protocol}: {}", said[&3]);
        }
    }
    assert_eq!(world.driver.running(), 0);
    world.eventually("all sessions end", |world| world.tasks.is_empty()).await;
}

#[tokio::test]
async fn closing_stdin_ends_it_alone() {
    let world = World::new().await;
    let mut socket = open(&world, &script("input=1&output=1", "wc -c; echo end"), "v5.channel.k8s.io").await;
    let mut piece = vec![b'x'; 30_001];
    piece[0] = 0;
    for _ in 0..50 {
        socket.send(Message::binary(piece.clone())).await.unwrap();
    }
    socket.send(Message::binary(&[255u8, 0][..])).await.unwrap();
    let said = rest(&mut socket).await;
    assert_eq!(said[&1].split_whitespace().collect::<Vec<_>>(), ["1500000", "end"]);
    assert_eq!(said[&3], r#"{"metadata":{},"status":"Success"}"#);
}

#[tokio::test]
async fn large_output_comes_whole() {
    let world = World::new().await;
    let path = script("output=1", "head -c 5000000 /dev/zero | tr '\\0' y");
    let mut socket = open(&world, &path, "v5.channel.k8s.io").await;
    let said = rest(&mut socket).await;
    assert_eq!(said[&1].len(), 5_000_000);
    assert!(said[&3].contains("Success"));
}

#[tokio::test]
async fn pings_are_answered_in_silence() {
    let world = World::new().await;
    let mut socket = open(&world, &script("output=1", "sleep 1"), "v5.channel.k8s.io").await;
    assert_eq!(next(&mut socket).await.0, 1);
    socket.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(700), socket.next()).await.unwrap();
    assert_eq!(answer.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"there?")));
}

#[tokio::test]
async fn terminals_are_resized() {
    let world = World::new().await;
    let path = script("input=1&output=1&tty=1", "read go; stty size; exit 4");
    let mut socket = open(&world, &path, "v5.channel.k8s.io").await;
    socket.send(Message::binary(&b"\x04{\"Width\":101,\"Height\":33}"[..])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    socket.send(Message::binary(&b"\x00go\n"[..])).await.unwrap();
    let said = rest(&mut socket).await;
    assert!(said[&1].contains("33 101"), "{said:?}");
    assert!(!said.contains_key(&2) && said[&3].contains("\"4\""), "{said:?}");
}

#[tokio::test]
async fn a_missing_program_is_an_internal_error() {
    let world = World::new().await;
    let mut socket = open(&world, "/exec?output=1&command=/no/such", "v4.channel.k8s.io").await;
    let status: Value = serde_json::from_str(&rest(&mut socket).await[&3]).unwrap();
    assert_eq!(status["reason"], "InternalError");
    assert!(status["message"].as_str().unwrap().contains("/no/such"), "{status}");
}

#[tokio::test]
async fn attach_follows_the_container() {
    let world = World::new().await;
    let mut socket = open(&world, "/attach?input=1&output=1&error=1", "v5.channel.k8s.io").await;
    socket.send(Message::binary(&b"\x00line\n"[..])).await.unwrap();
    let said = rest(&mut socket).await;
    assert_eq!((said[&1].as_str(), said[&2].as_str()), ("hello\ngot line\n", "bye\n"));
    assert!(said[&3].contains("Success"));
}

#[tokio::test]
async fn programs_of_clients_that_go_are_ended() {
    let world = World::new().await;
    let cases = [("", "exec sleep 1000", 1), ("input=1&", "exec cat", 0)];
    for (input, run, killed) in cases {
        let before = world.driver.killed();
        let mut socket = open(&world, &script(&format!("{input}output=1"), run), "v5.channel.k8s.io").await;
        assert_eq!(next(&mut socket).await.0, 1);
        world.eventually("it runs", |world| world.driver.running() == 1).await;
        drop(socket);
        world.eventually("it is ended", |world| world.driver.running() == 0).await;
        world.eventually("its session ends", |world| world.tasks.is_empty()).await;
        assert_eq!(world.driver.killed() - before, killed, "{run}");
    }
}

#[tokio::test]
async fn who_breaks_the_protocol_is_cut_off() {
    let world = World::new().await;
    let mut socket = open(&world, &script("input=1&output=1", "exec sleep 1000"), "v5.channel.k8s.io").await;
    socket.send(Message::binary(&[255u8][..])).await.unwrap();
    assert!(!rest(&mut socket).await.contains_key(&3));
    world.eventually("it is ended", |world| world.driver.running() == 0).await;
}

#[tokio::test]
async fn logs_come_without_channels() {
    let world = World::new().await;
    for protocol in ["", "binary.k8s.io", "base64.binary.k8s.io"] {
        let mut socket = open(&world, "/log", protocol).await;
        let mut log = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Binary(data) => log.extend(data),
                Message::Text(text) => log.extend(STANDARD.decode(text.as_bytes()).unwrap()),
                _ => {}
            }
        }
        assert_eq!(log, b"one\ntwo\n", "{protocol}");
    }
}

/// A server that greets and then echoes, on a port of its own.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(b"welcome:").await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    port
}

#[tokio::test]
async fn ports_are_forwarded_on_channels() {
    let (world, port) = (World::new().await, echo().await);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let path = format!("/portForward?ports={port}&ports={closed}");
    let mut socket = open(&world, &path, "v4.channel.k8s.io").await;
    socket.send(Message::binary(&b"\x00question"[..])).await.unwrap();
    let mut all: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    while all.get(&0).is_none_or(|data| data.len() < 18) || all.get(&3).is_none_or(|data| data.len() < 3) {
        let (channel, payload) = next(&mut socket).await;
        all.entry(channel).or_default().extend(payload);
    }
    let announced = |port: u16| port.to_le_bytes().to_vec();
    assert_eq!(all[&0], [announced(port), b"welcome:question".to_vec()].concat());
    assert_eq!(all[&1], announced(port));
    assert_eq!(all[&2], announced(closed));
    assert!(String::from_utf8_lossy(&all[&3]).contains("refused"));
    drop(socket);
    world.eventually("the session ends", |world| world.tasks.is_empty()).await;
}

#[tokio::test]
async fn spdy_is_tunnelled() {
    let (world, port) = (World::new().await, echo().await);
    let socket = open(&world, "/portForward", "SPDY/3.1+portforward.k8s.io").await;
    let mut client = SpdyClient::new(Tunnel::client(socket));
    super::spdy::forwards(&mut client, port).await;
}
