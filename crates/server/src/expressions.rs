//! What is checked of objects that hold expressions, beside what `mizzen_api` checks: that the expressions compile.

use mizzen_api::field::FieldError;
use mizzen_api::kind::Kind;
use serde_json::Value;

use crate::admission::policy::check::check as check_policy;
use crate::admission::webhook::conditions::check as check_webhooks;
use crate::crd::rules::check_definition;
use crate::device_selectors;

/// Groups whose kinds may hold expressions: all others are through with one comparison.
const GROUPS: [&str; 3] = ["admissionregistration.k8s.io", "apiextensions.k8s.io", "resource.k8s.io"];

/// What is wrong with the expressions of a new or changed object.
pub(crate) fn check(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if !GROUPS.contains(&&*kind.group) {
        return Vec::new();
    }
    match &*kind.plural {
        "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => check_webhooks(object),
        "validatingadmissionpolicies" | "mutatingadmissionpolicies" => check_policy(object, old),
        "customresourcedefinitions" => check_definition(object, old),
        plural if &*kind.group == "resource.k8s.io" => device_selectors::check(plural, object, old),
        _ => Vec::new(),
    }
}
