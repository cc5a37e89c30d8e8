//! Runs a command in a container and takes its output and exit code, for probes and hooks.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mizzen_runtime::driver::{Driver, DriverError, ExecSpec};

/// Most bytes of output that are kept (kubelet's limit for probes).
const MAX_OUTPUT: u64 = 10 << 10;

/// How a command went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; `None` if it took too long and was killed.
    pub code: Option<i32>,
    /// Standard output and error.
    pub text: String,
}

/// Runs a command, at most for `timeout`.
pub async fn run(
    driver: &dyn Driver,
    pod_uid: &str,
    id: &str,
    args: Vec<String>,
    timeout: Duration,
) -> Result<Output, DriverError> {
    let exec = driver.exec(pod_uid, id, ExecSpec { args, tty: false, stdin: false }).await?;
    let (out, err) = (read(exec.streams.stdout), read(exec.streams.stderr));
    match tokio::time::timeout(timeout, exec.exit).await {
        Ok(exit) => {
            let text = format!("{}{}", collect(out).await, collect(err).await);
            // A dropped sender means that the shim went away with the command.
            Ok(Output { code: Some(exit.unwrap_or(137)), text })
        }
        Err(_) => {
            driver.kill_exec(pod_uid, &exec.id).await?;
            Ok(Output { code: None, text: format!("command timed out after {timeout:?}") })
        }
    }
}

fn read(stream: Option<OwnedFd>) -> Option<tokio::task::JoinHandle<String>> {
    let file = std::fs::File::from(stream?);
    Some(tokio::task::spawn_blocking(move || {
        // The descriptor may be non-blocking; reading waits here.
        let flags = rustix::fs::fcntl_getfl(&file);
        if let Ok(flags) = flags {
            // If it cannot be changed, reading ends early and text is missing; the verdict does not depend on it.
            let _ = rustix::fs::fcntl_setfl(&file, flags - rustix::fs::OFlags::NONBLOCK);
        }
        let mut text = Vec::new();
        let mut limited = (&file).take(MAX_OUTPUT);
        // What was read before an error is kept.
        let _ = limited.read_to_end(&mut text);
        // A command that writes more must not stall: the rest is read and thrown away.
        let _ = std::io::copy(&mut &file, &mut std::io::sink());
        String::from_utf8_lossy(&text).into_owned()
    }))
}

/// How long output may still come after the command ended; a child that it left behind may hold the pipe open.
const LINGER: Duration = Duration::from_millis(200);

async fn collect(reader: Option<tokio::task::JoinHandle<String>>) -> String {
    match reader {
        Some(reader) => match tokio::time::timeout(LINGER, reader).await {
            Ok(Ok(text)) => text,
            _ => String::new(),
        },
        None => String::new(),
    }
}
