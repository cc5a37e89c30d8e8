//! What the store holds.

use mizzen_metrics::{Kind, Text};
use mizzen_store::Snapshot;

pub(super) fn write(out: &mut Text, snapshot: &Snapshot) {
    let mut resources: Vec<(String, String, u64, u64)> = snapshot
        .resources()
        .filter_map(|(prefix, lane)| {
            let (group, plural) = prefix.trim_end_matches('/').split_once('/')?;
            let group = if group == "core" { "" } else { group };
            Some((group.to_string(), plural.to_string(), lane.objects, lane.bytes))
        })
        .collect();
    resources.sort();
    out.family("apiserver_resource_objects", Kind::Gauge, "Stored objects, by group and resource.");
    for (group, plural, objects, _) in &resources {
        out.sample(&[("group", group), ("resource", plural)], objects);
    }
    out.family("apiserver_storage_objects", Kind::Gauge, "Stored objects, by resource.");
    for (group, plural, objects, _) in &resources {
        let dot = if group.is_empty() { "" } else { "." };
        out.sample(&[("resource", &format!("{plural}{dot}{group}"))], objects);
    }
    out.family("apiserver_resource_size_estimate_bytes", Kind::Gauge, "Bytes of stored objects with their keys.");
    for (group, plural, _, bytes) in &resources {
        out.sample(&[("group", group), ("resource", plural)], bytes);
    }
    let bytes: u64 = resources.iter().map(|(.., bytes)| bytes).sum();
    out.family("apiserver_storage_size_bytes", Kind::Gauge, "Bytes of all stored objects with their keys.");
    out.sample(&[("storage_cluster_id", "mizzen")], bytes);
    out.single("mizzen_store_revision", Kind::Counter, "Newest revision of the store.", snapshot.revision());
}
