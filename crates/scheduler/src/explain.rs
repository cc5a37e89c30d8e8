//! Why a pod goes nowhere, in the words kubectl users know.

use std::collections::BTreeMap;

use crate::rules::Reason;

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s).`
pub fn unschedulable(nodes: usize, reasons: &[Vec<Reason>]) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for reason in reasons.iter().flatten() {
        *counts.entry(reason.to_string()).or_default() += 1;
    }
    counted(nodes, counts)
}

/// Why no node will do, whichever it is: nobody's going would help.
pub fn impossible(nodes: usize, why: &str) -> String {
    if nodes == 0 {
        return unschedulable(0, &[]);
    }
    let helpless = BTreeMap::from([("Preemption is not helpful for scheduling", nodes)]);
    format!("0/{nodes} nodes are available: {why}. preemption: {}", counted(nodes, helpless))
}

/// The same for reasons that have been counted.
pub fn counted(nodes: usize, counts: BTreeMap<impl std::fmt::Display, usize>) -> String {
    let mut listed: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    listed.sort();
    format!("0/{nodes} nodes are available: {}.", listed.join(", "))
}
