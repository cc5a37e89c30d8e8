//! `AdmissionReview`: the question that webhooks are asked, and their answer. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mizzen_api::status::{ApiError, Details};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::ask::Shown;
use super::hook::ReviewVersion;
use crate::admission::{Request, facts};

impl ReviewVersion {
    fn api_version(self) -> &'static str {
        match self {
            ReviewVersion::V1 => "admission.k8s.io/v1",
            ReviewVersion::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// The question about a request.
pub(super) fn question(request: &Request<'_>, shown: &Shown<'_>, version: ReviewVersion, uid: &str) -> Value {
    let mut asked = json!({"uid": uid});
    if let (Some(asked), Value::Object(facts)) = (asked.as_object_mut(), facts::request(request, shown.kind)) {
        asked.extend(facts);
    }
    asked["object"] = shown.object.as_ref().clone();
    asked["oldObject"] = shown.old.as_deref().cloned().unwrap_or_default();
    json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "request": asked})
}

/// What a webhook says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// The `Status` of a no.
    pub denied: Option<Value>,
    /// JSON patch; empty for none.
    pub patch: Vec<u8>,
    pub warnings: Vec<String>,
    pub annotations: BTreeMap<String, String>,
}

/// Why an answer cannot be used.
#[derive(Debug, PartialEq)]
pub(super) enum Unusable {
    /// It is no review at all.
    Unreadable(String),
    /// It breaks the rules of reviews.
    Invalid(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    allowed: bool,
    #[serde(rename = "status", default)]
    result: Value,
    #[serde(default)]
    patch: Option<String>,
    patch_type: Option<String>,
    #[serde(default)]
    audit_annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

/// Reads an answer.
pub(super) fn answer(bytes: &[u8], version: ReviewVersion, uid: &str, mutating: bool) -> Result<Verdict, Unusable> {
    let unreadable = |why: String| Unusable::Unreadable(why);
    let review: Review = serde_json::from_slice(bytes)
        .map_err(|error| unreadable(format!("couldn't get version/kind; json parse error: {error}")))?;
    if review.kind.is_empty() || review.api_version.is_empty() {
        let missing = if review.kind.is_empty() { "Kind" } else { "apiVersion" };
        return Err(unreadable(format!("Object '{missing}' is missing in the webhook's answer")));
    }
    let invalid = |why: String| Err(Unusable::Invalid(why));
    let Some(response) = review.response else { return invalid("webhook response was absent".into()) };
    let bad_patch = |_| Unusable::Unreadable("illegal base64 data in response.patch".into());
    let patch = STANDARD.decode(response.patch.as_deref().unwrap_or_default()).map_err(bad_patch)?;
    if version == ReviewVersion::V1 {
        if response.uid != uid {
            return invalid(format!("expected response.uid={uid:?}, got {:?}", response.uid));
        }
        let (expected, got) = (gvk(version.api_version(), "AdmissionReview"), gvk(&review.api_version, &review.kind));
        if expected != got {
            return invalid(format!("expected webhook response of {expected}, got {got}"));
        }
        check_patch(&patch, response.patch_type.as_deref(), mutating).map_err(Unusable::Invalid)?;
    }
    Ok(Verdict {
        denied: (!response.allowed).then_some(response.result),
        patch: if mutating { patch } else { Vec::new() },
        warnings: response.warnings.unwrap_or_default(),
        annotations: response.audit_annotations.unwrap_or_default(),
    })
}

fn gvk(api_version: &str, kind: &str) -> String {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    format!("{group}/{version}, Kind={kind}")
}

fn check_patch(patch: &[u8], patch_type: Option<&str>, mutating: bool) -> Result<(), String> {
    let words = match (mutating, patch.is_empty(), patch_type) {
        (false, false, _) => "validating webhook may not return response.patch",
        (false, true, Some(_)) => "validating webhook may not return response.patchType",
        (true, false, None) => "webhook returned response.patch but not response.patchType",
        (true, true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, false, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (true, false, Some("JSONPatch")) | (_, true, None) => return Ok(()),
        (true, false, Some(other)) => return Err(format!("unsupported patch type {other:?}")),
    };
    Err(words.into())
}

/// The refusal of a webhook as the client reads it: its own status, said to be the webhook's.
pub(super) fn denial(webhook: &str, status: &Value) -> ApiError {
    let text = |field: &str| status[field].as_str().unwrap_or_default();
    let denied = format!("admission webhook {webhook:?} denied the request");
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", said) | (said, _) => format!("{denied}: {said}"),
    };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    // A rejection below 400 would read as success, and one that HTTP has no room for not at all.
    let code = if (400..=599).contains(&code) { code } else { 400 };
    let details = status.get("details").filter(|details| details.is_object()).map(Details::from_json);
    ApiError { details: details.map(Box::new), ..ApiError::plain(code, text("reason").to_string(), message) }
}
