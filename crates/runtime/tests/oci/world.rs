//! What the tests share: a driver with its own run directory and cgroup, a busybox root, specs, and waiting with a deadline.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use mizzen_runtime::driver::{Container, ContainerState, Driver, DriverError, DriverEvent, Exec, ExecSpec};
use mizzen_runtime::oci::{Config, ImageLayers, LayersError, Oci};
use mizzen_runtime::spec::{ContainerSpec, PodSpec, Resources, Security, User};
use tokio::sync::mpsc;

pub type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// Makes the table of a file's tests.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: &[$crate::world::Test] = &[$((stringify!($name), || Box::pin($name()))),*];
    };
}

/// Runs the tests one after the other.
pub fn run(groups: &[(&str, &[Test])], words: &[String]) -> ExitCode {
    if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
        println!("skipped: these tests need root and busybox-static (apt-get install busybox-static)");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let (mut passed, mut failed) = (0, Vec::new());
    for (group, tests) in groups {
        for (name, test) in *tests {
            let full = format!("{group}::{name}");
            if !words.is_empty() && !words.iter().any(|w| full.contains(w.as_str())) {
                continue;
            }
            let begin = Instant::now();
            let limited =
                async { tokio::time::timeout(Duration::from_secs(60), test()).await.expect("no end after 60 s") };
            let outcome = runtime.block_on(AssertUnwindSafe(limited).catch_unwind());
            let took = begin.elapsed().as_millis();
            println!("test {full} ... {} ({took} ms)", if outcome.is_ok() { "ok" } else { "FAILED" });
            match outcome {
                Ok(()) => passed += 1,
                Err(_) => failed.push(full),
            }
        }
    }
    println!("\n{passed} passed; {} failed {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Does the kernel offer cgroup v2 only?
pub fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Where a controller's groups are mounted, on the machine and inside a container alike.
pub fn inside(controller: &str) -> PathBuf {
    let mount = PathBuf::from("/sys/fs/cgroup");
    if is_v2() { mount } else { mount.join(controller) }
}

/// An image is its directories, topmost first, with colons between.
pub struct Directories;

impl ImageLayers for Directories {
    fn layers(&self, image_id: &str) -> Result<Vec<PathBuf>, LayersError> {
        Ok(image_id.split(':').map(PathBuf::from).collect())
    }
}

/// An instance of the driver; dropping it takes everything away and checks that nothing is left.
pub struct World {
    pub driver: Arc<Oci>,
    pub events: mpsc::Receiver<DriverEvent>,
    pub config: Config,
    pub directory: tempfile::TempDir,
    pub root: PathBuf,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

pub fn world() -> World {
    let directory = tempfile::Builder::new().prefix("mizzen-oci").tempdir().expect("temporary directory");
    let root = directory.path().join("image");
    make_image(&root);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let config = Config {
        run_directory: directory.path().join("run"),
        cgroup_root: format!("mizzen-test-{}-{number}", std::process::id()),
        ..Config::for_data_dir(directory.path())
    };
    let driver = Arc::new(Oci::new(config.clone(), Arc::new(Directories)).expect("driver"));
    let events = driver.events();
    World { driver, events, config, directory, root }
}

fn make_image(root: &Path) {
    for name in ["bin", "etc", "tmp", "root", "home/web"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let list = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|a| *a != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/home/web:/bin/sh\n").unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nweb:x:34:\nextra:x:77:web\n").unwrap();
}

impl Drop for World {
    fn drop(&mut self) {
        let cleaned = Oci::clean_up(&self.config);
        if std::thread::panicking() {
            if let Err(error) = cleaned {
                eprintln!("clean up: {error}");
            }
            return;
        }
        cleaned.expect("clean up");
        self.check_nothing_is_left();
    }
}

impl World {
    pub fn check_nothing_is_left(&self) {
        let run = self.config.run_directory.to_str().unwrap().to_owned();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&run), "a mount is left:\n{mounts}");
        assert!(!self.config.run_directory.exists(), "the run directory is left");
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let group = hierarchy.path().join(&self.config.cgroup_root);
            assert!(!group.exists(), "{} is left", group.display());
        }
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            assert!(!(line.contains("shim") && line.contains(&run)), "a shim is left: {line:?}");
        }
    }

    /// The directory of the pod `p`'s group for a controller; `below` names a container's, or is empty.
    pub fn group(&self, controller: &str, below: &str) -> PathBuf {
        let pod = inside(controller).join(&self.config.cgroup_root).join("burstable/podp");
        if below.is_empty() { pod } else { pod.join(below) }
    }

    pub fn pod(&self, uid: &str) -> PodSpec {
        PodSpec {
            uid: uid.to_owned(),
            namespace: "default".to_owned(),
            name: uid.to_owned(),
            hostname: format!("host-{uid}"),
            cgroup: format!("burstable/pod{uid}"),
            resources: Resources::default(),
            host_network: false,
            host_pid: false,
            host_ipc: false,
            user_namespace: None,
            share_process_namespace: false,
            sysctls: [].into(),
            log_directory: self.directory.path().join("logs").join(uid),
            annotations: [].into(),
        }
    }

    pub fn container(&self, id: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            id: id.to_owned(),
            name: "main".to_owned(),
            attempt: 0,
            image_id: self.root.to_str().unwrap().to_owned(),
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["PATH=/bin".to_owned()],
            cwd: "/".to_owned(),
            user: User::default(),
            mounts: vec![],
            devices: vec![],
            resources: Resources::default(),
            security: Security::default(),
            tty: false,
            stdin: false,
            stdin_once: false,
            log_path: format!("main/{id}.log").into(),
            stop_signal: 15,
            rlimits: vec![],
        }
    }

    /// Starts a pod `p` unless it runs, and a container in it.
    pub async fn start(&self, spec: ContainerSpec) -> Result<Container, DriverError> {
        if self.driver.sandbox("p").await.is_err() {
            self.driver.start_sandbox(self.pod("p")).await.expect("sandbox");
        }
        self.driver.start_container("p", spec).await
    }

    /// Runs a script in a container of pod `p` to its end. Answers its exit code and output.
    pub async fn run(&self, spec: ContainerSpec) -> (i32, String) {
        let id = spec.id.clone();
        self.start(spec).await.expect("container");
        let state = self.exited("p", &id).await;
        let ContainerState::Exited { code, .. } = state else { unreachable!() };
        (code, self.log("p", &id))
    }

    pub async fn state(&self, pod: &str, id: &str) -> Option<ContainerState> {
        let sandbox = self.driver.sandbox(pod).await.ok()?;
        sandbox.containers.into_iter().find(|c| c.spec.id == id).map(|c| c.state)
    }

    pub async fn exited(&self, pod: &str, id: &str) -> ContainerState {
        eventually("the container to exit", || async {
            self.state(pod, id).await.filter(|s| matches!(s, ContainerState::Exited { .. }))
        })
        .await
    }

    pub fn raw_log(&self, pod: &str, id: &str) -> String {
        let path = self.directory.path().join(format!("logs/{pod}/main/{id}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// The text of a container's log, without times and tags.
    pub fn log(&self, pod: &str, id: &str) -> String {
        let text = self.raw_log(pod, id);
        let lines = text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or(line).to_owned() + "\n");
        lines.collect()
    }

    pub async fn exec(&self, id: &str, script: &str) -> (i32, String) {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        let exec = self.driver.exec("p", id, ExecSpec { args, tty: false, stdin: false }).await.expect("exec");
        finish(exec).await
    }
}

/// Waits for the end of an exec. Answers its code and both outputs.
pub async fn finish(exec: Exec) -> (i32, String) {
    let code = exec.exit.await.expect("exit code");
    let mut text = String::new();
    for fd in [exec.streams.stdout, exec.streams.stderr].into_iter().flatten() {
        text += &read_all(fd).await;
    }
    (code, text)
}

/// Reads a non-blocking descriptor to its end.
pub async fn read_all(fd: std::os::fd::OwnedFd) -> String {
    read_until(&fd, |_| false).await
}

/// Reads a non-blocking descriptor until the text is enough, or its end.
pub async fn read_until(fd: &std::os::fd::OwnedFd, enough: impl Fn(&str) -> bool) -> String {
    let mut bytes = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut chunk = [0; 4096];
        match rustix::io::read(fd, &mut chunk) {
            Ok(0) | Err(rustix::io::Errno::IO) => break,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(rustix::io::Errno::AGAIN) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("{error}"),
        }
        let text = String::from_utf8_lossy(&bytes);
        assert!(Instant::now() < deadline, "only {text:?} came");
        if enough(&text) {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Looks again and again until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
