//! Admission webhooks, through an HTTPS server of the test.

use crate::harness::https::{Asked, Https, Reply};
use crate::harness::{Row, World};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mizzen_store::Store;
use serde_json::{Value, json};

/// An answer to the review that was asked.
fn review(asked: &Asked, response: Value) -> Reply {
    let mut response = response;
    response["uid"] = asked.json()["request"]["uid"].clone();
    Reply::Json(json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}))
}

fn patch(asked: &Asked, operations: Value) -> Reply {
    let patch = STANDARD.encode(operations.to_string());
    review(asked, json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
}

fn add_label(asked: &Asked, name: &str) -> Reply {
    let object = &asked.json()["request"]["object"];
    if object["metadata"]["labels"][name] == "yes" {
        return review(asked, json!({"allowed": true}));
    }
    let add = json!({"op": "add", "path": format!("/metadata/labels/{name}"), "value": "yes"});
    let labels = json!({"op": "add", "path": "/metadata/labels", "value": {}});
    patch(asked, if object["metadata"]["labels"].is_object() { json!([add]) } else { json!([labels, add]) })
}

fn answer(asked: &Asked) -> Reply {
    match asked.path.as_str() {
        "/allow" => review(asked, json!({"allowed": true, "warnings": ["mind this"], "auditAnnotations": {"a": "b"}})),
        "/deny" => review(
            asked,
            json!({"allowed": false, "warnings": ["told you"], "status": {"message": "not here", "code": 403, "reason": "Custom"}}),
        ),
        "/silent" => review(asked, json!({"allowed": false})),
        "/label-a" => add_label(asked, "a"),
        "/label-b" => add_label(asked, "b"),
        "/bad-patch" => patch(asked, json!([{"op": "remove", "path": "/metadata/nothing"}])),
        "/no-patch" => review(asked, json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode("{")})),
        "/bad-type" => patch(asked, json!([{"op": "add", "path": "/metadata/labels", "value": {"a": 3}}])),
        "/hang" => Reply::Hang,
        "/huge" => Reply::Text(200, vec![b' '; 17 << 20]),
        "/liar" => Reply::Json(json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "response": {"uid": "other", "allowed": true}})),
        "/nonsense" => Reply::Text(200, b"hello".to_vec()),
        "/broken" => Reply::Text(500, b"boom".to_vec()),
        _ => Reply::Text(404, b"404 page not found".to_vec()),
    }
}

fn rule(operations: Value, group: &str, resources: Value) -> Value {
    json!({"operations": operations, "apiGroups": [group], "apiVersions": ["*"], "resources": resources})
}

struct Setup {
    world: World,
    hooks: Https,
}

impl Setup {
    async fn new() -> Self {
        let hooks = Https::start(&["localhost", "hook.default.svc"], None, answer).await;
        Self { world: World::start().await, hooks }
    }

    /// One webhook as configurations have it; `more` is merged into it.
    fn webhook(&self, path: &str, rules: Value, more: Value) -> Value {
        let mut webhook = json!({
            "name": format!("{}.example.com", path.trim_start_matches('/')),
            "clientConfig": {"url": format!("https://localhost:{}{path}", self.hooks.port), "caBundle": self.hooks.ca_bundle()},
            "rules": rules, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            webhook[field] = value.clone();
        }
        webhook
    }

    async fn register(&self, kind: &str, name: &str, webhooks: Value) {
        let plural = format!("{}configurations", kind.to_lowercase());
        let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
        self.world.create(&path, json!({"metadata": {"name": name}, "webhooks": webhooks})).await;
    }

    async fn unregister(&self, kind: &str, name: &str) {
        let plural = format!("{}configurations", kind.to_lowercase());
        let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}/{name}");
        assert_eq!(self.world.call("DELETE", &path, Value::Null).await.code, 200);
    }
}

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

#[tokio::test]
async fn mutating_webhooks_see_and_change_objects() {
    let setup = Setup::new().await;
    let rules = json!([rule(json!(["CREATE", "UPDATE"]), "", json!(["configmaps"]))]);
    let hooks = json!([
        setup.webhook("/label-a", rules.clone(), json!({"reinvocationPolicy": "IfNeeded"})),
        setup.webhook("/label-b", rules, json!({})),
    ]);
    setup.register("MutatingWebhook", "labels", hooks).await;
    let path = format!("{CONFIGMAPS}?fieldManager=me&fieldValidation=Strict");
    let created = setup.world.create(&path, named("one")).await;
    assert_eq!(created["metadata"]["labels"], json!({"a": "yes", "b": "yes"}));
    assert_eq!(setup.hooks.count("/label-a"), 2, "asked again after b changed the object");
    assert_eq!(setup.hooks.count("/label-b"), 1);
    let asked = setup.hooks.bodies("/label-a")[0].clone();
    assert_eq!(
        (asked["kind"].as_str(), asked["apiVersion"].as_str()),
        (Some("AdmissionReview"), Some("admission.k8s.io/v1"))
    );
    let request = &asked["request"];
    for (field, expected) in [
        ("kind", json!({"group": "", "version": "v1", "kind": "ConfigMap"})),
        ("resource", json!({"group": "", "version": "v1", "resource": "configmaps"})),
        ("requestKind", json!({"group": "", "version": "v1", "kind": "ConfigMap"})),
        ("requestResource", json!({"group": "", "version": "v1", "resource": "configmaps"})),
        ("name", json!("one")),
        ("namespace", json!("default")),
        ("operation", json!("CREATE")),
        ("oldObject", Value::Null),
        ("dryRun", json!(false)),
        (
            "options",
            json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me", "fieldValidation": "Strict"}),
        ),
    ] {
        assert_eq!(request[field], expected, "{field}");
    }
    assert_eq!(request["userInfo"]["username"], "kubernetes-admin");
    assert_eq!(request["object"]["kind"], "ConfigMap");
    assert!(request.get("subResource").is_none());
    {
        let seen = setup.hooks.asked.lock().unwrap();
        assert_eq!(
            (seen[0].query.as_str(), &seen[0].headers["content-type"]),
            ("timeout=10s", &"application/json".parse().unwrap())
        );
    }
    // An update, dry.
    let got =
        setup.world.call("PATCH", &format!("{CONFIGMAPS}/one?dryRun=All"), json!({"metadata": {"labels": null}})).await;
    assert_eq!(got.json()["metadata"]["labels"], json!({"a": "yes", "b": "yes"}));
    let asked = setup.hooks.bodies("/label-b").last().unwrap()["request"].clone();
    assert_eq!((&asked["operation"], &asked["dryRun"]), (&json!("UPDATE"), &json!(true)));
    assert_eq!(asked["oldObject"]["metadata"]["name"], "one");
    assert_eq!(asked["options"]["kind"], "UpdateOptions");
    setup.world.stop().await;
}

#[tokio::test]
async fn validating_webhooks_refuse_and_warn() {
    let setup = Setup::new().await;
    let on = |resource: &str, operations: Value| json!([rule(operations, "", json!([resource]))]);
    let hooks = json!([
        setup.webhook(
            "/deny",
            on("configmaps", json!(["CREATE", "DELETE"])),
            json!({"objectSelector": {"matchLabels": {"deny": "yes"}}})
        ),
        setup.webhook("/silent", on("secrets", json!(["*"])), json!({})),
        setup.webhook("/allow", on("configmaps", json!(["*"])), json!({})),
    ]);
    setup.register("ValidatingWebhook", "all", hooks).await;
    let denied = r#"{"metadata": {"name": "bad", "labels": {"deny": "yes"}}}"#;
    setup
        .world
        .check(&[
            Row(
                "POST",
                CONFIGMAPS,
                denied,
                403,
                &[r#"admission webhook \"deny.example.com\" denied the request: not here"#, r#""reason":"Custom""#],
            ),
            Row(
                "POST",
                "/api/v1/namespaces/default/secrets",
                r#"{"metadata": {"name": "s"}}"#,
                400,
                &[r#"admission webhook \"silent.example.com\" denied the request without explanation"#],
            ),
            Row("POST", CONFIGMAPS, r#"{"metadata": {"name": "good"}}"#, 201, &[]),
            // What configures admission is never asked about.
            Row("DELETE", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/none", "", 404, &[]),
        ])
        .await;
    let got = setup.world.call("POST", CONFIGMAPS, named("other")).await;
    assert_eq!(got.headers["warning"], "299 - \"mind this\"");
    let got = setup.world.call("POST", CONFIGMAPS, serde_json::from_str(denied).unwrap()).await;
    let warnings: Vec<_> = got.headers.get_all("warning").iter().map(|w| w.to_str().unwrap().to_string()).collect();
    assert!(warnings.contains(&"299 - \"told you\"".to_string()), "{warnings:?}");
    // Deletes are asked about with what is there, collections without a name.
    let before = setup.hooks.bodies("/allow").len();
    assert_eq!(
        setup.world.call("DELETE", &format!("{CONFIGMAPS}/good?gracePeriodSeconds=3"), Value::Null).await.code,
        200
    );
    assert_eq!(setup.world.call("DELETE", &format!("{CONFIGMAPS}?labelSelector=x!%3Dy"), Value::Null).await.code, 200);
    let asked = setup.hooks.bodies("/allow");
    let one = &asked[before]["request"];
    assert_eq!((&one["operation"], &one["object"], &one["name"]), (&json!("DELETE"), &Value::Null, &json!("good")));
    assert_eq!(
        (&one["oldObject"]["metadata"]["name"], &one["options"]["gracePeriodSeconds"]),
        (&json!("good"), &json!(3))
    );
    assert!(asked[before + 1]["request"].get("name").is_none());
    let metrics = setup.world.call("GET", "/metrics", Value::Null).await.text();
    for line in [
        r#"apiserver_admission_webhook_rejection_count{error_type="no_error",name="deny.example.com",operation="CREATE",type="validating",rejection_code="403"} 2"#,
        r#"apiserver_admission_webhook_request_total{code="200",name="allow.example.com",operation="CREATE",type="validating",rejected="false"}"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    setup.world.stop().await;
}

#[tokio::test]
async fn a_bad_webhook_costs_its_own_requests() {
    let setup = Setup::new().await;
    let rules = json!([rule(json!(["CREATE"]), "", json!(["configmaps"]))]);
    let port = setup.hooks.port;
    let at = |path: &str| {
        format!(
            "failed calling webhook \"{}.example.com\": failed to call webhook: Post \"https://localhost:{port}{path}?timeout=1s\": ",
            &path[1..]
        )
    };
    for (kind, path, words) in [
        ("ValidatingWebhook", "/hang", format!("{}context deadline exceeded", at("/hang"))),
        ("MutatingWebhook", "/huge", format!("{}the answer is longer than 16777216 bytes", at("/huge"))),
        (
            "MutatingWebhook",
            "/liar",
            "failed calling webhook \"liar.example.com\": received invalid webhook response: expected response.uid="
                .into(),
        ),
        (
            "ValidatingWebhook",
            "/nonsense",
            "failed to call webhook: couldn't get version/kind; json parse error".into(),
        ),
        (
            "ValidatingWebhook",
            "/broken",
            "failed to call webhook: an error on the server (\"boom\") has prevented the request from succeeding"
                .into(),
        ),
        (
            "ValidatingWebhook",
            "/label-a",
            "received invalid webhook response: validating webhook may not return response.patch".into(),
        ),
        ("MutatingWebhook", "/no-patch", "received undecodable patch in webhook response".into()),
        (
            "ValidatingWebhook",
            "/missing",
            "failed to call webhook: the server could not find the requested resource".into(),
        ),
    ] {
        for policy in ["Fail", "Ignore"] {
            let hook = setup.webhook(path, rules.clone(), json!({"timeoutSeconds": 1, "failurePolicy": policy}));
            setup.register(kind, "one", json!([hook])).await;
            let (refused, other) = tokio::join!(
                setup.world.call("POST", CONFIGMAPS, json!({"metadata": {"generateName": "x-"}})),
                setup.world.call("GET", CONFIGMAPS, Value::Null),
            );
            assert_eq!(other.code, 200);
            let message = refused.json()["message"].as_str().unwrap_or_default().to_string();
            match policy {
                "Fail" => {
                    assert_eq!(refused.code, 500, "{path}: {message}");
                    assert!(
                        message.starts_with("Internal error occurred: failed calling webhook"),
                        "{path}: {message}"
                    );
                    assert!(message.contains(&words), "{path}: {message}");
                }
                _ => assert_eq!(refused.code, 201, "{path}: {message}"),
            }
            setup.unregister(kind, "one").await;
        }
    }
    // These fail whatever the policy, for the object cannot be what the webhook made of it.
    for path in ["/bad-patch", "/bad-type"] {
        setup
            .register(
                "MutatingWebhook",
                "one",
                json!([setup.webhook(path, rules.clone(), json!({"failurePolicy": "Ignore"}))]),
            )
            .await;
        assert_eq!(setup.world.call("POST", CONFIGMAPS, named("y")).await.code, 500, "{path}");
        setup.unregister("MutatingWebhook", "one").await;
    }
    setup.world.stop().await;
}

#[tokio::test]
async fn sub_resources_and_connections_are_asked_about() {
    let setup = Setup::new().await;
    let all = json!([rule(json!(["*"]), "*", json!(["*/*"]))]);
    setup.register("ValidatingWebhook", "all", json!([setup.webhook("/allow", all, json!({}))])).await;
    let connect = json!([rule(json!(["CONNECT"]), "", json!(["pods/attach"]))]);
    setup.register("ValidatingWebhook", "attach", json!([setup.webhook("/deny", connect, json!({}))])).await;
    let world = &setup.world;
    world.create("/api/v1/namespaces/default/serviceaccounts", named("default")).await;
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    world.create("/api/v1/namespaces/default/pods", json!({"metadata": {"name": "p"}, "spec": spec})).await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}});
    world.create("/apis/apps/v1/namespaces/default/deployments", deployment).await;
    let asked = async |method: &str, path: &str, body: Value, code: u16| {
        let before = setup.hooks.bodies("/allow").len();
        let got = setup.world.call(method, path, body).await;
        assert_eq!(got.code, code, "{method} {path}: {}", got.text());
        let request = setup.hooks.bodies("/allow").get(before).unwrap_or_else(|| panic!("{path} was not asked about"))
            ["request"]
            .clone();
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        format!(
            "{} {}/{} {} {}",
            text(&request["operation"]),
            text(&request["resource"]["resource"]),
            text(&request["subResource"]),
            text(&request["kind"]["kind"]),
            text(&request["object"]["kind"])
        )
    };
    let pod = "/api/v1/namespaces/default/pods/p";
    assert_eq!(
        asked("PATCH", "/apis/apps/v1/namespaces/default/deployments/d/scale", json!({"spec": {"replicas": 2}}), 200)
            .await,
        "UPDATE deployments/scale Scale Scale"
    );
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(asked("POST", &format!("{pod}/binding"), binding, 201).await, "CREATE pods/binding Binding Binding");
    assert_eq!(
        asked("PATCH", &format!("{pod}/status"), json!({"status": {"phase": "Running"}}), 200).await,
        "UPDATE pods/status Pod Pod"
    );
    assert_eq!(
        asked("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", json!({"spec": {}}), 201).await,
        "CREATE serviceaccounts/token TokenRequest TokenRequest"
    );
    assert_eq!(
        asked("POST", &format!("{pod}/exec?command=ls&container=c&stdout=1"), Value::Null, 404).await,
        "CONNECT pods/exec PodExecOptions PodExecOptions"
    );
    let exec = setup.hooks.bodies("/allow").last().unwrap()["request"]["object"].clone();
    assert_eq!(
        exec,
        json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdout": true, "container": "c", "command": ["ls"]})
    );
    let attach = world.call("POST", &format!("{pod}/attach?container=c"), Value::Null).await;
    assert_eq!(attach.code, 403);
    assert!(attach.text().contains("denied the request: not here"), "{}", attach.text());
    assert_eq!(
        asked("POST", &format!("{pod}/eviction"), json!({"metadata": {"name": "p"}}), 201).await,
        "CREATE pods/eviction Eviction Eviction"
    );
    setup.world.stop().await;
}

#[tokio::test]
async fn objects_are_shown_in_the_version_that_is_asked_for() {
    let setup = Setup::new().await;
    let v1 = json!([{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"], "resources": ["horizontalpodautoscalers"]}]);
    setup.register("MutatingWebhook", "one", json!([setup.webhook("/label-a", v1, json!({}))])).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let object = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 40}}}]}});
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let created = setup.world.create(path, object).await;
    assert_eq!(
        (&created["apiVersion"], &created["metadata"]["labels"]["a"]),
        (&json!("autoscaling/v2"), &json!("yes"))
    );
    assert_eq!(created["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 40);
    let request = setup.hooks.bodies("/label-a")[0]["request"].clone();
    assert_eq!((&request["kind"]["version"], &request["requestKind"]["version"]), (&json!("v1"), &json!("v2")));
    assert_eq!(request["object"]["apiVersion"], "autoscaling/v1");
    assert_eq!(request["object"]["spec"]["targetCPUUtilizationPercentage"], 40);
    setup.world.stop().await;
}

#[tokio::test]
async fn services_are_called_at_their_ready_endpoints() {
    let setup = Setup::new().await;
    let rules = json!([rule(json!(["CREATE"]), "", json!(["configmaps"]))]);
    let service = json!({"service": {"namespace": "default", "name": "hook", "path": "/label-a", "port": 8443}, "caBundle": setup.hooks.ca_bundle()});
    setup
        .register("MutatingWebhook", "one", json!([setup.webhook("/label-a", rules, json!({"clientConfig": service}))]))
        .await;
    let refused = |words: &'static str| {
        let world = &setup.world;
        async move {
            let got = world.call("POST", CONFIGMAPS, named("a")).await;
            assert_eq!(got.code, 500);
            let whole = format!(
                "failed to call webhook: Post \\\"https://hook.default.svc:8443/label-a?timeout=10s\\\": {words}"
            );
            assert!(got.text().contains(&whole), "{}", got.text());
        }
    };
    refused("service \\\"hook\\\" not found").await;
    let ports = json!([{"name": "https", "port": 8443, "targetPort": 9443}]);
    setup
        .world
        .create("/api/v1/namespaces/default/services", json!({"metadata": {"name": "hook"}, "spec": {"ports": ports}}))
        .await;
    refused("no endpoints available for service \\\"hook\\\"").await;
    let slice = json!({"metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}}, "addressType": "IPv4",
        "ports": [{"name": "https", "port": setup.hooks.port, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.255.0.1"], "conditions": {"ready": false}}, {"addresses": ["127.0.0.1"], "conditions": {"ready": true}}]});
    // Endpoints on loopback are refused by the API.
    let put = mizzen_store::Operation::Put {
        key: "discovery.k8s.io/endpointslices/default/hook-1".into(),
        value: mizzen_store::Value { bytes: slice.to_string().into(), revision_at: None },
    };
    setup.world.store.commit(mizzen_store::Txn { expect: vec![], operations: vec![put] }).await.unwrap();
    assert_eq!(setup.world.create(CONFIGMAPS, named("a")).await["metadata"]["labels"]["a"], "yes");
    setup.world.stop().await;
}

#[tokio::test]
async fn match_conditions_choose_requests() {
    let setup = Setup::new().await;
    let rules = json!([rule(json!(["CREATE"]), "", json!(["configmaps"]))]);
    let condition = |expression: &str| json!({"matchConditions": [{"name": "one", "expression": expression}]});
    let bad = json!({"metadata": {"name": "bad"}, "webhooks": [setup.webhook("/deny", rules.clone(), condition("object.x ==")) ]});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let got = setup.world.call("POST", path, bad).await;
    assert_eq!(got.code, 422);
    assert!(
        got.text().contains(
            "webhooks[0].matchConditions[0].expression: Invalid value: \\\"object.x ==\\\": compilation failed"
        ),
        "{}",
        got.text()
    );
    let mut fails = condition("object.data.missing == 'x'");
    fails["objectSelector"] = json!({"matchLabels": {"fails": "yes"}});
    let hooks = json!([
        setup.webhook(
            "/deny",
            rules.clone(),
            condition("object.metadata.name.startsWith('deny') && request.userInfo.username == 'kubernetes-admin'")
        ),
        setup.webhook("/silent", rules, fails),
    ]);
    setup.register("ValidatingWebhook", "all", hooks).await;
    setup
        .world
        .check(&[
            Row("POST", CONFIGMAPS, r#"{"metadata": {"name": "deny-this"}}"#, 403, &["denied the request: not here"]),
            Row("POST", CONFIGMAPS, r#"{"metadata": {"name": "allow-this"}}"#, 201, &[]),
            Row(
                "POST",
                CONFIGMAPS,
                r#"{"metadata": {"name": "x", "labels": {"fails": "yes"}}}"#,
                403,
                &[r#"configmaps \"x\" is forbidden: expression 'object.data.missing == 'x'' resulted in error: no such key: data"#],
            ),
        ])
        .await;
    assert_eq!(setup.hooks.count("/"), 1);
    setup.world.stop().await;
}

#[tokio::test]
async fn custom_resources_are_asked_about_in_any_of_their_versions() {
    let setup = Setup::new().await;
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
    };
    let names = json!({"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"});
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced", "names": names,
        "versions": [version("v1", true), version("v2", false)]}});
    setup.world.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    // No controller runs here: its verdict is written as it would.
    let status = json!({"status": {"acceptedNames": names, "storedVersions": ["v1"], "conditions": [
        {"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"}]}});
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.com/status";
    assert_eq!(setup.world.call("PATCH", path, status).await.code, 200);
    let v1 = json!([{"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["things"]}]);
    setup.register("MutatingWebhook", "one", json!([setup.webhook("/label-a", v1, json!({}))])).await;
    let object = json!({"kind": "Thing", "apiVersion": "example.com/v2", "metadata": {"name": "t"}, "spec": {"x": 1}});
    let created = setup.world.create("/apis/example.com/v2/namespaces/default/things", object).await;
    assert_eq!(
        (&created["apiVersion"], &created["metadata"]["labels"]["a"]),
        (&json!("example.com/v2"), &json!("yes"))
    );
    let request = setup.hooks.bodies("/label-a")[0]["request"].clone();
    assert_eq!(
        (&request["object"]["apiVersion"], &request["requestKind"]["version"]),
        (&json!("example.com/v1"), &json!("v2"))
    );
    setup.world.stop().await;
}
