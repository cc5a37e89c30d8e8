//! A local map of the objects of one kind, kept current by a watch (client-go calls it an informer).
//!
//! The map only ever moves forward: it is replaced as a whole after a new list and changed event by event after that.
//! Readers take it for the price of a pointer; being woken says "look again", never what happened.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::Method;
use k8s_openapi::{Metadata, Resource, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Api, ClientError, Request, typed};

/// Objects by (namespace, name); cloning costs a pointer.
pub type ObjectMap<K> = imbl::OrdMap<(Arc<str>, Arc<str>), Arc<K>>;

/// Which objects are of interest; empty fields select all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only in this namespace.
    pub namespace: String,
    /// Label selector.
    pub labels: String,
    /// Field selector, such as `spec.nodeName=n1`.
    pub fields: String,
}

/// The shortest and longest waits before a broken watch is tried again.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Keeps an [`ObjectMap`] current. Cloning shares it.
#[derive(Debug)]
pub struct Reflector<K> {
    map: Arc<RwLock<ObjectMap<K>>>,
    version: watch::Receiver<u64>,
}

impl<K> Clone for Reflector<K> {
    fn clone(&self) -> Self {
        Self { map: Arc::clone(&self.map), version: self.version.clone() }
    }
}

impl<K> Reflector<K>
where
    K: Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
{
    /// A reflector, and the future that feeds it: the caller spawns and owns it; it ends when `shutdown` is cancelled.
    pub fn new(
        api: Arc<dyn Api>,
        selection: Selection,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let map = Arc::new(RwLock::new(ObjectMap::new()));
        let (version, receiver) = watch::channel(0);
        let feeder = Feeder { api, selection, map: Arc::clone(&map), version, path: String::new(), pending: None };
        (Self { map, version: receiver }, feeder.run(shutdown))
    }

    /// The map as it now is.
    pub fn objects(&self) -> ObjectMap<K> {
        // Nothing panics while the lock is held, so it is never poisoned; if it were, the map is still whole.
        self.map.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.objects().get(&(Arc::from(namespace), Arc::from(name))).cloned()
    }

    /// Waits until the first list is complete; `false` if the feeder ended before.
    pub async fn synced(&self) -> bool {
        self.version.clone().wait_for(|v| *v > 0).await.is_ok()
    }

    /// Changes whenever the map did; 0 until the first list is complete.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }
}

struct Feeder<K> {
    api: Arc<dyn Api>,
    selection: Selection,
    map: Arc<RwLock<ObjectMap<K>>>,
    version: watch::Sender<u64>,
    path: String,
    /// The objects of a list under way, until its last is there.
    pending: Option<ObjectMap<K>>,
}

#[derive(serde::Deserialize)]
struct WatchEvent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(serde::Deserialize)]
struct Meta {
    metadata: ObjectMeta,
}

impl<K> Feeder<K>
where
    K: Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
{
    async fn run(mut self, shutdown: CancellationToken) {
        self.path = typed::path::<K>(&self.selection.namespace, "", "");
        let mut wait = RETRY_MIN;
        let mut position: Option<String> = None;
        loop {
            let began = tokio::time::Instant::now();
            let outcome = tokio::select! {
                outcome = self.follow(&mut position) => outcome,
                () = shutdown.cancelled() => return,
            };
            match outcome {
                Ok(()) => wait = RETRY_MIN,
                Err(error) => {
                    if !matches!(error.code(), Some(410)) {
                        tracing::warn!(
                            path = self.path,
                            error = &error as &dyn std::error::Error,
                            "watch broke off; trying again"
                        );
                    }
                    position = None;
                    if began.elapsed() > RETRY_MAX {
                        wait = RETRY_MIN;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// One watch, until it ends. `position` is where to go on, or `None` to start with all objects.
    async fn follow(&mut self, position: &mut Option<String>) -> Result<(), ClientError> {
        let mut query = vec![("watch".to_string(), "true".to_string()), ("allowWatchBookmarks".into(), "true".into())];
        match position {
            Some(version) => query.push(("resourceVersion".into(), version.clone())),
            None => {
                query.push(("sendInitialEvents".into(), "true".into()));
                query.push(("resourceVersionMatch".into(), "NotOlderThan".into()));
                self.pending = Some(ObjectMap::new());
            }
        }
        for (name, value) in [("labelSelector", &self.selection.labels), ("fieldSelector", &self.selection.fields)] {
            if !value.is_empty() {
                query.push((name.into(), value.clone()));
            }
        }
        let request =
            Request { method: Method::GET, path: self.path.clone(), query, content_type: "", body: Bytes::new() };
        let mut events = self.api.watch(request).await?;
        while let Some(event) = events.next().await {
            if let Some(version) = self.handle(&event?)? {
                *position = Some(version);
            }
        }
        Ok(())
    }

    /// Takes in one event; the position after it, once the initial list is complete.
    fn handle(&mut self, bytes: &[u8]) -> Result<Option<String>, ClientError> {
        let decode_error = |e| ClientError::Decode { path: self.path.clone(), source: Arc::new(e) };
        let event: WatchEvent = serde_json::from_slice(bytes).map_err(decode_error)?;
        match event.kind {
            "ADDED" | "MODIFIED" => {
                let object: K = serde_json::from_str(event.object.get()).map_err(decode_error)?;
                let version = object.metadata().resource_version.clone();
                self.put(object);
                Ok(if self.pending.is_some() { None } else { version })
            }
            "DELETED" => {
                let meta: Meta = serde_json::from_str(event.object.get()).map_err(decode_error)?;
                self.remove(&meta.metadata);
                Ok(if self.pending.is_some() { None } else { meta.metadata.resource_version })
            }
            "BOOKMARK" => {
                let meta: Meta = serde_json::from_str(event.object.get()).map_err(decode_error)?;
                let initial_end =
                    meta.metadata.annotations.as_ref().is_some_and(|a| a.contains_key("k8s.io/initial-events-end"));
                if initial_end && let Some(complete) = self.pending.take() {
                    self.publish(|map| *map = complete);
                }
                Ok(if self.pending.is_some() { None } else { meta.metadata.resource_version })
            }
            _ => {
                let answer = crate::Response { code: 0, body: Bytes::copy_from_slice(event.object.get().as_bytes()) };
                let status: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let code = status["code"].as_u64().and_then(|c| u16::try_from(c).ok()).unwrap_or(500);
                Err(typed::status_error(Method::GET, self.path.clone(), &crate::Response { code, ..answer }))
            }
        }
    }

    fn put(&mut self, object: K) {
        let key = key_of(object.metadata());
        let object = Arc::new(object);
        match &mut self.pending {
            Some(pending) => {
                pending.insert(key, object);
            }
            None => self.publish(|map| {
                map.insert(key, object);
            }),
        }
    }

    fn remove(&mut self, meta: &ObjectMeta) {
        let key = key_of(meta);
        match &mut self.pending {
            Some(pending) => {
                pending.remove(&key);
            }
            None => self.publish(|map| {
                map.remove(&key);
            }),
        }
    }

    fn publish(&self, change: impl FnOnce(&mut ObjectMap<K>)) {
        change(&mut self.map.write().unwrap_or_else(std::sync::PoisonError::into_inner));
        self.version.send_modify(|v| *v += 1);
    }
}

fn key_of(meta: &ObjectMeta) -> (Arc<str>, Arc<str>) {
    (Arc::from(meta.namespace.as_deref().unwrap_or_default()), Arc::from(meta.name.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Response, WatchStream};
    use futures_util::future::BoxFuture;
    use k8s_openapi::api::core::v1::ConfigMap;
    use std::sync::Mutex;

    /// Answers each watch with the next script of events.
    struct Scripted(Mutex<Vec<Vec<serde_json::Value>>>, Mutex<Vec<Request>>);

    impl Api for Scripted {
        fn send(&self, _: Request) -> BoxFuture<'_, Result<Response, ClientError>> {
            unreachable!("a reflector only watches")
        }
        fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, ClientError>> {
            self.1.lock().unwrap().push(request);
            let mut scripts = self.0.lock().unwrap();
            let stream: WatchStream = if scripts.is_empty() {
                Box::pin(futures_util::stream::pending())
            } else {
                let events = scripts.remove(0);
                Box::pin(futures_util::stream::iter(events.into_iter().map(|e| Ok(Bytes::from(e.to_string())))))
            };
            Box::pin(async move { Ok(stream) })
        }
    }

    fn event(kind: &str, name: &str, version: &str) -> serde_json::Value {
        serde_json::json!({"type": kind, "object": {"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "d", "resourceVersion": version}}})
    }

    #[tokio::test]
    async fn lists_follows_and_goes_on_where_it_was() {
        let end = serde_json::json!({"type": "BOOKMARK", "object": {"metadata":
            {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}}});
        let api = Arc::new(Scripted(
            Mutex::new(vec![
                vec![event("ADDED", "a", "5"), event("ADDED", "b", "6"), end],
                vec![event("DELETED", "a", "9")],
            ]),
            Mutex::default(),
        ));
        let shutdown = CancellationToken::new();
        let (reflector, feed) = Reflector::<ConfigMap>::new(api.clone(), Selection::default(), shutdown.clone());
        let feed = tokio::spawn(feed);
        assert!(reflector.synced().await);
        reflector.changes().wait_for(|_| reflector.objects().len() == 1).await.unwrap();
        assert!(reflector.get("d", "b").is_some());
        let asked: Vec<_> = api.1.lock().unwrap().iter().map(|r| r.query.clone()).collect();
        assert!(asked[0].contains(&("sendInitialEvents".into(), "true".into())));
        assert!(asked[1].contains(&("resourceVersion".into(), "7".into())));
        shutdown.cancel();
        feed.await.unwrap();
    }
}
