//! TLS towards a target: whose certificate is believed, and what is shown to it.

use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use mizzen_client::any_certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Cause, Client, Origin, Trust};

/// Where distributions keep the authorities that the machine trusts.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Opens TLS to one origin.
pub(super) struct Connector {
    tls: TlsConnector,
    name: ServerName<'static>,
}

impl Connector {
    /// As the origin says.
    pub fn new(origin: &Origin, front_proxy: Option<&Arc<dyn ResolvesClientCert>>) -> Result<Self, Cause> {
        let config = |error: &dyn std::fmt::Display| Cause::Config(error.to_string());
        let name = origin.tls_name();
        let name = ServerName::try_from(name.clone()).map_err(|_| Cause::Config(format!("invalid host {name:?}")))?;
        let provider = Arc::new(ring::default_provider());
        let verifier = verifier(&origin.trust, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| config(&e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut tls = match (&origin.client, front_proxy) {
            (Client::FrontProxy, Some(resolver)) => builder.with_client_cert_resolver(Arc::clone(resolver)),
            (Client::Certificate { chain, key }, _) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
                let chain =
                    chain.map_err(|e| Cause::Config(format!("tls: failed to read the client certificate: {e}")))?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|e| Cause::Config(format!("tls: failed to read the client key: {e}")))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| config(&e))?
            }
            (Client::Anonymous | Client::FrontProxy, _) => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), name })
    }

    /// Opens TLS over a connection.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.tls.connect(self.name.clone(), stream).await
    }
}

fn verifier(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Cause> {
    let (roots, pinned) = match trust {
        Trust::Anyone => return Ok(any_certificate(Arc::clone(provider))),
        Trust::System => (Arc::clone(&SYSTEM), Vec::new()),
        Trust::Bundle(pem) => {
            let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem).flatten().collect();
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates.iter().cloned());
            if roots.is_empty() {
                return Err(Cause::Config(
                    "unable to load root certificates: unable to parse bytes as PEM block".into(),
                ));
            }
            (Arc::new(roots), certificates)
        }
    };
    let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|e| Cause::Config(e.to_string()))?;
    Ok(Arc::new(Known { chain, pinned }))
}

/// What the machine trusts, and where it has no bundle the public authorities.
static SYSTEM: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    for path in SYSTEM_BUNDLES {
        if let Ok(certificates) = CertificateDer::pem_file_iter(Path::new(path)) {
            roots.add_parsable_certificates(certificates.flatten());
            break;
        }
    }
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Arc::new(roots)
});

/// Believes what the bundle's authorities signed, and the bundle's certificates themselves: many webhooks serve with a
/// self-signed certificate that is its own authority, which WebPKI alone would refuse as a server's.
#[derive(Debug)]
struct Known {
    chain: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.pinned.iter().any(|own| own == end_entity) {
            in_time(end_entity, now)?;
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let bad = |why| Error::InvalidCertificate(why);
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| bad(CertificateError::BadEncoding))?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now > validity.not_after.timestamp() {
        return Err(bad(CertificateError::Expired));
    }
    if now < validity.not_before.timestamp() {
        return Err(bad(CertificateError::NotValidYet));
    }
    Ok(())
}
