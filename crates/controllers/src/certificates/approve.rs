//! A kubelet's request for its client certificate is approved if who sends it may ask for one: bootstrap tokens for new
//! nodes, nodes for themselves.

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use mizzen_api::signing_request::KUBELET_CLIENT_SIGNER;
use mizzen_store::Snapshot;

use super::{Authority, certificate_of, condition, patch, request_of, usages_of, with_condition};
use crate::plan::{ControllerError, Plan};

/// What may be asked for, and the words of the approval.
const KINDS: [(&str, &str); 2] = [
    ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
    ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
];

/// Approves the request at `key`, or leaves it to people.
pub fn reconcile(
    snapshot: &Snapshot,
    key: &str,
    _now: Timestamp,
    authority: &dyn Authority,
) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(csr) = snapshot.get_as::<CertificateSigningRequest>(key) else { return Ok(plan) };
    let decided = ["Approved", "Denied"].into_iter().any(|kind| condition(&csr, kind).is_some());
    if decided || !certificate_of(&csr).is_empty() || csr.spec.signer_name != KUBELET_CLIENT_SIGNER {
        return Ok(plan);
    }
    let Some(request) = request_of(&csr) else { return Ok(plan) };
    if request.misfit(KUBELET_CLIENT_SIGNER, usages_of(&csr)).is_some() {
        return Ok(plan);
    }
    let own = csr.spec.username.as_deref() == Some(&request.common_name);
    let kinds = KINDS.iter().filter(|(kind, _)| own || *kind != "selfnodeclient");
    if let Some((_, words)) = kinds.into_iter().find(|(kind, _)| authority.may(snapshot, &csr.spec, kind)) {
        plan.write(patch(&csr, "approval", with_condition(&csr, "Approved", "AutoApproved", words)));
    }
    Ok(plan)
}
