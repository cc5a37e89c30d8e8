//! SPDY clients.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::spdy::test_client::{Got, SpdyClient};
use super::world::{Connection, World, script, upgrade};

async fn open(world: &World, path: &str, version: &str) -> SpdyClient<impl Connection + use<>> {
    SpdyClient::new(upgrade(world.connect().await, path, version).await.unwrap())
}

#[tokio::test]
async fn exec_in_every_version() {
    let world = World::new().await;
    let path = script("input=1&output=1&error=1", "cat; echo oops >&2; exit 3");
    for version in ["channel.k8s.io", "v2.channel.k8s.io", "v3.channel.k8s.io", "v4.channel.k8s.io"] {
        let mut client = open(&world, &path, version).await;
        for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
            client.open(id, &[("streamtype", kind)], false).await;
            assert_eq!(client.next().await, Got::Reply(id), "{version}");
        }
        client.data(3, b"some ", false).await;
        client.data(3, b"input", true).await;
        let said = client.finish(&[1, 5, 7]).await;
        assert_eq!(said[&5].as_deref(), Some("some input"), "{version}");
        assert_eq!(said[&7].as_deref(), Some("oops\n"), "{version}");
        let error = said[&1].as_deref().unwrap();
        if version.starts_with("v4") {
            let status: Value = serde_json::from_str(error).unwrap();
            assert_eq!(status["details"]["causes"][0]["message"], "3");
        } else {
            assert!(error.contains("exit status 3"), "{version}: {error}");
        }
    }
    world.eventually("all sessions end", |world| world.tasks.is_empty()).await;
    assert_eq!(upgrade(world.connect().await, &path, "v9.channel.k8s.io").await.err().map(|c| c.as_u16()), Some(403));
}

#[tokio::test]
async fn large_streams_come_whole_though_windows_are_never_opened() {
    let world = World::new().await;
    let mut client = open(&world, &script("input=1&output=1", "cat"), "v4.channel.k8s.io").await;
    for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
        client.open(id, &[("streamtype", kind)], false).await;
    }
    // One frame of 100 KB, then echoed pieces, in turn: a client that sends all before it reads could block itself.
    let piece = vec![b'z'; 100_000];
    let (mut back, mut credit) = (0, 0);
    for _ in 0..30 {
        client.data(3, &piece, false).await;
        let until = back + piece.len();
        while back < until {
            match client.next().await {
                Got::Data { stream: 5, data, .. } => back += data.len(),
                Got::WindowUpdate { stream: 3, delta } => credit += delta,
                Got::Reply(_) | Got::WindowUpdate { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(credit > 2_900_000, "windows are opened for clients that keep them: {credit}");
    client.data(3, b"", true).await;
    assert!(client.finish(&[1, 5]).await[&1].as_deref().unwrap().contains("Success"));
}

#[tokio::test]
async fn terminals_are_resized() {
    let world = World::new().await;
    let path = script("input=1&output=1&tty=1", "read go; stty size");
    let mut client = open(&world, &path, "v4.channel.k8s.io").await;
    for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
        client.open(id, &[("streamtype", kind)], false).await;
    }
    client.data(7, b"{\"Width\":101,\"Height\":33}\n", false).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    client.data(3, b"go\n", false).await;
    let said = client.finish(&[1, 5]).await;
    assert!(said[&5].as_deref().unwrap().contains("33 101"), "{said:?}");
}

#[tokio::test]
async fn programs_of_clients_that_go_are_killed() {
    let world = World::new().await;
    let mut client = open(&world, &script("output=1", "exec sleep 1000"), "v4.channel.k8s.io").await;
    for (id, kind) in [(1, "error"), (3, "stdout")] {
        client.open(id, &[("streamtype", kind)], false).await;
    }
    world.eventually("it runs", |world| world.driver.running() == 1).await;
    drop(client);
    world.eventually("it is ended", |world| world.driver.running() == 0).await;
    assert_eq!(world.driver.killed(), 1);
}

#[tokio::test]
async fn who_breaks_the_protocol_is_sent_away() {
    let world = World::new().await;
    let mut client = open(&world, "/portForward", "portforward.k8s.io").await;
    client.io.write_all(&[0x80, 2, 0, 1, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(client.next().await, Got::GoAway);
    let mut rest = Vec::new();
    client.io.read_to_end(&mut rest).await.unwrap();
    world.eventually("the session ends", |world| world.tasks.is_empty()).await;
}

/// Forwards two connections at once to a server that greets and echoes, and one to a closed port.
pub(super) async fn forwards(client: &mut SpdyClient<impl Connection>, port: u16) {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (port, closed) = (port.to_string(), closed.to_string());
    for (request, id, port) in [("0", 1, &port), ("1", 5, &port), ("2", 9, &closed)] {
        client.open(id, &[("streamtype", "error"), ("port", port), ("requestid", request)], true).await;
        client.open(id + 2, &[("streamtype", "data"), ("port", port), ("requestid", request)], false).await;
    }
    client.ping(1).await;
    let mut replies = 0;
    while replies < 6 {
        replies += u32::from(matches!(client.next().await, Got::Reply(_)));
    }
    client.data(3, b"first", true).await;
    client.data(7, b"second", false).await;
    client.data(7, b", in two", true).await;
    let said = client.finish(&[1, 3, 5, 7, 9, 11]).await;
    assert_eq!(said[&3].as_deref(), Some("welcome:first"));
    assert_eq!(said[&7].as_deref(), Some("welcome:second, in two"));
    assert_eq!((said[&1].as_deref(), said[&5].as_deref()), (Some(""), Some("")));
    assert!(said[&9].as_deref().unwrap().contains("refused"), "{said:?}");
    assert_eq!(said[&11], None, "the stream to a closed port is reset");
}

#[tokio::test]
async fn ports_are_forwarded() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = String::from("welcome:");
                stream.read_to_string(&mut all).await.unwrap();
                stream.write_all(all.as_bytes()).await.unwrap();
            });
        }
    });
    let mut client = open(&world, "/portForward", "portforward.k8s.io").await;
    forwards(&mut client, port).await;
    // A connection that the client breaks off is closed in the pod too.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    client.open(21, &[("streamtype", "error"), ("port", &port), ("requestid", "9")], true).await;
    client.open(23, &[("streamtype", "data"), ("port", &port), ("requestid", "9")], false).await;
    let (mut stream, _) = silent.accept().await.unwrap();
    client.reset(23).await;
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(client.finish(&[21]).await[&21].as_deref(), Some(""));
    // One that the pod breaks off is reset, without a message: kubectl would take it for the end of everything.
    client.open(31, &[("streamtype", "error"), ("port", &port), ("requestid", "9")], true).await;
    client.open(33, &[("streamtype", "data"), ("port", &port), ("requestid", "9")], false).await;
    let (mut stream, _) = silent.accept().await.unwrap();
    stream.write_all(b"begin").await.unwrap();
    while !matches!(client.next().await, Got::Data { stream: 33, .. }) {}
    rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
    let said = client.finish(&[31, 33]).await;
    assert_eq!((said[&31].as_deref(), said[&33].as_deref()), (Some(""), None));
    // Streams that say nothing useful are refused.
    client.open(35, &[("streamtype", "data"), ("port", "99999"), ("requestid", "10")], false).await;
    assert_eq!(client.finish(&[35]).await[&35], None);
    drop(client);
    world.eventually("the session ends", |world| world.tasks.is_empty()).await;
}
