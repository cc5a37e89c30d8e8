//! Requests that are done with are removed: an hour after they were decided, a day after nobody did, or with the end of
//! the certificate.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use mizzen_store::Snapshot;

use super::{certificate_of, condition, conditions_of};
use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Target, Write};

const DECIDED: SignedDuration = SignedDuration::from_hours(1);
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// Removes the request at `key` once its time has come.
pub fn reconcile(snapshot: &Snapshot, key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(csr) = snapshot.get_as::<CertificateSigningRequest>(key) else { return Ok(plan) };
    let Some(end) = end(&csr) else { return Ok(plan) };
    if now < end {
        plan.again(Duration::try_from(end.duration_since(now)).unwrap_or_default());
        return Ok(plan);
    }
    plan.write(Write::Delete {
        target: Target::of::<CertificateSigningRequest>("", csr.name()),
        uid: csr.uid().into(),
        resource_version: Some(csr.version().into()),
        propagation: None,
        grace_seconds: None,
    });
    Ok(plan)
}

/// When a request is no longer of use.
fn end(csr: &CertificateSigningRequest) -> Option<Timestamp> {
    let since = |kind: &str| condition(csr, kind)?.last_update_time.as_ref().map(|time| time.0);
    let issued = !certificate_of(csr).is_empty();
    let approved = since("Approved");
    let ends = [
        since("Denied").map(|time| time + DECIDED),
        since("Failed").map(|time| time + DECIDED),
        approved.map(|time| time + if issued { DECIDED } else { PENDING }),
        conditions_of(csr).is_empty().then(|| csr.created()).flatten().map(|time| time + PENDING),
    ];
    ends.into_iter().flatten().min()
}
