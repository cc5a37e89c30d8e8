//! Admission policies and validation rules, through the API.

use crate::harness::{Got, World};
use serde_json::{Value, json};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn rules(group: &str, resource: &str) -> Value {
    json!({"resourceRules": [{"operations": ["CREATE", "UPDATE", "DELETE"], "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]}]})
}

async fn policy(world: &World, name: &str, spec: Value) {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    world.create(&format!("{GROUP}/validatingadmissionpolicies"), object).await;
}

async fn bind(world: &World, name: &str, actions: Value, more: Value) {
    let mut spec = json!({"policyName": name, "validationActions": actions});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let object = json!({"metadata": {"name": format!("{name}-binding")}, "spec": spec});
    world.create(&format!("{GROUP}/validatingadmissionpolicybindings"), object).await;
}

async fn mutating(world: &World, name: &str, spec: Value) {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    world.create(&format!("{GROUP}/mutatingadmissionpolicies"), object).await;
    let object = json!({"metadata": {"name": format!("{name}-binding")}, "spec": {"policyName": name}});
    world.create(&format!("{GROUP}/mutatingadmissionpolicybindings"), object).await;
}

fn deployment(name: &str, replicas: u32) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

fn refused(got: &Got, code: u16, message: &str) {
    let text = got.text();
    assert_eq!(got.code, code, "{text}");
    assert_eq!(got.json()["message"], message, "{text}");
}

fn warnings(got: &Got) -> Vec<String> {
    got.headers.get_all("warning").iter().map(|warning| warning.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn policies_refuse_warn_and_need_a_binding() {
    let world = World::start().await;
    policy(
        &world,
        "replicas",
        json!({
            "matchConstraints": rules("apps", "deployments"),
            "matchConditions": [{"name": "not-exempt", "expression": "!object.metadata.name.startsWith('exempt')"}],
            "variables": [{"name": "replicas", "expression": "object.spec.replicas"}, {"name": "most", "expression": "namespaceObject.metadata.name == 'default' ? 5 : 1"}],
            "validations": [
                {"expression": "variables.replicas <= variables.most"},
                {"expression": "variables.replicas != 3", "message": "three is bad luck", "reason": "Forbidden"},
                {"expression": "variables.replicas != 4", "messageExpression": "'not ' + string(variables.replicas)"},
            ],
        }),
    )
    .await;
    assert_eq!(world.call("POST", DEPLOYMENTS, deployment("unbound", 9)).await.code, 201);
    bind(&world, "replicas", json!(["Deny"]), json!({})).await;
    let by = "ValidatingAdmissionPolicy 'replicas' with binding 'replicas-binding' denied request";
    let is = |name: &str, why: &str| format!("deployments.apps {name:?} is forbidden: {by}: {why}");
    let got = world.call("POST", DEPLOYMENTS, deployment("a", 9)).await;
    refused(&got, 422, &is("a", "failed expression: variables.replicas <= variables.most"));
    assert_eq!(got.json()["reason"], "Invalid");
    assert_eq!(
        got.json()["details"]["causes"][0]["message"],
        format!("{by}: failed expression: variables.replicas <= variables.most")
    );
    refused(&world.call("POST", DEPLOYMENTS, deployment("a", 3)).await, 403, &is("a", "three is bad luck"));
    refused(&world.call("POST", DEPLOYMENTS, deployment("a", 4)).await, 422, &is("a", "not 4"));
    assert_eq!(world.call("POST", DEPLOYMENTS, deployment("a", 2)).await.code, 201);
    assert_eq!(world.call("POST", DEPLOYMENTS, deployment("exempt", 9)).await.code, 201);
    let patch = json!({"spec": {"replicas": 9}});
    assert_eq!(world.call("PATCH", &format!("{DEPLOYMENTS}/a"), patch).await.code, 422);
    let scale = json!({"spec": {"replicas": 9}});
    assert_eq!(world.call("PATCH", &format!("{DEPLOYMENTS}/a/scale"), scale).await.code, 200, "not what was matched");

    let path = format!("{GROUP}/validatingadmissionpolicybindings/replicas-binding");
    assert_eq!(world.call("PATCH", &path, json!({"spec": {"validationActions": ["Warn", "Audit"]}})).await.code, 200);
    let got = world.call("POST", DEPLOYMENTS, deployment("b", 9)).await;
    assert_eq!(got.code, 201);
    let text = "Validation failed for ValidatingAdmissionPolicy 'replicas' with binding 'replicas-binding': failed expression: variables.replicas <= variables.most";
    assert_eq!(warnings(&got), [format!("299 - {text:?}")]);
    world.stop().await;
}

#[tokio::test]
async fn errors_follow_the_failure_policy() {
    let world = World::start().await;
    for (name, fail) in [("open", "Ignore"), ("closed", "Fail")] {
        let validations = json!([{"expression": "object.data.nothing == 'x'"}]);
        policy(
            &world,
            name,
            json!({"failurePolicy": fail, "matchConstraints": rules("", "configmaps"), "validations": validations}),
        )
        .await;
        bind(
            &world,
            name,
            json!(["Deny"]),
            json!({"matchResources": {"objectSelector": {"matchLabels": {"on": name}}}}),
        )
        .await;
    }
    let object = |on: &str| json!({"metadata": {"name": on, "labels": {"on": on}}, "data": {}});
    assert_eq!(world.call("POST", CONFIGMAPS, object("open")).await.code, 201);
    assert_eq!(world.call("POST", CONFIGMAPS, object("neither")).await.code, 201);
    refused(
        &world.call("POST", CONFIGMAPS, object("closed")).await,
        422,
        "configmaps \"closed\" is forbidden: ValidatingAdmissionPolicy 'closed' with binding 'closed-binding' denied request: expression 'object.data.nothing == 'x'' resulted in error: no such key: data",
    );
    world.stop().await;
}

#[tokio::test]
async fn parameters_come_from_objects() {
    let world = World::start().await;
    policy(
        &world,
        "limit",
        json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConstraints": rules("apps", "deployments"),
            "validations": [{"expression": "object.spec.replicas <= int(params.data.most)", "messageExpression": "'at most ' + params.data.most"}],
        }),
    )
    .await;
    let selected =
        json!({"paramRef": {"selector": {"matchLabels": {"limit": "yes"}}, "parameterNotFoundAction": "Deny"}});
    bind(&world, "limit", json!(["Deny"]), selected).await;
    let by = "deployments.apps \"a\" is forbidden: ValidatingAdmissionPolicy 'limit' with binding 'limit-binding' denied request";
    refused(
        &world.call("POST", DEPLOYMENTS, deployment("a", 1)).await,
        422,
        &format!(
            "{by}: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        ),
    );
    for (name, most) in [("high", "9"), ("low", "2")] {
        let labels = json!({"limit": "yes"});
        world.create(CONFIGMAPS, json!({"metadata": {"name": name, "labels": labels}, "data": {"most": most}})).await;
    }
    refused(&world.call("POST", DEPLOYMENTS, deployment("a", 3)).await, 422, &format!("{by}: at most 2"));
    assert_eq!(world.call("POST", DEPLOYMENTS, deployment("a", 2)).await.code, 201);
    let path = format!("{GROUP}/validatingadmissionpolicies/limit");
    let kind = json!({"spec": {"paramKind": {"apiVersion": "example.com/v1", "kind": "Nothing"}}});
    assert_eq!(world.call("PATCH", &path, kind).await.code, 200);
    refused(
        &world.call("POST", DEPLOYMENTS, deployment("a", 1)).await,
        422,
        "deployments.apps \"a\" is forbidden: ValidatingAdmissionPolicy 'limit' denied request: failed to configure policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Nothing'",
    );
    world.stop().await;
}

#[tokio::test]
async fn expressions_ask_the_authorizer_and_see_the_request() {
    let world = World::start().await;
    policy(
        &world,
        "who",
        json!({
            "matchConstraints": rules("", "configmaps"),
            "validations": [
                {"expression": "authorizer.requestResource.check('custom').allowed()"},
                {"expression": "!authorizer.serviceAccount('default', 'nobody').group('').resource('pods').check('get').allowed()"},
                {"expression": "request.userInfo.username == 'kubernetes-admin' && request.operation in ['CREATE', 'DELETE']", "message": "only these"},
                {"expression": "request.operation != 'DELETE' || oldObject.metadata.name != 'kept'", "message": "is kept"},
            ],
        }),
    )
    .await;
    bind(&world, "who", json!(["Deny"]), json!({})).await;
    let kept = world.call("POST", CONFIGMAPS, json!({"metadata": {"name": "kept"}})).await;
    assert_eq!(kept.code, 201, "{}", kept.text());
    let got = world.call("PATCH", &format!("{CONFIGMAPS}/kept"), json!({"data": {"a": "b"}})).await;
    assert!(got.text().contains("only these"), "{}", got.text());
    let got = world.call("DELETE", &format!("{CONFIGMAPS}/kept"), Value::Null).await;
    assert!(got.text().contains("is kept"), "{}", got.text());
    world.stop().await;
}

#[tokio::test]
async fn what_does_not_compile_is_refused() {
    let world = World::start().await;
    let got = world
        .call(
            "POST",
            &format!("{GROUP}/validatingadmissionpolicies"),
            json!({"metadata": {"name": "bad"}, "spec": {"matchConstraints": rules("", "configmaps"), "validations": [{"expression": "object.x +"}]}}),
        )
        .await;
    assert_eq!(got.code, 422);
    let text = got.json()["message"].to_string();
    assert!(
        text.contains("spec.validations[0].expression: Invalid value: ")
            && text.contains("compilation failed: ERROR: <input>:1:11: Syntax error"),
        "{text}"
    );
    world.stop().await;
}

#[tokio::test]
async fn mutating_policies_change_objects() {
    let world = World::start().await;
    mutating(
        &world,
        "a-label",
        json!({
            "matchConstraints": rules("apps", "deployments"), "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded",
            "variables": [{"name": "labels", "expression": "object.metadata.?labels.orValue({})"}],
            "matchConditions": [{"name": "unlabelled", "expression": "!has(object.metadata.labels) || !('seen' in object.metadata.labels) || object.metadata.labels['seen'] != string(object.spec.replicas)"}],
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
                "Object{metadata: Object.metadata{labels: {'seen': string(object.spec.replicas)}}, spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'side', image: 'side:1'}]}}}}"}}],
        }),
    )
    .await;
    mutating(
        &world,
        "b-patch",
        json!({
            "matchConstraints": rules("apps", "deployments"), "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
                "[JSONPatch{op: 'test', path: '/spec/replicas', value: 1}, JSONPatch{op: 'replace', path: '/spec/replicas', value: 2}, JSONPatch{op: 'add', path: '/metadata/annotations', value: {'a/b': 'c'}}]"}}],
        }),
    )
    .await;
    let made = world.create(DEPLOYMENTS, deployment("one", 1)).await;
    assert_eq!(made["spec"]["replicas"], 2, "patched");
    assert_eq!(made["metadata"]["annotations"]["a/b"], "c");
    assert_eq!(made["metadata"]["labels"]["seen"], "2", "asked again after the patch");
    let images = made["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let images = images.iter().map(|c| (c["name"].as_str().unwrap(), c["image"].as_str().unwrap())).collect::<Vec<_>>();
    assert_eq!(images, [("c", "i"), ("side", "side:1")]);
    assert_eq!(images.len(), 2, "merged by name, once");
    let made = world.create(DEPLOYMENTS, deployment("three", 3)).await;
    assert_eq!(made["spec"]["replicas"], 3, "the test of the patch does not hold");
    world.stop().await;
}

#[tokio::test]
async fn mutations_that_fail_refuse_the_request() {
    let world = World::start().await;
    for (name, expression) in [
        (
            "atomic",
            "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'c', command: ['x']}]}}}}",
        ),
        ("misnamed", "Object{spec: Object.wrong{replicas: 1}}"),
        ("failing", "Object{spec: Object.spec{replicas: object.nothing}}"),
    ] {
        let mut constraints = rules("apps", "deployments");
        constraints["objectSelector"] = json!({"matchLabels": {"on": name}});
        let mutation = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
        let spec = json!({"matchConstraints": constraints, "failurePolicy": "Fail", "reinvocationPolicy": "Never", "mutations": [mutation]});
        mutating(&world, name, spec).await;
    }
    for (name, why) in [
        (
            "atomic",
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.template.spec.containers[{\"name\":\"c\"}].command",
        ),
        (
            "misnamed",
            "type mismatch: unexpected type name \"Object.wrong\", expected \"Object.spec\", which matches field name path from root Object type",
        ),
        (
            "failing",
            "expression 'Object{spec: Object.spec{replicas: object.nothing}}' resulted in error: no such key: nothing",
        ),
    ] {
        let mut object = deployment(name, 1);
        object["metadata"]["labels"] = json!({"on": name});
        let got = world.call("POST", DEPLOYMENTS, object).await;
        refused(&got, 403, &format!("policy '{name}' with binding '{name}-binding' denied request: {why}"));
    }
    world.stop().await;
}

#[tokio::test]
async fn custom_resources_have_rules() {
    let world = World::start().await;
    let rules = json!([
        {"rule": "self.min <= self.max", "message": "min must not be above max"},
        {"rule": "self.max >= oldSelf.max", "message": "max only grows"},
    ]);
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["min", "max"],
        "x-kubernetes-validations": rules, "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}}}}});
    let definition = |schema: &Value| {
        json!({"metadata": {"name": "spans.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "spans", "singular": "span", "kind": "Span", "listKind": "SpanList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
    };
    let mut bad = schema.clone();
    bad["properties"]["spec"]["x-kubernetes-validations"][0]["rule"] = json!("self.min <= self.nothing");
    let got = world.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition(&bad)).await;
    assert_eq!(got.code, 422);
    assert!(
        got.text().contains("compilation failed: ERROR: <input>:1:17: undefined field 'nothing'"),
        "{}",
        got.text()
    );
    assert!(world.define(definition(&schema)).await);
    const SPANS: &str = "/apis/example.com/v1/namespaces/default/spans";
    let span = |min: u32, max: u32| json!({"apiVersion": "example.com/v1", "kind": "Span", "metadata": {"name": "a"}, "spec": {"min": min, "max": max}});
    let got = world.call("POST", SPANS, span(3, 2)).await;
    refused(&got, 422, "Span.example.com \"a\" is invalid: spec: Invalid value: min must not be above max");
    world.create(SPANS, span(1, 2)).await;
    let got = world.call("PATCH", &format!("{SPANS}/a"), json!({"spec": {"max": 1}})).await;
    refused(&got, 422, "Span.example.com \"a\" is invalid: spec: Invalid value: max only grows");
    assert_eq!(world.call("PATCH", &format!("{SPANS}/a"), json!({"spec": {"max": 5}})).await.code, 200);
    world.stop().await;
}
