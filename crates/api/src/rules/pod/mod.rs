//! core/v1 Pod and PodTemplate, and the pod templates inside workloads.

mod columns;
mod container;
pub mod defaults;
mod placement;
pub mod resize;
mod security;
pub mod spec;
mod strategy;
mod validation;
mod volume;
pub mod warnings;

pub use container::port as container_port;
pub use validation::whole as validate_whole;

use crate::kind::{Generation, Rules, SelectableField};
use crate::rules::check::{At, Errors, same};
use crate::rules::plain::{PLAIN, WITH_SPEC_AND_STATUS};

/// Rules of Pods.
pub static POD: Rules = Rules {
    default: defaults::pod,
    prepare_create: strategy::prepare_create,
    prepare_status_update: strategy::prepare_status_update,
    validate: validation::create,
    validate_update: validation::update,
    validate_status_update: validation::update_status,
    warnings: warnings::pod,
    returns_deleted: true,
    selectable: &[
        SelectableField { label: "spec.nodeName", value: |pod| text(&pod["spec"]["nodeName"]) },
        SelectableField { label: "spec.restartPolicy", value: |pod| text(&pod["spec"]["restartPolicy"]) },
        SelectableField { label: "spec.schedulerName", value: |pod| text(&pod["spec"]["schedulerName"]) },
        SelectableField { label: "spec.serviceAccountName", value: |pod| text(&pod["spec"]["serviceAccountName"]) },
        SelectableField { label: "spec.hostNetwork", value: |pod| flag(&pod["spec"]["hostNetwork"]) },
        SelectableField { label: "status.phase", value: |pod| text(&pod["status"]["phase"]) },
        SelectableField { label: "status.podIP", value: |pod| text(&pod["status"]["podIP"]) },
        SelectableField { label: "status.podIPs", value: pod_ips },
        SelectableField { label: "status.nominatedNodeName", value: |pod| text(&pod["status"]["nominatedNodeName"]) },
    ],
    columns: columns::COLUMNS,
    row: columns::row,
    ..WITH_SPEC_AND_STATUS
};

/// Rules of PodTemplates.
pub static POD_TEMPLATE: Rules = Rules {
    default: defaults::pod_template,
    generation: Generation::Content,
    validate: validate_template,
    validate_update: |new, _| validate_template(new),
    returns_deleted: true,
    columns: columns::TEMPLATE_COLUMNS,
    row: columns::template_row,
    ..PLAIN
};

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn flag(value: &serde_json::Value) -> String {
    value.as_bool().unwrap_or_default().to_string()
}

fn pod_ips(pod: &serde_json::Value) -> String {
    let ips = pod["status"]["podIPs"].as_array().map(Vec::as_slice).unwrap_or_default();
    ips.iter().filter_map(|ip| ip["ip"].as_str()).collect::<Vec<_>>().join(",")
}

fn validate_template(object: &serde_json::Value) -> Vec<crate::field::FieldError> {
    let mut errors = Errors::default();
    spec::template(&object["template"], &At::ROOT.field("template"), &mut errors);
    errors.0
}

/// Whether nothing was said about a field: absent, or empty.
fn is_unset(value: &serde_json::Value) -> bool {
    same(value, &serde_json::Value::Null)
}
