//! `Impersonate-*` headers: acting as someone else, if allowed (api-facts §6.1).

use std::collections::BTreeMap;

use http::HeaderMap;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;

use super::{
    ANONYMOUS, AUTHENTICATED, Attributes, Authorizer, Identity, NODE_USER, NODES, UNAUTHENTICATED,
    service_account_groups,
};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
/// The API group of the resources that identities are.
const IDENTITIES: &str = "authentication.k8s.io";
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

/// A way to act as someone else. The constrained ones want two permissions: to act as this one, and to do there what the
/// request does; the old one only the first, and for everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// A ServiceAccount as the node that it runs on.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    /// Anyone who is neither node nor ServiceAccount.
    UserInfo,
    Legacy,
}

impl Mode {
    /// In the order in which they are tried.
    const ALL: [Mode; 5] =
        [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

    /// The word for it in verbs.
    fn name(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "associated-node",
            Mode::ArbitraryNode => "arbitrary-node",
            Mode::ServiceAccount => "serviceaccount",
            Mode::UserInfo => "user-info",
            Mode::Legacy => "",
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "impersonate:associated-node",
            Mode::ArbitraryNode => "impersonate:arbitrary-node",
            Mode::ServiceAccount => "impersonate:serviceaccount",
            Mode::UserInfo => "impersonate:user-info",
            Mode::Legacy => "impersonate",
        }
    }

    /// Whether it is meant for this one, wanted by that one.
    fn fits(self, wanted: &Identity, requester: &Identity) -> bool {
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node_name(wanted);
        let account = wanted.as_service_account().is_some();
        match self {
            Mode::AssociatedNode => only_name && node.is_some() && node == associated_node(requester),
            Mode::ArbitraryNode => only_name && node.is_some(),
            Mode::ServiceAccount => only_name && account,
            Mode::UserInfo => node.is_none() && !account,
            Mode::Legacy => true,
        }
    }
}

/// The node that a user name is of, whatever its groups.
fn node_name(who: &Identity) -> Option<&str> {
    who.user.strip_prefix(NODE_USER).filter(|name| !name.is_empty())
}

/// The node that the pod of a ServiceAccount's token runs on.
fn associated_node(who: &Identity) -> Option<&str> {
    who.as_service_account()?;
    match who.extra.get("authentication.kubernetes.io/node-name")?.as_slice() {
        [name] => Some(name),
        _ => None,
    }
}

/// The identity that a request for `what` acts as; `None` when it acts as itself.
pub fn impersonated(
    snapshot: &Snapshot,
    authorizer: &Authorizer,
    identity: &Identity,
    headers: &HeaderMap,
    what: &Attributes<'_>,
) -> Result<Option<Identity>, ApiError> {
    let Some(wanted) = requested(headers)? else {
        return Ok(None);
    };
    let may = |what: &Attributes<'_>| authorizer.authorize(snapshot, identity, what);
    let mut refused = Ok(None);
    for mode in Mode::ALL.into_iter().filter(|mode| mode.fits(&wanted, identity)) {
        match check(mode, &wanted, what, &may) {
            Ok(()) => return Ok(Some(completed(mode, wanted))),
            // The last is the old way, whose words people know.
            Err(error) => refused = Err(error),
        }
    }
    refused
}

fn check(
    mode: Mode,
    wanted: &Identity,
    what: &Attributes<'_>,
    may: &dyn Fn(&Attributes<'_>) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    if mode != Mode::Legacy {
        let verb = format!("impersonate-on:{}:{}", mode.name(), what.verb);
        may(&Attributes { verb: &verb, ..what.clone() })?;
    }
    let own = if mode == Mode::Legacy { "" } else { IDENTITIES };
    let act = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let (verb, version) = (mode.verb(), "v1");
        let more = Attributes::default();
        may(&Attributes {
            verb,
            resource_request: true,
            group,
            version,
            resource,
            subresource,
            namespace,
            name,
            ..more
        })
    };
    match (mode, wanted.as_service_account(), node_name(wanted)) {
        // Which node it is was checked already, and is not in the permission.
        (Mode::AssociatedNode, ..) => act(own, "nodes", "", "", "*")?,
        (Mode::ArbitraryNode, _, Some(node)) => act(own, "nodes", "", "", node)?,
        (_, Some((namespace, name)), _) => act(own, "serviceaccounts", "", namespace, name)?,
        _ => act(own, "users", "", "", &wanted.user)?,
    }
    for group in &wanted.groups {
        act(own, "groups", "", "", group)?;
    }
    if !wanted.uid.is_empty() {
        act(IDENTITIES, "uids", "", "", &wanted.uid)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            act(IDENTITIES, "userextras", key, "", value)?;
        }
    }
    Ok(())
}

/// With the groups that come with a name.
fn completed(mode: Mode, mut wanted: Identity) -> Identity {
    if let (Some((namespace, _)), true) = (wanted.as_service_account(), wanted.groups.is_empty()) {
        wanted.groups = service_account_groups(namespace);
    }
    if matches!(mode, Mode::AssociatedNode | Mode::ArbitraryNode) {
        wanted.groups = vec![NODES.into()];
    }
    let implied = if wanted.user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !wanted.is_in(AUTHENTICATED) && !wanted.is_in(implied) {
        wanted.groups.push(implied.into());
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{object, snapshot};
    use super::*;

    #[test]
    fn constrained_impersonation_wants_the_one_and_the_deed() {
        let rule = |verbs: &[&str], group: &str, resource: &str| serde_json::json!({"verbs": verbs, "apiGroups": [group], "resources": [resource]});
        let rules = [
            rule(&["impersonate:user-info"], IDENTITIES, "users"),
            rule(&["impersonate:associated-node", "impersonate:arbitrary-node"], IDENTITIES, "nodes"),
            rule(&["impersonate:serviceaccount"], IDENTITIES, "serviceaccounts"),
            rule(
                &[
                    "impersonate-on:user-info:list",
                    "impersonate-on:serviceaccount:list",
                    "impersonate-on:associated-node:list",
                ],
                "",
                "pods",
            ),
        ];
        let account = serde_json::json!({"kind": "ServiceAccount", "namespace": "ns", "name": "agent"});
        let rbac = "rbac.authorization.k8s.io/v1";
        let state = snapshot([
            object(rbac, "ClusterRole", "r", serde_json::json!({"rules": rules})),
            object(
                rbac,
                "ClusterRoleBinding",
                "b",
                serde_json::json!({"roleRef": {"kind": "ClusterRole", "name": "r"},
                "subjects": [{"kind": "User", "name": "ann"}, account]}),
            ),
        ]);
        let mut agent = Identity::service_account("ns", "agent");
        agent.extra.insert("authentication.kubernetes.io/node-name".into(), vec!["n1".into()]);
        let ann = Identity::part("ann");
        let authorizer = Authorizer::new();
        for (who, wanted, verb, groups) in [
            (&ann, "bob", "list", Some("system:authenticated")),
            (&ann, "bob", "get", None),
            (
                &ann,
                "system:serviceaccount:ns:x",
                "list",
                Some("system:serviceaccounts,system:serviceaccounts:ns,system:authenticated"),
            ),
            (&ann, "system:node:n1", "list", None),
            (&agent, "system:node:n1", "list", Some("system:nodes,system:authenticated")),
            (&agent, "system:node:n2", "list", None),
            (&agent, "system:node:n1", "get", None),
        ] {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static(USER), wanted.parse().unwrap())]);
            let what = Attributes { verb, resource_request: true, resource: "pods", ..Attributes::default() };
            let acting = impersonated(&state, &authorizer, who, &headers, &what);
            let shown = acting.ok().flatten().map(|who| who.groups.join(","));
            assert_eq!(shown.as_deref(), groups, "{} as {wanted} {verb}", who.user);
        }
    }
}
