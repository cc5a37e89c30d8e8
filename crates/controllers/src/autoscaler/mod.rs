//! Horizontal pod autoscaler: as many pods as the measured load asks for (autoscaling/v2).
//!
//! Reads HorizontalPodAutoscalers and Pods from the snapshot; the target's scale and the metrics from the API, since others
//! may serve them. Writes the scale, and the autoscaler's status. What was recommended and done lately is kept in an annotation,
//! so a restart forgets nothing: an autoscaler that has waited four minutes to scale down does not begin to wait anew.

mod behavior;
mod history;
mod metrics;
mod replicas;
mod status;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use mizzen_api::key;
use mizzen_api::selector::LabelSelector;
use mizzen_store::{Change, Event, Snapshot};
use serde_json::{Value, json};

use crate::meta::Meta;
use crate::plan::{Answer, ControllerError, Plan, Read, Target, Write};
use crate::served;
use crate::shell::Wake;
use crate::wake::head;
use behavior::Bounds;
use history::History;
use metrics::World;
use status::Status;

/// How often the load is looked at.
const PERIOD: Duration = Duration::from_secs(15);

/// What is known once the target's scale has been read.
struct Scaled {
    autoscaler: HorizontalPodAutoscaler,
    target: Target,
    /// `spec.replicas` of the scale.
    wanted: i64,
    /// `status.replicas` of the scale.
    current: i64,
    /// `status.selector` of the scale.
    selector: String,
}

/// The plan for the autoscaler at `autoscaler_key`. It begins with reading the target's scale.
///
/// # Errors
/// None: what cannot be read or measured is said in the conditions.
pub fn reconcile(snapshot: &Snapshot, autoscaler_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let found = snapshot.get_as::<HorizontalPodAutoscaler>(autoscaler_key);
    let Some(autoscaler) = found.filter(|a| !a.is_deleting()).map(|a| (*a).clone()) else {
        return Ok(Plan::default());
    };
    let reference = autoscaler.spec.scale_target_ref.clone();
    let version = reference.api_version.as_deref().unwrap_or("v1");
    let Some(resource) = served::by_kind(snapshot, version, &reference.kind) else {
        let why = format!("no matches for kind {:?} in version {version:?}", reference.kind);
        return Ok(no_scale(&autoscaler, &why, now));
    };
    let target = Target {
        group: resource.group,
        version: resource.version,
        plural: resource.plural,
        namespace: autoscaler.namespace().into(),
        name: reference.name,
    };
    let read = Read { path: format!("{}/scale", target.path()), query: Vec::new() };
    Ok(Plan::after_reading(vec![read], move |snapshot, mut answers, now| {
        match answers.pop().unwrap_or_else(|| Err("no answer".into())) {
            Ok(scale) => scaled(snapshot, Scaled::read(autoscaler, target, &scale), now),
            Err(why) => no_scale(&autoscaler, &why, now),
        }
    }))
}

impl Scaled {
    fn read(autoscaler: HorizontalPodAutoscaler, target: Target, scale: &Value) -> Self {
        Self {
            autoscaler,
            target,
            wanted: scale["spec"]["replicas"].as_i64().unwrap_or(0),
            current: scale["status"]["replicas"].as_i64().unwrap_or(0),
            selector: scale["status"]["selector"].as_str().unwrap_or_default().to_string(),
        }
    }
}

/// The target cannot be asked for its scale.
fn no_scale(autoscaler: &HorizontalPodAutoscaler, why: &str, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let message = format!("the HPA controller was unable to get the target's current scale: {why}");
    let mut status = Status::of(autoscaler, now);
    status.condition("AbleToScale", false, "FailedGetScale", &message);
    plan.warn(autoscaler, "FailedGetScale", why.to_string());
    status.write(autoscaler, &mut plan);
    plan.again(PERIOD);
    plan
}

/// The scale is known: metrics are read, unless there is nothing to decide.
fn scaled(_: &Snapshot, scaled: Scaled, now: Timestamp) -> Plan {
    let mut status = Status::of(&scaled.autoscaler, now);
    status.current_replicas(scaled.current);
    status.condition(
        "AbleToScale",
        true,
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
    );
    let bounds = Bounds::of(&scaled.autoscaler);
    if scaled.wanted == 0 && bounds.min != 0 {
        let why = "scaling is disabled since the replica count of the target is zero";
        status.condition("ScalingActive", false, "ScalingDisabled", why);
        status.desired_replicas(0);
        return done(&scaled, status, None);
    }
    if let Some((replicas, why)) = bounds.out_of(scaled.wanted) {
        return decided(scaled, status, replicas, why, None, now);
    }
    let selector = match LabelSelector::parse(&scaled.selector) {
        Ok(selector) if !scaled.selector.is_empty() => selector,
        Ok(_) => return invalid_selector(&scaled, status, "selector is required"),
        Err(error) => return invalid_selector(&scaled, status, &error.to_string()),
    };
    let specs = metrics::specs(&scaled.autoscaler);
    let reads = specs.iter().map(|spec| metrics::read(spec, scaled.autoscaler.namespace(), &scaled.selector)).collect();
    Plan::after_reading(reads, move |snapshot, answers, now| {
        measured(snapshot, scaled, status, &selector, &answers, now)
    })
}

fn invalid_selector(scaled: &Scaled, mut status: Status, why: &str) -> Plan {
    let message = format!("the HPA target's scale has an invalid selector: {why}");
    status.condition("ScalingActive", false, "InvalidSelector", &message);
    let mut plan = done(scaled, status, None);
    plan.warn(&scaled.autoscaler, "InvalidSelector", message);
    plan
}

/// The metrics are known.
fn measured(
    snapshot: &Snapshot,
    scaled: Scaled,
    mut status: Status,
    selector: &LabelSelector,
    answers: &[Answer],
    now: Timestamp,
) -> Plan {
    let prefix = key::in_namespace::<Pod>(scaled.autoscaler.namespace());
    let pods =
        snapshot.list_as::<Pod>(&prefix).filter(|p| selector.matches_labels(p.metadata.labels.as_ref())).collect();
    let world = World { pods, current: scaled.wanted, now, tolerance: behavior::tolerance(&scaled.autoscaler) };
    let mut best: Option<(i64, String)> = None;
    let (mut shown, mut failures) = (Vec::new(), Vec::new());
    for (spec, answer) in metrics::specs(&scaled.autoscaler).iter().zip(answers) {
        match metrics::propose(spec, answer, &world) {
            Ok(proposal) => {
                shown.push(proposal.status);
                if best.as_ref().is_none_or(|(replicas, _)| proposal.replicas > *replicas) {
                    best = Some((proposal.replicas, proposal.name));
                }
            }
            Err(failure) => failures.push(failure),
        }
    }
    status.current_metrics(shown);
    // With a metric missing, the others may ask for more, but not for less: the missing one may need what is there.
    let usable = best.filter(|(replicas, _)| failures.is_empty() || *replicas >= scaled.wanted);
    let Some((replicas, name)) = usable else {
        return unmeasured(&scaled, status, failures);
    };
    let message = format!("the HPA was able to successfully calculate a replica count from {name}");
    status.condition("ScalingActive", true, "ValidMetricFound", &message);
    let why = match replicas.cmp(&scaled.wanted) {
        std::cmp::Ordering::Greater => format!("{name} above target"),
        _ => "All metrics below target".to_string(),
    };
    let history = History::of(&scaled.autoscaler, scaled.wanted, now);
    decided(scaled, status, replicas, why, Some(history), now)
}

fn unmeasured(scaled: &Scaled, mut status: Status, failures: Vec<metrics::Failure>) -> Plan {
    let (count, total) = (failures.len(), metrics::specs(&scaled.autoscaler).len());
    let Some(first) = failures.into_iter().next() else { return done(scaled, status, None) };
    let why = &first.message;
    status.condition(
        "ScalingActive",
        false,
        first.reason,
        &format!("the HPA was unable to compute the replica count: {why}"),
    );
    status.desired_replicas(scaled.wanted);
    let mut plan = done(scaled, status, None);
    let all = format!("invalid metrics ({count} invalid out of {total}), first error is: {why}");
    plan.warn(&scaled.autoscaler, first.reason, why.clone());
    plan.warn(&scaled.autoscaler, "FailedComputeMetricsReplicas", all);
    plan
}

/// A number of pods has been found: what behaviour allows of it is done.
fn decided(
    scaled: Scaled,
    mut status: Status,
    proposed: i64,
    why: String,
    history: Option<History>,
    now: Timestamp,
) -> Plan {
    let (replicas, history) = match history {
        None => (proposed, None),
        Some(mut history) => {
            let rules = behavior::Rules::of(&scaled.autoscaler);
            let allowed = rules.allow(scaled.wanted, proposed, &mut history, now);
            for said in &allowed.said {
                status.condition(said.condition, said.holds, said.reason, said.message);
            }
            history.note_change(scaled.wanted, allowed.replicas, now);
            (allowed.replicas, Some(history))
        }
    };
    status.desired_replicas(replicas);
    if replicas == scaled.wanted {
        return done(&scaled, status, history);
    }
    let message = format!("the HPA controller was able to update the target scale to {replicas}");
    status.condition("AbleToScale", true, "SucceededRescale", &message);
    status.scaled_now();
    let mut plan = done(&scaled, status, history);
    plan.say(&scaled.autoscaler, "SuccessfulRescale", format!("New size: {replicas}; reason: {why}"));
    plan.write(Write::Merge {
        target: scaled.target,
        subresource: "scale",
        patch: json!({"spec": {"replicas": replicas}}),
    });
    plan
}

/// Everything is said; what is written down is the status, and the history if it has changed.
fn done(scaled: &Scaled, status: Status, history: Option<History>) -> Plan {
    let mut plan = Plan::default();
    status.write(&scaled.autoscaler, &mut plan);
    if let Some(patch) = history.and_then(|history| history.patch(&scaled.autoscaler)) {
        plan.write(patch);
    }
    plan.again(PERIOD);
    plan
}

/// A new spec wakes its autoscaler; its own writes do not.
pub(crate) fn woken_by_spec() -> (String, Wake) {
    let wake = |_: &Snapshot, event: &Event| {
        let same = match &event.change {
            Change::Put { entry, previous: Some(previous) } => {
                head(entry).metadata.generation == head(previous).metadata.generation
            }
            _ => false,
        };
        if same { Vec::new() } else { vec![event.key().to_string()] }
    };
    (key::all::<HorizontalPodAutoscaler>(), std::sync::Arc::new(wake))
}

#[cfg(test)]
mod tests;
