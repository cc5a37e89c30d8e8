//! A container and an exec, as the shim keeps them.

use std::os::fd::OwnedFd;

use super::streams::Streams;
use crate::container::Failure;
use crate::driver::{Container, ContainerState};
use crate::spec::ContainerSpec;

/// Where an answer that comes later goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub(super) connection: u64,
    pub(super) request: u64,
}

/// The process of a container.
#[derive(Debug)]
pub(super) enum Process {
    /// Forked; its program is not yet executed.
    Starting { pid: i32, report: OwnedFd, asker: Asker },
    /// Its program could not be executed: answered and forgotten once it is reaped.
    Failed { pid: i32, reaped: bool, asker: Asker, failure: Failure },
    /// As told to the driver.
    Known(ContainerState),
}

/// A container.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) spec: ContainerSpec,
    pub(super) process: Process,
    /// Names the first process while it is not reaped.
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) cgroup: String,
    pub(super) streams: Streams,
}

impl Record {
    /// The process id of a first process that has not been reaped.
    pub(super) fn live_pid(&self) -> Option<i32> {
        match &self.process {
            Process::Starting { pid, .. } | Process::Failed { pid, reaped: false, .. } => Some(*pid),
            Process::Known(ContainerState::Running { pid, .. }) => Some(*pid as i32),
            Process::Failed { .. } | Process::Known(ContainerState::Exited { .. }) => None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.process, Process::Known(ContainerState::Running { .. }))
    }

    /// As told to the driver; `None` while it starts.
    pub(super) fn describe(&self) -> Option<Container> {
        match &self.process {
            Process::Starting { .. } | Process::Failed { .. } => None,
            Process::Known(state) => Some(Container { spec: self.spec.clone(), state: state.clone() }),
        }
    }
}

/// A program run in a container.
#[derive(Debug)]
pub(super) struct ExecRecord {
    pub(super) id: String,
    pub(super) container: String,
    pub(super) pid: i32,
    /// While its program is not yet executed.
    pub(super) starting: Option<ExecStart>,
}

/// What the answer to an exec waits for.
#[derive(Debug)]
pub(super) struct ExecStart {
    pub(super) report: OwnedFd,
    pub(super) asker: Asker,
    /// The driver's ends.
    pub(super) streams: crate::protocol::StreamSet,
    pub(super) fds: Vec<OwnedFd>,
}
