//! Which requests a webhook or an admission policy is asked about: rules, scope, operations, versions, selectors.
//!
//! Pure. A request is matched in the version it was made in, and with `matchPolicy: Equivalent` in any other version of
//! the same resource: the webhook or policy then sees the object in that version.

use mizzen_api::key;
use mizzen_api::kind::Kind;
use mizzen_api::kinds::kinds;
use mizzen_api::selector::LabelSelector;
use mizzen_api::status::{ApiError, Subject};
use serde_json::Value;

use super::{Operation, Request};

/// What is matched, from a webhook or from `matchConstraints`/`matchResources` of a policy.
#[derive(Debug)]
pub(crate) struct Criteria {
    rules: Vec<Rule>,
    exclude: Vec<Rule>,
    /// Without rules everything is matched (bindings of policies), not nothing.
    open: bool,
    equivalent: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

/// One rule: all of its parts must fit.
#[derive(Debug)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and sub-resource.
    resources: Vec<(String, String)>,
    scope: Scope,
    /// Names of objects; empty for all.
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Any,
    Cluster,
    Namespaced,
}

impl Criteria {
    /// Of one webhook of a configuration.
    pub fn of_webhook(webhook: &Value) -> Self {
        Self::new(webhook, "rules", false)
    }

    /// Of `matchConstraints` of a policy, or of `matchResources` of a binding (`open`: no rules means everything).
    pub fn of_match_resources(resources: &Value, open: bool) -> Self {
        Self::new(resources, "resourceRules", open)
    }

    fn new(from: &Value, rules: &str, open: bool) -> Self {
        let list = |field: &str| from[field].as_array().into_iter().flatten().map(Rule::new).collect::<Vec<_>>();
        // Validation refuses selectors that cannot be read.
        let selector = |field: &str| match &from[field] {
            Value::Null => LabelSelector::everything(),
            selector => LabelSelector::from_object(selector).unwrap_or_else(|_| LabelSelector::nothing()),
        };
        let rules = list(rules);
        Self {
            open: open && rules.is_empty(),
            rules,
            exclude: list("excludeResourceRules"),
            equivalent: from["matchPolicy"] != "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// The version in which a request is matched; `None` if it is not.
    ///
    /// # Errors
    /// 404, where the namespace is asked for and is not there.
    pub fn matches<'a>(
        &self,
        request: &Request<'a>,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Option<&'a Kind>, ApiError> {
        if !self.objects.is_everything() {
            let selected = |object: &Value| object.is_object() && self.objects.matches_object(object);
            if !selected(object) && !old.is_some_and(selected) {
                return Ok(None);
            }
        }
        if self.fitting(&self.exclude, request).is_some() {
            return Ok(None);
        }
        let found = if self.open { Some(request.kind) } else { self.fitting(&self.rules, request) };
        if found.is_none() || self.namespaces.is_everything() {
            return Ok(found);
        }
        Ok(if self.in_namespace(request, object)? { found } else { None })
    }

    /// The version in which one of the rules fits.
    fn fitting<'a>(&self, rules: &[Rule], request: &Request<'a>) -> Option<&'a Kind> {
        if rules.iter().any(|rule| rule.fits(request, request.kind)) {
            return Some(request.kind);
        }
        if !self.equivalent {
            return None;
        }
        let equivalents = request.equivalents();
        // Earlier rules count first.
        rules.iter().find_map(|rule| equivalents.iter().find(|kind| rule.fits(request, kind)).copied())
    }

    fn in_namespace(&self, request: &Request<'_>, object: &Value) -> Result<bool, ApiError> {
        let is_namespace = request.is("", "namespaces");
        if request.namespace.is_empty() && !is_namespace {
            return Ok(true); // Objects outside of namespaces are never exempt.
        }
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        if is_namespace && request.subresource.is_empty() && written {
            return Ok(self.namespaces.matches_object(object));
        }
        let name = if is_namespace { request.name } else { request.namespace };
        let Some(entry) = request.snapshot.get(&key::object("", "namespaces", "", name)) else {
            return Err(ApiError::not_found(Subject { group: "", resource: "namespaces" }, name));
        };
        let labels = entry.derived(|entry| NamespaceLabels::read(&entry.value));
        Ok(self.namespaces.matches_labels(Some(&labels.0)))
    }
}

/// The labels of a namespace, kept beside its entry.
struct NamespaceLabels(std::collections::BTreeMap<String, String>);

impl NamespaceLabels {
    fn read(bytes: &[u8]) -> Self {
        let object: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
        Self(labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_string())).collect())
    }
}

impl Rule {
    fn new(rule: &Value) -> Self {
        let list = |field: &str| -> Vec<String> {
            rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
        };
        let split = |text: String| match text.split_once('/') {
            Some((resource, subresource)) => (resource.to_string(), subresource.to_string()),
            None => (text, String::new()),
        };
        Self {
            operations: list("operations"),
            groups: list("apiGroups"),
            versions: list("apiVersions"),
            resources: list("resources").into_iter().map(split).collect(),
            scope: match rule["scope"].as_str() {
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                _ => Scope::Any,
            },
            names: list("resourceNames"),
        }
    }

    fn fits(&self, request: &Request<'_>, kind: &Kind) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|item| item == "*" || item == wanted);
        let one = |own: &str, wanted: &str| own == "*" || own == wanted;
        let in_scope = match self.scope {
            Scope::Any => true,
            Scope::Namespaced => !request.namespace.is_empty(),
            Scope::Cluster => request.namespace.is_empty(),
        };
        in_scope
            && has(&self.operations, request.operation.name())
            && has(&self.groups, &kind.group)
            && has(&self.versions, &kind.version)
            && self.resources.iter().any(|(own, sub)| one(own, &kind.plural) && one(sub, request.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| name == request.name))
    }
}

impl<'a> Request<'a> {
    /// The other versions in which the same objects are served.
    pub(crate) fn equivalents(&self) -> Vec<&'a Kind> {
        let own = self.kind;
        let other = |kind: &&Kind| (&kind.group, &kind.version) != (&own.group, &own.version);
        if let Some(compiled) = self.definition {
            return compiled.definition.served().map(|kind| &**kind).filter(other).collect();
        }
        let same = |kind: &&Kind| {
            kind.plural == own.plural
                && (&kind.storage_group, &kind.storage_version) == (&own.storage_group, &own.storage_version)
        };
        kinds().iter().filter(same).filter(other).collect()
    }

    /// The kind in whose version `object` is handled between the plugins.
    pub(crate) fn handled(&self) -> &'a Kind {
        match self.definition {
            Some(_) => self.kind,
            None => kinds().storage(&self.kind.group, &self.kind.plural).unwrap_or(self.kind),
        }
    }
}

/// Whether a resource configures admission itself: nothing that is configured may lock its own configuration.
pub(crate) fn is_exempt(kind: &Kind) -> bool {
    kind.group == "admissionregistration.k8s.io"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::testing::Case;

    fn rule(operation: &str, group: &str, version: &str, resource: &str) -> Value {
        json!({"operations": [operation], "apiGroups": [group], "apiVersions": [version], "resources": [resource]})
    }

    #[test]
    fn rules_choose_requests() {
        let namespace =
            json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "n", "labels": {"on": "yes"}}});
        for (case, criteria, request, expected) in [
            ("by name", json!({"rules": [rule("CREATE", "", "v1", "pods")]}), ("create", "pods", "n/a"), Some("v1")),
            ("other operation", json!({"rules": [rule("UPDATE", "", "v1", "pods")]}), ("create", "pods", "n/a"), None),
            ("wildcards", json!({"rules": [rule("*", "*", "*", "*")]}), ("delete", "pods", "n/a"), Some("v1")),
            ("no sub-resources", json!({"rules": [rule("*", "*", "*", "*")]}), ("update", "pods/status", "n/a"), None),
            (
                "any sub-resource",
                json!({"rules": [rule("*", "*", "*", "pods/*")]}),
                ("update", "pods/status", "n/a"),
                Some("v1"),
            ),
            (
                "one sub-resource",
                json!({"rules": [rule("*", "*", "*", "*/status")]}),
                ("update", "pods/status", "n/a"),
                Some("v1"),
            ),
            (
                "equivalent",
                json!({"rules": [rule("*", "autoscaling", "v1", "*")]}),
                ("create", "horizontalpodautoscalers.autoscaling", "n/a"),
                Some("autoscaling/v1"),
            ),
            (
                "exact",
                json!({"matchPolicy": "Exact", "rules": [rule("*", "autoscaling", "v1", "*")]}),
                ("create", "horizontalpodautoscalers.autoscaling", "n/a"),
                None,
            ),
            (
                "namespace",
                json!({"namespaceSelector": {"matchLabels": {"on": "yes"}}, "rules": [rule("*", "*", "*", "*")]}),
                ("create", "pods", "n/a"),
                Some("v1"),
            ),
            (
                "other namespace",
                json!({"namespaceSelector": {"matchLabels": {"on": "no"}}, "rules": [rule("*", "*", "*", "*")]}),
                ("create", "pods", "n/a"),
                None,
            ),
            (
                "outside of namespaces",
                json!({"namespaceSelector": {"matchLabels": {"on": "no"}}, "rules": [rule("*", "*", "*", "*")]}),
                ("create", "nodes", "a"),
                Some("v1"),
            ),
            (
                "object",
                json!({"objectSelector": {"matchLabels": {"mine": "yes"}}, "rules": [rule("*", "*", "*", "*")]}),
                ("create", "nodes", "a"),
                None,
            ),
        ] {
            let world = Case::new(vec![namespace.clone()]).of(request.0, request.1, request.2);
            let object = json!({"metadata": {"labels": {"mine": "no"}}});
            let found = world.with_request(|request| {
                Criteria::of_webhook(&criteria).matches(request, &object, None).unwrap().map(Kind::api_version)
            });
            assert_eq!(found.as_deref(), expected, "{case}");
        }
    }

    #[test]
    fn policies_exclude_and_bindings_are_open() {
        let world = Case::new(vec![]).of("create", "nodes", "a");
        let matches = |resources: Value, open: bool| {
            world.with_request(|request| {
                Criteria::of_match_resources(&resources, open).matches(request, &Value::Null, None).unwrap().is_some()
            })
        };
        let all = rule("*", "*", "*", "*");
        assert!(matches(json!({"resourceRules": [all]}), false));
        assert!(!matches(json!({"resourceRules": [all], "excludeResourceRules": [all]}), false));
        assert!(matches(json!({}), true));
        assert!(!matches(json!({}), false));
        let mut named = all.clone();
        named["resourceNames"] = json!(["b"]);
        assert!(!matches(json!({"resourceRules": [named]}), false));
    }
}
