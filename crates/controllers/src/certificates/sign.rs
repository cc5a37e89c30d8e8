//! An approved request of a signer of Kubernetes gets its certificate, or the condition that it will get none.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use mizzen_api::signing_request::{CLIENT_SIGNER, KUBELET_CLIENT_SIGNER, KUBELET_SERVING_SIGNER, LEGACY_SIGNER};
use mizzen_store::Snapshot;
use serde_json::json;

use super::{Authority, certificate_of, condition, encoded, patch, request_of, usages_of, with_condition};
use crate::plan::{ControllerError, Plan};

const SIGNERS: [&str; 4] = [CLIENT_SIGNER, KUBELET_CLIENT_SIGNER, KUBELET_SERVING_SIGNER, LEGACY_SIGNER];

/// Signs the request at `key` if it is approved and one of ours.
pub fn reconcile(
    snapshot: &Snapshot,
    key: &str,
    now: Timestamp,
    authority: &dyn Authority,
) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(csr) = snapshot.get_as::<CertificateSigningRequest>(key) else { return Ok(plan) };
    let signer = csr.spec.signer_name.as_str();
    let ended = ["Denied", "Failed"].into_iter().any(|kind| condition(&csr, kind).is_some());
    let approved = condition(&csr, "Approved").is_some_and(|one| one.status == "True");
    if ended || !approved || !certificate_of(&csr).is_empty() || !SIGNERS.contains(&signer) {
        return Ok(plan);
    }
    let Some(request) = request_of(&csr) else { return Ok(plan) };
    if let Some(why) = request.misfit(signer, usages_of(&csr)) {
        plan.write(patch(&csr, "status", with_condition(&csr, "Failed", "SignerValidationFailure", &why)));
        return Ok(plan);
    }
    let life = csr.spec.expiration_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));
    let signed = authority.sign(&request, usages_of(&csr), life, now);
    let pem =
        signed.map_err(|message| ControllerError::Unreadable { object: key.into(), field: "spec.request", message })?;
    plan.write(patch(&csr, "status", json!({"certificate": encoded(pem.as_bytes())})));
    Ok(plan)
}
