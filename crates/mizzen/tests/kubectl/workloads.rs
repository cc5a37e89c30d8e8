//! What people do with services: deploy, reach, look inside, roll out and back, scale, delete.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::cluster::{Cluster, kubectl, text};

/// Three web servers that answer with their host name and a greeting from a ConfigMap, behind a Service with a node port.
const WEB: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: greeting}
data: {word: hello}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: web
        image: busybox:1
        command: [sh, -c, 'echo "$WORD $(hostname)" > /www/index.html; echo started; exec httpd -f -p 8080 -h /www']
        env: [{name: WORD, valueFrom: {configMapKeyRef: {name: greeting, key: word}}}]
        ports: [{containerPort: 8080, name: http}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 1}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: http, nodePort: 30080}]
"#;

fn deployed() -> Option<Cluster> {
    let cluster = Cluster::start()?;
    cluster.apply(WEB);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=30s"]);
    Some(cluster)
}

#[test]
fn a_service_is_reached_by_address_name_and_node_port() {
    let Some(cluster) = deployed() else { return };
    let ip = cluster.get(&["service", "web"])["spec"]["clusterIP"].as_str().unwrap().to_string();
    let pods = cluster.pods("app=web");
    for url in [format!("http://{ip}/"), "http://192.168.99.1:30080/".into(), "http://127.0.0.1:30080/".into()] {
        let mut answered: Vec<String> = (0..40).map(|_| cluster.fetch(&url).unwrap()).collect();
        answered.sort();
        answered.dedup();
        let expected: Vec<String> = pods.iter().map(|p| format!("hello {p}\n")).collect();
        assert_eq!(answered, expected, "{url}: each pod answers");
    }
    for url in [
        format!("http://{ip}/"),
        "http://web/".into(),
        "http://web.default.svc.cluster.local/".into(),
        "http://192.168.99.1:30080/".into(),
    ] {
        let answer = cluster.kubectl(&["exec", &pods[0], "--", "curl", "-sS", "-m", "3", &url]);
        assert!(answer.starts_with("hello web-"), "{url}: {answer}");
    }
    cluster.kubectl(&["scale", "deployment/web", "--replicas=0"]);
    cluster.until("refusal without endpoints", || {
        cluster.fetch(&format!("http://{ip}/")).is_err_and(|e| e.contains("refused") || e.contains("connect"))
    });
}

#[test]
fn one_looks_inside_with_logs_exec_cp_and_port_forward() {
    let Some(cluster) = deployed() else { return };
    let pod = &cluster.pods("app=web")[0];
    assert_eq!(cluster.kubectl(&["logs", pod]), "started\n");
    assert_eq!(cluster.kubectl(&["exec", pod, "--", "hostname"]), format!("{pod}\n"));
    let failed = cluster.try_kubectl(&["exec", pod, "--", "sh", "-c", "exit 7"]);
    assert_eq!(failed.status.code(), Some(7), "{}", text(&failed));
    let file = cluster.path("big");
    std::fs::write(&file, vec![b'x'; 3_000_000]).unwrap();
    cluster.kubectl(&["cp", file.to_str().unwrap(), &format!("{pod}:/tmp/big")]);
    let back = cluster.path("back");
    cluster.kubectl(&["cp", &format!("{pod}:/tmp/big"), back.to_str().unwrap()]);
    assert_eq!(std::fs::read(back).unwrap(), std::fs::read(file).unwrap());
    let mut forward = cluster.command(&kubectl().unwrap()).args(["port-forward", pod, "18080:8080"]).spawn().unwrap();
    cluster.until("port-forward", || {
        cluster.fetch("http://127.0.0.1:18080/").is_ok_and(|a| a == format!("hello {pod}\n"))
    });
    forward.kill().unwrap();
    forward.wait().unwrap();
}

#[test]
fn attach_speaks_with_the_first_process() {
    let Some(cluster) = Cluster::start() else { return };
    let pod = |name: &str, extra: &str, script: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{restartPolicy: Never, terminationGracePeriodSeconds: 1, \
             containers: [{{name: c, image: 'busybox:1', {extra} command: [sh, -c, '{script}']}}]}}\n---\n"
        )
    };
    cluster.apply(
        &[
            pod(
                "talks",
                "stdin: true, stdinOnce: true,",
                "while read word; do echo \"got $word\"; echo \"no $word\" >&2; done; echo over; exit 4",
            ),
            pod("ticks", "", "while sleep 0.1; do echo tick; done"),
        ]
        .concat(),
    );
    cluster.ready("talks");
    cluster.ready("ticks");
    // What is written comes in, both outputs come back, and the end of the input is the end of the container's.
    let output = cluster.kubectl_with(&["attach", "talks", "-i", "--quiet"], "one\ntwo\n");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("got one\ngot two\n") && err.contains("no one\nno two\n"), "{out}{err}");
    let ended =
        || cluster.get(&["pod", "talks"])["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].clone();
    cluster.until("the end of the container", || !ended().is_null());
    assert_eq!(ended(), 4);
    assert_eq!(cluster.kubectl(&["logs", "talks"]).matches("got ").count(), 2, "logs have what attach showed");
    // Without input it listens, and letting go leaves the container alone.
    let mut listening = cluster.command(&kubectl().unwrap());
    let mut listening = listening.args(["attach", "ticks", "--quiet"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(listening.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "tick");
    listening.kill().unwrap();
    listening.wait().unwrap();
    assert_eq!(cluster.get(&["pod", "ticks"])["status"]["containerStatuses"][0]["ready"], true);
    assert!(cluster.refused(&["attach", "talks"]).contains("cannot attach"), "a container that has ended takes nobody");
}

#[test]
fn top_shows_what_pods_and_the_node_use() {
    let Some(cluster) = Cluster::start() else { return };
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: busy, labels: {app: busy}}\nspec: {terminationGracePeriodSeconds: 0, \
        containers: [{name: c, image: 'busybox:1', command: [sh, -c, 'while :; do :; done'], resources: {limits: {cpu: 300m}}}]}\n";
    cluster.apply(pod);
    // Cores in thousandths: the second column of the line that starts with a name.
    let cores = |args: &[&str], name: &str| -> Option<u32> {
        let output = cluster.try_kubectl(args);
        let table = text(&output);
        let line = table.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.strip_suffix('m')?.parse().ok()
    };
    let used = || cores(&["top", "pods", "-l", "app=busy"], "busy").unwrap_or(0);
    // A machine that is busy otherwise gives less than the limit.
    cluster.until("use up to the limit", || (50..=400).contains(&used()));
    assert!(cores(&["top", "nodes"], "node").is_some_and(|node| node >= 50), "{}", cluster.kubectl(&["top", "nodes"]));
    assert!(cluster.refused(&["top", "pod", "none"]).contains("NotFound"));
}

#[test]
fn rollouts_go_forward_and_back() {
    let Some(cluster) = deployed() else { return };
    cluster.kubectl(&["set", "env", "deployment/web", "WORD=goodbye"]);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=30s"]);
    assert!(cluster.fetch("http://127.0.0.1:30080/").unwrap().starts_with("goodbye"));
    let history = cluster.kubectl(&["rollout", "history", "deployment/web"]);
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    cluster.kubectl(&["rollout", "undo", "deployment/web"]);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=30s"]);
    assert!(cluster.fetch("http://127.0.0.1:30080/").unwrap().starts_with("hello"));
    cluster.kubectl(&["scale", "deployment/web", "--replicas=5"]);
    cluster.kubectl(&["wait", "deployment/web", "--for=jsonpath={.status.availableReplicas}=5", "--timeout=30s"]);
    cluster.kubectl(&["delete", "deployment/web", "service/web", "--timeout=30s"]);
    cluster.until("the end of all pods", || cluster.pods("app=web").is_empty());
}

#[test]
fn a_rolling_update_loses_no_request() {
    let Some(cluster) = deployed() else { return };
    let stop = std::sync::atomic::AtomicBool::new(false);
    let failures = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut failures = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                failures.extend(cluster.fetch("http://127.0.0.1:30080/").err());
            }
            failures
        });
        cluster.kubectl(&["set", "env", "deployment/web", "WORD=two"]);
        cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=40s"]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        load.join().unwrap()
    });
    assert!(failures.is_empty(), "{failures:?}");
}

/// One pod that does nothing until it is told to burn.
const BUSY: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy}
spec:
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: c, image: 'busybox:1', command: [sh, -c, 'while :; do :; done'], resources: {requests: {cpu: 20m}, limits: {cpu: 100m}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: busy}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: busy}
  minReplicas: 1
  maxReplicas: 3
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
"#;

#[test]
fn an_autoscaler_follows_real_load() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(BUSY);
    cluster.kubectl(&["wait", "deployment/busy", "--for=jsonpath={.spec.replicas}=3", "--timeout=120s"]);
    let autoscaler = cluster.get(&["hpa", "busy"]);
    let conditions = autoscaler["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "ScalingActive" && c["status"] == "True"), "{autoscaler:#}");
    assert!(cluster.kubectl(&["describe", "hpa", "busy"]).contains("SuccessfulRescale"));
    assert!(cluster.kubectl(&["get", "hpa", "busy"]).contains("Deployment/busy"));
}
