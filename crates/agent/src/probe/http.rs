//! HTTP GET as probes and hooks do it: one connection a request, certificates not verified, few redirects.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

/// Most bytes of a body that are read (kubelet's limit).
const MAX_BODY: usize = 10 << 10;
/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 10;

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The port is a name that the container does not have, or out of range.
    #[error("port {port:?} is unknown")]
    Port {
        /// The port.
        port: String,
    },
    /// The URL or a header is not valid.
    #[error("Get \"{url}\": the request cannot be made: {message}")]
    Request {
        /// The URL.
        url: String,
        /// Why.
        message: String,
    },
    /// No connection, or it broke.
    #[error("Get \"{url}\": {message}")]
    Connection {
        /// The URL.
        url: String,
        /// Why.
        message: String,
    },
    /// Too many redirects.
    #[error("Get \"{url}\": stopped after 10 redirects")]
    Redirects {
        /// The URL.
        url: String,
    },
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub code: u16,
    /// The start of the body.
    pub body: String,
    /// It is a redirect to another host, which was not followed.
    pub elsewhere: bool,
}

/// A port by number, or by its name in the container.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, HttpError> {
    let unknown = |port: String| HttpError::Port { port };
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named =
                container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name)).map(|p| p.container_port);
            named.or_else(|| name.parse().ok()).ok_or_else(|| unknown(name.clone()))?
        }
    };
    u16::try_from(number).ok().filter(|p| *p > 0).ok_or_else(|| unknown(number.to_string()))
}

/// Sends the GET of an action to a pod and follows redirects within it.
pub async fn get(
    action: &HTTPGetAction,
    container: &Container,
    pod_ip: IpAddr,
    agent: &str,
) -> Result<Answer, HttpError> {
    let host = action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| match pod_ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    });
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_ascii_lowercase();
    let path = action.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut url = format!("{scheme}://{host}:{}{slash}{path}", port(&action.port, container)?);
    let first = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        let (code, location, body) = once(&url, action, agent).await?;
        let redirect = matches!(code, 301 | 302 | 303 | 307 | 308);
        let Some(location) = location.filter(|_| redirect) else {
            return Ok(Answer { code, body, elsewhere: false });
        };
        match join(&url, &location) {
            Some(next) if same_host(&next, &first) => url = next,
            _ => return Ok(Answer { code, body, elsewhere: true }),
        }
    }
    Err(HttpError::Redirects { url: first })
}

fn same_host(a: &str, b: &str) -> bool {
    let host = |url: &str| url.parse::<Uri>().ok().and_then(|u| u.host().map(str::to_string));
    host(a).is_some() && host(a) == host(b)
}

/// A redirect's target relative to where it came from.
fn join(base: &str, location: &str) -> Option<String> {
    if location.contains("://") {
        return Some(location.to_string());
    }
    let base: Uri = base.parse().ok()?;
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    if location.starts_with('/') {
        return Some(format!("{scheme}://{authority}{location}"));
    }
    let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    Some(format!("{scheme}://{authority}{folder}/{location}"))
}

async fn once(url: &str, action: &HTTPGetAction, agent: &str) -> Result<(u16, Option<String>, String), HttpError> {
    let bad = |message: String| HttpError::Request { url: url.into(), message };
    let broken = |message: String| HttpError::Connection { url: url.into(), message };
    let uri: Uri = url.parse().map_err(|e: http::uri::InvalidUri| bad(e.to_string()))?;
    let authority = uri.authority().ok_or_else(|| bad("no host".into()))?.clone();
    let https = uri.scheme_str() == Some("https");
    let mut request = Request::get(uri.path_and_query().map_or("/", |p| p.as_str()));
    let headers = action.http_headers.as_deref().unwrap_or_default();
    let own = |name: &str| headers.iter().any(|h| h.name.eq_ignore_ascii_case(name));
    if !own("host") {
        request = request.header("Host", authority.as_str());
    }
    if !own("user-agent") {
        request = request.header("User-Agent", agent);
    }
    if !own("accept") {
        request = request.header("Accept", "*/*");
    }
    for header in headers.iter().filter(|h| !h.value.is_empty() || !h.name.eq_ignore_ascii_case("accept")) {
        request = request.header(header.name.as_str(), header.value.as_str());
    }
    let request = request.header("Connection", "close").body(Empty::<Bytes>::new()).map_err(|e| bad(e.to_string()))?;
    let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_string();
    let stream =
        TcpStream::connect((host.as_str(), port)).await.map_err(|e| broken(format!("dial tcp {authority}: {e}")))?;
    let answer = if https {
        let name = ServerName::try_from(host).map_err(|e| bad(e.to_string()))?;
        // Probes check that something answers, not who.
        let connector = tokio_rustls::TlsConnector::from(mizzen_client::unverified_tls());
        let stream = connector.connect(name, stream).await.map_err(|e| broken(e.to_string()))?;
        exchange(TokioIo::new(stream), request).await
    } else {
        exchange(TokioIo::new(stream), request).await
    };
    answer.map_err(|e| broken(e.to_string()))
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<(u16, Option<String>, String), hyper::Error>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    // The connection is driven here, beside the request, so that it ends with this call.
    let mut connection = std::pin::pin!(connection);
    let talk = async {
        let answer = sender.send_request(request).await?;
        let code = answer.status().as_u16();
        let location = answer.headers().get("location").and_then(|l| l.to_str().ok()).map(str::to_string);
        // A body that is too long or breaks off does not change the verdict.
        let body = match Limited::new(answer.into_body(), MAX_BODY).collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            Err(_) => String::new(),
        };
        Ok((code, location, body))
    };
    let mut talk = std::pin::pin!(talk);
    tokio::select! {
        biased;
        answer = &mut talk => answer,
        ended = &mut connection => match ended {
            // The connection may close as soon as its last byte is read; the answer is complete then.
            Ok(()) => talk.await,
            Err(error) => Err(error),
        },
    }
}

/// Opens a TCP connection and closes it again.
pub async fn connect(host: &str, port: u16) -> std::io::Result<()> {
    TcpStream::connect((host, port)).await.map(drop)
}

/// The shortest time a probe is given.
pub fn timeout(seconds: Option<i32>) -> Duration {
    Duration::from_secs(seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Answers each connection with the next text.
    async fn server(answers: Vec<String>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = vec![0; 4096];
                let n = stream.read(&mut buffer).await.unwrap();
                asked.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        (port, task)
    }

    #[tokio::test]
    async fn follows_redirects_within_the_pod_only() {
        let text = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\n{more}Content-Length: 2\r\n\r\nok");
        for (case, answers, code, elsewhere) in [
            ("plain", vec![text("200 OK", "")], 200, false),
            ("error", vec![text("503 No", "")], 503, false),
            ("inside", vec![text("302 Found", "Location: /next\r\n"), text("200 OK", "")], 200, false),
            ("outside", vec![text("302 Found", "Location: http://example.invalid/\r\n")], 302, true),
        ] {
            let (port, task) = server(answers).await;
            let action: HTTPGetAction = serde_json::from_value(
                json!({"port": port, "path": "/x", "httpHeaders": [{"name": "X-A", "value": "b"}]}),
            )
            .unwrap();
            let answer = get(&action, &Container::default(), [127, 0, 0, 1].into(), "kube-probe/1.36").await.unwrap();
            assert_eq!((answer.code, answer.elsewhere), (code, elsewhere), "{case}");
            let asked = task.await.unwrap();
            assert!(asked[0].starts_with("GET /x HTTP/1.1"), "{asked:?}");
            assert!(asked[0].to_lowercase().contains("user-agent: kube-probe/1.36"), "{asked:?}");
        }
    }
}
