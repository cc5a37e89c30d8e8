//! The one list of controllers: what each is called, looks at, and is woken by.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
    ResourceQuota, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use mizzen_api::key;
use mizzen_api::selector::LabelSelector;
use mizzen_store::{Change, Entry, Event, Snapshot};

use crate::meta::Meta;
use crate::node_ipam::PodRange;
use crate::replica_set::Replicas;
use crate::shell::{Controller, Start, Wake};
use crate::{
    cluster_dns, cluster_role_aggregation, cron_job, daemon_set, deployment, disruption, endpoint_mirror,
    endpoint_slice, ephemeral_volume, garbage_collector, job, namespace, node_ipam, node_lifecycle, node_pods, pod_gc,
    replica_set, resource_quota, root_ca, service_account, stateful_set, taint_eviction, volume_binder,
    volume_protection,
};

/// What controllers must know of the cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// PEM of the certificate authority that pods are given.
    pub root_ca_pem: String,
    /// Pod addresses of the cluster.
    pub pod_range: PodRange,
    /// Address of the cluster's DNS Service.
    pub cluster_dns: String,
}

/// All controllers.
pub fn all(settings: &Settings) -> Vec<Controller> {
    let (ca, dns, range) = (settings.root_ca_pem.clone(), settings.cluster_dns.clone(), settings.pod_range);
    vec![
        garbage_collector::controller(),
        Controller {
            name: "namespace-controller",
            identity: "namespace-controller",
            start: every::<Namespace>(),
            wakes: vec![itself::<Namespace>(), namespace::emptied()],
            reconcile: Arc::new(namespace::reconcile),
        },
        Controller {
            name: "job-controller",
            identity: "job-controller",
            start: jobs_and_orphans(),
            wakes: vec![itself::<Job>(), owner_or_adopter::<Pod, Job>("Job"), jobs_of_orphans()],
            reconcile: Arc::new(job::reconcile),
        },
        Controller {
            name: "cronjob-controller",
            identity: "cronjob-controller",
            start: every::<CronJob>(),
            wakes: vec![itself::<CronJob>(), owner::<Job, CronJob>("CronJob")],
            reconcile: Arc::new(cron_job::reconcile),
        },
        Controller {
            name: "statefulset-controller",
            identity: "statefulset-controller",
            start: every::<StatefulSet>(),
            wakes: vec![
                itself::<StatefulSet>(),
                owner_or_adopter::<Pod, StatefulSet>("StatefulSet"),
                owner::<ControllerRevision, StatefulSet>("StatefulSet"),
            ],
            reconcile: Arc::new(stateful_set::reconcile),
        },
        Controller {
            name: "daemonset-controller",
            identity: "daemon-set-controller",
            start: every::<DaemonSet>(),
            wakes: vec![
                itself::<DaemonSet>(),
                owner_or_adopter::<Pod, DaemonSet>("DaemonSet"),
                owner::<ControllerRevision, DaemonSet>("DaemonSet"),
                daemon_set::woken_by_nodes(),
            ],
            reconcile: Arc::new(daemon_set::reconcile),
        },
        Controller {
            name: "ttl-after-finished-controller",
            identity: "ttl-after-finished-controller",
            start: every::<Job>(),
            wakes: vec![itself::<Job>()],
            reconcile: Arc::new(job::ttl::reconcile),
        },
        Controller {
            name: "service-account-controller",
            identity: "service-account-controller",
            start: every::<Namespace>(),
            wakes: vec![itself::<Namespace>(), namespace_of::<ServiceAccount>()],
            reconcile: Arc::new(service_account::reconcile),
        },
        Controller {
            name: "root-ca-cert-publisher",
            identity: "root-ca-cert-publisher",
            start: every::<Namespace>(),
            wakes: vec![itself::<Namespace>(), namespace_of::<ConfigMap>()],
            reconcile: Arc::new(move |snapshot, key, now| root_ca::reconcile(snapshot, key, now, &ca)),
        },
        Controller {
            name: "replicaset-controller",
            identity: "replicaset-controller",
            start: every::<ReplicaSet>(),
            wakes: vec![itself::<ReplicaSet>(), owner_or_adopter::<Pod, ReplicaSet>("ReplicaSet")],
            reconcile: Arc::new(replica_set::reconcile::<ReplicaSet>),
        },
        Controller {
            name: "deployment-controller",
            identity: "deployment-controller",
            start: every::<Deployment>(),
            wakes: vec![
                itself::<Deployment>(),
                owner_or_adopter::<ReplicaSet, Deployment>("Deployment"),
                deployments_of_pods(),
            ],
            reconcile: Arc::new(deployment::reconcile),
        },
        Controller {
            name: "endpointslice-controller",
            identity: "endpointslice-controller",
            start: every::<Service>(),
            wakes: vec![itself::<Service>(), services_of_pods(), services_of_slices()],
            reconcile: Arc::new(endpoint_slice::reconcile),
        },
        Controller {
            name: "endpoint-controller",
            identity: "endpoint-controller",
            start: every::<Service>(),
            wakes: vec![itself::<Service>(), services_of_pods(), same_name::<Endpoints, Service>()],
            reconcile: Arc::new(endpoint_slice::reconcile_endpoints),
        },
        Controller {
            name: "endpointslicemirroring-controller",
            identity: "endpointslicemirroring-controller",
            start: every::<Endpoints>(),
            wakes: vec![itself::<Endpoints>(), same_name::<Service, Endpoints>(), endpoint_mirror::woken_by_slices()],
            reconcile: Arc::new(endpoint_mirror::reconcile),
        },
        Controller {
            name: "node-lifecycle-controller",
            identity: "node-controller",
            start: every::<Node>(),
            wakes: vec![itself::<Node>()],
            reconcile: Arc::new(node_lifecycle::reconcile),
        },
        Controller {
            name: "replication-controller",
            identity: "replication-controller",
            start: every::<ReplicationController>(),
            wakes: vec![
                itself::<ReplicationController>(),
                owner_or_adopter::<Pod, ReplicationController>("ReplicationController"),
            ],
            reconcile: Arc::new(replica_set::reconcile::<ReplicationController>),
        },
        Controller {
            name: "node-controller",
            identity: "node-controller",
            start: every::<Node>(),
            wakes: vec![itself::<Node>()],
            reconcile: Arc::new(node_pods::reconcile),
        },
        Controller {
            name: "taint-eviction-controller",
            identity: "node-controller",
            start: every::<Pod>(),
            wakes: vec![itself::<Pod>(), taint_eviction::woken_by_nodes()],
            reconcile: Arc::new(taint_eviction::reconcile),
        },
        Controller {
            name: "pod-garbage-collector-controller",
            identity: "pod-garbage-collector",
            start: every::<Pod>(),
            wakes: vec![pod_gc::woken_by_pods(), pod_gc::woken_by_nodes()],
            reconcile: Arc::new(pod_gc::reconcile),
        },
        Controller {
            name: "clusterrole-aggregation-controller",
            identity: "clusterrole-aggregation-controller",
            start: every::<ClusterRole>(),
            wakes: vec![cluster_role_aggregation::woken_by_roles()],
            reconcile: Arc::new(cluster_role_aggregation::reconcile),
        },
        Controller {
            name: "resourcequota-controller",
            identity: "resourcequota-controller",
            start: every::<ResourceQuota>(),
            wakes: vec![itself::<ResourceQuota>(), resource_quota::woken_by_content()],
            reconcile: Arc::new(resource_quota::reconcile),
        },
        Controller {
            name: "persistentvolume-binder-controller",
            identity: "persistent-volume-binder",
            start: volume_binder::everything(),
            wakes: vec![volume_binder::woken_by_volumes(), volume_binder::woken_by_claims()],
            reconcile: Arc::new(volume_binder::reconcile),
        },
        Controller {
            name: "ephemeral-volume-controller",
            identity: "ephemeral-volume-controller",
            start: every::<Pod>(),
            wakes: vec![itself::<Pod>()],
            reconcile: Arc::new(ephemeral_volume::reconcile),
        },
        Controller {
            name: "persistentvolumeclaim-protection-controller",
            identity: "pvc-protection-controller",
            start: every::<PersistentVolumeClaim>(),
            wakes: vec![itself::<PersistentVolumeClaim>(), volume_protection::woken_by_pods()],
            reconcile: Arc::new(volume_protection::claim),
        },
        Controller {
            name: "persistentvolume-protection-controller",
            identity: "pv-protection-controller",
            start: every::<PersistentVolume>(),
            wakes: vec![itself::<PersistentVolume>()],
            reconcile: Arc::new(volume_protection::volume),
        },
        Controller {
            name: "disruption-controller",
            identity: "disruption-controller",
            start: every::<PodDisruptionBudget>(),
            wakes: vec![
                itself::<PodDisruptionBudget>(),
                disruption::woken_by_pods(),
                disruption::woken_by_scale::<Deployment>(),
                disruption::woken_by_scale::<ReplicaSet>(),
                disruption::woken_by_scale::<StatefulSet>(),
                disruption::woken_by_scale::<ReplicationController>(),
            ],
            reconcile: Arc::new(disruption::reconcile),
        },
        Controller {
            name: "node-ipam-controller",
            identity: "node-controller",
            start: every::<Node>(),
            wakes: vec![itself::<Node>()],
            reconcile: Arc::new(move |snapshot, key, now| node_ipam::reconcile(snapshot, key, now, range)),
        },
        Controller {
            name: "cluster-dns-controller",
            identity: "cluster-dns-controller",
            start: every::<Node>(),
            wakes: vec![itself::<Node>()],
            reconcile: Arc::new(move |snapshot, key, now| cluster_dns::reconcile(snapshot, key, now, &dns)),
        },
    ]
}

/// All objects of a kind are looked at first.
pub(crate) fn every<K: k8s_openapi::Resource>() -> Start {
    Arc::new(|snapshot| snapshot.prefix(&key::all::<K>()).map(|e| e.key.to_string()).collect())
}

/// Changes of a kind wake the object itself.
pub(crate) fn itself<K: k8s_openapi::Resource>() -> (String, Wake) {
    (key::all::<K>(), Arc::new(|_, event| vec![event.key().to_string()]))
}

/// Changes of a kind wake the namespace they are in.
pub(crate) fn namespace_of<K: k8s_openapi::Resource>() -> (String, Wake) {
    let wake = |_: &Snapshot, event: &Event| {
        key::parse(event.key()).map(|(_, _, namespace, _)| key::of::<Namespace>("", namespace)).into_iter().collect()
    };
    (key::all::<K>(), Arc::new(wake))
}

/// Changes of a kind wake the object of another kind with the same namespace and name.
pub(crate) fn same_name<K: k8s_openapi::Resource, O: k8s_openapi::Resource>() -> (String, Wake) {
    let wake = |_: &Snapshot, event: &Event| {
        key::parse(event.key()).map(|(_, _, namespace, name)| key::of::<O>(namespace, name)).into_iter().collect()
    };
    (key::all::<K>(), Arc::new(wake))
}

/// Metadata, the only part of an object that waking looks at.
#[derive(Debug, Default, serde::Deserialize)]
pub(crate) struct Head {
    #[serde(default)]
    pub metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
}

/// The metadata of an entry; empty if it cannot be read.
pub(crate) fn head(entry: &Entry) -> Head {
    serde_json::from_slice(&entry.value).unwrap_or_default()
}

/// The typed object of an entry; what cannot be read is empty.
pub(crate) fn head_of<K: serde::de::DeserializeOwned + Default>(entry: &Entry) -> K {
    serde_json::from_slice(&entry.value).unwrap_or_default()
}

/// An event's object as it is, and as it was.
pub(crate) fn versions(event: &Event) -> Vec<&Arc<Entry>> {
    match &event.change {
        Change::Put { entry, previous } => std::iter::once(entry).chain(previous).collect(),
        Change::Delete { previous } => vec![previous],
    }
}

/// Changes of a kind wake the controlling owner of kind `O`, before and after.
fn owner<K: k8s_openapi::Resource, O: k8s_openapi::Resource>(kind: &'static str) -> (String, Wake) {
    let wake = move |_: &Snapshot, event: &Event| {
        let owner = |entry: &Arc<Entry>| {
            let meta = head(entry).metadata;
            let mut owners = meta.owner_references.into_iter().flatten();
            let owner = owners.find(|o| o.controller == Some(true) && o.kind == kind)?;
            Some(key::of::<O>(meta.namespace.as_deref().unwrap_or_default(), &owner.name))
        };
        versions(event).into_iter().filter_map(owner).collect()
    };
    (key::all::<K>(), Arc::new(wake))
}

/// Changes of a kind wake the controlling owner of kind `O`, before and after; an object without one wakes all owners
/// whose selector would adopt it.
fn owner_or_adopter<K, O>(kind: &'static str) -> (String, Wake)
where
    K: k8s_openapi::Resource,
    O: k8s_openapi::Resource + Selects + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let wake = move |snapshot: &Snapshot, event: &Event| {
        let mut keys = Vec::new();
        for entry in versions(event) {
            let meta = head(entry).metadata;
            let namespace = meta.namespace.clone().unwrap_or_default();
            match meta.owner_references.iter().flatten().find(|o| o.controller == Some(true)) {
                Some(owner) if owner.kind == kind => keys.push(key::of::<O>(&namespace, &owner.name)),
                Some(_) => {}
                None => {
                    let prefix = key::in_namespace::<O>(&namespace);
                    let adopts =
                        |e: &&Arc<Entry>| snapshot.get_as::<O>(&e.key).is_some_and(|o| o.selects(meta.labels.as_ref()));
                    keys.extend(snapshot.prefix(&prefix).filter(adopts).map(|e| e.key.to_string()));
                }
            }
        }
        keys.dedup();
        keys
    };
    (key::all::<K>(), Arc::new(wake))
}

type Labels<'a> = Option<&'a std::collections::BTreeMap<String, String>>;

/// An owner that selects what it owns by labels.
trait Selects {
    fn selects(&self, labels: Labels<'_>) -> bool;
}

impl Selects for ReplicaSet {
    fn selects(&self, labels: Labels<'_>) -> bool {
        self.selector().is_ok_and(|s| s.matches_labels(labels))
    }
}

impl Selects for ReplicationController {
    fn selects(&self, labels: Labels<'_>) -> bool {
        self.selector().is_ok_and(|s| s.matches_labels(labels))
    }
}

impl Selects for Deployment {
    fn selects(&self, labels: Labels<'_>) -> bool {
        let selector = self.spec.as_ref().map(|s| &s.selector);
        LabelSelector::from_typed(selector).is_ok_and(|s| s.matches_labels(labels))
    }
}

impl Selects for StatefulSet {
    fn selects(&self, labels: Labels<'_>) -> bool {
        let selector = self.spec.as_ref().map(|s| &s.selector);
        LabelSelector::from_typed(selector).is_ok_and(|s| s.matches_labels(labels))
    }
}

impl Selects for DaemonSet {
    fn selects(&self, labels: Labels<'_>) -> bool {
        let selector = self.spec.as_ref().map(|s| &s.selector);
        LabelSelector::from_typed(selector).is_ok_and(|s| s.matches_labels(labels))
    }
}

impl Selects for Job {
    fn selects(&self, labels: Labels<'_>) -> bool {
        let selector = self.spec.as_ref().and_then(|s| s.selector.as_ref());
        LabelSelector::from_typed(selector).is_ok_and(|s| s.matches_labels(labels))
    }
}

/// All Jobs are looked at first, and those that pods are labelled with: such a Job may be gone and still hold them.
fn jobs_and_orphans() -> Start {
    Arc::new(|snapshot| {
        let mut keys = every::<Job>()(snapshot);
        for pod in snapshot.list_as::<Pod>(&key::all::<Pod>()) {
            keys.extend(pod.label(job::JOB_NAME).map(|name| key::of::<Job>(pod.namespace(), name)));
        }
        keys
    })
}

/// A pod without an owner wakes the Job that it is labelled with, which may hold it by a finalizer.
fn jobs_of_orphans() -> (String, Wake) {
    let wake = |_: &Snapshot, event: &Event| {
        let Change::Put { entry, .. } = &event.change else { return Vec::new() };
        let meta = head(entry).metadata;
        if meta.finalizers.is_none() || meta.owner_references.is_some_and(|o| !o.is_empty()) {
            return Vec::new();
        }
        let name = meta.labels.and_then(|mut l| l.remove(job::JOB_NAME));
        Vec::from_iter(name.map(|n| key::of::<Job>(meta.namespace.as_deref().unwrap_or_default(), &n)))
    };
    (key::all::<Pod>(), Arc::new(wake))
}

/// A deleted pod wakes the Deployment behind its set: `Recreate` waits for the last one.
fn deployments_of_pods() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        let Change::Delete { previous } = &event.change else {
            return Vec::new();
        };
        let meta = head(previous).metadata;
        let namespace = meta.namespace.unwrap_or_default();
        let sets = meta.owner_references.into_iter().flatten().filter(|o| o.kind == "ReplicaSet");
        let set = sets.filter_map(|o| snapshot.get_as::<ReplicaSet>(&key::of::<ReplicaSet>(&namespace, &o.name)));
        let owners = set.flat_map(|s| s.metadata.owner_references.clone().unwrap_or_default());
        owners.filter(|o| o.kind == "Deployment").map(|o| key::of::<Deployment>(&namespace, &o.name)).collect()
    };
    (key::all::<Pod>(), Arc::new(wake))
}

/// A pod wakes the Services that select it, or did.
fn services_of_pods() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        let heads: Vec<Head> = versions(event).into_iter().map(|e| head(e)).collect();
        let Some(namespace) = heads.first().and_then(|h| h.metadata.namespace.clone()) else {
            return Vec::new();
        };
        let selected = |service: &Service| {
            let Some(selector) = service.spec.as_ref().and_then(|s| s.selector.as_ref()).filter(|s| !s.is_empty())
            else {
                return false;
            };
            let fits =
                |h: &Head| selector.iter().all(|(k, v)| h.metadata.labels.as_ref().and_then(|l| l.get(k)) == Some(v));
            heads.iter().any(fits)
        };
        let prefix = key::in_namespace::<Service>(&namespace);
        let services =
            snapshot.prefix(&prefix).filter(|e| snapshot.get_as::<Service>(&e.key).is_some_and(|s| selected(&s)));
        services.map(|e| e.key.to_string()).collect()
    };
    (key::all::<Pod>(), Arc::new(wake))
}

/// A slice wakes the Service it belongs to, so that what others change is put right.
fn services_of_slices() -> (String, Wake) {
    let wake = |_: &Snapshot, event: &Event| {
        let service = |e: &Arc<Entry>| {
            let meta = head(e).metadata;
            let name = meta.labels?.remove("kubernetes.io/service-name")?;
            Some(key::of::<Service>(&meta.namespace.unwrap_or_default(), &name))
        };
        versions(event).into_iter().filter_map(service).collect()
    };
    (key::all::<EndpointSlice>(), Arc::new(wake))
}
