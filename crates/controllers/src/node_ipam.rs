//! Gives every node its part of the cluster's pod addresses (core/v1 Node `spec.podCIDR`).
//!
//! Reads Nodes. Writes the part of a node that has none; parts never change and are never given twice.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use mizzen_api::key;
use mizzen_store::Snapshot;
use serde_json::json;

use crate::meta::{self, Meta};
use crate::plan::{ControllerError, Note, Plan, Target, Write};

/// The cluster's pod addresses, and how they are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodRange {
    /// First address.
    pub address: Ipv4Addr,
    /// Bits of the network part of the whole.
    pub prefix: u8,
    /// Bits of the network part of one node's share.
    pub node_prefix: u8,
}

impl PodRange {
    /// How many nodes can have a share.
    fn shares(self) -> u32 {
        1_u32.checked_shl(u32::from(self.node_prefix.saturating_sub(self.prefix))).unwrap_or(u32::MAX)
    }

    fn share(self, index: u32) -> String {
        let size = 32 - u32::from(self.node_prefix.min(32));
        let address = Ipv4Addr::from(u32::from(self.address) | index.checked_shl(size).unwrap_or(0));
        format!("{address}/{}", self.node_prefix)
    }
}

/// Gives the Node at `node_key` the first free share, unless it has one.
pub fn reconcile(
    snapshot: &Snapshot,
    node_key: &str,
    _now: Timestamp,
    range: PodRange,
) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(node) = snapshot.get_as::<Node>(node_key) else {
        return Ok(plan);
    };
    if cidr(&node).is_some() {
        return Ok(plan);
    }
    let nodes = key::all::<Node>();
    let taken: std::collections::HashSet<String> = snapshot.list_as::<Node>(&nodes).filter_map(|n| cidr(&n)).collect();
    match (0..range.shares()).map(|i| range.share(i)).find(|s| !taken.contains(s)) {
        Some(share) => plan.write(Write::Merge {
            target: Target::of::<Node>("", node.name()),
            subresource: "",
            patch: json!({"metadata": {"uid": node.uid()}, "spec": {"podCIDR": share, "podCIDRs": [share]}}),
        }),
        None => plan.notes.push(Note {
            about: meta::reference(&*node),
            warning: true,
            reason: "CIDRNotAvailable",
            message: format!("No part of {}/{} is free for node {}", range.address, range.prefix, node.name()),
        }),
    }
    Ok(plan)
}

fn cidr(node: &Node) -> Option<String> {
    node.spec.as_ref()?.pod_cidr.clone().filter(|c| !c.is_empty())
}

#[cfg(test)]
mod tests {
    use super::PodRange;

    #[test]
    fn shares_lie_side_by_side() {
        let range = PodRange { address: [10, 244, 0, 0].into(), prefix: 16, node_prefix: 24 };
        assert_eq!(
            (range.share(0), range.share(1), range.share(255)),
            ("10.244.0.0/24".into(), "10.244.1.0/24".into(), "10.244.255.0/24".into())
        );
        assert_eq!(range.shares(), 256);
    }

    #[test]
    fn every_node_gets_one() {
        let range = PodRange { address: [10, 244, 0, 0].into(), prefix: 16, node_prefix: 24 };
        for (case, before, writes) in [("new", "node/a", "patch nodes a"), ("gone", "node/b", "")] {
            crate::testing::check(case, before, "core/nodes//a", |s, k, t| super::reconcile(s, k, t, range), writes);
        }
    }
}
