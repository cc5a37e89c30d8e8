//! The worker of one pod: asks the plan what to do, does it, and takes in what comes of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use mizzen_runtime::driver::{DriverError, Sandbox};
use mizzen_runtime::images::Image;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::backoff::{Retry, later};
use super::execute::{self, Outcome};
use super::mailbox::Mailbox;
use super::observed::{ContainerPhase, Doom, Ended, Hook, ImageState, Observed, SandboxState, Step, StopStep};
use super::plan::{self, Action, NodeFacts, Plan};
use super::roles::{self, Member, Role};
use super::uses::Uses;
use super::{FIRST_PULL_WAIT, MAX_PULL_WAIT, patch, reports, seed, status};
use crate::context::Context;
use crate::probe::{self, Kind, Verdict};
use crate::volume::MountedVolumes;

/// Waits between attempts at volumes, sandboxes and configurations, seconds: first and longest.
const RETRY: (i64, i64) = (1, 30);
/// Wait before a status is written again that could not be, seconds: first and longest.
const WRITE_RETRY: (i64, i64) = (1, 10);
/// Verdicts of probes that may wait for the worker.
const VERDICTS: usize = 16;

/// A pod's worker.
pub struct Worker {
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    mailbox: Mailbox,
    observed: Observed,
    uses: Arc<Uses>,
    volumes: Arc<MountedVolumes>,
    /// Images found for the next start of a container.
    images: HashMap<String, Image>,
    /// What `imageID` shows, by container.
    digests: HashMap<String, String>,
    tasks: JoinSet<Outcome>,
    probes: HashMap<(String, Kind), AbortHandle>,
    probe_tasks: JoinSet<()>,
    verdicts: (mpsc::Sender<Verdict>, mpsc::Receiver<Verdict>),
    /// Container ids whose postStart hook was begun.
    hooked: HashSet<String>,
    looking: bool,
    look_again: bool,
    /// The status that the API has.
    written: PodStatus,
    /// The status as last computed.
    shown: PodStatus,
    writing: bool,
    write_retry: Option<Retry>,
    facts: NodeFacts,
    _stop: DropGuard,
}

impl Worker {
    /// A worker for a pod. `sandbox` is what already runs of it; `doom` ends it before it begins.
    pub fn new(
        ctx: Arc<Context>,
        pod: Arc<Pod>,
        mailbox: Mailbox,
        sandbox: Option<(Sandbox, Vec<IpAddr>)>,
        doom: Option<Doom>,
        tasks: TaskTracker,
    ) -> Self {
        let now = Timestamp::now();
        let stop = CancellationToken::new();
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let look = sandbox.map(|(sandbox, ips)| (execute::read_look(&ctx, &pod, sandbox), ips));
        let (mut observed, digests) = seed::observed(&pod, look, now);
        observed.doom = doom;
        let written = pod.status.clone().unwrap_or_default();
        Self {
            facts: NodeFacts { host_ips: ctx.config.addresses.clone() },
            uses: Arc::new(Uses::new(&namespace, tasks, stop.clone())),
            hooked: HashSet::new(),
            observed,
            mailbox,
            volumes: Arc::new(MountedVolumes::default()),
            images: HashMap::new(),
            digests,
            tasks: JoinSet::new(),
            probes: HashMap::new(),
            probe_tasks: JoinSet::new(),
            verdicts: mpsc::channel(VERDICTS),
            looking: false,
            look_again: false,
            shown: written.clone(),
            written,
            writing: false,
            write_retry: None,
            ctx,
            pod,
            _stop: stop.drop_guard(),
        }
    }

    /// Works until nothing of the pod is left, or `shutdown`: what runs then goes on without it.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let now = Timestamp::now();
            self.read_mail(now);
            let plan = self.plan(now);
            if plan.finished {
                self.forget();
                return;
            }
            for action in &plan.actions {
                self.begin(action, now);
            }
            self.shown = plan.status;
            self.write_status(now);
            self.mind_hooks();
            self.mind_probes();
            if !plan.actions.is_empty() {
                // What was begun may show in the status, and may make the next timer.
                tokio::task::yield_now().await;
            }
            let wake_at = [plan.wake_at, self.write_retry.map(|r| r.at)].into_iter().flatten().min();
            tokio::select! {
                () = self.mailbox.wait() => {}
                Some(outcome) = self.tasks.join_next(), if !self.tasks.is_empty() => match outcome {
                    Ok(outcome) => self.take(outcome, Timestamp::now()),
                    Err(error) if error.is_panic() => {
                        // Its outcome will never come; the manager begins the pod anew.
                        std::panic::resume_unwind(error.into_panic());
                    }
                    Err(_) => {}
                },
                Some(verdict) = self.verdicts.1.recv() => self.take_verdict(&verdict),
                () = self.uses.changed.notified() => self.objects_changed(Timestamp::now()),
                () = sleep_until(wake_at) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn name(&self) -> String {
        let meta = &self.pod.metadata;
        format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }

    fn ip(&self) -> Option<IpAddr> {
        match &self.observed.sandbox {
            SandboxState::Ready { ips } => ips.first().copied(),
            _ => None,
        }
    }

    fn read_mail(&mut self, now: Timestamp) {
        let letters = self.mailbox.take();
        if let Some(pod) = letters.pod {
            let labels = |p: &Pod| (p.metadata.labels.clone(), p.metadata.annotations.clone());
            if labels(&pod) != labels(&self.pod) && self.observed.volumes == Step::Done {
                self.observed.refresh_at = Some(now);
            }
            let before = std::mem::replace(&mut self.pod, pod);
            self.resize(&before);
        }
        self.observed.gone |= letters.gone;
        if let Some(doom) = letters.doom
            && self.observed.doom.is_none()
        {
            self.observed.doom = Some(doom);
        }
        if letters.lost {
            reports::sandbox_changed(&self.ctx, &self.pod);
            self.observed.sandbox_lost(now);
        }
        if letters.look {
            self.look();
        }
    }

    /// Gives running containers whose resources changed their new limits.
    fn resize(&mut self, before: &Pod) {
        let pod = Arc::clone(&self.pod);
        let (Some(old), Some(new)) = (&before.spec, &pod.spec) else { return };
        let mut changed = Vec::new();
        for Member { container, .. } in roles::members(new) {
            let then = roles::members(old).find(|m| m.container.name == container.name);
            let Some(then) = then.filter(|m| m.container.resources != container.resources) else { continue };
            if let ContainerPhase::Running(running) = &mut self.observed.container_mut(&container.name).state {
                running.given.get_or_insert_with(|| then.container.resources.clone().unwrap_or_default());
                changed.push((container.clone(), running.id.clone()));
            }
        }
        if !changed.is_empty() {
            self.tasks.spawn(execute::resize(Arc::clone(&self.ctx), Arc::clone(&pod), changed));
        }
    }

    fn take_resized(&mut self, resized: Vec<(Container, String)>) {
        for (made, id) in resized {
            let wanted = self.find(&made.name).map(|(container, _)| container.resources);
            if let ContainerPhase::Running(running) = &mut self.observed.container_mut(&made.name).state
                && running.id == id
            {
                let current = wanted.is_some_and(|wanted| wanted == made.resources);
                running.given = (!current).then(|| made.resources.unwrap_or_default());
            }
        }
    }

    fn plan(&mut self, now: Timestamp) -> Plan {
        let deciding = self.observed.doom.is_none() && self.pod.metadata.deletion_timestamp.is_none();
        if deciding
            && !status::is_terminal(self.shown.phase.as_deref())
            && plan::deadline_exceeded(&self.pod, &self.shown, &self.observed, now)
        {
            let spec = self.pod.spec.as_ref();
            self.observed.doom = Some(Doom {
                reason: "DeadlineExceeded".into(),
                message: "Pod was active on the node longer than the specified deadline".into(),
                rejected: false,
                grace_seconds: spec.and_then(|s| s.termination_grace_period_seconds).unwrap_or(30),
                at: now,
                disruption: false,
            });
            reports::deadline(&self.ctx, &self.pod);
        }
        plan::plan(&self.pod, &self.shown, &self.observed, &self.facts, now)
    }

    /// Begins an action, and marks it so.
    fn begin(&mut self, action: &Action, now: Timestamp) {
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
                    _ => None,
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
            Action::TearDown => {
                self.tasks.spawn(execute::tear_down(ctx, pod));
            }
            Action::DeletePod => {
                self.tasks.spawn(execute::delete(ctx, pod));
            }
        }
        self.observed.begin(action, now);
    }

    fn find(&self, container: &str) -> Option<(Container, Role)> {
        roles::find(self.pod.spec.as_ref()?, container)
    }

    fn running_id(&self, container: &str) -> Option<String> {
        match self.observed.phase(container) {
            ContainerPhase::Running(running) => Some(running.id.clone()),
            _ => None,
        }
    }

    /// The signal that asks a container to stop: the pod's word, else the image's.
    fn stop_signal(&self, container: &str) -> i32 {
        let own = self.find(container).and_then(|(c, _)| c.lifecycle).and_then(|l| l.stop_signal);
        let image = self.images.get(container).and_then(|i| i.config.stop_signal.clone());
        own.or(image).as_deref().and_then(super::build::signal_number).unwrap_or(libc::SIGTERM)
    }

    fn look(&mut self) {
        if self.looking {
            self.look_again = true;
            return;
        }
        self.looking = true;
        self.tasks.spawn(execute::look(Arc::clone(&self.ctx), Arc::clone(&self.pod)));
    }

    fn take(&mut self, outcome: Outcome, now: Timestamp) {
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
            Outcome::Resized(resized) => self.take_resized(resized),
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

    fn take_volumes(&mut self, result: Result<MountedVolumes, crate::volume::Failure>, now: Timestamp) {
        let renewing = std::mem::take(&mut self.observed.refreshing);
        match result {
            Ok(volumes) => {
                self.observed.volumes = Step::Done;
                self.observed.refresh_at = [self.observed.refresh_at, volumes.refresh_at].into_iter().flatten().min();
                self.volumes = Arc::new(volumes);
            }
            Err(crate::volume::Failure { volume, error }) => {
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

    fn take_image(
        &mut self,
        container: &str,
        result: Result<mizzen_runtime::images::Ensured, mizzen_runtime::images::ImageError>,
        now: Timestamp,
    ) {
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
        result: Result<mizzen_runtime::driver::Container, execute::StartError>,
        now: Timestamp,
    ) {
        let digest = self.digests.get(container).cloned().unwrap_or_default();
        reports::started(&self.ctx, &self.pod, container, &result);
        match result {
            Ok(seen) => {
                let has_hook =
                    self.find(container).and_then(|(c, _)| c.lifecycle).is_some_and(|l| l.post_start.is_some());
                let over = !matches!(seen.state, mizzen_runtime::driver::ContainerState::Running { .. });
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

    fn take_verdict(&mut self, verdict: &Verdict) {
        if self.running_id(&verdict.container).as_deref() != Some(&verdict.id) {
            return;
        }
        let results = &mut self.observed.container_mut(&verdict.container).probes;
        let slot = match verdict.kind {
            Kind::Startup => &mut results.startup,
            Kind::Readiness => &mut results.readiness,
            Kind::Liveness => &mut results.liveness,
        };
        *slot = Some(verdict.ok);
    }

    /// A ConfigMap or Secret changed: volumes show it, and what failed for want of it is tried at once.
    fn objects_changed(&mut self, now: Timestamp) {
        match &mut self.observed.volumes {
            Step::Done => self.observed.refresh_at = Some(now),
            Step::Failed { retry, .. } => retry.at = now,
            Step::Todo | Step::Doing => {}
        }
        for record in self.observed.containers.values_mut() {
            if let ContainerPhase::CreateFailed { retry, .. } = &mut record.state {
                retry.at = now;
            }
        }
    }

    fn write_status(&mut self, now: Timestamp) {
        let due = self.write_retry.is_none_or(|r| r.at <= now);
        if self.writing || self.observed.gone || !due || self.shown == self.written {
            return;
        }
        let (ctx, pod) = (Arc::clone(&self.ctx), Arc::clone(&self.pod));
        let body = patch::status(pod.metadata.uid.as_deref().unwrap_or_default(), &self.written, &self.shown);
        if body["status"].as_object().is_none_or(serde_json::Map::is_empty) {
            // Only what others wrote differs.
            self.written = self.shown.clone();
            return;
        }
        self.writing = true;
        self.tasks.spawn(execute::write_status(ctx, pod, body, self.shown.clone()));
    }

    fn take_written(&mut self, status: PodStatus, result: Result<bool, mizzen_client::ClientError>, now: Timestamp) {
        self.writing = false;
        match result {
            Ok(there) => {
                self.write_retry = None;
                self.observed.gone |= !there;
                self.observed.reported_terminal |= status::is_terminal(status.phase.as_deref());
                self.written = status;
            }
            Err(error) => {
                tracing::warn!(pod = self.name(), error = execute::chain(&error), "status not written; trying again");
                self.write_retry = Some(Retry::after(self.write_retry, now, WRITE_RETRY.0, WRITE_RETRY.1));
            }
        }
    }

    /// Begins postStart hooks of containers that have just started.
    fn mind_hooks(&mut self) {
        let ready: Vec<(String, String)> = self
            .observed
            .containers
            .iter()
            .filter_map(|(name, record)| match &record.state {
                ContainerPhase::Running(r) if r.post_start == Hook::Running && !self.hooked.contains(&r.id) => {
                    Some((name.clone(), r.id.clone()))
                }
                _ => None,
            })
            .collect();
        for (name, id) in ready {
            if let Some((container, _)) = self.find(&name) {
                self.hooked.insert(id.clone());
                let (ctx, pod) = (Arc::clone(&self.ctx), Arc::clone(&self.pod));
                self.tasks.spawn(execute::post_start(ctx, pod, container, id, self.ip()));
            }
        }
    }

    /// Begins and ends probes so that they are those of the containers that run.
    fn mind_probes(&mut self) {
        let wanted = self.wanted_probes();
        self.probes.retain(|key, handle| {
            let keep = wanted.contains_key(key) && !handle.is_finished();
            if !keep && !handle.is_finished() {
                handle.abort();
            }
            // A startup probe that passed is finished; the verdict keeps it from being wanted again.
            keep
        });
        while self.probe_tasks.try_join_next().is_some() {}
        let Some(ip) = self.ip() else { return };
        for ((id, kind), name) in wanted {
            if self.probes.contains_key(&(id.clone(), kind)) {
                continue;
            }
            let Some((container, _)) = self.find(&name) else { continue };
            let target = probe::Target {
                ctx: Arc::clone(&self.ctx),
                pod: Arc::clone(&self.pod),
                container,
                id: id.clone(),
                ip,
                kind,
                verdicts: self.verdicts.0.clone(),
            };
            let handle = self.probe_tasks.spawn(probe::run(target));
            self.probes.insert((id, kind), handle);
        }
    }

    /// The probes that should run: (container id, kind) to container name.
    fn wanted_probes(&self) -> BTreeMap<(String, Kind), String> {
        let mut wanted = BTreeMap::new();
        let Some(spec) = self.pod.spec.as_ref() else { return wanted };
        let ending = self.pod.metadata.deletion_timestamp.is_some() || self.observed.doom.is_some();
        for member in roles::members(spec).filter(|m| m.role != Role::Init) {
            let container = member.container;
            let Some(record) = self.observed.containers.get(&container.name) else { continue };
            let ContainerPhase::Running(running) = &record.state else { continue };
            let started = plan::is_started(container, record);
            for (kind, due) in [
                (Kind::Startup, record.probes.startup.is_none() && !ending),
                (Kind::Readiness, started),
                (Kind::Liveness, started && !ending && running.stop.is_none()),
            ] {
                if due && kind.of(container).is_some() {
                    wanted.insert((running.id.clone(), kind), container.name.clone());
                }
            }
        }
        wanted
    }

    /// Removes the pod's last traces from disk.
    fn forget(&self) {
        let meta = &self.pod.metadata;
        let uid = meta.uid.as_deref().unwrap_or_default();
        let (namespace, name) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        for dir in [self.ctx.config.pod_dir(uid), self.ctx.config.log_dir(namespace, name, uid)] {
            match std::fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, path = %dir.display(), "a pod's directory could not be removed");
                }
                _ => {}
            }
        }
    }
}

/// Sleeps until a time of day; for ever without one.
async fn sleep_until(at: Option<Timestamp>) {
    match at {
        Some(at) => {
            let wait = Timestamp::now().duration_until(at);
            tokio::time::sleep(Duration::try_from(wait).unwrap_or(Duration::ZERO)).await;
        }
        None => std::future::pending().await,
    }
}
