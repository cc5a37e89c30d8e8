//! The FlowSchemas and PriorityLevelConfigurations that every cluster has, as Kubernetes 1.36 makes them.
//!
//! The mandatory ones are always as they are here. The suggested ones are kept up to date as long as their annotation
//! says so, and are the user's from then on.

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use serde_json::{Value, json};

/// The API group.
pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// `"true"` keeps a default object up to date.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// A default object.
pub struct Default {
    /// Its resource.
    pub plural: &'static str,
    /// Its name.
    pub name: &'static str,
    /// It cannot be other than this.
    pub mandatory: bool,
    /// The whole object, without identity.
    pub object: Value,
}

struct LevelRow(&'static str, i32, i32, Option<[i32; 3]>);

/// Name, shares, lendable percent, then queues, hand and length, or none for those that refuse at once.
const LEVELS: [LevelRow; 7] = [
    LevelRow("catch-all", 5, 0, None),
    LevelRow("system", 30, 33, Some([64, 6, 50])),
    LevelRow("node-high", 40, 25, Some([64, 6, 50])),
    LevelRow("leader-election", 10, 0, Some([16, 4, 50])),
    LevelRow("workload-high", 40, 50, Some([128, 6, 50])),
    LevelRow("workload-low", 100, 90, Some([128, 6, 50])),
    LevelRow("global-default", 20, 50, Some([128, 6, 50])),
];

struct SchemaRow {
    name: &'static str,
    level: &'static str,
    precedence: i32,
    distinguisher: &'static str,
    /// `Kind name`.
    subjects: &'static [&'static str],
    /// Verbs, group, resources, cluster scope; no entry for those about paths only.
    resources: &'static [(&'static [&'static str], &'static str, &'static [&'static str], bool)],
    /// Verbs and paths.
    paths: Option<(&'static str, &'static [&'static str])>,
}

const EVERYTHING: &[(&[&str], &str, &[&str], bool)] = &[(&["*"], "*", &["*"], true)];
const ALL_PATHS: Option<(&str, &[&str])> = Some(("*", &["*"]));
const EVERYONE: &[&str] = &["Group system:unauthenticated", "Group system:authenticated"];
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

const SCHEMAS: [SchemaRow; 11] = [
    schema("exempt", "exempt", 1, "", &["Group system:masters"]),
    SchemaRow {
        resources: &[],
        paths: Some(("get", &["/healthz", "/readyz", "/livez"])),
        ..schema("probes", "exempt", 2, "", EVERYONE)
    },
    SchemaRow {
        resources: &[(&["get", "create", "update"], "coordination.k8s.io", &["leases"], false)],
        paths: None,
        ..schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            &["User system:kube-controller-manager", "User system:kube-scheduler", "ServiceAccount *"],
        )
    },
    SchemaRow {
        resources: &[
            (&["*"], "", &["nodes", "nodes/status"], true),
            (&["*"], "coordination.k8s.io", &["leases"], false),
        ],
        paths: None,
        ..schema("system-node-high", "node-high", 400, "ByUser", &["Group system:nodes"])
    },
    schema("system-nodes", "system", 500, "ByUser", &["Group system:nodes"]),
    schema("kube-controller-manager", "workload-high", 800, "ByNamespace", &["User system:kube-controller-manager"]),
    schema("kube-scheduler", "workload-high", 800, "ByNamespace", &["User system:kube-scheduler"]),
    schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", &["ServiceAccount *"]),
    schema("service-accounts", "workload-low", 9000, "ByUser", &["Group system:serviceaccounts"]),
    schema("global-default", "global-default", 9900, "ByUser", EVERYONE),
    schema("catch-all", "catch-all", 10_000, "ByUser", EVERYONE),
];

const fn schema(
    name: &'static str,
    level: &'static str,
    precedence: i32,
    distinguisher: &'static str,
    subjects: &'static [&'static str],
) -> SchemaRow {
    SchemaRow { name, level, precedence, distinguisher, subjects, resources: EVERYTHING, paths: ALL_PATHS }
}

/// All of them, levels first.
pub fn all() -> Vec<Default> {
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let mut all = vec![object("prioritylevelconfigurations", "exempt", exempt)];
    all.extend(LEVELS.iter().map(|row| object("prioritylevelconfigurations", row.0, level_spec(row))));
    all.extend(SCHEMAS.iter().map(|row| object("flowschemas", row.name, schema_spec(row))));
    all
}

fn object(plural: &'static str, name: &'static str, spec: Value) -> Default {
    let kind = if plural == "flowschemas" { "FlowSchema" } else { "PriorityLevelConfiguration" };
    let object = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "generation": 1, "annotations": {AUTO_UPDATE: "true"}},
        "spec": spec,
        "status": {},
    });
    Default { plural, name, mandatory: MANDATORY.contains(&name), object }
}

fn level_spec(LevelRow(_, shares, lendable, queuing): &LevelRow) -> Value {
    let response = match queuing {
        Some([queues, hand, length]) => json!({
            "type": "Queue",
            "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length},
        }),
        None => json!({"type": "Reject"}),
    };
    json!({
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": shares, "limitResponse": response, "lendablePercent": lendable},
    })
}

fn schema_spec(row: &SchemaRow) -> Value {
    let subject = |text: &&str| match text.split_once(' ') {
        Some(("User", name)) => json!({"kind": "User", "user": {"name": name}}),
        Some(("ServiceAccount", name)) => {
            json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}})
        }
        _ => json!({"kind": "Group", "group": {"name": text.trim_start_matches("Group ")}}),
    };
    let mut rule = json!({"subjects": row.subjects.iter().map(subject).collect::<Vec<_>>()});
    let resources = row.resources.iter().map(|(verbs, group, resources, cluster)| {
        let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources});
        if *cluster {
            rule["clusterScope"] = true.into();
        }
        rule["namespaces"] = json!(["*"]);
        rule
    });
    let resources: Vec<Value> = resources.collect();
    if !resources.is_empty() {
        rule["resourceRules"] = resources.into();
    }
    if let Some((verb, paths)) = row.paths {
        rule["nonResourceRules"] = json!([{"verbs": [verb], "nonResourceURLs": paths}]);
    }
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": row.level},
        "matchingPrecedence": row.precedence,
    });
    if !row.distinguisher.is_empty() {
        spec["distinguisherMethod"] = json!({"type": row.distinguisher});
    }
    spec["rules"] = json!([rule]);
    spec
}

/// The levels without which no plan can be.
pub fn mandatory_levels() -> Vec<PriorityLevelConfiguration> {
    mandatory("prioritylevelconfigurations")
}

/// The schemas without which no plan can be.
pub fn mandatory_schemas() -> Vec<FlowSchema> {
    mandatory("flowschemas")
}

fn mandatory<T: serde::de::DeserializeOwned>(plural: &str) -> Vec<T> {
    let wanted = all().into_iter().filter(|d| d.mandatory && d.plural == plural);
    wanted.filter_map(|d| serde_json::from_value(d.object).ok()).collect()
}

#[cfg(test)]
pub mod testing {
    use mizzen_store::{Entry, Revision, Snapshot};

    /// A cluster that has the defaults.
    pub fn snapshot() -> Snapshot {
        let entries = super::all().into_iter().map(|mut default| {
            default.object["metadata"]["uid"] = format!("uid-{}-{}", default.plural, default.name).into();
            let key = mizzen_api::key::object(super::GROUP, default.plural, "", default.name);
            Entry::new(key.into(), default.object.to_string().into(), Revision(1), Revision(1), 0..0)
        });
        entries.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_readable_and_has_its_level() {
        let all = all();
        let levels: Vec<_> = all.iter().filter(|d| d.plural != "flowschemas").map(|d| d.name).collect();
        assert_eq!((all.len(), levels.len()), (19, 8));
        assert_eq!(mandatory_levels().len() + mandatory_schemas().len(), 4);
        for default in all.iter().filter(|d| d.plural == "flowschemas") {
            let schema: FlowSchema = serde_json::from_value(default.object.clone()).unwrap();
            let level = schema.spec.unwrap().priority_level_configuration.name;
            assert!(levels.contains(&level.as_str()), "{}", default.name);
        }
    }
}
