//! Events about pods and the node: sent one after another from a queue, repeated ones counted instead of created.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use mizzen_client::{Client, Patch};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events waiting to be sent; more are dropped, they are a courtesy.
const QUEUE: usize = 1024;
/// Remembered events for counting repetitions.
const REMEMBERED: usize = 2048;
/// Seconds after which a repeated event becomes a new one (client-go's aggregation window).
const FORGET_AFTER: i64 = 600;
/// Most events about one object before they are thinned out, and seconds in which one more is allowed
/// (client-go's spam filter: 25, then one each 5 minutes).
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// Longest message that the API takes.
const MAX_MESSAGE: usize = 1024;

/// Where events are handed in. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Events {
    queue: mpsc::Sender<Draft>,
}

/// Kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// All is well.
    Normal,
    /// Someone may have to act.
    Warning,
}

#[derive(Debug)]
struct Draft {
    about: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
    at: Timestamp,
}

impl Events {
    /// A queue, and the future that sends what is put in: the caller owns it; it ends with `shutdown`.
    pub fn new(
        client: Client,
        node_name: String,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (
            Self { queue },
            Sender { client, node_name, seen: HashMap::new(), budgets: HashMap::new() }.run(receiver, shutdown),
        )
    }

    /// Says something about a pod.
    pub fn pod(&self, pod: &Pod, kind: EventType, reason: &str, message: impl Into<String>) {
        self.about(pod_reference(pod, None), kind, reason, message.into());
    }

    /// Says something about a container of a pod.
    pub fn container(&self, pod: &Pod, field: &str, kind: EventType, reason: &str, message: impl Into<String>) {
        self.about(pod_reference(pod, Some(field.to_string())), kind, reason, message.into());
    }

    /// Says something about the node.
    pub fn node(&self, node: &Node, kind: EventType, reason: &str, message: impl Into<String>) {
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: node.metadata.name.clone(),
            uid: node.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.about(about, kind, reason, message.into());
    }

    fn about(&self, about: ObjectReference, kind: EventType, reason: &str, mut message: String) {
        if message.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE - 3).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
            message.truncate(end);
            message.push_str("...");
        }
        let draft = Draft { about, kind, reason: reason.to_string(), message, at: Timestamp::now() };
        if let Err(error) = self.queue.try_send(draft) {
            tracing::debug!(%error, "event dropped: too many waiting");
        }
    }
}

fn pod_reference(pod: &Pod, field_path: Option<String>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

type Identity = (Option<String>, Option<String>, EventType, String, String);

struct Seen {
    namespace: String,
    name: String,
    count: i32,
    last: Timestamp,
}

struct Sender {
    client: Client,
    node_name: String,
    seen: HashMap<Identity, Seen>,
    /// Tokens left and when they were counted, by object.
    budgets: HashMap<Option<String>, (f64, Timestamp)>,
}

impl Sender {
    async fn run(mut self, mut queue: mpsc::Receiver<Draft>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                draft = queue.recv() => match draft {
                    Some(draft) => self.send(draft).await,
                    None => return,
                },
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn send(&mut self, draft: Draft) {
        if !self.allowed(&draft) {
            return;
        }
        let identity = (
            draft.about.uid.clone(),
            draft.about.field_path.clone(),
            draft.kind,
            draft.reason.clone(),
            draft.message.clone(),
        );
        if self.seen.len() > REMEMBERED {
            self.seen.retain(|_, s| draft.at.duration_since(s.last).as_secs() < FORGET_AFTER);
            if self.seen.len() > REMEMBERED {
                self.seen.clear();
            }
        }
        if let Some(seen) = self.seen.get_mut(&identity)
            && draft.at.duration_since(seen.last).as_secs() < FORGET_AFTER
        {
            seen.count += 1;
            seen.last = draft.at;
            let patch = Patch::Merge(json!({"count": seen.count, "lastTimestamp": Time(draft.at)}));
            match self.client.patch::<Event>(&seen.namespace, &seen.name, "", &patch).await {
                Ok(_) => return,
                // Expired meanwhile: a new one takes its place.
                Err(error) if error.code() == Some(404) => {}
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "event not counted");
                    return;
                }
            }
        }
        let event = self.event(&draft);
        let seen = Seen {
            namespace: event.metadata.namespace.clone().unwrap_or_default(),
            name: event.metadata.name.clone().unwrap_or_default(),
            count: 1,
            last: draft.at,
        };
        match self.client.create(&event).await {
            Ok(_) => {
                self.seen.insert(identity, seen);
            }
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, reason = draft.reason, "event not written")
            }
        }
    }

    /// A token bucket an object, so that one that flaps does not fill the store.
    fn allowed(&mut self, draft: &Draft) -> bool {
        if self.budgets.len() > REMEMBERED {
            self.budgets.clear();
        }
        let (tokens, at) = self.budgets.entry(draft.about.uid.clone()).or_insert((BURST, draft.at));
        let passed = draft.at.duration_since(*at).as_secs_f64().max(0.0);
        *tokens = (*tokens + passed / REFILL_SECONDS).min(BURST);
        *at = draft.at;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }

    fn event(&self, draft: &Draft) -> Event {
        let about = &draft.about;
        // Events about cluster-scoped objects live in the default namespace.
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".into());
        let name = format!("{}.{:x}", about.name.as_deref().unwrap_or_default(), draft.at.as_nanosecond());
        Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: about.clone(),
            type_: Some(match draft.kind {
                EventType::Normal => "Normal".into(),
                EventType::Warning => "Warning".into(),
            }),
            reason: Some(draft.reason.clone()),
            message: Some(draft.message.clone()),
            count: Some(1),
            first_timestamp: Some(Time(draft.at)),
            last_timestamp: Some(Time(draft.at)),
            source: Some(EventSource { component: Some("kubelet".into()), host: Some(self.node_name.clone()) }),
            reporting_component: Some("kubelet".into()),
            reporting_instance: Some(self.node_name.clone()),
            ..Event::default()
        }
    }
}

/// The `fieldPath` of a container in events: `spec.containers{web}`.
pub fn field_path(pod: &Pod, container: &str) -> String {
    let list = match pod.spec.as_ref().and_then(|s| crate::pod::roles::find(s, container)) {
        Some((_, crate::pod::roles::Role::Init | crate::pod::roles::Role::Sidecar)) => "initContainers",
        Some((_, crate::pod::roles::Role::Ephemeral)) => "ephemeralContainers",
        _ => "containers",
    };
    format!("spec.{list}{{{container}}}")
}
