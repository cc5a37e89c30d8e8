//! The pod state machine: from a pod and what is known about it to what is to be done next, and its status.
//!
//! Pure: same arguments, same plan. The worker executes the actions, marks them with [`Observed::begin`], and asks
//! again whenever something happened or `wake_at` has come.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};

use super::backoff::later;
use super::grant;
use super::observed::{
    ContainerObserved, ContainerPhase, Doom, Ended, Hook, ImageState, Observed, Running, SandboxState, StopReason,
    StopStep,
};
use super::roles::{self, Member, Role};
use super::status;

/// Something to do. Each is begun once and reports its end to the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the pod's volumes.
    SetUpVolumes,
    /// Renew what changes in its volumes.
    RefreshVolumes,
    /// Start its sandbox and network.
    StartSandbox,
    /// Have a container's image ready.
    EnsureImage {
        /// The container.
        container: String,
    },
    /// Start a container.
    Start {
        /// The container.
        container: String,
        /// How often it was started before.
        attempt: u32,
    },
    /// Run a container's preStop hook, as the first step of stopping it.
    PreStop {
        /// The container.
        container: String,
        /// Why it stops.
        why: StopReason,
        /// Seconds for hook and stop together.
        grace_seconds: i64,
    },
    /// Ask a container to stop.
    Signal {
        /// The container.
        container: String,
        /// Why it stops.
        why: StopReason,
        /// Seconds it has.
        grace_seconds: i64,
    },
    /// Kill a container.
    Kill {
        /// The container.
        container: String,
        /// Why it stops.
        why: StopReason,
    },
    /// Have all containers, which have ended, start anew, from the first init container on.
    RestartAll,
    /// Give what runs the limits that were granted.
    Resize,
    /// Remove sandbox, network and volumes.
    TearDown,
    /// Remove the API object.
    DeletePod,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// To be begun now.
    pub actions: Vec<Action>,
    /// What the API is to show.
    pub status: PodStatus,
    /// When to plan again even if nothing happens.
    pub wake_at: Option<Timestamp>,
    /// Everything is done; the worker may end.
    pub finished: bool,
}

/// What a plan needs to know about the node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeFacts {
    /// Its addresses, the primary first.
    pub host_ips: Vec<std::net::IpAddr>,
}

/// Shortest time between the signal and the kill, seconds, unless the pod is deleted with no grace at all.
const MIN_STOP: i64 = 2;
/// How often a kill is repeated, seconds, if the container does not go.
const KILL_AGAIN: i64 = 5;

/// Where the pod is heading.
enum Goal {
    /// Its containers run.
    Run,
    /// It ends: what runs is stopped within these seconds of `since`.
    Stop { since: Timestamp, grace_seconds: i64 },
}

/// The next actions and the status of `pod`. `previous` is the status that was last shown.
pub fn plan(pod: &Pod, previous: &PodStatus, observed: &Observed, node: &NodeFacts, now: Timestamp) -> Plan {
    let mut planner = Planner { observed, now, actions: Vec::new(), wake_at: None };
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let verdict = verdict(spec, observed);
    let goal = goal(pod, spec, observed, &verdict, now);
    match &goal {
        Goal::Run => planner.run(spec),
        Goal::Stop { since, grace_seconds } => planner.stop(spec, *since, *grace_seconds),
    }
    let stopping = matches!(goal, Goal::Stop { .. });
    if let (Some(limit), Some(started)) = (spec.active_deadline_seconds, deadline_base(previous, observed))
        && !stopping
    {
        planner.wake(later(started, limit));
    }
    let status = status::status(pod, spec, previous, observed, node, stopping, now);
    let quiet = observed.quiet();
    let deleting = pod.metadata.deletion_timestamp.is_some();
    if stopping && quiet {
        // What is on its way up must have arrived before it can be taken down.
        let settled = observed.sandbox != SandboxState::Starting && observed.volumes != super::observed::Step::Doing;
        if settled && observed.teardown.due(now) {
            planner.actions.push(Action::TearDown);
        }
        planner.wake_if(observed.teardown.wake_at());
        if deleting && !observed.gone && observed.reported_terminal {
            if observed.deletion.due(now) {
                planner.actions.push(Action::DeletePod);
            }
            planner.wake_if(observed.deletion.wake_at());
        }
    }
    let finished = stopping && quiet && observed.gone && observed.teardown == super::observed::Step::Done;
    Plan { actions: planner.actions, status, wake_at: planner.wake_at, finished }
}

/// What the containers' ends mean for the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Undecided,
    /// All regular containers are done and none starts again, or an init container failed for good.
    Over,
}

/// Whether the pod has run its course.
pub fn verdict(spec: &PodSpec, observed: &Observed) -> Verdict {
    let ended_for_good = |member: Member<'_>| match observed.phase(&member.container.name) {
        ContainerPhase::Ended(ended) => !restarts(spec, member, observed, ended),
        _ => false,
    };
    let mut mains = roles::members(spec).filter(|m| m.role == Role::Main).peekable();
    if mains.peek().is_some() && mains.all(ended_for_good) {
        return Verdict::Over;
    }
    let init_failed = roles::members(spec).filter(|m| m.role == Role::Init).any(|m| {
        matches!(observed.phase(&m.container.name), ContainerPhase::Ended(e) if e.code != 0) && ended_for_good(m)
    });
    if init_failed && !mains_begun(spec, observed) { Verdict::Over } else { Verdict::Undecided }
}

/// Whether a container that ended is started again.
fn restarts(spec: &PodSpec, member: Member<'_>, observed: &Observed, ended: &Ended) -> bool {
    observed.renews(&member.container.name) || roles::restarts(spec, member, ended)
}

fn deadline_base(previous: &PodStatus, observed: &Observed) -> Option<Timestamp> {
    Some(previous.start_time.as_ref().map_or(observed.seen_at, |t| t.0))
}

fn goal(pod: &Pod, spec: &PodSpec, observed: &Observed, verdict: &Verdict, now: Timestamp) -> Goal {
    let meta = &pod.metadata;
    let grace_seconds = roles::grace_seconds(pod);
    if let Some(at) = &meta.deletion_timestamp {
        // The API says when it must be over; the time it has began that much earlier.
        return Goal::Stop { since: later(at.0, -grace_seconds).min(now), grace_seconds };
    }
    if observed.gone {
        return Goal::Stop { since: now, grace_seconds };
    }
    match &observed.doom {
        Some(Doom { at, grace_seconds, .. }) => Goal::Stop { since: *at, grace_seconds: *grace_seconds },
        None if *verdict == Verdict::Over || observed.reported_terminal => {
            Goal::Stop { since: now, grace_seconds: spec.termination_grace_period_seconds.unwrap_or(30) }
        }
        None => Goal::Run,
    }
}

/// Whether `activeDeadlineSeconds` is over: the pod is doomed then.
pub fn deadline_exceeded(pod: &Pod, previous: &PodStatus, observed: &Observed, now: Timestamp) -> bool {
    let limit = pod.spec.as_ref().and_then(|s| s.active_deadline_seconds);
    match (limit, deadline_base(previous, observed)) {
        (Some(limit), Some(started)) => later(started, limit) <= now,
        _ => false,
    }
}

/// A container whose end means that all start anew: when it ended, and when they may.
pub fn restarts_all(spec: &PodSpec, observed: &Observed) -> Option<(Timestamp, Timestamp)> {
    roles::members(spec).find_map(|member| {
        let record = observed.containers.get(&member.container.name)?;
        match &record.state {
            ContainerPhase::Ended(ended) if roles::restarts_all(member.container, ended) => {
                Some((ended.finished_at, record.backoff.restart_at(ended.finished_at)))
            }
            _ => None,
        }
    })
}

/// A regular container has been started: the init containers are behind.
pub fn mains_begun(spec: &PodSpec, observed: &Observed) -> bool {
    let counts = |name: &str| observed.containers.get(name).is_none_or(|r| !r.fresh);
    spec.containers.iter().filter(|c| counts(&c.name)).any(|c| {
        matches!(observed.phase(&c.name), ContainerPhase::Running(_) | ContainerPhase::Ended(_))
            || observed.containers.get(&c.name).is_some_and(|r| r.last.is_some())
    })
}

/// `started` as the API means it: runs, and its startup probe, if any, has passed.
pub fn is_started(container: &Container, record: &ContainerObserved) -> bool {
    matches!(record.state, ContainerPhase::Running(_))
        && (container.startup_probe.is_none() || record.probes.startup == Some(true))
}

/// A sidecar lets the next container begin.
fn sidecar_up(container: &Container, record: &ContainerObserved) -> bool {
    is_started(container, record)
        && matches!(&record.state, ContainerPhase::Running(Running { post_start: Hook::Done, .. }))
}

struct Planner<'a> {
    observed: &'a Observed,
    now: Timestamp,
    actions: Vec<Action>,
    wake_at: Option<Timestamp>,
}

impl Planner<'_> {
    fn wake(&mut self, at: Timestamp) {
        // What is due has been done above; only what lies ahead needs a timer.
        if at > self.now {
            self.wake_at = Some(self.wake_at.map_or(at, |w| w.min(at)));
        }
    }

    fn wake_if(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.wake(at);
        }
    }

    fn run(&mut self, spec: &PodSpec) {
        if self.observed.volumes.due(self.now) {
            self.actions.push(Action::SetUpVolumes);
        }
        self.wake_if(self.observed.volumes.wake_at());
        match self.observed.refresh_at {
            Some(at) if at <= self.now && !self.observed.refreshing => self.actions.push(Action::RefreshVolumes),
            Some(at) => self.wake(at),
            None => {}
        }
        match &self.observed.sandbox {
            SandboxState::Absent => self.actions.push(Action::StartSandbox),
            SandboxState::Failed { retry, .. } if retry.at <= self.now => self.actions.push(Action::StartSandbox),
            SandboxState::Failed { retry, .. } => self.wake(retry.at),
            SandboxState::Starting | SandboxState::Ready { .. } => {}
        }
        if self.observed.resize.due(self.now) {
            self.actions.push(Action::Resize);
        }
        self.wake_if(self.observed.resize.wake_at());
        match restarts_all(spec, self.observed) {
            Some((ended, at)) => self.restart_all(spec, ended, at),
            None => self.containers(spec),
        }
    }

    /// Stops what runs because of a container that ended at `ended`; once nothing does, and from `at` on, all start anew.
    fn restart_all(&mut self, spec: &PodSpec, ended: Timestamp, at: Timestamp) {
        if !self.observed.quiet() {
            self.stop(spec, ended, spec.termination_grace_period_seconds.unwrap_or(30));
        } else if at <= self.now {
            self.actions.push(Action::RestartAll);
        } else {
            self.wake(at);
        }
    }

    /// Starts what may start, in order, and stops what must be started anew.
    fn containers(&mut self, spec: &PodSpec) {
        let begun = mains_begun(spec, self.observed);
        let mut blocked = false;
        for member in roles::members(spec) {
            if blocked {
                break;
            }
            let container = member.container;
            let missing = ContainerObserved::default();
            let record = self.observed.containers.get(&container.name).unwrap_or(&missing);
            match member.role {
                Role::Init => {
                    let done = matches!(&record.state, ContainerPhase::Ended(e) if e.code == 0);
                    if !done && !begun {
                        self.advance(spec, member, record);
                        blocked = true;
                    }
                }
                Role::Sidecar => {
                    self.advance(spec, member, record);
                    blocked = !begun && !sidecar_up(container, record);
                }
                Role::Main | Role::Ephemeral => self.advance(spec, member, record),
            }
        }
        if begun {
            for container in roles::ephemeral(spec) {
                let missing = ContainerObserved::default();
                let record = self.observed.containers.get(&container.name).unwrap_or(&missing);
                self.advance(spec, Member { container: &container, role: Role::Ephemeral }, record);
            }
        }
    }

    fn advance(&mut self, spec: &PodSpec, member: Member<'_>, record: &ContainerObserved) {
        let container = member.container;
        match &record.state {
            ContainerPhase::Waiting => self.start(container, record, record.restarts),
            ContainerPhase::CreateFailed { retry, .. } => {
                if retry.at <= self.now {
                    self.start(container, record, record.restarts);
                } else {
                    self.wake(retry.at);
                }
            }
            ContainerPhase::Ended(_) if record.renew => self.start(container, record, record.restarts + 1),
            ContainerPhase::Ended(ended) if roles::restarts(spec, member, ended) => {
                let at = record.backoff.restart_at(ended.finished_at);
                if at <= self.now {
                    self.start(container, record, record.restarts + 1);
                } else {
                    self.wake(at);
                }
            }
            ContainerPhase::Running(running) => self.mind(spec, container, record, running),
            ContainerPhase::Ended(_) | ContainerPhase::Starting => {}
        }
    }

    fn start(&mut self, container: &Container, record: &ContainerObserved, attempt: u32) {
        match &record.image {
            ImageState::Unknown => self.actions.push(Action::EnsureImage { container: container.name.clone() }),
            ImageState::Failed { retry, .. } if retry.at <= self.now => {
                self.actions.push(Action::EnsureImage { container: container.name.clone() });
            }
            ImageState::Failed { retry, .. } => self.wake(retry.at),
            ImageState::Pulling => {}
            ImageState::Ready => {
                let sandbox = matches!(self.observed.sandbox, SandboxState::Ready { .. });
                if sandbox && self.observed.volumes == super::observed::Step::Done {
                    self.actions.push(Action::Start { container: container.name.clone(), attempt });
                }
            }
        }
    }

    /// A container that runs: is there a reason to stop it?
    fn mind(&mut self, spec: &PodSpec, container: &Container, record: &ContainerObserved, running: &Running) {
        let pod_grace = spec.termination_grace_period_seconds.unwrap_or(30);
        let probe_grace = |p: &Option<_>| -> i64 {
            p.as_ref()
                .and_then(|p: &k8s_openapi::api::core::v1::Probe| p.termination_grace_period_seconds)
                .unwrap_or(pod_grace)
        };
        let why = if let Some(stop) = &running.stop {
            Some((stop.why, stop.grace_seconds))
        } else if record.probes.startup == Some(false) {
            Some((StopReason::Startup, probe_grace(&container.startup_probe)))
        } else if record.probes.liveness == Some(false) {
            Some((StopReason::Liveness, probe_grace(&container.liveness_probe)))
        } else if running.image.is_some() && running.image != container.image {
            Some((StopReason::Changed, pod_grace))
        } else if running.given.as_ref().is_some_and(|given| grant::needs_restart(container, given)) {
            Some((StopReason::Resized, pod_grace))
        } else if matches!(running.post_start, Hook::Failed(_)) {
            Some((StopReason::PostStart, pod_grace))
        } else {
            None
        };
        if let Some((why, grace_seconds)) = why {
            self.stop_one(container, running, why, self.now, grace_seconds);
        }
    }

    /// Stops everything: regular containers together, then sidecars in reverse order, each after all others.
    fn stop(&mut self, spec: &PodSpec, since: Timestamp, grace_seconds: i64) {
        let running = |name: &str| match self.observed.phase(name) {
            ContainerPhase::Running(running) => Some(running.clone()),
            _ => None,
        };
        let ephemeral = roles::ephemeral(spec);
        let first: Vec<_> = roles::members(spec)
            .filter(|m| m.role != Role::Sidecar)
            .map(|m| m.container)
            .chain(&ephemeral)
            .filter_map(|c| Some((c.clone(), running(&c.name)?)))
            .collect();
        if !first.is_empty() {
            for (container, running) in first {
                self.stop_one(&container, &running, StopReason::PodEnds, since, grace_seconds);
            }
            return;
        }
        let last_sidecar = roles::members(spec)
            .rev()
            .filter(|m| m.role == Role::Sidecar)
            .find_map(|m| Some((m.container.clone(), running(&m.container.name)?)));
        if let Some((container, running)) = last_sidecar {
            self.stop_one(&container, &running, StopReason::PodEnds, since, grace_seconds);
        }
    }

    /// The next step of stopping one container. `since` and `grace_seconds` may shrink while it is under way.
    fn stop_one(&mut self, c: &Container, running: &Running, why: StopReason, since: Timestamp, grace_seconds: i64) {
        let container = c.name.clone();
        let has_hook = c.lifecycle.as_ref().is_some_and(|l| l.pre_stop.is_some());
        let Some(stop) = &running.stop else {
            self.actions.push(if grace_seconds <= 0 {
                Action::Kill { container, why }
            } else if has_hook {
                Action::PreStop { container, why, grace_seconds }
            } else {
                Action::Signal { container, why, grace_seconds }
            });
            return;
        };
        // A stop that began for another reason is bound by the pod's end as well.
        let mut deadline = later(stop.since, stop.grace_seconds);
        if why == StopReason::PodEnds {
            deadline = deadline.min(later(since, grace_seconds));
        }
        match stop.step {
            StopStep::PreStop if self.now < deadline => self.wake(deadline),
            StopStep::PreStop | StopStep::PreStopDone => {
                self.actions.push(if grace_seconds <= 0 {
                    Action::Kill { container, why: stop.why }
                } else {
                    Action::Signal { container, why: stop.why, grace_seconds }
                });
            }
            StopStep::Signalled(at) => {
                let deadline =
                    if grace_seconds <= 0 { deadline } else { deadline.max(later(at, MIN_STOP.min(grace_seconds))) };
                if deadline <= self.now {
                    self.actions.push(Action::Kill { container, why: stop.why });
                } else {
                    self.wake(deadline);
                }
            }
            StopStep::Killed(at) => {
                let again = later(at, KILL_AGAIN);
                if again <= self.now {
                    self.actions.push(Action::Kill { container, why: stop.why });
                } else {
                    self.wake(again);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
