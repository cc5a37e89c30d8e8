//! Tables over the authorizer as a whole.

use mizzen_store::Snapshot;
use serde_json::{Value, json};

use super::fixture::{object, snapshot};
use super::{Attributes, Authorizer, Decision, Identity};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn user(name: &str, groups: &[&str]) -> Identity {
    let groups = groups.iter().map(|group| group.to_string()).chain(["system:authenticated".into()]).collect();
    Identity { user: name.into(), groups, ..Identity::default() }
}

fn rule(groups: &str, resources: &str, verbs: &str) -> Value {
    let list = |text: &str| text.split(',').map(String::from).collect::<Vec<_>>();
    json!({"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)})
}

fn binding(kind: &str, at: &str, role: &str, subject: Value) -> Value {
    let (role_kind, name) = role.split_once(' ').unwrap();
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": name});
    object(RBAC, kind, at, json!({"roleRef": role, "subjects": [subject]}))
}

fn world() -> Vec<Value> {
    let select = json!({"clusterRoleSelectors": [{"matchLabels": {"to-view": "true"}}]});
    vec![
        object(RBAC, "ClusterRole", "reader", json!({"rules": [rule("", "pods,pods/log", "get,list")]})),
        object(RBAC, "ClusterRole", "view", json!({"aggregationRule": select, "rules": []})),
        object(
            RBAC,
            "ClusterRole",
            "part",
            json!({"metadata": {"labels": {"to-view": "true"}}, "rules": [rule("apps", "deployments", "get")]}),
        ),
        object(
            RBAC,
            "ClusterRole",
            "binder",
            json!({"rules": [rule("rbac.authorization.k8s.io", "rolebindings,roles", "create,update")]}),
        ),
        object(RBAC, "Role", "a/editor", json!({"rules": [rule("", "configmaps", "*")]})),
        binding("ClusterRoleBinding", "readers", "ClusterRole reader", json!({"kind": "Group", "name": "readers"})),
        binding("ClusterRoleBinding", "viewers", "ClusterRole view", json!({"kind": "User", "name": "vera"})),
        binding("ClusterRoleBinding", "lost", "ClusterRole nowhere", json!({"kind": "User", "name": "lou"})),
        binding("RoleBinding", "a/editors", "Role editor", json!({"kind": "User", "name": "ed"})),
        binding(
            "RoleBinding",
            "a/accounts",
            "ClusterRole reader",
            json!({"kind": "ServiceAccount", "name": "bot", "namespace": "b"}),
        ),
        binding("RoleBinding", "a/binders", "ClusterRole binder", json!({"kind": "User", "name": "ed"})),
    ]
}

fn attributes(request: &str) -> Attributes<'_> {
    let parts: Vec<&str> = request.split(' ').collect();
    match parts.as_slice() {
        [verb, path] => Attributes { verb, path, ..Attributes::default() },
        [verb, group, resource, namespace, name] => {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            Attributes {
                verb,
                resource_request: true,
                group,
                resource,
                subresource,
                namespace,
                name,
                ..Attributes::default()
            }
        }
        _ => panic!("{request}"),
    }
}

#[test]
fn rbac_decides() {
    let (snapshot, authorizer) = (snapshot(world()), Authorizer::new());
    let bot = Identity::service_account("b", "bot");
    let allowed = |text: &str| Ok(text.to_string());
    let refused = |text: &str| Err(text.to_string());
    for (who, request, result) in [
        (user("root", &["system:masters"]), "delete  nodes  n1", allowed("")),
        (
            user("ann", &["readers"]),
            "list  pods a ",
            allowed("RBAC: allowed by ClusterRoleBinding \"readers\" of ClusterRole \"reader\" to Group \"readers\""),
        ),
        (
            user("vera", &[]),
            "get apps deployments x web",
            allowed("RBAC: allowed by ClusterRoleBinding \"viewers\" of ClusterRole \"view\" to User \"vera\""),
        ),
        (
            bot.clone(),
            "get  pods/log a web",
            allowed(
                "RBAC: allowed by RoleBinding \"accounts/a\" of ClusterRole \"reader\" to ServiceAccount \"bot/b\"",
            ),
        ),
        (
            user("ed", &[]),
            "patch  configmaps a x",
            allowed("RBAC: allowed by RoleBinding \"editors/a\" of Role \"editor/a\" to User \"ed\""),
        ),
        (
            user("ed", &[]),
            "patch  configmaps b x",
            refused(
                "configmaps \"x\" is forbidden: User \"ed\" cannot patch resource \"configmaps\" in API group \"\" in the namespace \"b\"",
            ),
        ),
        (
            user("ann", &["readers"]),
            "create apps deployments a ",
            refused(
                "deployments.apps is forbidden: User \"ann\" cannot create resource \"deployments\" in API group \"apps\" in the namespace \"a\"",
            ),
        ),
        (
            bot,
            "list  pods  ",
            refused(
                "pods is forbidden: User \"system:serviceaccount:b:bot\" cannot list resource \"pods\" in API group \"\" at the cluster scope",
            ),
        ),
        (
            user("ann", &["readers"]),
            "get  pods/exec a web",
            refused(
                "pods \"web\" is forbidden: User \"ann\" cannot get resource \"pods/exec\" in API group \"\" in the namespace \"a\"",
            ),
        ),
        (user("ann", &[]), "get /metrics", refused("forbidden: User \"ann\" cannot get path \"/metrics\"")),
        (
            user("lou", &[]),
            "list  nodes  ",
            refused(
                "nodes is forbidden: User \"lou\" cannot list resource \"nodes\" in API group \"\" at the cluster scope: RBAC: clusterroles.rbac.authorization.k8s.io \"nowhere\" not found",
            ),
        ),
    ] {
        let what = attributes(request);
        let answer = match authorizer.authorize(&snapshot, &who, &what) {
            Ok(()) => match authorizer.decide(&snapshot, &who, &what) {
                Decision::Allow(reason) => Ok(reason),
                Decision::NoOpinion(reason) => panic!("{request}: allowed and not decided: {reason}"),
            },
            Err(error) => Err(error.message),
        };
        assert_eq!(answer, result, "{} {request}", who.user);
    }
}

fn can(authorizer: &Authorizer, snapshot: &Snapshot) -> bool {
    authorizer.authorize(snapshot, &user("ann", &["readers"]), &attributes("list  pods a ")).is_ok()
}

#[test]
fn the_index_follows_the_rbac_objects() {
    let authorizer = Authorizer::new();
    let config = |at: usize| object("v1", "ConfigMap", &format!("a/c{at}"), json!({}));
    let with = snapshot(world());
    let unrelated = snapshot(world().into_iter().chain([config(1)]));
    // The binding is gone, the revision of the whole goes on.
    let mut without = world();
    without[5] = config(1);
    let without = snapshot(without.into_iter().chain([config(2), config(3)]));
    for (case, state, allowed) in [
        ("bound", &with, true),
        ("an unrelated write", &unrelated, true),
        ("binding deleted", &without, false),
        ("an older snapshot", &with, true),
        ("the newer one again", &without, false),
    ] {
        assert_eq!(can(&authorizer, state), allowed, "{case}");
    }
}

#[test]
fn nobody_grants_more_than_they_hold() {
    let (snapshot, authorizer) = (snapshot(world()), Authorizer::new());
    let ed = user("ed", &[]);
    let root = user("root", &["system:masters"]);
    let role = |rules: Value| object(RBAC, "Role", "a/new", json!({"rules": rules}));
    let bind = |to: &str| binding("RoleBinding", "a/new", to, json!({"kind": "User", "name": "x"}));
    let denied = "is attempting to grant RBAC permissions not currently held:";
    for (case, who, resource, object, old, error) in [
        ("held", &ed, "roles", role(json!([rule("", "configmaps", "get,list")])), None, None),
        (
            "held in part",
            &ed,
            "roles",
            role(json!([rule("", "configmaps,secrets", "get")])),
            None,
            Some("{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"),
        ),
        ("wildcard", &ed, "roles", role(json!([rule("", "*", "get")])), None, Some(denied)),
        ("masters", &root, "roles", role(json!([rule("*", "*", "*")])), None, None),
        ("unchanged", &ed, "roles", role(json!([rule("*", "*", "*")])), Some(role(json!([rule("*", "*", "*")]))), None),
        ("binding what is held", &ed, "rolebindings", bind("Role editor"), None, None),
        ("binding more", &ed, "rolebindings", bind("ClusterRole reader"), None, Some(denied)),
        (
            "binding nothing",
            &ed,
            "rolebindings",
            bind("ClusterRole nowhere"),
            None,
            Some("clusterroles.rbac.authorization.k8s.io \"nowhere\" not found"),
        ),
        ("another kind", &ed, "configmaps", json!({}), None, None),
        ("rules of a wrong type", &ed, "roles", role(json!("all")), None, Some("cannot be read")),
    ] {
        let result = authorizer.check_escalation(&snapshot, who, resource, &object, old.as_ref());
        let text = result.err().map(|error| error.message);
        let fits = match (&text, error) {
            (Some(text), Some(error)) => text.contains(error),
            (got, wanted) => got.is_none() && wanted.is_none(),
        };
        assert!(fits, "{case}: {text:?}");
    }
}

#[test]
fn impersonation_needs_permission() {
    let impersonate = |group: &str, resources: &str| rule(group, resources, "impersonate");
    let rules = json!([
        impersonate("", "users,groups,serviceaccounts"),
        impersonate("authentication.k8s.io", "userextras/scopes")
    ]);
    let mut objects = world();
    objects.push(object(RBAC, "ClusterRole", "actor", json!({"rules": rules})));
    objects.push(binding("ClusterRoleBinding", "actors", "ClusterRole actor", json!({"kind": "User", "name": "act"})));
    let (snapshot, authorizer) = (snapshot(objects), Authorizer::new());
    for (who, headers, result) in [
        ("act", vec![], Ok("act [system:authenticated]")),
        ("act", vec![("impersonate-user", "bob")], Ok("bob [system:authenticated]")),
        ("act", vec![("impersonate-user", "bob"), ("impersonate-group", "dev")], Ok("bob [dev system:authenticated]")),
        (
            "act",
            vec![("impersonate-user", "system:serviceaccount:ns:x")],
            Ok("system:serviceaccount:ns:x [system:serviceaccounts system:serviceaccounts:ns system:authenticated]"),
        ),
        ("act", vec![("impersonate-user", "system:anonymous")], Ok("system:anonymous [system:unauthenticated]")),
        (
            "act",
            vec![("impersonate-user", "bob"), ("impersonate-extra-scopes", "a")],
            Ok("bob [system:authenticated] scopes=a"),
        ),
        ("act", vec![("impersonate-user", "bob"), ("impersonate-extra-other", "a")], Err(403)),
        ("act", vec![("impersonate-user", "bob"), ("impersonate-uid", "1")], Err(403)),
        ("act", vec![("impersonate-group", "dev")], Err(400)),
        ("ann", vec![("impersonate-user", "bob")], Err(403)),
    ] {
        let mut map = http::HeaderMap::new();
        for (name, value) in &headers {
            map.append(*name, value.parse().unwrap());
        }
        let who = user(who, &[]);
        let acting = super::impersonation::impersonated(&snapshot, &authorizer, &who, &map, &Attributes::default());
        let text = acting.map(|acting| acting.unwrap_or(who)).map(|acting| {
            let extra: String =
                acting.extra.iter().map(|(key, values)| format!(" {key}={}", values.join(","))).collect();
            format!("{} [{}]{extra}", acting.user, acting.groups.join(" "))
        });
        assert_eq!(text.as_deref().map_err(|error| error.code), result, "{headers:?}");
    }
}
