//! Label selectors and node selectors, wherever they occur.

use serde_json::Value;

use crate::names;
use crate::rules::cells::{list, text};
use crate::rules::check::{At, Errors};
use crate::rules::metadata;

const OPERATOR: &str = "not a valid selector operator";
const NEEDS_VALUES: &str = "must be specified when `operator` is 'In' or 'NotIn'";
const NO_VALUES: &str = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";

/// A label selector: `matchLabels` and `matchExpressions`. Absent is fine.
pub fn label_selector(selector: &Value, at: &At<'_>, errors: &mut Errors) {
    metadata::labels(&selector["matchLabels"], &at.field("matchLabels"), errors);
    let at = at.field("matchExpressions");
    for (i, expression) in list(&selector["matchExpressions"]).iter().enumerate() {
        let at = at.index(i);
        let values = list(&expression["values"]);
        match text(&expression["operator"]) {
            "In" | "NotIn" if values.is_empty() => errors.required(&at.field("values"), NEEDS_VALUES),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(&at.field("values"), NO_VALUES),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&at.field("operator"), other, OPERATOR),
        }
        key_and_values(expression, &at, errors);
    }
}

/// Whether a selector picks nothing in particular.
pub fn is_empty(selector: &Value) -> bool {
    let labels = selector["matchLabels"].as_object().is_none_or(serde_json::Map::is_empty);
    labels && list(&selector["matchExpressions"]).is_empty()
}

/// Whether a label selector (not null) picks an object with these labels.
pub fn matches(selector: &Value, labels: &Value) -> bool {
    let pairs = selector["matchLabels"].as_object().into_iter().flatten();
    let all = pairs.into_iter().all(|(key, value)| labels.get(key) == Some(value));
    all && list(&selector["matchExpressions"]).iter().all(|expression| {
        let value = labels.get(text(&expression["key"]));
        let listed = value.is_some_and(|value| list(&expression["values"]).contains(value));
        match text(&expression["operator"]) {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    })
}

/// The selector of a node affinity: at least one term.
pub fn node_selector(selector: &Value, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("nodeSelectorTerms");
    let terms = list(&selector["nodeSelectorTerms"]);
    if terms.is_empty() {
        errors.required(&at, "must have at least one node selector term");
    }
    for (i, term) in terms.iter().enumerate() {
        node_term(term, &at.index(i), errors);
    }
}

/// One term of a node selector.
pub fn node_term(term: &Value, at: &At<'_>, errors: &mut Errors) {
    let expressions = at.field("matchExpressions");
    for (i, expression) in list(&term["matchExpressions"]).iter().enumerate() {
        node_expression(expression, &expressions.index(i), errors);
    }
    let fields = at.field("matchFields");
    for (i, field) in list(&term["matchFields"]).iter().enumerate() {
        node_field(field, &fields.index(i), errors);
    }
}

fn node_expression(expression: &Value, at: &At<'_>, errors: &mut Errors) {
    let values = list(&expression["values"]);
    match text(&expression["operator"]) {
        "In" | "NotIn" if values.is_empty() => errors.required(&at.field("values"), NEEDS_VALUES),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(&at.field("values"), NO_VALUES),
        "Gt" | "Lt" if values.len() != 1 => {
            errors.required(&at.field("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&at.field("operator"), other, OPERATOR),
    }
    key_and_values(expression, at, errors);
}

fn node_field(field: &Value, at: &At<'_>, errors: &mut Errors) {
    let values = list(&field["values"]);
    match text(&field["operator"]) {
        "In" | "NotIn" if values.len() != 1 => errors.required(
            &at.field("values"),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        ),
        "In" | "NotIn" => {}
        other => errors.invalid(&at.field("operator"), other, OPERATOR),
    }
    match text(&field["key"]) {
        "metadata.name" => {
            let at = at.field("values");
            for (i, value) in values.iter().enumerate() {
                errors.all(&at.index(i), value, names::dns1123_subdomain(text(value)));
            }
        }
        other => errors.invalid(&at.field("key"), other, "not a valid field selector key"),
    }
}

fn key_and_values(expression: &Value, at: &At<'_>, errors: &mut Errors) {
    let key = text(&expression["key"]);
    errors.all(&at.field("key"), key, names::qualified_name(key));
    let at = at.field("values");
    for (i, value) in list(&expression["values"]).iter().enumerate() {
        errors.all(&at.index(i), value, names::label_value(text(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_pick_by_labels() {
        let labels = json!({"app": "web", "tier": "front"});
        for (selector, picks) in [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}), false),
            (json!({"matchExpressions": [{"key": "new", "operator": "NotIn", "values": ["web"]}]}), true),
            (json!({"matchExpressions": [{"key": "new", "operator": "Exists"}]}), false),
            (json!({"matchExpressions": [{"key": "new", "operator": "DoesNotExist"}]}), true),
        ] {
            assert_eq!(matches(&selector, &labels), picks, "{selector}");
        }
    }

    #[test]
    fn bad_selectors_are_told() {
        let mut errors = Errors::default();
        let selector = json!({"matchLabels": {"-": "a"}, "matchExpressions": [
            {"key": "a", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["x"]}, {"key": "a", "operator": "Like"}]});
        label_selector(&selector, &At::ROOT.field("selector"), &mut errors);
        let paths: Vec<&str> = errors.0.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "selector.matchLabels",
                "selector.matchExpressions[0].values",
                "selector.matchExpressions[1].values",
                "selector.matchExpressions[2].operator"
            ]
        );
    }
}
