//! Words for people as core/v1 Events; the same words about the same object become one Event with a count.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use mizzen_client::{Client, Patch};
use serde_json::json;

use crate::plan::Note;

/// Most different Events that are remembered for counting; the oldest half is forgotten beyond.
const REMEMBERED_MAX: usize = 2048;

/// Records Events of one component.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    client: Client,
    component: &'static str,
    seen: Arc<Mutex<HashMap<String, Seen>>>,
}

#[derive(Debug, Clone)]
struct Seen {
    name: String,
    count: i32,
    last: Timestamp,
}

impl Recorder {
    pub fn new(client: Client, component: &'static str) -> Self {
        Self { client, component, seen: Arc::default() }
    }

    /// Records all notes. An Event that cannot be recorded is logged: the object itself says what matters.
    pub async fn record(&self, notes: Vec<Note>) {
        for note in notes {
            let now = Timestamp::now();
            let namespace = note.about.namespace.clone().unwrap_or_else(|| "default".into());
            let outcome = match self.count(&note, now) {
                Seen { count: 1, name, .. } => {
                    self.client.create(&self.event(&note, name, &namespace, now)).await.map(|_| ())
                }
                Seen { count, name, .. } => {
                    let patch = Patch::Merge(json!({"count": count, "lastTimestamp": Time(now)}));
                    self.client.patch::<Event>(&namespace, &name, "", &patch).await.map(|_| ())
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(reason = note.reason, %error, "an Event was not recorded");
            }
        }
    }

    fn count(&self, note: &Note, now: Timestamp) -> Seen {
        let about = &note.about;
        let key = format!("{:?}/{:?}/{:?}/{}/{}", about.kind, about.uid, about.field_path, note.reason, note.message);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED_MAX {
            let mut times: Vec<Timestamp> = seen.values().map(|s| s.last).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            seen.retain(|_, s| s.last > middle);
        }
        let name = format!("{}.{:x}", about.name.as_deref().unwrap_or_default(), now.as_nanosecond());
        let entry = seen.entry(key).or_insert(Seen { name, count: 0, last: now });
        entry.count += 1;
        entry.last = now;
        entry.clone()
    }

    fn event(&self, note: &Note, name: String, namespace: &str, now: Timestamp) -> Event {
        Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.to_string()), ..ObjectMeta::default() },
            involved_object: note.about.clone(),
            reason: Some(note.reason.to_string()),
            message: Some(note.message.clone()),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_string()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource { component: Some(self.component.to_string()), host: None }),
            reporting_component: Some(self.component.to_string()),
            ..Event::default()
        }
    }
}
