//! Wrong input is answered with what is wrong, and nothing is lost.

use super::cluster::{Cluster, text};

#[test]
fn wrong_objects_are_refused_by_field() {
    let Some(cluster) = Cluster::start() else { return };
    let pod =
        |name: &str, spec: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name:?}}}\nspec: {spec}\n");
    for (document, expected) in [
        (pod("Bad_Name", "{containers: [{name: a, image: b}]}"), "metadata.name"),
        (pod("p", "{containers: []}"), "spec.containers: Required value"),
        (
            pod("p", "{containers: [{name: a, image: b, ports: [{containerPort: 99999}]}]}"),
            "spec.containers[0].ports[0].containerPort",
        ),
        (pod("p", "{containers: [{name: a, image: b, resources: {requests: {cpu: x}}}]}"), "quantities"),
        (pod("p", "{containers: [{name: a, imagee: b}]}"), "unknown field \"spec.containers[0].imagee\""),
        (pod("p", "{containers: 3}"), "cannot unmarshal"),
        ("apiVersion: v1\nkind: Nonsense\nmetadata: {name: a}\n".into(), "no matches for kind"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: [\n".into(), "error"),
    ] {
        let output = cluster.kubectl_with(&["create", "--validate=strict", "-f", "-"], &document);
        assert!(!output.status.success() && text(&output).contains(expected), "{document}: {}", text(&output));
    }
    assert_eq!(cluster.get(&["pods"])["items"], serde_json::json!([]));
}

#[test]
fn pods_say_why_they_do_not_run() {
    let Some(cluster) = Cluster::start() else { return };
    let pod =
        |name: &str, spec: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n");
    let c = |rest: &str| format!("{{containers: [{{name: c, image: 'busybox:1', {rest}}}], restartPolicy: Never}}");
    let documents = [
        pod("unreachable", "{containers: [{name: c, image: '127.0.0.1:1/a:b'}]}"),
        pod("no-command", &c("command: [does-not-exist]")),
        pod("no-config", &c("envFrom: [{configMapRef: {name: missing}}]")),
        pod("fails", &c("command: [sh, -c, 'exit 3']")),
        pod("too-big", &c("resources: {requests: {cpu: '1000'}}")),
        pod("bad-name", "{containers: [{name: c, image: 'Not Valid'}]}"),
    ];
    cluster.apply(&documents.concat());
    let waiting = |name: &str| -> String {
        let pod = cluster.get(&["pod", name]);
        let state = &pod["status"]["containerStatuses"][0]["state"];
        let reason = state["waiting"]["reason"].as_str().or(state["terminated"]["reason"].as_str()).unwrap_or_default();
        format!("{reason} {} {}", state["terminated"]["exitCode"], pod["status"]["conditions"][0]["message"])
    };
    for (name, expected) in [
        ("unreachable", "Err"),
        ("no-command", "StartError 128"),
        ("no-config", "CreateContainerConfigError"),
        ("fails", "Error 3"),
        ("too-big", "Insufficient cpu"),
        ("bad-name", "InvalidImageName"),
    ] {
        cluster.until(&format!("{name}: {expected}"), || {
            waiting(name).contains(expected) || waiting(name).contains("ImagePullBackOff")
        });
    }
}
