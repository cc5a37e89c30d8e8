//! ConfigMaps and Secrets that pods on this node use: each watched by itself, as long as a pod holds it.
//!
//! The node may read only what its pods refer to, so there is one watch an object (`metadata.name=…`), shared by all
//! pods, ended when the last holder drops its [`Held`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use k8s_openapi::Metadata;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mizzen_client::{Api, Reflector, Selection};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

type Key = (String, String);

/// The watched objects.
pub struct Objects {
    api: Arc<dyn Api>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    config_maps: Mutex<HashMap<Key, Weak<Watched<ConfigMap>>>>,
    secrets: Mutex<HashMap<Key, Weak<Watched<Secret>>>>,
}

struct Watched<K> {
    reflector: Reflector<K>,
    key: Key,
    /// Ends the watch when the last holder is gone.
    _guard: DropGuard,
}

/// A held object: current as long as this lives.
pub struct Held<K>(Arc<Watched<K>>);

impl<K> Clone for Held<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Held<K>
where
    K: Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
{
    /// The object as it now is, `None` if it does not exist. Waits for the first answer.
    pub async fn get(&self) -> Option<Arc<K>> {
        self.0.reflector.synced().await;
        self.0.reflector.get(&self.0.key.0, &self.0.key.1)
    }

    /// Notifies `notify` after each change, until `until` is cancelled or the watch ends.
    pub async fn tell(self, notify: Arc<Notify>, until: CancellationToken) {
        let mut changes = self.0.reflector.changes();
        // The first list is what the caller is about to read.
        if !self.0.reflector.synced().await {
            return;
        }
        changes.mark_unchanged();
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => notify.notify_one(),
                    Err(_) => return,
                },
                () = until.cancelled() => return,
            }
        }
    }
}

impl Objects {
    /// Watches through `api`; all watches end with `shutdown`.
    pub fn new(api: Arc<dyn Api>, tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        Self { api, tasks, shutdown, config_maps: Mutex::default(), secrets: Mutex::default() }
    }

    /// Holds a ConfigMap.
    pub fn config_map(&self, namespace: &str, name: &str) -> Held<ConfigMap> {
        self.hold(&self.config_maps, namespace, name)
    }

    /// Holds a Secret.
    pub fn secret(&self, namespace: &str, name: &str) -> Held<Secret> {
        self.hold(&self.secrets, namespace, name)
    }

    fn hold<K>(&self, map: &Mutex<HashMap<Key, Weak<Watched<K>>>>, namespace: &str, name: &str) -> Held<K>
    where
        K: Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
    {
        let key = (namespace.to_string(), name.to_string());
        let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = map.get(&key).and_then(Weak::upgrade) {
            return Held(found);
        }
        map.retain(|_, weak| weak.strong_count() > 0);
        let stop = self.shutdown.child_token();
        let selection =
            Selection { namespace: namespace.into(), fields: format!("metadata.name={name}"), ..Selection::default() };
        let (reflector, feed) = Reflector::new(Arc::clone(&self.api), selection, stop.clone());
        self.tasks.spawn(feed);
        let watched = Arc::new(Watched { reflector, key: key.clone(), _guard: stop.drop_guard() });
        map.insert(key, Arc::downgrade(&watched));
        Held(watched)
    }
}
