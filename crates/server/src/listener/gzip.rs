//! Large answers compressed for clients that accept it (api-facts §2.2).

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderValue};

use crate::answer::{Answer, Payload};

/// Answers below this size are cheaper to send as they are.
const LEAST: usize = 128 << 10;

/// Whether the client accepts gzip.
pub(super) fn accepts(headers: &HeaderMap) -> bool {
    let Some(accepted) = headers.get(ACCEPT_ENCODING).and_then(|v| v.to_str().ok()) else { return false };
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|p| p == "q=0")
    })
}

/// Compresses an answer that is large and finite.
pub(super) fn compress(mut answer: Answer) -> Answer {
    let payload = match answer.payload {
        Payload::Whole(Some(bytes)) if bytes.len() >= LEAST => Payload::Stream(encode(stream::iter([bytes]).boxed())),
        Payload::List(chunks) => Payload::Stream(encode(chunks)),
        other => return Answer { payload: other, ..answer },
    };
    answer.headers.push((CONTENT_ENCODING, HeaderValue::from_static("gzip")));
    answer.headers.push((VARY, HeaderValue::from_static("Accept-Encoding")));
    Answer { payload, ..answer }
}

/// The fastest level: the network is seldom slower than a better one.
fn encode(chunks: BoxStream<'static, Bytes>) -> BoxStream<'static, Bytes> {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    stream::unfold((chunks, Some(encoder)), |(mut chunks, encoder)| async move {
        let mut encoder = encoder?;
        loop {
            match chunks.next().await {
                // Writing to memory cannot fail.
                Some(chunk) => match encoder.write_all(&chunk) {
                    Ok(()) if encoder.get_ref().is_empty() => {}
                    Ok(()) => {
                        let out = std::mem::take(encoder.get_mut());
                        return Some((Bytes::from(out), (chunks, Some(encoder))));
                    }
                    Err(_) => return None,
                },
                None => return encoder.finish().ok().map(|out| (Bytes::from(out), (chunks, None))),
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_ask_get_gzip() {
        for (header, expected) in [("gzip", true), ("deflate, gzip;q=0.5", true), ("gzip;q=0", false), ("br", false)] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(header))]);
            assert_eq!(accepts(&headers), expected, "{header}");
        }
    }
}
