//! The ConfigMaps and Secrets that one pod holds, and its being told when they change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::objects::{Held, Objects};

/// What a pod holds. Dropping it lets go of all.
pub struct Uses {
    namespace: String,
    /// Notified after a change of an object that a volume shows.
    pub changed: Arc<Notify>,
    tasks: TaskTracker,
    until: CancellationToken,
    held: Mutex<HeldMaps>,
}

#[derive(Default)]
struct HeldMaps {
    config_maps: HashMap<String, Held<ConfigMap>>,
    secrets: HashMap<String, Held<Secret>>,
}

impl Uses {
    /// For a pod in `namespace`; listening ends with `until`.
    pub fn new(namespace: &str, tasks: TaskTracker, until: CancellationToken) -> Self {
        Self { namespace: namespace.into(), changed: Arc::new(Notify::new()), tasks, until, held: Mutex::default() }
    }

    /// A ConfigMap, held from now on; `None` if it does not exist.
    pub async fn config_map(&self, objects: &Objects, name: &str) -> Option<Arc<ConfigMap>> {
        let held = {
            let mut maps = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            match maps.config_maps.get(name) {
                Some(held) => held.clone(),
                None => {
                    let held = objects.config_map(&self.namespace, name);
                    self.tasks.spawn(held.clone().tell(Arc::clone(&self.changed), self.until.clone()));
                    maps.config_maps.insert(name.to_string(), held.clone());
                    held
                }
            }
        };
        held.get().await
    }

    /// A Secret, held from now on; `None` if it does not exist.
    pub async fn secret(&self, objects: &Objects, name: &str) -> Option<Arc<Secret>> {
        let held = {
            let mut maps = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            match maps.secrets.get(name) {
                Some(held) => held.clone(),
                None => {
                    let held = objects.secret(&self.namespace, name);
                    self.tasks.spawn(held.clone().tell(Arc::clone(&self.changed), self.until.clone()));
                    maps.secrets.insert(name.to_string(), held.clone());
                    held
                }
            }
        };
        held.get().await
    }
}
