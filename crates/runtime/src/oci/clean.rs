//! Taking away what pods leave behind: processes, mounts, cgroups, files. Works without their shims.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::UnmountFlags;

use super::{Config, OciError, spawn};
use crate::cgroup::Cgroups;
use crate::shim::sandbox::shm_mount;
use crate::sys;

/// How long a killed shim may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);

/// A directory only root can look into: it holds specs with secrets in their environments.
pub(super) fn make_private(directory: &Path) -> Result<(), OciError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(OciError::on("create", directory))
}

/// The directories of pods.
pub(super) fn pod_directories(run: &Path) -> Result<Vec<PathBuf>, OciError> {
    match std::fs::read_dir(run) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(OciError::on("read", run)(error)),
        Ok(entries) => {
            let directories = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            Ok(directories.map(|e| e.path()).collect())
        }
    }
}

/// Kills a shim by its number, if it runs, and waits for its end.
pub(super) fn kill_shim(pid: i32) {
    if let Ok(pidfd) = sys::pidfd_open(pid) {
        kill_and_wait(&pidfd);
    }
}

/// Kills a process and waits for its end.
pub(super) fn kill_and_wait(pidfd: &OwnedFd) {
    // Gone already is as good.
    let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
    let mut poll = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    let limit = rustix::time::Timespec { tv_sec: END_WITHIN.as_secs() as i64, tv_nsec: 0 };
    // Still there after that: removing its cgroup and files fails visibly.
    let _ = rustix::io::retry_on_intr(|| rustix::event::poll(&mut poll, Some(&limit)));
}

/// Removes everything of a pod whose shim is gone.
pub(super) fn pod(cgroups: &Cgroups, directory: &Path) -> Result<(), OciError> {
    let cgroup = crate::shim::state::read(directory).map(|d| d.pod.cgroup);
    let groups = match &cgroup {
        Ok(cgroup) => cgroups.remove(cgroup).map_err(OciError::from),
        Err(_) => Ok(()), // It ended before it had a cgroup, or the root's removal finds it.
    };
    let shm = shm_mount(directory);
    match rustix::mount::unmount(&shm, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(OciError::on("unmount", &shm)(error.into())),
    }
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OciError::on("remove", directory)(error)),
        _ => groups,
    }
}

/// Removes everything of an instance.
pub(super) fn everything(config: &Config) -> Result<(), OciError> {
    let cgroups = Cgroups::detect(&config.cgroup_root)?;
    let directories = pod_directories(&config.run_directory)?;
    for directory in &directories {
        if let Ok((_, pid)) = spawn::connect(directory) {
            kill_shim(pid);
        }
    }
    let mut result = Ok(());
    for directory in &directories {
        result = result.and(pod(&cgroups, directory));
    }
    result = result.and(cgroups.remove_root().map_err(OciError::from));
    match std::fs::remove_dir(&config.run_directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            result.and(Err(OciError::on("remove", &config.run_directory)(error)))
        }
        _ => result,
    }
}
