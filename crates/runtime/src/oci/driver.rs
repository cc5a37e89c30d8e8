//! The calls of [`Driver`], each a request to the pod's shim.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::link::{Answered, Link, Peer};
use super::{Inner, Oci, clean, lock, spawn};
use crate::driver::{Container, Driver, DriverError, DriverEvent, Exec, ExecSpec, Sandbox, Streams, Usage};
use crate::protocol::{Answer, Call, Description, StreamSet};
use crate::spec::{ContainerSpec, MountSource, PodSpec, Resources};

/// How long a shim may take to end its containers before it is killed itself.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(10);

type Outcome<'a, T> = BoxFuture<'a, Result<T, DriverError>>;

impl Inner {
    fn directory(&self, pod_uid: &str) -> Result<PathBuf, DriverError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if pod_uid.is_empty() || pod_uid.len() > 128 || pod_uid.starts_with('.') || !pod_uid.bytes().all(plain) {
            return Err(DriverError::Create {
                step: format!("name the sandbox {pod_uid:?}"),
                message: "the uid may hold letters, digits, '-', '_' and '.' only".to_owned(),
            });
        }
        Ok(self.config.run_directory.join(pod_uid))
    }

    fn link(&self, pod_uid: &str) -> Result<Arc<Link>, DriverError> {
        let link = lock(&self.links).get(pod_uid).cloned();
        link.filter(|link| !link.is_closed()).ok_or_else(|| DriverError::NoSandbox { pod_uid: pod_uid.to_owned() })
    }

    /// Asks the pod's shim and expects no more than "done".
    async fn tell(&self, pod_uid: &str, call: Call) -> Result<(), DriverError> {
        self.link(pod_uid)?.call(call).await.map(drop)
    }

    /// Connects to a shim that runs. `None`: there is none, and what it left may be taken away.
    async fn adopt_one(&self, pod_uid: &str, directory: PathBuf) -> Result<Option<Sandbox>, DriverError> {
        let shim = |message: String| DriverError::Shim { pod_uid: pod_uid.to_owned(), message };
        let connected = blocking(move || match spawn::connect(&directory) {
            // No socket, or nobody behind it. Any other error says nothing about the shim.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) => Err(error),
            Ok((socket, pid)) => Ok(Some((socket, pid, crate::shim::state::read(&directory)?.pod.cgroup))),
        });
        let Some((socket, shim_pid, cgroup)) = connected.await.map_err(|e| shim(e.to_string()))? else {
            return Ok(None);
        };
        let peer = Peer { pod_uid: pod_uid.to_owned(), shim_pid, child: None, cgroups: self.cgroups.clone(), cgroup };
        let link = Link::open(socket, peer, Arc::clone(&self.events)).map_err(|e| shim(e.to_string()))?;
        let description = describe(&link).await?;
        lock(&self.links).insert(pod_uid.to_owned(), link);
        Ok(Some(sandbox_of(description)))
    }

    async fn adopt(&self) -> Result<Vec<Sandbox>, DriverError> {
        let run = self.config.run_directory.clone();
        let directories = blocking(move || clean::pod_directories(&run)).await;
        let directories = directories.map_err(|e| create("find sandboxes", &e))?;
        let mut found = Vec::new();
        for directory in directories {
            let Some(pod_uid) = directory.file_name().and_then(|n| n.to_str()).map(str::to_owned) else {
                continue;
            };
            let known = self.link(&pod_uid).ok();
            let sandbox = match known {
                Some(link) => describe(&link).await.map(sandbox_of).map(Some),
                None => self.adopt_one(&pod_uid, directory.clone()).await,
            };
            match sandbox {
                Ok(Some(sandbox)) => found.push(sandbox),
                Ok(None) => {
                    tracing::info!(pod = %pod_uid, "a sandbox has lost its shim");
                    self.kill_lost(directory).await;
                    self.events.push(DriverEvent::SandboxLost { pod_uid });
                }
                Err(error) => tracing::error!(pod = %pod_uid, %error, "a running shim could not be adopted"),
            }
        }
        Ok(found)
    }

    async fn kill_lost(&self, directory: PathBuf) {
        let cgroups = self.cgroups.clone();
        blocking(move || {
            if let Ok(state) = crate::shim::state::read(&directory)
                && let Err(error) = cgroups.kill(&state.pod.cgroup)
            {
                tracing::warn!(%error, "kill the containers of a lost shim");
            }
        })
        .await;
    }

    async fn start_sandbox(self: Arc<Self>, spec: PodSpec) -> Result<Sandbox, DriverError> {
        let directory = self.directory(&spec.uid)?;
        if let Ok(link) = self.link(&spec.uid) {
            return describe(&link).await.map(sandbox_of);
        }
        if directory.exists()
            && let Some(sandbox) = self.adopt_one(&spec.uid, directory.clone()).await?
        {
            return Ok(sandbox);
        }
        let (inner, place) = (Arc::clone(&self), directory.clone());
        let started = blocking(move || {
            if place.exists() {
                clean::pod(&inner.cgroups, &place)?; // Left by one whose shim is gone.
            }
            clean::make_private(&place)?;
            spawn::start(&inner.config, &inner.program, &place).map_err(super::OciError::on("start a shim in", &place))
        });
        let (child, socket) = started.await.map_err(|e| create("start the sandbox", &e))?;
        let peer = Peer {
            pod_uid: spec.uid.clone(),
            shim_pid: child.id() as i32,
            child: Some(child),
            cgroups: self.cgroups.clone(),
            cgroup: spec.cgroup.clone(),
        };
        let pod_uid = spec.uid.clone();
        let link = Link::open(socket, peer, Arc::clone(&self.events)).map_err(|e| create("connect to the shim", &e))?;
        link.expect_no_news(true); // Until the sandbox stands, its failure is this call's answer alone.
        let call = Call::Init { pod: Box::new(spec), cgroup_root: self.config.cgroup_root.clone() };
        match link.call(call).await {
            Ok(Answered { answer: Answer::Description(description), .. }) => {
                link.expect_no_news(false);
                lock(&self.links).insert(pod_uid, link);
                Ok(sandbox_of(*description))
            }
            Ok(_) => Err(unexpected(&pod_uid)),
            Err(error) => {
                self.end(&pod_uid, Some(link), directory).await?;
                Err(error)
            }
        }
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), DriverError> {
        let directory = self.directory(pod_uid)?;
        let known = lock(&self.links).get(pod_uid).cloned();
        let link = match known {
            Some(link) => Some(link),
            None if directory.exists() => {
                self.adopt_one(pod_uid, directory.clone()).await?.and_then(|_| self.link(pod_uid).ok())
            }
            None => return Ok(()),
        };
        self.end(pod_uid, link, directory).await
    }

    /// Ends a shim, kindly if it can still be talked to, and removes what it leaves.
    async fn end(&self, pod_uid: &str, link: Option<Arc<Link>>, directory: PathBuf) -> Result<(), DriverError> {
        if let Some(link) = link.filter(|link| !link.is_closed()) {
            link.expect_no_news(true);
            let kindly = async {
                if link.call(Call::Shutdown).await.is_ok() {
                    link.ended().await;
                }
            };
            if tokio::time::timeout(SHUTDOWN_WITHIN, kindly).await.is_err() || !link.is_closed() {
                let pid = link.shim_pid;
                blocking(move || clean::kill_shim(pid)).await;
            }
        }
        let (cgroups, place) = (self.cgroups.clone(), directory);
        let removed = blocking(move || clean::pod(&cgroups, &place)).await;
        if let Some(link) = lock(&self.links).remove(pod_uid) {
            link.abort();
        }
        removed.map_err(|e| create("remove the sandbox", &e))
    }

    async fn start_container(&self, pod_uid: &str, spec: ContainerSpec) -> Result<Container, DriverError> {
        let link = self.link(pod_uid)?;
        let layers_of = |image: &str| self.layers.layers(image).map_err(|e| create("find the image's layers", &e));
        let layers = layers_of(&spec.image_id)?;
        let mut image_layers = BTreeMap::new();
        for mount in &spec.mounts {
            if let MountSource::Image { image_id, .. } = &mount.source {
                image_layers.insert(image_id.clone(), layers_of(image_id)?);
            }
        }
        match link.call(Call::Start { spec: Box::new(spec), layers, image_layers }).await?.answer {
            Answer::Started(container) => Ok(*container),
            _ => Err(unexpected(pod_uid)),
        }
    }

    async fn remove_container(&self, pod_uid: &str, id: &str) -> Result<(), DriverError> {
        let directory = self.directory(pod_uid)?;
        self.tell(pod_uid, Call::Remove { container: id.to_owned() }).await?;
        if !crate::shim::calls::is_id(id) {
            return Ok(()); // Never was a container.
        }
        let files = crate::shim::calls::container_directory(&directory, id);
        match blocking(move || std::fs::remove_dir_all(files)).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(create("remove the container's files", &error)),
            _ => Ok(()),
        }
    }

    async fn exec(&self, pod_uid: &str, id: &str, spec: ExecSpec) -> Result<Exec, DriverError> {
        let link = self.link(pod_uid)?;
        let answered = link.call(Call::Exec { container: id.to_owned(), spec }).await?;
        let (Answer::Exec { exec, streams }, Some(exit)) = (answered.answer, answered.exit) else {
            return Err(unexpected(pod_uid));
        };
        let streams = streams_of(streams, answered.fds).ok_or_else(|| unexpected(pod_uid))?;
        Ok(Exec { streams, id: exec, exit })
    }

    async fn attach(&self, pod_uid: &str, id: &str, stdin: bool) -> Result<Streams, DriverError> {
        let answered = self.link(pod_uid)?.call(Call::Attach { container: id.to_owned(), stdin }).await?;
        match answered.answer {
            Answer::Attached { streams } => streams_of(streams, answered.fds).ok_or_else(|| unexpected(pod_uid)),
            _ => Err(unexpected(pod_uid)),
        }
    }

    async fn usage(&self, pod_uid: &str, id: Option<&str>) -> Result<Usage, DriverError> {
        let link = self.link(pod_uid)?;
        let path = id.map_or_else(|| link.cgroup.clone(), |id| format!("{}/{id}", link.cgroup));
        let cgroups = self.cgroups.clone();
        let missing = |_| DriverError::NoContainer { id: id.unwrap_or(pod_uid).to_owned() };
        blocking(move || cgroups.usage(&path)).await.map_err(missing)
    }
}

impl Driver for Oci {
    fn adopt(&self) -> Outcome<'_, Vec<Sandbox>> {
        self.inner.adopt().boxed()
    }

    fn events(&self) -> mpsc::Receiver<DriverEvent> {
        self.inner.events.listen()
    }

    fn start_sandbox(&self, spec: PodSpec) -> Outcome<'_, Sandbox> {
        Arc::clone(&self.inner).start_sandbox(spec).boxed()
    }

    fn sandbox<'a>(&'a self, pod_uid: &'a str) -> Outcome<'a, Sandbox> {
        async move { describe(&*self.inner.link(pod_uid)?).await.map(sandbox_of) }.boxed()
    }

    fn remove_sandbox<'a>(&'a self, pod_uid: &'a str) -> Outcome<'a, ()> {
        self.inner.remove_sandbox(pod_uid).boxed()
    }

    fn start_container<'a>(&'a self, pod_uid: &'a str, spec: ContainerSpec) -> Outcome<'a, Container> {
        self.inner.start_container(pod_uid, spec).boxed()
    }

    fn signal<'a>(&'a self, pod_uid: &'a str, id: &'a str, signal: i32) -> Outcome<'a, ()> {
        self.inner.tell(pod_uid, Call::Signal { container: id.to_owned(), signal }).boxed()
    }

    fn kill<'a>(&'a self, pod_uid: &'a str, id: &'a str) -> Outcome<'a, ()> {
        self.inner.tell(pod_uid, Call::Kill { container: id.to_owned() }).boxed()
    }

    fn remove_container<'a>(&'a self, pod_uid: &'a str, id: &'a str) -> Outcome<'a, ()> {
        self.inner.remove_container(pod_uid, id).boxed()
    }

    fn update<'a>(&'a self, pod_uid: &'a str, id: Option<&'a str>, resources: Resources) -> Outcome<'a, ()> {
        self.inner.tell(pod_uid, Call::Update { container: id.map(str::to_owned), resources }).boxed()
    }

    fn exec<'a>(&'a self, pod_uid: &'a str, id: &'a str, spec: ExecSpec) -> Outcome<'a, Exec> {
        self.inner.exec(pod_uid, id, spec).boxed()
    }

    fn kill_exec<'a>(&'a self, pod_uid: &'a str, exec_id: &'a str) -> Outcome<'a, ()> {
        self.inner.tell(pod_uid, Call::KillExec { exec: exec_id.to_owned() }).boxed()
    }

    fn attach<'a>(&'a self, pod_uid: &'a str, id: &'a str, stdin: bool) -> Outcome<'a, Streams> {
        self.inner.attach(pod_uid, id, stdin).boxed()
    }

    fn reopen_log<'a>(&'a self, pod_uid: &'a str, id: &'a str) -> Outcome<'a, ()> {
        self.inner.tell(pod_uid, Call::ReopenLog { container: id.to_owned() }).boxed()
    }

    fn writable_layer(&self, pod_uid: &str, id: &str) -> Option<PathBuf> {
        let directory = self.inner.directory(pod_uid).ok()?;
        crate::shim::calls::is_id(id).then(|| crate::shim::calls::container_directory(&directory, id).join("upper"))
    }

    fn usage<'a>(&'a self, pod_uid: &'a str, id: Option<&'a str>) -> Outcome<'a, Usage> {
        self.inner.usage(pod_uid, id).boxed()
    }
}

async fn describe(link: &Link) -> Result<Description, DriverError> {
    match link.call(Call::Describe).await?.answer {
        Answer::Description(description) => Ok(*description),
        _ => Err(unexpected("")),
    }
}

fn sandbox_of(description: Description) -> Sandbox {
    let namespace = || Path::new("/proc").join(description.shim_pid.to_string()).join("ns/net");
    Sandbox {
        network_namespace: (!description.pod.host_network).then(namespace),
        spec: description.pod,
        shim_pid: description.shim_pid,
        containers: description.containers,
    }
}

fn streams_of(set: StreamSet, fds: Vec<OwnedFd>) -> Option<Streams> {
    let mut fds = fds.into_iter();
    let mut take = |wanted: bool| if wanted { fds.next().map(Some) } else { Some(None) };
    Some(Streams {
        stdin: take(set.stdin)?,
        stdout: take(set.stdout)?,
        // On attach to a terminal, its master side takes the place of stderr.
        stderr: take(set.stderr)?,
        terminal: take(set.terminal)?,
    })
}

fn unexpected(pod_uid: &str) -> DriverError {
    DriverError::Shim { pod_uid: pod_uid.to_owned(), message: "it gave an answer to another question".to_owned() }
}

fn create(step: &str, error: &dyn std::error::Error) -> DriverError {
    DriverError::Create { step: step.to_owned(), message: error.to_string() }
}

/// Runs what may block on a thread for that. A panic there is a bug, and goes on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => futures_util::future::pending().await, // The runtime is shutting down, and this task with it.
        },
    }
}
