//! The older Endpoints object of a Service, which clients still read (core/v1 Endpoints).

use std::collections::BTreeMap;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Service};
use mizzen_api::key;
use mizzen_store::Snapshot;
use serde_json::json;

use super::{Found, Port};
use crate::meta::Meta;
use crate::plan::{Plan, Write};

/// Most addresses of one object; the rest is cut and said to be.
const ADDRESSES_MAX: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Marks Endpoints that this controller owns; without it they were written by hand.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Removes the Endpoints of a Service that is gone, if this controller wrote them.
pub(super) fn remove(snapshot: &Snapshot, namespace: &str, name: &str, plan: &mut Plan) {
    let Some(endpoints) = snapshot.get_as::<Endpoints>(&key::of::<Endpoints>(namespace, name)) else {
        return;
    };
    if endpoints.label(MANAGED_BY) == Some(CONTROLLER) && !endpoints.is_deleting() {
        plan.write(Write::delete(&*endpoints));
    }
}

/// Plans the write for the Endpoints of one Service.
pub(super) fn plan(snapshot: &Snapshot, service: &Service, found: &[Found], plan: &mut Plan) {
    let existing = snapshot.get_as::<Endpoints>(&key::of::<Endpoints>(service.namespace(), service.name()));
    let (subsets, truncated) = subsets(service, found);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    if service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    let annotations = truncated.then(|| BTreeMap::from([(OVER_CAPACITY.to_string(), "truncated".to_string())]));
    let Some(existing) = existing else {
        let metadata = json!({"name": service.name(), "namespace": service.namespace(), "labels": labels, "annotations": annotations});
        let object = json!({"apiVersion": Endpoints::API_VERSION, "kind": Endpoints::KIND, "metadata": metadata, "subsets": subsets});
        return plan.write(Write::Create { object });
    };
    let same_labels = existing.metadata.labels.as_ref() == Some(&labels);
    if same_labels && existing.subsets.clone().unwrap_or_default() == subsets {
        return;
    }
    let mut whole = (*existing).clone();
    whole.subsets = Some(subsets);
    whole.metadata.labels = Some(labels);
    whole.metadata.managed_fields = None;
    let kept = whole.metadata.annotations.get_or_insert_default();
    kept.remove(OVER_CAPACITY);
    kept.remove(TRIGGERED);
    kept.extend(annotations.into_iter().flatten());
    let mut object = json!(whole);
    object["apiVersion"] = Endpoints::API_VERSION.into();
    object["kind"] = Endpoints::KIND.into();
    plan.write(Write::Replace { object, subresource: "" });
}

/// Addresses by port set, sorted, so that equal states are equal objects. Only the Service's first family is shown.
fn subsets(service: &Service, found: &[Found]) -> (Vec<EndpointSubset>, bool) {
    let families = service.spec.as_ref().and_then(|s| s.ip_families.as_ref());
    let v6 = families.and_then(|f| f.first()).is_some_and(|f| f == "IPv6");
    let mut shown: Vec<&Found> =
        found.iter().filter(|f| f.address.is_ipv6() == v6 && (!f.terminating || f.ready)).collect();
    shown.sort_by_key(|f| (!f.ready, f.address));
    let truncated = shown.len() > ADDRESSES_MAX;
    shown.truncate(ADDRESSES_MAX);
    let mut groups: BTreeMap<&[Port], (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    for one in shown {
        let (ready, not_ready) = groups.entry(&one.ports).or_default();
        if one.ready { ready.push(address(service, one)) } else { not_ready.push(address(service, one)) }
    }
    let some = |list: Vec<EndpointAddress>| Some(list).filter(|l| !l.is_empty());
    let subset = |(ports, (ready, not_ready)): (&[Port], _)| EndpointSubset {
        addresses: some(ready),
        not_ready_addresses: some(not_ready),
        ports: Some(ports.iter().map(port).collect()).filter(|p: &Vec<_>| !p.is_empty()),
    };
    (groups.into_iter().map(subset).collect(), truncated)
}

fn address(service: &Service, found: &Found) -> EndpointAddress {
    let (pod, spec) = (&found.pod, found.pod.spec.as_ref());
    let subdomain = spec.and_then(|s| s.subdomain.as_deref());
    EndpointAddress {
        ip: found.address.to_string(),
        hostname: spec.and_then(|s| s.hostname.clone()).filter(|_| subdomain == Some(service.name())),
        node_name: spec.and_then(|s| s.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace().into()),
            name: Some(pod.name().into()),
            uid: Some(pod.uid().into()),
            ..ObjectReference::default()
        }),
    }
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()).filter(|n| !n.is_empty()),
        protocol: Some(port.protocol.clone()),
        port: port.number,
        app_protocol: port.app_protocol.clone(),
    }
}
