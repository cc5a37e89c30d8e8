//! A cluster for one test: a network namespace, a server in it, kubectl beside it; all gone when it is dropped.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything to become true; on an emulated machine (`MIZZEN_TEST_PATIENCE`) so many times as long.
const WAIT: Duration = Duration::from_secs(40);

fn patience() -> Duration {
    let factor = std::env::var("MIZZEN_TEST_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    WAIT * factor
}

/// A running cluster.
pub struct Cluster {
    directory: tempfile::TempDir,
    namespace: Child,
    server: Option<Child>,
    /// Its directory is a file system of its own.
    disk: bool,
}

impl Cluster {
    /// Starts one, or says what is missing and answers `None`: then the test is skipped.
    pub fn start() -> Option<Self> {
        Self::start_with("", None)
    }

    /// Starts one with a settings file, and if `disk_mib` is given with a disk of that size.
    pub fn start_with(settings: &str, disk_mib: Option<u32>) -> Option<Self> {
        if let Some(missing) = missing() {
            println!("skipped: {missing}");
            return None;
        }
        let directory = tempfile::Builder::new().prefix("mizzen-test-").tempdir().unwrap();
        let script = "ip link set lo up && ip link add lan type bridge && ip addr add 192.168.99.1/24 dev lan && \
            ip link set lan up && echo ready && exec sleep 3600";
        let mut namespace =
            Command::new("unshare").args(["--net", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(namespace.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let mut cluster = Self { directory, namespace, server: None, disk: disk_mib.is_some() };
        if let Some(mib) = disk_mib {
            let size = format!("size={mib}m");
            run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(cluster.directory.path()));
        }
        if !settings.is_empty() {
            std::fs::write(cluster.path("config.yaml"), settings).unwrap();
        }
        cluster.start_server();
        cluster.load("busybox:1", super::image::busybox);
        Some(cluster)
    }

    /// Starts the server and waits until it takes pods.
    pub fn start_server(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_mizzen")));
        command.args(["up", "--node-name", "node", "--log-level", "info", "--data-dir"]).arg(self.path("data"));
        if self.path("config.yaml").exists() {
            command.arg("--config").arg(self.path("config.yaml"));
        }
        let mut server = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut words = BufReader::new(server.stdout.take().unwrap()).lines();
        let ready = words.by_ref().map_while(Result::ok).any(|line| line.starts_with("ready in"));
        assert!(ready, "the server did not become ready:\n{}", self.log());
        std::thread::spawn(move || words.map_while(Result::ok).for_each(drop));
        self.server = Some(server);
    }

    /// Ends the server by a signal (`TERM`, `KILL`) and waits for its end; answers how long that took.
    pub fn stop_server(&mut self, signal: &str) -> Duration {
        let mut server = self.server.take().expect("a server runs");
        let began = Instant::now();
        run(Command::new("kill").args([&format!("-{signal}"), &server.id().to_string()]));
        server.wait().unwrap();
        began.elapsed()
    }

    /// Where the layout of a loaded image is.
    pub fn layout(&self, name: &str) -> PathBuf {
        self.path(&format!("layout-{}", name.replace([':', '/'], "-")))
    }

    /// Makes an image and loads it.
    pub fn load(&self, name: &str, make: impl FnOnce(&Path, &str)) {
        let layout = self.layout(name);
        make(&layout, name);
        let output = self.mizzen(&[
            "image",
            "load",
            layout.to_str().unwrap(),
            "--data-dir",
            self.path("data").to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{}", text(&output));
    }

    /// A path in the test's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A program in the cluster's network namespace.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.namespace.id())).arg(program);
        command
            .env("KUBECONFIG", self.path("data/admin.kubeconfig"))
            .env("HOME", self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// The binary under test.
    pub fn mizzen(&self, args: &[&str]) -> Output {
        self.command(Path::new(env!("CARGO_BIN_EXE_mizzen"))).args(args).output().unwrap()
    }

    /// kubectl, whatever it answers.
    pub fn try_kubectl(&self, args: &[&str]) -> Output {
        self.command(&kubectl().unwrap()).args(args).output().unwrap()
    }

    /// kubectl; it must succeed. Its standard output.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args);
        assert!(output.status.success(), "kubectl {}: {}\n{}", args.join(" "), text(&output), self.state());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// kubectl; it must fail. What it said.
    pub fn refused(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args);
        assert!(!output.status.success(), "kubectl {} succeeded: {}", args.join(" "), text(&output));
        text(&output)
    }

    /// kubectl with a document on its standard input.
    pub fn kubectl_with(&self, args: &[&str], document: &str) -> Output {
        let mut command = self.command(&kubectl().unwrap());
        let mut child =
            command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Applies a document.
    pub fn apply(&self, document: &str) {
        let output = self.kubectl_with(&["apply", "-f", "-"], document);
        assert!(output.status.success(), "{}", text(&output));
    }

    /// An object as JSON.
    pub fn get(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = ["get"].iter().chain(args).chain(&["-o", "json"]).copied().collect();
        serde_json::from_str(&self.kubectl(&args)).unwrap()
    }

    /// Names of the pods with a label, sorted.
    pub fn pods(&self, selector: &str) -> Vec<String> {
        let list = self.get(&["pods", "-l", selector]);
        let mut names: Vec<String> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["metadata"]["name"].as_str().unwrap().to_string())
            .collect();
        names.sort();
        names
    }

    /// Waits until a pod is ready.
    pub fn ready(&self, pod: &str) {
        let timeout = format!("--timeout={}s", patience().as_secs());
        self.kubectl(&["wait", &format!("pod/{pod}"), "--for=condition=Ready", &timeout]);
    }

    /// Waits until `done`, or fails with what was last seen.
    pub fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + patience();
        while !done() {
            assert!(Instant::now() < deadline, "{what} did not happen\n{}", self.state());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the body of a page is, fetched from the host's side of the namespace.
    pub fn fetch(&self, url: &str) -> Result<String, String> {
        let output = self.command("curl".as_ref()).args(["-sS", "-m", "3", url]).output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(text(&output))
        }
    }

    /// Everything that helps to understand a failure.
    fn state(&self) -> String {
        let mut out = String::new();
        for args in [&["get", "pods,svc,deploy,rs", "-A", "-o", "wide"][..], &["get", "events", "-A"]] {
            let _ = writeln!(out, "{}", text(&self.try_kubectl(args)));
        }
        let log = self.log();
        let tail: Vec<&str> = log.lines().rev().take(30).collect();
        let _ = writeln!(out, "{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        out
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.stop_server("TERM");
        }
        let data = self.path("data");
        let down = self.mizzen(&["down", "--purge", "--data-dir", data.to_str().unwrap()]);
        if self.disk {
            run(Command::new("umount").arg("--lazy").arg(self.directory.path()));
        }
        // The namespace's only process is ours; that it has ended already is fine.
        let _ = self.namespace.kill();
        let _ = self.namespace.wait();
        if !std::thread::panicking() {
            assert!(down.status.success(), "down: {}", text(&down));
        }
    }
}

/// What an output says, both streams.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// kubectl, as the environment names it or from the path.
pub fn kubectl() -> Option<PathBuf> {
    let named = std::env::var_os("MIZZEN_TEST_KUBECTL").map(PathBuf::from);
    named.or_else(|| on_path("kubectl")).filter(|p| p.is_file())
}

/// Where a program is.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|d| d.join(program)).find(|p| p.is_file())
}

fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".into());
    }
    if !Path::new("/bin/busybox").exists() {
        return Some("busybox-static is not installed".into());
    }
    let programs = ["nsenter", "unshare", "ip", "curl", "ldd"];
    let absent = programs.iter().find(|p| on_path(p).is_none()).map(|p| format!("{p} is not installed"));
    absent.or_else(|| kubectl().is_none().then(|| "kubectl is not installed".into()))
}
