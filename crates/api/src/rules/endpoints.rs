//! core/v1 Endpoints and discovery.k8s.io/v1 EndpointSlice.

use serde_json::Value;

use crate::kind::{Column, Generation, Rules};
use crate::rules::cells::{self, NONE, UNSET, list, text};
use crate::rules::fill;
use crate::rules::plain::PLAIN;

/// Rules of Endpoints.
pub static ENDPOINTS: Rules = Rules {
    default: default_endpoints,
    columns: COLUMNS,
    row,
    ..PLAIN
};

/// Rules of EndpointSlices.
pub static ENDPOINT_SLICE: Rules = Rules {
    default: default_slice,
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

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Endpoints", "Addresses and ports of the ready endpoints."),
    Column::AGE,
];

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
    let text = if subsets.is_empty() {
        NONE.into()
    } else {
        cells::shortened(&shown, SHOWN, ",", "")
    };
    vec![cells::name(object), text.into(), cells::age(object, now)]
}

/// Address and port, an IPv6 address in brackets.
fn join(ip: &str, port: i64) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
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
        .flat_map(|endpoint| {
            list(&endpoint["addresses"])
                .iter()
                .map(|address| text(address).to_string())
        })
        .collect();
    vec![
        cells::name(object),
        text(&object["addressType"]).into(),
        cells::shortened(&ports, SHOWN, ",", UNSET).into(),
        cells::shortened(&addresses, SHOWN, ",", UNSET).into(),
        cells::age(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn addresses_are_shown_with_each_port() {
        let ips = |n: usize| {
            (1..=n)
                .map(|i| json!({"ip": format!("10.0.0.{i}")}))
                .collect::<Vec<_>>()
        };
        for (subsets, text) in [
            (json!([]), "<none>"),
            (
                json!([{"addresses": ips(2), "ports": [{"port": 80}]}]),
                "10.0.0.1:80,10.0.0.2:80",
            ),
            (
                json!([{"addresses": ips(2), "ports": [{"port": 80}, {"port": 443}]}]),
                "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 1 more...",
            ),
            (
                json!([{"addresses": [{"ip": "::1"}], "ports": [{"port": 80}]}]),
                "[::1]:80",
            ),
        ] {
            assert_eq!(super::row(&json!({"subsets": subsets}), 0)[1], text);
        }
    }
}
