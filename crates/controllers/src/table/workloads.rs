//! Controllers of what runs pods.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::shell::Controller;
use crate::wake::{every, itself, owner, owner_or_adopter};
use crate::{autoscaler, cron_job, daemon_set, deployment, disruption, job, replica_set, stateful_set};

pub(super) fn controllers() -> Vec<Controller> {
    vec![
        Controller {
            name: "deployment-controller",
            identity: "deployment-controller",
            start: every::<Deployment>(),
            wakes: vec![
                itself::<Deployment>(),
                owner_or_adopter::<ReplicaSet, Deployment>("Deployment"),
                deployment::woken_by_pods(),
            ],
            reconcile: Arc::new(deployment::reconcile),
        },
        Controller {
            name: "replicaset-controller",
            identity: "replicaset-controller",
            start: every::<ReplicaSet>(),
            wakes: vec![itself::<ReplicaSet>(), owner_or_adopter::<Pod, ReplicaSet>("ReplicaSet")],
            reconcile: Arc::new(replica_set::reconcile::<ReplicaSet>),
        },
        Controller {
            name: "replication-controller",
            identity: "replication-controller",
            start: every::<ReplicationController>(),
            wakes: vec![
                itself::<ReplicationController>(),
                owner_or_adopter::<Pod, ReplicationController>("ReplicationController"),
            ],
            reconcile: Arc::new(replica_set::reconcile::<ReplicationController>),
        },
        Controller {
            name: "statefulset-controller",
            identity: "statefulset-controller",
            start: every::<StatefulSet>(),
            wakes: vec![
                itself::<StatefulSet>(),
                owner_or_adopter::<Pod, StatefulSet>("StatefulSet"),
                owner::<ControllerRevision, StatefulSet>("StatefulSet"),
            ],
            reconcile: Arc::new(stateful_set::reconcile),
        },
        Controller {
            name: "daemonset-controller",
            identity: "daemon-set-controller",
            start: every::<DaemonSet>(),
            wakes: vec![
                itself::<DaemonSet>(),
                owner_or_adopter::<Pod, DaemonSet>("DaemonSet"),
                owner::<ControllerRevision, DaemonSet>("DaemonSet"),
                daemon_set::woken_by_nodes(),
            ],
            reconcile: Arc::new(daemon_set::reconcile),
        },
        Controller {
            name: "job-controller",
            identity: "job-controller",
            start: job::all_and_orphaned(),
            wakes: vec![itself::<Job>(), owner_or_adopter::<Pod, Job>("Job"), job::woken_by_orphans()],
            reconcile: Arc::new(job::reconcile),
        },
        Controller {
            name: "ttl-after-finished-controller",
            identity: "ttl-after-finished-controller",
            start: every::<Job>(),
            wakes: vec![itself::<Job>()],
            reconcile: Arc::new(job::ttl::reconcile),
        },
        Controller {
            name: "cronjob-controller",
            identity: "cronjob-controller",
            start: every::<CronJob>(),
            wakes: vec![itself::<CronJob>(), owner::<Job, CronJob>("CronJob")],
            reconcile: Arc::new(cron_job::reconcile),
        },
        Controller {
            name: "horizontal-pod-autoscaler",
            identity: "horizontal-pod-autoscaler",
            start: every::<HorizontalPodAutoscaler>(),
            wakes: vec![autoscaler::woken_by_spec()],
            reconcile: Arc::new(autoscaler::reconcile),
        },
        Controller {
            name: "disruption-controller",
            identity: "disruption-controller",
            start: every::<PodDisruptionBudget>(),
            wakes: vec![
                itself::<PodDisruptionBudget>(),
                disruption::woken_by_pods(),
                disruption::woken_by_scale::<Deployment>(),
                disruption::woken_by_scale::<ReplicaSet>(),
                disruption::woken_by_scale::<StatefulSet>(),
                disruption::woken_by_scale::<ReplicationController>(),
            ],
            reconcile: Arc::new(disruption::reconcile),
        },
    ]
}
