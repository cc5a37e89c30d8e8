//! The scratch cluster: `mizzen up` as a child process over a temporary data directory.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mizzen_client::{Client, HttpsApi, Kubeconfig};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::error::{CommandError, Result};

/// How long the server may take to take pods.
const START_MAX: Duration = Duration::from_secs(30);
/// How long it may take to stop.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Lines of the server's log that are kept to explain a failure.
const LOG_LINES: usize = 20;

/// A running scratch cluster.
pub struct Cluster {
    directory: tempfile::TempDir,
    server: tokio::sync::Mutex<Child>,
    /// The administrator's way to the API.
    pub client: Client,
    /// How long it took until pods were taken.
    pub started_in: Duration,
}

impl Cluster {
    /// Starts a server and waits until it takes pods.
    pub async fn start() -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("mizzen-demo-").tempdir_in("/var/lib").or_else(|_| tempfile::tempdir())?;
        let began = Instant::now();
        let mut server = Command::new(program()?)
            .args(["up", "--node-name", "demo", "--data-dir"])
            .arg(data_dir(directory.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the demo, which stops the server in its turn.
            .process_group(0)
            .spawn()?;
        if let Err(reason) = until_ready(&mut server).await {
            let _ = server.kill().await; // It is being given up; that it ended already is fine.
            clean(directory.path()).await?;
            return Err(CommandError::Stopped { part: "the demo's server", reason }.into());
        }
        let started_in = began.elapsed();
        let config = Kubeconfig::read(&data_dir(directory.path()).join("admin.kubeconfig"))?;
        let client = Client::new(Arc::new(HttpsApi::new(&config.https("mizzen-demo")?)?));
        Ok(Self { directory, server: tokio::sync::Mutex::new(server), client, started_in })
    }

    /// Where the server keeps everything.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.directory.path())
    }

    /// A directory for what the demo itself makes.
    pub fn scratch(&self) -> PathBuf {
        self.directory.path().join("scratch")
    }

    /// Says how to look around.
    pub fn print_use(&self) {
        let (pid, kubeconfig) = (std::process::id(), self.data_dir().join("admin.kubeconfig"));
        println!("\nThe cluster stays until Ctrl-C. In another terminal:");
        println!(
            "  sudo nsenter --net=/proc/{pid}/ns/net env KUBECONFIG={} kubectl get pods -o wide",
            kubeconfig.display()
        );
    }

    /// Stops the server, then removes containers, interfaces, mounts and files.
    pub async fn take_away(self) -> Result<()> {
        let mut server = self.server.lock().await;
        if let Some(pid) = server.id().and_then(|id| i32::try_from(id).ok()) {
            // That it is gone already is fine.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        if tokio::time::timeout(STOP_MAX, server.wait()).await.is_err() {
            server.kill().await?;
        }
        clean(self.directory.path()).await
    }
}

/// This very program.
pub fn program() -> Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

fn data_dir(directory: &Path) -> PathBuf {
    directory.join("data")
}

async fn clean(directory: &Path) -> Result<()> {
    let down =
        Command::new(program()?).args(["down", "--purge", "--data-dir"]).arg(data_dir(directory)).output().await?;
    if down.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&down.stderr).trim().to_string();
    Err(CommandError::Stopped { part: "the clean-up", reason }.into())
}

/// Reads the server's words until it says that it is ready, then leaves a task reading on so that it is never held up.
async fn until_ready(server: &mut Child) -> std::result::Result<(), String> {
    let (Some(stdout), Some(stderr)) = (server.stdout.take(), server.stderr.take()) else {
        return Err("its output is closed".into());
    };
    let (mut words, mut log) = (BufReader::new(stdout).lines(), BufReader::new(stderr).lines());
    let mut last = Vec::new();
    let deadline = tokio::time::sleep(START_MAX);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            line = words.next_line() => match line {
                Ok(Some(line)) if line.starts_with("ready in") => break,
                Ok(Some(_)) => {}
                _ => {
                    while let Ok(Some(line)) = log.next_line().await {
                        last.push(line);
                    }
                    return Err(last.join("\n"));
                }
            },
            Ok(Some(line)) = log.next_line() => {
                last.push(line);
                if last.len() > LOG_LINES {
                    last.remove(0);
                }
            }
            () = &mut deadline => return Err(format!("it took no pods within {} s\n{}", START_MAX.as_secs(), last.join("\n"))),
        }
    }
    tokio::spawn(async move { while let Ok(Some(_)) = words.next_line().await {} });
    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    Ok(())
}
