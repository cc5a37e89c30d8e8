//! What is known about a pod when its worker begins: from what runs, and from what the API last showed. Pure.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::execute::Look;
use super::observed::{ContainerPhase, Ended, Observed, ProbeResults, SandboxState};
use super::status::{ID_SCHEME, is_terminal};

/// The observation to begin with, and the image digests by container.
pub fn observed(
    pod: &Pod,
    running: Option<(Look, Vec<IpAddr>)>,
    now: Timestamp,
) -> (Observed, HashMap<String, String>) {
    let status = pod.status.clone().unwrap_or_default();
    let mut observed = Observed::new(status.start_time.as_ref().map_or(now, |t| t.0));
    observed.reported_terminal = is_terminal(status.phase.as_deref());
    let statuses: Vec<&ContainerStatus> =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses]
            .into_iter()
            .flat_map(|list| list.iter().flatten())
            .collect();
    let digests: HashMap<String, String> =
        statuses.iter().filter(|s| !s.image_id.is_empty()).map(|s| (s.name.clone(), s.image_id.clone())).collect();
    let found: HashSet<&str> =
        running.iter().flat_map(|(look, _)| &look.sandbox.containers).map(|c| c.spec.id.as_str()).collect();
    for shown in &statuses {
        history(&mut observed, shown, &found, now);
    }
    if let Some((look, ips)) = running {
        observed.sandbox = SandboxState::Ready { ips };
        for container in &look.sandbox.containers {
            let name = &container.spec.name;
            let digest = digests.get(name).cloned().unwrap_or_else(|| container.spec.image_id.clone());
            let message = look.messages.get(&container.spec.id).cloned().unwrap_or_default();
            observed.record(container, &digest, false, message);
        }
        for shown in &statuses {
            keep_probes(&mut observed, shown);
        }
    }
    (observed, digests)
}

fn bare_id(id: Option<&str>) -> String {
    id.map(|i| i.strip_prefix(ID_SCHEME).unwrap_or(i).to_string()).unwrap_or_default()
}

fn ended(terminated: &ContainerStateTerminated, image_id: &str) -> Ended {
    Ended {
        id: bare_id(terminated.container_id.as_deref()),
        image_id: image_id.to_string(),
        started_at: terminated.started_at.as_ref().map(|t| t.0),
        finished_at: terminated.finished_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        code: terminated.exit_code,
        signal: None,
        reason: terminated.reason.clone().unwrap_or_default(),
        message: terminated.message.clone().unwrap_or_default(),
    }
}

/// What the API showed of a container. One that ran and is not found running any more has ended unseen.
fn history(observed: &mut Observed, shown: &ContainerStatus, found: &HashSet<&str>, now: Timestamp) {
    let record = observed.container_mut(&shown.name);
    record.restarts = u32::try_from(shown.restart_count).unwrap_or(0);
    let last = shown.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    record.last = last.map(|t| ended(t, &shown.image_id));
    let Some(state) = &shown.state else { return };
    if found.contains(bare_id(shown.container_id.as_deref()).as_str()) {
        return; // What the driver says of it is newer.
    }
    if let Some(terminated) = &state.terminated {
        record.state = ContainerPhase::Ended(ended(terminated, &shown.image_id));
    } else if let Some(running) = &state.running {
        record.state = ContainerPhase::Ended(Ended {
            id: bare_id(shown.container_id.as_deref()),
            image_id: shown.image_id.clone(),
            started_at: running.started_at.as_ref().map(|t| t.0),
            finished_at: now,
            code: 137,
            signal: None,
            reason: "ContainerStatusUnknown".into(),
            message: "The container could not be located when the pod was terminated".into(),
        });
    } else if let Some(last) = record.last.take() {
        // It waited for its next start.
        record.state = ContainerPhase::Ended(last);
    }
}

/// A restart of the agent is no reason to call a ready container unready.
fn keep_probes(observed: &mut Observed, shown: &ContainerStatus) {
    let record = observed.container_mut(&shown.name);
    if let ContainerPhase::Running(running) = &mut record.state
        && running.id == bare_id(shown.container_id.as_deref())
    {
        running.image = Some(shown.image.clone());
        record.probes = ProbeResults {
            startup: (shown.started == Some(true)).then_some(true),
            readiness: shown.ready.then_some(true),
            liveness: None,
        };
    }
}
