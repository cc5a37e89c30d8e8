//! Compressed header blocks: zlib over the whole connection, with a dictionary from SPDY's specification.

use std::sync::LazyLock;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Largest block that is taken, uncompressed: a few bytes can unfold to very many.
const BLOCK_MAX: usize = 64 << 10;
/// Most headers of a block.
const COUNT_MAX: u32 = 128;

/// The dictionary begins with these, each after its length in four bytes.
const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];
/// And ends with these as they are.
const TAIL: [&str; 6] = [
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Au",
    "thoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidd",
    "en404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr Ma",
    "y Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,imag",
    "e/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicpri",
    "vatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
];

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::new();
    for word in WORDS {
        bytes.extend((word.len() as u32).to_be_bytes());
        bytes.extend(word.bytes());
    }
    bytes.extend(TAIL.concat().bytes());
    bytes
});

/// Headers that cannot be read. The connection cannot go on: its compression is out of step.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    /// Not zlib, or with another dictionary.
    #[error("a header block is not compressed as it should be")]
    Compression,
    /// More than is taken.
    #[error("a header block is too large")]
    Large,
    /// Lengths that do not fit.
    #[error("a header block is cut off")]
    Cut,
}

/// Headers of a stream, names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Headers(Vec<(String, String)>);

impl Headers {
    /// A header's first value.
    pub(in super::super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())?;
        value.split('\0').next()
    }

    fn parse(block: &[u8]) -> Result<Self, HeaderError> {
        let mut rest = block;
        let count = number(&mut rest)?;
        if count > COUNT_MAX {
            return Err(HeaderError::Large);
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let (name, value) = (word(&mut rest)?, word(&mut rest)?);
            headers.push((name.to_ascii_lowercase(), value));
        }
        Ok(Self(headers))
    }
}

fn number(rest: &mut &[u8]) -> Result<u32, HeaderError> {
    let (first, after) = rest.split_first_chunk().ok_or(HeaderError::Cut)?;
    *rest = after;
    Ok(u32::from_be_bytes(*first))
}

fn word(rest: &mut &[u8]) -> Result<String, HeaderError> {
    let length = number(rest)? as usize;
    let (word, after) = rest.split_at_checked(length).ok_or(HeaderError::Cut)?;
    *rest = after;
    Ok(String::from_utf8_lossy(word).into_owned())
}

/// Reads the header blocks of a connection, in their order.
pub(super) struct Inflate(Decompress);

impl Inflate {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// The headers of the next block.
    pub(super) fn headers(&mut self, block: &[u8]) -> Result<Headers, HeaderError> {
        Headers::parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, HeaderError> {
        let begin = self.0.total_in();
        let mut out = Vec::with_capacity(2 << 10);
        loop {
            let taken = (self.0.total_in() - begin) as usize;
            let input = block.get(taken..).unwrap_or_default();
            let before = out.len();
            match self.0.decompress_vec(input, &mut out, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(HeaderError::Compression),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| HeaderError::Compression)?;
                    continue;
                }
                Err(_) => return Err(HeaderError::Compression),
            }
            let taken = (self.0.total_in() - begin) as usize;
            if taken >= block.len() && out.len() < out.capacity() {
                return Ok(out);
            }
            if out.len() > BLOCK_MAX {
                return Err(HeaderError::Large);
            }
            if out.len() == before && taken == block.len() - input.len() {
                return Err(HeaderError::Compression); // No headway.
            }
            out.reserve(2 << 10);
        }
    }
}

/// Writes the header blocks of a connection, in their order.
pub(super) struct Deflate(Compress);

impl Deflate {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        // Only a stream that has begun refuses a dictionary.
        let dictionary = compress.set_dictionary(&DICTIONARY);
        debug_assert!(dictionary.is_ok());
        Self(compress)
    }

    /// A block without headers.
    pub(super) fn nothing(&mut self) -> Vec<u8> {
        self.deflate(&0u32.to_be_bytes())
    }

    fn deflate(&mut self, block: &[u8]) -> Vec<u8> {
        let begin = self.0.total_in();
        let mut out = Vec::with_capacity(64 + block.len());
        loop {
            let taken = (self.0.total_in() - begin) as usize;
            let status = self.0.compress_vec(&block[taken..], &mut out, FlushCompress::Sync);
            debug_assert!(status.is_ok(), "a deflate stream takes all input");
            if out.len() < out.capacity() {
                return out;
            }
            out.reserve(64);
        }
    }
}

/// A block that holds these headers, uncompressed.
#[cfg(test)]
fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = (headers.len() as u32).to_be_bytes().to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        out.extend((text.len() as u32).to_be_bytes());
        out.extend(text.bytes());
    }
    out
}

#[cfg(test)]
impl Deflate {
    /// A block with headers, as clients send it.
    pub(super) fn headers(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        self.deflate(&block(headers))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dictionary_is_that_of_the_specification() {
        assert_eq!(DICTIONARY.len(), 1423);
        let (mut a, mut b) = (1u32, 0u32);
        for byte in DICTIONARY.iter() {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!(b << 16 | a, 0xe3c6_a7c2, "its Adler-32, by which zlib streams name it");
    }

    #[test]
    fn blocks_of_a_connection_are_read_in_a_row() {
        let (mut deflate, mut inflate) = (Deflate::new(), Inflate::new());
        for id in ["0", "1", "2"] {
            let sent = block(&[("streamtype", "data"), ("Port", "80"), ("requestid", id), ("many", "a\0b")]);
            let headers = inflate.headers(&deflate.deflate(&sent)).unwrap();
            assert_eq!(headers.get("streamtype"), Some("data"));
            assert_eq!(headers.get("port"), Some("80"));
            assert_eq!(headers.get("requestid"), Some(id));
            assert_eq!(headers.get("many"), Some("a"));
            assert_eq!(headers.get("other"), None);
        }
        assert_eq!(inflate.headers(&deflate.nothing()).unwrap(), Headers::default());
    }

    #[test]
    fn large_blocks_are_refused() {
        let long = "x".repeat(BLOCK_MAX);
        let sent = Deflate::new().deflate(&block(&[("a", &long), ("b", &long)]));
        assert!(sent.len() < 4096);
        assert!(matches!(Inflate::new().headers(&sent), Err(HeaderError::Large)));
        let many = Deflate::new().deflate(&block(&[("a", ""); 200]));
        assert!(matches!(Inflate::new().headers(&many), Err(HeaderError::Large)));
        let fitting = Deflate::new().deflate(&block(&[("a", &long[..BLOCK_MAX / 2])]));
        assert!(Inflate::new().headers(&fitting).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(compressed: Vec<u8>, plain: Vec<u8>) {
            let _ = Inflate::new().headers(&compressed);
            let _ = Headers::parse(&plain);
            let _ = Inflate::new().headers(&Deflate::new().deflate(&plain));
        }
    }
}
