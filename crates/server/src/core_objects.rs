//! The objects that the API server itself stands on: system namespaces, its own Service with endpoints, the ServiceCIDR.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use mizzen_api::key;
use mizzen_api::status::ApiError;
use mizzen_api::volumes::local;
use mizzen_store::{CommitError, Expect, Operation, Snapshot, Txn};
use serde_json::{Value, json};

use crate::aggregation::FrontProxy;
use crate::bootstrap;
use crate::config::Config;
use crate::health::Stage;
use crate::registry::commit::{ATTEMPTS, refusal};
use crate::registry::encode::encode;
use crate::registry::service::ip_address;
use crate::registry::{names, prepare};
use crate::server::Server;

/// The namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

impl Server {
    /// Writes what every cluster starts with and the store lacks: core objects, default roles and bindings, priority
    /// classes. One transaction; on a store that has it all, none.
    ///
    /// # Errors
    /// What the store answers; nothing was written then.
    pub async fn bootstrap_core(&self) -> Result<(), ApiError> {
        for _ in 0..ATTEMPTS {
            let snapshot = self.core.store.snapshot();
            let now = Timestamp::now();
            let mut wanted = missing(&self.core.config, &snapshot, now);
            wanted.extend(self.core.front_proxy.as_ref().and_then(|proxy| trusted_proxy(proxy, &snapshot, now)));
            let security = bootstrap::reconcile(&snapshot, now, &mut names::uid);
            wanted.extend(security.into_iter().map(|write| (write.key, write.object)));
            wanted.dedup_by(|a, b| a.0 == b.0);
            if wanted.is_empty() {
                self.core.health.reached(Stage::Bootstrapped);
                return Ok(());
            }
            match self.core.store.commit(transaction(&snapshot, wanted)).await {
                Ok(_) => {
                    self.core.health.reached(Stage::Bootstrapped);
                    return Ok(());
                }
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(refusal(&error)),
            }
        }
        Err(ApiError::unavailable("the first objects could not be written, for others keep changing them"))
    }
}

/// Puts all objects at once, each only if its key is as the snapshot has it.
fn transaction(snapshot: &Snapshot, objects: Vec<(String, Value)>) -> Txn {
    let mut txn = Txn::default();
    let mut seen = std::collections::HashSet::new();
    for (key, object) in objects {
        if !seen.insert(key.clone()) {
            continue; // Namespaces are named by both parts of the bootstrap.
        }
        let expect = snapshot.get(&key).map_or(Expect::Absent, |entry| Expect::At(entry.revision));
        txn.expect.push((key.clone(), expect));
        txn.operations.push(Operation::Put { key, value: encode(&object) });
    }
    txn
}

/// What is missing from, or differs in, the snapshot.
fn missing(config: &Config, snapshot: &Snapshot, now: Timestamp) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    let first_start = snapshot.get(&key::object("", "namespaces", "", NAMESPACES[0])).is_none();
    if first_start {
        // Only once: people may change or delete it.
        out.push((key::object("storage.k8s.io", "storageclasses", "", local::CLASS), storage_class(now)));
    }
    for name in NAMESPACES {
        let key = key::object("", "namespaces", "", name);
        if snapshot.get(&key).is_none() {
            out.push((key, namespace(name, now)));
        }
    }
    let address = config.service_cidr.nth(1);
    let created = [
        (key::object("networking.k8s.io", "servicecidrs", "", "kubernetes"), service_cidr(config, now)),
        (key::object("", "services", "default", "kubernetes"), service(address, now)),
        (
            key::object("networking.k8s.io", "ipaddresses", "", &address.to_string()),
            ip_address(&address.to_string(), ("default", "kubernetes"), &names::uid(), &prepare::time(now)),
        ),
    ];
    out.extend(created.into_iter().filter(|(key, _)| snapshot.get(key).is_none()));
    // These two follow the server's address from one start to the next.
    for (key, object, part) in [
        (key::object("", "endpoints", "default", "kubernetes"), endpoints(config, now), "subsets"),
        (key::object("discovery.k8s.io", "endpointslices", "default", "kubernetes"), slice(config, now), "endpoints"),
    ] {
        let stored = snapshot.get(&key).and_then(|e| serde_json::from_slice::<Value>(&e.value).ok());
        match stored {
            Some(stored) if stored[part] == object[part] && stored["ports"] == object["ports"] => {}
            Some(stored) => {
                let mut changed = object;
                changed["metadata"] = stored["metadata"].clone();
                out.push((key, changed));
            }
            None => out.push((key, object)),
        }
    }
    out
}

/// The ConfigMap that tells aggregated servers whom to believe, if it does not say so already.
fn trusted_proxy(proxy: &FrontProxy, snapshot: &Snapshot, now: Timestamp) -> Option<(String, Value)> {
    const NAME: &str = "extension-apiserver-authentication";
    let key = key::object("", "configmaps", "kube-system", NAME);
    let stored: Option<Value> = snapshot.get(&key).and_then(|e| serde_json::from_slice(&e.value).ok());
    let data = proxy.config_map_data();
    let metadata = match stored {
        Some(stored) if stored["data"] == data => return None,
        Some(stored) => stored["metadata"].clone(),
        None => metadata("kube-system", NAME, now),
    };
    Some((key, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})))
}

fn metadata(namespace: &str, name: &str, now: Timestamp) -> Value {
    let mut metadata = json!({"name": name, "uid": names::uid(), "creationTimestamp": prepare::time(now)});
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn namespace(name: &str, now: Timestamp) -> Value {
    let mut metadata = metadata("", name, now);
    metadata["labels"] = json!({"kubernetes.io/metadata.name": name});
    json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": metadata,
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
    })
}

/// Storage that needs nothing but a disk, as the default: claims work on a new cluster.
fn storage_class(now: Timestamp) -> Value {
    let mut metadata = metadata("", local::CLASS, now);
    metadata["annotations"] = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": metadata,
        "provisioner": local::DRIVER, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
    })
}

fn service_cidr(config: &Config, now: Timestamp) -> Value {
    let mut metadata = metadata("", "kubernetes", now);
    metadata["finalizers"] = json!(["networking.k8s.io/service-cidr-finalizer"]);
    metadata["generation"] = 1.into();
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": metadata,
        "spec": {"cidrs": [config.service_cidr.to_string()]},
        "status": {"conditions": [{
            "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready",
            "lastTransitionTime": prepare::time(now),
        }]},
    })
}

fn service(address: Ipv4Addr, now: Timestamp) -> Value {
    let mut metadata = metadata("default", "kubernetes", now);
    metadata["labels"] = json!({"component": "apiserver", "provider": "kubernetes"});
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443}],
            "clusterIP": address, "clusterIPs": [address], "type": "ClusterIP", "sessionAffinity": "None",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
        },
        "status": {"loadBalancer": {}},
    })
}

fn endpoints(config: &Config, now: Timestamp) -> Value {
    let mut metadata = metadata("default", "kubernetes", now);
    metadata["labels"] = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
        "subsets": [{
            "addresses": [{"ip": config.advertise}],
            "ports": [{"name": "https", "port": config.port, "protocol": "TCP"}],
        }],
    })
}

fn slice(config: &Config, now: Timestamp) -> Value {
    let mut metadata = metadata("default", "kubernetes", now);
    metadata["labels"] = json!({"kubernetes.io/service-name": "kubernetes"});
    metadata["generation"] = 1.into();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
        "endpoints": [{"addresses": [config.advertise], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": config.port, "protocol": "TCP"}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_cluster_gets_all_and_the_address_is_followed() {
        let names = |objects: &[(String, Value)]| objects.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        let now = Timestamp::UNIX_EPOCH;
        let all = missing(&Config::default(), &Snapshot::default(), now);
        assert_eq!(
            names(&all)[5..],
            [
                "networking.k8s.io/servicecidrs//kubernetes",
                "core/services/default/kubernetes",
                "networking.k8s.io/ipaddresses//10.96.0.1",
                "core/endpoints/default/kubernetes",
                "discovery.k8s.io/endpointslices/default/kubernetes",
            ]
        );
    }

    #[tokio::test]
    async fn a_second_start_writes_only_what_changed() {
        use mizzen_store::{Memory, Store};
        let store = Memory::default();
        let now = Timestamp::UNIX_EPOCH;
        let all = missing(&Config::default(), &store.snapshot(), now);
        store.commit(transaction(&store.snapshot(), all)).await.unwrap();
        assert_eq!(missing(&Config::default(), &store.snapshot(), now), []);
        let moved = Config { port: 7443, ..Config::default() };
        let changed: Vec<_> = missing(&moved, &store.snapshot(), now).into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            changed,
            ["core/endpoints/default/kubernetes", "discovery.k8s.io/endpointslices/default/kubernetes"]
        );
    }
}
