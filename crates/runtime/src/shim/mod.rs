//! The shim: one small process per pod that owns its namespaces, its containers' processes, logs and exit codes.
//!
//! Same binary, re-executed as `<exe> shim --state <directory>`; standard input is its first connection to the driver. It
//! is single-threaded, since it forks; it waits in one `poll` loop; it ignores the signals of a terminal or a service
//! manager and ends when told to ([`Call::Shutdown`](crate::protocol::Call)) or killed, and then its containers die too.

pub(crate) mod calls;
mod connection;
mod container;
mod log;
pub(crate) mod sandbox;
mod serve;
pub(crate) mod state;
mod streams;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::sys;

/// Name of the shim's socket in the directory of its pod.
pub(crate) const SOCKET: &str = "shim.sock";

/// Runs the shim. `args` are those after `shim`. The process must not have started a thread.
pub fn shim_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let directory = match (args.next(), args.next(), args.next()) {
        (Some(flag), Some(directory), None) if flag == "--state" => PathBuf::from(directory),
        _ => {
            eprintln!("usage: mizzen shim --state DIRECTORY (started by mizzen itself)");
            return ExitCode::from(2);
        }
    };
    match prepare().and_then(|first| serve::run(&directory, first)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mizzen shim {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

/// Cuts all ties with whoever started it but the connection. Answers that connection.
fn prepare() -> io::Result<OwnedFd> {
    let first = std::io::stdin();
    let first = rustix::io::fcntl_dupfd_cloexec(&first, 3)?;
    // SAFETY: nothing but standard streams and `first` is open in a value of this process, which has just started.
    unsafe { sys::close_from(first.as_raw_fd() + 1)? };
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for stream in [0, 1] {
        // SAFETY: plain descriptor numbers; std only ever borrows them.
        sys::check(unsafe { libc::dup2(null.as_raw_fd(), stream) })?;
    }
    sys::reset_signals();
    // The server does without huge pages; whether containers use them is the machine's setting.
    rustix::thread::disable_transparent_huge_pages(false)?;
    // A session leader already, if a test started it so: that is as good.
    let _ = rustix::process::setsid();
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1)?;
    // The kernel should not choose the shim when memory is short; where mizzen may not say so, it may.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-998");
    Ok(first)
}
