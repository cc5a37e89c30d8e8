//! What a node is told at its start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::eviction::settings::Eviction;

/// Directory of pods below the data directory.
pub(crate) const PODS: &str = "pods";

/// Settings of an agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the Node object.
    pub node_name: String,
    /// Addresses of the node, the primary first.
    pub addresses: Vec<IpAddr>,
    /// Everything of the agent lies below: `pods/`, `logs/`.
    pub data_dir: PathBuf,
    /// Address of the cluster's DNS, for pods' `resolv.conf`.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster, `cluster.local`.
    pub cluster_domain: String,
    /// The host's own resolver configuration.
    pub host_resolv_conf: PathBuf,
    /// Labels that the node registers with, beside the usual ones.
    pub labels: BTreeMap<String, String>,
    /// Taints that the node registers with: (key, value, effect).
    pub taints: Vec<(String, String, String)>,
    /// Where the kubelet endpoint listens; also announced in the Node object.
    pub kubelet_address: std::net::SocketAddr,
    /// TLS of the kubelet endpoint; it must demand a client certificate, which is then checked for who it names.
    /// `None`: the endpoint is not served.
    pub kubelet_tls: Option<Arc<rustls::ServerConfig>>,
    /// Common names of clients that may use the whole endpoint; others are asked about at the API.
    pub kubelet_clients: Vec<String>,
    /// Most pods.
    pub max_pods: u32,
    /// CPU that pods may not request, in thousandths of a core.
    pub reserved_cpu_millis: i64,
    /// Memory that pods may not request, bytes.
    pub reserved_memory_bytes: i64,
    /// Disk that pods may not request, beside what eviction keeps free, bytes.
    pub reserved_disk_bytes: i64,
    /// Most processes of a pod; `None`: as many as the machine has.
    pub pod_pids_limit: Option<i64>,
    /// A log file of this size is rotated.
    pub log_max_size: u64,
    /// Files kept for one container, the one being written included.
    pub log_max_files: usize,
    /// When pods end because the node runs short.
    pub eviction: Eviction,
    /// How often the node's Lease is renewed.
    pub lease_interval: Duration,
    /// The `kubeletVersion` to report: `v1.36.0`.
    pub version: String,
}

impl Config {
    /// Settings with the usual values for everything that has one.
    pub fn new(node_name: impl Into<String>, addresses: Vec<IpAddr>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            node_name: node_name.into(),
            addresses,
            data_dir: data_dir.into(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            host_resolv_conf: "/etc/resolv.conf".into(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            kubelet_address: std::net::SocketAddr::from(([0, 0, 0, 0], 10250)),
            kubelet_tls: None,
            kubelet_clients: vec!["kube-apiserver-kubelet-client".into()],
            max_pods: 110,
            reserved_cpu_millis: 0,
            reserved_memory_bytes: 100 << 20,
            reserved_disk_bytes: 0,
            pod_pids_limit: None,
            log_max_size: 10 << 20,
            log_max_files: 5,
            eviction: Eviction::default(),
            lease_interval: Duration::from_secs(10),
            version: "v1.36.0".into(),
        }
    }

    /// Directory of a pod: volumes, generated files.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.data_dir.join(PODS).join(uid)
    }

    /// Directory of a pod's logs.
    pub fn log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.data_dir.join("logs/pods").join(format!("{namespace}_{name}_{uid}"))
    }
}
