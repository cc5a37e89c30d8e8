//! The whole agent against a world in memory.

mod fakes;
mod plugin;

use std::sync::Arc;
use std::time::Duration;

use fakes::{FakeApi, FakeDriver, FakeImages, FakeNetwork};
use mizzen_agent::{Agent, Config};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PODS: &str = "/api/v1/namespaces/d/pods";

struct World {
    api: Arc<FakeApi>,
    driver: Arc<FakeDriver>,
    network: Arc<FakeNetwork>,
    stop: CancellationToken,
    agent: JoinHandle<()>,
    dir: Option<tempfile::TempDir>,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::over(FakeApi::new(), FakeDriver::new(), dir).await
    }

    async fn over(api: Arc<FakeApi>, driver: Arc<FakeDriver>, dir: tempfile::TempDir) -> Self {
        let network = Arc::new(FakeNetwork::default());
        let mut config = Config::new("n1", vec!["192.0.2.1".parse().unwrap()], dir.path());
        config.cluster_dns = vec!["10.96.0.10".parse().unwrap()];
        config.reserved_memory_bytes = 0;
        let agent = Agent::new(config, api.clone(), driver.clone(), Arc::new(FakeImages), network.clone());
        let stop = CancellationToken::new();
        let token = stop.clone();
        let agent = tokio::spawn(async move { agent.run(token).await.unwrap() });
        Self { api, driver, network, stop, agent, dir: Some(dir) }
    }

    /// Stops the agent; what it left behind.
    async fn stop(mut self) -> (Arc<FakeApi>, Arc<FakeDriver>, tempfile::TempDir) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(2), self.agent).await.expect("stops in time").unwrap();
        (self.api, self.driver, self.dir.take().unwrap())
    }

    fn pod(&self, name: &str, spec: Value) -> String {
        let mut full = json!({"nodeName": "n1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 30});
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let path = format!("{PODS}/{name}");
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d", "generation": 1},
            "spec": full, "status": {"phase": "Pending", "qosClass": "BestEffort"}});
        self.api.put(&path, object);
        path
    }

    async fn ready(&self, path: &str) -> Value {
        self.api.wait(path, "ready", is_ready).await
    }

    fn delete(&self, path: &str, grace: i64) {
        let mut pod = self.api.get(path).unwrap();
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace);
        pod["metadata"]["deletionTimestamp"] = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        self.api.put(path, pod);
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_runs_heals_and_goes() {
    let world = World::start().await;
    let node = world.api.wait("/api/v1/nodes/n1", "registered", |n| n["status"]["nodeInfo"].is_object()).await;
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    world
        .api
        .wait("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", "leased", Value::is_object)
        .await;

    let path = world.pod(
        "web",
        json!({"containers": [{"name": "c", "image": "web:1",
        "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}]}),
    );
    let pod = world.ready(&path).await;
    let status = &pod["status"];
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "10.1.0.2");
    assert_eq!(status["hostIP"], "192.0.2.1");
    let container = &status["containerStatuses"][0];
    assert!(container["containerID"].as_str().unwrap().starts_with("mizzen://"), "{container}");
    assert_eq!(container["imageID"], "web:1@sha256:2");
    let running = world.driver.running();
    assert_eq!(running[0].args, ["/serve"]);
    for line in ["FROM=image", "IP=10.1.0.2", "HOSTNAME=web"] {
        assert!(running[0].env.iter().any(|e| e == line), "{line} not in {:?}", running[0].env);
    }
    let pod_dir = world.dir.as_ref().unwrap().path().join("pods").join(pod["metadata"]["uid"].as_str().unwrap());
    let resolver = std::fs::read_to_string(pod_dir.join("resolv.conf")).unwrap();
    assert!(resolver.starts_with("nameserver 10.96.0.10\nsearch d.svc.cluster.local"), "{resolver}");

    // Killed: another takes its place at once.
    let died = std::time::Instant::now();
    world.driver.exit("c", 137);
    let healed = world
        .api
        .wait(&path, "healed", |p| is_ready(p) && p["status"]["containerStatuses"][0]["restartCount"] == 1)
        .await;
    eprintln!("healed after {:?}", died.elapsed());
    assert_eq!(healed["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);

    world.delete(&path, 30);
    world.api.wait(&path, "gone", Value::is_null).await;
    world.api.wait("", "cleaned up", |_| world.driver.sandboxes() == 0 && !pod_dir.exists()).await;
    assert_eq!(*world.driver.signals.lock().unwrap(), [("c".to_string(), 15)]);
    assert!(world.network.attached.lock().unwrap().is_empty());
    let mut reasons: Vec<String> = Vec::new();
    for event in world.api.list("/api/v1/namespaces/d/events/") {
        reasons.push(event["reason"].as_str().unwrap().to_string());
    }
    for reason in ["Pulled", "Created", "Started", "Killing"] {
        assert!(reasons.iter().any(|r| r == reason), "{reason} not in {reasons:?}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_show_objects_and_follow_them() {
    let world = World::start().await;
    let map = "/api/v1/namespaces/d/configmaps/settings";
    let object = |v: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "d"}, "data": {"k": v}});
    let path = world.pod(
        "vol",
        json!({"containers": [{"name": "c", "image": "web:1",
            "envFrom": [{"configMapRef": {"name": "settings"}}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "settings"}},
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]}}]}),
    );
    // The ConfigMap is not there yet: the pod waits for it, without polling.
    world
        .api
        .wait("", "told", |_| {
            world.api.list("/api/v1/namespaces/d/events/").iter().any(|e| e["reason"] == "FailedMount")
        })
        .await;
    world.api.put(map, object("one"));
    world.ready(&path).await;
    let running = world.driver.running();
    assert!(running[0].env.contains(&"k=one".to_string()));
    let mount = running[0].mounts.iter().find(|m| m.destination == "/v").unwrap();
    let mizzen_runtime::spec::MountSource::Bind(dir) = mount.source.clone() else { panic!("{mount:?}") };
    assert_eq!(std::fs::read_to_string(dir.join("token")).unwrap(), "a-token");
    assert_eq!(std::fs::read_to_string(dir.join("k")).unwrap(), "one");
    world.api.put(map, object("two"));
    world.api.wait("", "shown", |_| std::fs::read_to_string(dir.join("k")).is_ok_and(|t| t == "two")).await;
    world.delete(&path, 1);
    world.api.wait(&path, "gone", Value::is_null).await;
    world.api.wait("", "cleaned up", |_| !dir.exists()).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_in_the_status() {
    let world = World::start().await;
    let state = |p: &Value| p["status"]["containerStatuses"][0]["state"].clone();
    let missing = world.pod("no-image", json!({"containers": [{"name": "c", "image": "missing:1"}]}));
    world.api.wait(&missing, "waiting for its image", |p| state(p)["waiting"]["reason"] == "ErrImagePull").await;
    let command =
        world.pod("no-command", json!({"containers": [{"name": "c", "image": "web:1", "command": ["missing"]}]}));
    let pod = world.api.wait(&command, "backing off", |p| state(p)["waiting"]["reason"] == "CrashLoopBackOff").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"], "StartError");
    let config = world.pod(
        "no-config",
        json!({"containers": [{"name": "c", "image": "web:1",
        "envFrom": [{"secretRef": {"name": "nothing"}}]}]}),
    );
    let pod = world
        .api
        .wait(&config, "waiting for its secret", |p| state(p)["waiting"]["reason"] == "CreateContainerConfigError")
        .await;
    assert_eq!(state(&pod)["waiting"]["message"], "secret \"nothing\" not found");
    let large = world.pod(
        "too-large",
        json!({"containers": [{"name": "c", "image": "web:1",
        "resources": {"requests": {"cpu": "10000"}}}]}),
    );
    world
        .api
        .wait(&large, "rejected", |p| p["status"]["reason"] == "OutOfcpu" && p["status"]["phase"] == "Failed")
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlived_the_agent_is_adopted() {
    let world = World::start().await;
    let path = world.pod("stays", json!({"containers": [{"name": "c", "image": "web:1"}]}));
    let gone = world.pod("goes", json!({"containers": [{"name": "g", "image": "web:1"}]}));
    let before = world.ready(&path).await;
    world.ready(&gone).await;
    let (api, driver, dir) = world.stop().await;
    assert_eq!(driver.running().len(), 2, "containers go on without the agent");

    api.remove(&gone);
    let driver = FakeDriver::succeeding(&driver);
    let world = World::over(api, driver, dir).await;
    world.api.wait("", "orphan removed", |_| world.driver.sandboxes() == 1).await;
    let id = |p: &Value| p["status"]["containerStatuses"][0]["containerID"].clone();
    assert_eq!(world.driver.running().len(), 1);
    assert!(id(&before).as_str().unwrap().ends_with(&world.driver.running()[0].id), "nothing restarted");
    world.driver.exit("c", 1);
    let after = world
        .api
        .wait(&path, "healed", |p| p["status"]["containerStatuses"][0]["restartCount"] == 1 && is_ready(p))
        .await;
    assert_ne!(id(&before), id(&after));
    assert_eq!(after["status"]["containerStatuses"][0]["lastState"]["terminated"]["containerID"], id(&before));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_reach_the_network() {
    let world = World::start().await;
    world.api.put(
        "/api/v1/namespaces/d/services/s",
        json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "s", "namespace": "d"}, "spec": {"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
        "ports": [{"port": 80, "protocol": "TCP"}]}}),
    );
    world.api.put("/apis/discovery.k8s.io/v1/namespaces/d/endpointslices/s-1", json!({"apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice", "metadata": {"name": "s-1", "namespace": "d", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.0.9"]}], "ports": [{"name": "", "port": 8080}]}));
    world
        .api
        .wait("", "programmed", |_| {
            let table = world.network.table.lock().unwrap();
            table.ports.get("d/s:").is_some_and(|p| p.internal_endpoints == ["10.1.0.9:8080".parse().unwrap()])
        })
        .await;
    world.api.wait("", "named", |_| world.network.zone.lock().unwrap().services.len() == 1).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resize_waits_for_room() {
    let world = World::start().await;
    let node = world.api.wait("/api/v1/nodes/n1", "registered", |n| n["status"]["allocatable"].is_object()).await;
    let cores: i64 = node["status"]["allocatable"]["cpu"].as_str().unwrap().parse().unwrap();
    let cpu = |millis: i64| json!({"requests": {"cpu": format!("{millis}m")}});
    let spec =
        |name: &str, millis: i64| json!({"containers": [{"name": name, "image": "web:1", "resources": cpu(millis)}]});
    let large = world.pod("large", spec("l", cores * 1000 - 500));
    let small = world.pod("small", spec("s", 100));
    world.ready(&large).await;
    world.ready(&small).await;
    let resize = |millis: i64| {
        let mut pod = world.api.get(&small).unwrap();
        pod["spec"]["containers"][0]["resources"] = cpu(millis);
        pod["metadata"]["generation"] = (pod["metadata"]["generation"].as_i64().unwrap() + 1).into();
        world.api.put(&small, pod);
    };
    let pending = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|c| c["type"] == "PodResizePending").unwrap_or_default()
    };
    resize(cores * 1000 + 100);
    world.api.wait(&small, "called infeasible", |p| pending(p)["reason"] == "Infeasible").await;
    resize(900);
    let deferred = world.api.wait(&small, "deferred", |p| pending(p)["reason"] == "Deferred").await;
    assert_eq!(pending(&deferred)["observedGeneration"], 3);
    assert_eq!(deferred["status"]["containerStatuses"][0]["allocatedResources"]["cpu"], "100m");
    world.delete(&large, 0);
    let done = |p: &Value| p["status"]["containerStatuses"][0]["resources"]["requests"]["cpu"] == "900m";
    let resized = world.api.wait(&small, "resized", |p| done(p) && pending(p).is_null()).await;
    assert_eq!(resized["status"]["containerStatuses"][0]["allocatedResources"]["cpu"], "900m");
    assert_eq!(resized["status"]["containerStatuses"][0]["restartCount"], 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_of_plugins_are_given_once() {
    let world = World::start().await;
    let node = |device: &str| {
        let (api, device) = (Arc::clone(&world.api), device.to_string());
        async move {
            let shows = |n: &Value| n["status"]["allocatable"]["example.com/light"] == device.as_str();
            api.wait("/api/v1/nodes/n1", "showing devices", shows).await
        }
    };
    world.api.wait("/api/v1/nodes/n1", "registered", Value::is_object).await;
    let directory = world.dir.as_ref().unwrap().path().join("kubelet/device-plugins");
    let plugin = plugin::Plugin::start(&directory, &[("a", true), ("b", true), ("c", false)]).await;
    let shown = node("2").await;
    assert_eq!(shown["status"]["capacity"]["example.com/light"], "3");

    let asking = |name: &str, count: &str| json!({"containers": [{"name": name, "image": "web:1", "resources": {"limits": {"example.com/light": count}}}]});
    let first = world.pod("first", asking("one", "1"));
    world.ready(&first).await;
    let running = world.driver.running();
    assert!(running[0].env.contains(&"LIGHT=b".to_string()), "the plugin prefers b: {:?}", running[0].env);
    assert_eq!(
        (running[0].devices[0].container_path.as_str(), running[0].devices[0].permissions.as_str()),
        ("/dev/light", "rw")
    );
    assert!(running[0].mounts.iter().any(|m| m.destination == "/light" && m.read_only));
    let second = world.pod("second", asking("two", "2"));
    let why =
        |p: &Value| p["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().map(str::to_string);
    let waiting = world.api.wait(&second, "told", |p| why(p).is_some_and(|w| w.contains("Available: 1"))).await;
    assert!(why(&waiting).unwrap().contains("example.com/light. Requested: 2"), "{waiting}");

    // A container that starts again keeps its device; an unhealthy one is no longer offered.
    world.driver.exit("one", 1);
    world.api.wait(&first, "healed", |p| is_ready(p) && p["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    assert!(world.driver.running().iter().all(|c| c.name != "one" || c.env.contains(&"LIGHT=b".to_string())));
    plugin.say(&[("a", false), ("b", true), ("c", false)]);
    node("1").await;

    // The agent starts anew: it finds the plugin again, and knows who has what.
    let (api, driver, dir) = world.stop().await;
    let world = World::over(api, FakeDriver::succeeding(&driver), dir).await;
    plugin.say(&[("a", true), ("b", true), ("c", true)]);
    let full = |n: &Value| n["status"]["allocatable"]["example.com/light"] == "3";
    world.api.wait("/api/v1/nodes/n1", "offering all", full).await;
    world.api.wait(&second, "given its devices", is_ready).await;
    let two = world.driver.running().into_iter().find(|c| c.name == "two").unwrap();
    assert!(two.env.contains(&"LIGHT=a,c".to_string()), "{:?}", two.env);
    drop(plugin);
    let none = |n: &Value| n["status"]["allocatable"]["example.com/light"] == "0";
    world.api.wait("/api/v1/nodes/n1", "without a plugin", none).await;
    world.stop().await;
}
