//! The commands that read and change objects, as people know them.

use super::cluster::{Cluster, text};

#[test]
fn kubectl_finds_its_way() {
    let Some(cluster) = Cluster::start() else { return };
    for (args, expected) in [
        (&["get", "nodes"][..], "Ready"),
        (&["get", "all", "-A"], "service/kubernetes"),
        (&["api-resources"], "deployments"),
        (&["api-versions"], "apps/v1"),
        (&["explain", "pod.spec.containers"], "FIELDS"),
        (&["describe", "node", "node"], "Allocatable"),
        (&["auth", "can-i", "create", "pods"], "yes"),
        (&["auth", "whoami"], "kubernetes-admin"),
        (&["version"], "Server Version: v1.36"),
        (&["cluster-info"], "control plane"),
        (&["get", "--raw", "/readyz"], "ok"),
    ] {
        let said = cluster.kubectl(args);
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    let no = cluster.try_kubectl(&["auth", "can-i", "create", "pods", "--as", "nobody"]);
    assert!(text(&no).contains("no"), "{}", text(&no));
}

#[test]
fn objects_are_applied_compared_and_patched() {
    let Some(cluster) = Cluster::start() else { return };
    let document =
        |word: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{word: {word}}}\n");
    let preview = cluster.kubectl_with(&["apply", "--dry-run=server", "-f", "-"], &document("one"));
    assert!(text(&preview).contains("created (server dry run)"), "{}", text(&preview));
    cluster.refused(&["get", "configmap", "c"]);
    cluster.apply(&document("one"));
    let diff = cluster.kubectl_with(&["diff", "-f", "-"], &document("two"));
    assert!(diff.status.code() == Some(1) && text(&diff).contains("+  word: two"), "{}", text(&diff));
    let applied = cluster.kubectl_with(
        &["apply", "--server-side", "--field-manager=a", "--force-conflicts", "-f", "-"],
        &document("two"),
    );
    assert!(text(&applied).contains("serverside-applied"), "{}", text(&applied));
    let conflict =
        cluster.kubectl_with(&["apply", "--server-side", "--field-manager=b", "-f", "-"], &document("three"));
    assert!(text(&conflict).contains("conflict with \"a\""), "{}", text(&conflict));
    for patch in [
        &["--type=merge", "-p", r#"{"data":{"more":"1"}}"#][..],
        &["--type=strategic", "-p", r#"{"metadata":{"labels":{"l":"v"}}}"#],
        &["--type=json", "-p", r#"[{"op":"add","path":"/data/j","value":"2"}]"#],
    ] {
        let args: Vec<&str> = ["patch", "configmap", "c"].iter().chain(patch).copied().collect();
        cluster.kubectl(&args);
    }
    let map = cluster.get(&["configmap", "c"]);
    assert_eq!(
        (&map["data"]["more"], &map["data"]["j"], &map["metadata"]["labels"]["l"]),
        (&"1".into(), &"2".into(), &"v".into())
    );
    cluster.kubectl(&["label", "configmap", "c", "l-"]);
    cluster.kubectl(&["annotate", "configmap", "c", "a=b"]);
    cluster.kubectl(&["create", "namespace", "n"]);
    cluster.kubectl(&["-n", "n", "create", "secret", "generic", "s", "--from-literal=k=v"]);
    cluster.kubectl(&["delete", "namespace", "n", "--timeout=20s"]);
    cluster.refused(&["-n", "n", "get", "secret", "s"]);
}

#[test]
fn a_job_runs_to_its_end() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.kubectl(&["create", "job", "j", "--image=busybox:1", "--", "sh", "-c", "echo done"]);
    cluster.kubectl(&["wait", "job/j", "--for=condition=Complete", "--timeout=30s"]);
    assert_eq!(cluster.kubectl(&["logs", "job/j"]), "done\n");
    cluster.kubectl(&["delete", "job", "j", "--timeout=20s"]);
    cluster.until("the end of its pods", || cluster.pods("job-name=j").is_empty());
}
