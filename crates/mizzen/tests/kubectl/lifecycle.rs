//! What survives what: containers, shims and mizzen itself killed, stopped, started again, taken away.

use std::process::Command;
use std::time::Duration;

use super::cluster::{Cluster, text};

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {app: one}}
spec:
  containers:
  - name: c
    image: busybox:1
    command: [sh, -c, 'echo run; exec sleep 1000']
  terminationGracePeriodSeconds: 1
"#;

fn running() -> Option<Cluster> {
    let cluster = Cluster::start()?;
    cluster.apply(POD);
    cluster.kubectl(&["wait", "pod/one", "--for=condition=Ready", "--timeout=30s"]);
    Some(cluster)
}

fn container(cluster: &Cluster) -> (String, i64) {
    let pod = cluster.get(&["pod", "one"]);
    let status = &pod["status"]["containerStatuses"][0];
    (status["containerID"].as_str().unwrap_or_default().to_string(), status["restartCount"].as_i64().unwrap_or(-1))
}

#[test]
fn a_killed_container_is_started_again() {
    let Some(cluster) = running() else { return };
    let (before, _) = container(&cluster);
    let status = cluster.try_kubectl(&["exec", "one", "--", "sh", "-c", "kill -9 1; kill -TERM 1"]);
    drop(status); // The exec may end with the container.
    let pid = first_process(&cluster);
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    cluster.until("a restart", || container(&cluster).1 >= 1);
    let (after, restarts) = container(&cluster);
    assert!(after != before && restarts == 1, "{before} {after} {restarts}");
    let pod = cluster.get(&["pod", "one"]);
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(cluster.kubectl(&["logs", "one", "--previous"]), "run\n");
}

#[test]
fn restarts_of_mizzen_restart_nothing_else() {
    let Some(mut cluster) = running() else { return };
    let status = read(&first_process(&cluster), "status");
    assert!(status.contains("THP_enabled:\t1"), "the server's setting of huge pages is not handed on: {status}");
    let before = container(&cluster);
    for signal in ["TERM", "KILL"] {
        let took = cluster.stop_server(signal);
        assert!(took < Duration::from_secs(2), "{signal}: {took:?}");
        cluster.start_server();
        cluster.kubectl(&["wait", "pod/one", "--for=condition=Ready", "--timeout=30s"]);
        assert_eq!(container(&cluster), before, "{signal}");
        assert_eq!(cluster.kubectl(&["logs", "one"]), "run\n");
    }
}

#[test]
fn down_leaves_nothing_and_can_be_said_twice() {
    let Some(mut cluster) = running() else { return };
    let data = cluster.path("data");
    let data = data.to_str().unwrap();
    let busy = cluster.mizzen(&["down", "--data-dir", data]);
    assert!(!busy.status.success() && text(&busy).contains("in use"), "{}", text(&busy));
    let pid = first_process(&cluster);
    cluster.stop_server("TERM");
    for _ in 0..2 {
        let down = cluster.mizzen(&["down", "--data-dir", data]);
        assert!(down.status.success(), "{}", text(&down));
    }
    // Whoever inherits the process may take its time to reap it.
    let state = read(&pid, "stat").rsplit_once(") ").map(|(_, rest)| rest[..1].to_string());
    assert!(state.as_deref().is_none_or(|s| s == "Z"), "the container's process {pid} is still there: {state:?}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(data), "{mounts}");
    let links = cluster.command("ip".as_ref()).args(["-o", "link"]).output().unwrap();
    assert_eq!(text(&links).lines().count(), 2, "{}", text(&links));
    cluster.start_server();
    cluster.kubectl(&["wait", "pod/one", "--for=condition=Ready", "--timeout=30s"]);
}

#[test]
fn a_second_mizzen_is_refused_with_one_line() {
    let Some(cluster) = Cluster::start() else { return };
    let data = cluster.path("data");
    let same = cluster.mizzen(&["up", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:7443"]);
    assert_eq!((same.status.code(), text(&same).lines().count()), (Some(1), 1), "{}", text(&same));
    assert!(text(&same).contains("in use by another process"), "{}", text(&same));
    let other = cluster.path("other");
    let port = cluster.mizzen(&["up", "--data-dir", other.to_str().unwrap()]);
    assert!(port.status.code() == Some(1) && text(&port).contains("--listen"), "{}", text(&port));
    let flag = cluster.mizzen(&["up", "--no-such-flag"]);
    assert_eq!(flag.status.code(), Some(2));
}

/// The pid on the host of the pod's first process.
fn first_process(cluster: &Cluster) -> String {
    let uid = cluster.get(&["pod", "one"])["metadata"]["uid"].as_str().unwrap().to_string();
    let shim = format!("{}/run/{uid}", cluster.path("data").display());
    let shim = pids().into_iter().find(|pid| read(pid, "cmdline").contains(&shim)).expect("the pod's shim");
    let children = |pid: &String| {
        read(pid, "stat").rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(2).map(String::from))
    };
    pids()
        .into_iter()
        .find(|pid| children(pid).as_ref() == Some(&shim) && read(pid, "cmdline").starts_with("sleep"))
        .expect("the container's process")
}

fn pids() -> Vec<String> {
    let names = std::fs::read_dir("/proc").unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|n| n.bytes().all(|b| b.is_ascii_digit())).collect()
}

fn read(pid: &str, file: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()).into_owned()
}
