//! The storage of the n-th pod: claims that outlive it, unless `persistentVolumeClaimRetentionPolicy` says otherwise.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use mizzen_api::key;
use serde_json::{Value, json};

use super::World;
use crate::meta::{self, Meta};
use crate::plan::{Plan, Target, Write};

/// The name of a claim.
pub(super) fn name(set: &str, template: &str, ordinal: i32) -> String {
    format!("{template}-{set}-{ordinal}")
}

/// Plans the claims that the pod of this ordinal misses.
pub(super) fn create(world: &World<'_>, ordinal: i32, plan: &mut Plan) {
    for template in world.spec.volume_claim_templates.iter().flatten() {
        let name = name(world.set.name(), template.name(), ordinal);
        if find(world, &name).is_some() {
            continue;
        }
        let owners: Vec<OwnerReference> = deletes(world, false).then(|| set_reference(world)).into_iter().collect();
        let mut labels = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(world.spec.selector.match_labels.clone().unwrap_or_default());
        let mut metadata = json!({"name": name, "namespace": world.set.namespace(), "labels": labels,
            "annotations": template.metadata.annotations.clone().unwrap_or_default()});
        if !owners.is_empty() {
            metadata["ownerReferences"] = json!(owners);
        }
        plan.write(Write::Create {
            object: json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template.spec}),
        });
    }
}

/// Keeps the owners of existing claims as the retention policy wants them: the set, so that they go with it, or the pod
/// that is beyond the number of replicas.
pub(super) fn keep(world: &World<'_>, plan: &mut Plan) {
    for (ordinal, pod) in world.pods {
        let surplus = !world.ordinals().contains(ordinal);
        for template in world.spec.volume_claim_templates.iter().flatten() {
            let Some(claim) = find(world, &name(world.set.name(), template.name(), *ordinal)) else { continue };
            keep_one(world, pod, surplus, &claim, plan);
        }
    }
}

fn keep_one(world: &World<'_>, pod: &Pod, surplus: bool, claim: &PersistentVolumeClaim, plan: &mut Plan) {
    let before = claim.metadata.owner_references.clone().unwrap_or_default();
    let mut after: Vec<OwnerReference> =
        before.iter().filter(|o| o.uid != world.set.uid() && o.uid != pod.uid()).cloned().collect();
    // A claim that is to go with a surplus pod does not also wait for the set.
    if surplus && deletes(world, true) {
        after.push(OwnerReference { controller: None, block_owner_deletion: None, ..meta::owner_of(pod) });
    } else if deletes(world, false) {
        after.push(set_reference(world));
    }
    let uids = |list: &[OwnerReference]| list.iter().map(|o| o.uid.clone()).collect::<std::collections::BTreeSet<_>>();
    if uids(&before) == uids(&after) {
        return;
    }
    let owners = if after.is_empty() { Value::Null } else { json!(after) };
    plan.write(Write::Merge {
        target: Target::of::<PersistentVolumeClaim>(claim.namespace(), claim.name()),
        subresource: "",
        patch: json!({"metadata": {"uid": claim.uid(), "resourceVersion": claim.version(), "ownerReferences": owners}}),
    });
}

fn find(world: &World<'_>, name: &str) -> Option<std::sync::Arc<PersistentVolumeClaim>> {
    world.snapshot.get_as(&key::of::<PersistentVolumeClaim>(world.set.namespace(), name))
}

/// Whether claims go when the pod is scaled away, or when the set is deleted.
fn deletes(world: &World<'_>, scaled: bool) -> bool {
    let policy = world.spec.persistent_volume_claim_retention_policy.as_ref();
    let when = policy.and_then(|p| if scaled { p.when_scaled.as_deref() } else { p.when_deleted.as_deref() });
    when == Some("Delete")
}

fn set_reference(world: &World<'_>) -> OwnerReference {
    OwnerReference { controller: None, block_owner_deletion: None, ..meta::owner_of(&**world.set) }
}
