//! The history of a pod template as ControllerRevisions (apps/v1), for StatefulSets and DaemonSets.
//!
//! A revision holds the template as a patch that replaces it, so that `kubectl rollout undo` can apply it. The newest has the
//! highest number; going back to an old template gives that old revision a new number.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use mizzen_api::selector::LabelSelector;
use mizzen_store::Snapshot;
use serde_json::{Value, json};

use crate::meta::{self, Meta};
use crate::plan::{Plan, Target, Write};
use crate::pods;

/// The label of pods and revisions with the revision's name (StatefulSet) or hash (DaemonSet).
pub const HASH: &str = "controller-revision-hash";
/// Revisions that are kept when the set does not say.
const HISTORY_DEFAULT: i32 = 10;

/// The revisions of a set.
#[derive(Debug)]
pub struct History {
    /// By number, oldest first; without one that is only planned.
    pub all: Vec<Arc<ControllerRevision>>,
    /// The name of the revision of the template as it is.
    pub update: String,
    /// Its hash.
    pub update_hash: String,
    /// The hash had to be made from one collision more, which the status must remember.
    pub collisions: i32,
}

/// A set with a history.
pub struct Subject<'a, O> {
    /// The set.
    pub owner: &'a O,
    /// Its template.
    pub template: &'a PodTemplateSpec,
    /// Its selector.
    pub selector: &'a LabelSelector,
    /// `status.collisionCount`.
    pub collisions: i32,
}

/// The revisions of a set, after planning to write the one of its present template if it is missing or not the newest.
pub fn history<O: Resource + Metadata<Ty = ObjectMeta>>(
    snapshot: &Snapshot,
    subject: &Subject<'_, O>,
    plan: &mut Plan,
) -> History {
    let owner = subject.owner;
    let mut all: Vec<Arc<ControllerRevision>> = pods::claim(snapshot, owner, subject.selector, plan);
    all.sort_by_key(|r| (r.revision, r.created()));
    let data = data(subject.template);
    let highest = all.last().map_or(0, |r| r.revision);
    let same = all.iter().rev().find(|r| r.data.as_ref().is_some_and(|d| d.0 == data)).cloned();
    if let Some(same) = same {
        if same.revision < highest {
            plan.write(Write::Merge {
                target: Target::of::<ControllerRevision>(same.namespace(), same.name()),
                subresource: "",
                patch: json!({"metadata": {"resourceVersion": same.version()}, "revision": highest + 1}),
            });
        }
        let hash = same.label(HASH).unwrap_or_default();
        let hash = hash.rsplit('-').next().unwrap_or_default().to_string();
        return History { update: same.name().to_string(), update_hash: hash, all, collisions: subject.collisions };
    }
    let mut collisions = subject.collisions;
    // Plain data: serialising it cannot fail.
    let bytes = serde_json::to_vec(&data).unwrap_or_default();
    let (name, hash) = loop {
        let hash = meta::template_hash(&bytes, i64::from(collisions));
        let name = format!("{}-{hash}", owner.name());
        let taken = snapshot.get(&mizzen_api::key::of::<ControllerRevision>(owner.namespace(), &name)).is_some();
        if !taken {
            break (name, hash);
        }
        collisions += 1;
    };
    let mut labels = subject.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    labels.insert(HASH.into(), hash.clone());
    plan.write(Write::Create {
        object: json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {"name": name, "namespace": owner.namespace(), "labels": labels,
                "annotations": revision_annotations(owner), "ownerReferences": [meta::owner_of(owner)]},
            "data": data, "revision": highest + 1,
        }),
    });
    History { all, update: name, update_hash: hash, collisions }
}

/// Annotations go along, so that `kubectl rollout history` shows the cause of a change.
fn revision_annotations<O: Metadata<Ty = ObjectMeta>>(owner: &O) -> Value {
    let mut annotations = owner.metadata().annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    json!(annotations)
}

/// What a revision holds: with keys in order, as clients compare the bytes with those that they make of the template.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = "replace".into();
    let mut data = json!({"spec": {"template": template}});
    data.sort_all_objects();
    data
}

/// The template that a revision holds.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let data = &revision.data.as_ref()?.0;
    serde_json::from_value(data["spec"]["template"].clone()).ok()
}

impl History {
    /// The revision of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<ControllerRevision>> {
        self.all.iter().find(|r| r.name() == name)
    }

    /// Plans to delete the oldest revisions beyond `limit` that no pod and no `live` name needs.
    pub fn truncate(&self, limit: Option<i32>, live: &[&str], pods: &[Arc<Pod>], plan: &mut Plan) {
        let limit = usize::try_from(limit.unwrap_or(HISTORY_DEFAULT)).unwrap_or(0);
        let used = |r: &ControllerRevision| {
            let hash = r.label(HASH).unwrap_or_default();
            let of_pod = |p: &Arc<Pod>| p.label(HASH).is_some_and(|l| l == r.name() || l == hash);
            live.contains(&r.name()) || r.name() == self.update || pods.iter().any(of_pod)
        };
        let old: Vec<&Arc<ControllerRevision>> = self.all.iter().filter(|r| !used(r)).collect();
        for revision in old.iter().take(old.len().saturating_sub(limit)) {
            plan.write(Write::delete(&***revision));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_the_same_bytes_as_clients_make_of_the_template() {
        let template = json!({"metadata": {"labels": {"b": "1", "a": "2"}}, "spec": {
            "containers": [{"name": "c", "image": "i", "resources": {}}], "restartPolicy": "Always", "dnsPolicy": "Default"}});
        let template: PodTemplateSpec = serde_json::from_value(template).unwrap();
        let expected = r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"a":"2","b":"1"}},"spec":{"containers":[{"image":"i","name":"c","resources":{}}],"dnsPolicy":"Default","restartPolicy":"Always"}}}}"#;
        assert_eq!(data(&template).to_string(), expected);
    }
}
