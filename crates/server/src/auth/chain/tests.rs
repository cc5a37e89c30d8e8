use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use mizzen_store::Snapshot;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{AuthorizationConfiguration, Chain, Verdict};
use crate::auth::{Attributes, Authorizer, Identity};
use crate::callout::Callout;
use crate::callout::testing::Https;

fn configuration(webhook: &str, order: &str) -> String {
    let entries = order.split(' ').map(|one| match one {
        "hook" => format!(
            "- {{type: Webhook, name: hook, webhook: {{timeout: 3s, subjectAccessReviewVersion: v1, \
             matchConditionSubjectAccessReviewVersion: v1, connectionInfo: {{type: KubeConfigFile, kubeConfigFile: /k}}, {webhook}}}}}\n"
        ),
        other => format!("- {{type: {other}, name: {}}}\n", other.to_lowercase()),
    });
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n";
    format!("{head}{}", entries.collect::<String>())
}

fn chain(https: &Https, webhook: &str, order: &str) -> Chain {
    let ca = base64::engine::general_purpose::STANDARD.encode(&https.pem);
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://localhost:{}/', certificate-authority-data: {ca}}}}}]\n\
         users: [{{name: u, user: {{}}}}]\n",
        https.port
    );
    let parsed = AuthorizationConfiguration::parse(&configuration(webhook, order)).unwrap();
    Chain::new(&parsed, &|_| Ok(kubeconfig.clone())).unwrap()
}

#[tokio::test]
async fn webhooks_decide_and_are_asked_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let https = Https::start(move |_, _, body| {
        count.fetch_add(1, Ordering::SeqCst);
        let review: Value = serde_json::from_slice(body).unwrap();
        let status = match review["spec"]["user"].as_str().unwrap() {
            "ann" => json!({"allowed": true, "reason": "of the hook"}),
            "eve" => json!({"allowed": false, "denied": true, "reason": "never"}),
            "odd" => json!({"allowed": true, "denied": true}),
            _ => json!({"allowed": false, "reason": "who?"}),
        };
        (
            200,
            json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": status})
                .to_string(),
        )
    })
    .await;
    let callout = Callout::new(None, TaskTracker::new(), CancellationToken::new());
    let local = Authorizer::new();
    let state = Snapshot::default();
    let what =
        Attributes { verb: "get", resource_request: true, resource: "pods", namespace: "ns", ..Attributes::default() };
    let shown = |verdict: Verdict| format!("{verdict:?}");
    let condition = "failurePolicy: Deny, matchConditions: [{expression: \"request.user != 'bob'\"}, {expression: 'has(request.resourceAttributes)'}]";
    let chain = chain(&https, condition, "hook Node RBAC");
    for (user, verdict, calls) in [
        ("ann", "Allow(\"of the hook\")", 1),
        ("ann", "Allow(\"of the hook\")", 1),
        ("eve", "Deny(\"never\")", 2),
        ("cat", "NoOpinion(\"who?\")", 3),
        ("bob", "NoOpinion(\"\")", 3),
        ("odd", "Deny(\"the authorization webhook hook failed\")", 4),
    ] {
        let got = chain.decide(&local, &callout, &state, &Identity::part(user), &what).await;
        assert_eq!((shown(got).as_str(), asked.load(Ordering::SeqCst)), (verdict, calls), "{user}");
    }
    let mut master = Identity::part("eve");
    master.groups.push("system:masters".into());
    assert_eq!(chain.decide(&local, &callout, &state, &master, &what).await, Verdict::Allow(String::new()));
    let refused = chain.authorize(&local, &callout, &state, &Identity::part("eve"), &what).await.unwrap_err();
    assert!(refused.code == 403 && refused.message.ends_with(": never"), "{}", refused.message);
}

#[tokio::test]
async fn a_webhook_that_is_gone_counts_as_its_policy_says() {
    let https = Https::start(|_, _, _| (500, "broken".into())).await;
    let callout = Callout::new(None, TaskTracker::new(), CancellationToken::new());
    let what = Attributes { verb: "get", path: "/metrics", ..Attributes::default() };
    for (policy, denied) in [("NoOpinion", false), ("Deny", true)] {
        let chain = chain(&https, &format!("failurePolicy: {policy}"), "Node RBAC hook");
        let who = Identity::part("ann");
        let verdict = chain.decide(&Authorizer::new(), &callout, &Snapshot::default(), &who, &what).await;
        assert_eq!(matches!(verdict, Verdict::Deny(_)), denied, "{policy}: {verdict:?}");
    }
}

#[test]
fn wrong_configurations_are_told() {
    for (webhook, order, why) in [
        ("failurePolicy: Deny", "hook RBAC", "Node is missing"),
        ("failurePolicy: Maybe", "hook Node RBAC", "failurePolicy"),
        ("failurePolicy: Deny, matchConditions: [{expression: '1 +'}]", "hook Node RBAC", "matchConditions[0]"),
        ("failurePolicy: Deny, matchConditions: [{expression: '1'}]", "hook Node RBAC", "must evaluate to bool"),
        ("failurePolicy: Deny, authorizedTTL: soon", "hook Node RBAC", "authorizedTTL"),
        ("failurePolicy: Deny", "hook hook Node RBAC", "duplicate"),
        ("failurePolicy: Deny", "ABAC Node RBAC", "not Node, RBAC or Webhook"),
    ] {
        let parsed = AuthorizationConfiguration::parse(&configuration(webhook, order)).unwrap();
        let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c}}]\n\
            clusters: [{name: c, cluster: {server: 'https://localhost/'}}]\n";
        let error = Chain::new(&parsed, &|_| Ok(kubeconfig.into())).err().unwrap().to_string();
        assert!(error.contains(why), "{webhook} {order}: {error}");
    }
    assert!(AuthorizationConfiguration::parse("apiVersion: v1\nkind: Other\nauthorizers: []\n").is_err());
}
