//! A client of the OCI distribution specification: manifests and blobs, with tokens, mirrors and resumed downloads.

mod auth;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, LOCATION, RANGE, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::image::manifest::{self, Descriptor, Document};
use crate::image::{Reference, StoreError, digest::Digest};
use crate::images::Credential;

/// How often a broken download is taken up again.
const RESUMES_MAX: u32 = 5;
/// Most redirects that are followed for one request.
const REDIRECTS_MAX: u32 = 5;
/// Longest silence of a registry, for headers and between pieces of a body.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Most bytes of an error's body that are read.
const ERROR_BODY_MAX: usize = 64 << 10;

/// Which registries are reached how.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RegistryConfig {
    /// For a registry, the base URLs to try before it, such as `https://mirror.example`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Registries (`host[:port]`) that speak plain HTTP. Those on loopback addresses always may.
    pub insecure: BTreeSet<String>,
    /// PEM files of further certificate authorities to trust.
    pub certificate_authorities: Vec<std::path::PathBuf>,
}

/// A client for all registries. Cloning shares its connections.
#[derive(Debug, Clone)]
pub struct RegistryClient {
    config: Arc<RegistryConfig>,
    http: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// A manifest as fetched.
#[derive(Debug)]
pub struct FetchedManifest {
    /// Digest of the manifest for this machine.
    pub digest: Digest,
    /// Digest of what the name stands for: the index if there is one, else the manifest.
    pub top: Digest,
    /// The manifest.
    pub manifest: manifest::Manifest,
}

/// A registry as one pull sees it: the place that answered, and the token for it.
#[derive(Debug)]
pub struct Session {
    client: RegistryClient,
    base: String,
    repository: String,
    credential: Option<Credential>,
    /// Value of the `Authorization` header that worked last.
    authorization: tokio::sync::Mutex<Option<String>>,
}

impl RegistryClient {
    /// A client that trusts the public authorities, the system's and those of `config`.
    pub fn new(config: RegistryConfig) -> Result<Self, StoreError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        // The system's bundle is an addition: a machine without one, or with an unreadable entry, is as good as without.
        let system = Path::new("/etc/ssl/certs/ca-certificates.crt");
        if let Ok(certificates) = CertificateDer::pem_file_iter(system) {
            roots.add_parsable_certificates(certificates.flatten());
        }
        for path in &config.certificate_authorities {
            let unreadable = |e: rustls_pki_types::pem::Error| StoreError::malformed(path.display().to_string(), e);
            for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                let certificate = certificate.map_err(unreadable)?;
                roots.add(certificate).map_err(|e| StoreError::malformed(path.display().to_string(), e))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| StoreError::malformed("the TLS configuration", e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(Duration::from_secs(15)));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self { config: Arc::new(config), http: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// Finds out what a reference stands for, at the first mirror or registry that knows it.
    pub async fn resolve(
        &self,
        reference: &Reference,
        credentials: &[Credential],
    ) -> Result<(Session, FetchedManifest), StoreError> {
        let credential = auth::choose(credentials, &reference.registry, &reference.repository);
        let mut first_error = None;
        for (base, own) in self.places(&reference.registry) {
            let session = Session {
                client: self.clone(),
                base,
                repository: reference.repository.clone(),
                // A mirror is not shown the registry's password.
                credential: credential.clone().filter(|_| own),
                authorization: tokio::sync::Mutex::default(),
            };
            match session.manifest(reference).await {
                Ok(manifest) => return Ok((session, manifest)),
                Err(error) if own => return Err(first_error.unwrap_or(error)),
                Err(error) => {
                    tracing::info!(mirror = session.base, error = %error, "the mirror does not have the image");
                    first_error = None;
                }
            }
        }
        unreachable!("the registry itself is the last place")
    }

    /// Base URLs to try, the registry's own last.
    fn places(&self, registry: &str) -> Vec<(String, bool)> {
        let mirrors = self.config.mirrors.get(registry).into_iter().flatten();
        let mut places: Vec<_> = mirrors.map(|m| (m.trim_end_matches('/').to_string(), false)).collect();
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let scheme = if self.config.insecure.contains(registry) || is_loopback(registry) { "http" } else { "https" };
        places.push((format!("{scheme}://{host}"), true));
        places
    }

    async fn get(&self, url: &str, headers: HeaderMap) -> Result<http::Response<Incoming>, StoreError> {
        let broken = |message: String| StoreError::Transport { url: url.to_string(), message };
        let mut request = http::Request::get(url).body(Empty::new()).map_err(|e| broken(e.to_string()))?;
        *request.headers_mut() = headers;
        request
            .headers_mut()
            .insert(USER_AGENT, http::HeaderValue::from_static(concat!("mizzen/", env!("CARGO_PKG_VERSION"))));
        match tokio::time::timeout(SILENCE_MAX, self.http.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(broken(super::error::chain(&error))),
            Err(_) => Err(broken(format!("no answer within {} s", SILENCE_MAX.as_secs()))),
        }
    }

    /// Follows redirects; the authorization goes only to the host it is for.
    async fn get_following(&self, url: &str, headers: &HeaderMap) -> Result<http::Response<Incoming>, StoreError> {
        let (mut url, mut headers) = (url.to_string(), headers.clone());
        for _ in 0..REDIRECTS_MAX {
            let answer = self.get(&url, headers.clone()).await?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let location = answer.headers().get(LOCATION).and_then(|l| l.to_str().ok());
            let next = location
                .and_then(|l| join(&url, l))
                .ok_or_else(|| StoreError::Transport { url: url.clone(), message: "it redirects to nowhere".into() })?;
            if host_of(&next) != host_of(&url) {
                headers.remove(AUTHORIZATION);
            }
            url = next;
        }
        Err(StoreError::Transport { url, message: format!("it redirects more than {REDIRECTS_MAX} times") })
    }
}

impl Session {
    async fn manifest(&self, reference: &Reference) -> Result<FetchedManifest, StoreError> {
        let (top, bytes) = self.document("manifests", &reference.selector(), reference.digest.as_ref()).await?;
        let what = format!("the manifest of {reference}");
        let (digest, bytes) = match Document::parse(&what, &bytes)? {
            Document::Manifest(manifest) => {
                return Ok(FetchedManifest { digest: top.clone(), top, manifest });
            }
            Document::Index(list) => {
                let chosen = manifest::select(&what, &list)?;
                self.document("manifests", &chosen.digest.to_string(), Some(&chosen.digest)).await?
            }
        };
        match Document::parse(&what, &bytes)? {
            Document::Manifest(manifest) => Ok(FetchedManifest { digest, top, manifest }),
            Document::Index(_) => Err(StoreError::malformed(what, "an index within an index")),
        }
    }

    /// A small blob (the configuration), verified.
    pub async fn small_blob(&self, descriptor: &Descriptor) -> Result<Bytes, StoreError> {
        let (_, bytes) = self.document("blobs", &descriptor.digest.to_string(), Some(&descriptor.digest)).await?;
        Ok(bytes)
    }

    async fn document(
        &self,
        kind: &str,
        selector: &str,
        expected: Option<&Digest>,
    ) -> Result<(Digest, Bytes), StoreError> {
        let url = self.url(kind, selector);
        let answer = self.request(&url, None).await?;
        let limit = usize::try_from(manifest::DOCUMENT_MAX).unwrap_or(usize::MAX);
        let body = tokio::time::timeout(SILENCE_MAX, Limited::new(answer.into_body(), limit).collect()).await;
        let broken = |message: String| StoreError::Transport { url: url.clone(), message };
        let bytes = body.map_err(|_| broken("it fell silent".into()))?.map_err(|e| broken(e.to_string()))?.to_bytes();
        let actual = Digest::of(&bytes);
        match expected {
            Some(expected) if *expected != actual => Err(StoreError::DigestMismatch {
                what: url,
                expected: expected.to_string(),
                actual: actual.to_string(),
            }),
            _ => Ok((actual, bytes)),
        }
    }

    /// Downloads a blob into `file`, going on where an earlier download of it ended. The content is *not* yet verified.
    pub async fn download(&self, descriptor: &Descriptor, file: &Path) -> Result<(), StoreError> {
        let url = self.url("blobs", &descriptor.digest.to_string());
        let mut resumes = 0;
        loop {
            match self.download_once(&url, descriptor, file).await {
                Err(StoreError::Transport { message, .. }) if resumes < RESUMES_MAX => {
                    resumes += 1;
                    tracing::info!(url, message, resumes, "the download broke off; going on");
                    tokio::time::sleep(Duration::from_millis(200) * 2_u32.pow(resumes)).await;
                }
                other => return other,
            }
        }
    }

    async fn download_once(&self, url: &str, descriptor: &Descriptor, path: &Path) -> Result<(), StoreError> {
        let written = |e| StoreError::file("writing", path)(e);
        let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(path).await.map_err(written)?;
        let mut have = file.metadata().await.map_err(written)?.len();
        if have > descriptor.size {
            file.set_len(0).await.map_err(written)?;
            have = 0;
        }
        if have == descriptor.size {
            return Ok(());
        }
        let answer = self.request(url, (have > 0).then_some(have)).await?;
        if have > 0 && answer.headers().get(CONTENT_RANGE).is_none() {
            // The registry does not resume: it starts over, and so do we.
            file.set_len(0).await.map_err(written)?;
            have = 0;
        }
        let broken = |message: String| StoreError::Transport { url: url.to_string(), message };
        let mut body = answer.into_body();
        loop {
            let frame =
                tokio::time::timeout(SILENCE_MAX, body.frame()).await.map_err(|_| broken("it fell silent".into()))?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|e| broken(super::error::chain(&e)))?;
            let Some(data) = frame.data_ref() else { continue };
            have += data.len() as u64;
            if have > descriptor.size {
                return Err(StoreError::malformed(
                    url,
                    format!("it is longer than the {} bytes that the manifest says", descriptor.size),
                ));
            }
            file.write_all(data).await.map_err(written)?;
        }
        file.flush().await.map_err(written)?;
        if have < descriptor.size {
            return Err(broken(format!("it ended after {have} of {} bytes", descriptor.size)));
        }
        Ok(())
    }

    fn url(&self, kind: &str, selector: &str) -> String {
        format!("{}/v2/{}/{kind}/{selector}", self.base, self.repository)
    }

    /// A GET that signs in when asked to. Anything but success is an error.
    async fn request(&self, url: &str, from: Option<u64>) -> Result<http::Response<Incoming>, StoreError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, http::HeaderValue::from_static(manifest::ACCEPT));
        if let Some(from) = from.and_then(|f| http::HeaderValue::try_from(format!("bytes={f}-")).ok()) {
            headers.insert(RANGE, from);
        }
        let known = self.authorization.lock().await.clone();
        if let Some(value) = known.and_then(|v| http::HeaderValue::try_from(v).ok()) {
            headers.insert(AUTHORIZATION, value);
        }
        let mut answer = self.client.get_following(url, &headers).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let challenge =
                answer.headers().get(WWW_AUTHENTICATE).and_then(|h| h.to_str().ok()).unwrap_or_default().to_string();
            let value = auth::answer(&self.client, &challenge, &self.repository, self.credential.as_ref()).await?;
            if let Some(value) = value {
                *self.authorization.lock().await = Some(value.clone());
                if let Ok(value) = http::HeaderValue::try_from(value) {
                    headers.insert(AUTHORIZATION, value);
                }
                answer = self.client.get_following(url, &headers).await?;
            }
        }
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(url, answer).await) }
    }
}

/// The registry's own words for an error answer, or what its code means.
async fn refusal(url: &str, answer: http::Response<Incoming>) -> StoreError {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let code = answer.status();
    let body = tokio::time::timeout(SILENCE_MAX, Limited::new(answer.into_body(), ERROR_BODY_MAX).collect()).await;
    let body = body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let words = serde_json::from_slice::<Errors>(&body).ok().and_then(|e| e.errors.into_iter().next());
    let message = match (words, code) {
        (Some(item), _) => format!("{}: {}", item.code.to_lowercase().replace('_', " "), item.message),
        (None, StatusCode::NOT_FOUND) => "not found".to_string(),
        (None, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            "pull access denied; it may need credentials (imagePullSecrets)".to_string()
        }
        (None, code) => code.canonical_reason().unwrap_or("unknown status").to_string(),
    };
    StoreError::Refused { url: url.to_string(), code: code.as_u16(), message }
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn host_of(url: &str) -> Option<String> {
    url.parse::<Uri>().ok()?.authority().map(ToString::to_string)
}

/// A redirect's target, absolute or relative to the host.
fn join(base: &str, location: &str) -> Option<String> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.to_string());
    }
    let base: Uri = base.parse().ok()?;
    location.starts_with('/').then(|| {
        format!("{}://{}{location}", base.scheme_str().unwrap_or("https"), base.authority().map_or("", |a| a.as_str()))
    })
}
