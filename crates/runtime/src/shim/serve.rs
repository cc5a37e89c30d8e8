//! The shim's loop: waits for drivers, signals, reports of starting processes and streams; answers and remembers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::connection::Connection;
use super::container::{Asker, ExecRecord, Process, Record};
use super::sandbox::Sandbox;
use super::streams::Port;
use crate::container::{Failure, Step};
use crate::driver::ContainerState;
use crate::protocol::{self, Answer, Call, Description, Message, Report, VERSION};
use crate::spec::PodSpec;
use crate::sys;

/// Drivers connected at the same time; more are turned away. One is usual, two while one replaces another.
const CONNECTIONS_MAX: usize = 8;

/// A first connection that says nothing for this long was no driver.
const INIT_WITHIN: Duration = Duration::from_secs(30);

/// What the event loop waits for.
#[derive(Debug, Clone, Copy)]
enum Token {
    Signal,
    Listener,
    Connection(usize),
    ContainerReport(usize),
    ExecReport(usize),
    Stream(usize, Port),
}

/// Everything the shim knows.
#[derive(Debug)]
pub(super) struct Shim {
    pub(super) directory: PathBuf,
    pub(super) pod: PodSpec,
    pub(super) cgroup_root: String,
    pub(super) sandbox: Sandbox,
    pub(super) containers: Vec<Record>,
    pub(super) execs: Vec<ExecRecord>,
    pub(super) exec_count: u64,
    /// Set by [`Call::Shutdown`]: who gets the last answer.
    pub(super) closing: Option<Asker>,
    /// The state file is older than the state.
    pub(super) changed: bool,
    signals: OwnedFd,
    listener: OwnedFd,
    connections: Vec<Connection>,
    connection_count: u64,
}

/// Becomes the sandbox that the first request asks for, and serves until told to end.
pub(super) fn run(directory: &Path, first: OwnedFd) -> io::Result<()> {
    let signals = sys::signal_fd()?;
    let mut connection = Connection::new(0, first);
    let (id, pod, cgroup_root) = wait_for_init(&mut connection)?;
    let set_up = super::sandbox::enter(&pod, &cgroup_root, directory).and_then(|sandbox| {
        let listener = listen(directory).step(|| "listen for drivers")?;
        Ok((sandbox, listener))
    });
    let (sandbox, listener) = match set_up {
        Ok(ready) => ready,
        Err(failure) => {
            connection.reply(id, Err(failure), Vec::new());
            connection.flush();
            return Ok(());
        }
    };
    let mut shim = Shim {
        directory: directory.to_owned(),
        pod,
        cgroup_root,
        sandbox,
        containers: Vec::new(),
        execs: Vec::new(),
        exec_count: 0,
        closing: None,
        changed: false,
        signals,
        listener,
        connections: vec![connection],
        connection_count: 0,
    };
    shim.save()?;
    let description = Answer::Description(Box::new(shim.describe()));
    shim.reply(Asker { connection: 0, request: id }, Ok(description), Vec::new());
    shim.flush();
    // After the answer: on cgroup v2 the move may wait for the kernel for milliseconds.
    shim.leave_the_cgroup_of_the_agent();
    shim.serve()
}

fn wait_for_init(connection: &mut Connection) -> io::Result<(u64, PodSpec, String)> {
    let deadline = Instant::now() + INIT_WITHIN;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (fd, flags) = connection.interest();
        let mut poll = [PollFd::from_borrowed_fd(fd, flags)];
        if rustix::event::poll(&mut poll, Some(&timespec(left)))? == 0 {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        let (requests, open) = connection.receive();
        if let Some((id, call)) = requests.into_iter().next() {
            return match call {
                Call::Init { pod, cgroup_root } => Ok((id, *pod, cgroup_root)),
                _ => Err(io::Error::other("the first request must be Init")),
            };
        }
        if !open {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
    }
}

fn listen(directory: &Path) -> io::Result<OwnedFd> {
    std::env::set_current_dir(directory)?; // The whole path may be longer than a socket address.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::net::bind(&socket, &SocketAddrUnix::new(super::SOCKET)?)?;
    rustix::net::listen(&socket, CONNECTIONS_MAX as i32)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(socket)
}

fn timespec(duration: Duration) -> rustix::time::Timespec {
    rustix::time::Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

/// Unix nanoseconds.
pub(super) fn now_nanos() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

impl Shim {
    fn leave_the_cgroup_of_the_agent(&self) {
        let group = "shims";
        let moved = self
            .sandbox
            .cgroups
            .create(group, &crate::spec::Resources::default())
            .and_then(|()| self.sandbox.cgroups.join(group));
        if let Err(error) = moved {
            eprintln!("move the shim to its cgroup: {error}");
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            for (token, events) in self.wait()? {
                self.handle(token, events);
            }
            let now = Instant::now();
            self.containers.iter_mut().for_each(|c| c.streams.settle(now));
            // Before the state file is written: who asked need not wait for the disk.
            self.flush();
            if self.changed
                && let Err(error) = self.save()
            {
                eprintln!("write the state file: {error}");
            }
            if let Some(asker) = self.closing
                && self.live_processes() == 0
            {
                self.reply(asker, Ok(Answer::Done), Vec::new());
                self.flush();
                return Ok(());
            }
        }
    }

    /// Waits until something happens.
    fn wait(&self) -> io::Result<Vec<(Token, PollFlags)>> {
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let mut tokens = Vec::new();
        let mut timeout: Option<Duration> = None;
        let mut add = |fd, flags: PollFlags, token: Token| {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            tokens.push(token);
        };
        // Reports first: a process that failed and exited must be known to have failed before it is reaped.
        for (index, record) in self.containers.iter().enumerate() {
            if let Process::Starting { report, .. } = &record.process {
                add(report.as_fd(), PollFlags::IN, Token::ContainerReport(index));
            }
            let limit = record.streams.interests(|fd, flags, port| add(fd, flags, Token::Stream(index, port)));
            timeout = limit.or(timeout);
        }
        for (index, exec) in self.execs.iter().enumerate() {
            if let Some(start) = &exec.starting {
                add(start.report.as_fd(), PollFlags::IN, Token::ExecReport(index));
            }
        }
        add(self.signals.as_fd(), PollFlags::IN, Token::Signal);
        add(self.listener.as_fd(), PollFlags::IN, Token::Listener);
        for (index, connection) in self.connections.iter().enumerate() {
            let (fd, flags) = connection.interest();
            add(fd, flags, Token::Connection(index));
        }
        let timeout = timeout.map(timespec);
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => Ok(Vec::new()),
            other => {
                other?;
                let ready = tokens.into_iter().zip(fds.iter().map(PollFd::revents));
                Ok(ready.filter(|(_, events)| !events.is_empty()).collect())
            }
        }
    }

    /// Indices in tokens stay right within a turn: nothing is removed before [`Shim::flush`], and signals, connections
    /// (which remove containers and execs) come after reports and streams.
    fn handle(&mut self, token: Token, events: PollFlags) {
        match token {
            Token::ContainerReport(index) => self.container_report(index),
            Token::ExecReport(index) => self.exec_report(index),
            Token::Stream(index, port) => {
                if let Some(record) = self.containers.get_mut(index) {
                    record.streams.ready(port, events, now_nanos());
                }
            }
            Token::Signal => self.signalled(),
            Token::Listener => self.accept(),
            Token::Connection(index) => self.requests(index),
        }
    }

    fn accept(&mut self) {
        let Ok(socket) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else {
            return;
        };
        if self.connections.len() < CONNECTIONS_MAX {
            self.connection_count += 1;
            self.connections.push(Connection::new(self.connection_count, socket));
        }
    }

    fn requests(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let number = connection.number;
        let (requests, open) = connection.receive();
        for (request, call) in requests {
            self.call(Asker { connection: number, request }, call);
        }
        if !open {
            self.connections.remove(index);
        }
    }

    fn signalled(&mut self) {
        let mut buffer = [0_u8; 128 * 8];
        // SIGTERM and the like end nobody's pods: only their arrival is taken note of.
        while matches!(rustix::io::read(&self.signals, &mut buffer), Ok(count) if count > 0) {}
        // What started processes have said counts before their end does.
        (0..self.containers.len()).for_each(|index| self.container_report(index));
        (0..self.execs.len()).for_each(|index| self.exec_report(index));
        while let Some((pid, status)) = sys::reap() {
            self.exited(pid, status);
        }
        self.forget_failed();
    }

    fn exited(&mut self, pid: i32, status: i32) {
        let (code, signal) = exit_code(status);
        if let Some(index) = self.containers.iter().position(|c| c.live_pid() == Some(pid)) {
            self.container_exited(index, code, signal);
        } else if let Some(index) = self.execs.iter().position(|e| e.pid == pid) {
            let exec = self.execs.remove(index);
            self.broadcast(&Message::ExecExited { exec: exec.id, code });
        } else if self.sandbox.pause.as_ref().is_some_and(|p| p.pid == pid) {
            eprintln!("the pause process is gone; the pod's containers went with it");
        }
    }

    fn container_exited(&mut self, index: usize, code: i32, signal: Option<i32>) {
        let own_namespace = self.own_pid_namespace();
        let record = &mut self.containers[index];
        record.pidfd = None;
        if let Process::Failed { reaped, .. } = &mut record.process {
            *reaped = true;
            return;
        }
        let started_at = match record.process {
            Process::Known(ContainerState::Running { started_at, .. }) => started_at,
            _ => now_nanos(),
        };
        if !own_namespace && let Err(error) = self.sandbox.cgroups.kill(&record.cgroup) {
            eprintln!("kill what container {} left behind: {error}", record.spec.id);
        }
        let oom_killed = self.sandbox.cgroups.oom_kills(&record.cgroup) > 0;
        let finished_at = now_nanos();
        record.streams.drain(finished_at);
        record.process = Process::Known(ContainerState::Exited { started_at, finished_at, code, signal, oom_killed });
        self.changed = true;
        self.broadcast(&Message::ContainerChanged);
    }

    /// Reads what a starting container says.
    fn container_report(&mut self, index: usize) {
        loop {
            let Some(record) = self.containers.get_mut(index) else {
                return;
            };
            let Process::Starting { report, asker, pid } = &record.process else {
                return;
            };
            let (asker, pid) = (*asker, *pid);
            match protocol::read_report(report) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(Report::Terminal(master)) => record.streams.set_terminal(master),
                Ok(Report::End) => {
                    let started_at = now_nanos();
                    record.process = Process::Known(ContainerState::Running { pid: pid as u32, started_at });
                    self.changed = true;
                    if let Some(container) = self.containers[index].describe() {
                        self.reply(asker, Ok(Answer::Started(Box::new(container))), Vec::new());
                    }
                    return;
                }
                Ok(Report::Failed(failure)) => return self.start_failed(index, asker, failure),
                Err(error) => return self.start_failed(index, asker, Failure::create("start the container", error)),
            }
        }
    }

    fn start_failed(&mut self, index: usize, asker: Asker, failure: Failure) {
        // Marked, so that indices of this turn stay right; the answer comes when nothing of it is left.
        let now = now_nanos();
        let record = &mut self.containers[index];
        let Process::Starting { pid, .. } = record.process else {
            return;
        };
        record.process = Process::Failed { pid, reaped: false, asker, failure };
        record.streams.drain(now);
    }

    /// Removes containers that never ran.
    pub(super) fn forget_failed(&mut self) {
        let is_gone = |record: &mut Record| matches!(record.process, Process::Failed { reaped: true, .. });
        let gone: Vec<Record> = self.containers.extract_if(.., is_gone).collect();
        for record in gone {
            super::calls::remove_traces(&self.sandbox, &self.directory, &record);
            if let Process::Failed { asker, failure, .. } = record.process {
                self.reply(asker, Err(failure), Vec::new());
            }
        }
    }

    /// Reads what a starting exec says.
    fn exec_report(&mut self, index: usize) {
        loop {
            let Some(exec) = self.execs.get_mut(index) else { return };
            let Some(start) = &mut exec.starting else { return };
            let asker = start.asker;
            let result = match protocol::read_report(&start.report) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(Report::Terminal(master)) => {
                    start.streams.terminal = true;
                    start.fds.push(master);
                    continue;
                }
                Ok(Report::End) => Ok(Answer::Exec { exec: exec.id.clone(), streams: start.streams }),
                Ok(Report::Failed(failure)) => Err(failure),
                Err(error) => Err(Failure::create("start the program", error)),
            };
            let fds = exec.starting.take().map(|start| start.fds).unwrap_or_default();
            let fds = if result.is_ok() { fds } else { Vec::new() };
            self.reply(asker, result, fds);
            return;
        }
    }

    /// Answers a request, if who asked is still connected.
    pub(super) fn reply(&mut self, asker: Asker, result: Result<Answer, Failure>, fds: Vec<OwnedFd>) {
        if let Some(connection) = self.connections.iter_mut().find(|c| c.number == asker.connection) {
            connection.reply(asker.request, result, fds);
        }
    }

    fn broadcast(&mut self, message: &Message) {
        self.connections.iter_mut().for_each(|c| c.push(message, Vec::new()));
    }

    fn flush(&mut self) {
        self.connections.retain_mut(Connection::flush);
    }

    fn live_processes(&self) -> usize {
        self.containers.iter().filter(|c| c.live_pid().is_some()).count() + self.execs.len()
    }

    /// Whether containers have PID namespaces of their own.
    pub(super) fn own_pid_namespace(&self) -> bool {
        !self.pod.host_pid && !self.pod.share_process_namespace
    }

    /// As told to the driver.
    pub(super) fn describe(&self) -> Description {
        Description {
            version: VERSION,
            pod: self.pod.clone(),
            cgroup_root: self.cgroup_root.clone(),
            shim_pid: std::process::id(),
            containers: self.containers.iter().filter_map(Record::describe).collect(),
        }
    }

    fn save(&mut self) -> io::Result<()> {
        self.changed = false;
        super::state::write(&self.directory, &self.describe())
    }
}

/// Exit code as a shell gives it, and the signal if one ended the process.
fn exit_code(status: i32) -> (i32, Option<i32>) {
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        (128 + signal, Some(signal))
    } else {
        (libc::WEXITSTATUS(status), None)
    }
}
