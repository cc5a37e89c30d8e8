//! The status of an autoscaler: numbers, measured values, conditions.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::meta::Meta;
use crate::plan::{Plan, Target, Write};

/// A status that is being made.
pub struct Status {
    old: HorizontalPodAutoscalerStatus,
    new: HorizontalPodAutoscalerStatus,
    now: Timestamp,
}

impl Status {
    /// Begins with what is stored.
    pub fn of(autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Self {
        let old = autoscaler.status.clone().unwrap_or_default();
        let mut new = old.clone();
        new.observed_generation = autoscaler.metadata.generation;
        Self { old, new, now }
    }

    /// `status.currentReplicas`.
    pub fn current_replicas(&mut self, replicas: i64) {
        self.new.current_replicas = i32::try_from(replicas).ok();
    }

    /// `status.desiredReplicas`.
    pub fn desired_replicas(&mut self, replicas: i64) {
        self.new.desired_replicas = i32::try_from(replicas).unwrap_or(i32::MAX);
    }

    /// `status.currentMetrics`.
    pub fn current_metrics(&mut self, metrics: Vec<MetricStatus>) {
        self.new.current_metrics = Some(metrics);
    }

    /// `status.lastScaleTime` is now.
    pub fn scaled_now(&mut self) {
        self.new.last_scale_time = Some(Time(self.now));
    }

    /// Sets a condition; its time changes only with its status.
    pub fn condition(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let conditions = self.new.conditions.get_or_insert_default();
        let mut condition = HorizontalPodAutoscalerCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: Some(Time(self.now)),
        };
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(known) => {
                if known.status == status {
                    condition.last_transition_time.clone_from(&known.last_transition_time);
                }
                *known = condition;
            }
            None => conditions.push(condition),
        }
    }

    /// Writes it if it differs. Only this controller writes it, so the write depends on nothing but the object's identity.
    pub fn write(self, autoscaler: &HorizontalPodAutoscaler, plan: &mut Plan) {
        if self.new == self.old {
            return;
        }
        plan.write(Write::Merge {
            target: Target::of::<HorizontalPodAutoscaler>(autoscaler.namespace(), autoscaler.name()),
            subresource: "status",
            patch: json!({"metadata": {"uid": autoscaler.uid()}, "status": self.new}),
        });
    }
}
