//! URLs, as Go's `url.ParseRequestURI` reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Call, Cost, Declarations, Opaque, Result};
use crate::error::EvalError;
use crate::value::{Key, Map, Str, Value};

/// A URL in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

pub(super) fn declare(table: &mut Declarations) {
    table.add("url(string) -> URL", Cost::Scan { times: 1.0, keeps: true }, convert);
    table.add("isURL(string) -> bool", Cost::One, |_, args| match args {
        [Value::String(text)] => Ok(Value::Bool(parse(text).is_ok())),
        _ => Err(EvalError::NoSuchOverload),
    });
    table.add(".getScheme(URL) -> string", Cost::One, |_, args| part(args, |url| url.scheme.clone()));
    table.add(".getHost(URL) -> string", Cost::One, |_, args| part(args, |url| url.host.clone()));
    table.add(".getHostname(URL) -> string", Cost::One, |_, args| part(args, |url| split_port(&url.host).0.to_owned()));
    table.add(".getPort(URL) -> string", Cost::One, |_, args| part(args, |url| split_port(&url.host).1.to_owned()));
    table.add(".getEscapedPath(URL) -> string", Cost::One, |_, args| part(args, |url| url.path.clone()));
    table.add(".getQuery(URL) -> map<string, list<string>>", Cost::One, query);
}

fn url<'v>(args: &'v [Value<'_>]) -> Result<&'v Url> {
    match args {
        [Value::Opaque(Opaque::Url(url))] => Ok(url),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn part<'a>(args: &[Value<'a>], of: impl Fn(&Url) -> String) -> Result<Value<'a>> {
    Ok(Value::text(of(url(args)?)))
}

fn convert<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::String(text)] => match parse(text) {
            Ok(url) => Ok(Value::Opaque(Opaque::Url(Arc::new(url)))),
            Err(why) => Err(EvalError::Function(format!("URL parse error during conversion from string: {why}"))),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn query<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let mut values: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
    for pair in url(args)?.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        call.meter.step(1)?;
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(name), Some(value)) = (unescape(name, true), unescape(value, true)) {
            values.entry(name).or_default().push(Value::text(value));
        }
    }
    let entries = values.into_iter().map(|(name, values)| (Key::String(Str::from(name)), Value::list(values)));
    Ok(Value::Map(Map::owned(entries.collect())))
}

/// The host without its port, and the port.
fn split_port(host: &str) -> (&str, &str) {
    let colon = host.rfind(':').filter(|colon| !host[*colon..].contains(']'));
    let (name, port) = colon.map_or((host, ""), |colon| (&host[..colon], &host[colon + 1..]));
    (name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name), port)
}

/// What is wrong, as Go tells it.
pub(super) fn parse(text: &str) -> std::result::Result<Url, String> {
    let fail = |why: &str| Err(format!("parse {text:?}: {why}"));
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return fail("net/url: invalid control character in URL");
    }
    if text.is_empty() {
        return fail("empty url");
    }
    let Some((scheme, rest)) = split_scheme(text) else { return fail("missing protocol scheme") };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !rest.starts_with('/') {
        return if scheme.is_empty() {
            fail("invalid URI for request")
        } else {
            // Opaque, as `mailto:a@b`: no host and no path.
            Ok(Url { scheme, host: String::new(), path: String::new(), query: query.to_owned() })
        };
    }
    let (authority, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = split_port(host);
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return fail(&format!("invalid port {:?} after host", format!(":{port}")));
    }
    if host.starts_with('[') && !host.contains(']') {
        return fail("missing ']' in host");
    }
    if let Some(bad) = name.chars().find(|char| " <>\"\\^`{|}".contains(*char)) {
        return fail(&format!("invalid character {:?} in host name", bad.to_string()));
    }
    let Some(plain) = unescape(path, false) else { return fail("invalid URL escape") };
    Ok(Url { scheme, host: host.to_owned(), path: escaped(path, &plain), query: query.to_owned() })
}

fn split_scheme(text: &str) -> Option<(String, &str)> {
    let end = text.find(|char: char| !(char.is_ascii_alphanumeric() || "+-.".contains(char)));
    match end {
        Some(0) if text.starts_with(':') => None,
        Some(end) if text[end..].starts_with(':') && text.starts_with(|first: char| first.is_ascii_alphabetic()) => {
            Some((text[..end].to_ascii_lowercase(), &text[end + 1..]))
        }
        _ => Some((String::new(), text)),
    }
}

fn unescape(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                bytes.push((high * 16 + low) as u8);
            }
            b'+' if plus => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The path as it was written if that is an encoding of it, else encoded.
fn escaped(written: &str, plain: &str) -> String {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*[]%".contains(&byte);
    if written.bytes().all(allowed) {
        return written.to_owned();
    }
    let mut out = String::new();
    for byte in plain.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
