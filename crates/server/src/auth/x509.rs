//! Client certificates → identity (api-facts §6.1).

use std::fmt::Write;

use ring::digest::{SHA256, digest};

use super::{AUTHENTICATED, Identity};

/// More organizations in one certificate are not groups of anyone we issued for.
const GROUPS_MAX: usize = 256;

/// The identity in a certificate that TLS has verified: CN is the user, each O a group. `None` without a CN.
pub fn certificate_identity(der: &[u8]) -> Option<Identity> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let user = subject.iter_common_name().last()?.as_str().ok()?.to_string();
    if user.is_empty() {
        return None;
    }
    let organizations = subject.iter_organization().filter_map(|name| name.as_str().ok());
    let mut groups: Vec<String> = organizations.take(GROUPS_MAX).map(String::from).collect();
    if !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.into());
    }
    let mut credential = String::from("X509SHA256=");
    for byte in digest(&SHA256, der).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(credential, "{byte:02x}");
    }
    let extra = [("authentication.kubernetes.io/credential-id".to_string(), vec![credential])].into();
    Some(Identity { user, uid: String::new(), groups, extra })
}
