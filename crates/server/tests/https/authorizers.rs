//! Authorization that others decide: webhooks beside Node and RBAC.

use mizzen_server::auth::Authorizer;
use mizzen_server::auth::chain::{AuthorizationConfiguration, Chain};
use serde_json::json;

use crate::harness::https::{Https, Reply};
use crate::harness::{Row, World};

const CONFIGURATION: &str = r"
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Webhook
  name: hook
  webhook:
    timeout: 3s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /hook}
- {type: Node, name: node}
- {type: RBAC, name: rbac}
";

/// What a request implies is asked of the webhook too: it lets ann change ConfigMaps and denies her to create any, though RBAC
/// would let her do all.
#[tokio::test]
async fn what_a_request_implies_is_asked_of_all() {
    let hook = Https::start(&["localhost"], None, |asked| {
        let spec = &asked.json()["spec"];
        let denied = spec["user"] == "ann" && spec["resourceAttributes"]["verb"] == "create";
        Reply::Json(json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "status": {"allowed": false, "denied": denied, "reason": if denied { "no new ones" } else { "" }}}))
    })
    .await;
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://localhost:{}/', certificate-authority-data: {}}}}}]\n\
         users: [{{name: u, user: {{}}}}]\n",
        hook.port,
        hook.ca_bundle()
    );
    let configuration = AuthorizationConfiguration::parse(CONFIGURATION).unwrap();
    let chain = Chain::new(&configuration, &|_| Ok(kubeconfig.clone())).unwrap();
    let world = World::ruled_by(Authorizer::new().with_chain(chain)).await;
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    let ann = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"});
    world.create(bindings, json!({"metadata": {"name": "ann"}, "roleRef": role, "subjects": [ann]})).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    world.check(&[Row("POST", maps, r#"{"metadata":{"name":"old"}}"#, 201, &[])]).await;

    let ann = |content: &'static str| [("impersonate-user", "ann"), ("content-type", content)];
    let apply = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"NAME"},"data":{"a":"b"}}"#;
    for (name, code) in [("old", 200), ("new", 403)] {
        let path = format!("{maps}/{name}?fieldManager=m");
        let sent = apply.replace("NAME", name);
        let got = world.send("PATCH", &path, &ann("application/apply-patch+yaml"), sent).await;
        assert_eq!(got.code, code, "{name}: {}", got.text());
    }
    let lease = r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l","namespace":"default"},"spec":{}}"#;
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let got = world.send("PUT", path, &ann("application/json"), lease).await;
    assert!(got.code == 403 && got.text().contains("no new ones"), "a create by PUT: {}", got.text());
    world.stop().await;
}
