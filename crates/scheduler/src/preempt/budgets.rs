//! Disruption budgets: whom preemption would rather not take (policy/v1 PodDisruptionBudget).

use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use mizzen_api::key;
use mizzen_api::selector::LabelSelector;
use mizzen_store::Snapshot;

use crate::cluster::PodInfo;

/// All budgets of the cluster, read once a cycle and only if something is to be preempted.
#[derive(Default)]
pub struct Budgets {
    all: Vec<Budget>,
}

struct Budget {
    object: Arc<PodDisruptionBudget>,
    selector: LabelSelector,
    allowed: i32,
}

impl Budgets {
    /// Reads the budgets.
    pub fn read(snapshot: &Snapshot) -> Self {
        let prefix = key::all::<PodDisruptionBudget>();
        let all = snapshot.list_as::<PodDisruptionBudget>(&prefix);
        let budget = |object: Arc<PodDisruptionBudget>| {
            let selector = object.spec.as_ref().and_then(|s| s.selector.as_ref());
            let selector = LabelSelector::from_typed(selector).unwrap_or_else(|_| LabelSelector::nothing());
            let allowed = object.status.as_ref().and_then(|s| s.disruptions_allowed).unwrap_or(0);
            Budget { object, selector, allowed }
        };
        Self { all: all.map(budget).collect() }
    }

    /// Those whose going would break a budget, and the others; both in the order given.
    pub(super) fn split(&self, pods: Vec<PodInfo>) -> (Vec<PodInfo>, Vec<PodInfo>) {
        let mut left: Vec<i32> = self.all.iter().map(|b| b.allowed).collect();
        pods.into_iter().partition(|pod| {
            let mut breaks = false;
            for (_, left) in self.all.iter().zip(&mut left).filter(|(b, _)| b.covers(pod)) {
                *left = left.saturating_sub(1);
                breaks |= *left < 0;
            }
            breaks
        })
    }
}

impl Budget {
    /// Does the pod's going count? Not again if the budget already counts it as disrupted.
    fn covers(&self, pod: &PodInfo) -> bool {
        let disrupted = self.object.status.as_ref().and_then(|s| s.disrupted_pods.as_ref());
        let name = pod.pod.metadata.name.as_deref().unwrap_or_default();
        self.object.metadata.namespace.as_deref() == Some(pod.namespace())
            && self.selector.matches_labels(pod.labels())
            && !disrupted.is_some_and(|d| d.contains_key(name))
    }
}
