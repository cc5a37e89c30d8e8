//! apiregistration.k8s.io/v1 APIService.

use serde_json::Value;

use crate::kind::{Column, Rules};
use crate::rules::admission;
use crate::rules::cells::{self, text};
use crate::rules::fill;
use crate::rules::plain::WITH_STATUS;

/// Rules of APIServices.
pub static API_SERVICE: Rules = Rules {
    default: default_api_service,
    unconditional_update: false,
    columns: SERVICE_COLUMNS,
    row: service_row,
    ..WITH_STATUS
};

fn default_api_service(object: &mut Value) {
    if let Some(spec) = object.as_object_mut().and_then(|o| fill::existing(o, "spec")) {
        admission::service_port(spec);
    }
}

const SERVICE_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Service", "What serves this version of the group."),
    Column::text("Available", "Whether it can be reached."),
    Column::AGE,
];

fn service_row(object: &Value, now: i64) -> Vec<Value> {
    let service = match &object["spec"]["service"] {
        Value::Null => "Local".into(),
        service => format!("{}/{}", text(&service["namespace"]), text(&service["name"])),
    };
    let available = match cells::condition(object, "Available") {
        None => "Unknown".into(),
        Some(condition) if condition["status"] == "True" => "True".into(),
        Some(condition) => format!("{} ({})", text(&condition["status"]), text(&condition["reason"])),
    };
    vec![cells::name(object), service.into(), available.into(), cells::age(object, now)]
}
