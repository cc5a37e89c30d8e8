//! Controllers of nodes, and pods of nodes that are gone or unwell.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use super::Settings;
use crate::shell::Controller;
use crate::wake::{every, itself};
use crate::{node_ipam, node_lifecycle, node_pods, pod_gc, taint_eviction};

pub(super) fn controllers(settings: &Settings) -> Vec<Controller> {
    let range = settings.pod_range;
    vec![
        Controller {
            name: "node-lifecycle-controller",
            identity: "node-controller",
            start: every::<Node>(),
            wakes: vec![itself::<Node>()],
            reconcile: Arc::new(node_lifecycle::reconcile),
        },
        Controller {
            name: "node-controller",
            identity: "node-controller",
            start: every::<Node>(),
            wakes: vec![itself::<Node>()],
            reconcile: Arc::new(node_pods::reconcile),
        },
        Controller {
            name: "node-ipam-controller",
            identity: "node-controller",
            start: every::<Node>(),
            wakes: vec![itself::<Node>()],
            reconcile: Arc::new(move |snapshot, key, now| node_ipam::reconcile(snapshot, key, now, range)),
        },
        Controller {
            name: "taint-eviction-controller",
            identity: "node-controller",
            start: every::<Pod>(),
            wakes: vec![itself::<Pod>(), taint_eviction::woken_by_nodes()],
            reconcile: Arc::new(taint_eviction::reconcile),
        },
        Controller {
            name: "pod-garbage-collector-controller",
            identity: "pod-garbage-collector",
            start: every::<Pod>(),
            wakes: vec![pod_gc::woken_by_pods(), pod_gc::woken_by_nodes()],
            reconcile: Arc::new(pod_gc::reconcile),
        },
    ]
}
