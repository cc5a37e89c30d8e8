//! Aggregation: other API servers behind this one (api-facts §6.5).
//!
//! An APIService says who serves a group and version: a Service of the cluster ([`services`]) or this server. Requests for
//! the former are passed on with the user's name, vouched for by the front-proxy certificate ([`proxy`]). [`upkeep`] keeps
//! the APIServices of this server's own groups and of custom resources, asks the others whether they are there
//! ([`availability`]), and reads what they serve, which discovery and OpenAPI then tell with our own ([`documents`],
//! [`openapi`]).

mod availability;
mod documents;
mod local;
mod openapi;
mod proxy;
mod services;
mod upkeep;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mizzen_store::Snapshot;
use rustls::client::ResolvesClientCert;
use serde_json::{Value, json};

use crate::derived::Cache;
pub(crate) use documents::{merge_aggregated, merge_group, merge_group_list};
pub(crate) use openapi::{merge_v2, v3_entries};
pub(crate) use proxy::{Passed, answer, passes_on};
use services::Services;
pub(crate) use upkeep::run;

/// The name in the certificate of the front proxy; aggregated servers believe what it says of users.
pub const FRONT_PROXY: &str = "front-proxy-client";

/// All APIServices.
const PREFIX: &str = "apiregistration.k8s.io/apiservices/";

/// What aggregated servers are told to believe.
#[derive(Clone)]
pub struct FrontProxy {
    /// The certificate that this server shows them.
    pub certificate: Arc<dyn ResolvesClientCert>,
    /// The authority that signed it, PEM.
    pub ca_pem: String,
    /// The authority of clients' own certificates, PEM.
    pub client_ca_pem: String,
}

impl FrontProxy {
    /// The data of the ConfigMap `extension-apiserver-authentication`, from which aggregated servers learn whom to believe.
    pub(crate) fn config_map_data(&self) -> Value {
        json!({
            "client-ca-file": self.client_ca_pem,
            "requestheader-allowed-names": json!([FRONT_PROXY]).to_string(),
            "requestheader-client-ca-file": self.ca_pem,
            "requestheader-extra-headers-prefix": r#"["X-Remote-Extra-"]"#,
            "requestheader-group-headers": r#"["X-Remote-Group"]"#,
            "requestheader-uid-headers": r#"["X-Remote-Uid"]"#,
            "requestheader-username-headers": r#"["X-Remote-User"]"#,
        })
    }
}

/// Who serves what, and what is known of those who are not this server.
pub(crate) struct Aggregation {
    services: Cache<Services>,
    /// What the others serve, by APIService name.
    told: ArcSwap<Told>,
}

/// What aggregated servers told last.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Counts up with every change.
    generation: u64,
    by_service: HashMap<String, Arc<Known>>,
}

/// What one aggregated server told of its group and version.
#[derive(Debug, Default, PartialEq)]
struct Known {
    /// `APIVersionDiscovery`, save freshness.
    discovery: Value,
    /// The hash of its OpenAPI v3 document, if it has one.
    v3_hash: Option<String>,
    /// Its OpenAPI v2 document.
    v2: Value,
    /// It could not be asked the last time.
    stale: bool,
}

impl Default for Aggregation {
    fn default() -> Self {
        Self { services: Cache::new(&[PREFIX], Services::new), told: ArcSwap::default() }
    }
}

impl Aggregation {
    /// Who serves what, as of a snapshot.
    pub fn services(&self, snapshot: &Snapshot) -> Arc<Services> {
        self.services.get(snapshot)
    }

    /// Different whenever a document made of the others' is: nothing for a server that stands alone.
    pub fn generation(&self, snapshot: &Snapshot) -> u64 {
        let services = self.services(snapshot);
        if services.has_remote() { self.told.load().generation.max(1) ^ (services.fingerprint << 20) } else { 0 }
    }

    /// Replaces what is known; nothing changes if it is the same.
    fn tell(&self, by_service: HashMap<String, Arc<Known>>) {
        let before = self.told.load();
        if before.by_service != by_service {
            self.told.store(Arc::new(Told { generation: before.generation + 1, by_service }));
        }
    }
}
