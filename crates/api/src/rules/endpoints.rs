//! core/v1 Endpoints and discovery.k8s.io/v1 EndpointSlice.

use serde_json::Value;

use crate::field::FieldError;
use crate::kind::{Column, Generation, Rules};
use crate::names;
use crate::rules::cells::{self, NONE, UNSET, list, text};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill;
use crate::rules::plain::PLAIN;

/// Rules of Endpoints.
pub static ENDPOINTS: Rules = Rules {
    default: default_endpoints,
    validate: validate_endpoints,
    validate_update: update_endpoints,
    columns: COLUMNS,
    row,
    ..PLAIN
};

/// Rules of EndpointSlices.
pub static ENDPOINT_SLICE: Rules = Rules {
    default: default_slice,
    validate: validate_slice,
    validate_update: update_slice,
    generation: Generation::ContentAndLabels,
    columns: SLICE_COLUMNS,
    row: slice_row,
    ..PLAIN
};

fn default_endpoints(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    for subset in fill::items(object, "subsets") {
        for port in fill::items(subset, "ports") {
            fill::text(port, "protocol", "TCP");
        }
    }
}

fn default_slice(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    for port in fill::items(object, "ports") {
        fill::optional(port, "name", "");
        fill::optional(port, "protocol", "TCP");
    }
}

/// Addresses or ports shown in a cell; further ones are counted.
const SHOWN: usize = 3;

const COLUMNS: &[Column] =
    &[Column::NAME, Column::text("Endpoints", "Addresses and ports of the ready endpoints."), Column::AGE];

fn row(object: &Value, now: i64) -> Vec<Value> {
    let subsets = list(&object["subsets"]);
    let mut shown = Vec::new();
    for subset in subsets {
        let addresses = || list(&subset["addresses"]).iter().map(|address| text(&address["ip"]));
        let ports = list(&subset["ports"]);
        if ports.is_empty() {
            shown.extend(addresses().map(String::from));
        }
        for port in ports {
            shown.extend(addresses().map(|ip| join(ip, cells::number(&port["port"]))));
        }
    }
    let text = if subsets.is_empty() { NONE.into() } else { cells::shortened(&shown, SHOWN, ",", "") };
    vec![cells::name(object), text.into(), cells::age(object, now)]
}

/// Address and port, an IPv6 address in brackets.
fn join(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

const SLICE_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("AddressType", "Kind of the addresses."),
    Column::text("Ports", "Ports of every endpoint."),
    Column::text("Endpoints", "Addresses of the endpoints."),
    Column::AGE,
];

fn slice_row(object: &Value, now: i64) -> Vec<Value> {
    let port = |port: &Value| match port["port"].as_i64() {
        Some(number) => number.to_string(),
        None => cells::scalar_or(&port["name"], "*"),
    };
    let ports: Vec<String> = list(&object["ports"]).iter().map(port).collect();
    let addresses: Vec<String> = list(&object["endpoints"])
        .iter()
        .flat_map(|endpoint| list(&endpoint["addresses"]).iter().map(|address| text(address).to_string()))
        .collect();
    vec![
        cells::name(object),
        text(&object["addressType"]).into(),
        cells::shortened(&ports, SHOWN, ",", UNSET).into(),
        cells::shortened(&addresses, SHOWN, ",", UNSET).into(),
        cells::age(object, now),
    ]
}

/// Most endpoints of a slice, addresses of an endpoint, and hints of each kind.
const SLICE_ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const HINTS_MAX: usize = 8;

fn validate_endpoints(object: &Value) -> Vec<FieldError> {
    let (subsets_at, mut errors) = (At::ROOT.field("subsets"), Errors::default());
    for (i, subset) in list(&object["subsets"]).iter().enumerate() {
        let at = subsets_at.index(i);
        if ["addresses", "notReadyAddresses"].iter().all(|field| list(&subset[*field]).is_empty()) {
            errors.required(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            let at = at.field(field);
            for (i, address) in list(&subset[field]).iter().enumerate() {
                let at = at.index(i);
                endpoint_ip(text(&address["ip"]), &at.field("ip"), &mut errors);
                errors.form(&at.field("hostname"), &address["hostname"], names::dns1123_label);
                errors.form(&at.field("nodeName"), &address["nodeName"], names::dns1123_subdomain);
            }
        }
        let ports = list(&subset["ports"]);
        let at = at.field("ports");
        for (i, port) in ports.iter().enumerate() {
            let at = at.index(i);
            if ports.len() > 1 {
                errors.required_text(&at.field("name"), &port["name"], "");
            }
            let number = cells::number(&port["port"]);
            errors.all(&at.field("port"), number, names::port_number(number));
            port_rest(port, &at, &mut errors);
        }
    }
    errors.0
}

fn port_rest(port: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.form(&at.field("name"), &port["name"], names::dns1123_label);
    errors.required_one_of(&at.field("protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
    errors.form(&at.field("appProtocol"), &port["appProtocol"], names::qualified_name);
}

/// An address that traffic may be sent to: not the node itself, not a link.
pub fn endpoint_ip(address: &str, at: &At<'_>, errors: &mut Errors) {
    use std::net::IpAddr;
    let Ok(ip) = address.parse::<IpAddr>() else {
        errors.all(at, address, names::ip(address));
        return;
    };
    let (link_local, link_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    if ip.is_unspecified() {
        errors.invalid(at, address, format!("may not be unspecified ({address})"));
    }
    for (holds, detail) in [
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (link_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ] {
        if holds {
            errors.invalid(at, address, detail);
        }
    }
}

fn update_endpoints(new: &Value, old: &Value) -> Vec<FieldError> {
    if same(&new["subsets"], &old["subsets"]) { Vec::new() } else { validate_endpoints(new) }
}

fn validate_slice(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let kind = &object["addressType"];
    errors.required_one_of(&At::ROOT.field("addressType"), kind, &["FQDN", "IPv4", "IPv6"]);
    let (ports, at) = (list(&object["ports"]), At::ROOT.field("ports"));
    for (i, port) in ports.iter().enumerate() {
        let at = at.index(i);
        if ports[..i].iter().any(|other| text(&other["name"]) == text(&port["name"])) {
            errors.duplicate(&at.field("name"), text(&port["name"]));
        }
        port_rest(port, &at, &mut errors);
    }
    let (endpoints, at) = (list(&object["endpoints"]), At::ROOT.field("endpoints"));
    if endpoints.len() > SLICE_ENDPOINTS_MAX {
        errors.0.push(FieldError::too_many(at.to_string(), endpoints.len(), SLICE_ENDPOINTS_MAX));
        return errors.0;
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        slice_endpoint(endpoint, text(kind), &at.index(i), &mut errors);
    }
    errors.0
}

fn slice_endpoint(endpoint: &Value, kind: &str, at: &At<'_>, errors: &mut Errors) {
    let (addresses, addresses_at) = (list(&endpoint["addresses"]), at.field("addresses"));
    match addresses.len() {
        0 => errors.required(&addresses_at, "must contain at least 1 address"),
        n if n > ADDRESSES_MAX => errors.0.push(FieldError::too_many(addresses_at.to_string(), n, ADDRESSES_MAX)),
        _ => {}
    }
    for (i, address) in addresses.iter().enumerate() {
        let (at, address) = (addresses_at.index(i), text(address));
        match kind {
            "IPv4" | "IPv6" => {
                endpoint_ip(address, &at, errors);
                let is_six = address.contains(':');
                if names::ip(address).is_empty() && is_six != (kind == "IPv6") {
                    errors.invalid(&addresses_at, address, format!("must be an {kind} address"));
                }
            }
            _ => errors.all(&at, address, names::dns1123_subdomain(address.strip_suffix('.').unwrap_or(address))),
        }
    }
    errors.form(&at.field("nodeName"), &endpoint["nodeName"], names::dns1123_subdomain);
    errors.form(&at.field("hostname"), &endpoint["hostname"], names::dns1123_label);
    let hints_at = at.field("hints");
    for field in ["forZones", "forNodes"] {
        let (hints, at) = (list(&endpoint["hints"][field]), hints_at.field(field));
        if hints.len() > HINTS_MAX {
            errors.0.push(FieldError::too_many(at.to_string(), hints.len(), HINTS_MAX));
        }
        for (i, hint) in hints.iter().enumerate().take(HINTS_MAX) {
            let at = at.index(i);
            if hints[..i].iter().any(|other| other["name"] == hint["name"]) {
                errors.duplicate(&at.field("name"), &hint["name"]);
            }
            let name = text(&hint["name"]);
            let form = if field == "forZones" { names::label_value } else { names::dns1123_subdomain };
            errors.all(&at.field("name"), name, form(name));
        }
    }
}

fn update_slice(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors(validate_slice(new));
    errors.immutable(&At::ROOT.field("addressType"), &new["addressType"], &old["addressType"]);
    errors.0
}

#[cfg(test)]
mod tests {
    use crate::rules::check::testing::check;
    use serde_json::json;

    #[test]
    fn addresses_are_shown_with_each_port() {
        let ips = |n: usize| (1..=n).map(|i| json!({"ip": format!("10.0.0.{i}")})).collect::<Vec<_>>();
        for (subsets, text) in [
            (json!([]), "<none>"),
            (json!([{"addresses": ips(2), "ports": [{"port": 80}]}]), "10.0.0.1:80,10.0.0.2:80"),
            (
                json!([{"addresses": ips(2), "ports": [{"port": 80}, {"port": 443}]}]),
                "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 1 more...",
            ),
            (json!([{"addresses": [{"ip": "::1"}], "ports": [{"port": 80}]}]), "[::1]:80"),
        ] {
            assert_eq!(super::row(&json!({"subsets": subsets}), 0)[1], text);
        }
    }

    #[test]
    fn addresses_are_of_the_slice_s_kind() {
        for (case, kind, address, errors) in [
            ("good", "IPv4", "10.0.0.1", &[][..]),
            (
                "family",
                "IPv4",
                "2001:db8::1",
                &["endpoints[0].addresses: Invalid value: \"2001:db8::1\": must be an IPv4 address"],
            ),
            (
                "loopback",
                "IPv4",
                "127.0.0.1",
                &["endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback"],
            ),
            (
                "no address",
                "IPv4",
                "x",
                &["endpoints[0].addresses[0]: Invalid value: \"x\": must be a valid IP address"],
            ),
            ("name", "FQDN", "db.example.com", &[]),
        ] {
            let slice = json!({"addressType": kind, "endpoints": [{"addresses": [address]}]});
            check(case, &super::validate_slice(&slice), errors);
        }
        let (four, six) = (json!({"addressType": "IPv4"}), json!({"addressType": "IPv6"}));
        check("kind", &super::update_slice(&six, &four), &["addressType: Invalid value: \"IPv6\": field is immutable"]);
    }
}
