//! Which pods of a Job run, have ended, and are counted (api-facts §9.6).
//!
//! A pod holds a finalizer until its end is counted for good: its UID is first written into the status, then the finalizer
//! goes, then the UID becomes part of the counters. Whatever is lost on the way, no pod is counted twice or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use mizzen_api::pod::{is_active, is_ready, is_terminal, is_terminating, phase};

use super::indexes::Indexes;
use super::policy::{self, Action};
use crate::meta::Meta;

/// Keeps a pod until it is counted.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Label and annotation with a pod's completion index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Annotation with how often the index had failed before this pod.
pub(super) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Most UIDs in a status, so that it stays small; more are counted in the next steps.
const UNCOUNTED_MAX: usize = 500;

/// The state of a Job's pods.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub active: Vec<Arc<Pod>>,
    pub ready: i32,
    /// On their way out, not ended.
    pub terminating: i32,
    /// Ended well or badly, counted or about to be.
    pub succeeded: i64,
    pub failed: i64,
    /// Counted for good.
    pub counted: (i32, i32),
    pub uncounted: UncountedTerminatedPods,
    /// Indexes that have succeeded, and that have failed for good.
    pub done: Indexes,
    pub failed_indexes: Indexes,
    /// Pods whose finalizer may go now.
    pub release: Vec<Arc<Pod>>,
    /// Pods that still hold their finalizer.
    pub tracked: usize,
    /// Failures per index, from its latest pod.
    pub index_failures: BTreeMap<i64, Arc<Pod>>,
    /// A failed pod for which the Job says that it fails as a whole.
    pub fatal: Option<String>,
}

/// The completions a Job of this spec needs; `None` for a work queue.
pub(super) fn completions(spec: &JobSpec) -> Option<i64> {
    spec.completions.map(i64::from)
}

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Pods are replaced only when they have really ended.
pub(super) fn replaces_only_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed")
}

/// The pod's completion index, if it has a valid one.
pub(super) fn index(pod: &Pod, spec: &JobSpec) -> Option<i64> {
    let text = pod.annotation(INDEX).or(pod.label(INDEX))?;
    text.parse().ok().filter(|i| *i >= 0 && *i < completions(spec).unwrap_or(0))
}

pub(super) fn has_failed(pod: &Pod, spec: &JobSpec) -> bool {
    match phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        // It may never come to report its end.
        _ => is_terminating(pod) && !replaces_only_failed(spec),
    }
}

fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

/// Counts the pods of a Job. `finishing` when its end is decided.
pub(super) fn tally(job: &Job, spec: &JobSpec, old: &JobStatus, pods: &[Arc<Pod>], finishing: bool) -> Tally {
    let limit = completions(spec).unwrap_or(0);
    let mut tally = Tally {
        done: Indexes::parse(old.completed_indexes.as_deref().unwrap_or_default(), limit),
        failed_indexes: Indexes::parse(old.failed_indexes.as_deref().unwrap_or_default(), limit),
        ..Tally::default()
    };
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    tally.active = pods.iter().filter(|p| is_active(p)).cloned().collect();
    tally.ready = count(tally.active.iter().filter(|p| is_ready(p)).count());
    tally.terminating = count(pods.iter().filter(|p| is_terminating(p) && !is_terminal(p)).count());
    tally.fail_indexes(spec, pods);
    let delayed = tally.count(job, spec, old, pods, finishing);
    tally.tracked = pods.iter().filter(|p| is_tracked(p)).count();
    let waiting = |list: &Option<Vec<String>>| list.as_ref().map_or(0, |l| i64::try_from(l.len()).unwrap_or(i64::MAX));
    tally.failed = i64::from(tally.counted.1) + waiting(&tally.uncounted.failed) + delayed;
    tally.succeeded = match is_indexed(spec) {
        true => tally.done.len(),
        false => i64::from(tally.counted.0) + waiting(&tally.uncounted.succeeded),
    };
    if is_indexed(spec) {
        tally.counted.0 = i32::try_from(tally.done.len()).unwrap_or(i32::MAX);
    }
    tally
}

impl Tally {
    /// Finds what failed pods mean for their index and for the Job.
    fn fail_indexes(&mut self, spec: &JobSpec, pods: &[Arc<Pod>]) {
        let limit = spec.backoff_limit_per_index;
        for pod in pods {
            let failed = has_failed(pod, spec);
            let action = if failed { policy::action(spec, pod) } else { Action::Count };
            if let Action::FailJob(message) = &action {
                self.fatal.get_or_insert_with(|| message.clone());
            }
            let Some((limit, index)) = limit.zip(index(pod, spec)) else { continue };
            if failed && (action == Action::FailIndex || action == Action::Count && failures(pod) >= limit) {
                self.failed_indexes.insert(index);
            }
            let newest = self.index_failures.get(&index);
            let rank = |p: &Pod| (failures(p), p.created());
            if newest.is_none_or(|known| rank(known) < rank(pod)) {
                self.index_failures.insert(index, Arc::clone(pod));
            }
        }
    }

    /// Moves pods through the steps of counting; answers how many failures wait for their replacement before they count.
    fn count(&mut self, job: &Job, spec: &JobSpec, old: &JobStatus, pods: &[Arc<Pod>], finishing: bool) -> i64 {
        let tracked: BTreeMap<&str, &Arc<Pod>> = pods.iter().filter(|p| is_tracked(p)).map(|p| (p.uid(), p)).collect();
        let before = old.uncounted_terminated_pods.clone().unwrap_or_default();
        let (succeeded, gone) = split(before.succeeded, &tracked);
        self.counted.0 = old.succeeded.unwrap_or(0).saturating_add(gone);
        let (failed, gone) = split(before.failed, &tracked);
        self.counted.1 = old.failed.unwrap_or(0).saturating_add(gone);
        let stored =
            Indexes::parse(old.completed_indexes.as_deref().unwrap_or_default(), completions(spec).unwrap_or(0));
        let (mut new_succeeded, mut new_failed, mut delayed) = (succeeded.clone(), failed.clone(), 0);
        for pod in tracked.into_values() {
            let uid = pod.uid().to_string();
            let full = new_succeeded.len() + new_failed.len() >= UNCOUNTED_MAX;
            let index = index(pod, spec);
            if is_indexed(spec) && index.is_none() && (is_terminal(pod) || is_terminating(pod)) {
                self.release.push(Arc::clone(pod)); // No index of this Job: it counts for nothing.
            } else if phase(pod) == "Succeeded" && !failed.contains(&uid) {
                match index.filter(|_| is_indexed(spec)) {
                    Some(index) if stored.has(index) => self.release.push(Arc::clone(pod)),
                    Some(index) => self.done.insert(index),
                    None if succeeded.contains(&uid) => self.release.push(Arc::clone(pod)),
                    None if full => {}
                    None => {
                        new_succeeded.insert(uid);
                    }
                }
            } else if has_failed(pod, spec) {
                let ours = spec.suspend == Some(true) && !is_terminal(pod);
                if !finishing && self.awaits_replacement(pod, spec, index) {
                    delayed += 1;
                } else if failed.contains(&uid) || ours || policy::action(spec, pod) == Action::Ignore {
                    self.release.push(Arc::clone(pod));
                } else if !full {
                    new_failed.insert(uid);
                }
            } else if job.is_deleting() {
                self.release.push(Arc::clone(pod));
            }
        }
        let list = |set: BTreeSet<String>| Some(Vec::from_iter(set)).filter(|l: &Vec<String>| !l.is_empty());
        self.uncounted = UncountedTerminatedPods { succeeded: list(new_succeeded), failed: list(new_failed) };
        delayed
    }

    /// The latest failed pod of an index holds the number of its failures until there is another.
    fn awaits_replacement(&self, pod: &Arc<Pod>, spec: &JobSpec, index: Option<i64>) -> bool {
        let (Some(_), Some(index)) = (spec.backoff_limit_per_index, index) else { return false };
        let latest = self.index_failures.get(&index).is_some_and(|p| p.uid() == pod.uid());
        latest && !self.failed_indexes.has(index) && !self.done.has(index)
    }
}

/// How often the index had failed before this pod.
pub(super) fn failures(pod: &Pod) -> i32 {
    pod.annotation(INDEX_FAILURES).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// UIDs whose pods still hold the finalizer, and how many no longer do.
fn split(uids: Option<Vec<String>>, tracked: &BTreeMap<&str, &Arc<Pod>>) -> (BTreeSet<String>, i32) {
    let (kept, gone): (Vec<String>, Vec<String>) =
        uids.unwrap_or_default().into_iter().partition(|uid| tracked.contains_key(uid.as_str()));
    (kept.into_iter().collect(), i32::try_from(gone.len()).unwrap_or(i32::MAX))
}
