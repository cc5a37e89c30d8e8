//! Volumes: a pod goes where its claims' volumes can be used, or can be made (core/v1 PersistentVolumeClaim, storage/v1
//! StorageClass `volumeBindingMode`, `allowedTopologies`).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use mizzen_api::key;
use mizzen_api::volumes::{self, NO_PROVISIONER};

use crate::cluster::{Cluster, NodeInfo, PodInfo};
use crate::rules::{Impossible, Reason};

/// What has to be done for a pod's claims before it can be bound to its node.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The volume is to be kept for the claim.
    Bind(Arc<PersistentVolumeClaim>, Arc<PersistentVolume>),
    /// The claim's provisioner is to be told the node.
    Provision(Arc<PersistentVolumeClaim>),
    /// The provisioner, or the binder, is at it.
    Wait,
}

/// What one claim means for the choice of a node.
enum Claim {
    /// It is bound to this volume.
    Bound(Arc<PersistentVolume>),
    /// Its volume is gone.
    Lost,
    /// Its class waits for the node.
    Open(Arc<PersistentVolumeClaim>, Arc<StorageClass>),
}

/// What is known about a pod's claims before any node is looked at.
#[derive(Default)]
pub struct Prepared {
    claims: Vec<Claim>,
    /// Volumes that a claim could be bound to; read only if there is an open claim.
    volumes: Vec<Arc<PersistentVolume>>,
    /// Claims that only one pod may use.
    exclusive: Vec<String>,
    /// Another pod uses one of them.
    in_use: bool,
}

/// Reads the pod's claims.
///
/// # Errors
/// A claim that is missing, going, or has to be bound first: no node will do.
pub fn prepare(cluster: &Cluster, pod: &PodInfo) -> Result<Prepared, Impossible> {
    let mut prepared = Prepared::default();
    for name in &pod.claims {
        let at = key::of::<PersistentVolumeClaim>(pod.namespace(), name);
        let Some(claim) = cluster.snapshot.get_as::<PersistentVolumeClaim>(&at) else {
            return Err(Impossible(format!("persistentvolumeclaim {name:?} not found")));
        };
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(Impossible(format!("persistentvolumeclaim {name:?} is being deleted")));
        }
        let modes = claim.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
        if modes.iter().any(|mode| mode == "ReadWriteOncePod") {
            prepared.exclusive.push(name.clone());
        }
        prepared.claims.push(read(cluster, claim)?);
    }
    if prepared.claims.iter().any(|c| matches!(c, Claim::Open(..))) {
        let prefix = key::all::<PersistentVolume>();
        let all = cluster.snapshot.list_as::<PersistentVolume>(&prefix);
        let usable = |v: &Arc<PersistentVolume>| {
            v.metadata.deletion_timestamp.is_none()
                && !v.metadata.name.as_ref().is_some_and(|n| cluster.kept.contains(n))
        };
        prepared.volumes = all.filter(usable).collect();
    }
    prepared.in_use = !prepared.exclusive.is_empty() && cluster.nodes.iter().any(|n| uses(n, pod, &prepared.exclusive));
    Ok(prepared)
}

fn uses(node: &NodeInfo, pod: &PodInfo, claims: &[String]) -> bool {
    let shares = |p: &PodInfo| p.namespace() == pod.namespace() && p.claims.iter().any(|c| claims.contains(c));
    node.pods.iter().any(shares)
}

fn read(cluster: &Cluster, claim: Arc<PersistentVolumeClaim>) -> Result<Claim, Impossible> {
    let snapshot = &cluster.snapshot;
    if let Some(name) = volumes::bound_volume(&claim) {
        let volume = snapshot.get_as(&key::of::<PersistentVolume>("", name));
        return Ok(volume.map_or(Claim::Lost, Claim::Bound));
    }
    let class = snapshot.get_as::<StorageClass>(&key::of::<StorageClass>("", volumes::class(&claim)));
    let waits = |c: &Arc<StorageClass>| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
    match class.filter(waits) {
        Some(class) => Ok(Claim::Open(claim, class)),
        None => Err(Impossible("pod has unbound immediate PersistentVolumeClaims".into())),
    }
}

/// All claims can be used on the node.
pub fn filter(prepared: &Prepared, node: &NodeInfo) -> Result<(), Reason> {
    if prepared.in_use {
        return Err(Reason::ClaimInUse);
    }
    for claim in &prepared.claims {
        match claim {
            Claim::Lost => return Err(Reason::VolumeLost),
            Claim::Bound(volume) if !volumes::reachable(volume, &node.node) => return Err(Reason::VolumeNode),
            Claim::Bound(_) | Claim::Open(..) => {}
        }
    }
    steps(prepared, node).map(drop).ok_or(Reason::NoVolume)
}

/// What is left to be done for the pod's claims on the node; `None` if it cannot be done there.
pub fn steps(prepared: &Prepared, node: &NodeInfo) -> Option<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for claim in &prepared.claims {
        let Claim::Open(claim, class) = claim else { continue };
        let step = step(prepared, claim, class, node, &steps)?;
        steps.push(step);
    }
    Some(steps)
}

fn step(
    prepared: &Prepared,
    claim: &Arc<PersistentVolumeClaim>,
    class: &StorageClass,
    node: &NodeInfo,
    before: &[Step],
) -> Option<Step> {
    if let Some(volume) = prepared.volumes.iter().find(|v| refers_to(v, claim)) {
        return volumes::reachable(volume, &node.node).then_some(Step::Wait);
    }
    if let Some(selected) = volumes::selected_node(claim) {
        return (selected == node.name()).then_some(Step::Wait);
    }
    let unused = |v: &PersistentVolume| {
        let name = &v.metadata.name;
        !before.iter().any(|s| matches!(s, Step::Bind(_, other) if other.metadata.name == *name))
    };
    let suits = |v: &PersistentVolume| volumes::reachable(v, &node.node) && unused(v);
    if let Some(volume) = volumes::best(&prepared.volumes, claim, suits) {
        return Some(Step::Bind(Arc::clone(claim), Arc::clone(volume)));
    }
    (class.provisioner != NO_PROVISIONER && allowed(class, node)).then(|| Step::Provision(Arc::clone(claim)))
}

/// The volume is kept for this very claim; the binder has not told the claim yet.
fn refers_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let uid = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()?.uid.as_deref());
    uid.is_some() && uid == claim.metadata.uid.as_deref()
}

/// The class makes volumes for nodes like this.
fn allowed(class: &StorageClass, node: &NodeInfo) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    let holds = |key: &str, values: &[String]| node.label(key).is_some_and(|v| values.iter().any(|x| x == v));
    terms.is_empty()
        || terms
            .iter()
            .any(|term| term.match_label_expressions.iter().flatten().all(|r| holds(&r.key, r.values.as_slice())))
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn pods_go_where_their_volumes_are() {
        for (case, world, placed) in [
            (
                "no claim of that name",
                "node/a; pod/x claim=c",
                r#"x: 0/1 nodes are available: persistentvolumeclaim "c" not found."#,
            ),
            (
                "has to be bound first",
                "node/a; pvc/c; pod/x claim=c",
                "x: 0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            ),
            ("the volume's node", "node/a; node/b; pv/v host=b; pvc/c volume=v; pod/x claim=c", "x→b"),
            (
                "not the volume's node",
                "node/a; pv/v host=b; pvc/c volume=v; pod/x claim=c",
                "x: 0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity.",
            ),
            (
                "the volume is gone",
                "node/a; pvc/c volume=v; pod/x claim=c",
                "x: 0/1 nodes are available: 1 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
            ),
            (
                "node and volume together",
                "node/a; node/b; sc/s waits; pv/v host=b class=s; pvc/c class=s; pod/x claim=c",
                "x: b first c=v",
            ),
            (
                "no volume for the second",
                "node/a; sc/s waits; pv/v host=a class=s; pvc/c class=s; pvc/d class=s; pod/x claim=c; pod/y claim=d",
                "x: a first c=v; y: 0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.",
            ),
            (
                "a provisioner is told the node",
                "node/a; sc/s waits provisioner=p; pvc/c class=s; pod/x claim=c",
                "x: a first c",
            ),
            (
                "the provisioner is at it",
                "node/a; node/b; sc/s waits provisioner=p; pvc/c class=s selected=b; pod/x claim=c",
                "x: b first wait",
            ),
            (
                "one pod at a time",
                "node/a; pv/v; pvc/c volume=v once; pod/y claim=c on=a; pod/x claim=c",
                "x: 0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode.",
            ),
            (
                "the less important gives the claim away",
                "node/a; pv/v; pvc/c volume=v once; pod/y claim=c on=a; pod/x claim=c priority=9",
                "x: a without y",
            ),
        ] {
            check(case, world, placed);
        }
    }
}
