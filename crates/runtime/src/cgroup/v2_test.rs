//! Cgroup v2 on the real kernel, also where it is mounted beside v1 and has no controllers. Skipped without root or v2.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::{Cgroups, DeviceRule, Mode};
use crate::spec::Resources;

struct Group(Cgroups);

impl Drop for Group {
    fn drop(&mut self) {
        self.0.remove_root().expect("remove the test's groups");
    }
}

fn groups(name: &str) -> Option<(Group, PathBuf)> {
    let mount = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    let mount = mount.into_iter().find(|m| m.join("cgroup.controllers").exists())?;
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let root = format!("mizzen-test-v2-{}-{name}", std::process::id());
    let directory = mount.join(&root);
    let cgroups = Cgroups { mode: Mode::V2(mount), root };
    cgroups.create("pod/c", &Resources::default()).expect("create groups");
    Some((Group(cgroups), directory.join("pod/c")))
}

fn shell(group: &Path, script: &str) -> Child {
    let script = format!("echo 0 > {}/cgroup.procs && {script}", group.display());
    Command::new("sh").args(["-c", &script]).spawn().expect("sh")
}

#[test]
fn devices_are_filtered_by_the_program() {
    let Some((groups, group)) = groups("devices") else { return };
    let zero = DeviceRule { kind: 'c', major: Some(1), minor: Some(5), read: true, write: false, mknod: false };
    let null = DeviceRule { kind: 'c', major: Some(1), minor: Some(3), read: true, write: true, mknod: true };
    groups.0.allow_devices("pod/c", &[null, zero]).expect("attach");
    let code = |script: &str| shell(&group, script).wait().expect("wait").code();
    assert_eq!(code("head -c 1 /dev/zero > /dev/null"), Some(0));
    assert_ne!(code("(head -c 1 /dev/full) 2> /dev/null"), Some(0), "a device without a rule could be read");
    assert_ne!(code("(: > /dev/zero) 2> /dev/null"), Some(0), "a device with a rule for reading could be written");
    groups.0.allow_devices("pod/c", &[DeviceRule::ALL]).expect("attach again");
    assert_eq!(code("head -c 1 /dev/full > /dev/null"), Some(0));
}

#[test]
fn kills_all_and_removes() {
    let Some((groups, group)) = groups("kill") else { return };
    std::fs::create_dir(group.join("made-inside")).expect("sub-group");
    let mut children = [shell(&group, "{ sleep 100 & wait; }"), shell(&group.join("made-inside"), "exec sleep 100")];
    let deadline = Instant::now() + Duration::from_secs(10);
    while groups.0.processes("pod/c").len() < 3 {
        assert!(Instant::now() < deadline, "the processes did not join");
        std::thread::sleep(Duration::from_millis(5));
    }
    groups.0.kill("pod").expect("kill");
    for child in &mut children {
        assert!(!child.wait().expect("wait").success());
    }
    groups.0.remove("pod").expect("remove");
    assert!(!group.exists());
    groups.0.kill("pod").expect("killing what is gone");
}

#[test]
fn clone3_places_the_child() {
    let Some((groups, group)) = groups("clone") else { return };
    let directory = std::fs::File::open(&group).expect("open the group");
    // SAFETY: the child allocates nothing and takes no lock: it waits in one system call until it is killed.
    match unsafe { crate::sys::fork_with(0, Some(directory.as_fd())) }.expect("fork") {
        crate::sys::Forked::Child => {
            // SAFETY: pause has no preconditions.
            unsafe { libc::pause() };
            crate::sys::exit_now(0)
        }
        crate::sys::Forked::Parent(pid) => {
            assert_eq!(groups.0.processes("pod/c"), [pid]);
            groups.0.kill("pod/c").expect("kill");
            let mut status = 0;
            // SAFETY: `status` is a valid place for an int; the child is this test's.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert!(libc::WIFSIGNALED(status));
        }
    }
}
