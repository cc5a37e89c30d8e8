//! `metadata` of every kind: name forms, labels, annotations, owners, finalizers, and what never changes.

use serde_json::Value;

use crate::field::FieldError;
use crate::names;
use crate::rules::cells::{list, text};
use crate::rules::check::{At, Errors, IMMUTABLE};

/// Annotations of one object together: keys and values (256 KiB).
const ANNOTATIONS_MAX: usize = 256 << 10;
/// Finalizers that say what becomes of dependents; at most one of the two.
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// A CronJob's name leaves room for the time that is appended to its jobs' names: 63 - 11.
const CRON_JOB_NAME_MAX: usize = 52;

/// All errors in the metadata of a new object.
///
/// The server calls it for every kind, after names and uids were set and beside the kind's own `validate`.
pub fn validate(group: &str, plural: &str, namespaced: bool, object: &Value) -> Vec<FieldError> {
    let (metadata, at, mut errors) = (&object["metadata"], At::ROOT.field("metadata"), Errors::default());
    name(group, plural, metadata, &at, &mut errors);
    namespace(namespaced, metadata, &at, &mut errors);
    common(metadata, &at, &mut errors);
    errors.0
}

/// All errors in the metadata of a changed object: those of its new content and what may not change.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (metadata, stored, at, mut errors) =
        (&new["metadata"], &old["metadata"], At::ROOT.field("metadata"), Errors::default());
    if !stored["deletionTimestamp"].is_null() {
        no_new_finalizers(metadata, stored, &at, &mut errors);
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let value = &metadata[field];
        // What the client left out was filled from the stored object.
        if !value.is_null() && *value != stored[field] {
            errors.invalid(&at.field(field), value, IMMUTABLE);
        }
    }
    common(metadata, &at, &mut errors);
    errors.0
}

/// All errors in the metadata of an object within another, which is nobody's to name.
pub fn embedded(metadata: &Value, at: &At<'_>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let name = text(&metadata["name"]);
    if !name.is_empty() {
        errors.all(&at.field("name"), name, NameForm::Segment.check(name));
    }
    common(metadata, at, &mut errors);
    errors.0
}

fn name(group: &str, plural: &str, metadata: &Value, at: &At<'_>, errors: &mut Errors) {
    let form = name_form(group, plural);
    let (name, prefix) = (text(&metadata["name"]), text(&metadata["generateName"]));
    if !prefix.is_empty() {
        errors.all(&at.field("generateName"), prefix, form.prefix(prefix));
    }
    if name.is_empty() {
        errors.required(&at.field("name"), "name or generateName is required");
        return;
    }
    errors.all(&at.field("name"), name, form.check(name));
    if (group, plural) == ("batch", "cronjobs") && name.len() > CRON_JOB_NAME_MAX {
        errors.invalid(&at.field("name"), name, names::too_long(CRON_JOB_NAME_MAX));
    }
}

fn namespace(namespaced: bool, metadata: &Value, at: &At<'_>, errors: &mut Errors) {
    let (namespace, at) = (text(&metadata["namespace"]), at.field("namespace"));
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.required(&at, ""),
        (true, false) => errors.all(&at, namespace, names::dns1123_label(namespace)),
        (false, false) => errors.forbidden(&at, "not allowed on this type"),
        (false, true) => {}
    }
}

fn common(metadata: &Value, at: &At<'_>, errors: &mut Errors) {
    labels(&metadata["labels"], &at.field("labels"), errors);
    annotations(&metadata["annotations"], &at.field("annotations"), errors);
    owners(&metadata["ownerReferences"], &at.field("ownerReferences"), errors);
    finalizers(&metadata["finalizers"], &at.field("finalizers"), errors);
}

/// Labels: a map of qualified names to label values.
pub fn labels(labels: &Value, at: &At<'_>, errors: &mut Errors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.all(at, key, names::qualified_name(key));
        errors.all(at, text(value), names::label_value(text(value)));
    }
}

/// Annotations: qualified names of any case, and a bounded size.
pub fn annotations(annotations: &Value, at: &At<'_>, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        size += key.len() + text(value).len();
        let wrong = names::qualified_name(key);
        if !wrong.is_empty() {
            errors.all(at, key, names::qualified_name(&key.to_lowercase()));
        }
    }
    if size > ANNOTATIONS_MAX {
        errors.too_long(at, ANNOTATIONS_MAX);
    }
}

fn owners(owners: &Value, at: &At<'_>, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for owner in list(owners) {
        let (version, kind, name) = (text(&owner["apiVersion"]), text(&owner["kind"]), text(&owner["name"]));
        if version.is_empty() || version.ends_with('/') {
            errors.invalid(&at.field("apiVersion"), version, "version must not be empty");
        }
        for (field, value) in [("kind", kind), ("name", name), ("uid", text(&owner["uid"]))] {
            if value.is_empty() {
                errors.invalid(&at.field(field), value, "must not be empty");
            }
        }
        if (version, kind) == ("v1", "Event") {
            errors.invalid(at, owner, "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner["controller"] == true {
            let this = format!("{kind}/{name}");
            match &controller {
                Some(first) => errors.invalid(
                    at,
                    owners,
                    format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"),
                ),
                None => controller = Some(this),
            }
        }
    }
}

fn finalizers(finalizers: &Value, at: &At<'_>, errors: &mut Errors) {
    let names = list(finalizers);
    for finalizer in names {
        errors.all(at, finalizer, names::qualified_name(text(finalizer)));
    }
    if [ORPHAN, FOREGROUND].iter().all(|wanted| names.iter().any(|name| name == wanted)) {
        errors.invalid(at, finalizers, format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set"));
    }
}

fn no_new_finalizers(new: &Value, old: &Value, at: &At<'_>, errors: &mut Errors) {
    let kept = list(&old["finalizers"]);
    let mut added: Vec<&str> = list(&new["finalizers"]).iter().filter(|f| !kept.contains(f)).map(text).collect();
    if !added.is_empty() {
        added.sort_unstable();
        let listed: Vec<String> = added.iter().map(|name| format!("{name:?}")).collect();
        let found = format!("found new finalizers []string{{{}}}", listed.join(", "));
        let detail = format!("no new finalizers can be added if the object is being deleted, {found}");
        errors.forbidden(&at.field("finalizers"), &detail);
    }
}

/// What the names of a kind look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameForm {
    /// RFC 1123 subdomain, as most.
    Subdomain,
    /// RFC 1123 label.
    Label,
    /// Anything that can stand between slashes.
    Segment,
    /// An IP address.
    Address,
}

impl NameForm {
    /// What is wrong with a name.
    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            NameForm::Subdomain => names::dns1123_subdomain(name),
            NameForm::Label => names::dns1123_label(name),
            NameForm::Segment => names::path_segment(name),
            NameForm::Address => names::ip(name),
        }
    }

    /// What is wrong with a name to which more will be appended.
    fn prefix(self, name: &str) -> Vec<String> {
        // The dash before the random part is not the last character of the name.
        let whole = match name.strip_suffix('-') {
            Some(start) if !start.is_empty() => format!("{start}a"),
            _ => name.to_string(),
        };
        match self {
            NameForm::Segment => names::path_segment_start(&whole),
            form => form.check(&whole),
        }
    }
}

/// The form of names of a resource; custom resources have the usual one.
pub fn name_form(group: &str, plural: &str) -> NameForm {
    match (group, plural) {
        ("", "namespaces" | "services") => NameForm::Label,
        ("rbac.authorization.k8s.io", _)
        | ("certificates.k8s.io", "certificatesigningrequests" | "clustertrustbundles")
        | ("policy", "poddisruptionbudgets")
        | ("apiregistration.k8s.io", _)
        | ("internal.apiserver.k8s.io", _)
        | ("authentication.k8s.io" | "authorization.k8s.io", _) => NameForm::Segment,
        ("networking.k8s.io", "ipaddresses") => NameForm::Address,
        _ => NameForm::Subdomain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;
    use serde_json::json;

    #[test]
    fn metadata_is_checked() {
        for (case, metadata, errors) in [
            (
                "good",
                json!({"name": "a.b", "namespace": "n", "labels": {"a/b": "c"}, "annotations": {"X.y/Z": "any text"}}),
                vec![],
            ),
            (
                "no name",
                json!({"namespace": "n"}),
                vec!["metadata.name: Required value: name or generateName is required"],
            ),
            ("prefix may end with a dash", json!({"name": "a-x", "generateName": "a-", "namespace": "n"}), vec![]),
            ("no namespace", json!({"name": "a"}), vec!["metadata.namespace: Required value"]),
            (
                "label",
                json!({"name": "a", "namespace": "n", "labels": {"a": "-"}}),
                vec!["metadata.labels: Invalid value: \"-\": a valid label must be an empty st"],
            ),
            (
                "finalizer",
                json!({"name": "a", "namespace": "n", "finalizers": ["orphan", "foregroundDeletion"]}),
                vec!["metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: f"],
            ),
            (
                "owner",
                json!({"name": "a", "namespace": "n", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
                vec!["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"],
            ),
        ] {
            let object = json!({"metadata": metadata});
            check(case, &validate("", "pods", true, &object), &errors);
        }
        let large = json!({"metadata": {"name": "a", "annotations": {"a": "x".repeat(ANNOTATIONS_MAX)}}});
        let long = ["metadata.annotations: Too long: may not be more than 262144 bytes"];
        check("annotations", &validate("", "nodes", false, &large), &long);
    }

    #[test]
    fn identity_never_changes() {
        let old = json!({"metadata": {"name": "a", "uid": "1", "deletionTimestamp": "t", "finalizers": ["x/y"]}});
        for (case, metadata, errors) in [
            ("same", json!({"name": "a", "uid": "1"}), vec![]),
            ("uid", json!({"name": "a", "uid": "2"}), vec!["metadata.uid: Invalid value: \"2\": field is immutable"]),
            (
                "finalizer added while deleting",
                json!({"name": "a", "finalizers": ["x/y", "x/z"]}),
                vec!["metadata.finalizers: Forbidden: no new finalizers can be added if the "],
            ),
        ] {
            check(case, &validate_update(&json!({"metadata": metadata}), &old), &errors);
        }
    }
}
