//! networking.k8s.io: Ingress, IngressClass, NetworkPolicy, IPAddress, ServiceCIDR.

use serde_json::{Value, json};

use crate::kind::{Generation, Rules};
use crate::rules::fill;
use crate::rules::plain::{self, PLAIN, WITH_SPEC_AND_STATUS, WITH_STATUS};

/// Rules of Ingresses.
pub static INGRESS: Rules =
    Rules { prepare_create: |object| plain::set_status(object, json!({"loadBalancer": {}})), ..WITH_SPEC_AND_STATUS };

/// Rules of IngressClasses.
pub static INGRESS_CLASS: Rules = Rules { default: default_class, generation: Generation::Spec, ..PLAIN };

/// Rules of NetworkPolicies.
pub static POLICY: Rules = Rules { default: default_policy, generation: Generation::Spec, ..PLAIN };

/// Rules of ServiceCIDRs.
pub static SERVICE_CIDR: Rules = Rules { prepare_create: plain::empty_status, ..WITH_STATUS };

fn default_class(object: &mut Value) {
    let spec = object.as_object_mut().and_then(|o| fill::existing(o, "spec"));
    if let Some(parameters) = spec.and_then(|s| fill::existing(s, "parameters")) {
        fill::optional(parameters, "scope", "Cluster");
    }
}

fn default_policy(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else { return };
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
