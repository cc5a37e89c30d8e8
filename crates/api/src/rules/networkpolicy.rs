//! networking.k8s.io/v1 NetworkPolicy.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kind::{Column, Generation, Rules};
use crate::names;
use crate::rules::cells::{self, list, number, text};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill;
use crate::rules::plain::PLAIN;
use crate::rules::selector;

/// Rules of NetworkPolicies.
pub static POLICY: Rules = Rules {
    default: default_policy,
    validate,
    validate_update: |new, old| if same(&new["spec"], &old["spec"]) { Vec::new() } else { validate(new) },
    generation: Generation::Spec,
    columns: POLICY_COLUMNS,
    row: policy_row,
    ..PLAIN
};

fn default_policy(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    for direction in ["ingress", "egress"] {
        for rule in fill::items(spec, direction) {
            for port in fill::items(rule, "ports") {
                fill::optional(port, "protocol", "TCP");
            }
        }
    }
    if fill::is_empty(spec, "policyTypes") {
        let both = !fill::is_empty(spec, "egress");
        let types = if both { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        spec.insert("policyTypes".into(), types);
    }
}

const POLICY_COLUMNS: &[Column] =
    &[Column::NAME, Column::text("Pod-Selector", "Labels of the pods it is about."), Column::AGE];

fn policy_row(object: &Value, now: i64) -> Vec<Value> {
    vec![cells::name(object), cells::selector(&object["spec"]["podSelector"]).into(), cells::age(object, now)]
}

fn validate(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    selector::label_selector(&spec["podSelector"], &at.field("podSelector"), &mut errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let at = at.field(direction);
        for (i, rule) in list(&spec[direction]).iter().enumerate() {
            let at = at.index(i);
            let ports_at = at.field("ports");
            for (j, port) in list(&rule["ports"]).iter().enumerate() {
                validate_port(port, &ports_at.index(j), &mut errors);
            }
            let peers_at = at.field(peers);
            for (j, peer) in list(&rule[peers]).iter().enumerate() {
                validate_peer(peer, &peers_at.index(j), &mut errors);
            }
        }
    }
    let (types, at) = (list(&spec["policyTypes"]), at.field("policyTypes"));
    if types.len() > 2 {
        errors.invalid(&at, types, "may not specify more than two policyTypes");
    } else {
        types.iter().enumerate().for_each(|(i, kind)| errors.one_of(&at.index(i), kind, &["Ingress", "Egress"]));
    }
    errors.0
}

fn validate_port(port: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.one_of(&at.field("protocol"), &port["protocol"], &["TCP", "UDP", "SCTP"]);
    let (first, last, last_at) = (&port["port"], &port["endPort"], at.field("endPort"));
    match first {
        Value::Null if !last.is_null() => {
            errors.invalid(&last_at, last, "may not be specified when `port` is not specified")
        }
        Value::Null => {}
        Value::String(name) => {
            errors.all(&at.field("port"), name, names::port_name(name));
            if !last.is_null() {
                errors.invalid(&last_at, last, "may not be specified when `port` is non-numeric");
            }
        }
        _ => {
            errors.all(&at.field("port"), first, names::port_number(number(first)));
            if !last.is_null() {
                if number(last) < number(first) {
                    errors.invalid(&last_at, first, "must be greater than or equal to `port`");
                }
                errors.all(&last_at, last, names::port_number(number(last)));
            }
        }
    }
}

fn validate_peer(peer: &Value, at: &At<'_>, errors: &mut Errors) {
    let mut selectors = 0;
    for field in ["podSelector", "namespaceSelector"] {
        selectors += usize::from(!peer[field].is_null());
        selector::label_selector(&peer[field], &at.field(field), errors);
    }
    match (&peer["ipBlock"], selectors) {
        (Value::Null, 0) => errors.required(at, "must specify a peer"),
        (Value::Null, _) => {}
        (block, 0) => validate_block(block, &at.field("ipBlock"), errors),
        _ => errors.forbidden(at, "may not specify both ipBlock and another peer"),
    }
}

fn validate_block(block: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.required_form(&at.field("cidr"), &block["cidr"], names::cidr);
    let except_at = at.field("except");
    for (i, except) in list(&block["except"]).iter().enumerate() {
        let wrong = names::cidr(text(except));
        let is_known = wrong.is_empty() && names::cidr(text(&block["cidr"])).is_empty();
        errors.all(&except_at.index(i), except, wrong);
        if is_known && !is_inside(text(except), text(&block["cidr"])) {
            errors.invalid(&except_at.index(i), except, "must be a strict subset of `cidr`");
        }
    }
}

/// Whether the first range lies within the second, and is smaller.
fn is_inside(inner: &str, outer: &str) -> bool {
    let parse = |cidr: &str| -> Option<(bool, u128, u32)> {
        let (address, bits) = cidr.split_once('/')?;
        let (is_six, value, width) = match address.parse().ok()? {
            std::net::IpAddr::V4(ip) => (false, u128::from(u32::from(ip)), 32),
            std::net::IpAddr::V6(ip) => (true, u128::from(ip), 128),
        };
        let host_bits = u32::checked_sub(width, bits.parse().ok()?)?;
        Some((is_six, value, host_bits))
    };
    let (Some(inner), Some(outer)) = (parse(inner), parse(outer)) else { return false };
    let network = |value: u128| value.checked_shr(outer.2).unwrap_or(0);
    inner.0 == outer.0 && inner.2 < outer.2 && network(inner.1) == network(outer.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;

    #[test]
    fn a_policy_isolates_the_directions_it_speaks_of() {
        for (spec, types) in [
            (json!({}), json!(["Ingress"])),
            (json!({"egress": []}), json!(["Ingress"])),
            (json!({"egress": [{}]}), json!(["Ingress", "Egress"])),
            (json!({"policyTypes": ["Egress"]}), json!(["Egress"])),
        ] {
            let mut object = json!({"spec": spec});
            default_policy(&mut object);
            assert_eq!(object["spec"]["policyTypes"], types);
        }
    }

    #[test]
    fn peers_and_ports() {
        for (case, rule, errors) in [
            (
                "good",
                json!({"from": [{"podSelector": {}}], "ports": [{"port": "http"}, {"port": 1, "endPort": 9}]}),
                &[][..],
            ),
            ("nobody", json!({"from": [{}]}), &["spec.ingress[0].from[0]: Required value: must specify a peer"]),
            (
                "outside",
                json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}),
                &[
                    "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                ],
            ),
            ("inside", json!({"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["11.0.0.0/16"]}}]}), &[]),
            (
                "range",
                json!({"ports": [{"port": 9, "endPort": 1}]}),
                &["spec.ingress[0].ports[0].endPort: Invalid value: 9: must be greater"],
            ),
        ] {
            check(case, &validate(&json!({"spec": {"podSelector": {}, "ingress": [rule]}})), errors);
        }
    }
}
