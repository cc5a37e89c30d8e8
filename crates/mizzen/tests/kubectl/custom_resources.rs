//! Custom resources as people use them: defined, established, applied, shown, scaled, explained, counted and removed.

use super::cluster::{Cluster, text};

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        description: Runs things on time.
        properties:
          spec:
            type: object
            properties:
              cronSpec: {type: string, description: When it runs., pattern: '^(\d+|\*)(\s+(\d+|\*)){4}$'}
              replicas: {type: integer, minimum: 1, maximum: 10, default: 1}
          status:
            type: object
            properties: {replicas: {type: integer}}
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
"#;

fn object(namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {{name: my, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

#[test]
fn a_definition_makes_a_kind() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(DEFINITION);
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/crontabs.stable.example.com"]);
    cluster.apply(&object("default", "{cronSpec: \"* * * * 5\"}"));
    for (args, expected) in [
        (&["get", "ct"][..], "* * * * 5   1"),
        (&["get", "all"], "crontab.stable.example.com/my"),
        (&["api-resources"], "crontabs"),
        (&["explain", "crontab"], "Runs things on time."),
        (&["explain", "ct.spec.cronSpec"], "When it runs."),
        (&["scale", "--replicas=3", "ct/my"], "scaled"),
        (&["get", "ct", "my", "-o", "jsonpath={.spec.replicas}"], "3"),
        (&["get", "crd"], "crontabs.stable.example.com"),
    ] {
        let said = cluster.kubectl(args);
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    for (spec, expected) in [
        ("{cronSpec: never}", "spec.cronSpec in body should match"),
        ("{cronSpec: \"* * * * 5\", foo: 1}", "unknown field \"spec.foo\""),
        ("{replicas: 11}", "should be less than or equal to 10"),
    ] {
        let said =
            cluster.kubectl_with(&["create", "-f", "-"], &object("default", spec).replace("name: my", "name: other"));
        assert!(!said.status.success() && text(&said).contains(expected), "{spec}: {}", text(&said));
    }
    let applied = cluster.kubectl_with(
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        &object("default", "{cronSpec: \"* * * * 6\"}"),
    );
    assert!(text(&applied).contains("serverside-applied"), "{}", text(&applied));

    // Quotas count its objects, and they go with their namespace.
    cluster.kubectl(&["create", "namespace", "team"]);
    cluster.kubectl(&["create", "quota", "q", "-n", "team", "--hard=count/crontabs.stable.example.com=1"]);
    cluster.until("the quota to be known", || {
        cluster.get(&["quota", "q", "-n", "team"])["status"]["hard"]["count/crontabs.stable.example.com"] == "1"
    });
    cluster.apply(&object("team", "{cronSpec: \"* * * * 5\"}"));
    let second =
        cluster.kubectl_with(&["create", "-f", "-"], &object("team", "{}").replace("name: my", "name: second"));
    assert!(text(&second).contains("exceeded quota: q"), "{}", text(&second));
    cluster.kubectl(&["delete", "namespace", "team"]);
    cluster.refused(&["get", "namespace", "team"]);

    cluster.kubectl(&["delete", "crd", "crontabs.stable.example.com"]);
    // Asked for by its path: kubectl itself remembers for a while what there was.
    let gone = cluster.refused(&["get", "--raw", "/apis/stable.example.com/v1/crontabs"]);
    assert!(gone.contains("could not find the requested resource"), "{gone}");
}
