//! The FlowSchemas and PriorityLevelConfigurations of a snapshot, ready to classify requests.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderValue;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use mizzen_api::key;
use mizzen_store::Snapshot;

use super::defaults;
use super::level::{Level, Response};
use super::matching::Rule;
use super::queues::Shape;
use super::seats::{self, Bounds, Share};
use super::tally::{Tallies, Tally};
use crate::auth::{Attributes, Identity};

/// How requests are classified.
#[derive(Debug)]
pub struct Plan {
    /// By precedence, then name.
    schemas: Vec<Schema>,
    /// All levels.
    pub levels: Vec<Planned>,
}

/// A FlowSchema.
#[derive(Debug)]
pub struct Schema {
    /// Its name.
    pub name: Box<str>,
    /// Its UID and that of its level, as headers carry them.
    pub uids: [HeaderValue; 2],
    /// Its level.
    pub level: Arc<Level>,
    /// What is counted of its requests.
    pub tally: Arc<Tally>,
    precedence: i32,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

/// A level with its part of the seats.
#[derive(Debug)]
pub struct Planned {
    /// The level.
    pub level: Arc<Level>,
    /// Its seats.
    pub bounds: Bounds,
}

/// What tells the flows of a schema apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distinguisher {
    None,
    User,
    Namespace,
}

impl Schema {
    /// The flow of a request.
    pub fn flow(&self, who: &Identity, what: &Attributes<'_>) -> u64 {
        let distinguished = match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::User => &who.user,
            Distinguisher::Namespace => what.namespace,
        };
        super::hand::hash([&self.name, distinguished])
    }
}

impl Plan {
    /// The plan of a snapshot. Levels of `before` that are still there go on; what every server must have is added where
    /// it is missing. The levels get their new rules and seats.
    pub fn of(snapshot: &Snapshot, total: u32, before: Option<&Plan>, tallies: &Tallies) -> Self {
        let mut configured = configurations(snapshot);
        configured.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let shares: Vec<Share> = configured.iter().map(|level| share(level)).collect();
        let bounds = seats::bounds(total, &shares);
        let known = |name: &str| before?.levels.iter().find(|p| *p.level.name == *name).map(|p| Arc::clone(&p.level));
        let mut by_name = HashMap::new();
        let levels = configured.iter().zip(bounds).map(|(configured, bounds)| {
            let name = configured.metadata.name.as_deref().unwrap_or_default();
            let level = known(name).unwrap_or_else(|| Arc::new(Level::new(name)));
            level.configure(response(configured));
            level.set_limit(bounds.nominal);
            by_name.insert(name, (Arc::clone(&level), uid(configured.metadata.uid.as_deref())));
            Planned { level, bounds }
        });
        let levels = levels.collect();
        let mut schemas: Vec<Schema> = flow_schemas(snapshot)
            .iter()
            .filter_map(|schema| {
                let spec = schema.spec.as_ref()?;
                let (level, level_uid) = by_name.get(spec.priority_level_configuration.name.as_str())?;
                let name = schema.metadata.name.as_deref().unwrap_or_default();
                let kind = spec.distinguisher_method.as_ref().map(|method| method.type_.as_str());
                Some(Schema {
                    name: name.into(),
                    uids: [uid(schema.metadata.uid.as_deref()), level_uid.clone()],
                    level: Arc::clone(level),
                    tally: tallies.of(name, &level.name),
                    precedence: spec.matching_precedence.unwrap_or(1000),
                    distinguisher: match kind {
                        Some("ByUser") => Distinguisher::User,
                        Some("ByNamespace") => Distinguisher::Namespace,
                        _ => Distinguisher::None,
                    },
                    rules: spec.rules.iter().flatten().map(Rule::read).collect(),
                })
            })
            .collect();
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        Self { schemas, levels }
    }

    /// The schema of a request: the first that matches. The last is for everyone, and matches whatever is left.
    pub fn classify(&self, who: &Identity, what: &Attributes<'_>) -> Option<&Schema> {
        let found = self.schemas.iter().find(|schema| schema.rules.iter().any(|rule| rule.matches(who, what)));
        found.or(self.schemas.last())
    }
}

fn uid(text: Option<&str>) -> HeaderValue {
    HeaderValue::from_str(text.unwrap_or_default()).unwrap_or(HeaderValue::from_static(""))
}

fn configurations(snapshot: &Snapshot) -> Vec<Arc<PriorityLevelConfiguration>> {
    let mut all: Vec<Arc<PriorityLevelConfiguration>> =
        snapshot.list_as(&key::all::<PriorityLevelConfiguration>()).collect();
    for level in defaults::mandatory_levels() {
        if !all.iter().any(|known| known.metadata.name == level.metadata.name) {
            all.push(Arc::new(level));
        }
    }
    all
}

fn flow_schemas(snapshot: &Snapshot) -> Vec<Arc<FlowSchema>> {
    let mut all: Vec<Arc<FlowSchema>> = snapshot.list_as(&key::all::<FlowSchema>()).collect();
    for schema in defaults::mandatory_schemas() {
        if !all.iter().any(|known| known.metadata.name == schema.metadata.name) {
            all.push(Arc::new(schema));
        }
    }
    all
}

fn share(level: &PriorityLevelConfiguration) -> Share {
    let number = |number: Option<i32>| u32::try_from(number.unwrap_or_default()).unwrap_or_default();
    let Some(spec) = &level.spec else { return Share::default() };
    if spec.type_ == "Exempt" {
        let exempt = spec.exempt.as_ref();
        return Share {
            shares: number(exempt.and_then(|e| e.nominal_concurrency_shares)),
            lendable_percent: number(exempt.and_then(|e| e.lendable_percent)),
            borrowing_percent: None,
        };
    }
    let limited = spec.limited.as_ref();
    Share {
        shares: limited.map_or(30, |l| number(l.nominal_concurrency_shares.or(Some(30)))),
        lendable_percent: number(limited.and_then(|l| l.lendable_percent)),
        borrowing_percent: limited.and_then(|l| l.borrowing_limit_percent).map(|percent| number(Some(percent))),
    }
}

/// Bounds on what a configuration can ask for, whatever it says: the queues are walked for each request that waits.
const QUEUES_MAX: usize = 10_000;

fn response(level: &PriorityLevelConfiguration) -> Response {
    let Some(spec) = &level.spec else { return Response::Reject };
    if spec.type_ == "Exempt" {
        return Response::Exempt;
    }
    let Some(limited) = spec.limited.as_ref().and_then(|l| l.limit_response.as_ref()) else { return Response::Reject };
    if limited.type_ != "Queue" {
        return Response::Reject;
    }
    let queuing = limited.queuing.as_ref();
    let number = |field: Option<i32>, default: usize| {
        let given = field.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        given.unwrap_or(default).min(QUEUES_MAX)
    };
    Response::Queue(Shape {
        queues: number(queuing.and_then(|q| q.queues), 64),
        hand: number(queuing.and_then(|q| q.hand_size), 8),
        length: number(queuing.and_then(|q| q.queue_length_limit), 50),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_classify_as_kubernetes_does() {
        let plan = Plan::of(&defaults::testing::snapshot(), 600, None, &Tallies::default());
        let node = Identity {
            user: "system:node:n1".into(),
            groups: vec!["system:nodes".into(), "system:authenticated".into()],
            ..Identity::default()
        };
        let admin = Identity { user: "a".into(), groups: vec!["system:masters".into()], ..Identity::default() };
        let gc = Identity::service_account("kube-system", "gc");
        let app = Identity::service_account("shop", "web");
        let user = Identity { user: "u".into(), groups: vec!["system:authenticated".into()], ..Identity::default() };
        for (who, text, expected) in [
            (&admin, "create core/pods", "exempt/exempt"),
            (&Identity::anonymous(), "get /healthz/ping", "probes/exempt"),
            (&Identity::anonymous(), "get /version", "global-default/global-default"),
            (
                &Identity::part("system:kube-scheduler"),
                "update coordination.k8s.io/leases",
                "system-leader-election/leader-election",
            ),
            (&Identity::part("system:kube-scheduler"), "list core/pods", "kube-scheduler/workload-high"),
            (
                &Identity::part("system:kube-controller-manager"),
                "list core/pods",
                "kube-controller-manager/workload-high",
            ),
            (&gc, "get coordination.k8s.io/leases", "system-leader-election/leader-election"),
            (&gc, "delete core/pods", "kube-system-service-accounts/workload-high"),
            (&node, "update core/nodes/status", "system-node-high/node-high"),
            (&node, "update coordination.k8s.io/leases", "system-node-high/node-high"),
            (&node, "get core/pods", "system-nodes/system"),
            (&app, "list core/pods", "service-accounts/workload-low"),
            (&user, "list core/pods", "global-default/global-default"),
            (&Identity::default(), "list core/pods", "catch-all/catch-all"),
        ] {
            let (verb, path) = text.split_once(' ').unwrap();
            let mut parts = path.splitn(3, '/');
            let [group, resource, subresource] = std::array::from_fn(|_| parts.next().unwrap_or_default());
            let what = Attributes {
                verb,
                resource_request: !path.starts_with('/'),
                group: if group == "core" { "" } else { group },
                resource,
                subresource,
                path,
                namespace: if resource == "nodes" { "" } else { "kube-system" },
                ..Attributes::default()
            };
            let schema = plan.classify(who, &what).unwrap();
            assert_eq!(format!("{}/{}", schema.name, schema.level.name), expected, "{} {text}", who.user);
        }
    }

    #[test]
    fn without_any_objects_there_are_still_the_mandatory_ones() {
        let plan = Plan::of(&Snapshot::default(), 600, None, &Tallies::default());
        let names: Vec<_> = plan.levels.iter().map(|p| (&*p.level.name, p.level.limit())).collect();
        assert_eq!(names, [("catch-all", 600), ("exempt", 0)]);
        let again = Plan::of(&Snapshot::default(), 100, Some(&plan), &Tallies::default());
        assert!(Arc::ptr_eq(&again.levels[0].level, &plan.levels[0].level), "levels outlive plans");
        assert_eq!(plan.levels[0].level.limit(), 100);
    }
}
