//! Which protocol a stream speaks. Pure: headers in, a decision out.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Method, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::websocket::format::Format;
use crate::kubelet::routes::text;
use crate::kubelet::{Body, full};

/// The subprotocol of a SPDY connection inside a WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const FORWARD: &str = "portforward.k8s.io";
const WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const STREAM_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_VERSIONS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What the stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Exec or attach.
    Program,
    /// Port-forward.
    Forward,
    /// The log of a container.
    Log,
}

/// Versions of the streams of exec and attach over SPDY, by what they can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// `channel.k8s.io`: no resizing, errors as text.
    V1,
    /// As v1; it differed in bugs of old clients.
    V2,
    /// Resizing.
    V3,
    /// Errors as `Status`.
    V4,
}

/// Best first.
const VERSIONS: [(&str, Version); 4] = [
    ("v4.channel.k8s.io", Version::V4),
    ("v3.channel.k8s.io", Version::V3),
    ("v2.channel.k8s.io", Version::V2),
    ("channel.k8s.io", Version::V1),
];

/// What the bytes of an upgraded connection mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// Messages on channels.
    WebSocket(Format),
    /// SPDY in binary messages, for port-forward.
    Tunnel,
    /// SPDY for exec and attach.
    Spdy(Version),
    /// SPDY for port-forward.
    SpdyForward,
    /// Messages with nothing but payload, from the server only.
    Raw {
        /// As text messages in base64.
        base64: bool,
    },
}

/// An upgrade that can be done.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) transport: Transport,
    headers: HeaderMap,
}

impl Upgrade {
    /// The answer that makes the client change over.
    pub(super) fn answer(&self) -> Response<Body> {
        let mut answer = Response::new(full(""));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = self.headers.clone();
        answer
    }
}

/// Why an upgrade cannot be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    code: StatusCode,
    message: String,
    accepted: Vec<&'static str>,
}

impl Refusal {
    fn bad(message: impl Into<String>) -> Self {
        Self { code: StatusCode::BAD_REQUEST, message: message.into(), accepted: Vec::new() }
    }

    /// The answer for the client.
    pub(super) fn answer(self) -> Response<Body> {
        let mut answer = text(self.code, self.message);
        for version in self.accepted {
            answer.headers_mut().append(ACCEPTED_VERSIONS, HeaderValue::from_static(version));
        }
        answer
    }
}

/// Decides.
pub(super) fn negotiate(headers: &HeaderMap, method: &Method, wanted: Wanted) -> Result<Upgrade, Refusal> {
    if is_websocket(headers) {
        websocket(headers, method, wanted)
    } else if upgrades_to(headers, "SPDY/3.1") {
        spdy(headers, wanted)
    } else {
        Err(Refusal::bad("unable to upgrade: missing upgrade headers in request"))
    }
}

/// Whether a WebSocket is asked for.
pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    upgrades_to(headers, "websocket")
}

fn upgrades_to(headers: &HeaderMap, protocol: &str) -> bool {
    let any = |name, token: &str| tokens(headers, name).any(|t| t.eq_ignore_ascii_case(token));
    any(&CONNECTION, "upgrade") && any(&UPGRADE, protocol)
}

fn websocket(headers: &HeaderMap, method: &Method, wanted: Wanted) -> Result<Upgrade, Refusal> {
    if method != Method::GET {
        return Err(Refusal::bad("a WebSocket is opened by GET"));
    }
    if headers.get("sec-websocket-version").is_none_or(|v| v != "13") {
        return Err(Refusal::bad("only version 13 of WebSocket is spoken"));
    }
    let key = headers.get("sec-websocket-key").ok_or_else(|| Refusal::bad("Sec-WebSocket-Key is missing"))?;
    let mut offered = tokens(headers, &WEBSOCKET_PROTOCOL).peekable();
    let chosen = if offered.peek().is_none() {
        Some(("", unnamed(wanted)))
    } else {
        offered.find_map(|name| Some((name, subprotocol(name, wanted)?)))
    };
    let Some((name, transport)) = chosen else {
        return Err(Refusal::bad("none of the offered subprotocols is spoken"));
    };
    let mut out = switching("websocket");
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        out.insert("sec-websocket-accept", accept);
    }
    if !name.is_empty()
        && let Ok(name) = HeaderValue::from_str(name)
    {
        out.insert(WEBSOCKET_PROTOCOL, name);
    }
    Ok(Upgrade { transport, headers: out })
}

/// Without a subprotocol.
fn unnamed(wanted: Wanted) -> Transport {
    match wanted {
        Wanted::Log => Transport::Raw { base64: false },
        Wanted::Program | Wanted::Forward => Transport::WebSocket(Format::default()),
    }
}

fn subprotocol(name: &str, wanted: Wanted) -> Option<Transport> {
    match wanted {
        Wanted::Forward if name == TUNNEL => Some(Transport::Tunnel),
        // Port-forward never had other versions.
        Wanted::Forward if !matches!(name, "v4.channel.k8s.io" | "v4.base64.channel.k8s.io") => None,
        Wanted::Log => match name {
            "binary.k8s.io" => Some(Transport::Raw { base64: false }),
            "base64.binary.k8s.io" => Some(Transport::Raw { base64: true }),
            _ => None,
        },
        _ => Format::of(name).map(Transport::WebSocket),
    }
}

fn spdy(headers: &HeaderMap, wanted: Wanted) -> Result<Upgrade, Refusal> {
    let offered: Vec<&str> = tokens(headers, &STREAM_VERSION).collect();
    let (name, transport) = match wanted {
        Wanted::Forward => {
            // Clients of old offered nothing.
            if !offered.is_empty() && !offered.contains(&FORWARD) {
                return Err(no_version(&offered, vec![FORWARD]));
            }
            (FORWARD, Transport::SpdyForward)
        }
        Wanted::Log => return Err(Refusal::bad("logs are not carried over SPDY")),
        Wanted::Program if offered.is_empty() => ("", Transport::Spdy(Version::V1)),
        Wanted::Program => {
            let best = VERSIONS.iter().find(|(name, _)| offered.contains(name));
            let known = || VERSIONS.iter().map(|(name, _)| *name).collect();
            let (name, version) = best.ok_or_else(|| no_version(&offered, known()))?;
            (*name, Transport::Spdy(*version))
        }
    };
    let mut out = switching("SPDY/3.1");
    if !name.is_empty() {
        out.insert(STREAM_VERSION, HeaderValue::from_static(name));
    }
    Ok(Upgrade { transport, headers: out })
}

fn no_version(offered: &[&str], accepted: Vec<&'static str>) -> Refusal {
    let message = format!(
        "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {accepted:?}"
    );
    Refusal { code: StatusCode::FORBIDDEN, message, accepted }
}

fn switching(protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(protocol));
    headers
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::status::Wording;
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    fn websocket(protocol: Option<&'static str>, wanted: Wanted) -> Result<(Transport, Option<String>), StatusCode> {
        let mut all = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        if let Some(protocol) = protocol {
            all.insert(WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
        let upgrade = negotiate(&all, &Method::GET, wanted).map_err(|r| r.code)?;
        assert_eq!(upgrade.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        Ok((upgrade.transport, upgrade.headers.get(WEBSOCKET_PROTOCOL).map(|v| v.to_str().unwrap().to_owned())))
    }

    #[test]
    fn websocket_subprotocols() {
        let v5 = Transport::WebSocket(Format { base64: false, wording: Wording::Status, closes: true });
        let v4 = Transport::WebSocket(Format { base64: false, wording: Wording::Status, closes: false });
        let old64 = Transport::WebSocket(Format { base64: true, wording: Wording::Text, closes: false });
        let old = Transport::WebSocket(Format { base64: false, wording: Wording::Text, closes: false });
        let named = |transport, name: &str| Ok((transport, Some(name.to_owned())));
        let program = |offered| websocket(offered, Wanted::Program);
        assert_eq!(program(Some("v5.channel.k8s.io")), named(v5, "v5.channel.k8s.io"));
        assert_eq!(program(Some("x, v4.channel.k8s.io, v5.channel.k8s.io")), named(v4, "v4.channel.k8s.io"));
        assert_eq!(program(Some("base64.channel.k8s.io")), named(old64, "base64.channel.k8s.io"));
        assert_eq!(program(Some("channel.k8s.io")), named(old, "channel.k8s.io"));
        assert_eq!(program(None), Ok((old, None)));
        assert_eq!(program(Some("v2.channel.k8s.io")), Err(StatusCode::BAD_REQUEST));
        assert_eq!(program(Some(TUNNEL)), Err(StatusCode::BAD_REQUEST));
        let forward = |offered| websocket(offered, Wanted::Forward);
        assert_eq!(forward(Some(TUNNEL)), named(Transport::Tunnel, TUNNEL));
        assert_eq!(forward(Some("v4.channel.k8s.io")), named(v4, "v4.channel.k8s.io"));
        assert_eq!(forward(Some("v5.channel.k8s.io")), Err(StatusCode::BAD_REQUEST));
        let log = |offered| websocket(offered, Wanted::Log);
        let (raw, raw64) = (Transport::Raw { base64: false }, Transport::Raw { base64: true });
        assert_eq!(log(Some("binary.k8s.io")), named(raw, "binary.k8s.io"));
        assert_eq!(log(Some("base64.binary.k8s.io")), named(raw64, "base64.binary.k8s.io"));
        assert_eq!(log(None), Ok((raw, None)));
        assert_eq!(log(Some("v4.channel.k8s.io")), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn spdy_versions() {
        let spdy = |offered: &'static str, wanted| {
            let all = [
                ("connection", "Upgrade"),
                ("upgrade", "SPDY/3.1"),
                ("x-stream-protocol-version", "v9.channel.k8s.io"),
                ("x-stream-protocol-version", offered),
            ];
            let upgrade = negotiate(&headers(&all), &Method::POST, wanted)?;
            let name = upgrade.headers[&STREAM_VERSION].to_str().unwrap().to_owned();
            Ok::<_, Refusal>((upgrade.transport, name))
        };
        let answer = spdy("channel.k8s.io,v3.channel.k8s.io, v4.channel.k8s.io", Wanted::Program);
        assert_eq!(answer, Ok((Transport::Spdy(Version::V4), "v4.channel.k8s.io".into())));
        let answer = spdy("channel.k8s.io", Wanted::Program);
        assert_eq!(answer, Ok((Transport::Spdy(Version::V1), "channel.k8s.io".into())));
        let answer = spdy(FORWARD, Wanted::Forward);
        assert_eq!(answer, Ok((Transport::SpdyForward, FORWARD.into())));
        let refusal = spdy("v5.channel.k8s.io", Wanted::Program).unwrap_err();
        let answer = refusal.answer();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert_eq!(answer.headers().get_all(ACCEPTED_VERSIONS).iter().count(), 4);
    }

    #[test]
    fn what_is_no_upgrade_is_refused() {
        let cases: [&[(&str, &str)]; 3] = [
            &[],
            &[("connection", "Upgrade"), ("upgrade", "h2c")],
            &[("connection", "close"), ("upgrade", "SPDY/3.1")],
        ];
        for case in cases {
            let refusal = negotiate(&headers(case), &Method::POST, Wanted::Program).unwrap_err();
            assert_eq!(refusal.code, StatusCode::BAD_REQUEST);
        }
        let unsafe_method = [("connection", "Upgrade"), ("upgrade", "websocket")];
        assert!(negotiate(&headers(&unsafe_method), &Method::POST, Wanted::Program).is_err());
    }
}
