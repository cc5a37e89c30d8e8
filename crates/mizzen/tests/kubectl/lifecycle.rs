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
    cluster.ready("one");
    Some(cluster)
}

/// The pod's container: its id, and how often it was restarted.
fn container(cluster: &Cluster, pod: &str) -> (String, i64) {
    let pod = cluster.get(&["pod", pod]);
    let status = &pod["status"]["containerStatuses"][0];
    (status["containerID"].as_str().unwrap_or_default().to_string(), status["restartCount"].as_i64().unwrap_or(-1))
}

fn is_ready(cluster: &Cluster, pod: &str) -> bool {
    cluster.get(&["pod", pod])["status"]["containerStatuses"][0]["ready"] == true
}

fn kill(pid: &str) {
    assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
}

#[test]
fn a_killed_container_is_started_again() {
    let Some(cluster) = running() else { return };
    let (before, _) = container(&cluster, "one");
    let status = cluster.try_kubectl(&["exec", "one", "--", "sh", "-c", "kill -9 1; kill -TERM 1"]);
    drop(status); // The exec may end with the container.
    kill(&first_process(&cluster, "one"));
    cluster.until("a restart", || container(&cluster, "one").1 >= 1);
    let (after, restarts) = container(&cluster, "one");
    assert!(after != before && restarts == 1, "{before} {after} {restarts}");
    let pod = cluster.get(&["pod", "one"]);
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(cluster.kubectl(&["logs", "one", "--previous"]), "run\n");
}

#[test]
fn a_killed_shim_costs_its_own_pod_a_restart_and_no_other() {
    let Some(cluster) = running() else { return };
    cluster.apply(&POD.replace("one", "two"));
    cluster.ready("two");
    let (before, other) = (container(&cluster, "one"), container(&cluster, "two"));
    let ip = |pod: &str| cluster.get(&["pod", pod])["status"]["podIP"].as_str().unwrap_or_default().to_string();
    let (process, bystander) = (first_process(&cluster, "one"), first_process(&cluster, "two"));
    kill(&shim(&cluster, "one"));
    cluster.until("the pod healed", || container(&cluster, "one").1 == 1 && is_ready(&cluster, "one"));
    assert_ne!(container(&cluster, "one").0, before.0);
    assert!(!read(&process, "cmdline").starts_with("sleep"), "the container of a killed shim lives on");
    assert_eq!(cluster.kubectl(&["exec", "one", "--", "echo", "hello"]), "hello\n");
    assert_eq!((container(&cluster, "two"), first_process(&cluster, "two")), (other, bystander));
    assert_ne!(ip("one"), ip("two"));
    let events = cluster.kubectl(&["events", "--for", "pod/one"]);
    assert!(events.contains("SandboxChanged"), "{events}");
}

#[test]
fn restarts_of_mizzen_restart_nothing_else() {
    let Some(mut cluster) = running() else { return };
    let status = read(&first_process(&cluster, "one"), "status");
    assert!(status.contains("THP_enabled:\t1"), "the server's setting of huge pages is not handed on: {status}");
    let before = container(&cluster, "one");
    for signal in ["TERM", "KILL"] {
        let took = cluster.stop_server(signal);
        assert!(took < Duration::from_secs(2), "{signal}: {took:?}");
        cluster.start_server();
        cluster.ready("one");
        assert_eq!(container(&cluster, "one"), before, "{signal}");
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
    let pid = first_process(&cluster, "one");
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
    cluster.ready("one");
}

#[test]
fn a_kernel_without_a_feature_is_told_in_one_line() {
    let Some(cluster) = Cluster::start() else { return };
    // A user namespace with a limit of its own on network namespaces; a mount namespace that sees no control groups.
    for (hide, wrap, feature) in [
        ("echo 0 > /proc/sys/user/max_net_namespaces", &["--user", "--map-root-user"][..], "network namespaces"),
        ("umount --lazy /sys/fs/cgroup", &["--mount"][..], "control groups"),
    ] {
        let data = cluster.path("lacks");
        let script = format!(
            "{hide} && exec {} up --listen 127.0.0.1:7443 --data-dir {}",
            env!("CARGO_BIN_EXE_mizzen"),
            data.display()
        );
        let output = cluster.command("unshare".as_ref()).args(wrap).args(["sh", "-c", &script]).output().unwrap();
        let said = text(&output);
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.starts_with(&format!("mizzen: this kernel lacks {feature} (")), "{said}");
        assert!(!data.exists(), "something was made before the kernel was looked at");
    }
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

/// The pid of the pod's shim.
fn shim(cluster: &Cluster, pod: &str) -> String {
    let uid = cluster.get(&["pod", pod])["metadata"]["uid"].as_str().unwrap().to_string();
    let run = format!("{}/run/{uid}", cluster.path("data").display());
    pids().into_iter().find(|pid| read(pid, "cmdline").contains(&run)).expect("the pod's shim")
}

/// The pid on the host of the pod's first process.
fn first_process(cluster: &Cluster, pod: &str) -> String {
    let shim = shim(cluster, pod);
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
