//! Claims and volumes: what binder, scheduler and provisioner must agree on (core/v1 PersistentVolume, PersistentVolumeClaim).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::node_affinity;
use crate::quantity::Quantity;
use crate::selector::LabelSelector;

/// The annotation that named the class before the field did.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The annotation by which the scheduler tells a provisioner where a claim will be used.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The annotation of a claim whose binding is complete: a volume that is missing later is lost.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The annotation of a binding that was made by the cluster, not by people.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// The annotation of a claim that names the provisioner that is to make its volume.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The annotation of a volume that names the provisioner that made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// The provisioner of classes whose volumes people make.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// The built-in local storage: directories on the nodes. Controller and agent share these names.
pub mod local {
    use k8s_openapi::api::core::v1::PersistentVolume;

    /// Provisioner of its classes, and CSI driver name of its volumes.
    pub const DRIVER: &str = "mizzen.dev/local";
    /// The class that every new cluster has, and that is its default.
    pub const CLASS: &str = "local";
    /// The label of a volume that names the node with its directory.
    pub const NODE_LABEL: &str = "mizzen.dev/node";
    /// The finalizer that the node takes off once the directory is gone.
    pub const FINALIZER: &str = "mizzen.dev/local-volume";

    /// The node with the directory, if the volume is one of these.
    pub fn node(volume: &PersistentVolume) -> Option<&str> {
        let csi = volume.spec.as_ref()?.csi.as_ref()?;
        let labels = volume.metadata.labels.as_ref()?;
        (csi.driver == DRIVER).then(|| labels.get(NODE_LABEL))?.map(String::as_str)
    }
}

/// The names of the claims a pod mounts; those of ephemeral volumes follow from the names of pod and volume.
pub fn claims(pod: &Pod) -> impl Iterator<Item = String> + '_ {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(move |v| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{name}-{}", v.name)),
        (None, None) => None,
    })
}

/// The claim's class; empty for none.
pub fn class(claim: &PersistentVolumeClaim) -> &str {
    let field = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    annotation(&claim.metadata, CLASS).or(field).unwrap_or_default()
}

/// The node that the scheduler has chosen for the claim.
pub fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    annotation(&claim.metadata, SELECTED_NODE).filter(|node| !node.is_empty())
}

/// The volume that the claim is completely bound to.
pub fn bound_volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    let volume = claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())?;
    annotation(&claim.metadata, BIND_COMPLETED).map(|_| volume)
}

/// The volume refers to no claim, or to this one by name.
pub fn is_free_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else { return true };
    let unbound = reference.uid.as_deref().is_none_or(str::is_empty);
    unbound && reference.name == claim.metadata.name && reference.namespace == claim.metadata.namespace
}

/// The best free volume that `suits`: one that was meant for the claim, else the smallest that has what it asks for.
pub fn best<'a>(
    volumes: &'a [Arc<PersistentVolume>],
    claim: &PersistentVolumeClaim,
    suits: impl Fn(&PersistentVolume) -> bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let meant = |v: &Arc<PersistentVolume>| v.spec.as_ref().is_some_and(|s| s.claim_ref.is_some());
    let fitting = volumes.iter().filter(|v| is_free_for(v, claim) && fits(v, claim) && suits(v));
    fitting.min_by_key(|v| (!meant(v), capacity(v).map(Quantity::units), v.metadata.name.clone()))
}

/// Can the volume be used on the node? One without `spec.nodeAffinity` can be used anywhere.
pub fn reachable(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required.as_ref());
    required.is_none_or(|r| r.node_selector_terms.iter().any(|term| node_affinity::term(term, node)))
}

/// How much the claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage")?.0.parse().ok()
}

/// How much the volume holds.
pub fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?.0.parse().ok()
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref().and_then(|a: &BTreeMap<String, String>| a.get(name)).map(String::as_str)
}

fn fits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(asks)) = (&volume.spec, &claim.spec) else { return false };
    let modes = has.access_modes.as_deref().unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    let selected = match &asks.selector {
        None => true,
        Some(selector) => {
            let labels = volume.metadata.labels.as_ref();
            LabelSelector::from_typed(Some(selector)).is_ok_and(|s| s.matches_labels(labels))
        }
    };
    selected
        && has.storage_class_name.as_deref().unwrap_or_default() == class(claim)
        && mode(&has.volume_mode) == mode(&asks.volume_mode)
        && asks.access_modes.iter().flatten().all(|m| modes.contains(m))
        && requested(claim).is_none_or(|size| capacity(volume).is_some_and(|c| c >= size))
}
