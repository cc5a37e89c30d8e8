//! The agent over the embedded runtime and the real pod network, in a network namespace of its own.
//!
//! Needs root and Debian's busybox-static; says so and passes otherwise. This binary is also the shim of the pods it
//! starts, so it has a `main` of its own.

mod fakes;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fakes::FakeApi;
use futures_util::future::BoxFuture;
use mizzen_agent::context::Context;
use mizzen_agent::kubelet::logs;
use mizzen_agent::kubelet::routes::Routes;
use mizzen_agent::network::local::LocalNetwork;
use mizzen_agent::streaming::Sessions;
use mizzen_agent::{Agent, Config};
use mizzen_net::pod::{self, PodNetwork};
use mizzen_net::proxy::{self, Proxy};
use mizzen_runtime::images::*;
use mizzen_runtime::oci::{self, ImageLayers, LayersError, Oci};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const PODS: &str = "/api/v1/namespaces/d/pods";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|arg| arg == "shim") {
        return mizzen_runtime::shim::shim_main(args.skip(1));
    }
    if std::env::args().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
        println!("skipped: this test needs root and busybox-static (apt-get install busybox-static)");
        return ExitCode::SUCCESS;
    }
    // SAFETY: this process has a single thread as yet, so no other can be surprised by a new network namespace.
    let unshared = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(unshared, 0, "a network namespace of our own");
    let dir = tempfile::Builder::new().prefix("mizzen-agent").tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let oci_config = oci::Config {
        run_directory: data.join("run"),
        cgroup_root: format!("mizzen-agent-test-{}", std::process::id()),
        ..oci::Config::for_data_dir(&data)
    };
    // Dropped after the runtime, also when a test panics: an agent that still ran would heal what is taken away.
    let _clean = CleanUp { oci: oci_config.clone(), data: data.clone() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(90), all(data, oci_config)).await.expect("no end after 90 s")
    });
    println!("real: ok");
    ExitCode::SUCCESS
}

/// An image made of busybox, as image store and as its layers.
struct Busybox(PathBuf);

impl ImageLayers for Busybox {
    fn layers(&self, _: &str) -> Result<Vec<PathBuf>, LayersError> {
        Ok(vec![self.0.clone()])
    }
}

impl Busybox {
    fn make(root: &Path) -> Self {
        for name in ["bin", "etc", "tmp"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in ["sh", "sleep", "cat", "httpd", "true", "false", "wget", "id", "mount", "hostname", "ls"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        Self(root.to_path_buf())
    }

    fn image() -> Image {
        Image {
            id: "sha256:b".into(),
            config: ImageConfig { cmd: vec!["/bin/sleep".into(), "1000".into()], ..ImageConfig::default() },
            tags: vec!["busybox:1".into()],
            digests: vec!["busybox@sha256:b".into()],
            size_bytes: 1,
            last_used: 0,
            pinned: false,
        }
    }
}

impl ImageService for Busybox {
    fn ensure<'a>(
        &'a self,
        _: &'a str,
        _: PullPolicy,
        _: &'a [Credential],
    ) -> BoxFuture<'a, Result<Ensured, ImageError>> {
        Box::pin(async { Ok(Ensured { image: Self::image(), pulled: false, took_ms: 0 }) })
    }
    fn find<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Image>, ImageError>> {
        Box::pin(async { Ok(Some(Self::image())) })
    }
    fn list(&self) -> BoxFuture<'_, Result<Vec<Image>, ImageError>> {
        Box::pin(async { Ok(vec![Self::image()]) })
    }
    fn remove<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), ImageError>> {
        Box::pin(async { Ok(()) })
    }
    fn usage(&self) -> BoxFuture<'_, Result<ImageUsage, ImageError>> {
        Box::pin(async { Ok(ImageUsage::default()) })
    }
}

/// Takes away whatever is left, also when the test fails.
struct CleanUp {
    oci: oci::Config,
    data: PathBuf,
}

impl Drop for CleanUp {
    fn drop(&mut self) {
        if let Err(error) = Oci::clean_up(&self.oci) {
            eprintln!("clean up: {error}");
        }
        if let Err(error) = mizzen_agent::volume::clean_up(&self.data) {
            eprintln!("clean up: {error}");
        }
    }
}

struct World {
    api: Arc<FakeApi>,
    config: Config,
    net: pod::Config,
    oci: oci::Config,
    images: Arc<Busybox>,
}

impl World {
    async fn start(&self) -> (CancellationToken, tokio::task::JoinHandle<()>, Arc<Context>) {
        let driver = Arc::new(Oci::new(self.oci.clone(), Arc::new(Busybox(self.images.0.clone()))).expect("driver"));
        let pods = PodNetwork::open(self.net.clone()).await.expect("pod network");
        let cluster_cidrs = self.net.cluster_cidrs.clone();
        let proxy = Proxy::new(proxy::Config { instance: "agt".into(), pod_cidr: self.net.pod_cidr, cluster_cidrs });
        let network = Arc::new(LocalNetwork::new(pods, proxy, None));
        let agent = Agent::new(self.config.clone(), self.api.clone(), driver, self.images.clone(), network);
        let (stop, ctx) = (CancellationToken::new(), Arc::clone(agent.context()));
        let token = stop.clone();
        (stop, tokio::spawn(async move { agent.run(token).await.expect("agent") }), ctx)
    }

    fn pod(&self, name: &str, spec: Value) -> String {
        let mut full = json!({"nodeName": "n1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 2});
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let path = format!("{PODS}/{name}");
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d", "generation": 1,
            "labels": {"app": name}}, "spec": full, "status": {"phase": "Pending", "qosClass": "BestEffort"}});
        self.api.put(&path, object);
        path
    }

    async fn remove(&self, path: &str) {
        let mut pod = self.api.get(path).unwrap();
        pod["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
        pod["metadata"]["deletionTimestamp"] = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 2.into();
        self.api.put(path, pod);
        self.api.wait(path, "gone", Value::is_null).await;
    }

    fn log(&self, pod: &Value, container: &str) -> String {
        let text = |f: &str| pod["metadata"][f].as_str().unwrap().to_string();
        let dir = self.config.log_dir(&text("namespace"), &text("name"), &text("uid")).join(container);
        std::fs::read_to_string(dir.join("0.log")).unwrap_or_default()
    }
}

fn ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

async fn all(data: PathBuf, oci_config: oci::Config) {
    let images = Arc::new(Busybox::make(&data.with_file_name("image")));
    let cidr = |a: [u8; 4], n| mizzen_net::cidr::Cidr::new(a.into(), n).unwrap();
    let net = pod::Config {
        instance: "agt".into(),
        bridge: "agtbr0".into(),
        pod_cidr: cidr([10, 77, 0, 0], 24),
        cluster_cidrs: vec![cidr([10, 77, 0, 0], 16)],
        service_cidrs: vec![cidr([10, 96, 0, 0], 16)],
        mtu: 1500,
        state_dir: data.join("net"),
    };
    let mut config = Config::new("n1", vec!["192.0.2.1".parse().unwrap()], &data);
    config.reserved_memory_bytes = 0;
    let world = World { api: FakeApi::new(), config, net, oci: oci_config, images };
    let (stop, agent, ctx) = world.start().await;
    let (pods, feed) =
        mizzen_client::Reflector::new(world.api.clone(), mizzen_client::Selection::default(), stop.clone());
    let feed = tokio::spawn(feed);
    let routes = Routes::new(ctx, pods, Sessions::new(TaskTracker::new(), CancellationToken::new()));
    world.api.wait("/api/v1/nodes/n1", "registered", |n| n["status"]["nodeInfo"].is_object()).await;

    starts_quickly_and_heals(&world).await;
    shows_volumes(&world).await;
    probes_and_hooks(&world).await;
    runs_to_the_end(&world).await;
    follows_logs(&world, &routes).await;
    drop(routes);
    survives_the_agent(&world, stop, agent).await;
    feed.await.unwrap();
}

async fn starts_quickly_and_heals(world: &World) {
    let mut took = Vec::new();
    for round in 0..5 {
        let begun = Instant::now();
        let path = world.pod(&format!("quick-{round}"), json!({"containers": [{"name": "c", "image": "busybox:1"}]}));
        world.api.wait(&path, "ready", ready).await;
        took.push(begun.elapsed());
    }
    println!("pod created to ready: {took:?}");
    let path = format!("{PODS}/quick-0");
    let pod = world.api.get(&path).unwrap();
    assert!(pod["status"]["podIP"].as_str().unwrap().starts_with("10.77.0."), "{pod:#}");
    // The container is killed from outside: SIGKILL to its first process.
    let id = pod["status"]["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap()
        .trim_start_matches("mizzen://")
        .to_string();
    let driver = Oci::new(world.oci.clone(), Arc::new(Busybox(world.images.0.clone()))).expect("driver");
    let sandboxes = mizzen_runtime::driver::Driver::adopt(&driver).await.expect("adopt");
    let container = sandboxes.iter().flat_map(|s| &s.containers).find(|c| c.spec.id == id).expect("runs");
    let mizzen_runtime::driver::ContainerState::Running { pid, .. } = container.state else { panic!("{container:?}") };
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    drop(driver);
    let killed = Instant::now();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let healed =
        world.api.wait(&path, "healed", |p| ready(p) && p["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    println!("killed to replaced: {:?}", killed.elapsed());
    assert_eq!(healed["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
    let begun = Instant::now();
    for round in 0..5 {
        world.remove(&format!("{PODS}/quick-{round}")).await;
    }
    println!("five removed, one after the other: {:?}", begun.elapsed());
}

async fn shows_volumes(world: &World) {
    world.api.put(
        "/api/v1/namespaces/d/configmaps/m",
        json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "m", "namespace": "d"}, "data": {"key": "from-map"}}),
    );
    world.api.put(
        "/api/v1/namespaces/d/secrets/s",
        json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "s", "namespace": "d"}, "data": {"pw": "aGlkZGVu"}}),
    );
    let script = "set -e; cat /map/key; echo; cat /secret/pw; echo; cat /one; echo; cat /down/labels; echo; hostname; \
        mount | cat; cat /etc/hosts; id -G; echo last > /dev/termination-log; ls /deep; echo end; echo x > /mem/f; sleep 1000";
    let path = world.pod("vol", json!({
        "securityContext": {"fsGroup": 4321},
        "containers": [{"name": "c", "image": "busybox:1", "command": ["/bin/sh", "-c", script], "volumeMounts": [
            {"name": "map", "mountPath": "/map"}, {"name": "secret", "mountPath": "/secret"}, {"name": "map", "mountPath": "/one", "subPath": "key"},
            {"name": "down", "mountPath": "/down"}, {"name": "mem", "mountPath": "/mem"}, {"name": "disk", "mountPath": "/deep", "subPath": "a/b"}],
            "readinessProbe": {"exec": {"command": ["/bin/cat", "/mem/f"]}, "periodSeconds": 1}}],
        "volumes": [{"name": "map", "configMap": {"name": "m"}}, {"name": "secret", "secret": {"secretName": "s"}},
            {"name": "down", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"name": "disk", "emptyDir": {}}]}));
    let pod = world.api.wait(&path, "ready", ready).await;
    world.api.wait("", "logged", |_| world.log(&pod, "c").contains("F end")).await;
    let log = world.log(&pod, "c");
    for text in [
        "F from-map",
        "F hidden",
        "F app=\"vol\"",
        "F vol",
        "4321",
        "tmpfs on /mem",
        "tmpfs on /secret",
        "# Kubernetes-managed hosts file.",
    ] {
        assert!(log.contains(text), "{text:?} not in:\n{log}");
    }
    assert_eq!(log.matches("from-map").count(), 2, "the sub-path shows the file too:\n{log}");
    world.remove(&path).await;
}

async fn probes_and_hooks(world: &World) {
    let path = world.pod(
        "web",
        json!({"containers": [{"name": "c", "image": "busybox:1",
        "command": ["/bin/sh", "-c", "echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "lifecycle": {"postStart": {"exec": {"command": ["/bin/sh", "-c", "echo started > /tmp/hook"]}},
            "preStop": {"sleep": {"seconds": 1}}},
        "startupProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1, "failureThreshold": 10},
        "livenessProbe": {"exec": {"command": ["/bin/cat", "/tmp/hook"]}, "periodSeconds": 1},
        "readinessProbe": {"httpGet": {"path": "/index.html", "port": "http"}, "periodSeconds": 1}}]}),
    );
    let pod = world.api.wait(&path, "ready", ready).await;
    assert_eq!(pod["status"]["containerStatuses"][0]["started"], true);
    let begun = Instant::now();
    world.remove(&path).await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "the preStop hook was not waited for");

    let path = world.pod(
        "sick",
        json!({"containers": [{"name": "c", "image": "busybox:1",
        "livenessProbe": {"exec": {"command": ["/bin/false"]}, "periodSeconds": 1, "failureThreshold": 1}}]}),
    );
    world.api.wait(&path, "restarted", |p| p["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    world.remove(&path).await;
}

async fn runs_to_the_end(world: &World) {
    let command = |text: &str| json!(["/bin/sh", "-c", text]);
    let path = world.pod("job", json!({"restartPolicy": "Never",
        "initContainers": [{"name": "first", "image": "busybox:1", "command": command("echo one > /work/f")
            , "volumeMounts": [{"name": "work", "mountPath": "/work"}]},
            {"name": "side", "image": "busybox:1", "restartPolicy": "Always"}],
        "containers": [{"name": "c", "image": "busybox:1", "command": command("cat /work/f; echo bye > /dev/termination-log; exit 3"),
            "volumeMounts": [{"name": "work", "mountPath": "/work"}]}],
        "volumes": [{"name": "work", "emptyDir": {}}]}));
    let pod = world.api.wait(&path, "failed", |p| p["status"]["phase"] == "Failed").await;
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&ended["exitCode"], &ended["message"], &ended["reason"]),
        (&json!(3), &json!("bye\n"), &json!("Error"))
    );
    assert!(world.log(&pod, "c").contains("stdout F one"));
    world.remove(&path).await;
    let path = world.pod("bad", json!({"containers": [{"name": "c", "image": "busybox:1", "command": ["/no/such"]}]}));
    let state = |p: &Value| p["status"]["containerStatuses"][0].clone();
    let pod =
        world.api.wait(&path, "backing off", |p| state(p)["state"]["waiting"]["reason"] == "CrashLoopBackOff").await;
    assert_eq!(state(&pod)["lastState"]["terminated"]["reason"], "StartError", "{pod:#}");
    world.remove(&path).await;
}

async fn follows_logs(world: &World, routes: &Routes) {
    use http_body_util::BodyExt;
    let read = async |query: &str| {
        let answer = logs::answer(routes, "d", "talks", "c", query).await;
        let code = answer.status().as_u16();
        (code, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    };
    let path = world.pod(
        "talks",
        json!({"containers": [{"name": "c", "image": "busybox:1", "command":
        ["/bin/sh", "-c", "echo one; echo two; sleep 1; echo three; exit 1"]}]}),
    );
    world.api.wait(&path, "ready", ready).await;
    let (code, followed) = read("follow=true").await;
    assert_eq!((code, followed.as_str()), (200, "one\ntwo\nthree\n"));
    world.api.wait(&path, "restarted", |p| p["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    assert_eq!(read("previous=true&tailLines=2").await.1, "two\nthree\n");
    assert_eq!(read("previous=true&limitBytes=5").await.1, "one\nt");
    assert_eq!(read("tailLines=x").await.0, 400);
    assert_eq!(logs::answer(routes, "d", "talks", "none", "").await.status(), 400);
    assert_eq!(logs::answer(routes, "d", "none", "c", "").await.status(), 404);
    world.remove(&path).await;
}

async fn survives_the_agent(world: &World, stop: CancellationToken, agent: tokio::task::JoinHandle<()>) {
    let path = world.pod("stays", json!({"containers": [{"name": "c", "image": "busybox:1"}]}));
    let before = world.api.wait(&path, "ready", ready).await;
    let begun = Instant::now();
    stop.cancel();
    agent.await.unwrap();
    println!("agent stopped in {:?}", begun.elapsed());
    let (stop, agent, _) = world.start().await;
    // A label changes, so that the new worker shows that it has the pod in hand.
    let second = world.pod("second", json!({"containers": [{"name": "c", "image": "busybox:1"}]}));
    let other = world.api.wait(&second, "ready", ready).await;
    let after = world.api.get(&path).unwrap();
    assert_eq!(before["status"]["containerStatuses"], after["status"]["containerStatuses"], "nothing restarted");
    assert_ne!(other["status"]["podIP"], after["status"]["podIP"]);
    world.remove(&path).await;
    world.remove(&second).await;
    stop.cancel();
    agent.await.unwrap();
}
