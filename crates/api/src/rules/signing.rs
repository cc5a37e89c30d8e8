//! certificates.k8s.io/v1 CertificateSigningRequest.

use serde_json::Value;

use crate::duration;
use crate::field::FieldError;
use crate::kind::{Column, Rules, SelectableField};
use crate::names;
use crate::rules::cells::{self, NONE, list, text, text_or};
use crate::rules::check::{At, Errors};
use crate::rules::plain::{WITH_STATUS, keep_field};

/// Rules of CertificateSigningRequests.
pub static SIGNING_REQUEST: Rules = Rules {
    prepare_update: keep_all_but_metadata,
    validate: validate_request,
    validate_update: update_request,
    selectable: &[SelectableField { label: "spec.signerName", value: |csr| text(&csr["spec"]["signerName"]).into() }],
    columns: SIGNING_COLUMNS,
    row: signing_row,
    ..WITH_STATUS
};

const SIGNING_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::AGE,
    Column::text("SignerName", "Who is to sign."),
    Column::text("Requestor", "Who asks."),
    Column::text("RequestedDuration", "How long the certificate should be valid."),
    Column::text("Condition", "Whether it is approved, denied, issued."),
];

fn signing_row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    let seconds = spec["expirationSeconds"].as_i64();
    vec![
        cells::name(object),
        cells::age(object, now),
        text_or(&spec["signerName"], NONE).into(),
        text(&spec["username"]).into(),
        seconds.map_or_else(|| NONE.into(), duration::human).into(),
        signing_state(object).into(),
    ]
}

fn signing_state(object: &Value) -> String {
    let has = |kind| cells::condition(object, kind).is_some();
    let decision = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if text(&object["status"]["certificate"]).is_empty() { "" } else { ",Issued" };
    format!("{decision}{failed}{issued}")
}

fn validate_request(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    errors.required_text(&at.field("request"), &spec["request"], "");
    if list(&spec["usages"]).is_empty() {
        errors.required(&at.field("usages"), "");
    }
    match text(&spec["signerName"]) {
        "" => errors.required(&at.field("signerName"), ""),
        name => match name.split_once('/') {
            Some((domain, path)) if !path.is_empty() => {
                errors.all(&at.field("signerName"), name, names::dns1123_subdomain(domain));
            }
            _ => errors.invalid(
                &at.field("signerName"),
                name,
                "must be a fully qualified domain and path of the form 'example.com/signer-name'",
            ),
        },
    }
    if spec["expirationSeconds"].as_i64().is_some_and(|seconds| seconds < 600) {
        errors.invalid(
            &at.field("expirationSeconds"),
            &spec["expirationSeconds"],
            "may not specify a duration less than 600 seconds (10 minutes)",
        );
    }
    errors.0
}

/// What was asked for, and by whom, stays; an update that says nothing of it is one of the metadata.
fn keep_all_but_metadata(new: &mut Value, old: &Value) {
    keep_field(new, old, "spec");
    keep_field(new, old, "status");
}

/// A request is never changed; decisions go through `/approval` and `/status`.
fn update_request(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.immutable(&At::ROOT.field("spec"), &new["spec"], &old["spec"]);
    errors.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::SIGNING_REQUEST;

    #[test]
    fn updates_leave_the_request_as_it_was() {
        let old = json!({"spec": {"request": "r", "username": "ann"}, "status": {"certificate": "c"}});
        let mut new = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"request": "r", "username": "system:admin"}});
        (SIGNING_REQUEST.prepare_update)(&mut new, &old);
        assert_eq!((&new["spec"], &new["status"]), (&old["spec"], &old["status"]));
        assert_eq!(new["metadata"]["labels"]["a"], "b");
    }
}
