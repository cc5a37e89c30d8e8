//! Which volume a claim gets: the smallest that has what it asks for.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use mizzen_api::quantity::Quantity;
use mizzen_api::selector::LabelSelector;

use crate::meta::Meta;

/// The annotation that named the class before the field did.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The claim's class; empty for none.
pub(super) fn class(claim: &PersistentVolumeClaim) -> &str {
    let field = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    claim.annotation(CLASS).or(field).unwrap_or_default()
}

/// The volume refers to no claim, or to this one by name.
pub(super) fn is_free_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else { return true };
    let unbound = reference.uid.as_deref().is_none_or(str::is_empty);
    let named = reference.name.as_deref() == Some(claim.name());
    unbound && named && reference.namespace.as_deref() == Some(claim.namespace())
}

/// The best free volume: one that was meant for the claim, else the smallest that fits.
pub(super) fn best<'a>(
    volumes: &'a [Arc<PersistentVolume>],
    claim: &PersistentVolumeClaim,
) -> Option<&'a Arc<PersistentVolume>> {
    let meant = |v: &Arc<PersistentVolume>| v.spec.as_ref().is_some_and(|s| s.claim_ref.is_some());
    let fitting = volumes.iter().filter(|v| is_free_for(v, claim) && fits(v, claim));
    fitting.min_by_key(|v| (!meant(v), capacity(v).map(Quantity::units), v.name().to_string()))
}

fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?.0.parse().ok()
}

fn fits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(asks)) = (&volume.spec, &claim.spec) else { return false };
    let modes = has.access_modes.as_deref().unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    let requests = asks.resources.as_ref().and_then(|r| r.requests.as_ref());
    let size: Option<Quantity> = requests.and_then(|r| r.get("storage")?.0.parse().ok());
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
        && size.is_none_or(|size| capacity(volume).is_some_and(|c| c >= size))
}
