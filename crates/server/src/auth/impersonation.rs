//! `Impersonate-*` headers: acting as someone else, if allowed (api-facts §6.1).

use std::collections::BTreeMap;

use http::HeaderMap;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;

use super::{ANONYMOUS, AUTHENTICATED, Attributes, Authorizer, Identity, UNAUTHENTICATED, service_account_groups};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
/// Each value costs an authorization.
const VALUES_MAX: usize = 256;

/// Whom the headers name; `None` without such headers.
fn requested(headers: &HeaderMap) -> Result<Option<Identity>, ApiError> {
    let mut wanted = Identity::default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    for (name, value) in headers {
        let name = name.as_str();
        if !name.starts_with("impersonate-") {
            continue;
        }
        count += 1;
        if count > VALUES_MAX {
            return Err(ApiError::bad_request("too many impersonation headers"));
        }
        let value =
            value.to_str().map_err(|_| ApiError::bad_request(format!("header {name} is not readable")))?.to_string();
        match name {
            USER => wanted.user = value,
            GROUP => wanted.groups.push(value),
            UID => wanted.uid = value,
            _ => {
                let Some(key) = name.strip_prefix(EXTRA) else { continue };
                extra.entry(unescape(key)).or_default().push(value);
            }
        }
    }
    wanted.extra = extra;
    if !wanted.user.is_empty() {
        return Ok(Some(wanted));
    }
    if wanted == Identity::default() {
        return Ok(None);
    }
    Err(ApiError::bad_request(format!("requested [{}] without impersonating a user", described(&wanted).join(" "))))
}

fn described(wanted: &Identity) -> Vec<String> {
    let groups = wanted.groups.iter().map(|group| format!("group={group}"));
    let uid = Some(&wanted.uid).filter(|uid| !uid.is_empty()).map(|uid| format!("uid={uid}"));
    groups.chain(uid).chain(wanted.extra.keys().map(|key| format!("extra={key}"))).collect()
}

/// Percent-decoding of header names; what is not decodable stays as it is.
fn unescape(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| key.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_string())
}

/// The identity that the request acts as; `None` when it acts as itself.
pub fn impersonated(
    snapshot: &Snapshot,
    authorizer: &Authorizer,
    identity: &Identity,
    headers: &HeaderMap,
) -> Result<Option<Identity>, ApiError> {
    let Some(mut wanted) = requested(headers)? else {
        return Ok(None);
    };
    let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let what = Attributes {
            verb: "impersonate",
            resource_request: true,
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            ..Attributes::default()
        };
        authorizer.authorize(snapshot, identity, &what)
    };
    let account = wanted.as_service_account().map(|(namespace, name)| (namespace.to_string(), name.to_string()));
    match &account {
        Some((namespace, name)) => may("", "serviceaccounts", "", namespace, name)?,
        None => may("", "users", "", "", &wanted.user)?,
    }
    for group in &wanted.groups {
        may("", "groups", "", "", group)?;
    }
    if !wanted.uid.is_empty() {
        may("authentication.k8s.io", "uids", "", "", &wanted.uid)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            may("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    if let (Some((namespace, _)), true) = (account, wanted.groups.is_empty()) {
        wanted.groups = service_account_groups(&namespace);
    }
    let implied = if wanted.user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !wanted.is_in(AUTHENTICATED) && !wanted.is_in(implied) {
        wanted.groups.push(implied.into());
    }
    Ok(Some(wanted))
}
