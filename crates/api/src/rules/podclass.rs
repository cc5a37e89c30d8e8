//! Classes that pods name: scheduling.k8s.io/v1 PriorityClass, node.k8s.io/v1 RuntimeClass.

use serde_json::Value;

use crate::field::FieldError;
use crate::kind::{Column, Generation, Rules};
use crate::names;
use crate::rules::cells::{self, number, text};
use crate::rules::check::{At, Errors};
use crate::rules::fill;
use crate::rules::plain::PLAIN;
use crate::rules::resources::Scope;
use crate::rules::{metadata, resources};

/// Rules of PriorityClasses.
pub static PRIORITY_CLASS: Rules = Rules {
    default: default_priority,
    validate: validate_priority,
    validate_update: update_priority,
    generation: Generation::Once,
    columns: PRIORITY_COLUMNS,
    row: priority_row,
    ..PLAIN
};

/// Rules of RuntimeClasses.
pub static RUNTIME_CLASS: Rules = Rules {
    validate: validate_runtime,
    validate_update: update_runtime,
    create_on_update: true,
    unconditional_update: false,
    columns: RUNTIME_COLUMNS,
    row: |object, now| vec![cells::name(object), text(&object["handler"]).into(), cells::age(object, now)],
    ..PLAIN
};

fn default_priority(object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        fill::optional(object, "preemptionPolicy", "PreemptLowerPriority");
    }
}

const PRIORITY_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Value", "Higher goes first."),
    Column::boolean("Global-Default", "Whether pods without a class get this one."),
    Column::AGE,
    Column::text("PreemptionPolicy", "Whether pods of this class may displace others."),
];

fn priority_row(object: &Value, now: i64) -> Vec<Value> {
    vec![
        cells::name(object),
        number(&object["value"]).into(),
        cells::flag(&object["globalDefault"]).into(),
        cells::age(object, now),
        text(&object["preemptionPolicy"]).into(),
    ]
}

const RUNTIME_COLUMNS: &[Column] =
    &[Column::NAME, Column::text("Handler", "The runtime that runs the pods."), Column::AGE];

/// Greatest priority that users can give.
const USER_PRIORITY_MAX: i64 = 1_000_000_000;
/// The classes of the system itself, and their values.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

fn validate_priority(object: &Value) -> Vec<FieldError> {
    let (name, value, mut errors) = (text(&object["metadata"]["name"]), number(&object["value"]), Errors::default());
    if name.starts_with("system-") {
        if !SYSTEM_CLASSES.contains(&(name, value)) || cells::flag(&object["globalDefault"]) {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: \
                {name} is not a known system priority class"
            );
            errors.forbidden(&At::ROOT.field("metadata").field("name"), &detail);
        }
    } else if value > USER_PRIORITY_MAX {
        let detail = format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
        errors.forbidden(&At::ROOT.field("value"), &detail);
    }
    let policies = ["PreemptLowerPriority", "Never"];
    errors.one_of(&At::ROOT.field("preemptionPolicy"), &object["preemptionPolicy"], &policies);
    errors.0
}

fn update_priority(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    if number(&new["value"]) != number(&old["value"]) {
        errors.forbidden(&At::ROOT.field("value"), "may not be changed in an update.");
    }
    let policy = (&new["preemptionPolicy"], &old["preemptionPolicy"]);
    errors.immutable(&At::ROOT.field("preemptionPolicy"), policy.0, policy.1);
    errors.0
}

fn validate_runtime(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.required_form(&At::ROOT.field("handler"), &object["handler"], names::dns1123_label);
    let at = At::ROOT.field("overhead");
    resources::amounts(&object["overhead"]["podFixed"], Scope::Any, &at.field("podFixed"), &mut errors);
    let at = At::ROOT.field("scheduling");
    metadata::labels(&object["scheduling"]["nodeSelector"], &at.field("nodeSelector"), &mut errors);
    errors.0
}

fn update_runtime(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.immutable(&At::ROOT.field("handler"), &new["handler"], &old["handler"]);
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;
    use serde_json::json;

    #[test]
    fn priorities_have_bounds() {
        let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
        for (case, class, errors) in [
            ("good", class("high", 1000), &[][..]),
            (
                "too high",
                class("high", 1_000_000_001),
                &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
            ),
            ("system's own", class("system-node-critical", 2_000_001_000), &[]),
            (
                "not the system's",
                class("system-mine", 1),
                &["metadata.name: Forbidden: priority class names with 'system-' prefix"],
            ),
        ] {
            check(case, &validate_priority(&class), errors);
        }
        check(
            "changed",
            &update_priority(&class("a", 2), &class("a", 1)),
            &["value: Forbidden: may not be changed in an update."],
        );
    }
}
