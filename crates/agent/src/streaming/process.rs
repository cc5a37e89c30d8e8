//! Connects a client's streams to a program in a container.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mizzen_runtime::driver::{Driver, Exec, ExecSpec, Streams};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::descriptor;
use super::idle::Idle;
use super::size::Size;
use super::status::Outcome;

/// Bytes carried at once.
pub(super) const CHUNK: usize = 32 << 10;
/// Output may still come for this long after a command's end, and after each further piece: its own is in the pipe
/// by then, but a process that it left behind may hold the pipe open for ever.
const LINGER: Duration = Duration::from_millis(300);
/// Whose client has gone may notice by its closed streams, before it is killed.
const GRACE: Duration = Duration::from_secs(1);

/// Bytes from a client.
pub(super) type Input = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes to a client.
pub(super) type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The container.
pub(super) struct Target {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) pod_uid: String,
    pub(super) container_id: String,
}

/// What to connect to.
pub(super) enum Action {
    /// A program of its own.
    Exec(ExecSpec),
    /// The container's first process.
    Attach,
}

/// The client's side.
pub(super) struct Client {
    pub(super) stdin: Option<Input>,
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
    pub(super) sizes: Option<watch::Receiver<Option<Size>>>,
    /// Cancelled when the client has gone.
    pub(super) gone: CancellationToken,
}

/// Runs to the end of the program, the container's streams, or the client.
pub(super) async fn run(target: &Target, action: Action, client: Client) -> Outcome {
    match action {
        Action::Exec(spec) => exec(target, spec, client).await,
        Action::Attach => attach(target, client).await,
    }
}

async fn exec(target: &Target, spec: ExecSpec, client: Client) -> Outcome {
    let Exec { streams, id, mut exit } = match target.driver.exec(&target.pod_uid, &target.container_id, spec).await {
        Ok(exec) => exec,
        Err(error) => return Outcome::Failed(format!("error executing command in container: {error}")),
    };
    let (gone, exited) = (client.gone.clone(), CancellationToken::new());
    let outcome = match Ends::of(streams) {
        Ok(ends) => {
            let ended = async {
                let code = (&mut exit).await;
                exited.cancel();
                // A dropped sender means that the shim went away with the command.
                Outcome::Exited(code.unwrap_or(137))
            };
            carry(ends, client, &exited, ended).await
        }
        Err(error) => Outcome::Failed(format!("connect to the command: {error}")),
    };
    if !exited.is_cancelled() {
        // Its streams are closed by now: a shell takes that for the end of its input or terminal.
        if tokio::time::timeout(GRACE, &mut exit).await.is_err()
            && let Err(error) = target.driver.kill_exec(&target.pod_uid, &id).await
        {
            tracing::warn!(pod = %target.pod_uid, exec = %id, %error, "kill a command whose client has gone");
        }
        if gone.is_cancelled() {
            return Outcome::Gone;
        }
    }
    outcome
}

async fn attach(target: &Target, client: Client) -> Outcome {
    let attached = target.driver.attach(&target.pod_uid, &target.container_id, client.stdin.is_some()).await;
    let streams = match attached {
        Ok(streams) => streams,
        Err(error) => return Outcome::Failed(format!("error attaching to container: {error}")),
    };
    match Ends::of(streams) {
        // The streams of a container end by themselves, with it.
        Ok(ends) => carry(ends, client, &CancellationToken::new(), async { Outcome::Ended }).await,
        Err(error) => Outcome::Failed(format!("connect to the container: {error}")),
    }
}

/// The program's side.
struct Ends {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    terminal: Option<OwnedFd>,
}

impl Ends {
    fn of(streams: Streams) -> io::Result<Self> {
        let Streams { mut stdin, mut stdout, stderr, terminal } = streams;
        if let Some(terminal) = &terminal
            && stdin.is_none()
            && stdout.is_none()
        {
            stdin = Some(terminal.try_clone()?);
            stdout = Some(terminal.try_clone()?);
        }
        Ok(Self {
            stdin: stdin.map(descriptor::writer).transpose()?,
            stdout: stdout.map(descriptor::reader).transpose()?,
            stderr: stderr.map(descriptor::reader).transpose()?,
            terminal,
        })
    }
}

/// Carries bytes until `ended` has happened and all output is carried, or the client is gone.
async fn carry(
    ends: Ends,
    client: Client,
    exited: &CancellationToken,
    ended: impl Future<Output = Outcome>,
) -> Outcome {
    let idle = Idle::new();
    let Client { stdin, stdout, stderr, sizes, gone } = client;
    let output = async {
        let out = give(ends.stdout, stdout, exited, &idle);
        let err = give(ends.stderr, stderr, exited, &idle);
        tokio::join!(ended, out, err).0
    };
    let input = async {
        tokio::join!(take(stdin, ends.stdin, &idle), resize(sizes, ends.terminal.as_ref(), &idle));
        std::future::pending().await
    };
    tokio::select! {
        outcome = output => outcome,
        () = gone.cancelled() => Outcome::Gone,
        () = idle.expired() => Outcome::Failed("the stream was idle for too long".into()),
        outcome = input => outcome,
    }
}

/// Carries the program's output. An output that the client did not ask for is read and thrown away, so that the
/// program does not stall.
async fn give(from: Option<pipe::Receiver>, to: Option<Output>, exited: &CancellationToken, idle: &Idle) {
    let Some(mut from) = from else { return };
    let mut to = to.unwrap_or_else(|| Box::new(tokio::io::sink()));
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = if exited.is_cancelled() {
            match tokio::time::timeout(LINGER, from.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => break,
            }
        } else {
            tokio::select! {
                read = from.read(&mut buffer) => read,
                () = exited.cancelled() => continue,
            }
        };
        match read {
            // A terminal that nobody has open any more answers EIO.
            Ok(0) | Err(_) => break,
            Ok(count) => {
                idle.touch();
                if to.write_all(&buffer[..count]).await.is_err() {
                    return; // The client wants no more; the program learns it by SIGPIPE.
                }
            }
        }
    }
    // If the client cannot be told any more, it has gone.
    let _ = to.shutdown().await;
}

/// Carries the client's input. The program sees its end when the client's side has ended.
async fn take(from: Option<Input>, to: Option<pipe::Sender>, idle: &Idle) {
    let (Some(mut from), Some(mut to)) = (from, to) else {
        // Without input of the client the program's stays open: an end would be taken for the client's.
        return std::future::pending().await;
    };
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        idle.touch();
        if to.write_all(&buffer[..count]).await.is_err() {
            return; // It reads no more. What still comes is thrown away by the transport.
        }
    }
}

async fn resize(sizes: Option<watch::Receiver<Option<Size>>>, terminal: Option<&OwnedFd>, idle: &Idle) {
    let (Some(mut sizes), Some(terminal)) = (sizes, terminal) else { return };
    loop {
        let size = *sizes.borrow_and_update();
        if let Some(size) = size {
            idle.touch();
            if let Err(error) = size.apply(terminal) {
                tracing::debug!(%error, "resize a terminal");
            }
        }
        if sizes.changed().await.is_err() {
            return;
        }
    }
}
