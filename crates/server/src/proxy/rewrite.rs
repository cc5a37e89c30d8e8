//! Links of a page that is served through the proxy: what begins at the backend's root must begin at the proxy's path.
//!
//! A page is rewritten while it streams by. Only a tag that is not yet whole is held back, and only up to a limit.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use hyper::body::{Body, Incoming};

/// The longest tag that is looked into; a longer one passes as it is, so that nobody can make the server hold more.
const TAG_MAX: usize = 64 << 10;

/// Attributes whose values are addresses.
const ADDRESSES: &[&str] = &[
    "action",
    "archive",
    "background",
    "cite",
    "classid",
    "codebase",
    "data",
    "formaction",
    "href",
    "icon",
    "longdesc",
    "manifest",
    "poster",
    "profile",
    "src",
    "usemap",
];

/// Where a backend is seen by the client.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The path that stands for the backend's root, without a slash at its end.
    pub prefix: String,
    /// Host and port of the backend.
    pub host: String,
}

impl Place {
    /// An address as the client must see it; `None` if it is right as it is: relative, or of another host.
    pub fn rewritten(&self, address: &str) -> Option<String> {
        let own =
            ["http://", "https://"].iter().find_map(|scheme| address.strip_prefix(scheme)?.strip_prefix(&self.host));
        let path = match own {
            Some("") => "/",
            Some(rest) => rest,
            None => address,
        };
        let absolute = path.starts_with('/') && !path.starts_with("//");
        (absolute && !path.starts_with(&self.prefix)).then(|| format!("{}{path}", self.prefix))
    }
}

/// The state of a page that streams by.
#[derive(Debug)]
struct Rewriter {
    place: Place,
    /// A tag whose end has not come yet, from its `<`.
    held: Vec<u8>,
}

impl Rewriter {
    /// What can be sent on after these bytes.
    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + self.held.len());
        let mut rest = bytes;
        while !rest.is_empty() {
            let wanted = if self.held.is_empty() { b'<' } else { b'>' };
            let Some(at) = rest.iter().position(|byte| *byte == wanted) else {
                if self.held.is_empty() {
                    out.extend_from_slice(rest)
                } else {
                    self.held.extend_from_slice(rest)
                }
                break;
            };
            if wanted == b'<' {
                out.extend_from_slice(&rest[..at]);
                self.held.push(b'<');
            } else {
                self.held.extend_from_slice(&rest[..=at]);
                let held = std::mem::take(&mut self.held);
                out.extend_from_slice(&tag(held, &self.place));
            }
            rest = &rest[at + 1..];
        }
        if self.held.len() > TAG_MAX {
            out.append(&mut self.held);
        }
        out
    }
}

/// A tag with its addresses rewritten.
fn tag(bytes: Vec<u8>, place: &Place) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&bytes) else { return bytes };
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('=') {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        let name = before[..at].trim_end();
        let name = &name[name.rfind(|c: char| c.is_ascii_whitespace() || c == '"' || c == '\'').map_or(0, |i| i + 1)..];
        let value = after.trim_start();
        out.push_str(&after[..after.len() - value.len()]);
        let (quote, inner) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => (quote.to_string(), &value[1..]),
            _ => (String::new(), value),
        };
        let ends = |c: char| if quote.is_empty() { c.is_ascii_whitespace() || c == '>' } else { quote.starts_with(c) };
        let end = inner.find(ends).unwrap_or(inner.len());
        let is_address = ADDRESSES.iter().any(|known| known.eq_ignore_ascii_case(name));
        let new = if is_address { place.rewritten(&inner[..end]) } else { None };
        out.push_str(&quote);
        out.push_str(new.as_deref().unwrap_or(&inner[..end]));
        rest = &inner[end..];
        // The closing quote belongs to this value; the next round must not take it for an opening one.
        if let Some(after) = rest.strip_prefix(quote.as_str()) {
            out.push_str(&quote);
            rest = after;
        }
    }
    out.push_str(rest);
    out.into_bytes()
}

/// The body of a page as the client must see it. A body that breaks ends early, as its length was never promised.
pub(super) fn page(body: Incoming, place: Place) -> impl Stream<Item = Bytes> + Send {
    Page { body: Some(body), rewriter: Rewriter { place, held: Vec::new() } }
}

struct Page {
    /// `None` once it has ended.
    body: Option<Incoming>,
    rewriter: Rewriter,
}

impl Stream for Page {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let out = self.rewriter.push(&data);
                    if !out.is_empty() {
                        return Poll::Ready(Some(out.into()));
                    }
                }
                Some(Err(_)) | None => {
                    self.body = None;
                    let held = std::mem::take(&mut self.rewriter.held);
                    return Poll::Ready((!held.is_empty()).then(|| held.into()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { prefix: "/api/p/proxy".into(), host: "10.0.0.5:80".into() }
    }

    #[test]
    fn links_from_the_root_go_through_the_proxy() {
        for (page, expected) in [
            (r#"<a href="/x">test</a>"#, r#"<a href="/api/p/proxy/x">test</a>"#),
            ("<IMG alt='/x' SRC = '/i.png'>", "<IMG alt='/x' SRC = '/api/p/proxy/i.png'>"),
            ("<form action=/go method=post>", "<form action=/api/p/proxy/go method=post>"),
            (r#"<a href="http://10.0.0.5:80/x?a=b">"#, r#"<a href="/api/p/proxy/x?a=b">"#),
            (r#"<a href="/api/p/proxy/x">"#, r#"<a href="/api/p/proxy/x">"#),
            (
                r#"<a href="x"><a href="//other/x"><a href="http://other/x">"#,
                r#"<a href="x"><a href="//other/x"><a href="http://other/x">"#,
            ),
            ("a < b = \"/x\"", "a < b = \"/x\""),
            (r#"<a title="href=/x" href="/y">href="/z""#, r#"<a title="href=/x" href="/api/p/proxy/y">href="/z""#),
        ] {
            // However it is cut, it comes out the same.
            for cut in 1..page.len() {
                let mut rewriter = Rewriter { place: place(), held: Vec::new() };
                let mut out: Vec<u8> = page.as_bytes().chunks(cut).flat_map(|chunk| rewriter.push(chunk)).collect();
                out.append(&mut rewriter.held);
                assert_eq!(String::from_utf8(out).unwrap(), expected, "cut by {cut}");
            }
        }
    }

    #[test]
    fn an_endless_tag_is_let_go() {
        let mut rewriter = Rewriter { place: place(), held: Vec::new() };
        let out = rewriter.push(&[b"<a ".as_slice(), &vec![b'x'; TAG_MAX]].concat());
        assert_eq!((out.len(), rewriter.held.len()), (TAG_MAX + 3, 0));
    }
}
