//! What the rules look at: nodes with what is taken on them, and pods with what they ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Taint};
use mizzen_api::key;
use mizzen_api::pod::{Amounts, amounts, is_terminal, is_terminating, requests};
use mizzen_store::Snapshot;

/// A port of a node that a pod takes: protocol, address (`0.0.0.0` for all), number.
pub type HostPort = (String, String, i32);

/// A pod with what the rules ask of it, computed once.
#[derive(Debug, Clone)]
pub struct PodInfo {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Effective requests in thousandths.
    pub requests: Amounts,
    /// Ports of the node it wants.
    pub ports: Vec<HostPort>,
    /// Names of the claims it mounts.
    pub claims: Vec<String>,
    /// It was chosen in this cycle to make room for another.
    pub leaving: bool,
}

impl PodInfo {
    /// Reads a pod.
    pub fn new(pod: Arc<Pod>) -> Self {
        let spec = pod.spec.as_ref();
        let requests = spec.map(requests).unwrap_or_default();
        let ports = spec.map(host_ports).unwrap_or_default();
        let claims = mizzen_api::volumes::claims(&pod).collect();
        Self { pod, requests, ports, claims, leaving: false }
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Its spec; every stored pod has one.
    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// Its labels.
    pub fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.pod.metadata.labels.as_ref()
    }

    /// Its priority.
    pub fn priority(&self) -> i32 {
        self.spec().and_then(|s| s.priority).unwrap_or(0)
    }

    /// Its UID.
    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The node that an earlier preemption promised it.
    pub fn nominated(&self) -> Option<&str> {
        self.pod.status.as_ref()?.nominated_node_name.as_deref().filter(|n| !n.is_empty())
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| mizzen_api::pod::is_sidecar(c));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let wanted = ports.filter(|p| p.host_port.is_some_and(|n| n > 0)).map(|p| {
        let address = p.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
        (p.protocol.clone().unwrap_or_else(|| "TCP".into()), address, p.host_port.unwrap_or(0))
    });
    wanted.collect()
}

/// A node with what is taken on it.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// The node.
    pub node: Arc<Node>,
    /// What it offers, in thousandths; `pods` too.
    pub allocatable: Amounts,
    /// What its pods request, in thousandths.
    pub requested: Amounts,
    /// Pods on it, finished ones left out.
    pub pods: Vec<PodInfo>,
    /// Pods that were promised room here and wait for it.
    pub promised: Vec<PodInfo>,
}

impl NodeInfo {
    /// An empty node.
    pub fn new(node: Arc<Node>) -> Self {
        let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref()).map(amounts).unwrap_or_default();
        Self { node, allocatable, requested: Amounts::new(), pods: Vec::new(), promised: Vec::new() }
    }

    /// Takes a pod in.
    pub fn add(&mut self, pod: PodInfo) {
        for (name, amount) in &pod.requests {
            let taken = self.requested.entry(name.clone()).or_default();
            *taken = taken.saturating_add(*amount);
        }
        self.pods.push(pod);
    }

    /// Lets the pod go that came last.
    pub fn remove_last(&mut self) {
        for (name, amount) in self.pods.pop().iter().flat_map(|p| &p.requests) {
            let taken = self.requested.entry(name.clone()).or_default();
            *taken = taken.saturating_sub(*amount);
        }
    }

    /// Has these pods instead of those it has.
    pub fn replace_pods(&mut self, pods: Vec<PodInfo>) {
        self.pods.clear();
        self.requested.clear();
        for pod in pods {
            self.add(pod);
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }

    /// A label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.node.metadata.labels.as_ref()?.get(name).map(String::as_str)
    }

    /// Its taints.
    pub fn taints(&self) -> &[Taint] {
        self.node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
    }

    /// What is left of a resource, in thousandths.
    pub fn free(&self, resource: &str) -> i64 {
        let offered = self.allocatable.get(resource).copied().unwrap_or(0);
        offered.saturating_sub(self.requested.get(resource).copied().unwrap_or(0))
    }
}

/// All nodes, in order of their names.
pub struct Cluster {
    /// What everything here was read from.
    pub snapshot: Snapshot,
    /// Names of volumes that were given to claims in this cycle.
    pub kept: BTreeSet<String>,
    /// The nodes.
    pub nodes: Vec<NodeInfo>,
    /// Labels of the namespaces, for affinity terms that select namespaces.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

impl Cluster {
    /// Reads the nodes and the pods on them.
    pub fn read(snapshot: &Snapshot) -> Self {
        let nodes: Vec<NodeInfo> = snapshot.list_as::<Node>(&key::all::<Node>()).map(NodeInfo::new).collect();
        let mut index: BTreeMap<String, usize> = BTreeMap::new();
        for (at, node) in nodes.iter().enumerate() {
            index.insert(node.name().to_string(), at);
        }
        let namespaces = namespaces(snapshot);
        let mut cluster = Self { snapshot: snapshot.clone(), kept: BTreeSet::new(), nodes, namespaces };
        for pod in snapshot.list_as::<Pod>(&key::all::<Pod>()) {
            if is_terminal(&pod) {
                continue;
            }
            let pod = PodInfo::new(pod);
            let bound = pod.spec().and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty());
            if let Some(name) = bound {
                if let Some(at) = index.get(name) {
                    cluster.nodes[*at].add(pod);
                }
            } else if let Some(at) = pod.nominated().and_then(|n| index.get(n))
                && !is_terminating(&pod.pod)
            {
                cluster.nodes[*at].promised.push(pod);
            }
        }
        cluster
    }
}

fn namespaces(snapshot: &Snapshot) -> BTreeMap<String, BTreeMap<String, String>> {
    use k8s_openapi::api::core::v1::Namespace;
    let prefix = key::all::<Namespace>();
    let all = snapshot.list_as::<Namespace>(&prefix);
    all.map(|n| (n.metadata.name.clone().unwrap_or_default(), n.metadata.labels.clone().unwrap_or_default())).collect()
}
