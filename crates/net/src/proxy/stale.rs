//! What the kernel remembers of endpoints that are gone: UDP connections, and clients' affinity.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::diff::Changes;
use super::layout::{AFFINITY, Front, endpoint, number};
use super::plan::Plan;
use crate::netlink::conntrack::{self, Flow};
use crate::netlink::nft::{self, Family, KeyAndValue, Op, Table};
use crate::netlink::{Error, Socket};
use crate::service::Protocol;

/// Forgets UDP connections to changed fronts that lead to an endpoint which is not theirs any more. Without it, a
/// client that keeps sending from one port would keep its dead endpoint for as long as it sends.
pub fn forget_flows(socket: &mut Socket, family: Family, changes: &Changes, plan: &Plan) -> Result<usize, Error> {
    if !changes.fronts.keys().any(|front| front.protocol == Protocol::Udp) {
        return Ok(0);
    }
    let flows = conntrack::flows(socket, family, &|flow| is_stale(flow, changes, plan))?;
    conntrack::delete(socket, &flows)?;
    Ok(flows.len())
}

fn is_stale(flow: &Flow, changes: &Changes, plan: &Plan) -> bool {
    flow.protocol == number(Protocol::Udp) && leads_astray(flow.original_destination, flow.reply_source, changes, plan)
}

/// Whether a connection to `front` that ends at `end` would go elsewhere now.
fn leads_astray(front: SocketAddr, end: SocketAddr, changes: &Changes, plan: &Plan) -> bool {
    let at = Front { address: Some(front.ip()), protocol: Protocol::Udp, port: front.port() };
    let node = Front { address: None, ..at };
    if let Some(endpoints) = changes.fronts.get(&at) {
        return !endpoints.contains(&end);
    }
    // A port of the node, unless the address is a Service's and its port is the same by chance.
    if plan.fronts.contains_key(&at) || plan.host_ports.contains_key(&at) {
        return false;
    }
    changes.fronts.get(&node).is_some_and(|endpoints| !endpoints.contains(&end))
}

/// Makes changed fronts forget which clients used endpoints that are not theirs any more.
pub fn forget_clients(socket: &mut Socket, table: &Table, changes: &Changes, plan: &Plan) -> Result<(), Error> {
    if plan.shapes.keys().all(|shape| !shape.has_affinity()) {
        return Ok(());
    }
    let remembered = nft::elements(socket, table, AFFINITY)?;
    for key in stale_clients(&remembered, table.family, changes) {
        // An element that expired meanwhile is no error.
        match nft::commit(socket, &[(table, &[Op::DeleteElements { set: AFFINITY.into(), keys: vec![key] }])]) {
            Err(error) if !error.is_missing() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn stale_clients(remembered: &[KeyAndValue], family: Family, changes: &Changes) -> Vec<Vec<u8>> {
    let fronts: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = changes
        .fronts
        .iter()
        .map(|(front, endpoints)| (front.key(family), endpoints.iter().map(|to| endpoint(*to)).collect()))
        .collect();
    let client = family.address_len() as usize;
    let is_stale = |(key, data): &&KeyAndValue| {
        let front = key.get(client..).and_then(|front| fronts.get(front));
        front.is_some_and(|endpoints| !endpoints.contains(data))
    };
    remembered.iter().filter(is_stale).map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plan::{
        plan,
        tests::{config, endpoints, table, web},
    };
    use super::*;
    use crate::service::ServicePort;

    #[test]
    fn connections_are_forgotten_when_their_endpoint_is_gone() {
        let dns = ServicePort { protocol: Protocol::Udp, port: 53, node_port: Some(30053), ..web(&[2, 3]) };
        let same_number = ServicePort {
            protocol: Protocol::Udp,
            port: 30053,
            cluster_ips: vec!["10.96.0.11".parse().unwrap()],
            ..web(&[9])
        };
        let plan = plan(&table(&[("dns", dns), ("same", same_number)]), Family::V4, &config(), None);
        let changed = plan.fronts.iter().filter(|(_, front)| front.owner == "dns");
        let changes = Changes { ops: vec![], fronts: changed.map(|(front, _)| (*front, endpoints(&[2, 3]))).collect() };
        for (what, front, end, expected) in [
            ("its endpoint is there", "10.96.0.10:53", "10.244.0.2:8080", false),
            ("its endpoint is gone", "10.96.0.10:53", "10.244.0.4:8080", true),
            ("it was never translated", "10.96.0.10:53", "10.96.0.10:53", true),
            ("by the node's port", "192.0.2.1:30053", "10.244.0.4:8080", true),
            ("by the node's port, there", "192.0.2.1:30053", "10.244.0.3:8080", false),
            ("another Service's port of the same number", "10.96.0.11:30053", "10.244.0.9:8080", false),
            ("another port", "10.96.0.10:54", "10.244.0.4:8080", false),
        ] {
            assert_eq!(leads_astray(front.parse().unwrap(), end.parse().unwrap(), &changes, &plan), expected, "{what}");
        }
    }

    #[test]
    fn clients_are_forgotten_when_their_endpoint_is_gone() {
        let plan = plan(&table(&[("a", web(&[2]))]), Family::V4, &config(), None);
        let front = *plan.fronts.keys().next().unwrap();
        let key = |client: u8, front: Front| [vec![10, 0, 0, client], front.key(Family::V4)].concat();
        let [here, gone] = [2, 3].map(|n| endpoint(endpoints(&[n])[0]));
        let remembered =
            [(key(1, front), here), (key(2, front), gone.clone()), (key(3, Front { port: 81, ..front }), gone)];
        let changes = Changes { ops: vec![], fronts: [(front, endpoints(&[2]))].into() };
        assert_eq!(stale_clients(&remembered, Family::V4, &changes), [key(2, front)]);
    }
}
