//! certificates.k8s.io/v1 CertificateSigningRequest.

use base64::Engine;
use serde_json::Value;

use crate::duration;
use crate::field::FieldError;
use crate::kind::{Column, Rules, SelectableField};
use crate::names;
use crate::rules::cells::{self, NONE, list, text, text_or};
use crate::rules::check::{At, Errors};
use crate::rules::plain::{WITH_STATUS, keep_all_but_status, keep_field};
use crate::signing_request::{LEGACY_SIGNER, SigningRequest};

/// Rules of CertificateSigningRequests.
pub static SIGNING_REQUEST: Rules = Rules {
    prepare_update: keep_all_but_metadata,
    validate: validate_request,
    validate_update: update_request,
    prepare_status_update: keep_decisions,
    validate_status_update: validate_signature,
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

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// A domain, a slash, and a path that has room for a namespace, a dot and a name.
const SIGNER_MAX: usize = 571;

fn validate_request(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    let request = text(&spec["request"]);
    let pem = base64::engine::general_purpose::STANDARD.decode(request).unwrap_or_default();
    if let Err(error) = SigningRequest::from_pem(&pem) {
        errors.invalid(&at.field("request"), request, error.to_string());
    }
    let (usages_at, usages) = (at.field("usages"), list(&spec["usages"]));
    if usages.is_empty() {
        errors.required(&usages_at, "");
    }
    for (index, usage) in usages.iter().enumerate() {
        errors.one_of(&usages_at.index(index), usage, USAGES);
        if usages[..index].contains(usage) {
            errors.duplicate(&usages_at.index(index), usage);
        }
    }
    signer_name(&mut errors, &at.field("signerName"), text(&spec["signerName"]));
    if spec["expirationSeconds"].as_i64().is_some_and(|seconds| seconds < 600) {
        errors.invalid(
            &at.field("expirationSeconds"),
            &spec["expirationSeconds"],
            "may not specify a duration less than 600 seconds (10 minutes)",
        );
    }
    errors.0
}

fn signer_name(errors: &mut Errors, at: &At<'_>, name: &str) {
    if name == LEGACY_SIGNER {
        return errors.invalid(at, name, "the legacy signerName is not allowed via this API version");
    }
    if name.is_empty() {
        return errors.required(at, "");
    }
    let Some((domain, path)) = name.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        let form = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(at, name, form);
    };
    if domain.len() > 253 {
        errors.too_long(at, 253);
    }
    labels(errors, at, domain, names::dns1123_label);
    if !domain.contains('.') {
        errors.invalid(at, domain, "should be a domain with at least two segments separated by dots");
    }
    labels(errors, at, path, names::dns1123_subdomain);
    if name.len() > SIGNER_MAX {
        errors.too_long(at, SIGNER_MAX);
    }
}

/// The parts between dots must each have a form; the first that has not is told.
fn labels(errors: &mut Errors, at: &At<'_>, segment: &str, form: fn(&str) -> Vec<String>) {
    let wrong = segment.split('.').map(|label| (label, form(label))).find(|(_, wrong)| !wrong.is_empty());
    if let Some((label, wrong)) = wrong {
        for problem in wrong {
            errors.invalid(at, segment, format!("validating label {label:?}: {problem}"));
        }
    }
}

/// Who writes a status, and so what of it they may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// `/approval`: the decisions.
    Approver,
    /// `/status`: the certificate, or that there will be none.
    Signer,
}

/// Decisions are taken through `/approval`: what a signer says of them counts as unchanged.
fn keep_decisions(new: &mut Value, old: &Value) {
    keep_all_but_status(new, old);
    for decision in ["Approved", "Denied"] {
        let before: Vec<Value> = of_type(old, decision).cloned().collect();
        if of_type(new, decision).count() != before.len() {
            continue; // Validation refuses it.
        }
        let conditions = new.get_mut("status").and_then(|status| status.get_mut("conditions"));
        let conditions = conditions.and_then(Value::as_array_mut).into_iter().flatten();
        for (now, before) in conditions.filter(|one| one["type"] == decision).zip(before) {
            *now = before;
        }
    }
}

fn validate_signature(new: &Value, old: &Value) -> Vec<FieldError> {
    validate_status(new, old, Writer::Signer)
}

/// What is wrong with a decision taken through `/approval`.
pub fn validate_approval(new: &Value, old: &Value) -> Vec<FieldError> {
    validate_status(new, old, Writer::Approver)
}

fn validate_status(new: &Value, old: &Value, writer: Writer) -> Vec<FieldError> {
    let (mut errors, status) = (Errors::default(), At::ROOT.field("status"));
    let at = status.field("conditions");
    conditions(&mut errors, &at, new);
    for kind in ["Approved", "Denied", "Failed"] {
        let (before, now) = (of_type(old, kind).count(), of_type(new, kind).count());
        if now < before {
            errors.forbidden(&at, &format!("updates may not remove a condition of type {kind:?}"));
        }
        if now > before && writer == Writer::Signer && kind != "Failed" {
            errors.forbidden(&at, &format!("updates may not add a condition of type {kind:?}"));
        }
    }
    let certificate = |object: &Value| text(&object["status"]["certificate"]).to_string();
    let (before, now) = (certificate(old), certificate(new));
    let at = status.field("certificate");
    if before != now {
        match writer {
            Writer::Approver => errors.forbidden(&at, "updates may not set certificate content"),
            Writer::Signer if !before.is_empty() => {
                errors.forbidden(&at, "updates may not modify existing certificate content");
            }
            Writer::Signer => {
                if let Err(problem) = is_certificates(&now) {
                    errors.invalid(&at, "<certificate data>", problem);
                }
            }
        }
    }
    errors.0
}

fn conditions(errors: &mut Errors, at: &At<'_>, object: &Value) {
    let conditions = list(&object["status"]["conditions"]);
    for (index, condition) in conditions.iter().enumerate() {
        let (at, kind) = (at.index(index), text(&condition["type"]));
        if kind.is_empty() {
            errors.required(&at.field("type"), "");
        }
        let decides = matches!(kind, "Approved" | "Denied" | "Failed");
        let values: &[&str] = if decides { &["True"] } else { &["False", "True", "Unknown"] };
        errors.required_one_of(&at.field("status"), &condition["status"], values);
        if conditions[..index].iter().any(|earlier| text(&earlier["type"]) == kind) {
            errors.duplicate(&at.field("type"), kind);
        }
    }
    let last = conditions.iter().map(|one| text(&one["type"])).rfind(|kind| matches!(*kind, "Approved" | "Denied"));
    if let Some(last) = last
        && of_type(object, "Approved").count() > 0
        && of_type(object, "Denied").count() > 0
    {
        errors.invalid(at, last, "Approved and Denied conditions are mutually exclusive");
    }
}

fn of_type<'a>(object: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    list(&object["status"]["conditions"]).iter().filter(move |condition| condition["type"] == kind)
}

/// Base64 of PEM with nothing but certificates.
fn is_certificates(text: &str) -> Result<(), String> {
    let pem = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let mut blocks = 0;
    for block in x509_parser::pem::Pem::iter_from_buffer(&pem) {
        let block = block.map_err(|_| "must contain only CERTIFICATE PEM blocks")?;
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        block.parse_x509().map_err(|_| "found a CERTIFICATE PEM block that is no certificate")?;
        blocks += 1;
    }
    if blocks == 0 {
        return Err("must contain at least one CERTIFICATE PEM block".into());
    }
    Ok(())
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

    use super::{SIGNING_REQUEST, validate_approval};

    #[test]
    fn requests_and_signers_are_checked() {
        for (spec, path) in [
            (json!({"request": "", "usages": ["any"], "signerName": "a.b/c"}), "spec.request"),
            (json!({"usages": ["any", "any"], "signerName": "a.b/c"}), "spec.usages[1]"),
            (json!({"usages": ["other"], "signerName": "a.b/c"}), "spec.usages[0]"),
            (json!({"usages": ["any"], "signerName": "kubernetes.io/legacy-unknown"}), "spec.signerName"),
            (json!({"usages": ["any"], "signerName": "a.b"}), "spec.signerName"),
            (json!({"usages": ["any"], "signerName": "ab/c"}), "spec.signerName"),
            (json!({"usages": ["any"], "signerName": "a.b/C"}), "spec.signerName"),
            (json!({"usages": ["any"], "signerName": "a.b/c", "expirationSeconds": 599}), "spec.expirationSeconds"),
        ] {
            let errors = (SIGNING_REQUEST.validate)(&json!({"spec": spec}));
            assert!(errors.iter().any(|error| error.path == path), "{spec}: {errors:?}");
        }
    }

    #[test]
    fn approvers_decide_and_signers_sign() {
        let csr = |conditions: &[(&str, &str)], certificate: &str| {
            let conditions = conditions.iter().map(|(kind, status)| json!({"type": kind, "status": status}));
            json!({"status": {"conditions": conditions.collect::<Vec<_>>(), "certificate": certificate}})
        };
        let (yes, no) = (("Approved", "True"), ("Denied", "True"));
        let signs = SIGNING_REQUEST.validate_status_update;
        for (check, old, new, message) in [
            (validate_approval as fn(&_, &_) -> _, csr(&[], ""), csr(&[yes], ""), ""),
            (validate_approval, csr(&[yes], ""), csr(&[], ""), "may not remove a condition of type \"Approved\""),
            (validate_approval, csr(&[yes], ""), csr(&[yes, no], ""), "mutually exclusive"),
            (validate_approval, csr(&[], ""), csr(&[("Approved", "False")], ""), "supported values: \"True\""),
            (validate_approval, csr(&[], ""), csr(&[yes], "eA=="), "may not set certificate content"),
            (signs, csr(&[], ""), csr(&[yes], ""), "may not add a condition of type \"Approved\""),
            (signs, csr(&[yes], ""), csr(&[yes, ("Failed", "True")], ""), ""),
            (signs, csr(&[yes], ""), csr(&[yes], "eA=="), "at least one CERTIFICATE PEM block"),
            (signs, csr(&[yes], "eA=="), csr(&[yes], "eQ=="), "may not modify existing certificate"),
            (signs, csr(&[], ""), csr(&[("x", "True"), ("x", "True")], ""), "Duplicate value"),
        ] {
            let messages: Vec<String> = check(&new, &old).iter().map(|error| error.message()).collect();
            let told = messages.iter().any(|one| one.contains(message));
            assert!(told || message.is_empty() && messages.is_empty(), "{old} {new}: {messages:?}");
        }
    }

    #[test]
    fn updates_leave_the_request_as_it_was() {
        let old = json!({"spec": {"request": "r", "username": "ann"}, "status": {"certificate": "c"}});
        let mut new = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"request": "r", "username": "system:admin"}});
        (SIGNING_REQUEST.prepare_update)(&mut new, &old);
        assert_eq!((&new["spec"], &new["status"]), (&old["spec"], &old["status"]));
        assert_eq!(new["metadata"]["labels"]["a"], "b");
    }
}
