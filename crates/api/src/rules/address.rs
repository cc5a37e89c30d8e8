//! networking.k8s.io/v1: IPAddress, ServiceCIDR.

use serde_json::Value;

use crate::kind::{Column, Rules};
use crate::rules::cells::{self, NONE, list, text};
use crate::rules::plain::{self, PLAIN, WITH_STATUS};

/// Rules of ServiceCIDRs.
pub static SERVICE_CIDR: Rules =
    Rules { prepare_create: plain::empty_status, columns: CIDR_COLUMNS, row: cidr_row, ..WITH_STATUS };

/// Rules of IPAddresses.
pub static IP_ADDRESS: Rules = Rules { columns: ADDRESS_COLUMNS, row: address_row, ..PLAIN };

const CIDR_COLUMNS: &[Column] = &[Column::NAME, Column::text("CIDRs", "Ranges of addresses."), Column::AGE];

fn cidr_row(object: &Value, now: i64) -> Vec<Value> {
    let cidrs: Vec<&str> = list(&object["spec"]["cidrs"]).iter().map(text).collect();
    vec![cells::name(object), cidrs.join(",").into(), cells::age(object, now)]
}

const ADDRESS_COLUMNS: &[Column] = &[Column::NAME, Column::text("ParentRef", "The object that uses it."), Column::AGE];

fn address_row(object: &Value, now: i64) -> Vec<Value> {
    let parent = &object["spec"]["parentRef"];
    let owner = if parent.is_null() {
        NONE.into()
    } else {
        let dot = if text(&parent["group"]).is_empty() { "" } else { "." };
        let resource = format!("{}{dot}{}", text(&parent["resource"]), text(&parent["group"])).to_lowercase();
        let parts = [resource.as_str(), text(&parent["namespace"]), text(&parent["name"])];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    };
    vec![cells::name(object), owner.into(), cells::age(object, now)]
}
