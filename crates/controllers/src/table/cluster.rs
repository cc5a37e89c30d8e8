//! Controllers of what every cluster keeps in order: namespaces, identities, quotas.

use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::Settings;
use crate::shell::Controller;
use crate::wake::{every, itself, namespace_of};
use crate::{
    cluster_role_aggregation, custom_resource_definition, garbage_collector, namespace, resource_quota, root_ca,
    service_account, validating_admission_policy,
};

/// The controller of definitions.
pub(super) fn custom_resource_definitions() -> Controller {
    Controller {
        name: "custom-resource-definition-controller",
        identity: "custom-resource-definition-controller",
        start: every::<CustomResourceDefinition>(),
        wakes: vec![custom_resource_definition::group(), custom_resource_definition::emptied()],
        reconcile: Arc::new(custom_resource_definition::reconcile),
    }
}

/// The controller that checks policies against the types they will see.
pub(super) fn validating_admission_policies() -> Controller {
    Controller {
        name: "validatingadmissionpolicy-status-controller",
        identity: "validatingadmissionpolicy-status-controller",
        start: every::<ValidatingAdmissionPolicy>(),
        wakes: vec![itself::<ValidatingAdmissionPolicy>()],
        reconcile: Arc::new(validating_admission_policy::reconcile),
    }
}

pub(super) fn controllers(settings: &Settings) -> Vec<Controller> {
    let ca = settings.root_ca_pem.clone();
    vec![
        garbage_collector::controller(),
        custom_resource_definitions(),
        validating_admission_policies(),
        Controller {
            name: "namespace-controller",
            identity: "namespace-controller",
            start: every::<Namespace>(),
            wakes: vec![itself::<Namespace>(), namespace::emptied()],
            reconcile: Arc::new(namespace::reconcile),
        },
        Controller {
            name: "service-account-controller",
            identity: "service-account-controller",
            start: every::<Namespace>(),
            wakes: vec![itself::<Namespace>(), namespace_of::<ServiceAccount>()],
            reconcile: Arc::new(service_account::reconcile),
        },
        Controller {
            name: "root-ca-cert-publisher",
            identity: "root-ca-cert-publisher",
            start: every::<Namespace>(),
            wakes: vec![itself::<Namespace>(), namespace_of::<ConfigMap>()],
            reconcile: Arc::new(move |snapshot, key, now| root_ca::reconcile(snapshot, key, now, &ca)),
        },
        Controller {
            name: "clusterrole-aggregation-controller",
            identity: "clusterrole-aggregation-controller",
            start: every::<ClusterRole>(),
            wakes: vec![cluster_role_aggregation::woken_by_roles()],
            reconcile: Arc::new(cluster_role_aggregation::reconcile),
        },
        Controller {
            name: "resourcequota-controller",
            identity: "resourcequota-controller",
            start: every::<ResourceQuota>(),
            wakes: vec![itself::<ResourceQuota>(), resource_quota::woken_by_content()],
            reconcile: Arc::new(resource_quota::reconcile),
        },
    ]
}
