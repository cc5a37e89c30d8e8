//! What makes a pod the n-th of its set: name, labels, host name, storage.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value, json};

use super::{World, claims};
use crate::meta::Meta;
use crate::pods;
use crate::revisions::{self, HASH};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name, if the name is of this set.
pub(super) fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    digits.parse().ok().filter(|n: &i32| *n >= 0 && n.to_string() == digits)
}

/// The revision that a new pod of this ordinal gets.
pub(super) fn revision<'a>(world: &'a World<'_>, ordinal: i32) -> &'a str {
    if world.is_rolling() && ordinal < world.start().saturating_add(world.partition()) {
        &world.current
    } else {
        &world.history.update
    }
}

/// A new pod of this ordinal.
pub(super) fn pod(world: &World<'_>, ordinal: i32) -> Value {
    let revision = revision(world, ordinal);
    let stored: Option<PodTemplateSpec> = (revision != world.history.update)
        .then(|| world.history.named(revision).and_then(|r| revisions::template(r)))
        .flatten();
    let mut pod = pods::skeleton(&**world.set, stored.as_ref().unwrap_or(&world.spec.template));
    let name = format!("{}-{ordinal}", world.set.name());
    let metadata = &mut pod["metadata"];
    metadata["labels"][POD_NAME] = name.clone().into();
    metadata["labels"][POD_INDEX] = ordinal.to_string().into();
    metadata["labels"][HASH] = revision.into();
    metadata["name"] = name.clone().into();
    pod["spec"]["hostname"] = name.into();
    if let Some(service) = world.spec.service_name.as_deref().filter(|s| !s.is_empty()) {
        pod["spec"]["subdomain"] = service.into();
    }
    let mut volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    for template in world.spec.volume_claim_templates.iter().flatten() {
        volumes.retain(|v| v["name"] != template.name());
        let claim = claims::name(world.set.name(), template.name(), ordinal);
        volumes.push(json!({"name": template.name(), "persistentVolumeClaim": {"claimName": claim}}));
    }
    if !volumes.is_empty() {
        pod["spec"]["volumes"] = volumes.into();
    }
    pod
}
