//! The roles of controllers: `system:controller:<name>`, bound to the ServiceAccount `kube-system/<name>`.
//!
//! The permissions are those of Kubernetes' controllers, and `patch` wherever these only `update`.

use super::rules::EVENTS;

/// Name and rules.
pub const CONTROLLERS: &[(&str, &[&str])] = &[
    (
        "attachdetach-controller",
        &[
            "core | persistentvolumeclaims persistentvolumes | list watch",
            "core | nodes | get list watch",
            "core | nodes/status | patch update",
            "core | pods | list watch",
            EVENTS,
            "storage.k8s.io | volumeattachments | get list watch create delete",
            "storage.k8s.io | csidrivers | get list watch",
            "storage.k8s.io | csinodes | get list watch",
        ],
    ),
    (
        "certificate-controller",
        &[
            "certificates.k8s.io | certificatesigningrequests | get list watch delete",
            "certificates.k8s.io | certificatesigningrequests/approval certificatesigningrequests/status | update patch",
            "certificates.k8s.io | signers | approve | kubernetes.io/kube-apiserver-client-kubelet",
            "certificates.k8s.io | signers | sign | kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
            "authorization.k8s.io | subjectaccessreviews | create",
            EVENTS,
        ],
    ),
    (
        "cluster-dns-controller",
        &["core | services | create", "discovery.k8s.io | endpointslices | create update", EVENTS],
    ),
    (
        "clusterrole-aggregation-controller",
        &["rbac.authorization.k8s.io | clusterroles | get list watch escalate patch update"],
    ),
    (
        "cronjob-controller",
        &[
            "batch | cronjobs | get list watch update",
            "batch | jobs | get list watch create delete patch update",
            "batch | cronjobs/status | update patch",
            "batch | cronjobs/finalizers | update",
            "core | pods | list watch delete",
            EVENTS,
        ],
    ),
    (
        "daemon-set-controller",
        &[
            "apps extensions | daemonsets | get list watch",
            "apps extensions | daemonsets/status | update patch",
            "apps extensions | daemonsets/finalizers | update",
            "core | nodes | list watch",
            "core | pods | list watch create delete patch",
            "core | pods/binding | create",
            "apps | controllerrevisions | get list watch create delete patch update",
            EVENTS,
        ],
    ),
    (
        "deployment-controller",
        &[
            "apps extensions | deployments | get list watch patch update",
            "apps extensions | deployments/status | update patch",
            "apps extensions | deployments/finalizers | update",
            "apps extensions | replicasets | get list watch create delete patch update",
            "core | pods | get list watch update",
            EVENTS,
        ],
    ),
    (
        "device-taint-eviction-controller",
        &[
            "core | pods | get list watch delete",
            "core | pods/status | patch update",
            "resource.k8s.io | resourceclaims | get list watch",
            "resource.k8s.io | resourceslices | get list watch",
            "resource.k8s.io | deviceclasses | get list watch",
            EVENTS,
        ],
    ),
    (
        "disruption-controller",
        &[
            "apps extensions | deployments | get list watch",
            "apps extensions | replicasets | get list watch",
            "core | replicationcontrollers | get list watch",
            "policy | poddisruptionbudgets | get list watch",
            "apps | statefulsets | get list watch",
            "policy | poddisruptionbudgets/status | update patch",
            "core | pods/status | patch update",
            "* | */scale | get",
            EVENTS,
        ],
    ),
    (
        "endpoint-controller",
        &[
            "core | pods services | get list watch",
            "core | endpoints | get list watch create delete update",
            "core | endpoints/restricted | create",
            EVENTS,
        ],
    ),
    (
        "endpointslice-controller",
        &[
            "core | nodes pods services | get list watch",
            "core | services/finalizers | update",
            "discovery.k8s.io | endpointslices | get list watch create delete update",
            "discovery.k8s.io | endpointslices/restricted | create",
            EVENTS,
        ],
    ),
    (
        "endpointslicemirroring-controller",
        &[
            "core | endpoints services | get list watch",
            "core | services/finalizers | update",
            "core | endpoints/finalizers | update",
            "discovery.k8s.io | endpointslices | get list watch create delete update",
            "discovery.k8s.io | endpointslices/restricted | create",
            EVENTS,
        ],
    ),
    (
        "ephemeral-volume-controller",
        &[
            "core | pods | get list watch",
            "core | pods/finalizers | update",
            "core | persistentvolumeclaims | get list watch create",
            EVENTS,
        ],
    ),
    (
        "expand-controller",
        &[
            "core | persistentvolumes | get list watch patch update",
            "core | persistentvolumeclaims/status | patch update",
            "core | persistentvolumeclaims | get list watch",
            EVENTS,
        ],
    ),
    ("generic-garbage-collector", &["* | * | get list watch delete patch update", EVENTS]),
    (
        "horizontal-pod-autoscaler",
        &[
            "autoscaling | horizontalpodautoscalers | get list watch patch",
            "autoscaling | horizontalpodautoscalers/status | update patch",
            "* | */scale | get update patch",
            "core | pods | list watch",
            "metrics.k8s.io | pods | list watch",
            "custom.metrics.k8s.io | * | get list watch",
            "external.metrics.k8s.io | * | get list watch",
            EVENTS,
        ],
    ),
    (
        "job-controller",
        &[
            "batch | jobs | get list watch patch update",
            "batch | jobs/status | update patch",
            "batch | jobs/finalizers | update",
            "core | pods | list watch create delete patch",
            EVENTS,
        ],
    ),
    (
        "legacy-service-account-token-cleaner",
        &[
            "core | configmaps | get | kube-apiserver-legacy-service-account-token-tracking",
            "core | secrets | delete patch",
        ],
    ),
    (
        "custom-resource-definition-controller",
        &[
            "apiextensions.k8s.io | customresourcedefinitions | get list watch patch update",
            "apiextensions.k8s.io | customresourcedefinitions/status | patch update",
            "* | * | get list watch delete deletecollection",
            EVENTS,
        ],
    ),
    (
        "namespace-controller",
        &[
            "core | namespaces | get list watch delete",
            "core | namespaces/finalize namespaces/status | update patch",
            "* | * | get list watch delete deletecollection",
        ],
    ),
    (
        "node-controller",
        &[
            "core | nodes | get list watch delete patch update",
            "core | nodes/status | patch update",
            "core | pods/status | patch update",
            "core | pods | get list watch delete",
            EVENTS,
        ],
    ),
    (
        "persistent-volume-binder",
        &[
            "core | persistentvolumes | get list watch create delete patch update",
            "core | persistentvolumes/status | update patch",
            "core | persistentvolumeclaims | get list watch patch update",
            "core | persistentvolumeclaims/status | update patch",
            "core | pods | get list watch create delete",
            "storage.k8s.io | storageclasses | get list watch",
            "core | nodes | list watch",
            EVENTS,
            "core | events | watch",
        ],
    ),
    (
        "pod-garbage-collector",
        &["core | pods | list watch delete", "core | nodes | get list watch", "core | pods/status | patch"],
    ),
    ("pv-protection-controller", &["core | persistentvolumes | get list watch patch update", EVENTS]),
    (
        "pvc-protection-controller",
        &[
            "core | persistentvolumeclaims | get list watch patch update",
            "core | persistentvolumeclaims/status | update patch",
            "core | pods | get list watch",
            EVENTS,
        ],
    ),
    (
        "replicaset-controller",
        &[
            "apps extensions | replicasets | get list watch patch update",
            "apps extensions | replicasets/status | update patch",
            "apps extensions | replicasets/finalizers | update",
            "core | pods | list watch create delete patch",
            EVENTS,
        ],
    ),
    (
        "replication-controller",
        &[
            "core | replicationcontrollers | get list watch update",
            "core | replicationcontrollers/status | update patch",
            "core | replicationcontrollers/finalizers | update",
            "core | pods | list watch create delete patch",
            EVENTS,
        ],
    ),
    (
        "resource-claim-controller",
        &[
            "core | pods | get list watch",
            "core | pods/finalizers | update",
            "resource.k8s.io | resourceclaims | get list watch create delete",
            "resource.k8s.io | resourceclaims resourceclaims/status | patch update",
            "core | pods/status | patch update",
            EVENTS,
            "resource.k8s.io | resourceclaims/binding | patch update",
        ],
    ),
    ("resourcequota-controller", &["* | * | list watch", "core | resourcequotas/status | update patch", EVENTS]),
    ("root-ca-cert-publisher", &["core | configmaps | create update patch", EVENTS]),
    ("route-controller", &["core | nodes | list watch", "core | nodes/status | patch", EVENTS]),
    (
        "selinux-warning-controller",
        &[
            EVENTS,
            "core | persistentvolumes | get list watch",
            "core | persistentvolumeclaims | get list watch",
            "core | pods | get list watch",
            "storage.k8s.io | csidrivers | get list watch",
        ],
    ),
    ("service-account-controller", &["core | serviceaccounts | create update patch", EVENTS]),
    (
        "token-controller",
        &["core | secrets | get list watch delete patch update", "core | serviceaccounts | get list watch", EVENTS],
    ),
    (
        "service-cidrs-controller",
        &[
            "networking.k8s.io | servicecidrs | get list watch patch update",
            "networking.k8s.io | servicecidrs/finalizers | patch update",
            "networking.k8s.io | servicecidrs/status | patch update",
            "networking.k8s.io | ipaddresses | get list watch",
            EVENTS,
        ],
    ),
    (
        "service-controller",
        &[
            "core | services | get list watch",
            "core | services/status | patch update",
            "core | nodes | list watch",
            EVENTS,
        ],
    ),
    (
        "statefulset-controller",
        &[
            "core | pods | list watch",
            "apps | statefulsets | get list watch",
            "apps | statefulsets/status | update patch",
            "apps | statefulsets/finalizers | update",
            "core | pods | get create delete patch update",
            "apps | controllerrevisions | get list watch create delete patch update",
            "core | persistentvolumeclaims | get list watch create",
            "core | persistentvolumeclaims | delete patch update",
            "core | pods/finalizers | update",
            EVENTS,
        ],
    ),
    ("ttl-after-finished-controller", &["batch | jobs | get list watch delete", EVENTS]),
    ("ttl-controller", &["core | nodes | list watch patch update", EVENTS]),
    (
        "validatingadmissionpolicy-status-controller",
        &[
            "admissionregistration.k8s.io | validatingadmissionpolicies | get list watch",
            "admissionregistration.k8s.io | validatingadmissionpolicies/status | get patch update",
            EVENTS,
        ],
    ),
    (
        "volumeattributesclass-protection-controller",
        &[
            "core | persistentvolumeclaims | get list watch",
            "core | persistentvolumes | get list watch",
            "storage.k8s.io | volumeattributesclasses | get list watch update",
            EVENTS,
        ],
    ),
];
