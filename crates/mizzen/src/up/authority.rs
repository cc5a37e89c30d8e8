//! The cluster's authority as controllers use it: signing with its key, and asking the API server's authorizer.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use mizzen_api::signing_request::SigningRequest;
use mizzen_controllers::{certificates, tokens};
use mizzen_server::Server;
use mizzen_server::auth::{Attributes, Identity};
use mizzen_server::pki::Pki;
use mizzen_store::Snapshot;

/// The key of one, the authorizer of the other.
pub struct Authority {
    pki: Arc<Pki>,
    server: Server,
}

impl Authority {
    /// Over an opened authority and a server.
    pub fn new(pki: Arc<Pki>, server: Server) -> Self {
        Self { pki, server }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the cluster's authority")
    }
}

impl tokens::Issuer for Authority {
    fn token(&self, namespace: &str, secret: &str, account: &str, uid: &str) -> Option<String> {
        self.server.tokens().for_secret(namespace, secret, account, uid)
    }
}

impl certificates::Authority for Authority {
    fn sign(
        &self,
        request: &SigningRequest,
        usages: &[String],
        life: Option<SignedDuration>,
        now: Timestamp,
    ) -> Result<String, String> {
        self.pki.sign(request, usages, life, now).map_err(|error| error.to_string())
    }

    fn may(&self, snapshot: &Snapshot, who: &CertificateSigningRequestSpec, kind: &str) -> bool {
        let who = Identity {
            user: who.username.clone().unwrap_or_default(),
            uid: who.uid.clone().unwrap_or_default(),
            groups: who.groups.clone().unwrap_or_default(),
            extra: who.extra.clone().unwrap_or_default(),
        };
        let what = Attributes {
            verb: "create",
            resource_request: true,
            group: "certificates.k8s.io",
            version: "*",
            resource: "certificatesigningrequests",
            subresource: kind,
            ..Attributes::default()
        };
        self.server.may(snapshot, &who, &what)
    }
}
