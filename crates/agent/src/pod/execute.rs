//! The actions of a plan, each as one future that reports its outcome. They decide nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, ResourceRequirements};
use mizzen_client::{ClientError, DeleteOptions, Patch};
use mizzen_runtime::driver::{ContainerState, DriverError, Sandbox};
use mizzen_runtime::images::{Ensured, Image, ImageError, PullPolicy};

use super::fields::FieldSource;
use super::observed::Step;
use super::uses::Uses;
use super::{build, env, hooks, last_words, pull, reports, resources};
use crate::context::Context;
use crate::network::NetworkError;
use crate::quantity::amount;
use crate::volume::{self, Failure, MountedVolumes, VolumeError};

/// How an action, or something else that a worker waits for, went.
pub enum Outcome {
    /// Volumes were made or renewed.
    Volumes(Result<MountedVolumes, Failure>),
    /// The sandbox was started and has these addresses.
    Sandbox(Result<Vec<IpAddr>, SandboxError>),
    /// An image was looked for.
    Image {
        /// For this container.
        container: String,
        /// The result.
        result: Box<Result<Ensured, ImageError>>,
    },
    /// A container was started.
    Started {
        /// The container.
        container: String,
        /// How often it was started before.
        attempt: u32,
        /// The image as the pod named it.
        image: String,
        /// The result.
        result: Box<Result<mizzen_runtime::driver::Container, StartError>>,
    },
    /// The postStart hook ended.
    PostStart {
        /// The container.
        container: String,
        /// Its id at the driver.
        id: String,
        /// The result.
        result: Result<(), String>,
    },
    /// Limits were changed.
    Resized {
        /// The containers with what they were to have, and their ids at the driver.
        containers: Vec<(Container, String)>,
        /// What the pod as a whole was to have.
        pod: Option<ResourceRequirements>,
        /// The result.
        result: Result<(), String>,
    },
    /// The preStop hook ended.
    PreStopped {
        /// The container.
        container: String,
        /// Its id at the driver.
        id: String,
        /// The result.
        result: Result<(), String>,
    },
    /// A signal or kill was delivered.
    Signalled,
    /// The sandbox was looked at.
    Looked(Result<Box<Look>, DriverError>),
    /// Everything was taken down.
    TornDown(Result<(), String>),
    /// The API object was removed.
    Deleted(Result<(), ClientError>),
    /// The status was written.
    Written {
        /// What was written.
        status: Box<PodStatus>,
        /// The result; `Ok(false)`: the object is gone.
        result: Result<bool, ClientError>,
    },
}

/// The state of a sandbox, with the last words of containers that ended, by id.
pub struct Look {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// Termination messages.
    pub messages: BTreeMap<String, String>,
}

/// A sandbox could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// By the driver.
    #[error("start sandbox")]
    Driver(#[from] DriverError),
    /// Its network could not be made.
    #[error("set up network")]
    Network(#[from] NetworkError),
    /// There are no ids for its user namespace.
    #[error("give the pod ids for its user namespace")]
    Ids(#[source] std::io::Error),
    /// The files of the pod could not be written.
    #[error("write the pod's files")]
    Files(#[from] build::BuildError),
}

/// A container could not be started.
#[derive(Debug)]
pub struct StartError {
    /// `CreateContainerConfigError`, `CreateContainerError`, or `StartError` if it was made but did not run.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// How long ConfigMaps and Secrets are waited for: the API may not answer, or not allow them.
const OBJECTS_WITHIN: Duration = Duration::from_secs(60);

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// An error with all its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Makes or renews volumes.
pub async fn volumes(ctx: Arc<Context>, pod: Arc<Pod>, uses: Arc<Uses>) -> Outcome {
    let set_up = volume::set_up(&ctx, &pod, &uses, Timestamp::now());
    let result = tokio::time::timeout(OBJECTS_WITHIN, set_up).await;
    Outcome::Volumes(
        result.unwrap_or_else(|_| Err(Failure { volume: "all".into(), error: Box::new(VolumeError::Timeout) })),
    )
}

/// Starts sandbox and network, and writes the files that need the pod's addresses.
pub async fn sandbox(ctx: Arc<Context>, pod: Arc<Pod>) -> Outcome {
    let result = start_sandbox(&ctx, &pod).await;
    if has_own_users(&pod) {
        ctx.id_ranges.started.fetch_add(1, Ordering::Relaxed);
        ctx.id_ranges.failed.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
    }
    Outcome::Sandbox(result)
}

fn has_own_users(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.host_users) == Some(false)
}

async fn start_sandbox(ctx: &Context, pod: &Pod) -> Result<Vec<IpAddr>, SandboxError> {
    prepare_dirs(ctx, pod)?;
    let mut spec = build::sandbox(ctx, pod);
    if has_own_users(pod) {
        spec.user_namespace = Some(ctx.id_ranges.of(uid(pod)).map_err(SandboxError::Ids)?);
    }
    let sandbox = ctx.driver.start_sandbox(spec).await?;
    let ips = match sandbox.network_namespace {
        Some(namespace) => ctx.network.attach(uid(pod), namespace).await?,
        None => ctx.config.addresses.clone(),
    };
    build::write_pod_files(ctx, pod, &ips)?;
    Ok(ips)
}

fn prepare_dirs(ctx: &Context, pod: &Pod) -> Result<(), SandboxError> {
    use std::os::unix::fs::PermissionsExt;
    let shm = ctx.config.pod_dir(uid(pod)).join("shm");
    let io = |source| build::BuildError::Io { path: shm.clone(), source };
    if shm.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(&shm).map_err(io)?;
    // Shared memory of all containers of the pod; the size is Docker's and the kubelet's.
    let flags =
        rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV | rustix::mount::MountFlags::NOEXEC;
    if let Err(error) = rustix::mount::mount("shm", &shm, "tmpfs", flags, Some(c"mode=1777,size=65536k")) {
        tracing::debug!(%error, "no tmpfs for /dev/shm of a pod");
    }
    std::fs::set_permissions(&shm, std::fs::Permissions::from_mode(0o1777)).map_err(io)?;
    Ok(())
}

/// Has a container's image ready.
pub async fn image(ctx: Arc<Context>, pod: Arc<Pod>, uses: Arc<Uses>, container: Container) -> Outcome {
    let reference = container.image.clone().unwrap_or_default();
    let policy = pull::policy(&container);
    let credentials = pull::credentials(&ctx, &pod, &uses).await;
    let absent = policy == PullPolicy::IfNotPresent && matches!(ctx.images.find(&reference).await, Ok(None));
    if absent || policy == PullPolicy::Always {
        reports::pulling(&ctx, &pod, &container.name, &reference);
    }
    let result = ctx.images.ensure(&reference, policy, &credentials).await;
    Outcome::Image { container: container.name, result: Box::new(result) }
}

/// What starting a container takes.
pub struct Start {
    /// The container.
    pub container: Container,
    /// How often it was started before.
    pub attempt: u32,
    /// Its image.
    pub image: Image,
    /// The pod's volumes.
    pub volumes: Arc<MountedVolumes>,
    /// The pod's addresses.
    pub ips: Vec<IpAddr>,
    /// Id of the previous run, to be forgotten.
    pub previous: Option<String>,
}

/// Starts a container.
pub async fn start(ctx: Arc<Context>, pod: Arc<Pod>, uses: Arc<Uses>, start: Start) -> Outcome {
    let (container, attempt) = (start.container.name.clone(), start.attempt);
    let image = start.container.image.clone().unwrap_or_default();
    let result = Box::new(start_container(&ctx, &pod, &uses, start).await);
    if result.is_err() && has_own_users(&pod) {
        ctx.id_ranges.failed.fetch_add(1, Ordering::Relaxed);
    }
    Outcome::Started { container, attempt, image, result }
}

async fn start_container(
    ctx: &Context,
    pod: &Pod,
    uses: &Uses,
    start: Start,
) -> Result<mizzen_runtime::driver::Container, StartError> {
    let config_error =
        |e: &dyn std::error::Error| StartError { reason: "CreateContainerConfigError", message: chain(e) };
    let sources = env::Sources {
        ctx,
        pod,
        uses,
        fields: FieldSource {
            pod_ips: &start.ips,
            host_ips: &ctx.config.addresses,
            allocatable: &ctx.capacity.allocatable,
        },
        volumes: &start.volumes,
    };
    let env = match tokio::time::timeout(OBJECTS_WITHIN, env::environment(&sources, &start.container)).await {
        Ok(env) => env.map_err(|e| config_error(&e))?,
        Err(_) => return Err(config_error(&VolumeError::Timeout)),
    };
    let devices = ctx.devices.allot(pod, &start.container).await.map_err(|e| config_error(&e))?;
    let spec = build::container(build::Ingredients {
        ctx,
        pod,
        container: &start.container,
        image: &start.image,
        env,
        devices,
        volumes: &start.volumes,
        attempt: start.attempt,
        id: new_id(),
    })
    .map_err(|e| config_error(&e))?;
    let id = spec.id.clone();
    let started = ctx.driver.start_container(uid(pod), spec).await;
    if let Some(previous) = start.previous
        && let Err(error) = ctx.driver.remove_container(uid(pod), &previous).await
    {
        tracing::debug!(container = previous, %error, "an ended container could not be removed");
    }
    match started {
        Ok(container) => Ok(container),
        Err(DriverError::Start { message }) => Err(StartError { reason: "StartError", message }),
        Err(error) => {
            tracing::debug!(container = id, %error, "container not made");
            Err(StartError { reason: "CreateContainerError", message: chain(&error) })
        }
    }
}

/// 64 hexadecimal digits, as container ids are.
fn new_id() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Runs the postStart hook.
pub async fn post_start(
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    container: Container,
    id: String,
    ip: Option<IpAddr>,
) -> Outcome {
    let handler = container.lifecycle.as_ref().and_then(|l| l.post_start.clone());
    let result = match handler {
        Some(handler) => hooks::run(&ctx, uid(&pod), &id, &container, &handler, ip, None).await,
        None => Ok(()),
    };
    Outcome::PostStart { container: container.name, id, result }
}

/// Runs the preStop hook.
pub async fn pre_stop(
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    container: Container,
    id: String,
    ip: Option<IpAddr>,
    limit: Duration,
) -> Outcome {
    let handler = container.lifecycle.as_ref().and_then(|l| l.pre_stop.clone());
    let result = match handler {
        Some(handler) => hooks::run(&ctx, uid(&pod), &id, &container, &handler, ip, Some(limit)).await,
        None => Ok(()),
    };
    Outcome::PreStopped { container: container.name, id, result }
}

/// Asks a container to stop, with its own stop signal; `None` kills it.
pub async fn signal(ctx: Arc<Context>, pod: Arc<Pod>, id: String, signal: Option<i32>) -> Outcome {
    let result = match signal {
        Some(signal) => ctx.driver.signal(uid(&pod), &id, signal).await,
        None => ctx.driver.kill(uid(&pod), &id).await,
    };
    if let Err(error) = result {
        // It may have ended meanwhile; if not, the plan kills it later.
        tracing::debug!(container = id, %error, "container could not be signalled");
    }
    Outcome::Signalled
}

/// A running container that is to have other limits.
pub struct Resizing {
    /// The container, with what it is to have.
    pub container: Container,
    /// Its id at the driver.
    pub id: String,
    /// What it has.
    pub given: ResourceRequirements,
}

/// Gives running containers and their pod the limits that were granted. `given`: what the pod as a whole has, if that
/// changes.
pub async fn resize(
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    given: Option<ResourceRequirements>,
    resizing: Vec<Resizing>,
) -> Outcome {
    let wanted = pod.spec.as_ref().and_then(|s| s.resources.clone());
    let names = resizing.iter().map(|r| (r.container.clone(), r.id.clone())).collect();
    let result = match memory_suffices(&ctx, &pod, given.as_ref(), &resizing).await {
        Ok(()) => give_limits(&ctx, &pod, &resizing).await,
        Err(message) => Err(message),
    };
    Outcome::Resized { containers: names, pod: wanted, result }
}

/// Less memory than is in use would have the kernel kill processes.
async fn memory_suffices(
    ctx: &Context,
    pod: &Pod,
    given: Option<&ResourceRequirements>,
    resizing: &[Resizing],
) -> Result<(), String> {
    let limit = |r: Option<&ResourceRequirements>| r.and_then(|r| amount(r.limits.as_ref(), "memory"));
    let shrinks = |to: Option<i64>, from: Option<i64>| to.filter(|to| from.is_none_or(|from| *to < from));
    let mut errors = Vec::new();
    let pod_limit = given.and_then(|g| {
        let wanted = pod.spec.as_ref().and_then(|s| s.resources.as_ref());
        shrinks(limit(wanted), limit(Some(g)))
    });
    let own = resizing
        .iter()
        .filter_map(|r| Some((Some(r), shrinks(limit(r.container.resources.as_ref()), limit(Some(&r.given)))?)));
    for (container, wanted) in pod_limit.map(|l| (None, l)).into_iter().chain(own) {
        let usage = ctx.driver.usage(uid(pod), container.map(|c| c.id.as_str())).await;
        let used = usage.map_err(|e| format!("unable to read memory usage: {}", chain(&e)))?.memory_bytes;
        if used < u64::try_from(wanted).unwrap_or(0) {
            continue;
        }
        let whose = container.map_or_else(|| "pod".to_string(), |c| format!("container {:?}", c.container.name));
        errors.push(format!("attempting to set {whose} memory limit ({wanted}) below current usage ({used})"));
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(format!("cannot decrease memory limits: {one}")),
        many => Err(format!("cannot decrease memory limits: [{}]", many.join(", "))),
    }
}

async fn give_limits(ctx: &Context, pod: &Pod, resizing: &[Resizing]) -> Result<(), String> {
    let whole = || ctx.driver.update(uid(pod), None, resources::pod(pod, ctx.config.pod_pids_limit));
    // What grows needs a pod that has grown; the kernel may refuse a pod less than a container that has yet to shrink.
    let mut pod_limits = whole().await;
    for Resizing { container, id, .. } in resizing {
        let own = resources::container(pod, container, ctx.capacity.memory_bytes);
        ctx.driver.update(uid(pod), Some(id), own).await.map_err(|e| format!("{}: {}", container.name, chain(&e)))?;
    }
    if pod_limits.is_err() {
        pod_limits = whole().await;
    }
    pod_limits.map_err(|e| chain(&e))
}

/// Reads the state of the sandbox.
pub async fn look(ctx: Arc<Context>, pod: Arc<Pod>) -> Outcome {
    let result = ctx.driver.sandbox(uid(&pod)).await;
    Outcome::Looked(result.map(|sandbox| Box::new(read_look(&ctx, &pod, sandbox))))
}

/// Adds the last words of containers that ended.
pub fn read_look(ctx: &Context, pod: &Pod, sandbox: Sandbox) -> Look {
    let mut messages = BTreeMap::new();
    for container in &sandbox.containers {
        if let ContainerState::Exited { code, .. } = &container.state {
            messages.insert(container.spec.id.clone(), last_words::read(ctx, pod, container, *code));
        }
    }
    Look { sandbox, messages }
}

/// Removes sandbox, network and volumes.
pub async fn tear_down(ctx: Arc<Context>, pod: Arc<Pod>) -> Outcome {
    Outcome::TornDown(tear_down_pod(&ctx, uid(&pod)).await)
}

/// Removes what a pod left on the node, save its logs.
pub async fn tear_down_pod(ctx: &Context, uid: &str) -> Result<(), String> {
    match ctx.driver.remove_sandbox(uid).await {
        Ok(()) | Err(DriverError::NoSandbox { .. }) => {}
        Err(error) => return Err(chain(&error)),
    }
    ctx.network.detach(uid).await.map_err(|e| chain(&e))?;
    ctx.id_ranges.release(uid);
    ctx.devices.release(uid);
    volume::tear_down(ctx, uid).await.map_err(|e| chain(&e))
}

/// Removes the API object, whose grace is over.
pub async fn delete(ctx: Arc<Context>, pod: Arc<Pod>) -> Outcome {
    let (namespace, name) =
        (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
    let options = DeleteOptions { grace_seconds: Some(0), uid: pod.metadata.uid.clone(), ..DeleteOptions::default() };
    let result = match ctx.client.delete::<Pod>(namespace, name, &options).await {
        Ok(_) => Ok(()),
        // Another pod of that name: ours is gone.
        Err(error) if error.code() == Some(409) => Ok(()),
        Err(error) => Err(error),
    };
    Outcome::Deleted(result)
}

/// Writes a difference between two statuses; `status` is the later one.
pub async fn write_status(ctx: Arc<Context>, pod: Arc<Pod>, body: serde_json::Value, status: PodStatus) -> Outcome {
    let (namespace, name) =
        (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
    let result = match ctx.client.patch::<Pod>(namespace, name, "status", &Patch::Strategic(body)).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(false),
        Err(error) => Err(error),
    };
    Outcome::Written { status: Box::new(status), result }
}

/// The failed form of a step.
pub fn failed(previous: &Step, message: String, now: Timestamp, first: i64, max: i64) -> Step {
    let before = match previous {
        Step::Failed { retry, .. } => Some(*retry),
        _ => None,
    };
    Step::Failed { message, retry: super::backoff::Retry::after(before, now, first, max) }
}
