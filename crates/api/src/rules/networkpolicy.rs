//! networking.k8s.io/v1 NetworkPolicy.

use serde_json::{Value, json};

use crate::kind::{Column, Generation, Rules};
use crate::rules::cells;
use crate::rules::fill;
use crate::rules::plain::PLAIN;

/// Rules of NetworkPolicies.
pub static POLICY: Rules =
    Rules { default: default_policy, generation: Generation::Spec, columns: POLICY_COLUMNS, row: policy_row, ..PLAIN };

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
