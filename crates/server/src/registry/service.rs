//! Cluster addresses and node ports of Services, reserved in the transaction that writes the Service (api-facts §11.1).
//!
//! A cluster address is reserved by its `IPAddress` object, a node port by a key under `internal/nodeports/`. Both must
//! be absent when the Service commits, so two Services never hold one, and a failed write holds nothing.

use std::net::Ipv4Addr;

use mizzen_api::field::FieldError;
use mizzen_api::key;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;
use rand::Rng;
use serde_json::{Value, json};

use super::commit::Sides;
use super::create::invalid;
use super::{names, prepare};
use crate::config::Cidr;
use crate::dispatch::Ctx;

/// Fills in what the Service lacks and reserves it; gives back what `old` held and `new` does not.
pub(crate) fn allocate(
    ctx: &Ctx<'_>,
    snapshot: &Snapshot,
    new: &mut Value,
    old: Option<&Value>,
    sides: &mut Sides,
) -> Result<(), ApiError> {
    if !is_service(ctx) {
        return Ok(());
    }
    let held = old.map(Held::of).unwrap_or_default();
    let mut errors = Vec::new();
    let config = &ctx.core.config;
    assign_address(snapshot, config.service_cidr, new, &held, &mut errors);
    assign_ports(snapshot, config.node_ports, new, &held, &mut errors);
    invalid(ctx.kind(), new, errors)?;
    let wanted = Held::of(new);
    for address in wanted.addresses.iter().filter(|a| !held.addresses.contains(a)) {
        sides.create(address_key(address), &address_object(ctx, new, address));
    }
    for port in wanted.ports.iter().filter(|p| !held.ports.contains(p)) {
        sides.create(port_key(port), &json!({"service": owner(new)}));
    }
    held.addresses.iter().filter(|a| !wanted.addresses.contains(a)).for_each(|a| sides.delete(address_key(a)));
    held.ports.iter().filter(|p| !wanted.ports.contains(p)).for_each(|p| sides.delete(port_key(p)));
    Ok(())
}

/// Gives back what a deleted Service held.
pub(crate) fn release(ctx: &Ctx<'_>, old: &Value, sides: &mut Sides) {
    if is_service(ctx) {
        let held = Held::of(old);
        held.addresses.iter().for_each(|a| sides.delete(address_key(a)));
        held.ports.iter().for_each(|p| sides.delete(port_key(p)));
    }
}

fn is_service(ctx: &Ctx<'_>) -> bool {
    ctx.kind().group.is_empty() && ctx.kind().plural == "services"
}

fn owner(service: &Value) -> String {
    format!("{}/{}", prepare::text(service, "namespace"), prepare::text(service, "name"))
}

fn address_key(address: &str) -> String {
    key::object("networking.k8s.io", "ipaddresses", "", address)
}

fn port_key((port, protocol): &(u16, String)) -> String {
    key::object("internal", "nodeports", "", &format!("{port}-{protocol}"))
}

/// What a Service has reserved.
#[derive(Debug, Default, PartialEq)]
struct Held {
    addresses: Vec<String>,
    ports: Vec<(u16, String)>,
}

impl Held {
    fn of(service: &Value) -> Self {
        let spec = &service["spec"];
        if spec["type"] == "ExternalName" {
            return Self::default();
        }
        let listed = spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let addresses = listed.filter(|ip| !ip.is_empty() && *ip != "None").map(str::to_string).collect();
        let mut ports: Vec<(u16, String)> =
            spec["ports"].as_array().into_iter().flatten().filter_map(node_port).collect();
        ports.extend(number(&spec["healthCheckNodePort"]).map(|port| (port, "TCP".to_string())));
        Self { addresses, ports }
    }
}

fn node_port(port: &Value) -> Option<(u16, String)> {
    Some((number(&port["nodePort"])?, port["protocol"].as_str().unwrap_or("TCP").to_string()))
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0)
}

fn assign_address(snapshot: &Snapshot, cidr: Cidr, service: &mut Value, held: &Held, errors: &mut Vec<FieldError>) {
    let spec = &mut service["spec"];
    if !spec.is_object() || spec["type"] == "ExternalName" {
        return;
    }
    let headless = spec["clusterIP"] == "None";
    if !headless {
        let asked = spec["clusterIP"].as_str().filter(|ip| !ip.is_empty()).map(str::to_string);
        let address = match asked {
            Some(address) if held.addresses.contains(&address) => address,
            Some(address) => match refused_address(snapshot, cidr, &address) {
                Some(why) => {
                    let detail = format!("failed to allocate IP {address}: {why}");
                    errors.push(FieldError::invalid("spec.clusterIPs", json!([address]), detail));
                    return;
                }
                None => address,
            },
            None => match free_address(snapshot, cidr) {
                Some(address) => address.to_string(),
                None => {
                    let detail = "failed to allocate a serviceIP: range is full";
                    errors.push(FieldError {
                        problem: mizzen_api::field::Problem::Internal,
                        ..FieldError::required("spec.clusterIPs", detail)
                    });
                    return;
                }
            },
        };
        spec["clusterIP"] = address.as_str().into();
        spec["clusterIPs"] = json!([address]);
    } else {
        spec["clusterIPs"] = json!(["None"]);
    }
    if spec["ipFamilies"].as_array().is_none_or(Vec::is_empty) {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = "SingleStack".into();
    }
}

/// Why an address that a client asks for cannot be had.
fn refused_address(snapshot: &Snapshot, cidr: Cidr, address: &str) -> Option<String> {
    let in_range = address.parse::<Ipv4Addr>().ok().and_then(|a| cidr.offset(a));
    match in_range {
        None => {
            Some(format!("the provided IP ({address}) is not in the valid range. The range of valid IPs is {cidr}"))
        }
        Some(offset) if offset == 0 || offset == cidr.size() - 1 => {
            Some(format!("the provided network does not contain {address}"))
        }
        Some(_) => snapshot.get(&address_key(address)).map(|_| "provided IP is already allocated".to_string()),
    }
}

/// Addresses at the start of the network that are given only to those who ask for them.
fn static_band(cidr: Cidr) -> u32 {
    let band = (cidr.size() / 16).clamp(16, 256);
    if cidr.size() <= 16 { 1 } else { band.min(cidr.size()) }
}

/// A free address: a random one above the static band, below it only when there is none.
fn free_address(snapshot: &Snapshot, cidr: Cidr) -> Option<Ipv4Addr> {
    let last = cidr.size().checked_sub(1)?;
    let band = static_band(cidr).min(last);
    let free = |offset: &u32| snapshot.get(&address_key(&cidr.nth(*offset).to_string())).is_none();
    spread(band, last).find(free).or_else(|| spread(1, band).find(free)).map(|offset| cidr.nth(offset))
}

/// All numbers from `low` to below `high`, from a random one on.
fn spread(low: u32, high: u32) -> impl Iterator<Item = u32> {
    let count = high.saturating_sub(low);
    let start = if count == 0 { 0 } else { rand::rng().random_range(0..count) };
    (0..count).map(move |n| low + (start + n) % count)
}

fn assign_ports(
    snapshot: &Snapshot,
    range: (u16, u16),
    service: &mut Value,
    held: &Held,
    errors: &mut Vec<FieldError>,
) {
    let spec = &mut service["spec"];
    let balanced = spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false;
    let wants = spec["type"] == "NodePort" || balanced;
    let has = wants || spec["type"] == "LoadBalancer";
    let mut taken: Vec<(u16, String)> = Vec::new();
    let needs_health = spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for (at, port) in ports.into_iter().flatten().enumerate() {
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_string();
        let path = format!("spec.ports[{at}].nodePort");
        match number(&port["nodePort"]) {
            Some(asked) => {
                let reserved = (asked, protocol);
                if has && !held.ports.contains(&reserved) {
                    errors.extend(refused_port(snapshot, range, &reserved, &taken, &path));
                }
                taken.push(reserved);
            }
            None if wants => match free_port(snapshot, range, &protocol, &taken) {
                Some(free) => {
                    port["nodePort"] = free.into();
                    taken.push((free, protocol));
                }
                None => errors.push(FieldError::invalid(path, 0, "failed to allocate a nodePort: range is full")),
            },
            None => {}
        }
    }
    if needs_health && number(&spec["healthCheckNodePort"]).is_none() {
        match free_port(snapshot, range, "TCP", &taken) {
            Some(free) => spec["healthCheckNodePort"] = free.into(),
            None => errors.push(FieldError::invalid(
                "spec.healthCheckNodePort",
                0,
                "failed to allocate a nodePort: range is full",
            )),
        }
    }
}

fn refused_port(
    snapshot: &Snapshot,
    (first, last): (u16, u16),
    port: &(u16, String),
    taken: &[(u16, String)],
    path: &str,
) -> Option<FieldError> {
    if !(first..=last).contains(&port.0) {
        let detail = format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
        return Some(FieldError::invalid(path, port.0, detail));
    }
    let used = taken.contains(port) || snapshot.get(&port_key(port)).is_some();
    used.then(|| FieldError::invalid(path, port.0, "provided port is already allocated"))
}

/// A free node port: above the band for those who ask for one, while there is any.
fn free_port(snapshot: &Snapshot, (first, last): (u16, u16), protocol: &str, taken: &[(u16, String)]) -> Option<u16> {
    let count = u32::from(last.checked_sub(first)?) + 1;
    let band = (count / 32).clamp(16, 128).min(count);
    let free = |offset: &u32| {
        let port = (first + u16::try_from(*offset).unwrap_or(0), protocol.to_string());
        !taken.contains(&port) && snapshot.get(&port_key(&port)).is_none()
    };
    let offset = spread(band, count).find(free).or_else(|| spread(0, band).find(free))?;
    Some(first + u16::try_from(offset).ok()?)
}

/// The `IPAddress` object that reserves an address for a Service.
fn address_object(ctx: &Ctx<'_>, service: &Value, address: &str) -> Value {
    let parent = (prepare::text(service, "namespace"), prepare::text(service, "name"));
    ip_address(address, parent, &names::uid(), &prepare::time(ctx.now))
}

/// An `IPAddress` object whose parent is a Service.
pub(crate) fn ip_address(address: &str, (namespace, name): (&str, &str), uid: &str, created: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": address,
            "uid": uid,
            "creationTimestamp": created,
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(service: Value) -> Result<Value, Vec<FieldError>> {
        let mut service = service;
        let mut errors = Vec::new();
        let cidr = "10.96.0.0/16".parse().unwrap();
        let snapshot = Snapshot::default();
        assign_address(&snapshot, cidr, &mut service, &Held::default(), &mut errors);
        assign_ports(&snapshot, (30000, 32767), &mut service, &Held::default(), &mut errors);
        if errors.is_empty() { Ok(service) } else { Err(errors) }
    }

    #[test]
    fn services_get_what_their_type_needs() {
        let plain = assigned(json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}})).unwrap();
        let address: Ipv4Addr = plain["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
        assert!(address > Ipv4Addr::new(10, 96, 0, 255), "{address} lies in the static band");
        assert!(plain["spec"]["ports"][0]["nodePort"].is_null());
        let node = assigned(json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}})).unwrap();
        let ports = Held::of(&node).ports;
        assert!(ports.len() == 2 && ports[0] != ports[1] && ports.iter().all(|p| p.0 >= 30086), "{ports:?}");
        let headless = assigned(json!({"spec": {"type": "ClusterIP", "clusterIP": "None"}})).unwrap();
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
        assert_eq!(Held::of(&headless), Held::default());
        let external = json!({"spec": {"type": "ExternalName", "externalName": "x"}});
        assert_eq!(assigned(external.clone()), Ok(external));
    }

    #[test]
    fn wishes_out_of_range_are_refused() {
        for (spec, path) in [
            (json!({"type": "ClusterIP", "clusterIP": "10.97.0.1"}), "spec.clusterIPs"),
            (json!({"type": "ClusterIP", "clusterIP": "10.96.0.0"}), "spec.clusterIPs"),
            (json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]}), "spec.ports[0].nodePort"),
            (
                json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30001}, {"port": 2, "nodePort": 30001}]}),
                "spec.ports[1].nodePort",
            ),
        ] {
            let errors = assigned(json!({"spec": spec})).unwrap_err();
            assert_eq!(errors.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), [path]);
        }
    }
}
