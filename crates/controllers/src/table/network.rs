//! Controllers of what leads to pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Node, Service};

use super::Settings;
use crate::shell::Controller;
use crate::wake::{every, itself, same_name};
use crate::{cluster_dns, endpoint_mirror, endpoint_slice};

pub(super) fn controllers(settings: &Settings) -> Vec<Controller> {
    let dns = settings.cluster_dns.clone();
    vec![
        Controller {
            name: "endpointslice-controller",
            identity: "endpointslice-controller",
            start: every::<Service>(),
            wakes: vec![itself::<Service>(), endpoint_slice::woken_by_pods(), endpoint_slice::woken_by_slices()],
            reconcile: Arc::new(endpoint_slice::reconcile),
        },
        Controller {
            name: "endpoint-controller",
            identity: "endpoint-controller",
            start: every::<Service>(),
            wakes: vec![itself::<Service>(), endpoint_slice::woken_by_pods(), same_name::<Endpoints, Service>()],
            reconcile: Arc::new(endpoint_slice::reconcile_endpoints),
        },
        Controller {
            name: "endpointslicemirroring-controller",
            identity: "endpointslicemirroring-controller",
            start: every::<Endpoints>(),
            wakes: vec![itself::<Endpoints>(), same_name::<Service, Endpoints>(), endpoint_mirror::woken_by_slices()],
            reconcile: Arc::new(endpoint_mirror::reconcile),
        },
        Controller {
            name: "cluster-dns-controller",
            identity: "cluster-dns-controller",
            start: every::<Node>(),
            wakes: vec![itself::<Node>()],
            reconcile: Arc::new(move |snapshot, key, now| cluster_dns::reconcile(snapshot, key, now, &dns)),
        },
    ]
}
