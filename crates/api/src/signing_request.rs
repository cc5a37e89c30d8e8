//! The PKCS#10 request (RFC 2986) inside a CertificateSigningRequest: what it asks for, and whether it is a kubelet's.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::prelude::FromDer;

/// The signer of client certificates that name their user and groups themselves.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// The signer of kubelets' client certificates.
pub const KUBELET_CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// The signer of kubelets' serving certificates.
pub const KUBELET_SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// A signer of old, no longer accepted in new requests.
pub const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

/// A request whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRequest {
    /// The subject, DER.
    pub subject: Vec<u8>,
    /// The public key with its algorithm (SubjectPublicKeyInfo), DER.
    pub public_key: Vec<u8>,
    /// The value of the extension subjectAltName, DER.
    pub alternative_names: Option<Vec<u8>>,
    /// The last CN of the subject, empty if there is none.
    pub common_name: String,
    /// Every O of the subject.
    pub organizations: Vec<String>,
    /// How many alternative names there are of each kind.
    pub names: NameCounts,
}

/// Alternative names by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NameCounts {
    /// DNS names.
    pub dns: usize,
    /// IP addresses.
    pub addresses: usize,
    /// Mail addresses.
    pub emails: usize,
    /// URIs.
    pub uris: usize,
}

/// Why bytes are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not PEM, or PEM of something else.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    /// Not a PKCS#10 request.
    #[error("the certificate request is malformed")]
    Malformed,
    /// Signed by another key than the one it is for.
    #[error("the certificate request is not signed by its own key")]
    Signature,
}

impl SigningRequest {
    /// Reads and checks a request in PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RequestError> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| RequestError::Pem)?;
        if block.label != "CERTIFICATE REQUEST" {
            return Err(RequestError::Pem);
        }
        let (rest, request) =
            X509CertificationRequest::from_der(&block.contents).map_err(|_| RequestError::Malformed)?;
        if !rest.is_empty() {
            return Err(RequestError::Malformed);
        }
        request.verify_signature().map_err(|_| RequestError::Signature)?;
        let info = &request.certification_request_info;
        let text = |names: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
            names.into_iter().filter_map(|name| name.as_str().ok()).map(String::from).collect::<Vec<_>>()
        };
        let extensions = info.iter_attributes().find_map(|attribute| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(requested) => Some(&requested.extensions),
            _ => None,
        });
        let names = extensions.and_then(|list| list.iter().find(|one| one.oid == OID_X509_EXT_SUBJECT_ALT_NAME));
        let mut counts = NameCounts::default();
        if let Some(extension) = names {
            let ParsedExtension::SubjectAlternativeName(parsed) = extension.parsed_extension() else {
                return Err(RequestError::Malformed);
            };
            for name in &parsed.general_names {
                match name {
                    GeneralName::DNSName(_) => counts.dns += 1,
                    GeneralName::IPAddress(_) => counts.addresses += 1,
                    GeneralName::RFC822Name(_) => counts.emails += 1,
                    GeneralName::URI(_) => counts.uris += 1,
                    _ => {}
                }
            }
        }
        Ok(Self {
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            alternative_names: names.map(|extension| extension.value.to_vec()),
            common_name: text(info.subject.iter_common_name().collect()).pop().unwrap_or_default(),
            organizations: text(info.subject.iter_organization().collect()),
            names: counts,
        })
    }

    /// Why this is no request for what the signer signs; `None` if it is. Only Kubernetes' own signers are known.
    pub fn misfit(&self, signer: &str, usages: &[String]) -> Option<String> {
        match signer {
            CLIENT_SIGNER => client_misfit(usages),
            KUBELET_CLIENT_SIGNER => self.kubelet_misfit(usages, "client auth"),
            KUBELET_SERVING_SIGNER => self.kubelet_misfit(usages, "server auth"),
            _ => None,
        }
    }

    fn kubelet_misfit(&self, usages: &[String], auth: &str) -> Option<String> {
        let NameCounts { dns, addresses, emails, uris } = self.names;
        let serving = auth == "server auth";
        let why = if self.organizations != ["system:nodes"] {
            "subject organization is not system:nodes"
        } else if serving && dns + addresses == 0 {
            "DNS or IP subjectAltName is required"
        } else if !serving && dns > 0 {
            "DNS subjectAltNames are not allowed"
        } else if emails > 0 {
            "Email subjectAltNames are not allowed"
        } else if !serving && addresses > 0 {
            "IP subjectAltNames are not allowed"
        } else if uris > 0 {
            "URI subjectAltNames are not allowed"
        } else if !self.common_name.starts_with("system:node:") {
            "subject common name does not begin with system:node:"
        } else {
            let mut sorted: Vec<&str> = usages.iter().map(String::as_str).collect();
            sorted.sort_unstable();
            sorted.dedup();
            // Only RSA keys encipher keys.
            let mut all = [auth, "digital signature", "key encipherment"];
            let mut few = [auth, "digital signature"];
            all.sort_unstable();
            few.sort_unstable();
            return (sorted != all && sorted != few)
                .then(|| format!("usages did not match [{auth} digital signature key encipherment]"));
        };
        Some(why.into())
    }
}

fn client_misfit(usages: &[String]) -> Option<String> {
    let optional = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !optional.contains(&usage.as_str())) {
        return Some(format!("invalid usage for client certificate: {other}"));
    }
    (!usages.iter().any(|usage| usage == "client auth"))
        .then(|| "missing required usage for client certificate: client auth".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_told() {
        for (text, error) in [
            ("", RequestError::Pem),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", RequestError::Pem),
            ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", RequestError::Malformed),
        ] {
            assert_eq!(SigningRequest::from_pem(text.as_bytes()), Err(error), "{text}");
        }
    }

    #[test]
    fn signers_sign_what_is_theirs() {
        let base = SigningRequest {
            subject: vec![],
            public_key: vec![],
            alternative_names: None,
            common_name: "system:node:n".into(),
            organizations: vec!["system:nodes".into()],
            names: NameCounts::default(),
        };
        let serving = SigningRequest { names: NameCounts { dns: 1, ..NameCounts::default() }, ..base.clone() };
        let other = SigningRequest { organizations: vec!["a".into()], ..base.clone() };
        let misnamed = SigningRequest { common_name: "n".into(), ..base.clone() };
        let of = |signer, request: &SigningRequest, usages: &str| {
            let usages: Vec<String> = usages.split(',').map(String::from).collect();
            request.misfit(signer, &usages).unwrap_or_default()
        };
        let client = "client auth,digital signature";
        for (signer, request, usages, why) in [
            (KUBELET_CLIENT_SIGNER, &base, client, ""),
            (KUBELET_CLIENT_SIGNER, &base, "key encipherment,client auth,digital signature", ""),
            (KUBELET_CLIENT_SIGNER, &base, "server auth,digital signature", "usages did not match"),
            (KUBELET_CLIENT_SIGNER, &serving, client, "DNS subjectAltNames are not allowed"),
            (KUBELET_CLIENT_SIGNER, &other, client, "subject organization"),
            (KUBELET_CLIENT_SIGNER, &misnamed, client, "subject common name"),
            (KUBELET_SERVING_SIGNER, &serving, "server auth,digital signature", ""),
            (KUBELET_SERVING_SIGNER, &base, "server auth,digital signature", "DNS or IP"),
            (CLIENT_SIGNER, &other, "client auth", ""),
            (CLIENT_SIGNER, &other, "client auth,server auth", "invalid usage for client certificate: server auth"),
            (CLIENT_SIGNER, &other, "digital signature", "missing required usage"),
            ("example.org/x", &other, "any", ""),
        ] {
            let got = of(signer, request, usages);
            assert!(got.starts_with(why) && got.is_empty() == why.is_empty(), "{signer} {usages}: {got}");
        }
    }
}
