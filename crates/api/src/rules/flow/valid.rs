//! What is wrong with a FlowSchema or a PriorityLevelConfiguration.

use serde_json::Value;

use crate::field::FieldError;
use crate::names;
use crate::rules::cells::text;
use crate::rules::check::{At, Errors};

/// Largest precedence, that of the catch-all.
const PRECEDENCE_MAX: i64 = 10_000;
/// Most queues.
const QUEUES_MAX: i64 = 10_000_000;
/// Bits of a hash that hands are dealt from.
const HASH_BITS: u32 = 60;
const VERBS: [&str; 9] = ["get", "list", "create", "update", "delete", "deletecollection", "patch", "watch", "proxy"];

/// All errors of a FlowSchema.
pub fn flow_schema(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (at, spec) = (At::ROOT.field("spec"), &object["spec"]);
    let name = text(&object["metadata"]["name"]);
    let precedence = spec["matchingPrecedence"].as_i64().unwrap_or_default();
    let at_precedence = at.field("matchingPrecedence");
    if precedence <= 0 {
        errors.invalid(&at_precedence, precedence, "must be a positive value");
    }
    if precedence > PRECEDENCE_MAX {
        errors.invalid(&at_precedence, precedence, format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    if precedence == 1 && name != "exempt" {
        errors.invalid(&at_precedence, precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = &spec["distinguisherMethod"];
    if method.is_object() {
        errors.one_of(&at.field("distinguisherMethod").field("type"), &method["type"], &["ByNamespace", "ByUser"]);
    }
    let (up, level) = (at.field("priorityLevelConfiguration"), &spec["priorityLevelConfiguration"]["name"]);
    if text(level).is_empty() {
        errors.required(&up.field("name"), "must reference a priority level");
    } else {
        errors.form(&up.field("name"), level, names::dns1123_subdomain);
    }
    let up = at.field("rules");
    for (i, rule) in items(&spec["rules"]) {
        check_rule(&mut errors, &up.index(i), rule);
    }
    errors.0
}

fn items(list: &Value) -> impl Iterator<Item = (usize, &Value)> {
    list.as_array().into_iter().flatten().enumerate()
}

fn check_rule(errors: &mut Errors, at: &At<'_>, rule: &Value) {
    let up = at.field("subjects");
    if items(&rule["subjects"]).next().is_none() {
        errors.required(&up, "subjects must contain at least one value");
    }
    for (i, subject) in items(&rule["subjects"]) {
        check_subject(errors, &up.index(i), subject);
    }
    let (resources, paths) = (&rule["resourceRules"], &rule["nonResourceRules"]);
    if items(resources).next().is_none() && items(paths).next().is_none() {
        errors.required(at, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    let up = at.field("resourceRules");
    for (i, rule) in items(resources) {
        let at = up.index(i);
        check_verbs(errors, &at, rule);
        list(errors, &at, rule, "apiGroups", ("resource rules must supply at least one api group", "api groups"));
        list(errors, &at, rule, "resources", ("resource rules must supply at least one resource", "resources"));
        let needed = "resource rules that are not cluster scoped must supply at least one namespace";
        if items(&rule["namespaces"]).next().is_some() || rule["clusterScope"] != true {
            list(errors, &at, rule, "namespaces", (needed, "namespaces"));
        }
    }
    let up = at.field("nonResourceRules");
    for (i, rule) in items(paths) {
        let at = up.index(i);
        check_verbs(errors, &at, rule);
        let words = ("nonResourceURLs must contain at least one value", "non-resource URLs");
        list(errors, &at, rule, "nonResourceURLs", words);
    }
}

fn check_verbs(errors: &mut Errors, at: &At<'_>, rule: &Value) {
    list(errors, at, rule, "verbs", ("verbs must contain at least one value", "verbs"));
    let unknown = |(_, verb): &(usize, &Value)| text(verb) != "*" && !VERBS.contains(&text(verb));
    if let Some((_, verb)) = items(&rule["verbs"]).find(unknown) {
        errors.one_of(&at.field("verbs"), verb, &VERBS);
    }
}

/// A list with at least one value, in which `*` stands alone.
fn list(errors: &mut Errors, at: &At<'_>, rule: &Value, field: &str, (needed, others): (&str, &str)) {
    let (at, values) = (at.field(field), &rule[field]);
    match items(values).count() {
        0 => errors.required(&at, needed),
        1 => {}
        _ if items(values).any(|(_, value)| value == "*") => {
            errors.invalid(&at, values, format!("if '*' is present, must not specify other {others}"));
        }
        _ => {}
    }
}

fn check_subject(errors: &mut Errors, at: &At<'_>, subject: &Value) {
    let kinds = [("User", "user"), ("Group", "group"), ("ServiceAccount", "serviceAccount")];
    let kind = text(&subject["kind"]);
    if !kinds.iter().any(|(known, _)| *known == kind) {
        return errors.one_of(&at.field("kind"), &subject["kind"], &["Group", "ServiceAccount", "User"]);
    }
    for (of, field) in kinds {
        let at = at.field(field);
        let value = &subject[field];
        if of != kind {
            if !value.is_null() {
                errors.forbidden(&at, &format!("{field} is forbidden when subject kind is not '{of}'"));
            }
        } else if value.is_null() {
            errors.required(&at, &format!("{field} is required when subject kind is '{of}'"));
        } else {
            if text(&value["name"]).is_empty() {
                errors.required(&at.field("name"), "");
            }
            if of == "ServiceAccount" && text(&value["namespace"]).is_empty() {
                errors.required(&at.field("namespace"), "must specify namespace for service account");
            }
        }
    }
}

/// All errors of a PriorityLevelConfiguration.
pub fn priority_level(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (at, spec) = (At::ROOT.field("spec"), &object["spec"]);
    let kind = text(&spec["type"]);
    if (text(&object["metadata"]["name"]) == "exempt") != (kind == "Exempt") {
        errors.invalid(&at.field("type"), kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    match kind {
        "Exempt" => {
            if !spec["limited"].is_null() {
                errors.forbidden(&at.field("limited"), "must be nil if the type is not Limited");
            }
            check_shares(&mut errors, &at.field("exempt"), &spec["exempt"]);
        }
        "Limited" => {
            if !spec["exempt"].is_null() {
                errors.forbidden(&at.field("exempt"), "must be nil if the type is Limited");
            }
            if spec["limited"].is_null() {
                errors.required(&at.field("limited"), "must not be empty when type is Limited");
            } else {
                check_limited(&mut errors, &at.field("limited"), &spec["limited"]);
            }
        }
        _ => errors.one_of(&at.field("type"), &spec["type"], &["Exempt", "Limited"]),
    }
    errors.0
}

fn check_shares(errors: &mut Errors, at: &At<'_>, part: &Value) {
    let number = |field: &str| part[field].as_i64();
    if let Some(shares) = number("nominalConcurrencyShares").filter(|n| *n < 0) {
        errors.invalid(&at.field("nominalConcurrencyShares"), shares, "must be a non-negative integer");
    }
    if let Some(percent) = number("lendablePercent").filter(|n| !(0..=100).contains(n)) {
        errors.invalid(&at.field("lendablePercent"), percent, "must be between 0 and 100, inclusive");
    }
}

fn check_limited(errors: &mut Errors, at: &At<'_>, limited: &Value) {
    check_shares(errors, at, limited);
    if let Some(percent) = limited["borrowingLimitPercent"].as_i64().filter(|n| *n < 0) {
        errors.invalid(&at.field("borrowingLimitPercent"), percent, "if specified, must be a non-negative integer");
    }
    let (at, response) = (at.field("limitResponse"), &limited["limitResponse"]);
    let (up, queuing) = (at.field("queuing"), &response["queuing"]);
    match text(&response["type"]) {
        "Reject" if !queuing.is_null() => {
            errors.forbidden(&up, "must be nil if limited.limitResponse.type is not Limited");
        }
        "Reject" => {}
        "Queue" if queuing.is_null() => {
            errors.required(&up, "must not be empty if limited.limitResponse.type is Limited");
        }
        "Queue" => check_queuing(errors, &up, queuing),
        _ => errors.one_of(&at.field("type"), &response["type"], &["Queue", "Reject"]),
    }
}

fn check_queuing(errors: &mut Errors, at: &At<'_>, queuing: &Value) {
    let number = |field: &str| queuing[field].as_i64().unwrap_or_default();
    let (queues, hand) = (number("queues"), number("handSize"));
    if number("queueLengthLimit") <= 0 {
        errors.invalid(&at.field("queueLengthLimit"), number("queueLengthLimit"), "must be positive");
    }
    if queues <= 0 {
        errors.invalid(&at.field("queues"), queues, "must be positive");
    } else if queues > QUEUES_MAX {
        errors.invalid(&at.field("queues"), queues, format!("must not be greater than {QUEUES_MAX}"));
    }
    let at_hand = at.field("handSize");
    if hand <= 0 {
        errors.invalid(&at_hand, hand, "must be positive");
    } else if hand > queues {
        errors.invalid(&at_hand, hand, format!("should not be greater than queues ({queues})"));
    } else if entropy(queues, hand) > HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.invalid(&at_hand, hand, detail);
    }
}

/// The bits that it takes to tell all hands apart.
fn entropy(deck: i64, hand: i64) -> u32 {
    let bits: f64 = (0..hand.min(64)).map(|dealt| ((deck - dealt) as f64).log2()).sum();
    if hand > 64 { u32::MAX } else { bits.ceil() as u32 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::check::testing::{Case, check};

    #[test]
    fn flow_schemas_are_checked() {
        let good = json!({"metadata": {"name": "x"}, "spec": {
            "priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 1000,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "*"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}],
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["*"]}],
            }],
        }});
        let cases: [Case; 10] = [
            ("good", |_| {}, &[]),
            (
                "zero",
                |o| o["spec"]["matchingPrecedence"] = 0.into(),
                &["spec.matchingPrecedence: Invalid value: 0: must be a positive"],
            ),
            (
                "one",
                |o| o["spec"]["matchingPrecedence"] = 1.into(),
                &["spec.matchingPrecedence: Invalid value: 1: only the schema named"],
            ),
            (
                "large",
                |o| o["spec"]["matchingPrecedence"] = 10_001.into(),
                &["spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000"],
            ),
            (
                "method",
                |o| o["spec"]["distinguisherMethod"]["type"] = "By".into(),
                &["spec.distinguisherMethod.type: Unsupported value: \"By\""],
            ),
            (
                "no level",
                |o| o["spec"]["priorityLevelConfiguration"] = json!({}),
                &["spec.priorityLevelConfiguration.name: Required value: must reference"],
            ),
            ("nobody", |o| o["spec"]["rules"][0]["subjects"] = json!([]), &["spec.rules[0].subjects: Required value"]),
            (
                "wrong subject",
                |o| o["spec"]["rules"][0]["subjects"][0]["kind"] = "Group".into(),
                &[
                    "spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'",
                    "spec.rules[0].subjects[0].group: Required value: group is required when subject kind is 'Group'",
                ],
            ),
            (
                "star and more",
                |o| o["spec"]["rules"][0]["resourceRules"][0]["verbs"] = json!(["*", "get"]),
                &["spec.rules[0].resourceRules[0].verbs: Invalid value"],
            ),
            (
                "no namespace",
                |o| o["spec"]["rules"][0]["resourceRules"][0]["namespaces"] = json!([]),
                &["spec.rules[0].resourceRules[0].namespaces: Required value"],
            ),
        ];
        for (case, change, starts) in cases {
            let mut object = good.clone();
            change(&mut object);
            check(case, &flow_schema(&object), starts);
        }
    }

    #[test]
    fn priority_levels_are_checked() {
        let good = json!({"metadata": {"name": "x"}, "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 5, "lendablePercent": 50,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 6, "queueLengthLimit": 50}},
        }}});
        let cases: [Case; 9] = [
            ("good", |_| {}, &[]),
            (
                "exempt",
                |o| o["spec"] = json!({"type": "Exempt"}),
                &["spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if"],
            ),
            ("unknown", |o| o["spec"]["type"] = "Some".into(), &["spec.type: Unsupported value: \"Some\""]),
            ("empty", |o| o["spec"]["limited"] = Value::Null, &["spec.limited: Required value: must not be empty"]),
            (
                "percent",
                |o| o["spec"]["limited"]["lendablePercent"] = 101.into(),
                &["spec.limited.lendablePercent: Invalid value: 101"],
            ),
            (
                "reject",
                |o| o["spec"]["limited"]["limitResponse"]["type"] = "Reject".into(),
                &["spec.limited.limitResponse.queuing: Forbidden"],
            ),
            (
                "no queues",
                |o| o["spec"]["limited"]["limitResponse"]["queuing"]["queues"] = 0.into(),
                &[
                    "spec.limited.limitResponse.queuing.queues: Invalid value: 0: must be positive",
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 6: should not be greater than queues (0)",
                ],
            ),
            (
                "entropy",
                |o| o["spec"]["limited"]["limitResponse"]["queuing"]["handSize"] = 12.into(),
                &["spec.limited.limitResponse.queuing.handSize: Invalid value: 12: required entropy bits"],
            ),
            (
                "mixed",
                |o| o["spec"]["exempt"] = json!({}),
                &["spec.exempt: Forbidden: must be nil if the type is Limited"],
            ),
        ];
        for (case, change, starts) in cases {
            let mut object = good.clone();
            change(&mut object);
            check(case, &priority_level(&object), starts);
        }
    }
}
