//! Devices that plugins offer to containers as extended resources (the kubelet's device plugin protocol).
//!
//! A plugin registers at `kubelet.sock` in the directory of plugins, lists its devices for as long as it lives, and is asked
//! before a container gets some. What plugins there are and what was given is kept in a file beside: an agent that starts
//! anew talks to the plugins it knows, and gives nothing twice.

pub mod cdi;
pub mod plugin;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pod::roles::{self, Role};
use crate::quantity::units;
use crate::rpc::client::Connection;
use crate::rpc::wire::Message;
use crate::rpc::{RpcError, server};
use plugin::{Allotment, Options};

/// The socket that plugins register at.
const SOCKET: &str = "kubelet.sock";
/// What is kept on disk.
const FILE: &str = "mizzen-devices.json";
/// Waits before a known plugin that does not answer is tried again, and how often.
const RETRIES: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5)];
/// Resources that plugins may register.
const MAX_RESOURCES: usize = 256;

/// A container cannot have its devices.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// There are too few.
    #[error(
        "Allocate failed due to requested number of devices unavailable for {resource}. Requested: {wanted}, Available: {free}"
    )]
    TooFew {
        /// The resource.
        resource: String,
        /// How many the container asks for.
        wanted: usize,
        /// How many are healthy and free.
        free: usize,
    },
    /// The plugin does not give them.
    #[error("Allocate failed due to the plugin of {resource}")]
    Plugin {
        /// The resource.
        resource: String,
        /// The cause.
        #[source]
        source: RpcError,
    },
    /// A device that is described elsewhere.
    #[error(transparent)]
    Cdi(#[from] cdi::CdiError),
}

/// The devices of a node.
#[derive(Debug)]
pub struct Devices {
    directory: PathBuf,
    state: Mutex<State>,
    /// Notified when what there is changed.
    pub changed: Notify,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    plugins: BTreeMap<String, Plugin>,
    /// By pod uid, container and resource.
    given: BTreeMap<String, BTreeMap<String, BTreeMap<String, Given>>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Plugin {
    endpoint: String,
    pre_start: bool,
    preferred: bool,
    /// Healthy or not, by id.
    devices: BTreeMap<String, bool>,
    /// Counts registrations: what an earlier one says is void.
    #[serde(skip)]
    registration: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Given {
    ids: Vec<String>,
    allotment: Allotment,
}

impl State {
    fn in_use(&self, resource: &str, except: impl Fn(&str, &str) -> bool) -> BTreeSet<&str> {
        let mut used = BTreeSet::new();
        for (pod, containers) in &self.given {
            for (_, resources) in containers.iter().filter(|(container, _)| !except(pod, container)) {
                used.extend(resources.get(resource).into_iter().flat_map(|g| &g.ids).map(String::as_str));
            }
        }
        used
    }
}

impl Devices {
    /// Those of the plugins whose sockets lie in `directory`.
    pub fn new(directory: PathBuf) -> Self {
        let read = match std::fs::read(directory.join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(error),
        };
        let mut state = read.unwrap_or_else(|error| {
            let directory = directory.display();
            tracing::warn!(%error, %directory, "which devices were given cannot be read: running containers may lose theirs to others");
            State::default()
        });
        // None is healthy until its plugin says so.
        state.plugins.values_mut().flat_map(|p| p.devices.values_mut()).for_each(|healthy| *healthy = false);
        Self { directory, state: Mutex::new(state), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens for plugins, and talks to those that are known.
    ///
    /// # Errors
    /// The directory or socket cannot be made.
    pub fn serve(self: &Arc<Self>, tasks: &TaskTracker, stop: &CancellationToken) -> io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        let listener = server::listen(&self.directory.join(SOCKET))?;
        let known: Vec<(String, u64)> =
            self.lock().plugins.iter().map(|(name, p)| (name.clone(), p.registration)).collect();
        for (resource, registration) in known {
            tasks.spawn(Arc::clone(self).follow(resource, registration, stop.clone()));
        }
        let (devices, spawn, until) = (Arc::clone(self), tasks.clone(), stop.clone());
        let handler = move |method: String, body: Bytes| -> futures_util::future::BoxFuture<'static, _> {
            let result = devices.register(&method, &body).map(|(resource, registration)| {
                spawn.spawn(Arc::clone(&devices).follow(resource, registration, until.clone()));
                Message::default()
            });
            Box::pin(std::future::ready(result))
        };
        tasks.spawn(server::run(listener, Arc::new(handler), stop.clone()));
        Ok(())
    }

    fn register(&self, method: &str, body: &[u8]) -> Result<(String, u64), (u32, String)> {
        if method != "v1beta1.Registration/Register" {
            return Err((12, format!("unknown method {method}")));
        }
        let asked = plugin::registration(body).map_err(|e| (3, e.to_string()))?;
        let refuse = |why: &str| Err((3, format!("{}: {why}", asked.resource)));
        if asked.version != plugin::VERSION {
            return refuse("only v1beta1 is supported");
        }
        let extended = asked.resource.split_once('/').is_some_and(|(domain, name)| {
            !name.is_empty() && domain.contains('.') && !domain.ends_with("kubernetes.io")
        });
        if !extended {
            return refuse("it is not the name of an extended resource");
        }
        if asked.endpoint.is_empty() || asked.endpoint.contains('/') {
            return refuse("its endpoint is not the name of a socket in the directory of plugins");
        }
        let mut state = self.lock();
        if state.plugins.len() >= MAX_RESOURCES && !state.plugins.contains_key(&asked.resource) {
            return refuse("there are too many resources");
        }
        let before = state.plugins.remove(&asked.resource);
        let registration = before.as_ref().map_or(1, |p| p.registration + 1);
        let Options { pre_start, preferred } = asked.options;
        let devices = before.map(|p| p.devices).unwrap_or_default();
        let plugin = Plugin { endpoint: asked.endpoint, pre_start, preferred, devices, registration };
        tracing::info!(resource = asked.resource, "a device plugin registered");
        state.plugins.insert(asked.resource.clone(), plugin);
        self.keep(&state);
        Ok((asked.resource, registration))
    }

    /// Takes in what a plugin says about its devices, until it is gone.
    async fn follow(self: Arc<Self>, resource: String, registration: u64, stop: CancellationToken) {
        let follow = async {
            for wait in RETRIES {
                match self.listen(&resource, registration).await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::info!(
                            resource,
                            error = &error as &dyn std::error::Error,
                            "a device plugin is not there"
                        );
                    }
                }
                tokio::time::sleep(wait).await;
            }
        };
        tokio::select! {
            () = follow => {}
            () = stop.cancelled() => return,
        }
        self.update(&resource, registration, None);
    }

    async fn listen(&self, resource: &str, registration: u64) -> Result<(), RpcError> {
        let Some(socket) = self.socket(resource) else { return Ok(()) };
        let connection = Connection::open(&socket).await?;
        let mut lists = plugin::watch(&connection).await?;
        // From here on it was there: its end is its end, and it registers anew when it comes back.
        while let Ok(Some(list)) = lists.next().await {
            let Ok(devices) = plugin::devices(&list) else { break };
            if !self.update(resource, registration, Some(devices)) {
                break;
            }
        }
        Ok(())
    }

    fn socket(&self, resource: &str) -> Option<PathBuf> {
        self.lock().plugins.get(resource).map(|p| self.directory.join(&p.endpoint))
    }

    /// New devices of a plugin; `None`: it is gone, and none of them is healthy. `false`: another registered meanwhile.
    fn update(&self, resource: &str, registration: u64, devices: Option<BTreeMap<String, bool>>) -> bool {
        let mut state = self.lock();
        let Some(plugin) = state.plugins.get_mut(resource).filter(|p| p.registration == registration) else {
            return false;
        };
        match devices {
            Some(devices) => plugin.devices = devices,
            None => plugin.devices.values_mut().for_each(|healthy| *healthy = false),
        }
        drop(state);
        self.changed.notify_one();
        true
    }

    /// How many devices there are of each resource, and how many are healthy.
    pub fn counts(&self) -> Vec<(String, usize, usize)> {
        let of = |(name, plugin): (&String, &Plugin)| {
            (name.clone(), plugin.devices.len(), plugin.devices.values().filter(|healthy| **healthy).count())
        };
        self.lock().plugins.iter().map(of).collect()
    }

    /// Gives a container the devices it asks for; the same ones when it starts again.
    ///
    /// # Errors
    /// There are too few, or a plugin refuses.
    pub async fn allot(&self, pod: &Pod, container: &Container) -> Result<Allotment, DeviceError> {
        let mut all = Allotment::default();
        let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
        for (resource, amount) in limits.into_iter().flatten().filter(|(name, _)| name.contains('/')) {
            let wanted = units(amount).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            if wanted > 0 {
                all.extend(self.allot_one(pod, container, resource, wanted).await?);
            }
        }
        let directories: Vec<PathBuf> = cdi::DIRECTORIES.iter().map(PathBuf::from).collect();
        let described = cdi::resolve(&directories, &all.cdi)?;
        all.extend(described);
        Ok(all)
    }

    async fn allot_one(
        &self,
        pod: &Pod,
        container: &Container,
        resource: &str,
        wanted: usize,
    ) -> Result<Allotment, DeviceError> {
        let Some(socket) = self.socket(resource) else {
            return Ok(Allotment::default()); // A resource that somebody wrote into the node's status.
        };
        let failed = |source| DeviceError::Plugin { resource: resource.to_string(), source };
        let given = match self.has(pod, container, resource).filter(|g| g.ids.len() == wanted) {
            Some(given) => given,
            None => {
                let prefer = self.lock().plugins.get(resource).is_some_and(|p| p.preferred);
                let preference = match prefer.then(|| self.free(pod, resource)) {
                    Some(free) if free.len() >= wanted => {
                        plugin::preferred(&socket, &free, &[], wanted).await.map_err(failed)?
                    }
                    _ => Vec::new(),
                };
                let ids = self.reserve(pod, container, resource, wanted, &preference)?;
                match plugin::allocate(&socket, &ids).await {
                    Ok(allotment) => {
                        let given = Given { ids, allotment };
                        self.write(pod, container, resource, Some(given.clone()));
                        given
                    }
                    Err(source) => {
                        self.write(pod, container, resource, None);
                        return Err(failed(source));
                    }
                }
            }
        };
        if self.lock().plugins.get(resource).is_some_and(|p| p.pre_start) {
            plugin::pre_start(&socket, &given.ids).await.map_err(failed)?;
        }
        Ok(given.allotment)
    }

    fn has(&self, pod: &Pod, container: &Container, resource: &str) -> Option<Given> {
        self.lock().given.get(uid(pod))?.get(&container.name)?.get(resource).cloned()
    }

    /// Healthy devices that nobody has but init containers of this very pod, which are done.
    fn free(&self, pod: &Pod, resource: &str) -> Vec<String> {
        free(&self.lock(), pod, resource)
    }

    fn reserve(
        &self,
        pod: &Pod,
        container: &Container,
        resource: &str,
        wanted: usize,
        preference: &[String],
    ) -> Result<Vec<String>, DeviceError> {
        let mut state = self.lock();
        let free = free(&state, pod, resource);
        if free.len() < wanted {
            return Err(DeviceError::TooFew { resource: resource.to_string(), wanted, free: free.len() });
        }
        let liked = preference.iter().filter(|id| free.contains(id));
        let mut ids: Vec<String> = Vec::new();
        for id in liked.chain(&free) {
            if ids.len() < wanted && !ids.contains(id) {
                ids.push(id.clone());
            }
        }
        let given = Given { ids: ids.clone(), allotment: Allotment::default() };
        place(&mut state, pod, container).insert(resource.to_string(), given);
        Ok(ids)
    }

    fn write(&self, pod: &Pod, container: &Container, resource: &str, given: Option<Given>) {
        let mut state = self.lock();
        let place = place(&mut state, pod, container);
        match given {
            Some(given) => drop(place.insert(resource.to_string(), given)),
            None => drop(place.remove(resource)),
        }
        self.keep(&state);
    }

    /// The pod is gone from the node.
    pub fn release(&self, pod_uid: &str) {
        let mut state = self.lock();
        if state.given.remove(pod_uid).is_some() {
            self.keep(&state);
        }
    }

    /// Writes the state to disk, whole or not at all.
    fn keep(&self, state: &State) {
        let write = || -> io::Result<()> {
            let (new, file) = (self.directory.join(format!("{FILE}.new")), self.directory.join(FILE));
            std::fs::write(&new, serde_json::to_vec(state)?)?;
            std::fs::rename(new, file)
        };
        if let Err(error) = write() {
            tracing::warn!(%error, directory = %self.directory.display(), "what devices were given is not kept on disk");
        }
    }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn place<'a>(state: &'a mut State, pod: &Pod, container: &Container) -> &'a mut BTreeMap<String, Given> {
    state.given.entry(uid(pod).to_string()).or_default().entry(container.name.clone()).or_default()
}

fn free(state: &State, pod: &Pod, resource: &str) -> Vec<String> {
    let done = |owner: &str, container: &str| {
        let role = || roles::find(pod.spec.as_ref()?, container).map(|(_, role)| role);
        owner == uid(pod) && role() == Some(Role::Init)
    };
    let used = state.in_use(resource, done);
    let devices = state.plugins.get(resource).into_iter().flat_map(|p| &p.devices);
    devices.filter(|(id, healthy)| **healthy && !used.contains(id.as_str())).map(|(id, _)| id.clone()).collect()
}

/// Where plugins look for the kubelet, and where this node's is.
const KUBELET: &str = "/var/lib/kubelet";

/// A path of the host as pods name it: the kubelet's directory is in this agent's own, `<data-dir>/kubelet`.
pub fn host_path(data_dir: &Path, path: &str) -> PathBuf {
    match Path::new(path).strip_prefix(KUBELET) {
        Ok(rest) if !rest.as_os_str().is_empty() => data_dir.join("kubelet").join(rest),
        Ok(_) => data_dir.join("kubelet"),
        Err(_) => PathBuf::from(path),
    }
}

/// The directory of plugins below an agent's data directory.
pub fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("kubelet/device-plugins")
}
