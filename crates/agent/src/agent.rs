//! The agent of a node: puts its parts together, and gives each pod its worker.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use mizzen_client::{Api, Client, Reflector, Selection};
use mizzen_runtime::driver::{Driver, DriverError, DriverEvent, Sandbox};
use mizzen_runtime::images::ImageService;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, PODS};
use crate::context::Context;
use crate::devices::{self, Devices};
use crate::events::Events;
use crate::eviction::{self, Eviction};
use crate::kubelet::rotate;
use crate::network::{Network, NetworkError};
use crate::node::capacity::Capacity;
use crate::node::{garbage, lease, registration};
use crate::objects::Objects;
use crate::pod::grant::{self, Pending};
use crate::pod::id_ranges::IdRanges;
use crate::pod::mailbox::Mailbox;
use crate::pod::observed::Doom;
use crate::pod::worker::Worker;
use crate::pod::{admit, execute, reports, status};
use crate::services::view::{self, ServiceEnv};
use crate::volume;

/// Evictions on their way to their pods; who evicts waits for room.
const EVICTIONS: usize = 16;

/// Why an agent could not begin.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// What runs cannot be found out.
    #[error("find running pods")]
    Adopt(#[from] DriverError),
    /// Their network cannot be taken over.
    #[error("take over the pods' network")]
    Network(#[from] NetworkError),
    /// The data directory cannot be used.
    #[error("prepare {path}")]
    DataDir {
        /// Which.
        path: std::path::PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The kubelet endpoint cannot be served.
    #[error("serve the kubelet endpoint")]
    Kubelet(#[from] crate::kubelet::KubeletError),
}

/// An agent, ready to run.
pub struct Agent {
    ctx: Arc<Context>,
    api: Arc<dyn Api>,
    services: Reflector<Service>,
    tasks: TaskTracker,
    /// Ends the agent's parts; set by [`Agent::run`]'s own token.
    stop: CancellationToken,
}

impl Agent {
    /// An agent over these parts. Its watches begin at once, so that they are complete when it runs; must be called
    /// within a tokio runtime.
    pub fn new(
        config: Config,
        api: Arc<dyn Api>,
        driver: Arc<dyn Driver>,
        images: Arc<dyn ImageService>,
        network: Arc<dyn Network>,
    ) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let client = Client::new(Arc::clone(&api));
        let (events, send) = Events::new(client.clone(), config.node_name.clone(), stop.clone());
        tasks.spawn(send);
        let fields = format!("metadata.name={}", config.node_name);
        let own = Selection { fields, ..Selection::default() };
        let (node, feed) = Reflector::<Node>::new(Arc::clone(&api), own, stop.clone());
        tasks.spawn(feed);
        let (services, feed) = Reflector::<Service>::new(Arc::clone(&api), Selection::default(), stop.clone());
        tasks.spawn(feed);
        let ctx = Arc::new(Context {
            objects: Objects::new(Arc::clone(&api), tasks.clone(), stop.clone()),
            id_ranges: IdRanges::new(config.data_dir.join(PODS)),
            devices: Arc::new(Devices::new(devices::directory(&config.data_dir))),
            capacity: Capacity::read(&config),
            pressure: watch::Sender::default(),
            service_env: ServiceEnv::new(services.clone()),
            client,
            driver,
            images,
            network,
            events,
            node,
            config,
        });
        Self { ctx, api, services, tasks, stop }
    }

    /// What the parts share; the console and metrics read it.
    pub fn context(&self) -> &Arc<Context> {
        &self.ctx
    }

    /// Runs until `shutdown`; what runs on the node then goes on without it.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), AgentError> {
        let stop = self.stop.clone();
        // Every way out ends the parts.
        let _guard = stop.clone().drop_guard();
        let result = tokio::select! {
            result = self.work() => result,
            () = shutdown.cancelled() => Ok(()),
        };
        stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        result
    }

    async fn work(&self) -> Result<(), AgentError> {
        let (ctx, stop) = (&self.ctx, &self.stop);
        let data_dir = &ctx.config.data_dir;
        volume::prepare_volatile(data_dir).map_err(|source| AgentError::DataDir { path: data_dir.clone(), source })?;
        ctx.devices
            .serve(&self.tasks, stop)
            .map_err(|source| AgentError::DataDir { path: devices::directory(data_dir), source })?;
        let events = ctx.driver.events();
        let adopted = adopt(ctx).await?;
        let selection = Selection { fields: format!("spec.nodeName={}", ctx.config.node_name), ..Selection::default() };
        let (pods, feed) = Reflector::<Pod>::new(Arc::clone(&self.api), selection, stop.clone());
        self.tasks.spawn(feed);
        let (slices, feed) = Reflector::<EndpointSlice>::new(Arc::clone(&self.api), Selection::default(), stop.clone());
        self.tasks.spawn(feed);
        crate::kubelet::serve(ctx, &pods, &self.tasks, stop).await?;
        let Some(node) = registration::register(ctx, stop).await else { return Ok(()) };
        let uid = node.metadata.uid.clone().unwrap_or_default();
        let config = &ctx.config;
        self.tasks.spawn(lease::run(
            ctx.client.clone(),
            config.node_name.clone(),
            uid,
            config.lease_interval,
            stop.clone(),
        ));
        self.tasks.spawn(registration::run(Arc::clone(ctx), stop.clone()));
        self.tasks.spawn(garbage::run(Arc::clone(ctx), pods.clone(), stop.clone()));
        self.tasks.spawn(volume::local::run(Arc::clone(ctx), Arc::clone(&self.api), stop.clone()));
        let (logged, directories) = (pods.clone(), Arc::clone(ctx));
        let log_dirs = move || -> Vec<(String, std::path::PathBuf)> {
            let of = |((namespace, name), pod): (&(Arc<str>, Arc<str>), &Arc<Pod>)| {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                let directory = directories.config.log_dir(namespace, name, &uid);
                (uid, directory)
            };
            logged.objects().iter().map(of).collect()
        };
        self.tasks.spawn(rotate::run(Arc::clone(ctx), log_dirs, stop.clone()));
        let (evict, evictions) = mpsc::channel(EVICTIONS);
        self.tasks.spawn(eviction::watch::run(Arc::clone(ctx), pods.clone(), evict, stop.clone()));
        let inputs = view::Inputs { services: self.services.clone(), slices, pods: pods.clone() };
        self.tasks.spawn(view::run(Arc::clone(ctx), inputs, stop.clone()));
        // Services must be known before a container's environment is made.
        if !pods.synced().await || !self.services.synced().await {
            return Ok(());
        }
        let mut manager = Manager {
            ctx: Arc::clone(ctx),
            workers: HashMap::new(),
            running: JoinSet::new(),
            waiting: false,
            tasks: self.tasks.clone(),
            stop: stop.clone(),
        };
        manager.run(pods, adopted, events, evictions).await;
        Ok(())
    }
}

/// What runs already, by pod uid, with its addresses.
async fn adopt(ctx: &Context) -> Result<BTreeMap<String, (Sandbox, Vec<IpAddr>)>, AgentError> {
    let sandboxes = ctx.driver.adopt().await?;
    let uids: Vec<String> =
        sandboxes.iter().filter(|s| s.network_namespace.is_some()).map(|s| s.spec.uid.clone()).collect();
    let mut addresses = ctx.network.adopt(&uids).await?;
    let host = &ctx.config.addresses;
    let with_ips = |sandbox: Sandbox| {
        let uid = sandbox.spec.uid.clone();
        let ips =
            if sandbox.network_namespace.is_some() { addresses.remove(&uid).unwrap_or_default() } else { host.clone() };
        (uid, (sandbox, ips))
    };
    Ok(sandboxes.into_iter().map(with_ips).collect())
}

struct Handle {
    mailbox: Mailbox,
    /// As the API has it.
    pod: Arc<Pod>,
    /// With the resources that it was granted; the same object unless a resize waits.
    granted: Arc<Pod>,
    /// The resize that waits, and since when.
    pending: Option<(Timestamp, Option<Pending>)>,
    /// It was turned away; it takes nothing of the node.
    rejected: bool,
    /// Its worker is done, but the API may still show it for a moment.
    ended: bool,
    /// The API no longer shows it; its worker is taking it down.
    gone: bool,
}

impl Handle {
    /// It takes something of the node.
    fn active(&self) -> bool {
        !self.rejected && !self.ended && !status::is_terminal(self.pod.status.as_ref().and_then(|s| s.phase.as_deref()))
    }

    /// Tells the worker of a new state of the pod. What it asks for anew it does not have yet.
    fn follow(&mut self) {
        let was_pending = self.pending.is_some();
        if grant::is_granted(&self.pod, &self.granted) {
            (self.granted, self.pending) = (Arc::clone(&self.pod), None);
        } else {
            self.granted = grant::with_granted(&self.pod, &self.granted);
            self.pending.get_or_insert_with(|| (Timestamp::now(), None));
        }
        self.mailbox.put(|letters| {
            letters.pod = Some(Arc::clone(&self.granted));
            if was_pending && self.pending.is_none() {
                letters.pending_resize = Some(None);
            }
        });
    }

    /// The node's answer to a resize; `true` if it says something new.
    fn answer(&mut self, answer: Result<(), Pending>) -> bool {
        let new = self.pending.as_ref().and_then(|(_, told)| told.as_ref()) != answer.as_ref().err();
        match answer {
            Ok(()) => {
                (self.granted, self.pending) = (Arc::clone(&self.pod), None);
                self.mailbox.put(|letters| {
                    letters.pod = Some(Arc::clone(&self.granted));
                    letters.pending_resize = Some(None);
                });
            }
            Err(pending) if new => {
                if let Some((_, told)) = &mut self.pending {
                    *told = Some(pending.clone());
                }
                self.mailbox.put(|letters| letters.pending_resize = Some(Some(pending)));
            }
            Err(_) => {}
        }
        new
    }

    /// What it takes will soon be free.
    fn leaving(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }
}

/// Whether there is room for a pod.
enum Admission {
    Yes,
    /// Once those have ended that are on their way out.
    Later,
    No(Doom),
}

/// How a worker ended.
struct End {
    uid: String,
    crashed: bool,
}

/// Gives each pod its worker and the workers their mail.
struct Manager {
    ctx: Arc<Context>,
    workers: HashMap<String, Handle>,
    running: JoinSet<End>,
    /// A pod waits for the room of another that is on its way out.
    waiting: bool,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Manager {
    async fn run(
        &mut self,
        pods: Reflector<Pod>,
        mut adopted: BTreeMap<String, (Sandbox, Vec<IpAddr>)>,
        mut events: mpsc::Receiver<DriverEvent>,
        mut evictions: mpsc::Receiver<Eviction>,
    ) {
        let mut changes = pods.changes();
        self.sync(&pods, &mut adopted);
        self.remove_orphans(std::mem::take(&mut adopted));
        let mut driver_alive = true;
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => self.sync(&pods, &mut adopted),
                    Err(_) => return,
                },
                event = events.recv(), if driver_alive => match event {
                    Some(event) => self.deliver(&event),
                    None => driver_alive = false,
                },
                Some(Eviction { uid, doom }) = evictions.recv() => if let Some(handle) = self.workers.get(&uid) {
                    handle.mailbox.put(|letters| letters.doom = Some(doom));
                },
                Some(ended) = self.running.join_next(), if !self.running.is_empty() => match ended {
                    Ok(End { uid, crashed: false }) => {
                        self.ended(&uid, &pods);
                        if std::mem::take(&mut self.waiting) {
                            self.sync(&pods, &mut adopted);
                        } else {
                            self.grant_resizes();
                        }
                    }
                    Ok(End { uid, crashed: true }) => {
                        tracing::error!(pod = uid, "a pod's worker panicked; the pod is started anew");
                        self.workers.remove(&uid);
                        self.sync(&pods, &mut adopted);
                    }
                    Err(error) => tracing::error!(%error, "a pod's worker was lost"),
                },
                () = self.stop.cancelled() => {
                    while self.running.join_next().await.is_some() {}
                    return;
                }
            }
        }
    }

    /// A pod is done with; its handle stays until the API no longer shows it, lest it be begun again.
    fn ended(&mut self, uid: &str, pods: &Reflector<Pod>) {
        let shown = pods.objects().values().any(|p| p.metadata.uid.as_deref() == Some(uid));
        match self.workers.get_mut(uid) {
            Some(handle) if shown => handle.ended = true,
            _ => drop(self.workers.remove(uid)),
        }
    }

    fn deliver(&self, event: &DriverEvent) {
        let (uid, lost) = match event {
            DriverEvent::Container { pod_uid } => (pod_uid, false),
            DriverEvent::SandboxLost { pod_uid } => (pod_uid, true),
        };
        if let Some(handle) = self.workers.get(uid) {
            handle.mailbox.put(|letters| {
                letters.look |= !lost;
                letters.lost |= lost;
            });
        }
    }

    /// Brings the workers in line with the pods of the node.
    fn sync(&mut self, pods: &Reflector<Pod>, adopted: &mut BTreeMap<String, (Sandbox, Vec<IpAddr>)>) {
        let objects = pods.objects();
        let mut fresh: Vec<&Arc<Pod>> = Vec::new();
        let mut seen: HashSet<&str> = HashSet::new();
        for pod in objects.values() {
            let Some(uid) = pod.metadata.uid.as_deref() else { continue };
            seen.insert(uid);
            match self.workers.get_mut(uid) {
                Some(handle) if Arc::ptr_eq(&handle.pod, pod) => {}
                Some(handle) => {
                    handle.pod = Arc::clone(pod);
                    handle.follow();
                }
                None => fresh.push(pod),
            }
        }
        self.workers.retain(|uid, handle| {
            let gone = !seen.contains(uid.as_str());
            if gone {
                handle.gone = true;
                handle.mailbox.put(|letters| letters.gone = true);
            }
            !(gone && handle.ended)
        });
        // Those that were there first have the first claim.
        fresh.sort_by(|a, b| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp));
        for pod in fresh {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let sandbox = adopted.remove(&uid);
            self.start(uid, pod, sandbox);
        }
        self.grant_resizes();
    }

    /// Grants the resizes that there is room for.
    fn grant_resizes(&mut self) {
        let mut waiting: Vec<(&str, &Handle, Timestamp)> = Vec::new();
        for (uid, handle) in &self.workers {
            if let Some((since, _)) = &handle.pending
                && handle.active()
            {
                waiting.push((uid, handle, *since));
            }
        }
        waiting.sort_by(|(_, a, a_since), (_, b, b_since)| {
            grant::order((&*a.pod, &*a.granted, *a_since), (&*b.pod, &*b.granted, *b_since))
        });
        let uids: Vec<String> = waiting.into_iter().map(|(uid, ..)| uid.to_string()).collect();
        for uid in uids {
            let others =
                self.workers.iter().filter(|(other, h)| **other != uid && h.active()).map(|(_, h)| &*h.granted);
            let Some(handle) = self.workers.get(&uid) else { continue };
            let answer = grant::check(&handle.pod, others, &self.ctx.capacity.allocatable);
            let pod = Arc::clone(&handle.pod);
            let told = self.workers.get_mut(&uid).is_some_and(|handle| handle.answer(answer.clone()));
            match answer {
                Ok(()) => reports::resize(&self.ctx, &pod, "ResizeStarted", ""),
                Err(pending) if told => {
                    reports::resize(&self.ctx, &pod, &format!("Resize{}", pending.reason), &pending.message);
                }
                Err(_) => {}
            }
        }
    }

    fn start(&mut self, uid: String, pod: &Arc<Pod>, sandbox: Option<(Sandbox, Vec<IpAddr>)>) {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        let known = sandbox.is_some()
            || status::is_terminal(phase)
            || pod.status.as_ref().is_some_and(|s| s.start_time.is_some());
        let doom = match if known { Admission::Yes } else { self.admit(pod) } {
            Admission::Yes => None,
            Admission::No(doom) => Some(doom),
            Admission::Later => {
                self.waiting = true;
                return; // It is fresh again at the next look, which the next end of a worker brings.
            }
        };
        let mailbox = Mailbox::default();
        let rejected = doom.is_some();
        let before = if known { grant::from_status(pod) } else { None };
        let pending = before.is_some().then(|| (Timestamp::now(), None));
        let granted = before.unwrap_or_else(|| Arc::clone(pod));
        let (ctx, view) = (Arc::clone(&self.ctx), Arc::clone(&granted));
        let worker = Worker::new(ctx, view, mailbox.clone(), sandbox, doom, self.tasks.clone());
        let (stop, ends, ctx) = (self.stop.clone(), uid.clone(), Arc::clone(&self.ctx));
        self.running.spawn(async move {
            let crashed = AssertUnwindSafe(worker.run(stop)).catch_unwind().await.is_err();
            if crashed && let Err(message) = execute::tear_down_pod(&ctx, &ends).await {
                tracing::warn!(pod = ends, message, "what a panicked worker left could not be removed");
            }
            End { uid: ends, crashed }
        });
        let pod = Arc::clone(pod);
        self.workers.insert(uid, Handle { mailbox, pod, granted, pending, rejected, ended: false, gone: false });
    }

    fn admit(&self, pod: &Arc<Pod>) -> Admission {
        let node = self.ctx.node.get("", &self.ctx.config.node_name);
        let offer = admit::Offer {
            allocatable: &self.ctx.capacity.allocatable,
            labels: node.as_ref().and_then(|n| n.metadata.labels.as_ref()),
            pressure: *self.ctx.pressure.borrow(),
        };
        let beside = |counts: fn(&Handle) -> bool| {
            let others: Vec<&Pod> = self.workers.values().filter(|h| counts(h)).map(|h| &*h.granted).collect();
            admit::check(pod, others.iter().copied(), &offer)
        };
        let Err(rejection) = beside(Handle::active) else { return Admission::Yes };
        if beside(|h| h.active() && !h.leaving()).is_ok() {
            return Admission::Later;
        }
        reports::rejected(&self.ctx, pod, &rejection.reason, &rejection.message);
        Admission::No(Doom {
            message: format!("Pod was rejected: {}", rejection.message),
            reason: rejection.reason,
            rejected: true,
            grace_seconds: 0,
            at: Timestamp::now(),
            disruption: false,
        })
    }

    /// Takes down what runs for pods that no longer exist.
    fn remove_orphans(&self, orphans: BTreeMap<String, (Sandbox, Vec<IpAddr>)>) {
        for uid in orphans.into_keys() {
            let ctx = Arc::clone(&self.ctx);
            self.tasks.spawn(async move {
                tracing::info!(pod = uid, "removing a sandbox whose pod is gone");
                if let Err(message) = execute::tear_down_pod(&ctx, &uid).await {
                    tracing::warn!(pod = uid, message, "an orphaned sandbox could not be removed");
                }
            });
        }
    }
}
