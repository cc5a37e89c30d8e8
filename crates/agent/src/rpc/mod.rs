//! gRPC over sockets of the node, with its plugins: as much of it as those need, spoken directly over HTTP/2.

pub mod client;
pub mod server;
pub mod wire;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Most bytes of one message.
const MAX_MESSAGE: usize = 16 << 20;

/// A call went wrong.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The socket cannot be reached.
    #[error("connect to {path}")]
    Connect {
        /// The socket.
        path: std::path::PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The other side breaks HTTP/2, or broke off.
    #[error("talk")]
    Http(#[from] hyper::Error),
    /// The answer is none of gRPC's.
    #[error("answer {code} instead of gRPC")]
    NotGrpc {
        /// The HTTP status.
        code: u16,
    },
    /// The other side refused.
    #[error("rpc error: code = {code} desc = {message}")]
    Refused {
        /// As gRPC numbers them.
        code: u32,
        /// For people.
        message: String,
    },
    /// A message is no protobuf.
    #[error(transparent)]
    Wire(#[from] wire::WireError),
    /// A message is longer than anybody needs, or is compressed.
    #[error("a message cannot be read")]
    Frame,
    /// There was no answer in time.
    #[error("no answer in time")]
    Timeout,
}

/// A socket's path by way of its open directory: the kernel takes no more than 107 bytes, and data directories lie deep. It
/// holds as long as the file does.
fn short(path: &Path) -> io::Result<(File, PathBuf)> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let directory = File::open(directory)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((directory, path))
}

/// A message with its prefix.
fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// The first whole message of what has come in.
fn unframe(buffer: &mut BytesMut) -> Result<Option<Bytes>, RpcError> {
    if buffer.len() < 5 {
        return Ok(None);
    }
    let length = u32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]) as usize;
    if buffer[0] != 0 || length > MAX_MESSAGE {
        return Err(RpcError::Frame);
    }
    if buffer.len() < 5 + length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::client::Connection;
    use super::server;
    use super::wire::Message;

    #[tokio::test]
    async fn a_socket_may_lie_deep() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("x".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("a.sock");
        let listener = server::listen(&path).unwrap();
        let handler = |_, _| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(std::future::ready(Ok(Message::default())))
        };
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server::run(listener, Arc::new(handler), stop.clone()));
        let connection = Connection::open(&path).await.unwrap();
        connection.call("a.B/C", &Message::default(), Duration::from_secs(60)).await.unwrap();
        stop.cancel();
        serving.await.unwrap();
    }
}
