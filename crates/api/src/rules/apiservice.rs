//! apiregistration.k8s.io/v1 APIService.

use serde_json::Value;

use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::names;
use crate::rules::admission;
use crate::rules::cells::{self, number, text};
use crate::rules::check::{At, Errors};
use crate::rules::fill;
use crate::rules::plain::WITH_STATUS;

/// Rules of APIServices.
pub static API_SERVICE: Rules = Rules {
    validate,
    validate_update: |new, _| validate(new),
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

fn validate(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    let (group, version) = (text(&spec["group"]), text(&spec["version"]));
    let (name, wanted) = (text(&object["metadata"]["name"]), format!("{version}.{group}"));
    if name != wanted {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.invalid(&At::ROOT.field("metadata").field("name"), name, detail);
    }
    errors.form(&at.field("group"), &spec["group"], names::dns1123_subdomain);
    errors.required_form(&at.field("version"), &spec["version"], names::dns1035_label);
    for (field, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let value = number(&spec[field]);
        if !(1..=max).contains(&value) {
            errors.invalid(&at.field(field), value, format!("must be positive and less than {max}"));
        }
    }
    if spec["service"].is_null() {
        if spec["insecureSkipTLSVerify"] == true {
            errors.invalid(
                &at.field("insecureSkipTLSVerify"),
                true,
                "local APIServices may not have insecureSkipTLSVerify",
            );
        }
        return errors.0;
    }
    let service_at = at.field("service");
    for field in ["namespace", "name"] {
        errors.required_text(&service_at.field(field), &spec["service"][field], "");
    }
    let port = number(&spec["service"]["port"]);
    errors.all(&service_at.field("port"), port, names::port_number(port));
    if spec["insecureSkipTLSVerify"] == true && !text(&spec["caBundle"]).is_empty() {
        errors.invalid(&at.field("insecureSkipTLSVerify"), true, "may not be true if caBundle is present");
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;
    use serde_json::json;

    #[test]
    fn the_name_is_version_and_group() {
        let service = |name: &str| {
            json!({"metadata": {"name": name}, "spec": {"group": "example.com", "version": "v1",
            "groupPriorityMinimum": 100, "versionPriority": 10, "service": {"namespace": "a", "name": "b", "port": 443}}})
        };
        check("good", &validate(&service("v1.example.com")), &[]);
        check("name", &validate(&service("x")), &["metadata.name: Invalid value: \"x\": must be `spec.version"]);
    }
}
