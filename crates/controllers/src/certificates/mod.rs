//! CertificateSigningRequests of Kubernetes' own signers: approved if they are a node's own, signed, and in time removed
//! (certificates.k8s.io/v1; api-facts §9.10).
//!
//! The key of the authority is not here, nor is the authorizer: both are handed in as an [`Authority`].

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
};
use mizzen_api::signing_request::SigningRequest;
use mizzen_store::Snapshot;
use serde_json::{Value, json};

use crate::meta::Meta;
use crate::plan::{Target, Write};
use crate::shell::Controller;
use crate::wake::{every, itself};

mod approve;
mod clean;
mod sign;

/// The identity of all three.
const IDENTITY: &str = "certificate-controller";

/// What these controllers must be able to do and cannot do themselves.
pub trait Authority: std::fmt::Debug + Send + Sync {
    /// A certificate (PEM) for a request; `life` as asked for. The words of the error are for people.
    fn sign(
        &self,
        request: &SigningRequest,
        usages: &[String],
        life: Option<SignedDuration>,
        now: Timestamp,
    ) -> Result<String, String>;

    /// Whether who sent a request may `create` the sub-resource `kind` (`nodeclient`, `selfnodeclient`) of requests.
    fn may(&self, snapshot: &Snapshot, who: &CertificateSigningRequestSpec, kind: &str) -> bool;
}

/// The controllers over an authority.
pub fn controllers(authority: &Arc<dyn Authority>) -> [Controller; 3] {
    let (signer, judge) = (Arc::clone(authority), Arc::clone(authority));
    let controller = |name, reconcile| Controller {
        name,
        identity: IDENTITY,
        start: every::<CertificateSigningRequest>(),
        wakes: vec![itself::<CertificateSigningRequest>()],
        reconcile,
    };
    [
        controller(
            "certificatesigningrequest-approving-controller",
            Arc::new(move |snapshot, key, now| approve::reconcile(snapshot, key, now, &*judge)),
        ),
        controller(
            "certificatesigningrequest-signing-controller",
            Arc::new(move |snapshot, key, now| sign::reconcile(snapshot, key, now, &*signer)),
        ),
        controller("certificatesigningrequest-cleaner-controller", Arc::new(clean::reconcile)),
    ]
}

/// The PKCS#10 request inside.
fn request_of(csr: &CertificateSigningRequest) -> Option<SigningRequest> {
    SigningRequest::from_pem(&csr.spec.request.0).ok()
}

fn usages_of(csr: &CertificateSigningRequest) -> &[String] {
    csr.spec.usages.as_deref().unwrap_or_default()
}

fn conditions_of(csr: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    csr.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn condition<'a>(csr: &'a CertificateSigningRequest, kind: &str) -> Option<&'a CertificateSigningRequestCondition> {
    conditions_of(csr).iter().find(|condition| condition.type_ == kind)
}

/// The certificate, empty if none was issued.
fn certificate_of(csr: &CertificateSigningRequest) -> &[u8] {
    csr.status.as_ref().and_then(|status| status.certificate.as_ref()).map(|bytes| &*bytes.0).unwrap_or_default()
}

/// A patch of the status as it was seen.
fn patch(csr: &CertificateSigningRequest, subresource: &'static str, status: Value) -> Write {
    Write::Merge {
        target: Target::of::<CertificateSigningRequest>("", csr.name()),
        subresource,
        patch: json!({"metadata": {"resourceVersion": csr.version(), "uid": csr.uid()}, "status": status}),
    }
}

/// The conditions with one more.
fn with_condition(csr: &CertificateSigningRequest, kind: &str, reason: &str, message: &str) -> Value {
    let mut conditions = json!(conditions_of(csr));
    if let Some(list) = conditions.as_array_mut() {
        list.push(json!({"type": kind, "status": "True", "reason": reason, "message": message}));
    }
    json!({"conditions": conditions})
}

/// Bytes as the API carries them.
fn encoded(bytes: &[u8]) -> Value {
    STANDARD.encode(bytes).into()
}

#[cfg(test)]
mod tests;
