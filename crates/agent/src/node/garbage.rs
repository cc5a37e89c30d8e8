//! Removes images that no pod uses when the disk fills up; never those loaded by hand, which no registry need have.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use mizzen_client::Reflector;
use mizzen_runtime::images::{Image, ImageError, ImageUsage};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// How often the disk is looked at.
const CHECK: Duration = Duration::from_secs(300);
/// Percent of the disk in use above which images are removed, and down to which (kubelet's defaults).
const HIGH_PERCENT: u64 = 85;
const LOW_PERCENT: u64 = 80;
/// With this much free no image is removed, whatever share of a large disk it is.
const ENOUGH: u64 = 10 << 30;

/// Looks after the disk until `stop`.
pub async fn run(ctx: Arc<Context>, pods: Reflector<Pod>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CHECK) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = collect(&ctx, &pods).await {
            tracing::warn!(%error, "images not collected");
        }
    }
}

async fn collect(ctx: &Context, pods: &Reflector<Pod>) -> Result<(), ImageError> {
    let excess = excess(&ctx.images.usage().await?);
    if excess == 0 {
        return Ok(());
    }
    let used = used(ctx, pods).await?;
    for image in choose(ctx.images.list().await?, &used, excess) {
        tracing::info!(image = image.id, names = ?image.tags, "removing an unused image: the disk is filling up");
        ctx.images.remove(&image.id).await?;
    }
    Ok(())
}

/// Removes all images that no pod uses; how many.
pub async fn remove_unused(ctx: &Context, pods: &Reflector<Pod>) -> Result<usize, ImageError> {
    let used = used(ctx, pods).await?;
    let unused = choose(ctx.images.list().await?, &used, u64::MAX);
    for image in &unused {
        tracing::info!(image = image.id, names = ?image.tags, "removing an unused image: the disk is full");
        ctx.images.remove(&image.id).await?;
    }
    Ok(unused.len())
}

/// Bytes to free.
fn excess(usage: &ImageUsage) -> u64 {
    let in_use = usage.capacity_bytes.saturating_sub(usage.available_bytes);
    let share = |percent: u64| usage.capacity_bytes / 100 * percent;
    let enough = usage.available_bytes >= ENOUGH || in_use <= share(HIGH_PERCENT);
    if usage.capacity_bytes == 0 || enough { 0 } else { in_use - share(LOW_PERCENT) }
}

/// Ids of images that pods of this node name.
async fn used(ctx: &Context, pods: &Reflector<Pod>) -> Result<HashSet<String>, ImageError> {
    let names: HashSet<String> = pods.objects().values().flat_map(|p| names(p)).filter(|n| !n.is_empty()).collect();
    let mut used = HashSet::new();
    for name in names {
        // A name that cannot be read is no image of ours.
        if let Ok(Some(image)) = ctx.images.find(&name).await {
            used.insert(image.id);
        }
    }
    Ok(used)
}

/// All names by which a pod refers to images.
fn names(pod: &Pod) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(spec) = &pod.spec {
        names.extend(
            spec.containers.iter().chain(spec.init_containers.iter().flatten()).filter_map(|c| c.image.clone()),
        );
        names.extend(spec.ephemeral_containers.iter().flatten().filter_map(|c| c.image.clone()));
        names.extend(spec.volumes.iter().flatten().filter_map(|v| v.image.as_ref()?.reference.clone()));
    }
    if let Some(status) = &pod.status {
        let shown = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        names.extend(shown.map(|s| s.image_id.clone()));
    }
    names
}

/// Unused images, longest unused first, until enough is freed.
fn choose(mut images: Vec<Image>, used: &HashSet<String>, excess: u64) -> Vec<Image> {
    images.retain(|i| !i.pinned && !used.contains(&i.id));
    images.sort_by_key(|i| i.last_used);
    let mut freed = 0;
    images
        .into_iter()
        .take_while(|i| {
            let more = freed < excess;
            freed = u64::saturating_add(freed, i.size_bytes);
            more
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frees_enough_of_what_is_longest_unused() {
        let image = |id: &str, size_bytes, last_used| Image {
            pinned: id == "loaded",
            id: id.into(),
            config: Default::default(),
            tags: vec![],
            digests: vec![],
            size_bytes,
            last_used,
        };
        let images = vec![
            image("new", 10, 9),
            image("old", 10, 1),
            image("used", 10, 0),
            image("older", 5, 0),
            image("loaded", 10, 0),
        ];
        let used = HashSet::from(["used".to_string()]);
        let ids: Vec<String> = choose(images, &used, 8).into_iter().map(|i| i.id).collect();
        assert_eq!(ids, ["older", "old"]);
        let usage = |available_bytes| ImageUsage { used_bytes: 0, capacity_bytes: 1000, available_bytes };
        assert_eq!((excess(&usage(200)), excess(&usage(100))), (0, 100));
    }
}
