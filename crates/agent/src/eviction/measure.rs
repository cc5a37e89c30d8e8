//! What pods use of memory and disk. Measuring the disk means walking through it, so it is done only where it matters.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use super::rank::{ContainerUse, PodUse};
use crate::context::Context;
use crate::pod::status::ID_SCHEME;

/// Most entries that are looked at for one pod; what lies beyond is not counted.
const ENTRIES_MAX: usize = 2_000_000;
/// Deepest directory that is looked into.
const DEPTH_MAX: usize = 256;

/// Bytes and files of a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tree {
    bytes: i64,
    inodes: i64,
}

impl Tree {
    fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
    }
}

/// What a pod uses; of the disk only with `disk`.
pub async fn pod(ctx: &Context, pod: &Pod, disk: bool) -> PodUse {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    // It may just have ended: then it uses nothing.
    let total = ctx.driver.usage(&uid, None).await.unwrap_or_default();
    let mut used = PodUse { memory: whole(total.working_set_bytes), pids: whole(total.pids), ..PodUse::default() };
    let mut layers = Vec::new();
    for (name, id) in containers(pod) {
        let own = ctx.driver.usage(&uid, Some(&id)).await.unwrap_or_default();
        layers.push(if disk { ctx.driver.writable_layer(&uid, &id) } else { None });
        used.containers.push(ContainerUse { name, memory: whole(own.working_set_bytes), disk: 0 });
    }
    if !disk {
        return used;
    }
    let places = Places::of(ctx, pod, &uid, layers);
    let fallback = used.clone();
    match tokio::task::spawn_blocking(move || places.measure(used)).await {
        Ok(measured) => measured,
        Err(error) => {
            tracing::warn!(pod = uid, %error, "disk use not measured");
            fallback
        }
    }
}

/// Name and id of the containers that are shown.
fn containers(pod: &Pod) -> Vec<(String, String)> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    all.filter_map(|s| Some((s.name.clone(), s.container_id.as_deref()?.strip_prefix(ID_SCHEME)?.to_string())))
        .collect()
}

/// Where a pod's files are.
struct Places {
    /// In the order of the containers.
    layers: Vec<Option<PathBuf>>,
    logs: PathBuf,
    volumes: Vec<(String, PathBuf)>,
}

impl Places {
    fn of(ctx: &Context, pod: &Pod, uid: &str, layers: Vec<Option<PathBuf>>) -> Self {
        let meta = &pod.metadata;
        let (namespace, name) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let directory = ctx.config.pod_dir(uid).join("volumes");
        let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        // What lies in memory is held by its own size.
        let on_disk = volumes
            .filter(|v| v.empty_dir.as_ref().is_some_and(|e| e.medium.as_deref().unwrap_or_default().is_empty()));
        Self {
            layers,
            logs: ctx.config.log_dir(namespace, name, uid),
            volumes: on_disk.map(|v| (v.name.clone(), directory.join(&v.name))).collect(),
        }
    }

    fn measure(self, mut used: PodUse) -> PodUse {
        let mut left = ENTRIES_MAX;
        let mut total = Tree::default();
        for (container, layer) in used.containers.iter_mut().zip(&self.layers) {
            let mut own = layer.as_deref().map(|path| walk(path, &mut left)).unwrap_or_default();
            own.add(walk(&self.logs.join(&container.name), &mut left));
            container.disk = own.bytes;
            total.add(own);
        }
        for (name, path) in self.volumes {
            let own = walk(&path, &mut left);
            total.add(own);
            used.volumes.push((name, own.bytes));
        }
        (used.disk, used.inodes) = (total.bytes, total.inodes);
        used
    }
}

/// Bytes that a tree occupies, without other file systems mounted in it. What vanishes meanwhile is not counted.
fn walk(root: &Path, left: &mut usize) -> Tree {
    let mut tree = Tree::default();
    let Ok(top) = fs::symlink_metadata(root) else { return tree };
    let mut linked = std::collections::HashSet::new();
    let mut waiting = vec![(root.to_path_buf(), 0)];
    while let Some((path, depth)) = waiting.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            if *left == 0 {
                return tree;
            }
            *left -= 1;
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != top.dev() || (meta.nlink() > 1 && !meta.is_dir() && !linked.insert(meta.ino())) {
                continue;
            }
            // Blocks are counted, so that a file with holes weighs what it occupies.
            tree.add(Tree { bytes: i64::try_from(meta.blocks().saturating_mul(512)).unwrap_or(i64::MAX), inodes: 1 });
            if meta.is_dir() && depth < DEPTH_MAX {
                waiting.push((entry.path(), depth + 1));
            }
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_weighs_what_it_occupies() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(dir.path().join("d/file"), dir.path().join("again")).unwrap();
        fs::File::create(dir.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        fs::File::open(dir.path().join("d/file")).unwrap().sync_all().unwrap();
        let tree = walk(dir.path(), &mut 100);
        assert!((1 << 20..1 << 21).contains(&tree.bytes), "{tree:?}");
        assert_eq!(tree.inodes, 3);
        assert_eq!(walk(dir.path(), &mut 1).inodes, 1);
        assert_eq!(walk(&dir.path().join("none"), &mut 100), Tree::default());
    }
}
