//! Port-forward: connections to ports of a pod, from inside of it.

mod dial;
pub(super) mod spdy;
pub(super) mod websocket;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::idle::Idle;
use super::process::CHUNK;

/// When the pod has ended its side and the client sends nothing for this long, the connection is over: old clients wait
/// for the end of the error stream before they end theirs.
const HALF_OPEN: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(5) };

/// The pod that is connected to.
#[derive(Debug, Clone)]
pub(super) struct Pod {
    /// For messages.
    pub(super) name: String,
    pub(super) uid: String,
    /// Its network namespace; `None` for the host's.
    pub(super) network: Option<PathBuf>,
}

impl Pod {
    /// A connection to a port, or what to tell the client.
    async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        dial::dial(self.network.as_deref(), port).await.map_err(|error| self.failure(port, &error))
    }

    fn failure(&self, port: u16, error: &dyn std::fmt::Display) -> String {
        format!("error forwarding port {port} to pod {}, uid {}: {error}", self.name, self.uid)
    }
}

/// The ports of a request, or why they are none.
pub(super) fn check(ports: &[String]) -> Result<Vec<u16>, String> {
    if ports.is_empty() {
        return Err("query parameter \"ports\" is required".into());
    }
    if ports.len() > 100 {
        return Err("too many ports".into());
    }
    ports.iter().map(|text| port(text)).collect()
}

/// A port's number.
fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("{text:?} is no port"))
}

/// Carries bytes both ways until both sides have ended, each half by itself.
async fn carry(
    mut tcp: TcpStream,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let (idle, pod_ended) = (Idle::new(), CancellationToken::new());
    let (mut from, mut to) = tcp.split();
    let down = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            match from.read(&mut buffer).await? {
                0 => break,
                count => {
                    idle.touch();
                    output.write_all(&buffer[..count]).await?;
                }
            }
        }
        pod_ended.cancel();
        output.shutdown().await
    };
    let up = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = if pod_ended.is_cancelled() {
                tokio::time::timeout(HALF_OPEN, input.read(&mut buffer)).await.unwrap_or(Ok(0))?
            } else {
                tokio::select! {
                    count = input.read(&mut buffer) => count?,
                    () = pod_ended.cancelled() => continue,
                }
            };
            if count == 0 {
                return to.shutdown().await;
            }
            idle.touch();
            to.write_all(&buffer[..count]).await?;
        }
    };
    tokio::select! {
        carried = async { tokio::try_join!(down, up) } => carried.map(drop),
        () = idle.expired() => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_checked() {
        let check = |ports: &[&str]| check(&ports.iter().map(|p| p.to_string()).collect::<Vec<_>>()).ok();
        assert_eq!(check(&["80", "65535"]), Some(vec![80, 65535]));
        for wrong in [&[][..], &["0"], &["65536"], &["-1"], &["http"], &[""], &["80"; 101]] {
            assert_eq!(check(wrong), None, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn each_half_ends_by_itself() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut pod, _) = listener.accept().await.unwrap();
        let (mut client, ours) = tokio::io::duplex(1024);
        let (input, output) = tokio::io::split(ours);
        let carrying = tokio::spawn(carry(tcp, input, output));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        pod.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        pod.write_all(b"answer").await.unwrap();
        drop(pod);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        carrying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_does_not_end_is_left() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        drop(listener.accept().await.unwrap());
        let (_client, ours) = tokio::io::duplex(1024);
        let (input, output) = tokio::io::split(ours);
        carry(tcp, input, output).await.unwrap();
    }
}
