//! Quantities of the API as whole numbers: bytes, thousandths of a core. Rounded up.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

fn parse(quantity: &Quantity) -> Option<mizzen_api::quantity::Quantity> {
    // Validation lets nothing unreadable in; an older object may still hold it, and then it counts as not given.
    quantity.0.parse().ok()
}

/// Whole units: bytes, pods.
pub fn units(quantity: &Quantity) -> Option<i64> {
    parse(quantity).map(mizzen_api::quantity::Quantity::units)
}

/// Thousandths: CPU.
pub fn millis(quantity: &Quantity) -> Option<i64> {
    parse(quantity).map(mizzen_api::quantity::Quantity::millis)
}

/// A resource of a list in thousandths for `cpu`, else whole units.
pub fn amount(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    let quantity = list?.get(name)?;
    if name == "cpu" { millis(quantity) } else { units(quantity) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_counts_in_thousandths_and_all_else_in_units() {
        let list = BTreeMap::from([
            ("cpu".to_string(), Quantity("1500m".into())),
            ("memory".to_string(), Quantity("128Mi".into())),
            ("odd".to_string(), Quantity("x".into())),
        ]);
        for (name, want) in [("cpu", Some(1500)), ("memory", Some(134_217_728)), ("odd", None), ("none", None)] {
            assert_eq!(amount(Some(&list), name), want, "{name}");
        }
        assert_eq!(units(&list["cpu"]), Some(2));
    }
}
