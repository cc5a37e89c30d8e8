//! A driver that runs programs of this machine, and a server in front of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use mizzen_runtime::driver::{Container, Driver, DriverError, DriverEvent, Exec, ExecSpec, Sandbox, Streams, Usage};
use mizzen_runtime::spec::{ContainerSpec, PodSpec, Resources};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::super::options::Options;
use super::super::port_forward::Pod;
use super::super::process::{Action, Target};
use super::super::{Sessions, log, open_forward, open_program};
use crate::kubelet::{Body, full};

type Answer<'a, T> = BoxFuture<'a, Result<T, DriverError>>;

/// Runs programs of this machine.
#[derive(Default)]
pub(super) struct LocalDriver {
    count: AtomicUsize,
    running: Mutex<HashMap<String, u32>>,
    killed: Mutex<Vec<String>>,
}

impl LocalDriver {
    /// Programs that run now.
    pub(super) fn running(&self) -> usize {
        self.running.lock().unwrap().len()
    }

    /// Programs that had to be killed.
    pub(super) fn killed(&self) -> usize {
        self.killed.lock().unwrap().len()
    }

    fn run(self: &Arc<Self>, spec: &ExecSpec) -> std::io::Result<Exec> {
        let mut command = Command::new(&spec.args[0]);
        command.args(&spec.args[1..]).env("LC_ALL", "C");
        let mut terminal = None;
        if spec.tty {
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
            grantpt(&master)?;
            unlockpt(&master)?;
            let name = ptsname(&master, Vec::new())?.into_string().map_err(std::io::Error::other)?;
            let slave = std::fs::File::options().read(true).write(true).open(name)?;
            command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
            terminal = Some(master);
        } else {
            let stdin = if spec.stdin { Stdio::piped() } else { Stdio::null() };
            command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let mut child = command.spawn()?;
        drop(command); // It holds the terminal open.
        let streams = Streams {
            stdin: child.stdin.take().map(OwnedFd::from),
            stdout: child.stdout.take().map(OwnedFd::from),
            stderr: child.stderr.take().map(OwnedFd::from),
            terminal,
        };
        let id = format!("exec-{}", self.count.fetch_add(1, Ordering::Relaxed));
        self.running.lock().unwrap().insert(id.clone(), child.id());
        let (sender, exit) = oneshot::channel();
        let (driver, name) = (Arc::clone(self), id.clone());
        std::thread::spawn(move || {
            let status = child.wait();
            driver.running.lock().unwrap().remove(&name);
            let _ = sender.send(status.ok().and_then(|s| s.code()).unwrap_or(137));
        });
        Ok(Exec { streams, id, exit })
    }
}

/// The driver as a trait object.
struct Shared(Arc<LocalDriver>);

fn none<'a, T: Send + 'a>() -> Answer<'a, T> {
    std::future::ready(Err(DriverError::NoSandbox { pod_uid: "test".into() })).boxed()
}

impl Driver for Shared {
    fn adopt(&self) -> Answer<'_, Vec<Sandbox>> {
        none()
    }
    fn events(&self) -> mpsc::Receiver<DriverEvent> {
        mpsc::channel(1).1
    }
    fn start_sandbox(&self, _: PodSpec) -> Answer<'_, Sandbox> {
        none()
    }
    fn sandbox<'a>(&'a self, _: &'a str) -> Answer<'a, Sandbox> {
        none()
    }
    fn remove_sandbox<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        none()
    }
    fn start_container<'a>(&'a self, _: &'a str, _: ContainerSpec) -> Answer<'a, Container> {
        none()
    }
    fn signal<'a>(&'a self, _: &'a str, _: &'a str, _: i32) -> Answer<'a, ()> {
        none()
    }
    fn kill<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, ()> {
        none()
    }
    fn remove_container<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, ()> {
        none()
    }
    fn update<'a>(&'a self, _: &'a str, _: Option<&'a str>, _: Resources) -> Answer<'a, ()> {
        none()
    }
    fn exec<'a>(&'a self, _: &'a str, _: &'a str, spec: ExecSpec) -> Answer<'a, Exec> {
        let exec = self.0.run(&spec);
        let message = |e| DriverError::Start { message: format!("exec: {:?}: {e}", spec.args[0]) };
        std::future::ready(exec.map_err(message)).boxed()
    }
    fn kill_exec<'a>(&'a self, _: &'a str, exec_id: &'a str) -> Answer<'a, ()> {
        self.0.killed.lock().unwrap().push(exec_id.to_owned());
        let pid = self.0.running.lock().unwrap().get(exec_id).copied();
        if let Some(pid) = pid.and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        std::future::ready(Ok(())).boxed()
    }
    fn attach<'a>(&'a self, _: &'a str, _: &'a str, _: bool) -> Answer<'a, Streams> {
        // A container that says hello and echoes one line.
        let args = ["sh", "-c", "echo hello; read line; echo \"got $line\"; echo bye >&2"];
        let spec = ExecSpec { args: args.map(str::to_owned).to_vec(), tty: false, stdin: true };
        let streams = self.0.run(&spec).map(|exec| exec.streams);
        std::future::ready(streams.map_err(|e| DriverError::Start { message: e.to_string() })).boxed()
    }
    fn reopen_log<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, ()> {
        none()
    }
    fn writable_layer(&self, _: &str, _: &str) -> Option<std::path::PathBuf> {
        None
    }
    fn usage<'a>(&'a self, _: &'a str, _: Option<&'a str>) -> Answer<'a, Usage> {
        none()
    }
}

/// A server for streams on a port of localhost.
pub(super) struct World {
    pub(super) driver: Arc<LocalDriver>,
    pub(super) tasks: TaskTracker,
    address: SocketAddr,
    _stop: DropGuard,
}

impl World {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (driver, stop, tasks) = (Arc::new(LocalDriver::default()), CancellationToken::new(), TaskTracker::new());
        let sessions = Sessions::new(tasks.clone(), stop.clone());
        let serving = Arc::clone(&driver);
        let accepting = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (driver, sessions) = (Arc::clone(&serving), sessions.clone());
                let service = hyper::service::service_fn(move |request| {
                    let answer = answer(&driver, &sessions, request);
                    async move { Ok::<_, std::convert::Infallible>(answer) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service).with_upgrades());
            }
        };
        let until = stop.clone();
        tokio::spawn(async move { until.run_until_cancelled(accepting).await });
        Self { driver, tasks, address, _stop: stop.drop_guard() }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Waits until something is so.
    pub(super) async fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within 10 s: {what}");
    }
}

fn answer(driver: &Arc<LocalDriver>, sessions: &Sessions, request: Request<Incoming>) -> Response<Body> {
    let options = Options::parse(request.uri().query().unwrap_or_default());
    let driver: Arc<dyn Driver> = Arc::new(Shared(Arc::clone(driver)));
    let target = Target { driver, pod_uid: "uid".into(), container_id: "id".into() };
    let path = request.uri().path().to_owned();
    let answer = match path.as_str() {
        "/exec" => {
            let spec = ExecSpec { args: options.command.clone(), tty: options.tty, stdin: options.stdin };
            open_program(sessions, target, Action::Exec(spec), options, request)
        }
        "/attach" => open_program(sessions, target, Action::Attach, options, request),
        "/log" => Ok(log(sessions, request, Response::new(full("one\ntwo\n")))),
        _ => {
            let pod = Pod { name: "pod_ns".into(), uid: "uid".into(), network: None };
            open_forward(sessions, pod, &options, request)
        }
    };
    answer.unwrap_or_else(|refusal| *refusal)
}

/// The query of an exec of a shell script.
pub(super) fn script(flags: &str, script: &str) -> String {
    let escaped: String = script.bytes().map(|b| format!("%{b:02x}")).collect();
    format!("/exec?{flags}&command=sh&command=-c&command={escaped}")
}

/// A connection after an upgrade by `POST`.
pub(super) async fn upgrade(
    stream: TcpStream,
    path: &str,
    version: &str,
) -> Result<impl Connection + use<>, StatusCode> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::post(path)
        .header("host", "test")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("x-stream-protocol-version", version)
        .body(full(""))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(response.status());
    }
    assert_eq!(response.headers()["x-stream-protocol-version"], version);
    Ok(TokioIo::new(hyper::upgrade::on(response).await.unwrap()))
}

/// Both directions of a connection.
pub(super) trait Connection: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Connection for T {}
