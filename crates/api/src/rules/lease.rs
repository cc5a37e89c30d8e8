//! coordination.k8s.io: Lease, LeaseCandidate.

use serde_json::Value;

use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::rules::cells::{self, text};
use crate::rules::check::{At, Errors};
use crate::rules::plain::PLAIN;

/// Rules of Leases.
pub static LEASE: Rules = Rules {
    validate: validate_lease,
    validate_update: |new, _| validate_lease(new),
    columns: &[Column::NAME, Column::text("Holder", "Who holds the lease."), Column::AGE],
    row: |object, now| {
        vec![cells::name(object), text(&object["spec"]["holderIdentity"]).into(), cells::age(object, now)]
    },
    ..LEASE_BASE
};

/// Rules of LeaseCandidates.
pub static LEASE_CANDIDATE: Rules = Rules { columns: CANDIDATE_COLUMNS, row: candidate_row, ..LEASE_BASE };

const LEASE_BASE: Rules = Rules { create_on_update: true, unconditional_update: false, ..PLAIN };

const CANDIDATE_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("LeaseName", "The lease it is a candidate for."),
    Column::text("BinaryVersion", "Version of its binary."),
    Column::text("EmulationVersion", "Version it behaves as."),
    Column::AGE,
];

fn candidate_row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    let [lease, binary, emulated] =
        ["leaseName", "binaryVersion", "emulationVersion"].map(|field| text(&spec[field]).into());
    vec![cells::name(object), lease, binary, emulated, cells::age(object, now)]
}

fn validate_lease(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    errors.positive(&at.field("leaseDurationSeconds"), &spec["leaseDurationSeconds"]);
    errors.not_negative(&at.field("leaseTransitions"), &spec["leaseTransitions"]);
    let strategy = text(&spec["strategy"]);
    if !strategy.is_empty() && !strategy.contains('/') {
        errors.one_of(&at.field("strategy"), &spec["strategy"], &["OldestEmulationVersion"]);
    }
    if !text(&spec["preferredHolder"]).is_empty() && strategy.is_empty() {
        errors.forbidden(&at.field("preferredHolder"), "may only be specified if `strategy` is defined");
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;
    use serde_json::json;

    #[test]
    fn leases_run_out() {
        let lease = json!({"spec": {"leaseDurationSeconds": 0}});
        let errors = ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"];
        check("zero", &validate_lease(&lease), &errors);
        check("none", &validate_lease(&json!({"spec": {}})), &[]);
    }
}
