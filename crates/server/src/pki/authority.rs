//! The certificate authority: loaded or made at start, issues every other certificate.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::SecureRandom;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{PkiError, files};

/// Ten years: longer than a cluster's certificates need, re-issued with the same key when two thirds are over.
const CA_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// One year, as Kubernetes issues them.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Certificates are valid from a little before they are made, for machines whose clocks are behind.
pub const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);

/// A certificate to be issued.
pub struct Request<'a> {
    /// For errors.
    pub name: &'static str,
    /// CN.
    pub common_name: &'a str,
    /// O.
    pub organization: Option<&'a str>,
    /// Serving certificates are for these; none makes a client certificate.
    pub names: &'a [SanType],
}

/// The CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub der: CertificateDer<'static>,
    /// Its certificate, PEM.
    pub pem: String,
}

impl Authority {
    /// Loads `<name>.pem` (key and certificate) from `dir`, or makes it.
    pub fn open(dir: &Path, name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let path = dir.join(format!("{name}.pem"));
        let damaged = |problem| PkiError::Damaged { path: path.clone(), problem, dir: dir.into() };
        let Some(text) = files::read(&path)? else {
            let key = KeyPair::generate().map_err(issue_error)?;
            return Self::issue_self(&path, name, key, now);
        };
        let key = KeyPair::from_pem(&text).map_err(|_| damaged("it holds no usable private key"))?;
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| damaged("it holds no certificate"))?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&der).map_err(|_| damaged("its certificate cannot be read"))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(damaged("its key does not belong to its certificate"));
        }
        if due(&parsed, now) {
            return Self::issue_self(&path, name, key, now);
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|_| damaged("its certificate is not a CA's"))?;
        let pem = pem_of_certificate(&der);
        Ok(Self { issuer, der, pem })
    }

    fn issue_self(path: &Path, name: &str, key: KeyPair, now: Timestamp) -> Result<Self, PkiError> {
        let mut params = params(&format!("mizzen-{name}"), None, now, CA_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(issue_error)?;
        let pem = pem_of_certificate(certificate.der());
        files::write(path, &format!("{}{pem}", key.serialize_pem()))?;
        let der = certificate.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), der, pem })
    }

    /// Its certificate, read.
    pub fn parsed(&self) -> Result<x509_parser::certificate::TbsCertificate<'_>, PkiError> {
        let failed = |_| PkiError::Issue { name: "ca", source: rcgen::Error::CouldNotParseCertificate };
        x509_parser::parse_x509_certificate(&self.der).map(|(_, parsed)| parsed.tbs_certificate).map_err(failed)
    }

    /// Its key.
    pub fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// Issues a certificate with a fresh key: both as PEM, the key first.
    pub fn issue(&self, request: &Request<'_>, now: Timestamp) -> Result<String, PkiError> {
        let failed = |source| PkiError::Issue { name: request.name, source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(request.common_name, request.organization, now, LEAF_LIFE)?;
        params.subject_alt_names = request.names.to_vec();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match request.names {
            [] => ExtendedKeyUsagePurpose::ClientAuth,
            _ => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(format!("{}{}", key.serialize_pem(), pem_of_certificate(certificate.der())))
    }
}

fn issue_error(source: rcgen::Error) -> PkiError {
    PkiError::Issue { name: "ca", source }
}

fn params(
    common_name: &str,
    organization: Option<&str>,
    now: Timestamp,
    life: SignedDuration,
) -> Result<CertificateParams, PkiError> {
    let serial = serial()?;
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = subject;
    let start = now - CLOCK_SKEW;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_1970(start);
    params.not_after = epoch + since_1970(start + life);
    Ok(params)
}

/// A fresh serial number: a positive integer without leading zeros (RFC 5280, 4.1.2.2).
pub fn serial() -> Result<[u8; 16], PkiError> {
    let mut serial = [0u8; 16];
    ring::rand::SystemRandom::new().fill(&mut serial).map_err(|_| PkiError::Random)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn since_1970(time: Timestamp) -> std::time::Duration {
    std::time::Duration::from_secs(time.as_second().max(0).unsigned_abs())
}

/// Two thirds of a certificate's life are over, or it is not yet valid (the clock was set back).
pub fn due(certificate: &x509_parser::certificate::X509Certificate<'_>, now: Timestamp) -> bool {
    let validity = certificate.validity();
    let now = now.as_second();
    now < validity.not_before.timestamp() || now >= renewal_time(validity)
}

/// When two thirds of a certificate's life are over, in Unix seconds.
pub fn renewal_time(validity: &x509_parser::certificate::Validity) -> i64 {
    let (start, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    start + end.saturating_sub(start) / 3 * 2
}

/// A certificate as PEM with `\n` line ends.
pub fn pem_of_certificate(der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::with_capacity(body.len() + body.len() / 64 + 60);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| *byte as char));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
