//! What pods refer to.

use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, Volume,
};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use mizzen_api::key;
use mizzen_store::Snapshot;

/// A kind of object that a pod may refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
    /// A ServiceAccount.
    ServiceAccount,
    /// A PersistentVolumeClaim.
    Claim,
    /// A PersistentVolume, through the claims.
    Volume,
}

/// A pod of this name is bound to the node.
pub fn runs_on(snapshot: &Snapshot, namespace: &str, name: &str, node: &str) -> bool {
    snapshot.get_as::<Pod>(&key::of::<Pod>(namespace, name)).is_some_and(|pod| is_on(&pod, node))
}

fn is_on(pod: &Pod, node: &str) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node)
}

/// The attachment is for this node.
pub fn attached_to(snapshot: &Snapshot, name: &str, node: &str) -> bool {
    let attachment = snapshot.get_as::<VolumeAttachment>(&key::of::<VolumeAttachment>("", name));
    attachment.is_some_and(|attachment| attachment.spec.node_name == node)
}

/// A pod that is bound to the node refers to the object, directly or (for secrets of volumes) through its claims.
pub fn reachable(snapshot: &Snapshot, node: &str, namespace: &str, name: &str, target: Target) -> bool {
    match target {
        Target::Volume => claim_of(snapshot, name)
            .is_some_and(|(namespace, claim)| used_on(snapshot, node, &namespace, &claim, Target::Claim)),
        Target::Secret => {
            used_on(snapshot, node, namespace, name, target) || through_volume(snapshot, node, namespace, name)
        }
        _ => used_on(snapshot, node, namespace, name, target),
    }
}

fn used_on(snapshot: &Snapshot, node: &str, namespace: &str, name: &str, target: Target) -> bool {
    let prefix = key::in_namespace::<Pod>(namespace);
    snapshot.list_as::<Pod>(&prefix).any(|pod| is_on(&pod, node) && pod_refers_to(&pod, target, name))
}

/// Namespace and name of the claim that a volume is bound to.
fn claim_of(snapshot: &Snapshot, volume: &str) -> Option<(String, String)> {
    let volume = snapshot.get_as::<PersistentVolume>(&key::of::<PersistentVolume>("", volume))?;
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let (namespace, name) = (claim.namespace.clone()?, claim.name.clone()?);
    let bound = snapshot.get_as::<PersistentVolumeClaim>(&key::of::<PersistentVolumeClaim>(&namespace, &name))?;
    let uid = bound.metadata.uid.as_deref();
    claim.uid.as_deref().is_none_or(|wanted| Some(wanted) == uid).then_some((namespace, name))
}

/// A CSI volume of a pod on the node needs the secret to be mounted.
fn through_volume(snapshot: &Snapshot, node: &str, namespace: &str, secret: &str) -> bool {
    let prefix = key::all::<PersistentVolume>();
    snapshot.list_as::<PersistentVolume>(&prefix).any(|volume| {
        let Some(csi) = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()) else {
            return false;
        };
        let needed = [&csi.node_publish_secret_ref, &csi.node_stage_secret_ref, &csi.node_expand_secret_ref];
        let needs = needed.into_iter().flatten().any(|reference| {
            reference.name.as_deref() == Some(secret) && reference.namespace.as_deref() == Some(namespace)
        });
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        needs && reachable(snapshot, node, "", name, Target::Volume)
    })
}

/// The pod itself refers to the object.
pub fn pod_refers_to(pod: &Pod, target: Target, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    match target {
        Target::ServiceAccount => spec.service_account_name.as_deref() == Some(name),
        Target::Secret if pulls_with(spec, name) => true,
        _ => {
            spec.volumes.iter().flatten().any(|volume| volume_refers_to(volume, pod_name, target, name))
                || environments(spec).any(|(env, from)| environment_refers_to(env, from, target, name))
        }
    }
}

fn pulls_with(spec: &PodSpec, secret: &str) -> bool {
    spec.image_pull_secrets.iter().flatten().any(|reference| reference.name == secret)
}

type Environment<'a> = (&'a [EnvVar], &'a [EnvFromSource]);

fn environment(container: &Container) -> Environment<'_> {
    (container.env.as_deref().unwrap_or_default(), container.env_from.as_deref().unwrap_or_default())
}

fn environments(spec: &PodSpec) -> impl Iterator<Item = Environment<'_>> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers).map(environment);
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    containers.chain(ephemeral.map(|container| {
        (container.env.as_deref().unwrap_or_default(), container.env_from.as_deref().unwrap_or_default())
    }))
}

fn environment_refers_to(env: &[EnvVar], from: &[EnvFromSource], target: Target, name: &str) -> bool {
    let single = env.iter().filter_map(|env| env.value_from.as_ref()).any(|source| match target {
        Target::Secret => source.secret_key_ref.as_ref().is_some_and(|reference| reference.name == name),
        Target::ConfigMap => source.config_map_key_ref.as_ref().is_some_and(|reference| reference.name == name),
        _ => false,
    });
    single
        || from.iter().any(|source| match target {
            Target::Secret => source.secret_ref.as_ref().is_some_and(|reference| reference.name == name),
            Target::ConfigMap => source.config_map_ref.as_ref().is_some_and(|reference| reference.name == name),
            _ => false,
        })
}

fn volume_refers_to(volume: &Volume, pod: &str, target: Target, name: &str) -> bool {
    let projected = || volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    match target {
        Target::ConfigMap => {
            volume.config_map.as_ref().is_some_and(|source| source.name == name)
                || projected().any(|source| source.config_map.as_ref().is_some_and(|source| source.name == name))
        }
        Target::Claim => {
            volume.persistent_volume_claim.as_ref().is_some_and(|source| source.claim_name == name)
                || (volume.ephemeral.is_some() && format!("{pod}-{}", volume.name) == name)
        }
        Target::Secret => {
            let mount = [
                volume.csi.as_ref().and_then(|source| source.node_publish_secret_ref.as_ref()),
                volume.iscsi.as_ref().and_then(|source| source.secret_ref.as_ref()),
                volume.cephfs.as_ref().and_then(|source| source.secret_ref.as_ref()),
                volume.rbd.as_ref().and_then(|source| source.secret_ref.as_ref()),
                volume.flex_volume.as_ref().and_then(|source| source.secret_ref.as_ref()),
            ];
            volume.secret.as_ref().is_some_and(|source| source.secret_name.as_deref() == Some(name))
                || projected().any(|source| source.secret.as_ref().is_some_and(|source| source.name == name))
                || mount.into_iter().flatten().any(|reference| reference.name == name)
        }
        Target::ServiceAccount | Target::Volume => false,
    }
}
