//! The certificates this node uses: what each is for, loading, issuing, renewal.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rcgen::SanType;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;

use super::authority::{Authority, Request, due, renewal_time};
use super::{Options, PkiError, files};
use crate::aggregation::FRONT_PROXY;
use crate::peers::GROUP;

/// A certificate in use; swapped when it is renewed.
#[derive(Debug)]
pub struct Slot {
    name: &'static str,
    path: PathBuf,
    common_name: String,
    organization: Option<&'static str>,
    /// DNS names and addresses of a serving certificate.
    hosts: BTreeSet<String>,
    current: ArcSwap<Certificate>,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Certificate {
    /// For TLS.
    pub tls: Arc<CertifiedKey>,
    /// Key and certificate, PEM.
    pub pem: String,
    /// When two thirds of its life are over, in Unix seconds.
    pub renew_at: i64,
}

/// The certificates of this node.
#[derive(Debug)]
pub struct Certificates {
    /// Served on the API's port.
    pub api_server: Arc<Slot>,
    /// Served on the kubelet's port.
    pub kubelet: Arc<Slot>,
    /// `kubernetes-admin`.
    pub admin: Arc<Slot>,
    /// `system:node:<name>`.
    pub node: Arc<Slot>,
    /// The API server towards kubelets.
    pub to_kubelet: Arc<Slot>,
    /// A server towards the others.
    pub server: Arc<Slot>,
    /// The API server towards aggregated ones, of an authority of its own: whoever has such a certificate is believed
    /// about users.
    pub front_proxy: Arc<Slot>,
}

impl Certificates {
    /// Loads what fits and is fresh, issues the rest.
    pub fn open(
        options: &Options,
        authority: &Authority,
        front_proxy: &Authority,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let open = |name, common_name: &str, organization, hosts| {
            Slot::open(&options.dir, authority, now, name, common_name, organization, hosts).map(Arc::new)
        };
        let node_user = format!("system:node:{}", options.node_name);
        let none = BTreeSet::new;
        Ok(Self {
            api_server: open("api-server", "kube-apiserver", None, api_server_hosts(options))?,
            kubelet: open("kubelet", &node_user, Some("system:nodes"), node_hosts(options))?,
            admin: open("admin", "kubernetes-admin", Some("system:masters"), none())?,
            node: open("node", &node_user, Some("system:nodes"), none())?,
            to_kubelet: open("api-server-to-kubelet", KUBELET_CLIENT, Some("system:masters"), none())?,
            server: open("server", &format!("system:mizzen:server:{}", options.node_name), Some(GROUP), none())?,
            front_proxy: Slot::open(&options.dir, front_proxy, now, "front-proxy-client", FRONT_PROXY, None, none())
                .map(Arc::new)?,
        })
    }

    /// Re-issues every certificate that is due; answers when the next one will be.
    pub fn renew_due(
        &self,
        authority: &Authority,
        front_proxy: &Authority,
        now: Timestamp,
    ) -> Result<Timestamp, PkiError> {
        let mut next = i64::MAX;
        let own = [&self.api_server, &self.kubelet, &self.admin, &self.node, &self.to_kubelet, &self.server];
        let all = own.into_iter().map(|slot| (slot, authority)).chain([(&self.front_proxy, front_proxy)]);
        for (slot, authority) in all {
            if now.as_second() >= slot.current.load().renew_at {
                slot.current.store(Arc::new(slot.issue(authority, now)?));
            }
            next = next.min(slot.current.load().renew_at);
        }
        Ok(Timestamp::from_second(next).unwrap_or(now))
    }
}

/// The name under which the API server connects to kubelets.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

fn node_hosts(options: &Options) -> BTreeSet<String> {
    let local = ["localhost".to_string(), "127.0.0.1".into(), "::1".into()];
    let addresses = options.addresses.iter().map(ToString::to_string);
    addresses.chain(local).chain([options.node_name.clone()]).filter(|host| is_host(host)).collect()
}

fn api_server_hosts(options: &Options) -> BTreeSet<String> {
    let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(String::from);
    let mut hosts = node_hosts(options);
    hosts.extend(service);
    hosts.insert(format!("kubernetes.default.svc.{}", options.cluster_domain));
    hosts.insert(options.service_address.to_string());
    hosts.extend(options.names.iter().filter(|host| is_host(host)).cloned());
    hosts
}

/// A certificate can carry it: an address, or ASCII without blanks (a host name may hold anything).
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.len() <= 253 && host.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Slot {
    fn open(
        dir: &Path,
        authority: &Authority,
        now: Timestamp,
        name: &'static str,
        common_name: &str,
        organization: Option<&'static str>,
        hosts: BTreeSet<String>,
    ) -> Result<Self, PkiError> {
        let path = dir.join(format!("{name}.pem"));
        let draft = Draft { name, path: &path, common_name, organization, hosts: &hosts };
        let stored = files::read(&path)?;
        let current = match stored.and_then(|pem| draft.load(pem, authority, now)) {
            Some(current) => current,
            None => draft.issue(authority, now)?,
        };
        let current = ArcSwap::from_pointee(current);
        Ok(Self { name, path, common_name: common_name.into(), organization, hosts, current })
    }

    /// The certificate in use now.
    pub fn current(&self) -> Arc<Certificate> {
        self.current.load_full()
    }

    fn issue(&self, authority: &Authority, now: Timestamp) -> Result<Certificate, PkiError> {
        let Self { name, path, common_name, organization, hosts, .. } = self;
        Draft { name, path, common_name, organization: *organization, hosts }.issue(authority, now)
    }
}

/// What a certificate should be.
struct Draft<'a> {
    name: &'static str,
    path: &'a Path,
    common_name: &'a str,
    organization: Option<&'a str>,
    hosts: &'a BTreeSet<String>,
}

impl Draft<'_> {
    /// The stored certificate, unless it is due, of another CA, for other names, or damaged: then a new one is as good.
    fn load(&self, pem: String, authority: &Authority, now: Timestamp) -> Option<Certificate> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
        let (_, ca) = x509_parser::parse_x509_certificate(&authority.der).ok()?;
        let names = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let fits = !due(&parsed, now)
            && names.eq([self.common_name])
            && hosts_of(&parsed) == *self.hosts
            && parsed.verify_signature(Some(ca.public_key())).is_ok();
        fits.then(|| self.certificate(pem).ok()).flatten()
    }

    fn issue(&self, authority: &Authority, now: Timestamp) -> Result<Certificate, PkiError> {
        let failed = |source| PkiError::Issue { name: self.name, source };
        let names: Vec<SanType> = self.hosts.iter().map(|host| san(host)).collect::<Result<_, _>>().map_err(failed)?;
        let Self { name, common_name, organization, .. } = *self;
        let pem = authority.issue(&Request { name, common_name, organization, names: &names }, now)?;
        files::write(self.path, &pem)?;
        tracing::info!(certificate = name, "issued a certificate");
        self.certificate(pem)
    }

    fn certificate(&self, pem: String) -> Result<Certificate, PkiError> {
        let failed = |source| PkiError::Tls { name: self.name, source };
        let unreadable = |_| failed(rustls::Error::General("the file is not readable as PEM".into()));
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(unreadable)?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(unreadable)?;
        let parsed = x509_parser::parse_x509_certificate(&der);
        let renew_at = parsed.map_or(0, |(_, parsed)| renewal_time(parsed.validity()));
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&key).map_err(failed)?;
        let tls = CertifiedKey::new(vec![der], key);
        tls.keys_match().map_err(failed)?;
        Ok(Certificate { tls: Arc::new(tls), pem, renew_at })
    }
}

fn san(host: &str) -> Result<SanType, rcgen::Error> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(host.try_into()?)),
    }
}

fn hosts_of(certificate: &x509_parser::certificate::X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return BTreeSet::new();
    };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_string()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
        _ => None,
    };
    names.value.general_names.iter().filter_map(host).collect()
}
