//! Forms that claims, classes and slices share.

use serde_json::Value;

use crate::names;
use crate::rules::cells::{list, text};
use crate::rules::check::{At, Errors};
use crate::rules::csi;

/// Most entries of most lists.
pub(super) const MANY: usize = 32;
/// Longest name of a pool, bytes.
const POOL_NAME_MAX: usize = 253;
/// Longest part of an attribute's name, bytes: domain, identifier.
const QUALIFIED_MAX: (usize, usize) = (63, 32);
/// What taints do.
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// Checks each of at most `max` entries.
pub(super) fn each(
    entries: &Value,
    max: usize,
    at: &At<'_>,
    errors: &mut Errors,
    one: impl Fn(&Value, &At<'_>, &mut Errors),
) {
    let entries = list(entries);
    if entries.len() > max {
        errors.too_many(at, entries.len(), max);
        return;
    }
    for (i, entry) in entries.iter().enumerate() {
        one(entry, &at.index(i), errors);
    }
}

/// Checks each of at most `max` entries, which differ in `key`; in themselves if that is empty.
pub(super) fn set(
    entries: &Value,
    max: usize,
    key: &str,
    at: &At<'_>,
    errors: &mut Errors,
    one: impl Fn(&Value, &At<'_>, &mut Errors),
) {
    each(entries, max, at, errors, one);
    let entries = list(entries);
    if entries.len() > max {
        return;
    }
    let id = |entry: &Value| if key.is_empty() { entry.clone() } else { entry[key].clone() };
    for (i, entry) in entries.iter().enumerate() {
        if entries[..i].iter().any(|before| id(before) == id(entry)) {
            let at = at.index(i);
            if key.is_empty() {
                errors.duplicate(&at, id(entry));
            } else {
                errors.duplicate(&at.field(key), id(entry));
            }
        }
    }
}

/// A name that is an RFC 1123 label.
pub(super) fn label(value: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.required_form(at, value, names::dns1123_label);
}

/// A name that is an RFC 1123 subdomain.
pub(super) fn subdomain(value: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.required_form(at, value, names::dns1123_subdomain);
}

/// The name of a driver.
pub(super) fn driver(value: &Value, at: &At<'_>, errors: &mut Errors) {
    csi::driver_name(value, at, errors);
}

/// The name of a pool: subdomains between slashes.
pub(super) fn pool(value: &Value, at: &At<'_>, errors: &mut Errors) {
    let name = text(value);
    if name.is_empty() {
        errors.required(at, "");
        return;
    }
    if name.len() > POOL_NAME_MAX {
        errors.too_long(at, POOL_NAME_MAX);
    }
    for part in name.split('/') {
        errors.all(at, part, names::dns1123_subdomain(part));
    }
}

/// The name of an attribute: an identifier, after the domain of who defines it.
pub(super) fn qualified_name(name: &str, at: &At<'_>, errors: &mut Errors) {
    let (domain, id) = name.split_once('/').map_or((None, name), |(domain, id)| (Some(domain), id));
    match domain {
        Some("") => errors.invalid(at, "", "the domain must not be empty"),
        Some(domain) => {
            if domain.len() > QUALIFIED_MAX.0 {
                errors.too_long(at, QUALIFIED_MAX.0);
            }
            errors.all(at, domain, names::dns1123_subdomain(domain));
        }
        None => {}
    }
    if id.is_empty() {
        errors.invalid(at, "", "the name must not be empty");
        return;
    }
    if id.len() > QUALIFIED_MAX.1 {
        errors.too_long(at, QUALIFIED_MAX.1);
    }
    let fits = |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit());
    if !id.char_indices().all(fits) {
        let detail = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
            alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is \
            '[A-Za-z_][A-Za-z0-9_]*')";
        errors.invalid(at, id, detail);
    }
}

/// The name of an attribute with its domain.
pub(super) fn full_name(value: &Value, at: &At<'_>, errors: &mut Errors) {
    let name = text(value);
    if !name.contains('/') {
        errors.invalid(at, name, "a fully qualified name must be a domain and a name separated by a slash");
    } else {
        qualified_name(name, at, errors);
    }
}

/// A taint of a device.
pub(super) fn taint(taint: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.required_form(&at.field("key"), &taint["key"], names::qualified_name);
    let value = text(&taint["value"]);
    errors.all(&at.field("value"), value, names::label_value(value));
    errors.required_one_of(&at.field("effect"), &taint["effect"], &EFFECTS);
}

/// A toleration of such taints.
pub(super) fn toleration(toleration: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.form(&at.field("key"), &toleration["key"], names::qualified_name);
    let value = text(&toleration["value"]);
    match text(&toleration["operator"]) {
        "Exists" if !value.is_empty() => {
            errors.invalid(&at.field("value"), value, "must be empty for operator `Exists`");
        }
        "Equal" => errors.all(&at.field("value"), value, names::label_value(value)),
        _ => errors.required_one_of(&at.field("operator"), &toleration["operator"], &["Equal", "Exists"]),
    }
    if !text(&toleration["effect"]).is_empty() {
        errors.one_of(&at.field("effect"), &toleration["effect"], &EFFECTS);
    }
}
