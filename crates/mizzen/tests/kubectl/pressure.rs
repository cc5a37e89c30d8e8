//! A node under pressure: pods that take more than there is, or than they may, end and say why; others do not notice.

use super::cluster::Cluster;

/// A pod that runs a script of BusyBox' shell and then sleeps.
fn pod(name: &str, script: &str, container: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 1\n  \
         {spec}\n  containers:\n  - {{name: c, image: 'busybox:1', command: [sh, -c, '{script}'], {container}}}\n---\n"
    )
}

const WRITE: &str = "dd if=/dev/zero of=$FILE bs=1M count=$MIB; exec sleep 1000";

fn writes(file: &str, mib: u32) -> String {
    WRITE.replace("$FILE", file).replace("$MIB", &mib.to_string())
}

/// Waits until a pod has failed with this reason; its message.
fn failed(cluster: &Cluster, pod: &str, reason: &str) -> String {
    cluster.until(&format!("{pod} to fail"), || cluster.get(&["pod", pod])["status"]["phase"] == "Failed");
    let status = cluster.get(&["pod", pod])["status"].clone();
    assert_eq!(status["reason"], reason, "{status}");
    status["message"].as_str().unwrap_or_default().to_string()
}

#[test]
fn pods_that_take_more_than_they_may_end() {
    let Some(cluster) = Cluster::start_with("kubelet: {podPidsLimit: 60}\n", None) else { return };
    let limit = |mib: u32| format!("resources: {{limits: {{ephemeral-storage: {mib}Mi}}}}");
    let mount = "volumeMounts: [{name: v, mountPath: /v}]";
    let bomb = "i=0; while [ $i -lt 500 ]; do sleep 1000 & i=$((i+1)); done";
    cluster.apply(
        &[
            pod("volume", &writes("/v/f", 20), mount, "volumes: [{name: v, emptyDir: {sizeLimit: 5Mi}}]"),
            pod("layer", &writes("/f", 30), &limit(10), ""),
            pod("modest", &writes("/f", 5), &limit(50), ""),
            pod("bomb", bomb, "", ""),
        ]
        .concat(),
    );
    assert_eq!(failed(&cluster, "volume", "Evicted"), "Usage of EmptyDir volume \"v\" exceeds the limit \"5Mi\". ");
    assert_eq!(
        failed(&cluster, "layer", "Evicted"),
        "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "
    );
    let events =
        || cluster.kubectl(&["get", "events", "--field-selector", "involvedObject.name=volume,reason=Evicted"]);
    cluster.until("the event", || events().contains("exceeds the limit"));
    cluster.until("the bomb to be held", || cluster.get(&["pod", "bomb"])["status"]["phase"] == "Failed");
    assert!(cluster.kubectl(&["logs", "bomb"]).contains("can't fork"));
    cluster.ready("modest");
}

#[test]
fn a_full_disk_ends_who_filled_it() {
    let settings = "kubelet:\n  evictionHard: {nodefs.available: 200Mi}\n  evictionPressureTransitionPeriod: 2s\n";
    let Some(cluster) = Cluster::start_with(settings, Some(700)) else { return };
    let critical = "priorityClassName: system-node-critical";
    cluster.apply(&pod("modest", "exec sleep 1000", "", ""));
    cluster.ready("modest");
    cluster.apply(
        &pod("vital", "exec sleep 1000", "", critical)
            .replace("{name: vital}", "{name: vital, namespace: kube-system}"),
    );
    cluster.kubectl(&["wait", "-n", "kube-system", "pod/vital", "--for=condition=Ready", "--timeout=60s"]);
    cluster.apply(&pod("filler", &writes("/f", 600), "", ""));
    let message = failed(&cluster, "filler", "Evicted");
    assert!(
        message.starts_with("The node was low on resource: ephemeral-storage. Threshold quantity: 200Mi, available: ")
            && message.contains("Container c was using ")
            && message.ends_with(", request is 0, has larger consumption of ephemeral-storage. "),
        "{message}"
    );
    let conditions = cluster.get(&["pod", "filler"])["status"]["conditions"].clone();
    let target = conditions.as_array().unwrap().iter().find(|c| c["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&target["status"], &target["reason"]), (&"True".into(), &"TerminationByKubelet".into()));
    let told = || cluster.kubectl(&["get", "events", "-A", "--field-selector", "reason=EvictionThresholdMet"]);
    cluster.until("the node's event", || told().contains("Attempting to reclaim ephemeral-storage"));
    // What the pod wrote is gone with it: the node recovers, takes pods again, and the others have not noticed.
    let node = || cluster.get(&["node", "node"]);
    cluster.until("the pressure to end", || {
        let status = &node()["status"]["conditions"];
        let disk = status.as_array().unwrap().iter().find(|c| c["type"] == "DiskPressure").cloned().unwrap();
        disk["status"] == "False" && node()["spec"]["taints"].is_null()
    });
    cluster.apply(&pod("next", "exec sleep 1000", "", ""));
    cluster.ready("next");
    cluster.ready("modest");
    let vital = cluster.get(&["pod", "-n", "kube-system", "vital"]);
    assert_eq!(vital["status"]["phase"], "Running");
}
