//! What a node does for pods: volumes of all kinds, the host's network and ports, limits, usage, a full disk.

use std::path::Path;
use std::process::Command;

use super::cluster::{Cluster, text};

/// One pod with every kind of volume; it tells what it sees and stays.
const VOLUMES: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {word: hush}
---
apiVersion: v1
kind: Pod
metadata: {name: volumes, labels: {tier: front}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: first, image: 'busybox:1', command: [sh, -c, 'echo before > /shared/file'], volumeMounts: [{name: disk, mountPath: /shared}]}
  containers:
  - name: c
    image: busybox:1
    command: [sleep, "1000"]
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    env:
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    volumeMounts:
    - {name: disk, mountPath: /shared}
    - {name: memory, mountPath: /memory}
    - {name: settings, mountPath: /settings}
    - {name: password, mountPath: /password, readOnly: true}
    - {name: facts, mountPath: /facts}
    - {name: all, mountPath: /all}
    - {name: host, mountPath: /host}
    - {name: image, mountPath: /image}
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
  - {name: settings, configMap: {name: settings}}
  - {name: password, secret: {secretName: password, defaultMode: 0400}}
  - {name: facts, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - name: all
    projected:
      sources:
      - configMap: {name: settings}
      - secret: {name: password}
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
  - {name: host, hostPath: {path: /etc/debian_version, type: File}}
  - {name: image, image: {reference: 'busybox:1'}}
"#;

#[test]
fn volumes_and_environment_hold_what_they_should() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(VOLUMES);
    cluster.ready("volumes");
    let run = |script: &str| cluster.kubectl(&["exec", "volumes", "-c", "c", "--", "sh", "-c", script]);
    for (script, expected) in [
        ("cat /shared/file", "before\n"),
        ("cat /settings/colour", "blue"),
        ("cat /password/word", "hush"),
        ("cat /facts/labels", "tier=\"front\""),
        ("cat /all/colour /all/word", "bluehush"),
        ("test -s /all/token && echo yes", "yes\n"),
        ("test -s /host && echo yes", "yes\n"),
        ("test -x /image/bin/busybox && echo yes", "yes\n"),
        ("echo $NODE $LIMIT", "node 67108864\n"),
        ("cat /var/run/secrets/kubernetes.io/serviceaccount/namespace", "default"),
    ] {
        assert_eq!(run(script), expected, "{script}");
    }
    assert!(
        text(&cluster.try_kubectl(&["exec", "volumes", "-c", "c", "--", "touch", "/image/x"])).contains("Read-only")
    );
    cluster.kubectl(&["patch", "configmap", "settings", "-p", r#"{"data":{"colour":"green"}}"#]);
    cluster.until("the changed ConfigMap in the volume", || run("cat /settings/colour") == "green");
    let curl = "curl -sS -m 3 --cacert /var/run/secrets/kubernetes.io/serviceaccount/ca.crt \
        -H \"Authorization: Bearer $(cat /var/run/secrets/kubernetes.io/serviceaccount/token)\" https://kubernetes.default/api/v1/pods";
    assert!(run(curl).contains("cannot list resource \\\"pods\\\""), "{}", run(curl));
}

#[test]
fn host_network_and_host_ports_are_reached() {
    let Some(cluster) = Cluster::start() else { return };
    let pod = |name: &str, extra: &str, port: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {extra}\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
             - {{name: c, image: 'busybox:1', command: [sh, -c, 'echo {name} > /www/index.html; exec httpd -f -p {port} -h /www'], \
             ports: [{{containerPort: {port}, hostPort: {port}}}]}}\n"
        )
    };
    cluster.apply(&pod("shared", "hostNetwork: true", "8081"));
    cluster.apply(&pod("mapped", "dnsPolicy: Default", "8082"));
    for (name, url) in [
        ("shared", "http://127.0.0.1:8081/"),
        ("mapped", "http://192.168.99.1:8082/"),
        ("mapped", "http://127.0.0.1:8082/"),
    ] {
        cluster.until(url, || cluster.fetch(url).is_ok_and(|body| body == format!("{name}\n")));
    }
    let shared = cluster.get(&["pod", "shared"]);
    assert_eq!(shared["status"]["podIP"], shared["status"]["hostIP"]);
    cluster.apply(&pod("third", "dnsPolicy: Default", "8082"));
    let why = || {
        cluster.kubectl(&[
            "get",
            "pod",
            "third",
            "-o",
            "jsonpath={.status.conditions[?(@.type=='PodScheduled')].message}",
        ])
    };
    cluster.until("a taken port being told", || why().contains("didn't have free ports"));
}

#[test]
fn limits_are_the_kernels() {
    let Some(cluster) = Cluster::start() else { return };
    let limits = "resources: {requests: {cpu: 100m}, limits: {cpu: 250m, memory: 48Mi}}";
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: limited}}\nspec: {{terminationGracePeriodSeconds: 0, containers: \
         [{{name: c, image: 'busybox:1', command: [sleep, '1000'], {limits}}}]}}\n"
    ));
    cluster.ready("limited");
    // The container sees its own group as the root of all.
    let (v1, v2) = (
        "cat cpu/cpu.shares cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes",
        "cat cpu.weight cpu.max memory.max memory.swap.max",
    );
    let is_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let (files, expected) = if is_v2 { (v2, "4\n25000 100000\n50331648\n0\n") } else { (v1, "102\n25000\n50331648\n") };
    let read =
        |files: &str| cluster.kubectl(&["exec", "limited", "--", "sh", "-c", &format!("cd /sys/fs/cgroup && {files}")]);
    assert_eq!(read(files), expected);
    let resize =
        r#"{"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}}]}}"#;
    cluster.kubectl(&["patch", "pod", "limited", "--subresource", "resize", "-p", resize]);
    let limit = if is_v2 { "cat cpu.max memory.max" } else { "cat cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes" };
    let expected = if is_v2 { "50000 100000\n67108864\n" } else { "50000\n67108864\n" };
    cluster.until("the new limits", || read(limit) == expected);
    let far = r#"{"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "9000"}, "limits": {"cpu": "9000"}}}]}}"#;
    let refused = cluster.try_kubectl(&["patch", "pod", "limited", "--subresource", "resize", "-p", far]);
    assert!(text(&refused).contains("node didn't have enough allocatable resources: cpu"), "{}", text(&refused));
    // Less memory than is in use is not given; the pod says so and goes on.
    let fill = "dd if=/dev/zero of=/dev/shm/x bs=1M count=24";
    cluster.kubectl(&["exec", "limited", "--", "sh", "-c", fill]);
    let shrink = r#"{"spec": {"containers": [{"name": "c", "resources": {"requests": {"memory": "16Mi"}, "limits": {"memory": "16Mi"}}}]}}"#;
    cluster.kubectl(&["patch", "pod", "limited", "--subresource", "resize", "-p", shrink]);
    let condition = |field: &str| {
        let path = format!("jsonpath={{.status.conditions[?(@.type=='PodResizeInProgress')].{field}}}");
        cluster.kubectl(&["get", "pod", "limited", "-o", &path])
    };
    cluster.until("the refusal of the kernel's limit", || condition("reason") == "Error");
    assert!(condition("message").contains("memory limit (16777216) below current usage"), "{}", condition("message"));
    cluster.kubectl(&["exec", "limited", "--", "sh", "-c", "> /dev/shm/x"]);
    cluster.until("the end of the resize", || condition("status").is_empty());
}

#[test]
fn root_in_a_user_namespace_is_nobody_outside() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: b}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: apart}\nspec:\n  hostUsers: false\n  terminationGracePeriodSeconds: 0\n  \
         volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory}}, {name: map, configMap: {name: settings}}]\n  \
         containers:\n  - {name: c, image: 'busybox:1', command: [sleep, '1000'], securityContext: {procMount: Unmasked},\n     \
         volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}, {name: map, mountPath: /map}]}\n",
    );
    cluster.ready("apart");
    let run = |script: &str| cluster.kubectl(&["exec", "apart", "--", "sh", "-c", script]);
    let map = run("cat /proc/self/uid_map /proc/self/gid_map");
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!((words[0], words[2], words[3], words[5]), ("0", "65536", "0", "65536"), "{map}");
    assert_ne!(words[1], "0", "{map}");
    assert_eq!(
        run("id -u; cat /map/a; touch /disk/x /memory/x /x; stat -c %u /disk/x /memory/x /x /map/a"),
        "0\nb0\n0\n0\n0\n"
    );
    assert_eq!(run("wget -qO- http://127.0.0.1:1 2>&1 | head -c 4; test -w /proc/sys/net && echo open"), "wgetopen\n");
    let other = "apiVersion: v1\nkind: Pod\nmetadata: {name: bare}\nspec: {containers: [{name: c, image: 'busybox:1', \
        securityContext: {procMount: Unmasked}}]}\n";
    let refused = text(&cluster.kubectl_with(&["apply", "-f", "-"], other));
    assert!(refused.contains("`hostUsers` must be false to use `Unmasked`"), "{refused}");
}

#[test]
fn memory_limits_hold() {
    let Some(cluster) = Cluster::start() else { return };
    let spec = "{restartPolicy: Never, containers: [{name: c, image: 'busybox:1', resources: {limits: {memory: 16Mi}}, \
        command: [sh, -c, 'x=x; while true; do x=$x$x; done']}]}";
    cluster.apply(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: greedy}}\nspec: {spec}\n"));
    let ended = || cluster.get(&["pod", "greedy"])["status"]["containerStatuses"][0]["state"]["terminated"].clone();
    cluster.until("the end of the greedy pod", || !ended().is_null());
    assert_eq!((&ended()["reason"], &ended()["exitCode"]), (&"OOMKilled".into(), &137.into()), "{}", ended());
}

#[test]
fn a_full_disk_refuses_writes_and_recovers() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.stop_server("TERM");
    // The same server over a small file system of its own.
    let small = cluster.path("small");
    std::fs::create_dir(&small).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "mizzen-test"]).arg(&small).status().unwrap();
    assert!(mounted.success());
    let unmount = Unmount(small.clone());
    std::fs::create_dir(small.join("store")).unwrap();
    std::fs::remove_dir_all(cluster.path("data/store")).unwrap();
    std::os::unix::fs::symlink(small.join("store"), cluster.path("data/store")).unwrap();
    cluster.start_server();
    let body = "x".repeat(500_000);
    std::fs::write(cluster.path("body"), &body).unwrap();
    let file = format!("--from-file=body={}", cluster.path("body").display());
    let mut kept = 0;
    let refusal = loop {
        let output = cluster.try_kubectl(&["create", "configmap", &format!("c{kept}"), &file]);
        if !output.status.success() {
            break text(&output);
        }
        kept += 1;
        assert!(kept < 100, "the disk never filled");
    };
    assert!(refusal.contains("no space"), "{refusal}");
    assert_eq!(
        cluster.get(&["configmaps"])["items"].as_array().unwrap().len(),
        kept + 1,
        "the CA's and all acknowledged"
    );
    let resized = Command::new("mount").args(["-o", "remount,size=200m"]).arg(&small).status().unwrap();
    assert!(resized.success());
    cluster.until("writes after there is room", || {
        cluster.try_kubectl(&["create", "configmap", "after"]).status.success()
    });
    cluster.stop_server("KILL");
    cluster.start_server();
    assert_eq!(cluster.get(&["configmaps"])["items"].as_array().unwrap().len(), kept + 2);
    cluster.stop_server("TERM");
    drop(unmount);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        // Lazily, since a server of a failed test may still hold files.
        let _ = Command::new("umount").arg("-l").arg(Path::new(&self.0)).status();
    }
}
