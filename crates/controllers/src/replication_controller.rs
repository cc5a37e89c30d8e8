//! ReplicationController: the elder sibling of the ReplicaSet, with a plain map as its selector (core/v1).
//!
//! All decisions are [`crate::replica_set`]'s.

use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use mizzen_api::selector::{LabelSelector, SelectorError};

use crate::plan::Plan;
use crate::replica_set::Replicas;

impl Replicas for ReplicationController {
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> Option<i32> {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn selector(&self) -> Result<LabelSelector, SelectorError> {
        let labels = self.spec.as_ref().and_then(|s| s.selector.as_ref());
        // Nothing selected is nothing owned, not everything.
        Ok(labels.filter(|l| !l.is_empty()).map_or_else(LabelSelector::nothing, |labels| {
            LabelSelector::of_labels(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        }))
    }

    fn status(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        let condition = |c: ReplicationControllerCondition| ReplicaSetCondition {
            type_: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            terminating_replicas: None,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|list| list.into_iter().map(condition).collect()),
        }
    }

    fn write_status(&self, new: ReplicaSetStatus, plan: &mut Plan) {
        let condition = |c: ReplicaSetCondition| ReplicationControllerCondition {
            type_: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        let new = ReplicationControllerStatus {
            replicas: new.replicas,
            fully_labeled_replicas: new.fully_labeled_replicas,
            ready_replicas: new.ready_replicas,
            available_replicas: new.available_replicas,
            observed_generation: new.observed_generation,
            conditions: new.conditions.map(|list| list.into_iter().map(condition).collect()),
        };
        plan.status(self, &self.status.clone().unwrap_or_default(), &new);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check;
    use k8s_openapi::api::core::v1::ReplicationController;

    #[test]
    fn closes_the_gap_between_spec_and_pods() {
        let rc = r#"rc/d/web spec.replicas=2 spec.selector={"app":"web"} spec.template.spec.containers=[{"name":"c"}]"#;
        for (case, pods, writes) in [
            ("missing pods", "", "create Pod d/web- x2; patch replicationcontrollers/status d/web"),
            (
                "an orphan is adopted",
                "pod/d/a label=web",
                "patch pods d/a; create Pod d/web-; patch replicationcontrollers/status d/web",
            ),
        ] {
            let reconcile = crate::replica_set::reconcile::<ReplicationController>;
            check(case, &format!("{rc}; {pods}"), "core/replicationcontrollers/d/web", reconcile, writes);
        }
    }
}
