//! The built-in local storage: a directory for each volume, made at first use, removed when the volume is deleted.
//!
//! The directory outlives pods and mizzen itself. It is removed only when the API shows its volume as deleted with nothing but
//! our own finalizer left: a volume that is merely not found keeps its data.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolume;
use mizzen_api::volumes::local::{self, FINALIZER, NODE_LABEL};
use mizzen_client::{Api, ClientError, Patch, Reflector, Selection};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{VolumeError, blocking};
use crate::context::Context;

/// Wait after a directory could not be removed, or the API not be told.
const RETRY: Duration = Duration::from_secs(10);

/// Where a volume's directory is. Names of volumes are DNS names, so they are names of directories.
fn directory(data_dir: &Path, volume: &str) -> PathBuf {
    data_dir.join("volumes").join(volume)
}

/// The directory of a volume that is on this node, made if it is not there yet.
pub(super) async fn set_up(ctx: &Context, volume: &PersistentVolume) -> Result<PathBuf, VolumeError> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let node = local::node(volume).unwrap_or_default();
    if node != ctx.config.node_name {
        return Err(VolumeError::Elsewhere { name: name.into(), node: node.into() });
    }
    let path = directory(&ctx.config.data_dir, name);
    let made = path.clone();
    blocking(move || make(&made).map_err(|source| VolumeError::Io { what: "create", path: made.clone(), source }))
        .await?;
    Ok(path)
}

fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    // Containers run under any user; who may reach the volume at all is decided by who may mount its claim.
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}

/// Removes the directories of deleted volumes until `stop`.
pub async fn run(ctx: Arc<Context>, api: Arc<dyn Api>, stop: CancellationToken) {
    let labels = format!("{NODE_LABEL}={}", ctx.config.node_name);
    let selection = Selection { labels, ..Selection::default() };
    let (volumes, feed) = Reflector::<PersistentVolume>::new(api, selection, stop.clone());
    let work = async {
        let mut changes = volumes.changes();
        let mut done = HashSet::new();
        loop {
            let wait = if remove_deleted(&ctx, &volumes, &mut done).await { Duration::MAX } else { RETRY };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    };
    tokio::join!(feed, async {
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    });
}

/// `false` if something has to be tried again.
async fn remove_deleted(ctx: &Context, volumes: &Reflector<PersistentVolume>, done: &mut HashSet<String>) -> bool {
    let mut all_done = true;
    for volume in volumes.objects().values().filter(|v| is_ours_to_remove(v, &ctx.config.node_name)) {
        let uid = volume.metadata.uid.clone().unwrap_or_default();
        if done.contains(&uid) {
            continue; // The API has been told; the watch will say so.
        }
        match remove(ctx, volume).await {
            Ok(()) => drop(done.insert(uid)),
            Err(error) => {
                let name = volume.metadata.name.as_deref();
                tracing::warn!(
                    volume = name,
                    error = &error as &dyn std::error::Error,
                    "a deleted volume is not removed yet"
                );
                all_done = false;
            }
        }
    }
    all_done
}

/// It is deleted, on this node, and nobody else holds it.
fn is_ours_to_remove(volume: &PersistentVolume, node: &str) -> bool {
    let meta = &volume.metadata;
    let alone = meta.finalizers.as_deref().is_some_and(|f| f.len() == 1 && f[0] == FINALIZER);
    meta.deletion_timestamp.is_some() && alone && local::node(volume) == Some(node)
}

async fn remove(ctx: &Context, volume: &PersistentVolume) -> Result<(), VolumeError> {
    let name = volume.metadata.name.clone().unwrap_or_default();
    let path = directory(&ctx.config.data_dir, &name);
    blocking(move || match fs::remove_dir_all(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(VolumeError::Io { what: "remove", path, source })
        }
        _ => Ok(()),
    })
    .await?;
    tracing::info!(volume = name, "removed the directory of a deleted volume");
    let patch = json!({"metadata": {"uid": volume.metadata.uid, "finalizers": Value::Null}});
    match ctx.client.patch::<PersistentVolume>("", &name, "", &Patch::Merge(patch)).await {
        Err(ClientError::Status { code: 404, .. }) => Ok(()),
        other => other.map(drop).map_err(VolumeError::Api),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_deleted_volumes_of_this_node_lose_their_directory() {
        for (case, deleted, finalizers, driver, node, expected) in [
            ("deleted", true, json!([FINALIZER]), local::DRIVER, "n", true),
            ("alive", false, json!([FINALIZER]), local::DRIVER, "n", false),
            ("still protected", true, json!(["kubernetes.io/pv-protection", FINALIZER]), local::DRIVER, "n", false),
            ("another node's", true, json!([FINALIZER]), local::DRIVER, "m", false),
            ("another driver's", true, json!([FINALIZER]), "other", "n", false),
        ] {
            let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": "v", "labels": {NODE_LABEL: node}, "finalizers": finalizers},
                "spec": {"csi": {"driver": driver, "volumeHandle": "v"}}});
            if deleted {
                volume["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            let volume: PersistentVolume = serde_json::from_value(volume).unwrap();
            assert_eq!(is_ours_to_remove(&volume, "n"), expected, "{case}");
        }
    }
}
