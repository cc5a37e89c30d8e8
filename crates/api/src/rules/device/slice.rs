//! What drivers offer: resource.k8s.io/v1 ResourceSlice.

use serde_json::Value;

use super::forms;
use crate::field::FieldError;
use crate::names;
use crate::rules::cells::{flag, list, number, text};
use crate::rules::check::{At, Errors};
use crate::rules::selector;

/// Most devices of a slice; the second if any uses taints, counters or lists.
const DEVICES_MAX: (usize, usize) = (128, 64);
/// Most attributes and capacities of a device, and most values of its attributes.
const ATTRIBUTES_MAX: (usize, usize) = (32, 48);
/// Longest value of an attribute, bytes.
const VALUE_MAX: usize = 64;
/// Most sets of counters, counters of a set, and sets a device takes of.
const COUNTERS_MAX: (usize, usize, usize) = (8, 32, 2);
/// Most taints of a device.
const TAINTS_MAX: usize = 16;

/// A slice.
pub fn validate(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    forms::driver(&spec["driver"], &at.field("driver"), &mut errors);
    pool(&spec["pool"], &at.field("pool"), &mut errors);
    nodes(spec, &at, &mut errors);
    if !spec["sharedCounters"].is_null() && !spec["devices"].is_null() {
        errors.invalid(&at, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let devices = list(&spec["devices"]);
    let max = if devices.iter().any(is_advanced) { DEVICES_MAX.1 } else { DEVICES_MAX.0 };
    let each_has_nodes = flag(&spec["perDeviceNodeSelection"]);
    forms::set(&spec["devices"], max, "name", &at.field("devices"), &mut errors, |one, at, errors| {
        device(one, each_has_nodes, at, errors);
    });
    let counters_at = at.field("sharedCounters");
    forms::set(&spec["sharedCounters"], COUNTERS_MAX.0, "name", &counters_at, &mut errors, |set, at, errors| {
        forms::label(&set["name"], &at.field("name"), errors);
        counters(&set["counters"], &at.field("counters"), errors);
    });
    errors.0
}

/// A slice stays with its driver, pool and node.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors(validate(new));
    let (at, new, old) = (At::ROOT.field("spec"), &new["spec"], &old["spec"]);
    let pool = at.field("pool");
    errors.immutable(&pool.field("name"), &new["pool"]["name"], &old["pool"]["name"]);
    for field in ["driver", "nodeName"] {
        errors.immutable(&at.field(field), &new[field], &old[field]);
    }
    errors.0
}

fn pool(pool: &Value, at: &At<'_>, errors: &mut Errors) {
    forms::pool(&pool["name"], &at.field("name"), errors);
    let count = number(&pool["resourceSliceCount"]);
    if count <= 0 {
        errors.invalid(&at.field("resourceSliceCount"), count, "must be greater than zero");
    }
    let generation = number(&pool["generation"]);
    if generation < 0 {
        errors.invalid(&at.field("generation"), generation, "must be greater than or equal to zero");
    }
}

/// Where a slice's devices are: said in one way.
fn nodes(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut said = Vec::new();
    node_name(&spec["nodeName"], "must be either unset or set to a non-empty string", &mut said, at, errors);
    if !spec["nodeSelector"].is_null() {
        said.push("`nodeSelector`");
        let at = at.field("nodeSelector");
        selector::node_selector(&spec["nodeSelector"], &at, errors);
        let terms = &spec["nodeSelector"]["nodeSelectorTerms"];
        if list(terms).len() != 1 {
            errors.invalid(&at.field("nodeSelectorTerms"), terms, "must have exactly one node selector term");
        }
    }
    for (field, name) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        yes(&spec[field], name, &mut said, &at.field(field), errors);
    }
    one_said(&said, ONE, at, errors);
}

fn node_name(name: &Value, empty: &str, said: &mut Vec<&'static str>, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("nodeName");
    match name.as_str() {
        None => {}
        Some("") => errors.invalid(&at, "", empty),
        Some(name) => {
            said.push("`nodeName`");
            errors.all(&at, name, names::dns1123_subdomain(name));
        }
    }
}

fn yes(value: &Value, name: &'static str, said: &mut Vec<&'static str>, at: &At<'_>, errors: &mut Errors) {
    match value.as_bool() {
        None => {}
        Some(true) => said.push(name),
        Some(false) => errors.invalid(at, false, "must be either unset or set to true"),
    }
}

fn one_said(said: &[&str], one: &str, at: &At<'_>, errors: &mut Errors) {
    match said {
        [] => errors.required(at, one),
        [_] => {}
        many => {
            let detail = format!("{one}, but multiple fields are set");
            errors.invalid(at, format!("{{{}}}", many.join(", ")), detail);
        }
    }
}

/// It uses what makes slices large.
fn is_advanced(device: &Value) -> bool {
    let many = |attribute: &Value| ["bools", "ints", "strings", "versions"].iter().any(|f| !attribute[*f].is_null());
    let lists = device["attributes"].as_object().is_some_and(|all| all.values().any(many));
    lists || !list(&device["taints"]).is_empty() || !list(&device["consumesCounters"]).is_empty()
}

fn device(device: &Value, has_nodes: bool, at: &At<'_>, errors: &mut Errors) {
    forms::label(&device["name"], &at.field("name"), errors);
    let (attributes_at, capacity_at) = (at.field("attributes"), at.field("capacity"));
    let entries = |field: &str| device[field].as_object().into_iter().flatten();
    let total = entries("attributes").count() + entries("capacity").count();
    if total > ATTRIBUTES_MAX.0 {
        let detail = format!("the total number of attributes and capacities must not exceed {}", ATTRIBUTES_MAX.0);
        errors.invalid(at, total, detail);
    }
    let values: usize = entries("attributes").map(|(_, attribute)| value_count(attribute)).sum();
    if values > ATTRIBUTES_MAX.1 {
        let detail = format!("the total number of attribute values must not exceed {}", ATTRIBUTES_MAX.1);
        errors.invalid(at, values, detail);
    }
    for (name, value) in entries("attributes") {
        forms::qualified_name(name, &attributes_at, errors);
        attribute(value, &attributes_at.key(name), errors);
    }
    let shared = flag(&device["allowMultipleAllocations"]);
    for (name, capacity) in entries("capacity") {
        forms::qualified_name(name, &capacity_at, errors);
        if !shared && !capacity["requestPolicy"].is_null() {
            let at = capacity_at.key(name);
            errors.forbidden(&at.field("requestPolicy"), "allowMultipleAllocations must be true");
        }
    }
    forms::each(&device["taints"], TAINTS_MAX, &at.field("taints"), errors, forms::taint);
    let consumes = at.field("consumesCounters");
    forms::set(&device["consumesCounters"], COUNTERS_MAX.2, "counterSet", &consumes, errors, |taken, at, errors| {
        forms::label(&taken["counterSet"], &at.field("counterSet"), errors);
        counters(&taken["counters"], &at.field("counters"), errors);
    });
    nodes_of_device(device, has_nodes, at, errors);
}

fn nodes_of_device(device: &Value, has_nodes: bool, at: &At<'_>, errors: &mut Errors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
        `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    if !has_nodes {
        if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| !device[*field].is_null()) {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set \
                to true in the ResourceSlice spec";
            errors.invalid(at, Value::Null, detail);
        }
        return;
    }
    let mut said = Vec::new();
    node_name(&device["nodeName"], "must not be empty", &mut said, at, errors);
    if !device["nodeSelector"].is_null() {
        said.push("`nodeSelector`");
        selector::node_selector(&device["nodeSelector"], &at.field("nodeSelector"), errors);
    }
    yes(&device["allNodes"], "`allNodes`", &mut said, &at.field("allNodes"), errors);
    one_said(&said, ONE, at, errors);
}

fn counters(counters: &Value, at: &At<'_>, errors: &mut Errors) {
    let Some(counters) = counters.as_object().filter(|all| !all.is_empty()) else {
        errors.required(at, "");
        return;
    };
    if counters.len() > COUNTERS_MAX.1 {
        errors.too_many(at, counters.len(), COUNTERS_MAX.1);
    }
    for name in counters.keys() {
        errors.all(at, name, names::dns1123_label(name));
    }
}

fn value_count(attribute: &Value) -> usize {
    let single = ["bool", "int", "string", "version"].iter().filter(|field| !attribute[**field].is_null()).count();
    let lists = ["bools", "ints", "strings", "versions"].iter().map(|field| list(&attribute[*field]).len());
    single + lists.sum::<usize>()
}

/// One value, of one type.
fn attribute(attribute: &Value, at: &At<'_>, errors: &mut Errors) {
    let mut said = 0;
    for field in ["bool", "int", "string", "version"] {
        said += usize::from(!attribute[field].is_null());
        let value = text(&attribute[field]);
        if value.len() > VALUE_MAX {
            errors.too_long(&at.field(field), VALUE_MAX);
        }
    }
    for field in ["bools", "ints", "strings", "versions"] {
        let values = &attribute[field];
        said += usize::from(!values.is_null());
        if !values.is_null() && list(values).is_empty() {
            errors.invalid(&at.field(field), values, "must not be empty if specified");
        }
    }
    if said != 1 {
        errors.invalid(
            at,
            if said == 0 { Value::from("") } else { attribute.clone() },
            "exactly one value must be specified",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::{Case, check};
    use serde_json::json;

    #[test]
    fn slices_offer_devices() {
        let cases: [Case; 8] = [
            ("good", |_| {}, &[]),
            ("nowhere", |s| s["nodeName"] = Value::Null, &["spec: Required value: exactly one of `nodeName`"]),
            (
                "in two places",
                |s| s["allNodes"] = json!(true),
                &["spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of"],
            ),
            (
                "pool",
                |s| s["pool"] = json!({"name": "P", "resourceSliceCount": 0}),
                &["spec.pool.name: Invalid value: \"P\"", "spec.pool.resourceSliceCount: Invalid value: 0"],
            ),
            (
                "two values",
                |s| s["devices"][0]["attributes"]["a"] = json!({"int": 1, "bool": true}),
                &["spec.devices[0].attributes[a]: Invalid value: {\"int\":1,\"bool\":true}: exactly one value"],
            ),
            (
                "name of an attribute",
                |s| s["devices"][0]["attributes"] = json!({"a.example.com/b-c": {"int": 1}}),
                &["spec.devices[0].attributes: Invalid value: \"b-c\": a valid C identifier"],
            ),
            (
                "twice",
                |s| s["devices"] = json!([{"name": "d"}, {"name": "d"}]),
                &["spec.devices[1].name: Duplicate value: \"d\""],
            ),
            (
                "its own node",
                |s| s["devices"] = json!([{"name": "d", "nodeName": "n"}]),
                &["spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set"],
            ),
        ];
        for (case, change, errors) in cases {
            let mut slice = json!({"spec": {"driver": "d.example.com", "nodeName": "n",
                "pool": {"name": "p", "resourceSliceCount": 1}, "devices": [{"name": "d", "attributes": {"a": {"int": 1}}}]}});
            change(&mut slice["spec"]);
            check(case, &validate(&slice), errors);
        }
        let slice = |driver: &str| json!({"spec": {"driver": driver, "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1}}});
        check(
            "moved",
            &update(&slice("a.b"), &slice("c.d")),
            &["spec.driver: Invalid value: \"a.b\": field is immutable"],
        );
    }
}
