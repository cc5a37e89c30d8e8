//! Connects to a port from inside of a network namespace.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

/// Longest wait for an answer: both sides are on this machine.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// A connection could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The namespace cannot be entered.
    #[error("failed to enter network namespace {}: {source}", namespace.display())]
    Namespace {
        /// Which.
        namespace: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Nobody listens, or answers.
    #[error("failed to connect to localhost:{port}: {source}")]
    Connect {
        /// The port.
        port: u16,
        /// The cause.
        source: io::Error,
    },
}

/// Connects to a port of localhost, IPv4 before IPv6, in a network namespace or, without one, the host's.
pub(super) async fn dial(namespace: Option<&Path>, port: u16) -> Result<TcpStream, DialError> {
    let mut failure = None;
    let hosts = [
        (AddressFamily::INET, SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        (AddressFamily::INET6, SocketAddr::from((Ipv6Addr::LOCALHOST, port))),
    ];
    for (family, address) in hosts {
        let socket = match namespace {
            Some(namespace) => socket_inside(namespace.to_owned(), family).await,
            None => socket(family),
        };
        let socket = match (socket, namespace) {
            (Ok(socket), _) => socket,
            (Err(source), Some(namespace)) if failure.is_none() => {
                return Err(DialError::Namespace { namespace: namespace.to_owned(), source });
            }
            (Err(source), _) => {
                failure.get_or_insert(source);
                continue;
            }
        };
        match tokio::time::timeout(CONNECT_WITHIN, socket.connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            // What IPv4 says is what people look for.
            Ok(Err(source)) => drop(failure.get_or_insert(source)),
            Err(_) => drop(failure.get_or_insert_with(|| io::ErrorKind::TimedOut.into())),
        }
    }
    let source = failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
    Err(DialError::Connect { port, source })
}

/// A socket stays in the namespace in which it was made, whoever connects it. It is made by a thread that ends at once:
/// none that goes on ever leaves the host's namespace.
async fn socket_inside(namespace: PathBuf, family: AddressFamily) -> io::Result<TcpSocket> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("port-forward".into()).stack_size(64 << 10).spawn(move || {
        let made = enter(&namespace).and_then(|()| socket(family));
        // Nobody waits any more if the client has gone.
        let _ = sender.send(made);
    })?;
    receiver.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
}

fn enter(namespace: &Path) -> io::Result<()> {
    let file = std::fs::File::open(namespace)?;
    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
}

fn socket(family: AddressFamily) -> io::Result<TcpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // SAFETY: this is a stream socket that nobody else owns; ownership goes over with the number.
    Ok(unsafe { TcpSocket::from_raw_fd(socket.into_raw_fd()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connects_to_the_host_and_names_a_closed_port() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(dial(None, port).await.is_ok());
        // The same by way of a thread that enters a namespace.
        assert!(dial(Some(Path::new("/proc/self/ns/net")), port).await.is_ok());
        drop(listener);
        let error = dial(None, port).await.unwrap_err().to_string();
        assert!(error.contains(&format!("localhost:{port}")) && error.contains("refused"), "{error}");
        let error = dial(Some(Path::new("/nonexistent")), port).await.unwrap_err().to_string();
        assert!(error.contains("/nonexistent"), "{error}");
    }

    #[tokio::test]
    async fn ipv6_is_tried_too() {
        let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else { return };
        assert!(dial(None, listener.local_addr().unwrap().port()).await.is_ok());
    }
}
