//! What is known about a pod on this node: the input of [`super::plan`] beside its spec.
//!
//! The worker writes it from what drivers, probes and volumes report, and marks what it has under way with
//! [`Observed::begin`]. Nothing here does I/O or reads a clock.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;
use mizzen_runtime::driver::{Container, ContainerState};

use super::backoff::{CrashBackoff, Retry};
use super::grant::Pending;
use super::plan::Action;

/// Everything known about a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// When this node first saw the pod; `status.startTime`.
    pub seen_at: Timestamp,
    /// Its sandbox.
    pub sandbox: SandboxState,
    /// Its volumes.
    pub volumes: Step,
    /// When something in its volumes must be renewed (tokens).
    pub refresh_at: Option<Timestamp>,
    /// A renewal of its volumes is under way.
    pub refreshing: bool,
    /// Its containers by name, of all kinds.
    pub containers: BTreeMap<String, ContainerObserved>,
    /// Giving what runs the limits that were granted.
    pub resize: Step,
    /// What the pod as a whole was given, while it was granted something else.
    pub given: Option<ResourceRequirements>,
    /// A resize that the node has not granted.
    pub pending_resize: Option<Pending>,
    /// It must stop although nobody deleted it.
    pub doom: Option<Doom>,
    /// The object is gone from the API.
    pub gone: bool,
    /// A terminal phase has been written to the API.
    pub reported_terminal: bool,
    /// Removal of the API object.
    pub deletion: Step,
    /// Removal of sandbox, network and volumes.
    pub teardown: Step,
}

/// Why a pod ends by the node's decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doom {
    /// `status.reason`: `Evicted`, `DeadlineExceeded`, `OutOfcpu`, ….
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// It never started: no containers are shown.
    pub rejected: bool,
    /// Seconds for its containers to stop in.
    pub grace_seconds: i64,
    /// When this was decided.
    pub at: Timestamp,
    /// Adds a `DisruptionTarget` condition.
    pub disruption: bool,
}

/// Something that is done once, and again if it fails.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Step {
    /// Not yet begun.
    #[default]
    Todo,
    /// Under way.
    Doing,
    /// Done.
    Done,
    /// Failed; tried again later.
    Failed {
        /// For people.
        message: String,
        /// When to try again, and how long to wait after the next failure.
        retry: Retry,
    },
}

impl Step {
    /// Whether it should be begun now.
    pub fn due(&self, now: Timestamp) -> bool {
        match self {
            Step::Todo => true,
            Step::Doing | Step::Done => false,
            Step::Failed { retry, .. } => retry.at <= now,
        }
    }

    /// When to look again.
    pub fn wake_at(&self) -> Option<Timestamp> {
        match self {
            Step::Failed { retry, .. } => Some(retry.at),
            _ => None,
        }
    }
}

/// Where a sandbox is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxState {
    /// None.
    Absent,
    /// Being started.
    Starting,
    /// Runs, with its network.
    Ready {
        /// Addresses of the pod; the node's with host network.
        ips: Vec<IpAddr>,
    },
    /// Could not be started.
    Failed {
        /// For people.
        message: String,
        /// When to try again.
        retry: Retry,
    },
}

/// What is known about a container.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerObserved {
    /// Its image, for the next start.
    pub image: ImageState,
    /// Its present state.
    pub state: ContainerPhase,
    /// How it ended before the present state.
    pub last: Option<Ended>,
    /// `restartCount`.
    pub restarts: u32,
    /// Waits between restarts.
    pub backoff: CrashBackoff,
    /// What its probes say.
    pub probes: ProbeResults,
    /// The last failed pull, until one succeeds.
    pub pull_retry: Option<Retry>,
    /// The last failed creation, until one succeeds.
    pub create_retry: Option<Retry>,
    /// It waits as if it had never run: all containers of the pod start anew.
    pub fresh: bool,
    /// It was stopped to be started anew: whatever its restart policy, and at once.
    pub renew: bool,
}

/// An image on its way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ImageState {
    /// Not yet asked for.
    #[default]
    Unknown,
    /// Being looked for or pulled.
    Pulling,
    /// Present.
    Ready,
    /// Not to be had.
    Failed {
        /// `ErrImagePull`, ….
        reason: &'static str,
        /// For people.
        message: String,
        /// The name, for the back-off message.
        image: String,
        /// When to try again.
        retry: Retry,
    },
}

/// The states of a container, as the node sees them.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ContainerPhase {
    /// Not started in this sandbox.
    #[default]
    Waiting,
    /// Could not be made; nothing ran.
    CreateFailed {
        /// `CreateContainerConfigError`, `CreateContainerError`.
        reason: &'static str,
        /// For people.
        message: String,
        /// When to try again.
        retry: Retry,
    },
    /// Being started.
    Starting,
    /// Runs.
    Running(Running),
    /// Ended.
    Ended(Ended),
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Its id at the driver.
    pub id: String,
    /// Digest of its image.
    pub image_id: String,
    /// Its image as the pod named it, if that is known.
    pub image: Option<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// The postStart hook.
    pub post_start: Hook,
    /// It is being stopped.
    pub stop: Option<Stopping>,
    /// What its limits were made from, while the pod says something else: it is being resized.
    pub given: Option<ResourceRequirements>,
}

/// A lifecycle hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// There is none, or it is done.
    Done,
    /// Runs.
    Running,
    /// Failed.
    Failed(String),
}

/// A container that is being stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct Stopping {
    /// Why.
    pub why: StopReason,
    /// When it began.
    pub since: Timestamp,
    /// Seconds it has.
    pub grace_seconds: i64,
    /// What is being done.
    pub step: StopStep,
}

/// Why a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The pod ends.
    PodEnds,
    /// Its liveness probe failed.
    Liveness,
    /// Its startup probe failed.
    Startup,
    /// Its postStart hook failed.
    PostStart,
    /// Its image or another part of its spec changed.
    Changed,
    /// Its resources changed, and it is to be started anew for them.
    Resized,
}

/// The steps of stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopStep {
    /// The preStop hook runs.
    PreStop,
    /// The hook is done; the signal is next.
    PreStopDone,
    /// It was asked to stop.
    Signalled(Timestamp),
    /// It was killed.
    Killed(Timestamp),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Its id at the driver; empty if it was never made.
    pub id: String,
    /// Digest of its image.
    pub image_id: String,
    /// When it started, if it did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Exit code.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// Its termination message.
    pub message: String,
}

/// What probes say about the running container; `None` until there is a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProbeResults {
    /// Startup.
    pub startup: Option<bool>,
    /// Readiness.
    pub readiness: Option<bool>,
    /// Liveness.
    pub liveness: Option<bool>,
}

impl Observed {
    /// A pod of which nothing has been done.
    pub fn new(seen_at: Timestamp) -> Self {
        Self {
            seen_at,
            sandbox: SandboxState::Absent,
            volumes: Step::Todo,
            refresh_at: None,
            refreshing: false,
            containers: BTreeMap::new(),
            resize: Step::Done,
            given: None,
            pending_resize: None,
            doom: None,
            gone: false,
            reported_terminal: false,
            deletion: Step::Todo,
            teardown: Step::Todo,
        }
    }

    /// The record of a container, made if missing.
    pub fn container_mut(&mut self, name: &str) -> &mut ContainerObserved {
        if !self.containers.contains_key(name) {
            self.containers.insert(name.to_string(), ContainerObserved::default());
        }
        // Inserted above if it was missing.
        self.containers.get_mut(name).expect("present")
    }

    /// The phase of a container.
    pub fn phase(&self, name: &str) -> &ContainerPhase {
        self.containers.get(name).map_or(&ContainerPhase::Waiting, |c| &c.state)
    }

    /// Marks what an action has under way, so that the next plan does not ask for it again.
    pub fn begin(&mut self, action: &Action, now: Timestamp) {
        match action {
            Action::SetUpVolumes => self.volumes = Step::Doing,
            Action::RefreshVolumes => {
                self.refreshing = true;
                self.refresh_at = None;
            }
            Action::StartSandbox => self.sandbox = SandboxState::Starting,
            Action::EnsureImage { container } => self.container_mut(container).image = ImageState::Pulling,
            Action::Start { container, .. } => {
                let record = self.container_mut(container);
                if let ContainerPhase::Ended(ended) = std::mem::replace(&mut record.state, ContainerPhase::Starting) {
                    record.last = Some(ended);
                }
            }
            Action::PreStop { container, why, grace_seconds } => {
                self.stop(container, *why, *grace_seconds, StopStep::PreStop, now);
            }
            Action::Signal { container, why, grace_seconds } => {
                self.stop(container, *why, *grace_seconds, StopStep::Signalled(now), now);
            }
            Action::Kill { container, why } => self.stop(container, *why, 0, StopStep::Killed(now), now),
            Action::RestartAll => self.containers.values_mut().for_each(ContainerObserved::start_over),
            Action::Resize => self.resize = Step::Doing,
            Action::TearDown => self.teardown = Step::Doing,
            Action::DeletePod => self.deletion = Step::Doing,
        }
    }

    fn stop(&mut self, container: &str, why: StopReason, grace_seconds: i64, step: StopStep, now: Timestamp) {
        if let ContainerPhase::Running(running) = &mut self.container_mut(container).state {
            match &mut running.stop {
                Some(stop) => stop.step = step,
                None => running.stop = Some(Stopping { why, since: now, grace_seconds, step }),
            }
        }
    }

    /// Takes over what the driver says about a container. `message` reads the termination message of one that ended.
    ///
    /// `true` if the container just ended.
    pub fn record(&mut self, seen: &Container, image_id: &str, has_post_start: bool, message: String) -> bool {
        let record = self.container_mut(&seen.spec.name);
        match &seen.state {
            ContainerState::Running { started_at, .. } => {
                match &record.state {
                    ContainerPhase::Running(running) if running.id == seen.spec.id => return false,
                    // Known to have ended: this is older news.
                    ContainerPhase::Ended(ended) if ended.id == seen.spec.id => return false,
                    _ => {}
                }
                record.restarts = seen.spec.attempt;
                record.probes = ProbeResults::default();
                record.image = ImageState::Unknown;
                record.create_retry = None;
                (record.renew, record.fresh) = (false, false);
                let running = ContainerPhase::Running(Running {
                    id: seen.spec.id.clone(),
                    image_id: image_id.to_string(),
                    image: None,
                    started_at: nanos(*started_at),
                    post_start: if has_post_start { Hook::Running } else { Hook::Done },
                    stop: None,
                    given: None,
                });
                if let ContainerPhase::Ended(before) = std::mem::replace(&mut record.state, running) {
                    record.last = Some(before);
                }
                false
            }
            ContainerState::Exited { started_at, finished_at, code, signal, oom_killed } => {
                match &record.state {
                    ContainerPhase::Ended(ended) if ended.id == seen.spec.id => return false,
                    // An older attempt, or one whose successor is on its way.
                    ContainerPhase::Running(running) if running.id != seen.spec.id => return false,
                    ContainerPhase::Starting | ContainerPhase::CreateFailed { .. } | ContainerPhase::Waiting
                        if record.last.as_ref().is_some_and(|l| l.id == seen.spec.id) =>
                    {
                        return false;
                    }
                    _ => {}
                }
                let reason = match (oom_killed, code) {
                    (true, _) => "OOMKilled",
                    (false, 0) => "Completed",
                    _ => "Error",
                };
                record.ended(Ended {
                    id: seen.spec.id.clone(),
                    image_id: image_id.to_string(),
                    started_at: Some(nanos(*started_at)),
                    finished_at: nanos(*finished_at),
                    code: *code,
                    signal: *signal,
                    reason: reason.to_string(),
                    message,
                });
                record.restarts = seen.spec.attempt;
                true
            }
        }
    }

    /// The sandbox is gone with everything in it: what ran has ended, and nothing is started any more.
    pub fn sandbox_lost(&mut self, now: Timestamp) {
        self.sandbox = SandboxState::Absent;
        for record in self.containers.values_mut() {
            if let ContainerPhase::Running(running) = &record.state {
                let ended = Ended {
                    id: running.id.clone(),
                    image_id: running.image_id.clone(),
                    started_at: Some(running.started_at),
                    finished_at: now,
                    code: 137,
                    signal: Some(9),
                    reason: "Error".to_string(),
                    message: String::new(),
                };
                record.ended(ended);
            }
        }
    }

    /// A running container, or the pod, does not have the limits yet that were granted.
    pub fn is_resizing(&self) -> bool {
        let waits = !matches!(self.resize, Step::Done);
        waits
            || self.given.is_some()
            || self.containers.values().any(|c| matches!(&c.state, ContainerPhase::Running(r) if r.given.is_some()))
    }

    /// A container that ended is to be started anew, whatever its restart policy.
    pub fn renews(&self, name: &str) -> bool {
        self.containers.get(name).is_some_and(|c| c.renew)
    }

    /// The driver's id of the last run of a container that waits as if it had never run.
    pub fn started_over(&self, name: &str) -> Option<String> {
        let record = self.containers.get(name).filter(|c| c.fresh)?;
        record.last.as_ref().map(|l| l.id.clone()).filter(|id| !id.is_empty())
    }

    /// No container runs or is being started.
    pub fn quiet(&self) -> bool {
        self.containers.values().all(|c| !matches!(c.state, ContainerPhase::Running(_) | ContainerPhase::Starting))
    }
}

impl ContainerObserved {
    /// What ended waits as if it had never run.
    fn start_over(&mut self) {
        if let ContainerPhase::Ended(ended) = std::mem::take(&mut self.state) {
            self.last = Some(ended);
            self.restarts += 1;
            self.fresh = true;
        }
        (self.probes, self.image, self.renew) = (ProbeResults::default(), ImageState::Unknown, false);
    }

    /// The container ended.
    pub fn ended(&mut self, ended: Ended) {
        let stop = if let ContainerPhase::Running(running) = &self.state { running.stop.as_ref() } else { None };
        self.renew = stop.is_some_and(|s| s.why == StopReason::Resized);
        if !self.renew {
            self.backoff.ended(ended.started_at, ended.finished_at);
        }
        self.probes = ProbeResults::default();
        self.image = ImageState::Unknown;
        if let ContainerPhase::Ended(before) = std::mem::replace(&mut self.state, ContainerPhase::Ended(ended)) {
            self.last = Some(before);
        }
    }
}

/// Unix nanoseconds as a time; what cannot be one is the epoch.
pub fn nanos(value: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(value)).unwrap_or(Timestamp::UNIX_EPOCH)
}
