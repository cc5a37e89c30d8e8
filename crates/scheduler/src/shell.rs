//! The shell around the cycle: waits for something that could change a decision, schedules, binds.
//!
//! All bindings of a cycle are sent at once, so they share commits. A pod that fits nowhere gets its condition and Event once,
//! and is looked at again whenever nodes or pods change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Event, EventSource, Namespace, Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use mizzen_api::key;
use mizzen_api::volumes::{BOUND_BY_CONTROLLER, SELECTED_NODE};
use mizzen_client::{Api, Client, ClientError, DeleteOptions, Patch};
use mizzen_store::{Store, Watch, WatchError};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cycle::{Decision, Outcome, Refusal, SCHEDULER_NAME, schedule};
use crate::rules::Step;
use crate::stats::Stats;

/// Writes on their way at a time.
const PARALLEL: usize = 128;
/// Changes taken from a watch at a time; they only wake us.
const EVENTS_MAX: usize = 1024;
/// Wait after a binding failed, so that a broken API is not hammered.
const RETRY: Duration = Duration::from_millis(250);

/// Schedules until `shutdown` is cancelled.
pub async fn run(store: Arc<dyn Store>, api: Arc<dyn Api>, stats: Arc<Stats>, shutdown: CancellationToken) {
    let scheduler = Scheduler { store, client: Client::new(api), stats, told: HashMap::new() };
    tokio::select! {
        () = scheduler.run() => {}
        () = shutdown.cancelled() => {}
    }
}

struct Scheduler {
    store: Arc<dyn Store>,
    client: Client,
    stats: Arc<Stats>,
    /// What was last said about a pod that fits nowhere, by UID, so that it is said once.
    told: HashMap<String, Told>,
}

/// What was said about a pod that fits nowhere.
struct Told {
    why: String,
    promised: Option<String>,
}

impl Told {
    fn same(&self, refusal: &Refusal) -> bool {
        self.why == refusal.why && self.promised == refusal.promised
    }
}

/// The watches that wake the scheduler.
struct Watches {
    pods: Watch,
    nodes: Watch,
    namespaces: Watch,
    claims: Watch,
    volumes: Watch,
    classes: Watch,
}

impl Watches {
    async fn changed(&mut self) -> Result<(), WatchError> {
        tokio::select! {
            pods = self.pods.next(EVENTS_MAX) => pods.map(drop),
            nodes = self.nodes.next(EVENTS_MAX) => nodes.map(drop),
            namespaces = self.namespaces.next(EVENTS_MAX) => namespaces.map(drop),
            claims = self.claims.next(EVENTS_MAX) => claims.map(drop),
            volumes = self.volumes.next(EVENTS_MAX) => volumes.map(drop),
            classes = self.classes.next(EVENTS_MAX) => classes.map(drop),
        }
    }
}

impl Scheduler {
    async fn run(mut self) {
        loop {
            let Ok(mut watches) = self.watches() else { continue };
            loop {
                let failed = self.cycle().await;
                if failed {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                match watches.changed().await {
                    Ok(()) => {}
                    Err(WatchError::Compacted(_)) => break,
                    Err(WatchError::Closed) => return,
                }
            }
        }
    }

    fn watches(&self) -> Result<Watches, mizzen_store::Compacted> {
        let at = self.store.snapshot().revision();
        Ok(Watches {
            pods: self.store.watch(&key::all::<Pod>(), at)?,
            nodes: self.store.watch(&key::all::<Node>(), at)?,
            namespaces: self.store.watch(&key::all::<Namespace>(), at)?,
            claims: self.store.watch(&key::all::<PersistentVolumeClaim>(), at)?,
            volumes: self.store.watch(&key::all::<PersistentVolume>(), at)?,
            classes: self.store.watch(&key::all::<StorageClass>(), at)?,
        })
    }

    fn count(&self, decisions: &[Decision], took: Duration) {
        let number = |is: fn(&Outcome) -> bool| decisions.iter().filter(|d| is(&d.outcome)).count() as u64;
        let placed = number(|o| matches!(o, Outcome::Node(_) | Outcome::Prepares(..)));
        let refused = number(|o| matches!(o, Outcome::Unschedulable(_)));
        self.stats.cycle(placed, refused, number(|o| matches!(o, Outcome::Gated)), took);
    }

    /// One cycle; `true` if some write failed and the cycle should be repeated.
    async fn cycle(&mut self) -> bool {
        let began = Instant::now();
        let decisions = schedule(&self.store.snapshot());
        self.count(&decisions, began.elapsed());
        let uids: Vec<&str> = decisions.iter().filter_map(|d| d.pod.metadata.uid.as_deref()).collect();
        self.told.retain(|uid, _| uids.contains(&uid.as_str()));
        let mut work = Vec::new();
        for decision in decisions {
            let uid = decision.pod.metadata.uid.clone().unwrap_or_default();
            if let Outcome::Unschedulable(refusal) = &decision.outcome {
                if refusal.victims.is_empty() && self.told.get(&uid).is_some_and(|told| told.same(refusal)) {
                    continue;
                }
                self.told.insert(uid, Told { why: refusal.why.clone(), promised: refusal.promised.clone() });
            }
            work.push(execute(self.client.clone(), decision));
        }
        stream::iter(work).buffer_unordered(PARALLEL).any(|failed| async move { failed }).await
    }
}

/// Carries out a decision; `true` if it failed in a way that is worth repeating.
async fn execute(client: Client, decision: Decision) -> bool {
    let pod = decision.pod;
    let result = match decision.outcome {
        Outcome::Node(node) => bind(&client, &pod, &node).await,
        Outcome::Prepares(node, steps) => prepare(&client, &node, &steps).await,
        Outcome::Unschedulable(refusal) => make_room(&client, &pod, &refusal).await,
        Outcome::Gated => {
            let why = "Scheduling is blocked due to non-empty scheduling gates";
            refuse(&client, &pod, "SchedulingGated", why, None).await
        }
    };
    match result {
        Ok(()) => false,
        // Gone, bound or changed meanwhile: the change has woken us already.
        Err(error) if matches!(error.code(), Some(404 | 409)) => false,
        Err(error) => {
            tracing::warn!(pod = pod.metadata.name, %error, "a scheduling decision could not be written");
            true
        }
    }
}

async fn bind(client: &Client, pod: &Pod, node: &str) -> Result<(), ClientError> {
    let (namespace, name) = names(pod);
    let body = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "namespace": namespace, "uid": pod.metadata.uid},
        "target": {"kind": "Node", "name": node},
    });
    client.create_in::<Pod>(namespace, name, "binding", &body).await?;
    event(client, pod, "Normal", "Scheduled", format!("Successfully assigned {namespace}/{name} to {node}")).await;
    Ok(())
}

/// Brings claims and volumes together. The pod is bound in a later cycle, which their changes wake.
async fn prepare(client: &Client, node: &str, steps: &[Step]) -> Result<(), ClientError> {
    for step in steps {
        match step {
            Step::Bind(claim, volume) => {
                let claim = &claim.metadata;
                let reference = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim.name,
                    "namespace": claim.namespace, "uid": claim.uid, "resourceVersion": claim.resource_version});
                let patch = json!({
                    "metadata": {"resourceVersion": volume.metadata.resource_version,
                        "annotations": {BOUND_BY_CONTROLLER: "yes"}},
                    "spec": {"claimRef": reference},
                });
                let name = volume.metadata.name.as_deref().unwrap_or_default();
                client.patch::<PersistentVolume>("", name, "", &Patch::Merge(patch)).await?;
            }
            Step::Provision(claim) => {
                let claim = &claim.metadata;
                let patch = json!({"metadata": {"resourceVersion": claim.resource_version,
                    "annotations": {SELECTED_NODE: node}}});
                let (namespace, name) = (claim.namespace.as_deref(), claim.name.as_deref());
                let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
                client.patch::<PersistentVolumeClaim>(namespace, name, "", &Patch::Merge(patch)).await?;
            }
            Step::Wait => {}
        }
    }
    Ok(())
}

/// Says why a pod waits, and evicts those who have to go for it: first the promise, so that nobody takes the room.
async fn make_room(client: &Client, pod: &Pod, refusal: &Refusal) -> Result<(), ClientError> {
    refuse(client, pod, "Unschedulable", &refusal.why, refusal.promised.as_deref()).await?;
    for victim in &refusal.victims {
        match evict(client, victim, pod, refusal.promised.as_deref().unwrap_or_default()).await {
            // Gone already, or another pod of that name is there.
            Err(error) if matches!(error.code(), Some(404 | 409)) => {}
            other => other?,
        }
    }
    Ok(())
}

async fn evict(client: &Client, victim: &Pod, preemptor: &Pod, node: &str) -> Result<(), ClientError> {
    let (namespace, name) = names(victim);
    let message = format!("{SCHEDULER_NAME}: preempting to accommodate a higher priority pod");
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": message, "lastTransitionTime": Time(Timestamp::now()),
        "observedGeneration": victim.metadata.generation});
    let patch = json!({"metadata": {"uid": victim.metadata.uid}, "status": {"conditions": [condition]}});
    client.patch::<Pod>(namespace, name, "status", &Patch::Strategic(patch)).await?;
    let options = DeleteOptions { uid: victim.metadata.uid.clone(), ..DeleteOptions::default() };
    client.delete::<Pod>(namespace, name, &options).await?;
    let uid = preemptor.metadata.uid.as_deref().unwrap_or_default();
    event(client, victim, "Normal", "Preempted", format!("Preempted by pod {uid} on node {node}")).await;
    Ok(())
}

async fn refuse(
    client: &Client,
    pod: &Pod,
    reason: &str,
    why: &str,
    promised: Option<&str>,
) -> Result<(), ClientError> {
    let status = pod.status.as_ref();
    let before = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten().find(|c| c.type_ == "PodScheduled");
    let said = before.is_some_and(|c| c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(why));
    if said && status.and_then(|s| s.nominated_node_name.as_deref()) == promised {
        return Ok(());
    }
    let (namespace, name) = names(pod);
    let since = before
        .filter(|c| c.status == "False")
        .and_then(|c| c.last_transition_time.clone())
        .unwrap_or(Time(Timestamp::now()));
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": reason, "message": why,
        "lastTransitionTime": since, "observedGeneration": pod.metadata.generation});
    let patch = Patch::Strategic(json!({"metadata": {"uid": pod.metadata.uid},
        "status": {"conditions": [condition], "nominatedNodeName": promised}}));
    client.patch::<Pod>(namespace, name, "status", &patch).await?;
    if reason == "Unschedulable" && !said {
        event(client, pod, "Warning", "FailedScheduling", why.to_string()).await;
    }
    Ok(())
}

/// Records an Event; one that cannot be recorded is only logged, since the pod itself says what matters.
async fn event(client: &Client, pod: &Pod, kind: &str, reason: &str, message: String) {
    let now = Timestamp::now();
    let (namespace, name) = names(pod);
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace.to_string()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(namespace.to_string()),
            name: Some(name.to_string()),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: None,
        },
        type_: Some(kind.into()),
        reason: Some(reason.into()),
        message: Some(message),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(SCHEDULER_NAME.into()), host: None }),
        reporting_component: Some(SCHEDULER_NAME.into()),
        ..Event::default()
    };
    if let Err(error) = client.create(&event).await {
        tracing::debug!(%error, "an Event was not recorded");
    }
}

fn names(pod: &Pod) -> (&str, &str) {
    (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default())
}
