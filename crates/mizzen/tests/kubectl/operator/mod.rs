//! An operator in a pod: its kind has two versions that its conversion webhook turns into one another, its admission
//! webhooks change and refuse, and its controller follows.

mod program;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::cluster::{Cluster, text};

/// Set in the pod.
const ROLE: &str = "MIZZEN_TEST_OPERATOR";

/// Not a test: what the operator's pod runs. Elsewhere it does nothing.
#[test]
fn process() {
    if std::env::var_os(ROLE).is_some() {
        program::run();
    }
}

/// The operator's certificate and key (PEM), and who signed it, as `caBundle` has it.
fn certificate() -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["operator.default.svc".to_owned()]).unwrap().signed_by(&key, &ca);
    (certificate.unwrap().pem(), key.serialize_pem(), STANDARD.encode(ca.pem()))
}

fn definition(ca: &str) -> String {
    let version = |name: &str, stored: bool, fields: &str| {
        format!(
            "  - name: {name}
    served: true
    storage: {stored}
    subresources: {{status: {{}}}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {{type: object, properties: {{{fields}}}}}
          status: {{type: object, properties: {{address: {{type: string}}}}}}
"
        )
    };
    let versions = version("v1", false, "host: {type: string}, port: {type: string}")
        + &version("v2", true, "address: {type: string}");
    format!(
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: sites.example.com}}
spec:
  group: example.com
  scope: Namespaced
  names: {{plural: sites, singular: site, kind: Site, listKind: SiteList}}
  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1]
      clientConfig: {{caBundle: {ca}, service: {{namespace: default, name: operator, path: /convert}}}}
  versions:
{versions}"
    )
}

fn webhooks(ca: &str) -> String {
    let hook = |kind: &str, path: &str| {
        format!(
            "apiVersion: admissionregistration.k8s.io/v1
kind: {kind}WebhookConfiguration
metadata: {{name: operator}}
webhooks:
- name: {path}.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  matchPolicy: Equivalent
  clientConfig: {{caBundle: {ca}, service: {{namespace: default, name: operator, path: /{path}}}}}
  rules: [{{apiGroups: [example.com], apiVersions: [v2], operations: [CREATE, UPDATE], resources: [sites]}}]
"
        )
    };
    format!("{}---\n{}", hook("Mutating", "mutate"), hook("Validating", "validate"))
}

fn operator(certificate: &str, key: &str) -> String {
    let (certificate, key) = (STANDARD.encode(certificate), STANDARD.encode(key));
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: operator}}
type: kubernetes.io/tls
data: {{tls.crt: {certificate}, tls.key: {key}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: operator}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: operator}}
rules:
- {{apiGroups: [example.com], resources: [sites, sites/status], verbs: [get, list, watch, patch]}}
- {{apiGroups: [example.com], resources: [sites/finalizers], verbs: [update]}}
- {{apiGroups: [''], resources: [configmaps], verbs: [get, create, patch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: operator}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: operator}}
subjects: [{{kind: ServiceAccount, namespace: default, name: operator}}]
---
apiVersion: v1
kind: Service
metadata: {{name: operator}}
spec:
  selector: {{app: operator}}
  ports: [{{port: 443, targetPort: 8443}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: operator}}
spec:
  selector: {{matchLabels: {{app: operator}}}}
  template:
    metadata: {{labels: {{app: operator}}}}
    spec:
      serviceAccountName: operator
      terminationGracePeriodSeconds: 0
      containers:
      - name: operator
        image: operator:1
        command: [/operator, --exact, 'operator::process', --nocapture]
        env: [{{name: {ROLE}, value: '1'}}]
        readinessProbe: {{tcpSocket: {{port: 8443}}, periodSeconds: 1}}
        volumeMounts: [{{name: tls, mountPath: /tls}}]
      volumes: [{{name: tls, secret: {{secretName: operator}}}}]
"
    )
}

fn old(name: &str, host: &str) -> String {
    format!(
        "apiVersion: example.com/v1\nkind: Site\nmetadata: {{name: {name}}}\nspec: {{host: {host}, port: \"80\"}}\n"
    )
}

#[test]
fn an_operator_with_webhooks_runs_in_the_cluster() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.load("operator:1", |layout, name| {
        super::image::of_program(layout, name, "operator", &std::env::current_exe().unwrap());
    });
    let (certificate, key, ca) = certificate();
    cluster.apply(&definition(&ca));
    cluster.apply(&operator(&certificate, &key));
    cluster.kubectl(&["rollout", "status", "deployment/operator", "--timeout=60s"]);
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/sites.example.com"]);
    cluster.apply(&webhooks(&ca));

    // Written in the old version, stored in the new one, read in both; changed by the webhook; followed by the controller.
    cluster.apply(&old("one", "a"));
    cluster.apply("apiVersion: example.com/v2\nkind: Site\nmetadata: {name: two}\nspec: {address: 'b:81'}\n");
    let one = cluster.get(&["sites.v2.example.com", "one"]);
    assert_eq!((&one["spec"]["address"], &one["metadata"]["labels"]["seen"]), (&"a:80".into(), &"yes".into()));
    assert_eq!(cluster.get(&["sites.v1.example.com", "two"])["spec"]["port"], "81");
    for (name, address) in [("one", "a:80"), ("two", "b:81")] {
        cluster.until("the controller follows", || {
            let site = cluster.get(&["sites.v2.example.com", name]);
            site["status"]["address"] == address && !site["metadata"]["finalizers"].is_null()
        });
        assert_eq!(cluster.get(&["configmap", name])["data"]["address"], address);
    }
    let refused = cluster.kubectl_with(&["apply", "-f", "-"], &old("three", "forbidden"));
    let expected = "admission webhook \"validate.example.com\" denied the request: this host is taken";
    assert!(text(&refused).contains(expected), "{}", text(&refused));

    // Its pod is killed: the next one goes on.
    cluster.kubectl(&["delete", "pod", "-l", "app=operator", "--wait=true"]);
    cluster.kubectl(&["rollout", "status", "deployment/operator", "--timeout=60s"]);
    cluster.apply(&old("one", "c"));
    cluster.until("the new pod follows", || cluster.get(&["configmap", "one"])["data"]["address"] == "c:80");
    cluster.kubectl(&["delete", "site", "two", "--timeout=60s"]);
    assert_eq!(cluster.get(&["configmap", "farewell"])["data"]["last"], "two");
    cluster.until("what it owned goes with it", || !cluster.try_kubectl(&["get", "configmap", "two"]).status.success());

    without_it(&cluster);
}

/// With no pod of it: its kind is read as stored and no other way, written as the failure policy says, and everything else
/// goes on.
fn without_it(cluster: &Cluster) {
    cluster.kubectl(&["scale", "deployment/operator", "--replicas=0"]);
    cluster.until("it is gone", || cluster.pods("app=operator").is_empty());
    cluster.kubectl(&["create", "configmap", "other"]);
    cluster.kubectl(&["get", "sites.v2.example.com", "one"]);
    let refused = cluster.refused(&["get", "sites.v1.example.com", "one"]);
    assert!(refused.contains("conversion webhook for example.com/v2, Kind=Site failed"), "{refused}");
    let site = "apiVersion: example.com/v2\nkind: Site\nmetadata: {name: four}\nspec: {address: 'd:80'}\n";
    let refused = text(&cluster.kubectl_with(&["apply", "-f", "-"], site));
    assert!(refused.contains("failed calling webhook \"mutate.example.com\""), "{refused}");
    let ignore = r#"[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]"#;
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        cluster.kubectl(&["patch", kind, "operator", "--type=json", "-p", ignore]);
    }
    cluster.apply(site);

    // Back again, it takes up what came while it was away.
    cluster.kubectl(&["scale", "deployment/operator", "--replicas=1"]);
    cluster.until("what came meanwhile is followed", || {
        let found = cluster.try_kubectl(&["get", "configmap", "four", "-o", "jsonpath={.data.address}"]);
        found.status.success() && text(&found) == "d:80"
    });
}
