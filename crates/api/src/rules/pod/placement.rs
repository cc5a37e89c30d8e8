//! Validation of where a pod may run: affinity, tolerations, spreading.

use serde_json::Value;

use crate::field::FieldError;
use crate::names;
use crate::rules::cells::{list, number, text};
use crate::rules::check::{At, Errors};
use crate::rules::selector;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Affinity to nodes and to pods; absent is fine.
pub fn affinity(affinity: &Value, at: &At<'_>, errors: &mut Errors) {
    let (node, node_at) = (&affinity["nodeAffinity"], at.field("nodeAffinity"));
    if !node[REQUIRED].is_null() {
        selector::node_selector(&node[REQUIRED], &node_at.field(REQUIRED), errors);
    }
    let preferred_at = node_at.field(PREFERRED);
    for (i, term) in list(&node[PREFERRED]).iter().enumerate() {
        let at = preferred_at.index(i);
        weight(&term["weight"], &at.field("weight"), errors);
        selector::node_term(&term["preference"], &at.field("preference"), errors);
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        let (pods, at) = (&affinity[field], at.field(field));
        let required_at = at.field(REQUIRED);
        for (i, term) in list(&pods[REQUIRED]).iter().enumerate() {
            pod_term(term, &required_at.index(i), errors);
        }
        let preferred_at = at.field(PREFERRED);
        for (i, term) in list(&pods[PREFERRED]).iter().enumerate() {
            let at = preferred_at.index(i);
            weight(&term["weight"], &at.field("weight"), errors);
            pod_term(&term["podAffinityTerm"], &at.field("podAffinityTerm"), errors);
        }
    }
}

fn weight(weight: &Value, at: &At<'_>, errors: &mut Errors) {
    if !(1..=100).contains(&number(weight)) {
        errors.invalid(at, number(weight), "must be in the range 1-100");
    }
}

fn pod_term(term: &Value, at: &At<'_>, errors: &mut Errors) {
    for field in ["labelSelector", "namespaceSelector"] {
        selector::label_selector(&term[field], &at.field(field), errors);
    }
    for namespace in list(&term["namespaces"]) {
        errors.all(&at.field("namespace"), namespace, names::dns1123_label(text(namespace)));
    }
    let key = text(&term["topologyKey"]);
    if key.is_empty() {
        errors.required(&at.field("topologyKey"), "can not be empty");
    }
    errors.all(&at.field("topologyKey"), key, names::qualified_name(key));
    label_keys(term, at, errors);
}

/// Keys whose values are taken from the pod's own labels need a selector to go into, and are not in it already.
fn label_keys(term: &Value, at: &At<'_>, errors: &mut Errors) {
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = list(&term[field]);
        if !keys.is_empty() && term["labelSelector"].is_null() {
            errors.forbidden(&at.field(field), "must not be specified when labelSelector is not set");
        }
        let at = at.field(field);
        for (i, key) in keys.iter().enumerate() {
            errors.all(&at.index(i), key, names::qualified_name(text(key)));
            if field == "matchLabelKeys" && list(&term["mismatchLabelKeys"]).contains(key) {
                errors.invalid(&at.index(i), key, "exists in both matchLabelKeys and mismatchLabelKeys");
            }
        }
    }
}

/// Which taints a pod can live with.
pub fn tolerations(tolerations: &Value, at: &At<'_>, errors: &mut Errors) {
    for (i, toleration) in list(tolerations).iter().enumerate() {
        let at = at.index(i);
        let (key, operator, value, effect) = (
            text(&toleration["key"]),
            text(&toleration["operator"]),
            text(&toleration["value"]),
            &toleration["effect"],
        );
        errors.form(&at.field("key"), &toleration["key"], names::qualified_name);
        if key.is_empty() && operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&at.field("operator"), operator, detail);
        }
        if !toleration["tolerationSeconds"].is_null() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&at.field("effect"), text(effect), detail);
        }
        match operator {
            "Equal" | "" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.invalid(&at.field("operator"), value, wrong.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(&at.field("operator"), value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            _ => errors.one_of(&at.field("operator"), &toleration["operator"], &["Equal", "Exists"]),
        }
        if !text(effect).is_empty() {
            errors.one_of(&at.field("effect"), effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        }
    }
}

/// How pods spread over zones, nodes or other groups.
pub fn spread(constraints: &Value, at: &At<'_>, errors: &mut Errors) {
    let constraints = list(constraints);
    for (i, constraint) in constraints.iter().enumerate() {
        let at = at.index(i);
        if number(&constraint["maxSkew"]) <= 0 {
            errors.invalid(&at.field("maxSkew"), number(&constraint["maxSkew"]), "must be greater than zero");
        }
        errors.required_text(&at.field("topologyKey"), &constraint["topologyKey"], "can not be empty");
        let action = &constraint["whenUnsatisfiable"];
        if !matches!(text(action), "DoNotSchedule" | "ScheduleAnyway") {
            let at = at.field("whenUnsatisfiable").to_string();
            errors.0.push(FieldError::not_supported(at, text(action), &["DoNotSchedule", "ScheduleAnyway"]));
        }
        let key = |c: &Value| (text(&c["topologyKey"]).to_string(), text(&c["whenUnsatisfiable"]).to_string());
        if constraints[i + 1..].iter().any(|other| key(other) == key(constraint)) {
            let (topology, action) = key(constraint);
            errors.duplicate(&at.field("{topologyKey, whenUnsatisfiable}"), format!("{{{topology}, {action}}}"));
        }
        let domains = &constraint["minDomains"];
        errors.positive(&at.field("minDomains"), domains);
        if !domains.is_null() && action != "DoNotSchedule" {
            let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", text(action));
            errors.invalid(&at.field("minDomains"), domains, detail);
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            errors.one_of(&at.field(field), &constraint[field], &["Honor", "Ignore"]);
        }
        label_keys(constraint, &at, errors);
        selector::label_selector(&constraint["labelSelector"], &at.field("labelSelector"), errors);
    }
}
