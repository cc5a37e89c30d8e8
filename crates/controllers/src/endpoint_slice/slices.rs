//! Endpoints into slices: at most a hundred in each, one set a port set and address family, and as little moved as possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use mizzen_api::key;
use mizzen_store::Snapshot;
use serde_json::{Value, json};

use super::{Found, Port};
use crate::meta::{self, Meta};
use crate::plan::{Plan, Write};

/// Most endpoints of a slice (the API allows a thousand; Kubernetes writes a hundred).
const SLICE_MAX: usize = 100;
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// One set of slices.
type Group = (&'static str, Vec<Port>);

/// Plans the writes for the slices of one Service.
pub(super) fn plan(snapshot: &Snapshot, service: &Service, spec: &ServiceSpec, found: &[Found], plan: &mut Plan) {
    let prefix = key::in_namespace::<EndpointSlice>(service.namespace());
    let is_ours = |s: &Arc<EndpointSlice>| {
        s.label(SERVICE_NAME) == Some(service.name()) && s.label(MANAGED_BY) == Some(CONTROLLER)
    };
    let existing: Vec<Arc<EndpointSlice>> = snapshot.list_as(&prefix).filter(is_ours).collect();
    let mut groups: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    for one in found {
        let family = if one.address.is_ipv4() { "IPv4" } else { "IPv6" };
        if families(spec).contains(&family) {
            groups.entry((family, one.ports.clone())).or_default().push(endpoint(service, spec, one));
        }
    }
    if groups.is_empty() {
        // A Service without endpoints has an empty slice, so that its watchers know.
        groups.insert((families(spec)[0], Vec::new()), Vec::new());
    }
    let mut kept = Vec::new();
    for ((family, ports), endpoints) in groups {
        let slices: Vec<_> = existing.iter().filter(|s| s.address_type == family && same_ports(s, &ports)).collect();
        let mut group = GroupPlan { service, family, ports, labels: labels(service, spec) };
        kept.extend(group.assign(slices, endpoints, plan));
    }
    for slice in existing.iter().filter(|s| !kept.contains(&s.uid().to_string()) && !s.is_deleting()) {
        plan.write(Write::delete(&**slice));
    }
}

fn families(spec: &ServiceSpec) -> Vec<&'static str> {
    let known = |f: &String| match f.as_str() {
        "IPv6" => "IPv6",
        _ => "IPv4",
    };
    let families: Vec<_> = spec.ip_families.iter().flatten().map(known).collect();
    if families.is_empty() { vec!["IPv4"] } else { families }
}

fn labels(service: &Service, spec: &ServiceSpec) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), service.name().into());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    if spec.cluster_ip.as_deref() == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels
}

fn same_ports(slice: &EndpointSlice, ports: &[Port]) -> bool {
    let mut theirs: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .map(|p| Port {
            name: p.name.clone().unwrap_or_default(),
            protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()),
            number: p.port.unwrap_or(0),
            app_protocol: p.app_protocol.clone(),
        })
        .collect();
    theirs.sort();
    theirs == ports
}

/// The slices of one port set and family.
struct GroupPlan<'a> {
    service: &'a Service,
    family: &'static str,
    ports: Vec<Port>,
    labels: BTreeMap<String, String>,
}

impl GroupPlan<'_> {
    /// Leaves endpoints where they are, fills gaps, then makes new slices. Answers the UIDs of slices that stay.
    fn assign(&mut self, slices: Vec<&Arc<EndpointSlice>>, endpoints: Vec<Endpoint>, plan: &mut Plan) -> Vec<String> {
        let mut left: BTreeMap<String, Endpoint> = endpoints.into_iter().map(|e| (identity(&e), e)).collect();
        let is_empty = left.is_empty();
        let mut contents: Vec<Vec<Endpoint>> = Vec::new();
        for slice in &slices {
            contents.push(slice.endpoints.iter().flatten().filter_map(|e| left.remove(&identity(e))).collect());
        }
        let mut rest = left.into_values();
        for content in &mut contents {
            let room = SLICE_MAX.saturating_sub(content.len());
            content.extend(rest.by_ref().take(room));
        }
        let mut kept = Vec::new();
        for (index, (slice, content)) in slices.iter().zip(contents).enumerate() {
            if !content.is_empty() || (is_empty && index == 0) {
                kept.push(slice.uid().to_string());
                self.update(slice, content, plan);
            }
        }
        let rest: Vec<Endpoint> = rest.collect();
        let chunks: Vec<&[Endpoint]> =
            if rest.is_empty() && kept.is_empty() { vec![&[]] } else { rest.chunks(SLICE_MAX).collect() };
        for chunk in chunks {
            plan.write(Write::Create { object: self.build(chunk, slices.len()) });
        }
        kept
    }

    fn update(&self, slice: &EndpointSlice, content: Vec<Endpoint>, plan: &mut Plan) {
        let before = slice.endpoints.clone().unwrap_or_default();
        let labels = slice.metadata.labels.clone().unwrap_or_default();
        if before == content && labels == self.labels {
            return;
        }
        let mut whole = slice.clone();
        whole.endpoints = Some(content);
        whole.metadata.labels = Some(self.labels.clone());
        whole.metadata.managed_fields = None;
        let mut object = json!(whole);
        object["apiVersion"] = EndpointSlice::API_VERSION.into();
        object["kind"] = EndpointSlice::KIND.into();
        plan.write(Write::Replace { object, subresource: "" });
    }

    /// The name follows from the first endpoint, so that the same plan made twice makes the slice once.
    fn build(&self, endpoints: &[Endpoint], others: usize) -> Value {
        let first = endpoints.first().map(identity).unwrap_or_default();
        let ports = format!("{:?}", self.ports);
        let uid = self.service.uid().as_bytes();
        let suffix =
            meta::suffix(&[uid, self.family.as_bytes(), ports.as_bytes(), first.as_bytes(), &others.to_le_bytes()]);
        let ports: Vec<EndpointPort> = self
            .ports
            .iter()
            .map(|p| EndpointPort {
                name: Some(p.name.clone()),
                protocol: Some(p.protocol.clone()),
                port: Some(p.number),
                app_protocol: p.app_protocol.clone(),
            })
            .collect();
        let name = self.service.name();
        json!({
            "apiVersion": EndpointSlice::API_VERSION,
            "kind": EndpointSlice::KIND,
            "metadata": {
                "name": format!("{}-{suffix}", name.get(..57).unwrap_or(name)),
                "generateName": format!("{name}-"),
                "namespace": self.service.namespace(),
                "labels": self.labels,
                "ownerReferences": [meta::owner_of(self.service)],
            },
            "addressType": self.family,
            "endpoints": endpoints,
            "ports": ports,
        })
    }
}

/// What makes an endpoint the same one: its pod and address.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|t| t.uid.as_deref()).unwrap_or_default();
    format!("{uid}/{}", endpoint.addresses.first().map_or("", String::as_str))
}

fn endpoint(service: &Service, spec: &ServiceSpec, found: &Found) -> Endpoint {
    let pod = &found.pod;
    let pod_spec = pod.spec.as_ref();
    let subdomain = pod_spec.and_then(|s| s.subdomain.as_deref());
    let hostname = pod_spec.and_then(|s| s.hostname.clone()).filter(|_| subdomain == Some(service.name()));
    Endpoint {
        addresses: vec![found.address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(found.ready),
            serving: Some(found.serving),
            terminating: Some(found.terminating),
        }),
        hostname,
        node_name: pod_spec.and_then(|s| s.node_name.clone()),
        zone: found.zone.clone(),
        hints: hints(spec, found),
        target_ref: Some(target(pod)),
        deprecated_topology: None,
    }
}

fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: Some(pod.namespace().into()),
        name: Some(pod.name().into()),
        uid: Some(pod.uid().into()),
        ..ObjectReference::default()
    }
}

/// Who should use this endpoint, if the Service asks for closeness (trafficDistribution).
fn hints(spec: &ServiceSpec, found: &Found) -> Option<EndpointHints> {
    let wish = spec.traffic_distribution.as_deref()?;
    let zones = found.zone.clone().map(|name| vec![ForZone { name }]);
    let node = found.pod.spec.as_ref().and_then(|s| s.node_name.clone());
    match wish {
        "PreferClose" | "PreferSameZone" => zones.map(|z| EndpointHints { for_zones: Some(z), for_nodes: None }),
        "PreferSameNode" => {
            Some(EndpointHints { for_zones: zones, for_nodes: node.map(|name| vec![ForNode { name }]) })
        }
        _ => None,
    }
}
