//! The default bindings, and the Roles in system namespaces.

use super::rules::EVENTS;

/// Someone who is bound: `Group <name>`, `User <name>` or `ServiceAccount <namespace>/<name>`.
pub type Subject = &'static str;

/// ClusterRoleBindings: name, ClusterRole, subjects. Those of controllers come from their own table.
pub const CLUSTER: &[(&str, &str, &[Subject])] = &[
    ("cluster-admin", "cluster-admin", &["Group system:masters"]),
    // Nodes proxy services and resolve their names themselves.
    ("mizzen:node-proxier", "system:node-proxier", &["Group system:nodes"]),
    ("system:basic-user", "system:basic-user", &["Group system:authenticated"]),
    ("system:discovery", "system:discovery", &["Group system:authenticated"]),
    ("system:kube-controller-manager", "system:kube-controller-manager", &["User system:kube-controller-manager"]),
    ("system:kube-dns", "system:kube-dns", &["ServiceAccount kube-system/kube-dns"]),
    ("system:kube-scheduler", "system:kube-scheduler", &["User system:kube-scheduler"]),
    ("system:monitoring", "system:monitoring", &["Group system:monitoring"]),
    ("system:node", "system:node", &[]),
    ("system:node-proxier", "system:node-proxier", &["User system:kube-proxy"]),
    (
        "system:public-info-viewer",
        "system:public-info-viewer",
        &["Group system:authenticated", "Group system:unauthenticated"],
    ),
    (
        "system:service-account-issuer-discovery",
        "system:service-account-issuer-discovery",
        &["Group system:serviceaccounts"],
    ),
    ("system:volume-scheduler", "system:volume-scheduler", &["User system:kube-scheduler"]),
];

const LOCKS: &[&str] = &[
    "coordination.k8s.io | leases | get list watch create update",
    "coordination.k8s.io | leasecandidates | get list watch create update",
];

/// Roles: namespace, name, rules.
pub const ROLES: &[(&str, &str, &[&str])] = &[
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &["core | configmaps | get list watch create", "core | configmaps | update patch | cluster-info", EVENTS],
    ),
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        &["core | configmaps | get list watch | extension-apiserver-authentication"],
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager", LOCKS),
    ("kube-system", "system::leader-locking-kube-scheduler", LOCKS),
    ("kube-system", "system:controller:bootstrap-signer", &["core | secrets | get list watch"]),
    ("kube-system", "system:controller:cloud-provider", &["core | configmaps | get list watch create"]),
    ("kube-system", "system:controller:token-cleaner", &["core | secrets | get list watch delete", EVENTS]),
];

/// RoleBindings: namespace, name, Role, subjects.
pub const NAMESPACED: &[(&str, &str, &str, &[Subject])] = &[
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &["ServiceAccount kube-system/bootstrap-signer"],
    ),
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &["User system:kube-controller-manager", "User system:kube-scheduler"],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[
            "User system:kube-controller-manager",
            "ServiceAccount kube-system/kube-controller-manager",
            "ServiceAccount kube-system/leader-election-controller",
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &["User system:kube-scheduler", "ServiceAccount kube-system/kube-scheduler"],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &["ServiceAccount kube-system/bootstrap-signer"],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        &["ServiceAccount kube-system/cloud-provider"],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        &["ServiceAccount kube-system/token-cleaner"],
    ),
];
