//! The ReplicaSets of a Deployment: which one has the present template, what a new one looks like, revisions.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value, json};

use super::rollout::Limits;
use crate::meta::{self, Meta};

/// Label that tells the pods of one set from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";
/// Counts rollouts.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Revisions a set had before it was rolled back to.
pub const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// `spec.replicas` of the Deployment when the set was last sized.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The same plus surge.
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations that are not handed on to sets.
const NOT_HANDED_ON: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

/// The sets, oldest first.
pub struct Sets {
    /// The oldest set with the present template.
    pub new: Option<Arc<ReplicaSet>>,
    /// All others.
    pub old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    /// Finds the new one.
    pub fn sort(template: &PodTemplateSpec, mut owned: Vec<Arc<ReplicaSet>>) -> Self {
        owned.sort_by_key(|s| (s.created(), s.name().to_string()));
        let wanted = comparable(template);
        let same = |set: &Arc<ReplicaSet>| {
            set.spec.as_ref().and_then(|s| s.template.as_ref()).map(comparable) == Some(wanted.clone())
        };
        let new = owned.iter().position(same).map(|at| owned.remove(at));
        Self { new, old: owned }
    }

    /// The new one and the old ones.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.new.iter().chain(&self.old)
    }
}

/// A template without the label that the controller itself adds, and with empty maps left out.
fn comparable(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    meta.labels = meta.labels.take().filter(|m| !m.is_empty());
    meta.annotations = meta.annotations.take().filter(|m| !m.is_empty());
    meta.creation_timestamp = None;
    template
}

/// A set's revision, 0 if it has none.
pub fn revision(set: &ReplicaSet) -> i64 {
    set.annotation(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// The annotations the new set should have, as far as the Deployment decides.
pub fn annotations(
    deployment: &Deployment,
    set: &ReplicaSet,
    revision: i64,
    limits: &Limits,
) -> BTreeMap<String, String> {
    let mut wanted = handed_on(deployment);
    wanted.insert(REVISION.into(), revision.to_string());
    let before = self::revision(set);
    if before != 0 && before != revision {
        let history = set.annotation(HISTORY).map(|h| format!("{h},{before}")).unwrap_or_else(|| before.to_string());
        wanted.insert(HISTORY.into(), history);
    }
    wanted.insert(DESIRED.into(), limits.replicas.to_string());
    wanted.insert(MAX.into(), (limits.replicas + limits.surge).to_string());
    // Sizing writes these two together with the size; a set that is yet to be sized keeps its own.
    if set.annotation(DESIRED).is_some() {
        wanted.remove(DESIRED);
        wanted.remove(MAX);
    }
    wanted
}

/// Does the set lack any of these?
pub fn differ(set: &ReplicaSet, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().any(|(name, value)| set.annotation(name) != Some(value))
}

fn handed_on(deployment: &Deployment) -> BTreeMap<String, String> {
    let mut annotations = deployment.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !NOT_HANDED_ON.contains(&name.as_str()));
    annotations
}

/// A new set for the present template.
pub fn build(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    revision: i64,
    replicas: i32,
    limits: &Limits,
    collisions: i32,
) -> Value {
    // Plain data: serialising it cannot fail.
    let template = serde_json::to_vec(&comparable(&spec.template)).unwrap_or_default();
    let hash = meta::template_hash(&template, i64::from(collisions));
    let mut labels = spec.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    let mut template = json!(spec.template);
    template["metadata"]["labels"] = json!(labels);
    let mut selector = json!(spec.selector);
    selector["matchLabels"][HASH_LABEL] = hash.clone().into();
    let mut annotations = handed_on(deployment);
    annotations.insert(REVISION.into(), revision.to_string());
    annotations.insert(DESIRED.into(), limits.replicas.to_string());
    annotations.insert(MAX.into(), (limits.replicas + limits.surge).to_string());
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{}-{hash}", deployment.name()),
            "namespace": deployment.namespace(),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [meta::owner_of(deployment)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": spec.min_ready_seconds.unwrap_or(0),
            "selector": selector,
            "template": template,
        },
    })
}
