//! The status of a pod from what is known about it: phase, conditions, container states.
//!
//! Pure. Only what this node decides is in it: conditions of others are kept by the API, since the worker sends the
//! differences only.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observed::{ContainerObserved, ContainerPhase, Ended, ImageState, Observed, SandboxState, Step};
use super::plan::{NodeFacts, is_started, mains_begun};
use super::roles::{self, Member, Role};

/// Prefix of container ids in the API.
pub const ID_SCHEME: &str = "mizzen://";

/// A phase from which nothing returns.
pub fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The status of `pod`. `stopping`: it is on its way out.
pub fn status(
    pod: &Pod,
    spec: &PodSpec,
    previous: &PodStatus,
    observed: &Observed,
    node: &NodeFacts,
    stopping: bool,
    now: Timestamp,
) -> PodStatus {
    if is_terminal(previous.phase.as_deref()) && observed.quiet() && observed.doom.is_none() {
        return previous.clone();
    }
    let mut status = PodStatus {
        qos_class: previous.qos_class.clone().or_else(|| pod.status.as_ref().and_then(|s| s.qos_class.clone())),
        start_time: previous.start_time.clone().or(Some(Time(observed.seen_at))),
        nominated_node_name: previous.nominated_node_name.clone(),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    };
    if let Some(doom) = &observed.doom {
        status.reason = Some(doom.reason.clone());
        status.message = Some(doom.message.clone());
        if doom.rejected {
            status.phase = Some("Failed".into());
            status.conditions = Some(conditions(pod, spec, previous, observed, "Failed", now));
            return status;
        }
    }
    status.host_ip = node.host_ips.first().map(ToString::to_string);
    status.host_ips = Some(node.host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect());
    addresses(&mut status, previous, observed);
    let phase = phase(spec, observed, stopping);
    let creating = if spec.init_containers.as_ref().is_some_and(|i| !i.is_empty()) {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let show = |c: &Container, role: Role, waiting: &str| {
        container_status(pod, spec, Member { container: c, role }, observed, (waiting, stopping))
    };
    let of = |roles: &[Role], waiting: &str| -> Vec<ContainerStatus> {
        roles::members(spec).filter(|m| roles.contains(&m.role)).map(|m| show(m.container, m.role, waiting)).collect()
    };
    status.container_statuses = Some(of(&[Role::Main], creating));
    let init = of(&[Role::Init, Role::Sidecar], "PodInitializing");
    status.init_container_statuses = (!init.is_empty()).then_some(init);
    let ephemeral: Vec<_> =
        roles::ephemeral(spec).iter().map(|c| show(c, Role::Ephemeral, "ContainerCreating")).collect();
    status.ephemeral_container_statuses = (!ephemeral.is_empty()).then_some(ephemeral);
    if let Some(own) = &spec.resources {
        status.allocated_resources = own.requests.clone();
        status.resources = observed.given.clone().or(Some(own.clone()));
    }
    status.conditions = Some(conditions(pod, spec, previous, observed, phase, now));
    status.phase = Some(phase.into());
    status
}

/// The pod's addresses; those it had stay while it ends.
fn addresses(status: &mut PodStatus, previous: &PodStatus, observed: &Observed) {
    if let SandboxState::Ready { ips } = &observed.sandbox {
        status.pod_ip = ips.first().map(IpAddr::to_string);
        status.pod_ips = (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect());
    } else {
        status.pod_ip = previous.pod_ip.clone();
        status.pod_ips = previous.pod_ips.clone();
    }
}

/// The phase. It is terminal only when nothing runs any more.
fn phase(spec: &PodSpec, observed: &Observed, stopping: bool) -> &'static str {
    if stopping && observed.quiet() {
        let ok = observed.doom.is_none()
            && spec
                .containers
                .iter()
                .all(|c| matches!(observed.phase(&c.name), ContainerPhase::Ended(e) if e.code == 0));
        return if ok { "Succeeded" } else { "Failed" };
    }
    let begun = |c: &Container| {
        matches!(observed.phase(&c.name), ContainerPhase::Running(_) | ContainerPhase::Ended(_))
            || observed.containers.get(&c.name).is_some_and(|r| r.last.is_some())
    };
    if spec.containers.iter().all(begun) { "Running" } else { "Pending" }
}

fn container_status(
    pod: &Pod,
    spec: &PodSpec,
    member: Member<'_>,
    observed: &Observed,
    (waiting, stopping): (&str, bool),
) -> ContainerStatus {
    let container = member.container;
    let missing = ContainerObserved::default();
    let record = observed.containers.get(&container.name).unwrap_or(&missing);
    let mut last = record.last.as_ref();
    let state = match &record.state {
        ContainerPhase::Running(running) => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(running.started_at)) }),
            ..ContainerState::default()
        },
        ContainerPhase::Ended(ended) => match held_back(pod, spec, member, record, ended).filter(|_| !stopping) {
            Some(waiting) => {
                last = Some(ended);
                ContainerState { waiting: Some(waiting), ..ContainerState::default() }
            }
            None => terminated(ended),
        },
        ContainerPhase::CreateFailed { reason, message, .. } => waits(reason, Some(message.clone())),
        ContainerPhase::Starting => match last.take() {
            // Between two runs the previous end is what there is to see.
            Some(ended) => terminated(ended),
            None => waits(waiting, None),
        },
        ContainerPhase::Waiting => match image_wait(&record.image) {
            Some((reason, message)) => waits(reason, Some(message)),
            None => waits(waiting, None),
        },
    };
    let (id, image_id) = match &record.state {
        ContainerPhase::Running(r) => (r.id.as_str(), r.image_id.as_str()),
        ContainerPhase::Ended(e) => (e.id.as_str(), e.image_id.as_str()),
        _ => record.last.as_ref().map_or(("", ""), |l| (l.id.as_str(), l.image_id.as_str())),
    };
    let started = is_started(container, record);
    let running = if let ContainerPhase::Running(running) = &record.state { Some(running) } else { None };
    ContainerStatus {
        name: container.name.clone(),
        image: match &record.state {
            ContainerPhase::Running(running) => running.image.clone().or(container.image.clone()),
            _ => container.image.clone(),
        }
        .unwrap_or_default(),
        image_id: image_id.to_string(),
        container_id: (!id.is_empty()).then(|| format!("{ID_SCHEME}{id}")),
        ready: is_ready(member, record),
        started: Some(started),
        restart_count: i32::try_from(record.restarts).unwrap_or(i32::MAX),
        last_state: last.map(terminated),
        state: Some(state),
        allocated_resources: running.and(container.resources.as_ref()).and_then(|r| r.requests.clone()),
        resources: running.map(|r| r.given.clone().or(container.resources.clone()).unwrap_or_default()),
        ..ContainerStatus::default()
    }
}

/// Why a container that ended and should run does not run yet.
fn held_back(
    pod: &Pod,
    spec: &PodSpec,
    member: Member<'_>,
    record: &ContainerObserved,
    ended: &Ended,
) -> Option<ContainerStateWaiting> {
    if record.renew || !roles::restarts(spec, member, ended) {
        return None;
    }
    if let Some((reason, message)) = image_wait(&record.image) {
        return Some(ContainerStateWaiting { reason: Some(reason.into()), message: Some(message) });
    }
    (record.backoff.wait > 0).then(|| ContainerStateWaiting {
        reason: Some("CrashLoopBackOff".into()),
        message: Some(backoff_message(pod, &member.container.name, record.backoff.wait)),
    })
}

/// The text of a container that waits for its restart.
pub fn backoff_message(pod: &Pod, container: &str, wait: i64) -> String {
    let meta = &pod.metadata;
    format!(
        "back-off {} restarting failed container={container} pod={}_{}({})",
        go_duration(wait),
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default(),
    )
}

/// Seconds as Go prints a duration: `10s`, `1m20s`, `5m0s`.
fn go_duration(seconds: i64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

fn image_wait(image: &ImageState) -> Option<(&'static str, String)> {
    match image {
        ImageState::Failed { reason, message, image, retry } => {
            // The failure itself is shown at first, the wait for the next attempt once there was more than one.
            if *reason == "ErrImagePull" && retry.wait > super::FIRST_PULL_WAIT {
                Some(("ImagePullBackOff", format!("Back-off pulling image \"{image}\": ErrImagePull: {message}")))
            } else {
                Some((reason, message.clone()))
            }
        }
        _ => None,
    }
}

fn waits(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message }),
        ..ContainerState::default()
    }
}

fn terminated(ended: &Ended) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: (!ended.id.is_empty()).then(|| format!("{ID_SCHEME}{}", ended.id)),
            exit_code: ended.code,
            finished_at: Some(Time(ended.finished_at)),
            message: (!ended.message.is_empty()).then(|| ended.message.clone()),
            reason: Some(ended.reason.clone()),
            // The API has a field for it, but the convention is the exit code 128 + signal alone.
            signal: None,
            started_at: Some(Time(ended.started_at.unwrap_or(Timestamp::UNIX_EPOCH))),
        }),
        ..ContainerState::default()
    }
}

/// `ready` of a container.
pub fn is_ready(member: Member<'_>, record: &ContainerObserved) -> bool {
    match member.role {
        Role::Init => matches!(&record.state, ContainerPhase::Ended(e) if e.code == 0),
        Role::Ephemeral => false,
        Role::Main | Role::Sidecar => {
            is_started(member.container, record)
                && (member.container.readiness_probe.is_none() || record.probes.readiness == Some(true))
        }
    }
}

fn conditions(
    pod: &Pod,
    spec: &PodSpec,
    previous: &PodStatus,
    observed: &Observed,
    phase: &str,
    now: Timestamp,
) -> Vec<PodCondition> {
    let mut list = Vec::new();
    let mut add = |kind: &str, answer: Result<Option<&str>, (&str, String)>| {
        let (status, reason, message) = match answer {
            Ok(reason) => ("True", reason.map(str::to_string), None),
            Err((reason, message)) => {
                ("False", (!reason.is_empty()).then(|| reason.to_string()), (!message.is_empty()).then_some(message))
            }
        };
        list.push(condition(pod, previous, kind, status, reason, message, now));
    };
    let sandbox = matches!(observed.sandbox, SandboxState::Ready { .. });
    add("PodReadyToStartContainers", if sandbox { Ok(None) } else { Err(("", String::new())) });
    add("Initialized", initialized(spec, observed, phase));
    let containers = containers_ready(spec, observed, phase);
    let gates = gates_ready(pod, spec);
    let ready = match &containers {
        Err(why) => Err(why.clone()),
        Ok(()) => gates,
    };
    add("Ready", ready.map(|()| None));
    add("ContainersReady", containers.map(|()| None));
    add("PodScheduled", Ok(None));
    if super::plan::restarts_all(spec, observed).is_some() {
        list.push(condition(pod, previous, "AllContainersRestarting", "True", None, None, now));
    }
    if let Some(pending) = &observed.pending_resize {
        let (reason, message) = (Some(pending.reason.to_string()), Some(pending.message.clone()));
        list.push(condition(pod, previous, "PodResizePending", "True", reason, message, now));
    }
    if observed.is_resizing() {
        let (reason, message) = match &observed.resize {
            Step::Failed { message, .. } => (Some("Error".to_string()), Some(message.clone())),
            _ => (None, None),
        };
        list.push(condition(pod, previous, "PodResizeInProgress", "True", reason, message, now));
    }
    if let Some(doom) = observed.doom.as_ref().filter(|d| d.disruption) {
        list.push(condition(
            pod,
            previous,
            "DisruptionTarget",
            "True",
            Some("TerminationByKubelet".into()),
            Some(doom.message.clone()),
            now,
        ));
    }
    list
}

fn condition(
    pod: &Pod,
    previous: &PodStatus,
    kind: &str,
    status: &str,
    reason: Option<String>,
    message: Option<String>,
    now: Timestamp,
) -> PodCondition {
    let shown = |s: &PodStatus| s.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == status).cloned();
    let before = shown(previous).or_else(|| pod.status.as_ref().and_then(shown));
    PodCondition {
        type_: kind.to_string(),
        status: status.to_string(),
        reason,
        message,
        last_probe_time: None,
        last_transition_time: before.and_then(|c| c.last_transition_time).or(Some(Time(now))),
        observed_generation: pod.metadata.generation,
    }
}

fn initialized(
    spec: &PodSpec,
    observed: &Observed,
    phase: &str,
) -> Result<Option<&'static str>, (&'static str, String)> {
    if phase == "Succeeded" {
        return Ok(Some("PodCompleted"));
    }
    if mains_begun(spec, observed) {
        return Ok(None);
    }
    let missing = ContainerObserved::default();
    let incomplete: Vec<&str> = roles::members(spec)
        .filter(|m| {
            let record = observed.containers.get(&m.container.name).unwrap_or(&missing);
            match m.role {
                Role::Init => !matches!(&record.state, ContainerPhase::Ended(e) if e.code == 0),
                Role::Sidecar => !is_started(m.container, record),
                Role::Main | Role::Ephemeral => false,
            }
        })
        .map(|m| m.container.name.as_str())
        .collect();
    if incomplete.is_empty() {
        Ok(None)
    } else {
        Err(("ContainersNotInitialized", format!("containers with incomplete status: [{}]", incomplete.join(" "))))
    }
}

fn containers_ready(spec: &PodSpec, observed: &Observed, phase: &str) -> Result<(), (&'static str, String)> {
    match phase {
        "Succeeded" => return Err(("PodCompleted", String::new())),
        "Failed" => return Err(("PodFailed", String::new())),
        _ => {}
    }
    let missing = ContainerObserved::default();
    let unready: Vec<&str> = roles::members(spec)
        .filter(|m| matches!(m.role, Role::Main | Role::Sidecar))
        .filter(|m| !is_ready(*m, observed.containers.get(&m.container.name).unwrap_or(&missing)))
        .map(|m| m.container.name.as_str())
        .collect();
    if unready.is_empty() {
        Ok(())
    } else {
        Err(("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))))
    }
}

fn gates_ready(pod: &Pod, spec: &PodSpec) -> Result<(), (&'static str, String)> {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let mut wrong = Vec::new();
    for gate in spec.readiness_gates.iter().flatten() {
        match conditions.iter().find(|c| c.type_ == gate.condition_type) {
            Some(c) if c.status == "True" => {}
            Some(_) => {
                wrong.push(format!("the status of pod readiness gate \"{}\" is not \"True\"", gate.condition_type))
            }
            None => wrong.push(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(("ReadinessGatesNotReady", wrong.join(", "))) }
}
