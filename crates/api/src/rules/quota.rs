//! core/v1 ResourceQuota and LimitRange: bounds of a namespace.

use serde_json::Value;

use crate::kind::{Column, Rules};
use crate::rules::cells::{self, scalar_or, text};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, PLAIN, WITH_STATUS};

/// Rules of ResourceQuotas.
pub static QUOTA: Rules = Rules {
    prepare_create: plain::empty_status,
    returns_deleted: true,
    columns: QUOTA_COLUMNS,
    row: quota_row,
    ..WITH_STATUS
};

/// Rules of LimitRanges.
pub static LIMIT_RANGE: Rules = Rules {
    default: default_limits,
    create_on_update: true,
    columns: &[Column::NAME, Column::CREATED_AT],
    row: cells::name_and_created,
    ..PLAIN
};

fn default_limits(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    for item in fill::items(spec, "limits") {
        if text(item.get("type").unwrap_or(&Value::Null)) == "Container" {
            for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
                copy_missing(item, from, to);
            }
        }
    }
}

/// Every entry of the map `from` that the map `to` does not have goes there.
fn copy_missing(item: &mut Fields, from: &str, to: &str) {
    let Some(Value::Object(source)) = item.get(from) else {
        return;
    };
    let source = source.clone();
    if source.is_empty() {
        return;
    }
    let Some(target) = fill::child(item, to) else { return };
    for (name, value) in source {
        target.entry(name).or_insert(value);
    }
}

const QUOTA_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Request", "Used and allowed requests and counts."),
    Column::text("Limit", "Used and allowed limits."),
    Column::AGE,
];

fn quota_row(object: &Value, now: i64) -> Vec<Value> {
    let status = &object["status"];
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, hard) in status["hard"].as_object().into_iter().flatten() {
        let line = format!("{name}: {}/{}", scalar_or(&status["used"][name], "0"), scalar_or(hard, "0"));
        if name.starts_with("limits.") { &mut limits } else { &mut requests }.push(line);
    }
    requests.sort();
    limits.sort();
    vec![cells::name(object), requests.join(", ").into(), limits.join(", ").into(), cells::age(object, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_flow_from_max_to_request() {
        let mut range = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}, {"type": "Pod", "max": {"cpu": "3"}}]}});
        default_limits(&mut range);
        assert_eq!(
            range["spec"]["limits"],
            json!([
                {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"}},
                {"type": "Pod", "max": {"cpu": "3"}},
            ])
        );
    }
}
