//! Claims on a new cluster: the default class makes directories that outlive pods and go with their claims.

use super::cluster::{Cluster, text};

const DATABASE: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      securityContext: {runAsUser: 1000}
      containers:
      - {name: c, image: 'busybox:1', command: [sleep, "1000"], volumeMounts: [{name: data, mountPath: /data}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"#;

#[test]
fn a_claim_keeps_its_data_until_it_is_deleted() {
    let Some(cluster) = Cluster::start() else { return };
    assert!(cluster.kubectl(&["get", "storageclass"]).contains("local (default)"));
    cluster.apply(DATABASE);
    cluster.kubectl(&["rollout", "status", "statefulset/db", "--timeout=60s"]);
    let run = |script: &str| cluster.kubectl(&["exec", "db-0", "--", "sh", "-c", script]);
    run("echo kept > /data/file");
    let volume = cluster.get(&["pvc", "data-db-0"])["spec"]["volumeName"].as_str().unwrap().to_string();
    let directory = cluster.path("data").join("volumes").join(&volume);
    assert_eq!(std::fs::read_to_string(directory.join("file")).unwrap(), "kept\n");

    cluster.kubectl(&["delete", "pod", "db-0"]);
    cluster.kubectl(&["wait", "pod/db-0", "--for=condition=Ready", "--timeout=60s"]);
    assert_eq!(run("cat /data/file"), "kept\n");

    let bigger = r#"{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}"#;
    cluster.kubectl(&["patch", "pvc", "data-db-0", "-p", bigger]);
    cluster.kubectl(&["wait", "pvc/data-db-0", "--for=jsonpath={.status.capacity.storage}=2Gi", "--timeout=30s"]);

    // In use: it is deleted only once no pod uses it, and the data goes with it then.
    cluster.kubectl(&["delete", "pvc", "data-db-0", "--wait=false"]);
    assert_eq!(run("cat /data/file"), "kept\n");
    cluster.kubectl(&["delete", "statefulset", "db"]);
    cluster.until("the volume's directory to be removed", || !directory.exists());
    cluster.until("the volume to be gone", || text(&cluster.try_kubectl(&["get", "pv", &volume])).contains("NotFound"));
}

#[test]
fn what_a_directory_cannot_be_is_said() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(
        r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: user}
spec:
  containers: [{name: c, image: 'busybox:1', command: [sleep, "1000"]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: shared}}]
"#,
    );
    cluster.until("the refusal", || {
        cluster.kubectl(&["describe", "pvc", "shared"]).contains("only ReadWriteOnce and ReadWriteOncePod can be had")
    });
}

#[test]
fn the_important_pod_gets_the_room_of_the_less_important() {
    let Some(cluster) = Cluster::start() else { return };
    let cores = cluster.get(&["node", "node"])["status"]["allocatable"]["cpu"].as_str().unwrap().to_string();
    let millis = cores.strip_suffix('m').map_or_else(|| cores.parse::<u64>().unwrap() * 1000, |m| m.parse().unwrap());
    let pod = |name: &str, class: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  priorityClassName: {class}
  containers: [{{name: c, image: 'busybox:1', command: [sleep, "1000"], resources: {{requests: {{cpu: {}m}}}}}}]
"#,
            millis * 2 / 3
        )
    };
    cluster.apply(
        r#"
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: low}
value: 1
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: high}
value: 1000
"#,
    );
    cluster.apply(&pod("cheap", "low"));
    cluster.kubectl(&["wait", "pod/cheap", "--for=condition=Ready", "--timeout=60s"]);
    cluster.apply(&pod("dear", "high"));
    cluster.kubectl(&["wait", "pod/dear", "--for=condition=Ready", "--timeout=60s"]);
    assert!(text(&cluster.try_kubectl(&["get", "pod", "cheap"])).contains("NotFound"));
    assert!(cluster.kubectl(&["get", "events"]).contains("Preempted by pod"));
}
