//! What each kind does differently: defaults, strategy, validation, columns.
//!
//! [`of`] is the one place that ties a resource to its [`Rules`]; a kind's rules live in a file (or folder) of its
//! own and start from one of the consts of [`plain`]. All functions take whatever JSON they are given: an unexpected
//! shape is skipped by defaults and columns, and reported by validation.

pub mod address;
pub mod admission;
pub mod apiservice;
pub mod autoscaler;
pub mod cells;
pub mod check;
pub mod config;
pub mod csi;
pub mod custom;
pub mod daemonset;
pub mod definition;
pub mod deployment;
pub mod device;
pub mod disruption;
pub mod endpoints;
pub mod event;
pub mod fill;
pub mod flow;
pub mod ingress;
pub mod job;
pub mod lease;
pub mod metadata;
pub mod namespace;
pub mod networkpolicy;
pub mod node;
pub mod plain;
pub mod pod;
pub mod podclass;
pub mod quota;
pub mod rbac;
pub mod replicaset;
pub mod resources;
pub mod selector;
pub mod service;
pub mod serviceaccount;
pub mod signing;
pub mod statefulset;
pub mod storage;
pub mod storageversion;
pub mod volume;
pub mod workload;

use crate::kind::Rules;

static PLAIN: Rules = plain::PLAIN;
static WITH_STATUS: Rules = plain::WITH_STATUS;
static WITH_SPEC_AND_STATUS: Rules = plain::WITH_SPEC_AND_STATUS;

/// The rules of a resource (`group` empty for core), in its storage version. Unknown resources get the plain rules.
pub fn of(group: &str, plural: &str) -> &'static Rules {
    match group {
        "" => core(plural),
        "apps" => match plural {
            "deployments" => &deployment::RULES,
            "replicasets" => &replicaset::REPLICA_SET,
            "statefulsets" => &statefulset::RULES,
            "daemonsets" => &daemonset::RULES,
            "controllerrevisions" => &statefulset::REVISION,
            _ => &PLAIN,
        },
        "batch" => match plural {
            "jobs" => &job::JOB,
            "cronjobs" => &job::CRON_JOB,
            _ => &PLAIN,
        },
        "storage.k8s.io" => storage(plural),
        "resource.k8s.io" => match plural {
            "resourceclaims" => &device::RESOURCE_CLAIM,
            "resourceslices" => &device::RESOURCE_SLICE,
            "devicetaintrules" | "resourcepoolstatusrequests" => &device::DEVICE_WITH_STATUS,
            "deviceclasses" => &device::DEVICE_CLASS,
            "resourceclaimtemplates" => &device::CLAIM_TEMPLATE,
            _ => &PLAIN,
        },
        "networking.k8s.io" => match plural {
            "ingresses" => &ingress::INGRESS,
            "ingressclasses" => &ingress::INGRESS_CLASS,
            "networkpolicies" => &networkpolicy::POLICY,
            "servicecidrs" => &address::SERVICE_CIDR,
            "ipaddresses" => &address::IP_ADDRESS,
            _ => &PLAIN,
        },
        "rbac.authorization.k8s.io" => match plural {
            "roles" => &rbac::ROLE,
            "clusterroles" => &rbac::CLUSTER_ROLE,
            "rolebindings" => &rbac::BINDING,
            "clusterrolebindings" => &rbac::CLUSTER_BINDING,
            _ => &PLAIN,
        },
        "admissionregistration.k8s.io" => admission(plural),
        _ => others(group, plural),
    }
}

fn core(plural: &str) -> &'static Rules {
    match plural {
        "pods" => &pod::POD,
        "podtemplates" => &pod::POD_TEMPLATE,
        "configmaps" => &config::CONFIG_MAP,
        "secrets" => &config::SECRET,
        "events" => &event::EVENT,
        "endpoints" => &endpoints::ENDPOINTS,
        "services" => &service::RULES,
        "serviceaccounts" => &serviceaccount::RULES,
        "namespaces" => &namespace::RULES,
        "nodes" => &node::RULES,
        "persistentvolumes" => &volume::VOLUME,
        "persistentvolumeclaims" => &volume::CLAIM,
        "replicationcontrollers" => &replicaset::REPLICATION_CONTROLLER,
        "resourcequotas" => &quota::QUOTA,
        "limitranges" => &quota::LIMIT_RANGE,
        _ => &PLAIN,
    }
}

fn storage(plural: &str) -> &'static Rules {
    match plural {
        "storageclasses" => &storage::STORAGE_CLASS,
        "csidrivers" => &csi::CSI_DRIVER,
        "csinodes" => &csi::CSI_NODE,
        "csistoragecapacities" => &csi::CSI_CAPACITY,
        "volumeattachments" => &storage::ATTACHMENT,
        "volumeattributesclasses" => &storage::ATTRIBUTES_CLASS,
        _ => &PLAIN,
    }
}

fn admission(plural: &str) -> &'static Rules {
    match plural {
        "validatingwebhookconfigurations" => &admission::VALIDATING_WEBHOOKS,
        "mutatingwebhookconfigurations" => &admission::MUTATING_WEBHOOKS,
        "validatingadmissionpolicies" => &admission::VALIDATING_POLICY,
        "mutatingadmissionpolicies" => &admission::MUTATING_POLICY,
        "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings" => &admission::POLICY_BINDING,
        _ => &PLAIN,
    }
}

fn others(group: &str, plural: &str) -> &'static Rules {
    match (group, plural) {
        ("autoscaling", "horizontalpodautoscalers") => &autoscaler::AUTOSCALER,
        ("policy", "poddisruptionbudgets") => &disruption::DISRUPTION_BUDGET,
        ("scheduling.k8s.io", "priorityclasses") => &podclass::PRIORITY_CLASS,
        ("scheduling.k8s.io", "podgroups") => &WITH_STATUS,
        ("node.k8s.io", "runtimeclasses") => &podclass::RUNTIME_CLASS,
        ("coordination.k8s.io", "leases") => &lease::LEASE,
        ("coordination.k8s.io", "leasecandidates") => &lease::LEASE_CANDIDATE,
        ("events.k8s.io", "events") => &event::EVENT,
        ("discovery.k8s.io", "endpointslices") => &endpoints::ENDPOINT_SLICE,
        ("apiextensions.k8s.io", "customresourcedefinitions") => &definition::DEFINITION,
        ("apiregistration.k8s.io", "apiservices") => &apiservice::API_SERVICE,
        ("certificates.k8s.io", "certificatesigningrequests") => &signing::SIGNING_REQUEST,
        ("certificates.k8s.io", "podcertificaterequests") => &WITH_STATUS,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &flow::FLOW_SCHEMA,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => &flow::PRIORITY_LEVEL,
        ("internal.apiserver.k8s.io", "storageversions") => &storageversion::STORAGE_VERSION,
        ("storagemigration.k8s.io", "storageversionmigrations") => &WITH_SPEC_AND_STATUS,
        _ => &PLAIN,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use crate::kind::Rules;

    /// Every resource with rules of its own, and one without.
    pub const RESOURCES: &[(&str, &str)] = &[
        ("", "pods"),
        ("", "podtemplates"),
        ("", "configmaps"),
        ("", "secrets"),
        ("", "events"),
        ("", "endpoints"),
        ("", "services"),
        ("", "serviceaccounts"),
        ("", "namespaces"),
        ("", "nodes"),
        ("", "persistentvolumes"),
        ("", "persistentvolumeclaims"),
        ("", "replicationcontrollers"),
        ("", "resourcequotas"),
        ("", "limitranges"),
        ("apps", "deployments"),
        ("apps", "replicasets"),
        ("apps", "statefulsets"),
        ("apps", "daemonsets"),
        ("apps", "controllerrevisions"),
        ("batch", "jobs"),
        ("batch", "cronjobs"),
        ("storage.k8s.io", "storageclasses"),
        ("storage.k8s.io", "csidrivers"),
        ("storage.k8s.io", "csinodes"),
        ("storage.k8s.io", "csistoragecapacities"),
        ("storage.k8s.io", "volumeattachments"),
        ("storage.k8s.io", "volumeattributesclasses"),
        ("resource.k8s.io", "resourceclaims"),
        ("resource.k8s.io", "resourceslices"),
        ("resource.k8s.io", "devicetaintrules"),
        ("networking.k8s.io", "ingresses"),
        ("networking.k8s.io", "ingressclasses"),
        ("networking.k8s.io", "networkpolicies"),
        ("networking.k8s.io", "servicecidrs"),
        ("networking.k8s.io", "ipaddresses"),
        ("rbac.authorization.k8s.io", "roles"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "rolebindings"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
        ("autoscaling", "horizontalpodautoscalers"),
        ("policy", "poddisruptionbudgets"),
        ("scheduling.k8s.io", "priorityclasses"),
        ("node.k8s.io", "runtimeclasses"),
        ("coordination.k8s.io", "leases"),
        ("events.k8s.io", "events"),
        ("discovery.k8s.io", "endpointslices"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("apiregistration.k8s.io", "apiservices"),
        ("certificates.k8s.io", "certificatesigningrequests"),
        ("flowcontrol.apiserver.k8s.io", "flowschemas"),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
        ("example.com", "widgets"),
    ];

    /// Field names that the rules look into, so that arbitrary objects reach deep code.
    const FIELDS: &[&str] = &[
        "metadata",
        "spec",
        "status",
        "template",
        "containers",
        "initContainers",
        "volumes",
        "ports",
        "labels",
        "name",
        "resources",
        "limits",
        "requests",
        "env",
        "valueFrom",
        "livenessProbe",
        "httpGet",
        "lifecycle",
        "securityContext",
        "selector",
        "matchLabels",
        "strategy",
        "rollingUpdate",
        "type",
        "data",
        "stringData",
        "webhooks",
        "rules",
        "names",
        "kind",
        "versions",
        "subsets",
        "addresses",
        "endpoints",
        "conditions",
        "subjects",
        "roleRef",
        "jobTemplate",
        "behavior",
        "metrics",
        "max",
        "min",
        "projected",
        "sources",
        "items",
        "phase",
        "containerStatuses",
        "state",
    ];

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-zA-Z0-9%./:-]{0,8}".prop_map(Value::from),
            ".{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(8, 64, 6, |inner| {
            let field = prop_oneof![8 => proptest::sample::select(FIELDS).prop_map(String::from), 1 => ".{0,3}".prop_map(String::from)];
            prop_oneof![
                1 => proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                3 => proptest::collection::vec((field, inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    #[test]
    fn strategies_differ_where_kubernetes_differs() {
        let having = |has: fn(&Rules) -> bool| {
            let named = RESOURCES.iter().filter(|(group, plural)| has(super::of(group, plural)));
            named.map(|(_, plural)| *plural).collect::<Vec<_>>().join(" ")
        };
        for (what, found, expected) in [
            (
                "created by PUT",
                having(|rules| rules.create_on_update),
                "events services limitranges roles clusterroles rolebindings clusterrolebindings runtimeclasses leases events",
            ),
            ("orphans its dependents", having(|rules| rules.orphans_by_default), "replicationcontrollers jobs"),
            (
                "PUT needs a revision",
                having(|rules| !rules.unconditional_update),
                "csidrivers csinodes csistoragecapacities volumeattachments validatingwebhookconfigurations \
                 mutatingwebhookconfigurations validatingadmissionpolicies mutatingadmissionpolicies \
                 validatingadmissionpolicybindings poddisruptionbudgets runtimeclasses leases customresourcedefinitions apiservices",
            ),
            (
                "DELETE answers with the object",
                having(|rules| rules.returns_deleted),
                "pods podtemplates services serviceaccounts namespaces persistentvolumes persistentvolumeclaims resourcequotas \
                 storageclasses csidrivers csinodes csistoragecapacities volumeattachments volumeattributesclasses resourceclaims \
                 resourceslices devicetaintrules",
            ),
        ] {
            assert_eq!(found, expected, "{what}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_shape_of_json_upsets_any_rule(object in json(), other in json()) {
            for (group, plural) in RESOURCES {
                let rules = super::of(group, plural);
                let mut filled = object.clone();
                (rules.default)(&mut filled);
                let once = filled.clone();
                (rules.default)(&mut filled);
                prop_assert_eq!(&filled, &once, "defaults of {} are idempotent", plural);
                for object in [&object, &filled] {
                    let _ = (rules.validate)(object);
                    let _ = (rules.validate_update)(object, &other);
                    let _ = (rules.validate_status_update)(object, &other);
                    let _ = (rules.warnings)(object);
                    let row = (rules.row)(object, 0);
                    prop_assert_eq!(row.len(), rules.columns.len(), "cells of {}", plural);
                    for field in rules.selectable {
                        let _ = (field.value)(object);
                    }
                }
                (rules.prepare_create)(&mut filled);
                (rules.prepare_update)(&mut filled, &other);
                (rules.prepare_status_update)(&mut filled, &other);
            }
        }
    }
}
