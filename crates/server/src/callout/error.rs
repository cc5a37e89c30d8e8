//! Why a call failed, in the words of Kubernetes' HTTP client.

use std::io;

use rustls::CertificateError;
use serde_json::Value;

/// Why there is no answer to use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody was reached, or the exchange broke off.
    #[error("{method} {url:?}: {cause}")]
    Failed {
        /// `Post`, `Get`.
        method: &'static str,
        /// Who was called.
        url: String,
        /// What happened.
        #[source]
        cause: Cause,
    },
    /// The target answered with an error.
    #[error("{}", .0.message)]
    Refused(Refusal),
}

impl CallError {
    /// The HTTP status that the failure is counted under: the target's own, or 503.
    pub fn code(&self) -> u16 {
        match self {
            CallError::Failed { .. } => 503,
            CallError::Refused(refusal) => refusal.code,
        }
    }
}

/// What keeps a request from being answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(String),
    /// The Service has nobody to answer.
    #[error("{0}")]
    Service(String),
    /// A host that no address is known of.
    #[error("dial tcp: lookup {host}: no such host")]
    Lookup {
        /// Its name.
        host: String,
        /// The resolver's words.
        #[source]
        source: io::Error,
    },
    /// No connection.
    #[error("{}", dial_words(.address, .source))]
    Dial {
        /// Whereto.
        address: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// TLS refused.
    #[error("{}", tls_words(.0))]
    Tls(#[source] io::Error),
    /// The time is over.
    #[error("context deadline exceeded")]
    Deadline,
    /// HTTP broke off.
    #[error("{}", http_words(.0))]
    Http(#[source] hyper::Error),
    /// The body broke off.
    #[error("unexpected EOF")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is longer than it may be.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// The target has more calls under way than it answers.
    #[error("too many calls are waiting for this target already")]
    Crowded,
}

fn dial_words(address: &str, error: &io::Error) -> String {
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused",
        io::ErrorKind::HostUnreachable => "connect: no route to host",
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable",
        io::ErrorKind::TimedOut => "i/o timeout",
        _ => return format!("dial tcp {address}: {error}"),
    };
    format!("dial tcp {address}: {words}")
}

fn tls_words(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "EOF".into(),
            io::ErrorKind::ConnectionReset => "read: connection reset by peer".into(),
            _ => error.to_string(),
        };
    };
    let rustls::Error::InvalidCertificate(why) = tls else {
        return match tls {
            rustls::Error::InvalidMessage(_) => "tls: first record does not look like a TLS handshake".into(),
            rustls::Error::AlertReceived(alert) => format!("remote error: tls: {alert:?}"),
            other => format!("tls: {other}"),
        };
    };
    let why = match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority".into()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "certificate has expired or is not yet valid".into(),
        CertificateError::NotValidForNameContext { expected, presented } => name_words(&expected.to_str(), presented),
        // What WebPKI says of a self-signed certificate that the bundle does not hold.
        CertificateError::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            "certificate signed by unknown authority".into()
        }
        other => format!("{other}"),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}

fn name_words(expected: &str, presented: &[String]) -> String {
    // Listed as `DnsName("a")` and `IpAddress(1.2.3.4)`.
    let plain = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, inner)| inner.trim_end_matches(')'));
        inner.trim_matches('"').to_string()
    };
    let names: Vec<String> = presented.iter().map(plain).collect();
    if names.is_empty() {
        return format!("certificate is not valid for any names, but wanted to match {expected}");
    }
    format!("certificate is valid for {}, not {expected}", names.join(", "))
}

fn http_words(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return "EOF".into();
    }
    if error.is_parse() {
        return format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response ({error})");
    }
    error.to_string()
}

/// An answer with an error code, as Kubernetes' client describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The HTTP status code.
    pub code: u16,
    /// What it means.
    pub message: String,
}

impl Refusal {
    /// From the status, the body, and whether the body is text. A `Status` object speaks for itself.
    pub fn new(code: u16, body: &[u8], is_text: bool) -> Self {
        if let Ok(status) = serde_json::from_slice::<Value>(body)
            && status["kind"] == "Status"
            && let Some(message) = status["message"].as_str().filter(|m| !m.is_empty())
        {
            return Self { code, message: message.into() };
        }
        let said = if is_text { String::from_utf8_lossy(body).trim().to_string() } else { "unknown".into() };
        Self { code, message: meaning(code, &said) }
    }
}

fn meaning(code: u16, said: &str) -> String {
    match code {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 => said.into(),
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        406 => "the server was unable to respond with a content type that the client supports".into(),
        409 => "the server reported a conflict".into(),
        413 => format!("the server responded with the status code {code} but did not return more information"),
        415 => "the server was unable to process the request content type".into(),
        422 => "the server rejected our request due to an error in our request".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .into()
        }
        500.. => format!("an error on the server ({said:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_read_as_in_kubernetes() {
        let tls = |why: CertificateError| Cause::Tls(io::Error::other(rustls::Error::InvalidCertificate(why)));
        let dial = |kind: io::ErrorKind| Cause::Dial { address: "10.0.0.1:443".into(), source: kind.into() };
        for (cause, expected) in [
            (dial(io::ErrorKind::ConnectionRefused), "dial tcp 10.0.0.1:443: connect: connection refused"),
            (
                tls(CertificateError::UnknownIssuer),
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            ),
            (
                tls(CertificateError::NotValidForNameContext {
                    expected: rustls_pki_types::ServerName::try_from("s.n.svc").unwrap(),
                    presented: vec!["DnsName(\"a.b\")".into()],
                }),
                "tls: failed to verify certificate: x509: certificate is valid for a.b, not s.n.svc",
            ),
            (Cause::Deadline, "context deadline exceeded"),
        ] {
            assert_eq!(cause.to_string(), expected);
        }
        let error = CallError::Failed { method: "Post", url: "https://s.n.svc:443/".into(), cause: Cause::Deadline };
        assert_eq!(error.to_string(), "Post \"https://s.n.svc:443/\": context deadline exceeded");
    }

    #[test]
    fn refusals_read_as_in_kubernetes() {
        for (code, body, is_text, expected) in [
            (404, "404 page not found", true, "the server could not find the requested resource"),
            (500, "boom\n", true, "an error on the server (\"boom\") has prevented the request from succeeding"),
            (502, "x", false, "an error on the server (\"unknown\") has prevented the request from succeeding"),
            (403, r#"{"kind":"Status","message":"not you"}"#, false, "not you"),
            (302, "", true, "the server responded with the status code 302 but did not return more information"),
        ] {
            assert_eq!(Refusal::new(code, body.as_bytes(), is_text).message, expected);
        }
    }
}
