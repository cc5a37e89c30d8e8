//! gRPC over sockets of the node, with its plugins: as much of it as those need, spoken directly over HTTP/2.

pub mod client;
pub mod server;
pub mod wire;

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
