//! Ownership and apply on whole objects, as clients see them.

use serde_json::{Value, json};

use super::{Node, Writable, Writer, apply, own, read_config, same_but_for_times};
use crate::decode::{Expected, Limits};
use crate::schema::{Type, by_gvk};

const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");

fn ty((group, version, kind): (&str, &str, &str)) -> Node<'static> {
    Node::Type(Type::Object(by_gvk(group, version, kind).expect("type")))
}

fn writer(manager: &'static str, time: &'static str) -> Writer<'static> {
    Writer { manager, api_version: "apps/v1", subresource: "", time, writable: Writable::AllButStatus }
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "d"}, "spec": spec})
}

/// Applies as `manager` and answers the spec and the managers with what they own.
fn applied(live: Option<&Value>, config: Value, manager: &'static str, force: bool) -> Result<Value, String> {
    let result = apply(live, config, ty(DEPLOYMENT), &writer(manager, "2026-01-02T00:00:00Z"), force);
    result.map(|a| a.object).map_err(|e| e.to_string())
}

fn owned(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.into_iter().find(|e| e["manager"] == manager).map_or(Value::Null, |e| e["fieldsV1"].clone())
}

#[test]
fn a_create_owns_what_it_brings() {
    let mut new = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "a", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "x"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}}},
        "status": {"replicas": 1}});
    own(None, &mut new, ty(DEPLOYMENT), &writer("kubectl", "2026-01-02T00:00:00Z"));
    let expected = r#"[{"manager":"kubectl","operation":"Update","apiVersion":"apps/v1","time":"2026-01-02T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}}}]"#;
    assert_eq!(new["metadata"]["managedFields"].to_string(), expected);
}

#[test]
fn an_update_takes_what_it_changes_from_others() {
    let mut first = deployment(json!({"replicas": 1, "paused": true}));
    own(None, &mut first, ty(DEPLOYMENT), &writer("a", "2026-01-01T00:00:00Z"));
    let mut second = first.clone();
    second["spec"] = json!({"replicas": 2});
    own(Some(&first), &mut second, ty(DEPLOYMENT), &writer("b", "2026-01-02T00:00:00Z"));
    assert_eq!(owned(&second, "a"), Value::Null);
    assert_eq!(owned(&second, "b"), json!({"f:spec": {"f:replicas": {}}}));
    // The same again changes nothing, the time included.
    let mut third = second.clone();
    own(Some(&second), &mut third, ty(DEPLOYMENT), &writer("b", "2026-01-03T00:00:00Z"));
    assert_eq!(third, second);
    // Status written through the object itself is not owned; through the sub-resource it is, apart.
    let mut fourth = second.clone();
    fourth["status"] = json!({"replicas": 2});
    let status = Writer { subresource: "status", writable: Writable::Status, ..writer("b", "2026-01-04T00:00:00Z") };
    own(Some(&second), &mut fourth, ty(DEPLOYMENT), &status);
    let entry = &fourth["metadata"]["managedFields"][1];
    assert_eq!(entry["subresource"], "status");
    assert_eq!(entry["fieldsV1"], json!({"f:status": {"f:replicas": {}}}));
}

#[test]
fn managers_are_kept_cleared_or_replaced_as_sent() {
    let mut live = deployment(json!({"replicas": 1}));
    own(None, &mut live, ty(DEPLOYMENT), &writer("a", "2026-01-01T00:00:00Z"));
    let sent = json!([{"manager": "x", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
    for (case, managed, managers) in [
        ("omitted", None, vec!["a"]),
        ("unreadable", Some(json!([{"manager": 1}])), vec!["a"]),
        ("emptied", Some(json!([])), vec![]),
        ("blanked", Some(json!([{}])), vec![]),
        ("replaced", Some(sent), vec!["x"]),
    ] {
        let mut new = live.clone();
        match managed {
            Some(managed) => new["metadata"]["managedFields"] = managed,
            None => super::set_managed_fields(&mut new, None),
        }
        own(Some(&live), &mut new, ty(DEPLOYMENT), &writer("b", "2026-01-02T00:00:00Z"));
        let entries = new["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = entries.iter().filter_map(|e| e["manager"].as_str()).collect();
        assert_eq!(names, managers, "{case}");
    }
}

#[test]
fn an_apply_owns_its_configuration_and_drops_what_it_leaves_out() {
    let config = deployment(json!({"replicas": 2, "template": {"spec": {"containers": [{"name": "c", "image": "1",
        "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "1"}]}]}}}));
    let first = applied(None, config, "me", false).expect("created");
    let expected = json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {},
        "f:env": {"k:{\"name\":\"X\"}": {".": {}, "f:name": {}, "f:value": {}}, "k:{\"name\":\"Y\"}": {".": {}, "f:name": {}, "f:value": {}}},
        "f:image": {}, "f:name": {}}}}}}});
    assert_eq!(owned(&first, "me"), expected);

    // Defaulting and others add to the object; they are kept.
    let mut live = first.clone();
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
    live["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst".into();
    live["spec"]["template"]["spec"]["containers"].as_array_mut().expect("list").insert(0, json!({"name": "side"}));

    let config = deployment(
        json!({"template": {"spec": {"containers": [{"name": "c", "image": "2", "env": [{"name": "Y", "value": "1"}]}]}}}),
    );
    let second = applied(Some(&live), config, "me", false).expect("applied");
    let spec = json!({"template": {"spec": {"containers": [{"name": "side"},
        {"name": "c", "image": "2", "env": [{"name": "Y", "value": "1"}], "imagePullPolicy": "Always"}],
        "dnsPolicy": "ClusterFirst"}}});
    assert_eq!(second["spec"], spec);

    // Leaving out the item takes it away whole, unless another owns something in it.
    let third = applied(Some(&second), deployment(json!({"replicas": 1})), "me", false).expect("applied");
    assert_eq!(third["spec"], json!({"replicas": 1}));
}

#[test]
fn conflicts_are_told_and_can_be_forced() {
    let mut live = deployment(json!({"replicas": 1, "paused": true}));
    own(None, &mut live, ty(DEPLOYMENT), &writer("other", "2026-01-01T00:00:00Z"));
    let error = applied(Some(&live), deployment(json!({"replicas": 2})), "me", false).expect_err("conflict");
    assert_eq!(error, "Apply failed with 1 conflict: conflict with \"other\" using apps/v1: .spec.replicas");
    let error =
        applied(Some(&live), deployment(json!({"replicas": 2, "paused": false})), "me", false).expect_err("conflicts");
    assert_eq!(
        error,
        "Apply failed with 2 conflicts: conflicts with \"other\" using apps/v1:\n- .spec.paused\n- .spec.replicas"
    );

    let shared = applied(Some(&live), deployment(json!({"replicas": 1})), "me", false).expect("same value");
    assert_eq!(owned(&shared, "me"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(owned(&shared, "other"), json!({"f:spec": {"f:paused": {}, "f:replicas": {}}}));
    let kept = applied(Some(&shared), deployment(json!({})), "me", false).expect("given up");
    assert_eq!(kept["spec"], json!({"replicas": 1, "paused": true}));

    let forced = applied(Some(&live), deployment(json!({"replicas": 2})), "me", true).expect("forced");
    assert_eq!(owned(&forced, "other"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(forced["spec"], json!({"replicas": 2, "paused": true}));

    let result = apply(Some(&live), deployment(json!({"replicas": 2})), ty(DEPLOYMENT), &writer("me", ""), false);
    let status = result.expect_err("conflict").to_status().to_status();
    assert_eq!((&status["code"], &status["reason"]), (&json!(409), &json!("Conflict")));
    let cause = json!({"reason": "FieldManagerConflict", "message": "conflict with \"other\" using apps/v1", "field": ".spec.replicas"});
    assert_eq!(status["details"]["causes"], json!([cause]));
}

#[test]
fn a_repeated_apply_changes_nothing() {
    let config = || deployment(json!({"replicas": 2}));
    let first = apply(None, config(), ty(DEPLOYMENT), &writer("me", "2026-01-01T00:00:00Z"), false).expect("created");
    let again = apply(Some(&first.object), config(), ty(DEPLOYMENT), &writer("me", "2026-01-02T00:00:00Z"), false)
        .expect("applied");
    assert!(first.changed && !again.changed);
    assert_eq!(again.object, first.object);
}

#[test]
fn kubectl_moves_from_client_side_to_server_side_apply() {
    let last = deployment(json!({"replicas": 1}));
    let mut live = last.clone();
    live["metadata"]["annotations"] = json!({super::LAST_APPLIED: last.to_string()});
    own(None, &mut live, ty(DEPLOYMENT), &writer("kubectl-client-side-apply", "2026-01-01T00:00:00Z"));
    assert!(applied(Some(&live), deployment(json!({"replicas": 2})), "kubectl", false).is_ok());
    assert!(applied(Some(&live), deployment(json!({"replicas": 2})), "someone", false).is_err());
    live["spec"]["replicas"] = 5.into();
    assert!(applied(Some(&live), deployment(json!({"replicas": 2})), "kubectl", false).is_err());
}

#[test]
fn an_object_nobody_owned_belongs_to_before_first_apply() {
    let live = deployment(json!({"replicas": 1}));
    let error = applied(Some(&live), deployment(json!({"replicas": 2})), "me", false).expect_err("conflict");
    assert!(error.contains("\"before-first-apply\" using apps/v1: .spec.replicas"), "{error}");
    let mut updated = live.clone();
    updated["spec"]["replicas"] = 3.into();
    own(Some(&live), &mut updated, ty(DEPLOYMENT), &writer("me", "2026-01-01T00:00:00Z"));
    assert_eq!(updated["metadata"].get("managedFields"), None);
}

#[test]
fn bad_configurations_are_refused() {
    let container = |name: &str| json!({"name": name});
    let two = deployment(json!({"template": {"spec": {"containers": [container("a"), container("a")]}}}));
    let error = applied(None, two, "me", false).expect_err("duplicate");
    assert_eq!(
        error,
        "failed to create typed patch object (d/a; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name=\"a\"]"
    );
    let nameless = deployment(json!({"template": {"spec": {"containers": [{"image": "x"}]}}}));
    assert!(applied(None, nameless, "me", false).expect_err("no key").contains("omits key field \"name\""));
    let mut managed = deployment(json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(applied(None, managed, "me", false), Err("metadata.managedFields must be nil".into()));

    let expected = Expected::new("apps", "v1", "Deployment");
    let body = b"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replica: 1}\n";
    let error = read_config(body, &expected, Limits::default()).expect_err("unknown field");
    assert_eq!(
        error.message,
        "failed to create typed patch object (/a; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema"
    );
}

#[test]
fn only_times_may_differ() {
    let mut a = deployment(json!({"replicas": 1}));
    own(None, &mut a, ty(DEPLOYMENT), &writer("a", "2026-01-01T00:00:00Z"));
    let mut b = deployment(json!({"replicas": 1}));
    own(None, &mut b, ty(DEPLOYMENT), &writer("a", "2026-01-02T00:00:00Z"));
    assert!(a != b && same_but_for_times(&a, &b));
    b["spec"]["replicas"] = 2.into();
    assert!(!same_but_for_times(&a, &b));
}
