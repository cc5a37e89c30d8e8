//! EndpointSlice mirroring: Endpoints that people write become EndpointSlices (discovery.k8s.io/v1; api-facts §9.8).
//!
//! Reads Endpoints, Services and EndpointSlices. Writes the slices it manages. Leaves Services with a selector to
//! [`crate::endpoint_slice`].

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use mizzen_api::key;
use mizzen_store::{Entry, Event, Snapshot};
use serde_json::{Value, json};

use crate::meta::{self, Meta};
use crate::plan::{ControllerError, Plan, Write};
use crate::shell::Wake;
use crate::wake::{head, versions};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const US: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints that only served to elect a leader.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Most addresses of one subset that are mirrored, which is also the most a slice holds.
const ADDRESSES_MAX: usize = 1000;

/// The writes that make slices of the Endpoints at `endpoints_key`.
///
/// # Errors
/// None: what cannot be read is mirrored to nothing.
pub fn reconcile(snapshot: &Snapshot, endpoints_key: &str, _now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some((_, _, namespace, name)) = key::parse(endpoints_key) else { return Ok(plan) };
    let ours = |s: &Arc<EndpointSlice>| s.label(SERVICE_NAME) == Some(name) && s.label(MANAGED_BY) == Some(US);
    let prefix = key::in_namespace::<EndpointSlice>(namespace);
    let have: Vec<Arc<EndpointSlice>> = snapshot.list_as::<EndpointSlice>(&prefix).filter(ours).collect();
    let wanted = wanted(snapshot, endpoints_key, namespace, name);
    for slice in &wanted {
        match have.iter().find(|h| Some(h.name()) == slice["metadata"]["name"].as_str()) {
            None => plan.write(Write::Create { object: slice.clone() }),
            Some(known) => update(known, slice, &mut plan),
        }
    }
    let stays = |h: &Arc<EndpointSlice>| wanted.iter().any(|w| w["metadata"]["name"].as_str() == Some(h.name()));
    for slice in have.iter().filter(|h| !stays(h) && !h.is_deleting()) {
        plan.write(Write::delete(&**slice));
    }
    Ok(plan)
}

fn update(known: &EndpointSlice, wanted: &Value, plan: &mut Plan) {
    // Plain data: serialising it cannot fail.
    let Ok(mut object) = serde_json::to_value(known) else { return };
    let before = object.clone();
    object["metadata"]["labels"] = wanted["metadata"]["labels"].clone();
    for field in ["endpoints", "ports"] {
        object[field] = wanted[field].clone();
    }
    if object != before {
        plan.write(Write::Replace { object, subresource: "" });
    }
}

/// The slices that these Endpoints should have: one for each subset and family of addresses.
fn wanted(snapshot: &Snapshot, endpoints_key: &str, namespace: &str, name: &str) -> Vec<Value> {
    let Some(endpoints) = snapshot.get_as::<Endpoints>(endpoints_key).filter(|e| is_mirrored(e)) else {
        return Vec::new();
    };
    let service = snapshot.get_as::<Service>(&key::of::<Service>(namespace, name));
    let selects = |s: &Arc<Service>| s.spec.as_ref().and_then(|s| s.selector.as_ref()).is_some_and(|s| !s.is_empty());
    if service.is_none_or(|s| selects(&s)) {
        return Vec::new();
    }
    let subsets = endpoints.subsets.iter().flatten().enumerate();
    subsets.flat_map(|(at, subset)| [false, true].map(|v6| slice(&endpoints, at, subset, v6))).flatten().collect()
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    !endpoints.is_deleting() && endpoints.label(SKIP) != Some("true") && endpoints.annotation(LEADER).is_none()
}

fn slice(endpoints: &Endpoints, at: usize, subset: &EndpointSubset, v6: bool) -> Option<Value> {
    let of_family = |a: &&EndpointAddress| a.ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == v6);
    let ready = subset.addresses.iter().flatten().filter(of_family).map(|a| endpoint(a, true));
    let unready = subset.not_ready_addresses.iter().flatten().filter(of_family).map(|a| endpoint(a, false));
    let all: Vec<Value> = ready.chain(unready).take(ADDRESSES_MAX).collect();
    if all.is_empty() {
        return None;
    }
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), endpoints.name().into());
    labels.insert(MANAGED_BY.into(), US.into());
    let family = if v6 { "IPv6" } else { "IPv4" };
    let suffix = meta::suffix(&[endpoints.uid().as_bytes(), &at.to_le_bytes(), family.as_bytes()]);
    let prefix = format!("{}-", endpoints.name().get(..57).unwrap_or(endpoints.name()));
    let ports = subset.ports.iter().flatten().map(|port| {
        let mut shown = json!({"name": port.name.clone().unwrap_or_default(), "port": port.port,
            "protocol": port.protocol.as_deref().unwrap_or("TCP")});
        if let Some(protocol) = &port.app_protocol {
            shown["appProtocol"] = protocol.clone().into();
        }
        shown
    });
    Some(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{prefix}{suffix}"), "generateName": prefix, "namespace": endpoints.namespace(),
            "labels": labels, "ownerReferences": [meta::owner_of(endpoints)]},
        "addressType": family, "endpoints": all, "ports": ports.collect::<Vec<Value>>(),
    }))
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Value {
    let mut shown = json!({"addresses": [address.ip], "conditions": {"ready": ready}});
    if let Some(hostname) = &address.hostname {
        shown["hostname"] = hostname.clone().into();
    }
    if let Some(node) = &address.node_name {
        shown["nodeName"] = node.clone().into();
    }
    if let Some(target) = &address.target_ref {
        shown["targetRef"] = json!(target);
    }
    shown
}

/// A mirrored slice wakes its Endpoints, so that what others change is put right.
pub(crate) fn woken_by_slices() -> (String, Wake) {
    let wake = |_: &Snapshot, event: &Event| {
        let endpoints = |entry: &Arc<Entry>| {
            let meta = head(entry).metadata;
            let mut labels = meta.labels?;
            let ours = labels.get(MANAGED_BY).is_some_and(|m| m == US);
            let name = labels.remove(SERVICE_NAME).filter(|_| ours)?;
            Some(key::of::<Endpoints>(meta.namespace.as_deref().unwrap_or_default(), &name))
        };
        versions(event).into_iter().filter_map(endpoints).collect()
    };
    (key::all::<EndpointSlice>(), Arc::new(wake))
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn endpoints_of_services_without_selector_are_mirrored() {
        let subset = r#".subsets=[{"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":80}]}]"#;
        let dual = r#".subsets=[{"addresses":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}],"ports":[{"port":80}]}]"#;
        let old = r#"endpointslice/d/old metadata.labels={"kubernetes.io/service-name":"s","endpointslice.kubernetes.io/managed-by":"endpointslicemirroring-controller.k8s.io"}"#;
        for (case, world, writes) in [
            ("mirrored", format!("endpoints/d/s {subset}; svc/d/s"), "create EndpointSlice d/s-"),
            ("both families", format!("endpoints/d/s {dual}; svc/d/s"), "create EndpointSlice d/s- x2"),
            ("with selector", format!("endpoints/d/s {subset}; svc/d/s selector=x spec.selector={{\"a\":\"b\"}}"), ""),
            ("no Service", format!("endpoints/d/s {subset}"), ""),
            (
                "not wanted",
                format!(
                    "endpoints/d/s {subset} metadata.labels={{\"endpointslice.kubernetes.io/skip-mirror\":\"true\"}}; svc/d/s"
                ),
                "",
            ),
            ("gone", format!("svc/d/s; {old}"), "delete endpointslices d/old"),
        ] {
            check(case, &world, "core/endpoints/d/s", super::reconcile, writes);
        }
    }
}
