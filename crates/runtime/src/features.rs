//! What the kernel must be able to do for containers, looked at before the node starts.

use std::path::Path;

/// A feature's name, and why it is missing.
pub type Feature = (&'static str, Result<(), String>);

/// Looks at everything that containers need and that a kernel may be built without. Changes nothing.
#[must_use]
pub fn required_features() -> Vec<Feature> {
    let namespace = |name: &str| {
        let path = Path::new("/proc/self/ns").join(name);
        path.symlink_metadata().map(|_| ()).map_err(|error| format!("{}: {error}", path.display()))
    };
    vec![
        ("process namespaces (CONFIG_PID_NS)", namespace("pid")),
        ("host name namespaces (CONFIG_UTS_NS)", namespace("uts")),
        ("IPC namespaces (CONFIG_IPC_NS)", namespace("ipc")),
        ("the overlay file system (CONFIG_OVERLAY_FS)", overlay()),
        ("seccomp filters (CONFIG_SECCOMP_FILTER)", seccomp()),
        ("control groups", crate::cgroup::Cgroups::detect("mizzen").map(|_| ()).map_err(|error| error.to_string())),
    ]
}

/// Asking for the file system loads its module.
fn overlay() -> Result<(), String> {
    rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).map(drop).map_err(|e| e.to_string())
}

fn seccomp() -> Result<(), String> {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads one u32 at the address, which lives until the call returns.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, std::ptr::from_ref(&action)) };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().to_string()) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_kernel_that_runs_the_other_tests_has_all_features() {
        for (name, result) in super::required_features() {
            assert_eq!(result, Ok(()), "{name}");
        }
    }
}
