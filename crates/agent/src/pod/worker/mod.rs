//! The worker of one pod: asks the plan what to do, does it, and takes in what comes of it.
//!
//! * `begin`: what the plan wants is begun, as tasks.
//! * `outcome`: what came of them is written into what is observed.
//! * `probing`: hooks and probes are those of the containers that run.
//! * `reporting`: the status is written when it changed.

mod begin;
mod outcome;
mod probing;
mod reporting;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use mizzen_runtime::driver::Sandbox;
use mizzen_runtime::images::Image;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::backoff::Retry;
use super::execute::{self, Outcome};
use super::mailbox::Mailbox;
use super::observed::{ContainerPhase, Doom, Observed, SandboxState, Step};
use super::plan::{self, NodeFacts, Plan};
use super::roles::{self, Member, Role};
use super::uses::Uses;
use super::{grant, reports, seed, status};
use crate::context::Context;
use crate::probe::{Kind, Verdict};
use crate::volume::MountedVolumes;

/// Waits between attempts at volumes, sandboxes and configurations, seconds: first and longest.
const RETRY: (i64, i64) = (1, 30);
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
    /// What was granted changed while limits were being changed.
    resize_again: bool,
    /// The last failed resize, until one succeeds: its wait is the next one's measure.
    resize_failed: Step,
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
            resize_again: false,
            resize_failed: Step::Todo,
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

    fn find(&self, container: &str) -> Option<(Container, Role)> {
        roles::find(self.pod.spec.as_ref()?, container)
    }

    fn running_id(&self, container: &str) -> Option<String> {
        match self.observed.phase(container) {
            ContainerPhase::Running(running) => Some(running.id.clone()),
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
        if let Some(pending) = letters.pending_resize {
            self.observed.pending_resize = pending;
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

    /// Running containers whose resources changed are to have new limits.
    fn resize(&mut self, before: &Pod) {
        let pod = Arc::clone(&self.pod);
        let (Some(old), Some(new)) = (&before.spec, &pod.spec) else { return };
        let whole = old.resources != new.resources;
        let mut changed = whole;
        if whole {
            self.observed.given.get_or_insert_with(|| old.resources.clone().unwrap_or_default());
        }
        for Member { container, .. } in roles::members(new) {
            let then = roles::members(old).find(|m| m.container.name == container.name);
            // What has no limits of its own has those of the pod.
            let changes = |m: &Member<'_>| whole || m.container.resources != container.resources;
            let Some(then) = then.filter(changes) else { continue };
            changed = true;
            if let ContainerPhase::Running(running) = &mut self.observed.container_mut(&container.name).state {
                running.given.get_or_insert_with(|| then.container.resources.clone().unwrap_or_default());
            }
        }
        if changed {
            self.resize_again = self.observed.resize == Step::Doing;
            if !self.resize_again {
                self.observed.resize = Step::Todo;
            }
        }
    }

    /// What runs and is to have other limits without being started anew.
    fn resizing(&self) -> Vec<execute::Resizing> {
        let Some(spec) = &self.pod.spec else { return Vec::new() };
        let of = |member: Member<'_>| match self.observed.phase(&member.container.name) {
            ContainerPhase::Running(running) => {
                let given = running.given.clone()?;
                let in_place = !grant::needs_restart(member.container, &given);
                in_place.then(|| execute::Resizing {
                    container: member.container.clone(),
                    id: running.id.clone(),
                    given,
                })
            }
            _ => None,
        };
        roles::members(spec).filter_map(of).collect()
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
