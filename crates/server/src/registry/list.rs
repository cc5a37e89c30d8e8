//! Pages of lists: which entries, and their bytes as one document.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use mizzen_api::status::ApiError;
use mizzen_store::{Entry, Revision, Snapshot};
use serde_json::{Value, json};

use super::Resource;
use super::select::Selection;
use super::streamed::{self, Items};
use crate::answer::{Answer, Hold, Payload};
use crate::crd;
use crate::dispatch::Ctx;
use crate::negotiate::Format;
use crate::render::{encoded, parse};

/// A page of a list.
pub(crate) struct Page {
    /// The revision of the first page.
    pub revision: Revision,
    /// The token of the next page, empty on the last.
    pub next: String,
    /// How many more there are, where that is known.
    pub remaining: Option<usize>,
    /// The objects, in the order of keys.
    pub entries: Vec<Arc<Entry>>,
}

impl Page {
    /// A page without objects.
    pub fn empty(revision: Revision) -> Self {
        Self { revision, next: String::new(), remaining: None, entries: Vec::new() }
    }

    pub(super) fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if !self.next.is_empty() {
            metadata["continue"] = self.next.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}

/// Where a list goes on.
#[derive(Debug, PartialEq)]
pub(crate) struct Token {
    /// The revision of the first page; `None` goes on at the newest state.
    pub revision: Option<Revision>,
    /// The key, relative to the resource's prefix, from which on.
    pub start: String,
}

impl Token {
    /// The text that clients send back.
    pub fn encode(&self) -> String {
        let revision = self.revision.map_or(json!(-1), |r| json!(r.0));
        URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": revision, "start": self.start}).to_string())
    }

    /// Reads it back.
    pub fn decode(text: &str) -> Result<Self, ApiError> {
        let invalid = || ApiError::bad_request("continue key is not valid");
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| invalid())?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        let start = value["start"].as_str().filter(|s| !s.is_empty()).ok_or_else(invalid)?;
        let revision = match value["rv"].as_i64() {
            Some(-1) => None,
            Some(revision) if revision > 0 => Some(Revision(revision.unsigned_abs())),
            _ => return Err(invalid()),
        };
        Ok(Self { revision, start: start.to_string() })
    }
}

/// 410 with a token in it that goes on at the newest state.
pub(crate) fn expired_token(token: &Token) -> ApiError {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new \
                   list without the continue parameter, or use the continue token in this response to retrieve the \
                   remainder of the results. Continuing with the provided token results in an inconsistent list - \
                   objects that were created, modified, or deleted between the time the first chunk was returned and \
                   now may show up in the list.";
    let mut error = ApiError::expired(message);
    let details = error.details.get_or_insert_default();
    details.continue_token = Some(Token { revision: None, start: token.start.clone() }.encode());
    error
}

/// The entries of a page.
pub(crate) async fn page(
    ctx: &Ctx<'_>,
    snapshot: &Snapshot,
    revision: Revision,
    selection: &Selection,
    limit: usize,
    start: Option<&str>,
) -> Result<Page, ApiError> {
    let base = ctx.resource.prefix("");
    let prefix = ctx.resource.prefix(&ctx.info.namespace);
    let from = start.map_or_else(|| prefix.clone(), |start| format!("{base}{start}"));
    if ctx.resource.definition.is_some() && selection.reads_fields() {
        // The fields are those of the version asked for, so objects are converted before any is chosen.
        let stored: Vec<Arc<Entry>> = snapshot.prefix_from(&prefix, &from).cloned().collect();
        let current = Box::pin(crd::current_all(ctx.core, &ctx.resource, stored)).await?;
        return Ok(choose(current.iter(), revision, selection, limit, &base));
    }
    if let Some(name) = selection.name()
        && !(ctx.kind().namespaced && ctx.info.namespace.is_empty())
    {
        // One name in one place needs no walk.
        let entry = snapshot.get(&ctx.resource.key(&ctx.info.namespace, name)).filter(|e| selection.matches(e));
        return Ok(Page { entries: entry.cloned().into_iter().collect(), ..Page::empty(revision) });
    }
    Ok(choose(snapshot.prefix_from(&prefix, &from), revision, selection, limit, &base))
}

/// The page that begins with the first of `rest`; keys are told relative to `base`.
fn choose<'e>(
    mut rest: impl Iterator<Item = &'e Arc<Entry>>,
    revision: Revision,
    selection: &Selection,
    limit: usize,
    base: &str,
) -> Page {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut entries = Vec::new();
    let mut more = None;
    for entry in rest.by_ref() {
        if !selection.matches(entry) {
            continue;
        }
        if entries.len() == limit {
            more = Some(Arc::clone(entry));
            break;
        }
        entries.push(Arc::clone(entry));
    }
    let remaining = (more.is_some() && selection.is_everything()).then(|| rest.count() + 1);
    let next =
        more.map(|entry| Token { revision: Some(revision), start: entry.key[base.len()..].to_string() }.encode());
    Page { revision, next: next.unwrap_or_default(), remaining, entries }
}

/// Renders a page in the format negotiated.
pub(crate) fn render(ctx: &Ctx<'_>, page: Page) -> Result<Answer, ApiError> {
    if ctx.format == Format::JSON && !ctx.kind().is_converted() {
        return Ok(copied(&ctx.resource, page));
    }
    let (items, page) = match streamed::answer(Items::of(ctx), page) {
        Ok(answer) => return Ok(answer),
        Err(short) => *short,
    };
    let objects = page.entries.iter().map(|e| Ok(items.item(parse(e)?))).collect::<Result<Vec<_>, ApiError>>()?;
    Ok(encoded(200, &items.list(page.metadata(), objects), ctx.format))
}

/// Lists longer than this are sent in pieces of it: no list is in memory as a whole, and the allocator keeps pieces of
/// this size at hand.
pub(super) const PIECE: usize = 64 << 10;

/// A list as copies of stored bytes.
fn copied(resource: &Resource, page: Page) -> Answer {
    let kind = &resource.kind;
    let head = format!(
        r#"{{"kind":"{}","apiVersion":"{}","metadata":{},"items":["#,
        kind.list_kind,
        kind.api_version(),
        page.metadata()
    );
    // Custom resources keep their kind.
    let strip = match resource.definition {
        Some(_) => "{".to_string(),
        None => format!(r#"{{"apiVersion":"{}","kind":"{}","#, resource.storage.api_version(), resource.storage.kind),
    };
    let total: usize = page.entries.iter().map(|e| e.value.len() + 1).sum();
    if total <= PIECE {
        let mut out = BytesMut::with_capacity(head.len() + total + 3);
        out.put_slice(head.as_bytes());
        for (at, entry) in page.entries.iter().enumerate() {
            put_item(&mut out, at > 0, &entry.value, strip.as_bytes());
        }
        out.put_slice(b"]}\n");
        return Answer::bytes(200, "application/json", out.freeze());
    }
    let mut answer = Answer::bytes(200, "application/json", Bytes::new());
    let hold = Hold::default();
    answer.payload = Payload::List(pieces(head, strip, page.entries, Arc::clone(&hold)).boxed());
    answer.hold = Some(hold);
    answer
}

fn put_item(out: &mut BytesMut, comma: bool, value: &Bytes, strip: &[u8]) {
    if comma {
        out.put_u8(b',');
    }
    match value.strip_prefix(strip) {
        Some(rest) => {
            out.put_u8(b'{');
            out.put_slice(rest);
        }
        // Written by another hand than `encode`; complete all the same.
        None => out.put_slice(value),
    }
}

fn pieces(
    head: String,
    strip: String,
    entries: Vec<Arc<Entry>>,
    hold: Hold,
) -> impl futures_util::Stream<Item = Bytes> {
    let mut hold = Some(hold);
    let mut head = Some(head);
    let mut entries = entries.into_iter();
    let mut first = true;
    let mut done = false;
    futures_util::stream::iter(std::iter::from_fn(move || {
        if done {
            return None;
        }
        let mut out = BytesMut::with_capacity(PIECE + (PIECE >> 3));
        if let Some(head) = head.take() {
            out.put_slice(head.as_bytes());
        }
        while out.len() < PIECE {
            let Some(entry) = entries.next() else {
                out.put_slice(b"]}\n");
                done = true;
                drop(hold.take());
                break;
            };
            put_item(&mut out, !first, &entry.value, strip.as_bytes());
            first = false;
        }
        Some(out.freeze())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens come from clients: whatever they are, they are read or refused, and what is read comes back.
    #[test]
    fn any_text_is_a_token_or_none() {
        use rand::rngs::StdRng;
        use rand::{Rng, SeedableRng};
        let mut random = StdRng::seed_from_u64(1);
        let good = Token { revision: Some(Revision(123_456)), start: "default/some-name".into() }.encode();
        let mut read = 0;
        for _ in 0..20_000 {
            let mut bytes = good.clone().into_bytes();
            for _ in 0..random.random_range(0..4) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random_range(b'-'..=b'z');
            }
            bytes.truncate(random.random_range(0..=bytes.len() * 2));
            if let Ok(token) = Token::decode(&String::from_utf8_lossy(&bytes)) {
                assert_eq!(Token::decode(&token.encode()), Ok(token));
                read += 1;
            }
        }
        assert!(read > 1000, "only {read} could be read");
    }

    #[test]
    fn tokens_come_back() {
        let token = Token { revision: Some(Revision(7)), start: "default/a".into() };
        assert_eq!(Token::decode(&token.encode()), Ok(token));
        let open = Token { revision: None, start: "b".into() };
        assert_eq!(Token::decode(&open.encode()), Ok(open));
        for bad in ["", "x", "e30", "////"] {
            assert_eq!(Token::decode(bad).map_err(|e| e.code), Err(400), "{bad}");
        }
    }
}
