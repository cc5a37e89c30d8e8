//! The cluster's DNS Service: each node answers its own pods (Service `kube-system/kube-dns`).
//!
//! Reads Nodes and EndpointSlices. Writes one slice a node with the address at which the node's agent serves DNS: the
//! first of its pod addresses, which is the bridge's. `internalTrafficPolicy: Local` keeps every question on its node.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use mizzen_api::key;
use mizzen_store::Snapshot;
use serde_json::{Value, json};

use crate::meta::{self, Meta};
use crate::plan::{ControllerError, Plan, Write};

/// The Service.
pub const NAMESPACE: &str = "kube-system";
/// Its name, which clients and test suites look for.
pub const NAME: &str = "kube-dns";

/// Writes the slice of the Node at `node_key`, once the node has pod addresses, and the Service if it is missing.
pub fn reconcile(
    snapshot: &Snapshot,
    node_key: &str,
    _now: Timestamp,
    cluster_ip: &str,
) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    if snapshot.get(&key::of::<Service>(NAMESPACE, NAME)).is_none() {
        plan.write(Write::Create { object: service(cluster_ip) });
    }
    let Some(node) = snapshot.get_as::<Node>(node_key) else {
        return Ok(plan);
    };
    let Some(address) = gateway(&node) else { return Ok(plan) };
    let name = format!("{NAME}-{}", node.name());
    let wanted = slice(&node, &name, &address);
    match snapshot.get_as::<EndpointSlice>(&key::of::<EndpointSlice>(NAMESPACE, &name)) {
        None => plan.write(Write::Create { object: wanted }),
        Some(there) => {
            let addresses = there.endpoints.as_ref().and_then(|e| e.first()).map(|e| e.addresses.clone());
            if addresses.as_deref() != Some(&[address]) {
                let mut wanted = wanted;
                wanted["metadata"]["resourceVersion"] = there.version().into();
                plan.write(Write::Replace { object: wanted, subresource: "" });
            }
        }
    }
    Ok(plan)
}

/// The first address of the node's pod addresses after the network's own.
fn gateway(node: &Node) -> Option<String> {
    let cidr = node.spec.as_ref()?.pod_cidr.as_ref()?;
    let network: std::net::Ipv4Addr = cidr.split_once('/')?.0.parse().ok()?;
    Some(std::net::Ipv4Addr::from(u32::from(network).checked_add(1)?).to_string())
}

fn service(cluster_ip: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS", "kubernetes.io/cluster-service": "true"},
        },
        "spec": {
            "clusterIP": cluster_ip,
            "internalTrafficPolicy": "Local",
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    })
}

fn slice(node: &Node, name: &str, address: &str) -> Value {
    let mut owner = json!(meta::owner_of(node));
    owner["blockOwnerDeletion"] = false.into();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": NAME, "endpointslice.kubernetes.io/managed-by": "cluster-dns.mizzen.dev"},
            "ownerReferences": [owner],
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "nodeName": node.name(), "conditions": {"ready": true, "serving": true, "terminating": false}}],
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn every_node_answers_its_own_pods() {
        for (case, before, writes) in [
            (
                "a node with addresses",
                "node/a cidr=10.244.0.0/24",
                "create Service kube-system/kube-dns; create EndpointSlice kube-system/kube-dns-a",
            ),
            ("without", "node/a; service/kube-system/kube-dns", ""),
        ] {
            check(case, before, "core/nodes//a", |s, k, t| super::reconcile(s, k, t, "10.96.0.10"), writes);
        }
    }
}
