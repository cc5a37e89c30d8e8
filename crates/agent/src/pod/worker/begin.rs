//! Actions of the plan, begun as tasks that the worker owns.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Worker;
use crate::pod::observed::{ContainerPhase, SandboxState};
use crate::pod::plan::Action;
use crate::pod::{build, execute, reports};

impl Worker {
    /// Begins an action, and marks it so.
    pub(super) fn begin(&mut self, action: &Action, now: Timestamp) {
        let (ctx, pod) = (Arc::clone(&self.ctx), Arc::clone(&self.pod));
        reports::action(&ctx, &pod, action, &self.observed);
        match action {
            Action::SetUpVolumes | Action::RefreshVolumes => {
                self.tasks.spawn(execute::volumes(ctx, pod, Arc::clone(&self.uses)));
            }
            Action::StartSandbox => {
                self.tasks.spawn(execute::sandbox(ctx, pod));
            }
            Action::EnsureImage { container } => {
                if let Some((container, _)) = self.find(container) {
                    self.tasks.spawn(execute::image(ctx, pod, Arc::clone(&self.uses), container));
                }
            }
            Action::Start { container, attempt } => {
                let previous = match self.observed.phase(container) {
                    ContainerPhase::Ended(ended) if !ended.id.is_empty() => Some(ended.id.clone()),
                    _ => self.observed.started_over(container),
                };
                let image = self.images.get(container).cloned();
                if let (Some((container, _)), Some(image)) = (self.find(container), image) {
                    let ips = match &self.observed.sandbox {
                        SandboxState::Ready { ips } => ips.clone(),
                        _ => Vec::new(),
                    };
                    let volumes = Arc::clone(&self.volumes);
                    let start = execute::Start { container, attempt: *attempt, image, volumes, ips, previous };
                    self.tasks.spawn(execute::start(ctx, pod, Arc::clone(&self.uses), start));
                }
            }
            Action::PreStop { container, grace_seconds, .. } => {
                let limit = Duration::from_secs(u64::try_from(*grace_seconds).unwrap_or(0));
                if let (Some((spec, _)), Some(id)) = (self.find(container), self.running_id(container)) {
                    self.tasks.spawn(execute::pre_stop(ctx, pod, spec, id, self.ip(), limit));
                }
            }
            Action::Signal { container, .. } => {
                if let Some(id) = self.running_id(container) {
                    let signal = self.stop_signal(container);
                    self.tasks.spawn(execute::signal(ctx, pod, id, Some(signal)));
                }
            }
            Action::Kill { container, .. } => {
                if let Some(id) = self.running_id(container) {
                    self.tasks.spawn(execute::signal(ctx, pod, id, None));
                }
            }
            Action::RestartAll => {}
            Action::Resize => {
                self.tasks.spawn(execute::resize(ctx, pod, self.observed.given.clone(), self.resizing()));
            }
            Action::TearDown => {
                self.tasks.spawn(execute::tear_down(ctx, pod));
            }
            Action::DeletePod => {
                self.tasks.spawn(execute::delete(ctx, pod));
            }
        }
        self.observed.begin(action, now);
    }

    /// The signal that asks a container to stop: the pod's word, else the image's.
    fn stop_signal(&self, container: &str) -> i32 {
        let own = self.find(container).and_then(|(c, _)| c.lifecycle).and_then(|l| l.stop_signal);
        let image = self.images.get(container).and_then(|i| i.config.stop_signal.clone());
        own.or(image).as_deref().and_then(build::signal_number).unwrap_or(libc::SIGTERM)
    }

    pub(super) fn look(&mut self) {
        if self.looking {
            self.look_again = true;
            return;
        }
        self.looking = true;
        self.tasks.spawn(execute::look(Arc::clone(&self.ctx), Arc::clone(&self.pod)));
    }
}
