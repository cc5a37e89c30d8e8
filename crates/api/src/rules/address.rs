//! networking.k8s.io/v1: IPAddress, ServiceCIDR.

use serde_json::Value;

use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::names;
use crate::rules::cells::{self, NONE, list, text};
use crate::rules::check::{At, Errors, IMMUTABLE};
use crate::rules::plain::{self, PLAIN, WITH_STATUS};

/// Rules of ServiceCIDRs.
pub static SERVICE_CIDR: Rules = Rules {
    prepare_create: plain::empty_status,
    validate: validate_ranges,
    validate_update: update_ranges,
    columns: CIDR_COLUMNS,
    row: cidr_row,
    ..WITH_STATUS
};

/// Rules of IPAddresses.
pub static IP_ADDRESS: Rules = Rules {
    validate: validate_address,
    validate_update: update_address,
    columns: ADDRESS_COLUMNS,
    row: address_row,
    ..PLAIN
};

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

fn validate_ranges(object: &Value) -> Vec<FieldError> {
    let at = At::ROOT.field("spec");
    let (cidrs, at, mut errors) = (list(&object["spec"]["cidrs"]), at.field("cidrs"), Errors::default());
    if cidrs.is_empty() {
        errors.required(&at, "at least one CIDR required");
    }
    if cidrs.len() > 2 {
        errors.invalid(&at, cidrs, "may only hold up to 2 values");
    }
    for (i, cidr) in cidrs.iter().enumerate() {
        errors.all(&at.index(i), cidr, names::cidr(text(cidr)));
    }
    let is_six = |cidr: &Value| text(cidr).contains(':');
    if let [first, second] = cidrs
        && is_six(first) == is_six(second)
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&at, cidrs, detail);
    }
    errors.0
}

/// A range stays; a second one may be added.
fn update_ranges(new: &Value, old: &Value) -> Vec<FieldError> {
    let (cidrs, stored) = (list(&new["spec"]["cidrs"]), list(&old["spec"]["cidrs"]));
    let mut errors = Errors::default();
    if !cidrs.starts_with(stored) {
        errors.invalid(&At::ROOT.field("spec").field("cidrs"), cidrs, IMMUTABLE);
    } else if cidrs.len() > stored.len() {
        return validate_ranges(new);
    }
    errors.0
}

fn validate_address(object: &Value) -> Vec<FieldError> {
    let at = At::ROOT.field("spec");
    let (parent, at, mut errors) = (&object["spec"]["parentRef"], at.field("parentRef"), Errors::default());
    if parent.is_null() {
        errors.required(&at, "");
        return errors.0;
    }
    for field in ["resource", "name"] {
        errors.required_form(&at.field(field), &parent[field], names::path_segment);
    }
    errors.form(&at.field("namespace"), &parent["namespace"], names::path_segment);
    errors.form(&at.field("group"), &parent["group"], names::dns1123_subdomain);
    errors.0
}

fn update_address(new: &Value, old: &Value) -> Vec<FieldError> {
    let (mut errors, at) = (Errors::default(), At::ROOT.field("spec"));
    errors.immutable(&at.field("parentRef"), &new["spec"]["parentRef"], &old["spec"]["parentRef"]);
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;
    use serde_json::json;

    #[test]
    fn ranges_stay() {
        let ranges = |cidrs: &[&str]| json!({"spec": {"cidrs": cidrs}});
        for (case, cidrs, errors) in [
            ("good", &["10.96.0.0/12", "fd00::/108"][..], &[][..]),
            ("none", &[], &["spec.cidrs: Required value: at least one CIDR required"]),
            ("one family", &["10.96.0.0/12", "10.0.0.0/12"], &["spec.cidrs: Invalid value: ["]),
        ] {
            check(case, &validate_ranges(&ranges(cidrs)), errors);
        }
        let old = ranges(&["10.96.0.0/12"]);
        check("second", &update_ranges(&ranges(&["10.96.0.0/12", "fd00::/108"]), &old), &[]);
        check(
            "other",
            &update_ranges(&ranges(&["10.0.0.0/12"]), &old),
            &["spec.cidrs: Invalid value: [\"10.0.0.0/12\"]: field is immutable"],
        );
    }
}
