//! What to tell the kernel to get from one plan to another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::layout::{
    CLUSTER_IPS, ENDPOINTS, EXTERNAL_OFFSET, FRONTS, Front, HAIRPIN, HOST_PORTS, MASQUERADED, Shape, endpoint,
    hairpin_key,
};
use super::plan::{FrontPlan, Plan};
use super::{Config, chains};
use crate::netlink::nft::{Data, Element, Family, Op, Verdict};
use crate::netlink::route::octets;

/// The steps of one transaction, and what else is to be done after it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The steps, in an order that the kernel accepts.
    pub ops: Vec<Op>,
    /// Fronts that changed, with the endpoints that they may lead to now.
    pub fronts: BTreeMap<Front, Vec<SocketAddr>>,
}

/// Elements to remove from and add to one set. One that changes is removed and added.
#[derive(Default)]
struct SetChanges {
    gone: Vec<Vec<u8>>,
    new: Vec<Element>,
}

impl SetChanges {
    fn replace(&mut self, key: Vec<u8>, old: Option<Data>, new: Option<Data>) {
        if old == new {
            return;
        }
        match (old, new) {
            (Some(_), Some(data)) => {
                self.gone.push(key.clone());
                self.new.push(Element { key, data });
            }
            (Some(_), None) => self.gone.push(key),
            (None, Some(data)) => self.new.push(Element { key, data }),
            (None, None) => {}
        }
    }

    fn emit(self, set: &str, ops: &mut Ops) {
        if !self.gone.is_empty() {
            ops.removals.push(Op::DeleteElements { set: set.into(), keys: self.gone });
        }
        if !self.new.is_empty() {
            ops.additions.push(Op::AddElements { set: set.into(), elements: self.new });
        }
    }
}

#[derive(Default)]
struct Ops {
    removals: Vec<Op>,
    additions: Vec<Op>,
}

/// The steps from `old` to `new`.
pub fn diff(family: Family, config: &Config, old: &Plan, new: &Plan) -> Changes {
    let mut changes = Changes::default();
    let (mut fronts, mut endpoints, mut masqueraded) =
        (SetChanges::default(), SetChanges::default(), SetChanges::default());
    for (front, was, is) in pairs(&old.fronts, &new.fronts) {
        if let (Some(was), Some(is)) = (was, is)
            && (Arc::ptr_eq(was, is) || was == is)
        {
            continue;
        }
        let verdict = |plan: &Arc<FrontPlan>| Data::Verdict(Verdict::Goto(plan.shape.chain()));
        fronts.replace(front.key(family), was.map(verdict), is.map(verdict));
        let masquerade = |plan: Option<&Arc<FrontPlan>>| plan.filter(|plan| plan.masquerade).map(|_| Data::None);
        masqueraded.replace(front.key(family), masquerade(was), masquerade(is));
        numbered(family, front, was.map(Arc::as_ref), is.map(Arc::as_ref), &mut endpoints);
        changes.fronts.insert(*front, is.map(|plan| all_endpoints(plan)).unwrap_or_default());
    }
    let mut host_ports = SetChanges::default();
    for (front, was, is) in pairs(&old.host_ports, &new.host_ports) {
        if was != is {
            let data = |to: &SocketAddr| Data::Value(endpoint(*to));
            host_ports.replace(front.key(family), was.map(data), is.map(data));
            changes.fronts.insert(*front, is.copied().into_iter().collect());
        }
    }
    let mut ops = Ops::default();
    fronts.emit(FRONTS, &mut ops);
    endpoints.emit(ENDPOINTS, &mut ops);
    masqueraded.emit(MASQUERADED, &mut ops);
    host_ports.emit(HOST_PORTS, &mut ops);
    members(&old.cluster_ips, &new.cluster_ips, |ip| octets(*ip)).emit(CLUSTER_IPS, &mut ops);
    members(&old.hairpin, &new.hairpin, |ip| hairpin_key(*ip)).emit(HAIRPIN, &mut ops);
    changes.ops = around_with_chains(family, config, old, new, ops);
    changes
}

/// Chains come before the elements that lead to them, and go after those.
fn around_with_chains(family: Family, config: &Config, old: &Plan, new: &Plan, elements: Ops) -> Vec<Op> {
    let only_in = |one: &Plan, other: &Plan| {
        let shapes = one.shapes.keys().filter(|shape| !shape.is_fixed() && !other.shapes.contains_key(shape));
        shapes.copied().collect::<Vec<Shape>>()
    };
    let (mut gone, added) = (only_in(old, new), only_in(new, old));
    // In their order, shapes that go on to others come after these.
    let mut ops: Vec<_> = added.into_iter().flat_map(|shape| chains::shape(family, config, shape)).collect();
    ops.extend(elements.removals);
    ops.extend(elements.additions);
    gone.reverse();
    ops.extend(gone.into_iter().map(|shape| Op::DeleteChain { name: shape.chain() }));
    ops
}

fn numbered(family: Family, front: &Front, was: Option<&FrontPlan>, is: Option<&FrontPlan>, changes: &mut SetChanges) {
    let lists = |plan: Option<&'_ FrontPlan>| -> [Vec<SocketAddr>; 2] {
        plan.map(|plan| [plan.internal.clone(), plan.external.clone()]).unwrap_or_default()
    };
    let lists = lists(was).into_iter().zip(lists(is)).zip([0, EXTERNAL_OFFSET]);
    for ((was, is), offset) in lists {
        for number in 0..was.len().max(is.len()) {
            let (old, new) = (was.get(number), is.get(number));
            if old != new {
                let data = |to: &SocketAddr| Data::Value(endpoint(*to));
                let key = front.endpoint_key(family, offset + number as u32);
                changes.replace(key, old.map(data), new.map(data));
            }
        }
    }
}

fn all_endpoints(plan: &FrontPlan) -> Vec<SocketAddr> {
    plan.internal.iter().chain(&plan.external).copied().collect()
}

fn members<T: Ord>(old: &BTreeSet<T>, new: &BTreeSet<T>, key: impl Fn(&T) -> Vec<u8>) -> SetChanges {
    SetChanges {
        gone: old.difference(new).map(&key).collect(),
        new: new.difference(old).map(|item| Element { key: key(item), data: Data::None }).collect(),
    }
}

/// Walks two maps in step: each key with what it has in either.
fn pairs<'a, K: Ord, V>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (old.peek(), new.peek()) {
            (Some((a, _)), Some((b, _))) => a.cmp(b),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return None,
        };
        let was = if order.is_le() { old.next() } else { None };
        let is = if order.is_ge() { new.next() } else { None };
        let key = was.or(is)?.0;
        Some((key, was.map(|(_, value)| value), is.map(|(_, value)| value)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{config, endpoints, table, web};
    use super::super::plan::{Before, plan};
    use super::*;
    use crate::service::{ServicePort, ServiceTable};

    /// Operations in words, without the rules.
    fn words(ops: &[Op]) -> Vec<String> {
        let word = |op: &Op| match op {
            Op::AddChain { name, .. } => Some(format!("+chain {name}")),
            Op::DeleteChain { name } => Some(format!("-chain {name}")),
            Op::AddElements { set, elements } => Some(format!("+{} {set}", elements.len())),
            Op::DeleteElements { set, keys } => Some(format!("-{} {set}", keys.len())),
            _ => None,
        };
        ops.iter().filter_map(word).collect()
    }

    fn step(before: &ServiceTable, after: &ServiceTable) -> Changes {
        let old = plan(before, Family::V4, &config(), None);
        let new = plan(after, Family::V4, &config(), Some(Before { table: before, plan: &old }));
        diff(Family::V4, &config(), &old, &new)
    }

    #[test]
    fn a_change_touches_only_its_own_elements() {
        let other = ServicePort { cluster_ips: vec!["10.96.0.11".parse().unwrap()], ..web(&[8, 9]) };
        let with = |port: ServicePort| table(&[("a", port), ("b", other.clone())]);
        let none = table(&[("b", other.clone())]);
        let node_port = |port| ServicePort { node_port: Some(30080), ..port };
        for (what, before, after, expected) in [
            ("nothing", with(web(&[2, 3])), with(web(&[2, 3])), &[][..]),
            ("order", with(web(&[2, 3])), with(web(&[3, 2])), &[]),
            (
                "an endpoint is replaced",
                with(web(&[2, 3])),
                with(web(&[2, 4])),
                &["-1 endpoints", "-1 hairpin", "+1 endpoints", "+1 hairpin"],
            ),
            (
                "an endpoint is added",
                with(web(&[2, 3])),
                with(web(&[2, 3, 4])),
                &["+chain ip-internal-3", "-1 fronts", "+1 fronts", "+1 endpoints", "+1 hairpin"],
            ),
            (
                "a service is added",
                none.clone(),
                with(web(&[2, 3])),
                &["+1 fronts", "+2 endpoints", "+1 cluster-ips", "+2 hairpin"],
            ),
            (
                "the last endpoint goes",
                with(web(&[2])),
                with(web(&[])),
                &["-1 fronts", "-1 endpoints", "-1 hairpin", "+1 fronts", "-chain ip-internal-1"],
            ),
            (
                "a node port is added",
                with(web(&[2])),
                with(node_port(web(&[2]))),
                &["+chain node-external-1", "+1 fronts", "+1 endpoints", "+1 masqueraded"],
            ),
            (
                "a service goes",
                with(web(&[2])),
                none,
                &["-1 fronts", "-1 endpoints", "-1 cluster-ips", "-1 hairpin", "-chain ip-internal-1"],
            ),
        ] {
            assert_eq!(words(&step(&before, &after).ops), expected, "{what}");
        }
    }

    #[test]
    fn split_chains_come_after_those_they_lead_to_and_go_before() {
        let local = ServicePort {
            node_port: Some(30080),
            external_local: true,
            external_endpoints: endpoints(&[2]),
            ..web(&[2, 3])
        };
        let (none, some) = (ServiceTable::default(), table(&[("a", local)]));
        let chains = |ops: &[Op]| words(ops).into_iter().filter(|word| word.contains("chain")).collect::<Vec<_>>();
        let split = "node-split-internal-2-external-1";
        let added = chains(&step(&none, &some).ops);
        assert_eq!(added.last().unwrap(), &format!("+chain {split}"));
        let removed = chains(&step(&some, &none).ops);
        assert_eq!(removed.first().unwrap(), &format!("-chain {split}"));
        assert_eq!((added.len(), removed.len()), (4, 4));
    }

    #[test]
    fn changed_fronts_are_told_with_their_endpoints() {
        let changes = step(&table(&[("a", web(&[2, 3]))]), &table(&[("a", web(&[2, 4]))]));
        assert_eq!(changes.fronts.into_values().collect::<Vec<_>>(), [endpoints(&[2, 4])]);
    }
}
