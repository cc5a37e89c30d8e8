//! TLS configurations. They look the certificate up at each handshake, so a renewed one is used without a restart.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::CertificateDer;

use super::PkiError;
use super::certificates::Slot;

/// Clients that come back within a day skip the certificate exchange; about 1 KB each.
const RESUMABLE_SESSIONS: usize = 1024;

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// It may; without one it is asked for a token or is anonymous.
    Optional,
    /// It must.
    Required,
}

/// ring, with AES-128-GCM first: the server's order counts, and AES-256 costs 4-10 % of throughput.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    let suites = &mut provider.cipher_suites;
    suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128_GCM"));
    Arc::new(provider)
}

fn roots(ca: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, PkiError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(|source| PkiError::Tls { name: "ca", source })?;
    Ok(Arc::new(roots))
}

/// A server that shows `certificate` and verifies clients against `ca`.
pub fn server(
    ca: &CertificateDer<'static>,
    certificate: &Arc<Slot>,
    clients: ClientCertificate,
) -> Result<Arc<ServerConfig>, PkiError> {
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca)?, Arc::clone(&provider));
    let verifier = match clients {
        ClientCertificate::Optional => verifier.allow_unauthenticated(),
        ClientCertificate::Required => verifier,
    };
    let verifier = verifier.build().map_err(|source| PkiError::Verifier { source })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| PkiError::Tls { name: "ca", source })?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Current(Arc::clone(certificate))));
    config.ignore_client_order = true;
    config.session_storage = ServerSessionMemoryCache::new(RESUMABLE_SESSIONS);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A client that trusts `ca` alone and shows `certificate`. The caller sets ALPN on a clone if it needs any.
pub fn client(ca: &CertificateDer<'static>, certificate: &Arc<Slot>) -> Result<Arc<ClientConfig>, PkiError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| PkiError::Tls { name: "ca", source })?
        .with_root_certificates(roots(ca)?)
        .with_client_cert_resolver(Arc::new(Current(Arc::clone(certificate))));
    Ok(Arc::new(config))
}

/// Shows whatever certificate the slot holds at the moment.
pub fn shown(certificate: &Arc<Slot>) -> Arc<dyn ResolvesClientCert> {
    Arc::new(Current(Arc::clone(certificate)))
}

/// Whatever certificate the slot holds at the moment.
#[derive(Debug)]
struct Current(Arc<Slot>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current().tls))
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current().tls))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
