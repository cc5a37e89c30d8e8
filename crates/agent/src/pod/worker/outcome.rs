//! What came of the tasks, taken into what is observed.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use mizzen_runtime::driver::{self, ContainerState, DriverError};
use mizzen_runtime::images::{Ensured, ImageError};

use super::{RETRY, Worker};
use crate::pod::backoff::{Retry, later};
use crate::pod::execute::{self, Outcome};
use crate::pod::observed::{ContainerPhase, Ended, Hook, ImageState, SandboxState, Step, StopStep};
use crate::pod::{FIRST_PULL_WAIT, MAX_PULL_WAIT, reports, roles};
use crate::volume::{Failure, MountedVolumes};

impl Worker {
    pub(super) fn take(&mut self, outcome: Outcome, now: Timestamp) {
        match outcome {
            Outcome::Volumes(result) => self.take_volumes(result, now),
            Outcome::Sandbox(result) => self.take_sandbox(result, now),
            Outcome::Image { container, result } => self.take_image(&container, *result, now),
            Outcome::Started { container, attempt, image, result } => {
                self.take_started(&container, attempt, *result, now);
                if let ContainerPhase::Running(running) = &mut self.observed.container_mut(&container).state {
                    running.image.get_or_insert(image);
                }
            }
            Outcome::PostStart { container, id, result } => {
                if let Err(message) = &result {
                    reports::hook_failed(&self.ctx, &self.pod, &container, "FailedPostStartHook", message);
                }
                if let ContainerPhase::Running(running) = &mut self.observed.container_mut(&container).state
                    && running.id == id
                {
                    running.post_start = result.map_or_else(Hook::Failed, |()| Hook::Done);
                }
            }
            Outcome::Resized { containers, pod, result } => self.take_resized(containers, pod, result, now),
            Outcome::PreStopped { container, id, result } => {
                if let Err(message) = &result {
                    reports::hook_failed(&self.ctx, &self.pod, &container, "FailedPreStopHook", message);
                }
                if let ContainerPhase::Running(running) = &mut self.observed.container_mut(&container).state
                    && running.id == id
                    && let Some(stop) = &mut running.stop
                    && stop.step == StopStep::PreStop
                {
                    stop.step = StopStep::PreStopDone;
                }
            }
            Outcome::Signalled => {}
            Outcome::Looked(result) => self.take_look(result.map(|look| *look), now),
            Outcome::TornDown(Ok(())) => {
                self.observed.teardown = Step::Done;
                self.observed.sandbox = SandboxState::Absent;
            }
            Outcome::TornDown(Err(message)) => {
                tracing::warn!(pod = self.name(), message, "a pod could not be taken down; trying again");
                self.observed.teardown = execute::failed(&self.observed.teardown, message, now, RETRY.0, RETRY.1);
            }
            Outcome::Deleted(Ok(())) => {
                self.observed.deletion = Step::Done;
                self.observed.gone = true;
            }
            Outcome::Deleted(Err(error)) => {
                let message = execute::chain(&error);
                tracing::warn!(pod = self.name(), message, "a pod could not be removed from the API; trying again");
                self.observed.deletion = execute::failed(&self.observed.deletion, message, now, RETRY.0, RETRY.1);
            }
            Outcome::Written { status, result } => self.take_written(*status, result, now),
        }
    }

    fn take_volumes(&mut self, result: Result<MountedVolumes, Failure>, now: Timestamp) {
        let renewing = std::mem::take(&mut self.observed.refreshing);
        match result {
            Ok(volumes) => {
                self.observed.volumes = Step::Done;
                self.observed.refresh_at = [self.observed.refresh_at, volumes.refresh_at].into_iter().flatten().min();
                self.volumes = Arc::new(volumes);
            }
            Err(Failure { volume, error }) => {
                let message = execute::chain(&*error);
                reports::mount_failed(&self.ctx, &self.pod, &volume, &message);
                if renewing {
                    // What is mounted stays; the change is tried again.
                    self.observed.refresh_at = Some(later(now, RETRY.1));
                } else {
                    self.observed.volumes = execute::failed(&self.observed.volumes, message, now, RETRY.0, RETRY.1);
                }
            }
        }
    }

    fn take_sandbox(&mut self, result: Result<Vec<IpAddr>, execute::SandboxError>, now: Timestamp) {
        self.observed.sandbox = match result {
            Ok(ips) => SandboxState::Ready { ips },
            Err(error) => {
                let message = execute::chain(&error);
                reports::sandbox_failed(&self.ctx, &self.pod, &message);
                let before = match &self.observed.sandbox {
                    SandboxState::Failed { retry, .. } => Some(*retry),
                    _ => None,
                };
                SandboxState::Failed { message, retry: Retry::after(before, now, RETRY.0, RETRY.1) }
            }
        };
    }

    fn take_image(&mut self, container: &str, result: Result<Ensured, ImageError>, now: Timestamp) {
        reports::image(&self.ctx, &self.pod, container, &result);
        let reference = self.find(container).and_then(|(c, _)| c.image).unwrap_or_default();
        let record = self.observed.container_mut(container);
        match result {
            Ok(ensured) => {
                record.image = ImageState::Ready;
                record.pull_retry = None;
                let digest = ensured.image.digests.first().unwrap_or(&ensured.image.id).clone();
                self.digests.insert(container.to_string(), digest);
                self.images.insert(container.to_string(), ensured.image);
            }
            Err(error) => {
                let retry = Retry::after(record.pull_retry, now, FIRST_PULL_WAIT, MAX_PULL_WAIT);
                record.pull_retry = Some(retry);
                record.image = ImageState::Failed {
                    reason: error.reason.as_str(),
                    message: error.message,
                    image: reference,
                    retry,
                };
            }
        }
    }

    fn take_started(
        &mut self,
        container: &str,
        attempt: u32,
        result: Result<driver::Container, execute::StartError>,
        now: Timestamp,
    ) {
        let digest = self.digests.get(container).cloned().unwrap_or_default();
        reports::started(&self.ctx, &self.pod, container, &result);
        match result {
            Ok(seen) => {
                let has_hook =
                    self.find(container).and_then(|(c, _)| c.lifecycle).is_some_and(|l| l.post_start.is_some());
                let over = !matches!(seen.state, ContainerState::Running { .. });
                if over {
                    // Its last words come with a look.
                    self.look();
                } else {
                    self.observed.record(&seen, &digest, has_hook, String::new());
                }
            }
            Err(error) => {
                let record = self.observed.container_mut(container);
                if error.reason == "StartError" {
                    record.restarts = attempt;
                    record.ended(Ended {
                        id: String::new(),
                        image_id: digest,
                        started_at: None,
                        finished_at: now,
                        code: 128,
                        signal: None,
                        reason: "StartError".into(),
                        message: error.message,
                    });
                } else {
                    let retry = Retry::after(record.create_retry, now, RETRY.0, RETRY.1);
                    record.create_retry = Some(retry);
                    record.state = ContainerPhase::CreateFailed { reason: error.reason, message: error.message, retry };
                }
            }
        }
    }

    fn take_look(&mut self, result: Result<execute::Look, DriverError>, now: Timestamp) {
        self.looking = false;
        match result {
            Ok(look) => {
                for container in &look.sandbox.containers {
                    let digest = self.digests.get(&container.spec.name).cloned().unwrap_or_default();
                    let message = look.messages.get(&container.spec.id).cloned().unwrap_or_default();
                    if self.observed.record(container, &digest, false, message) {
                        self.report_backoff(&container.spec.name);
                    }
                }
            }
            Err(DriverError::NoSandbox { .. }) if matches!(self.observed.sandbox, SandboxState::Ready { .. }) => {
                if self.observed.teardown == Step::Todo {
                    reports::sandbox_changed(&self.ctx, &self.pod);
                }
                self.observed.sandbox_lost(now);
            }
            Err(error) => tracing::debug!(pod = self.name(), %error, "sandbox could not be looked at"),
        }
        if std::mem::take(&mut self.look_again) {
            self.look();
        }
    }

    fn take_resized(
        &mut self,
        resized: Vec<(Container, String)>,
        whole: Option<ResourceRequirements>,
        result: Result<(), String>,
        now: Timestamp,
    ) {
        if let Err(message) = result {
            if !matches!(&self.resize_failed, Step::Failed { message: same, .. } if *same == message) {
                reports::resize(&self.ctx, &self.pod, "ResizeError", &message);
            }
            let again = std::mem::take(&mut self.resize_again);
            let failed = execute::failed(&self.resize_failed, message, now, RETRY.0, RETRY.1);
            self.resize_failed = failed.clone();
            self.observed.resize = if again { Step::Todo } else { failed };
            return;
        }
        self.resize_failed = Step::Todo;
        for (made, id) in resized {
            let wanted = self.find(&made.name).map(|(container, _)| container.resources);
            if let ContainerPhase::Running(running) = &mut self.observed.container_mut(&made.name).state
                && running.id == id
            {
                let current = wanted.is_some_and(|wanted| wanted == made.resources);
                running.given = (!current).then(|| made.resources.unwrap_or_default());
            }
        }
        if self.observed.given.is_some() {
            let wanted = self.pod.spec.as_ref().and_then(|s| s.resources.clone());
            self.observed.given = (wanted != whole).then(|| whole.unwrap_or_default());
        }
        let again = std::mem::take(&mut self.resize_again);
        self.observed.resize = if again { Step::Todo } else { Step::Done };
        if !self.observed.is_resizing() {
            reports::resize(&self.ctx, &self.pod, "ResizeCompleted", "");
        }
    }

    /// A container ended; if it has to wait before it starts again, that is worth an event.
    fn report_backoff(&self, name: &str) {
        let Some(spec) = self.pod.spec.as_ref() else { return };
        let Some(member) = roles::members(spec).find(|m| m.container.name == name) else { return };
        let Some(record) = self.observed.containers.get(name) else { return };
        let ending = self.pod.metadata.deletion_timestamp.is_some() || self.observed.doom.is_some();
        if let ContainerPhase::Ended(ended) = &record.state
            && record.backoff.wait > 0
            && !ending
            && roles::restarts(spec, member, ended)
        {
            reports::backing_off(&self.ctx, &self.pod, name);
        }
    }
}
