//! The gRPC health check (`grpc.health.v1.Health/Check`), spoken directly over HTTP/2.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Most bytes of an answer.
const MAX_ANSWER: usize = 4 << 10;
/// `ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Asks for the health of a service; `Err` says why it is not serving.
pub async fn check(ip: IpAddr, port: u16, service: &str, agent: &str) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what} {ip}:{port}: {error}");
    let stream = TcpStream::connect((ip, port)).await.map_err(|e| failed("connect to", &e))?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| failed("connect to", &e))?;
    let request = Request::post(format!("http://{ip}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", agent)
        .body(Full::new(message(service)))
        .map_err(|e| failed("ask", &e))?;
    let talk = async {
        let answer = sender.send_request(request).await.map_err(|e| failed("ask", &e))?;
        let refused = answer.headers().get("grpc-status").filter(|s| s.as_bytes() != b"0").cloned();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|e| failed("read from", &e))?;
        let status = refused.or_else(|| body.trailers().and_then(|t| t.get("grpc-status").cloned()));
        if let Some(status) = status.filter(|s| s.as_bytes() != b"0") {
            return Err(format!("rpc failed with status {}", String::from_utf8_lossy(status.as_bytes())));
        }
        match serving_status(&body.to_bytes()) {
            SERVING => Ok(()),
            other => Err(format!("service unhealthy (responded with {other})")),
        }
    };
    let mut connection = std::pin::pin!(connection);
    let mut talk = std::pin::pin!(talk);
    tokio::select! {
        biased;
        result = &mut talk => result,
        ended = &mut connection => match ended {
            Ok(()) => talk.await,
            Err(error) => Err(failed("talk to", &error)),
        },
    }
}

/// The request: a length-prefixed protobuf message with `service` as field 1.
fn message(service: &str) -> Bytes {
    let mut body = BytesMut::new();
    if !service.is_empty() {
        body.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            // Truncation is meant: seven bits at a time.
            body.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        body.put_u8(length as u8);
        body.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(body.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(body.len()).unwrap_or(0));
    framed.put_slice(&body);
    framed.freeze()
}

/// Field 1 of the answer, 0 (unknown) if absent.
fn serving_status(framed: &[u8]) -> u64 {
    let mut rest = framed.get(5..).unwrap_or_default().iter();
    if rest.next() != Some(&0x08) {
        return 0;
    }
    let mut value = 0u64;
    for (shift, byte) in (0..64).step_by(7).zip(rest) {
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        for (bytes, want) in
            [(&[0, 0, 0, 0, 2, 8, 1][..], 1), (&[0, 0, 0, 0, 2, 8, 2], 2), (&[0, 0, 0, 0, 0], 0), (&[], 0)]
        {
            assert_eq!(serving_status(bytes), want);
        }
    }
}
