//! Control groups: limits, membership, killing, usage; v1 (also beside an empty v2, "hybrid") and v2, found at run time.
//!
//! Everything lives under one root group whose name belongs to one instance of mizzen. Paths given here are relative to it:
//! `burstable/pod<uid>/<container id>`. Leaves to others: who joins which group, and when.

mod device;
mod usage;
mod v1;
mod v2;
#[cfg(test)]
mod v2_test;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use device::DeviceRule;

use crate::driver::Usage;
use crate::spec::Resources;

/// A cgroup operation that failed, and on what.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No usable hierarchy is mounted.
    #[error("no cgroup file system with a memory controller is mounted under /sys/fs/cgroup; mount cgroup2 there")]
    NotMounted,
    /// A group or one of its files.
    #[error("cgroup {path}: {action}: {source}")]
    File {
        /// Directory or file.
        path: PathBuf,
        /// What was being done.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The path of a group contains `..`, is absolute or empty.
    #[error("cgroup path {0:?} must be relative and without `..`")]
    BadPath(String),
}

impl CgroupError {
    fn on(path: &Path, action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let (path, action) = (path.to_owned(), action.into());
        move |source| CgroupError::File { path, action, source }
    }
}

/// A v1 hierarchy in use.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hierarchy {
    pub(crate) controllers: Vec<String>,
    pub(crate) mount: PathBuf,
}

#[derive(Debug, Clone, PartialEq)]
enum Mode {
    V1(Vec<Hierarchy>),
    V2(PathBuf),
}

/// The cgroups of one instance.
#[derive(Debug, Clone)]
pub struct Cgroups {
    mode: Mode,
    root: String,
}

/// v1 controllers that are used, if mounted.
const CONTROLLERS: [&str; 7] = ["cpu", "cpuacct", "memory", "pids", "devices", "freezer", "hugetlb"];

/// How long a group may stay busy after its last process was killed.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);

impl Cgroups {
    /// Finds out what this kernel has mounted. `root` names the instance's group.
    ///
    /// # Errors
    /// [`CgroupError::NotMounted`], or that `/proc/self/mountinfo` is unreadable.
    pub fn detect(root: &str) -> Result<Self, CgroupError> {
        check_path(root)?;
        let path = Path::new("/proc/self/mountinfo");
        let text = std::fs::read_to_string(path).map_err(CgroupError::on(path, "read"))?;
        let mode = parse_mounts(&text).ok_or(CgroupError::NotMounted)?;
        Ok(Cgroups { mode, root: root.to_owned() })
    }

    /// Whether processes are placed by `clone3` (v2) rather than by writing to `cgroup.procs`.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        matches!(self.mode, Mode::V2(_))
    }

    /// The directories of a group, one per hierarchy in use; with v1, the first controller of each.
    pub(crate) fn directories(&self, path: &str) -> Vec<(String, PathBuf)> {
        match &self.mode {
            Mode::V1(list) => {
                list.iter().map(|h| (h.controllers.join(","), h.mount.join(&self.root).join(path))).collect()
            }
            Mode::V2(mount) => vec![(String::new(), mount.join(&self.root).join(path))],
        }
    }

    /// Creates a group with its parents and sets its limits. Existing groups are kept and get the limits.
    ///
    /// # Errors
    /// A group cannot be made, or the kernel refuses a limit.
    pub fn create(&self, path: &str, resources: &Resources) -> Result<(), CgroupError> {
        check_path(path)?;
        if let Mode::V2(mount) = &self.mode {
            v2::delegate(mount, &Path::new(&self.root).join(path))?;
        }
        for (_, directory) in self.directories(path) {
            match std::fs::create_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::create_dir_all(&directory),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                other => other,
            }
            .map_err(CgroupError::on(&directory, "create"))?;
        }
        self.update(path, resources)
    }

    /// Sets the limits that `resources` names.
    ///
    /// # Errors
    /// The kernel refuses a limit; earlier ones stay set.
    pub fn update(&self, path: &str, resources: &Resources) -> Result<(), CgroupError> {
        check_path(path)?;
        let settings = match self.mode {
            Mode::V1(_) => v1::settings(resources),
            Mode::V2(_) => v2::settings(resources),
        };
        for setting in settings {
            let Some(directory) = self.controller(setting.controller, path) else {
                continue; // The kernel lacks the controller: the limit cannot be kept, as Kubernetes does for hugetlb.
            };
            let file = directory.join(&setting.file);
            match std::fs::write(&file, &setting.value) {
                Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(CgroupError::on(&file, format!("write {:?}", setting.value)))?,
            }
        }
        Ok(())
    }

    /// Allows exactly these devices to the processes of a group.
    ///
    /// # Errors
    /// The kernel refuses a rule or the program.
    pub fn allow_devices(&self, path: &str, rules: &[DeviceRule]) -> Result<(), CgroupError> {
        let Some(directory) = self.controller("devices", path) else {
            return Ok(());
        };
        match self.mode {
            Mode::V1(_) => v1::allow_devices(&directory, rules),
            Mode::V2(_) => device::attach_program(&directory, rules)
                .map_err(CgroupError::on(&directory, "attach the device filter")),
        }
    }

    /// The directory of a group in the hierarchy that has a controller.
    fn controller(&self, name: &str, path: &str) -> Option<PathBuf> {
        let mount = match &self.mode {
            Mode::V1(list) => &list.iter().find(|h| h.controllers.iter().any(|c| c == name))?.mount,
            Mode::V2(mount) => mount,
        };
        Some(mount.join(&self.root).join(path))
    }

    /// Moves the caller, which must have one thread only, into a group.
    ///
    /// On v1 by its thread (`tasks`): moving a whole process takes the kernel's lock over all of them, and after a while
    /// without such moves that waits for an RCU grace period of some 10 ms.
    ///
    /// # Errors
    /// The group is gone, or the kernel refuses.
    pub fn join(&self, path: &str) -> Result<(), CgroupError> {
        let name = if self.is_v2() { "cgroup.procs" } else { "tasks" };
        for (_, directory) in self.directories(path) {
            let file = directory.join(name);
            std::fs::write(&file, "0").map_err(CgroupError::on(&file, "join"))?;
        }
        Ok(())
    }

    /// All processes of a group and the groups below it.
    #[must_use]
    pub fn processes(&self, path: &str) -> Vec<i32> {
        let mut found = Vec::new();
        for (_, directory) in self.directories(path) {
            collect_processes(&directory, &mut found, 0);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Kills every process of a group and of those below. Ends when the signals are sent.
    ///
    /// # Errors
    /// The kernel refuses; a group that is gone is no error.
    pub fn kill(&self, path: &str) -> Result<(), CgroupError> {
        check_path(path)?;
        match &self.mode {
            Mode::V1(_) => v1::kill(self.controller("freezer", path).as_deref(), || self.processes(path)),
            Mode::V2(mount) => v2::kill(&mount.join(&self.root).join(path)),
        }
    }

    /// Kills what is left in a group and removes it with all groups below, also those its processes made.
    ///
    /// # Errors
    /// It stays busy for seconds; a group that is gone is no error.
    pub fn remove(&self, path: &str) -> Result<(), CgroupError> {
        check_path(path)?;
        self.remove_directories(self.directories(path))
    }

    /// Removes the instance's root group and everything in it.
    ///
    /// # Errors
    /// As for [`Cgroups::remove`].
    pub fn remove_root(&self) -> Result<(), CgroupError> {
        self.remove_directories(self.directories(""))
    }

    fn remove_directories(&self, directories: Vec<(String, PathBuf)>) -> Result<(), CgroupError> {
        let deadline = Instant::now() + REMOVE_WITHIN;
        let mut pause = Duration::from_micros(200);
        for (_, directory) in directories {
            loop {
                match remove_tree(&directory, 0) {
                    Ok(()) => break,
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                        let mut left = Vec::new();
                        collect_processes(&directory, &mut left, 0);
                        for pid in left {
                            // A process in the middle of ending answers ESRCH or nothing at all: looked at again below.
                            let _ = crate::sys::kill(pid, libc::SIGKILL);
                        }
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(Duration::from_millis(50));
                    }
                    Err(error) => return Err(CgroupError::on(&directory, "remove")(error)),
                }
            }
        }
        Ok(())
    }

    /// What the processes of a group use.
    ///
    /// # Errors
    /// The group does not exist.
    pub fn usage(&self, path: &str) -> Result<Usage, CgroupError> {
        check_path(path)?;
        usage::read(self.is_v2(), |controller| self.controller(controller, path))
    }

    /// How many processes of a group the kernel has killed for memory.
    #[must_use]
    pub fn oom_kills(&self, path: &str) -> u64 {
        let Some(directory) = self.controller("memory", path) else {
            return 0;
        };
        let file = directory.join(if self.is_v2() { "memory.events" } else { "memory.oom_control" });
        std::fs::read_to_string(file).map_or(0, |text| usage::keyed(&text, "oom_kill"))
    }
}

/// One file of a group and what to write into it.
#[derive(Debug, Clone, PartialEq)]
struct Setting {
    controller: &'static str,
    file: String,
    value: String,
    /// Kernels without the file are left alone.
    optional: bool,
}

fn check_path(path: &str) -> Result<(), CgroupError> {
    let plain = |c| matches!(c, std::path::Component::Normal(_));
    if path.is_empty() || path.len() > 1024 || !Path::new(path).components().all(plain) {
        return Err(CgroupError::BadPath(path.to_owned()));
    }
    Ok(())
}

/// What `/proc/self/mountinfo` says about cgroups.
fn parse_mounts(mountinfo: &str) -> Option<Mode> {
    let mut v1: Vec<Hierarchy> = Vec::new();
    let mut v2 = None;
    for line in mountinfo.lines() {
        let Some((front, back)) = line.split_once(" - ") else {
            continue;
        };
        let Some(mount) = front.split(' ').nth(4).map(PathBuf::from) else {
            continue;
        };
        let mut back = back.split(' ');
        match back.next() {
            Some("cgroup2") if v2.is_none() => v2 = Some(mount),
            Some("cgroup") => {
                let options = back.nth(1).unwrap_or_default();
                let controllers: Vec<String> =
                    options.split(',').filter(|o| CONTROLLERS.contains(o)).map(str::to_owned).collect();
                let known = v1.iter().any(|h| h.controllers == controllers);
                if !controllers.is_empty() && !known {
                    v1.push(Hierarchy { controllers, mount });
                }
            }
            _ => {}
        }
    }
    let memory = v1.iter().any(|h| h.controllers.iter().any(|c| c == "memory"));
    if memory { Some(Mode::V1(v1)) } else { v2.map(Mode::V2) }
}

/// Nesting below a container's group that is followed; the kernel allows more only with effort.
const DEPTH_MAX: usize = 64;

fn collect_processes(directory: &Path, found: &mut Vec<i32>, depth: usize) {
    if let Ok(text) = std::fs::read_to_string(directory.join("cgroup.procs")) {
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    if depth < DEPTH_MAX {
        for child in children(directory) {
            collect_processes(&child, found, depth + 1);
        }
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn remove_tree(directory: &Path, depth: usize) -> io::Result<()> {
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) && depth < DEPTH_MAX => {}
        other => return other,
    }
    for child in children(directory) {
        remove_tree(&child, depth + 1)?;
    }
    std::fs::remove_dir(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hierarchies_in_mountinfo() {
        let v1 = "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                  32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                  33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                  34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let Some(Mode::V1(list)) = parse_mounts(v1) else { panic!("not v1") };
        let names: Vec<String> = list.iter().map(|h| h.controllers.join("+")).collect();
        assert_eq!(names, ["cpu+cpuacct", "memory"]);
        let v2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(parse_mounts(v2), Some(Mode::V2(PathBuf::from("/sys/fs/cgroup"))));
        assert_eq!(parse_mounts("22 27 0:21 / /proc rw - proc proc rw\n"), None);
    }

    #[test]
    fn refuses_paths_that_leave_the_root() {
        for path in ["", "/", "../x", "a/../../b", "/abs"] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
        assert!(check_path("burstable/pod1/c").is_ok());
    }
}
