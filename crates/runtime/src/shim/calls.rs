//! What drivers ask of the shim, and what it does.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::container::{Asker, ExecRecord, ExecStart, Process, Record};
use super::log::Log;
use super::sandbox::Sandbox;
use super::serve::Shim;
use super::streams::{Streams, pipe_to_read, pipe_to_write};
use crate::container::{self, ContainerLaunch, ExecLaunch, Failure, Started, Stdio, Step};
use crate::driver::ExecSpec;
use crate::protocol::{Answer, Call, StreamSet};
use crate::spec::{ContainerSpec, Resources};
use crate::sys;

/// Containers of a pod that the shim remembers; the agent removes old ones long before.
const CONTAINERS_MAX: usize = 512;

/// Programs run in a pod's containers at the same time.
const EXECS_MAX: usize = 512;

impl Shim {
    /// Does as asked. Answers now, or, where a process has to start or end first, later.
    pub(super) fn call(&mut self, asker: Asker, call: Call) {
        let answer = match call {
            Call::Init { .. } => Err(Failure::create("become a sandbox", "this shim is one already")),
            Call::Describe => Ok(Some(Answer::Description(Box::new(self.describe())))),
            Call::Start { spec, layers, image_layers } => self.start(asker, *spec, layers, image_layers).map(|()| None),
            Call::Signal { container, signal } => self.signal(&container, signal).map(done),
            Call::Kill { container } => self.kill(&container).map(done),
            Call::Remove { container } => self.remove(&container).map(done),
            Call::Update { container, resources } => self.update(container.as_deref(), resources).map(done),
            Call::Exec { container, spec } => self.exec(asker, &container, &spec).map(|()| None),
            Call::KillExec { exec } => self.kill_exec(&exec).map(done),
            Call::Attach { container, stdin } => self.attach(asker, &container, stdin).map(|()| None),
            Call::ReopenLog { container } => self.reopen_log(&container).map(done),
            Call::Shutdown => self.shut_down(asker).map(|()| None),
        };
        match answer {
            Ok(Some(answer)) => self.reply(asker, Ok(answer), Vec::new()),
            Ok(None) => {}
            Err(failure) => self.reply(asker, Err(failure), Vec::new()),
        }
    }

    fn find(&self, id: &str) -> Result<usize, Failure> {
        let known = |record: &Record| record.spec.id == id && !matches!(record.process, Process::Failed { .. });
        self.containers.iter().position(known).ok_or_else(|| Failure::NoContainer { id: id.to_owned() })
    }

    fn running(&self, id: &str) -> Result<&Record, Failure> {
        let record = &self.containers[self.find(id)?];
        if record.is_running() { Ok(record) } else { Err(Failure::NoContainer { id: id.to_owned() }) }
    }

    fn start(
        &mut self,
        asker: Asker,
        spec: ContainerSpec,
        layers: Vec<PathBuf>,
        image_layers: std::collections::BTreeMap<String, Vec<PathBuf>>,
    ) -> Result<(), Failure> {
        let refuse = |message: &str| Failure::create(format!("create container {}", spec.id), message);
        if self.closing.is_some() {
            return Err(refuse("the pod is being removed"));
        }
        if self.containers.len() >= CONTAINERS_MAX {
            return Err(refuse("the pod has too many containers; remove old ones"));
        }
        if !is_id(&spec.id) || spec.args.is_empty() {
            return Err(refuse("its id must be lower-case hexadecimal, and its arguments not empty"));
        }
        if self.containers.iter().any(|c| c.spec.id == spec.id) {
            return Err(refuse("it exists already"));
        }
        let log = Log::open(&self.pod.log_directory, &spec.log_path)
            .step(|| format!("open log {}", spec.log_path.display()))?;
        let (streams, stdio) = Streams::new(spec.tty, spec.stdin, spec.stdin_once, log).step(|| "make pipes")?;
        let launch = ContainerLaunch {
            cgroup: format!("{}/{}", self.pod.cgroup, spec.id),
            directory: container_directory(&self.directory, &spec.id),
            mount_point: self.sandbox.mount_point.clone(),
            spec,
            layers,
            image_layers,
            shm: self.sandbox.shm.clone(),
            cgroups: self.sandbox.cgroups.clone(),
            own_pid_namespace: self.own_pid_namespace(),
            user: self.sandbox.user.as_ref(),
        };
        let started = container::start(&launch, stdio).and_then(|started| {
            let pidfd = sys::pidfd_open(started.pid).step(|| "name the container's process")?;
            Ok((started, pidfd))
        });
        let (process, pidfd) = match started {
            Ok((Started { pid, report }, pidfd)) => (Process::Starting { pid, report, asker }, Some(pidfd)),
            Err(failure) => {
                remove_files(&self.sandbox, &launch.cgroup, &launch.directory);
                return Err(failure);
            }
        };
        self.containers.push(Record { spec: launch.spec, process, pidfd, cgroup: launch.cgroup, streams });
        Ok(())
    }

    fn signal(&self, id: &str, signal: i32) -> Result<(), Failure> {
        let record = &self.containers[self.find(id)?];
        if !(1..=64).contains(&signal) {
            return Err(Failure::create(format!("signal container {id}"), format!("{signal} is no signal")));
        }
        match record.live_pid() {
            Some(pid) => sys::kill(pid, signal).step(|| format!("signal container {id}")),
            None => Ok(()),
        }
    }

    fn kill(&self, id: &str) -> Result<(), Failure> {
        kill(&self.sandbox, self.own_pid_namespace(), &self.containers[self.find(id)?])
    }

    fn remove(&mut self, id: &str) -> Result<(), Failure> {
        let Ok(index) = self.find(id) else { return Ok(()) };
        if self.containers[index].live_pid().is_some() {
            return Err(Failure::create(format!("remove container {id}"), "it is running; kill it first"));
        }
        let record = self.containers.remove(index);
        if let Err(error) = self.sandbox.cgroups.remove(&record.cgroup) {
            eprintln!("{error}");
        }
        // Its files may be many: the driver removes them, so that the other containers' streams need not wait.
        self.changed = true;
        Ok(())
    }

    fn update(&mut self, id: Option<&str>, resources: Resources) -> Result<(), Failure> {
        let cgroups = &self.sandbox.cgroups;
        let error = |e| Failure::create("change limits", e);
        match id {
            None => {
                cgroups.update(&self.pod.cgroup, &resources).map_err(error)?;
                self.pod.resources = merged(&self.pod.resources, resources);
            }
            Some(id) => {
                let index = self.find(id)?;
                let record = &mut self.containers[index];
                cgroups.update(&record.cgroup, &resources).map_err(error)?;
                record.spec.resources = merged(&record.spec.resources, resources);
            }
        }
        self.changed = true;
        Ok(())
    }

    fn exec(&mut self, asker: Asker, id: &str, spec: &ExecSpec) -> Result<(), Failure> {
        let record = self.running(id)?;
        if self.execs.len() >= EXECS_MAX || spec.args.is_empty() {
            return Err(Failure::create("run a program", "too many run already, or no program is named"));
        }
        let (stdio, streams, fds) = exec_streams(spec).step(|| "make pipes")?;
        let pidfd = record.pidfd.as_ref().ok_or_else(|| Failure::NoContainer { id: id.to_owned() })?;
        let launch = ExecLaunch {
            spec: &record.spec,
            args: &spec.args,
            pidfd,
            cgroups: &self.sandbox.cgroups,
            cgroup: &record.cgroup,
            user: self.sandbox.user.as_ref(),
        };
        let own = self.own_pid_namespace();
        if own {
            sys::setns(pidfd, libc::CLONE_NEWPID).step(|| "enter the container's PID namespace")?;
        }
        let started = container::exec(&launch, stdio);
        if own {
            sys::setns(&self.sandbox.own_pid_namespace, libc::CLONE_NEWPID).step(|| "return from the container")?;
        }
        let Started { pid, report } = started?;
        self.exec_count += 1;
        let starting = Some(ExecStart { report, asker, streams, fds });
        let name = format!("{}-{}", id, self.exec_count);
        self.execs.push(ExecRecord { id: name, container: id.to_owned(), pid, starting });
        Ok(())
    }

    fn kill_exec(&self, exec: &str) -> Result<(), Failure> {
        match self.execs.iter().find(|e| e.id == exec) {
            Some(exec) => sys::kill(exec.pid, libc::SIGKILL).step(|| format!("kill exec {}", exec.id)),
            None => Ok(()),
        }
    }

    fn attach(&mut self, asker: Asker, id: &str, stdin: bool) -> Result<(), Failure> {
        self.running(id)?;
        let index = self.find(id)?;
        let (streams, fds) =
            self.containers[index].streams.attach(stdin).step(|| format!("attach to container {id}"))?;
        self.reply(asker, Ok(Answer::Attached { streams }), fds);
        Ok(())
    }

    fn reopen_log(&mut self, id: &str) -> Result<(), Failure> {
        let index = self.find(id)?;
        self.containers[index].streams.reopen_log().step(|| format!("reopen the log of container {id}"))
    }

    fn shut_down(&mut self, asker: Asker) -> Result<(), Failure> {
        self.closing = Some(asker);
        let own = self.own_pid_namespace();
        for record in self.containers.iter().filter(|c| c.live_pid().is_some()) {
            kill(&self.sandbox, own, record)?;
        }
        for exec in &self.execs {
            // Its container has just been killed; what has a namespace of its own went with it.
            sys::kill(exec.pid, libc::SIGKILL).step(|| format!("kill exec {} of {}", exec.id, exec.container))?;
        }
        Ok(())
    }
}

fn done((): ()) -> Option<Answer> {
    Some(Answer::Done)
}

/// Kills every process of a container. The first one of a PID namespace takes the others with it.
fn kill(sandbox: &Sandbox, own_pid_namespace: bool, record: &Record) -> Result<(), Failure> {
    let step = || format!("kill container {}", record.spec.id);
    if let Some(pid) = record.live_pid() {
        sys::kill(pid, libc::SIGKILL).step(step)?;
    }
    if !own_pid_namespace {
        sandbox.cgroups.kill(&record.cgroup).map_err(|e| Failure::create(step(), e))?;
    }
    Ok(())
}

/// Removes the cgroup and the files of a container.
pub(super) fn remove_traces(sandbox: &Sandbox, directory: &Path, record: &Record) {
    remove_files(sandbox, &record.cgroup, &container_directory(directory, &record.spec.id));
}

fn remove_files(sandbox: &Sandbox, cgroup: &str, directory: &Path) {
    if let Err(error) = sandbox.cgroups.remove(cgroup) {
        eprintln!("{error}");
    }
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => eprintln!("remove {}: {error}", directory.display()),
        _ => {}
    }
}

/// Where a container's upper directory is.
pub(crate) fn container_directory(directory: &Path, id: &str) -> PathBuf {
    directory.join("containers").join(id)
}

pub(crate) fn is_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Limits after an update: what it does not name stays.
fn merged(old: &Resources, new: Resources) -> Resources {
    let mut hugepage_limits = old.hugepage_limits.clone();
    hugepage_limits.extend(new.hugepage_limits);
    Resources {
        cpu_shares: new.cpu_shares.or(old.cpu_shares),
        cpu_quota_us: new.cpu_quota_us.or(old.cpu_quota_us),
        cpu_period_us: new.cpu_period_us.or(old.cpu_period_us),
        memory_limit_bytes: new.memory_limit_bytes.or(old.memory_limit_bytes),
        pids_limit: new.pids_limit.or(old.pids_limit),
        hugepage_limits,
        oom_score_adj: new.oom_score_adj.or(old.oom_score_adj),
    }
}

fn exec_streams(spec: &ExecSpec) -> io::Result<(Stdio, StreamSet, Vec<OwnedFd>)> {
    if spec.tty {
        return Ok((Stdio::Terminal, StreamSet::default(), Vec::new()));
    }
    let mut set = StreamSet { stdout: true, stderr: true, ..StreamSet::default() };
    let mut ours = Vec::new();
    let stdin = if spec.stdin {
        let (theirs, write) = pipe_to_write()?;
        ours.push(write);
        set.stdin = true;
        Some(theirs)
    } else {
        None
    };
    let (out, stdout) = pipe_to_read()?;
    let (err, stderr) = pipe_to_read()?;
    ours.extend([out, err]);
    Ok((Stdio::Pipes { stdin, stdout, stderr }, set, ours))
}
