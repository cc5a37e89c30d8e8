//! Rules in CEL, as people write them with kubectl: admission policies and the validation rules of custom resources.

use super::cluster::{Cluster, text};

const POLICY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: replicas}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}]
  variables: [{name: most, expression: int(params.data.most)}]
  validations:
  - expression: object.spec.replicas <= variables.most
    messageExpression: "'at most ' + string(variables.most) + ' replicas'"
  - expression: object.spec.nothing == 1 || true
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: replicas-here}
spec:
  policyName: replicas
  validationActions: [Deny]
  paramRef: {name: limit, parameterNotFoundAction: Deny}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: limit}
data: {most: "2"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: labels}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: "Object{metadata: Object.metadata{labels: {'checked': 'yes'}}}"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: labels-here}
spec: {policyName: labels}
"#;

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: spans.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: spans, singular: span, kind: Span, listKind: SpanList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [min, max]
            x-kubernetes-validations: [{rule: self.min <= self.max, message: min must not be above max}]
            properties: {min: {type: integer}, max: {type: integer}}
"#;

#[test]
fn policies_and_rules_are_kept() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(POLICY);
    let create = |replicas: &str| {
        cluster.kubectl_with(&["create", "deployment", "web", "--image=registry.example/web:1", replicas], "")
    };
    let refused = create("--replicas=3");
    assert!(!refused.status.success(), "{}", text(&refused));
    let expected =
        "ValidatingAdmissionPolicy 'replicas' with binding 'replicas-here' denied request: at most 2 replicas";
    assert!(text(&refused).contains(expected), "{}", text(&refused));
    let created = create("--replicas=2");
    assert!(created.status.success(), "{}", text(&created));
    assert_eq!(cluster.get(&["deployment", "web"])["metadata"]["labels"]["checked"], "yes");
    cluster.until("the policy is checked against its types", || {
        let policy = cluster.get(&["validatingadmissionpolicy", "replicas"]);
        let warning = &policy["status"]["typeChecking"]["expressionWarnings"][0];
        warning["fieldRef"] == "spec.validations[1].expression"
            && warning["warning"].as_str().is_some_and(|text| {
                text.contains(
                    "apps/v1, Kind=Deployment: compilation failed: ERROR: <input>:1:12: undefined field 'nothing'",
                )
            })
    });

    cluster.apply(DEFINITION);
    let waited = cluster.kubectl_with(&["wait", "--for=condition=established", "crd/spans.example.com"], "");
    assert!(waited.status.success(), "{}", text(&waited));
    let span = |min: u32| {
        format!("apiVersion: example.com/v1\nkind: Span\nmetadata: {{name: a}}\nspec: {{min: {min}, max: 2}}\n")
    };
    let refused = cluster.kubectl_with(&["create", "-f", "-"], &span(3));
    assert!(
        !refused.status.success() && text(&refused).contains("spec: Invalid value: min must not be above max"),
        "{}",
        text(&refused)
    );
    assert!(cluster.kubectl_with(&["create", "-f", "-"], &span(1)).status.success());
}
