//! The loop: looks at what is left, frees what nobody uses, and ends one pod at a time until there is enough.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use mizzen_client::Reflector;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::settings::Threshold;
use super::signals::{self, Reading};
use super::{Eviction, decide, is_critical, local, measure, rank};
use crate::context::Context;
use crate::events::EventType;
use crate::node::garbage;
use crate::pod::observed::Doom;
use crate::pod::status::is_terminal;

/// How often the machine is looked at: a few files.
const LOOK: Duration = Duration::from_secs(1);
/// How often local storage is measured (kubelet's period).
const MEASURE: Duration = Duration::from_secs(10);
/// Longest wait for an evicted pod to be gone before the next one ends.
const SETTLE: Duration = Duration::from_secs(30);
/// Seconds that a pod gets to stop when there is no time.
const AT_ONCE: i64 = 1;
/// Wait after no pod could be evicted: looking for one means measuring them all.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Least time between two attempts to free images.
const RECLAIM_AGAIN: Duration = Duration::from_secs(30);

/// Watches over the node until `stop`; pods that must end are sent to `evict`.
pub async fn run(ctx: Arc<Context>, pods: Reflector<Pod>, evict: mpsc::Sender<Eviction>, stop: CancellationToken) {
    let mut watch = Watch {
        ctx,
        pods,
        evict,
        memory: decide::Memory::default(),
        measured: None,
        evicted: None,
        reclaimed: None,
        helpless: None,
        acting: false,
    };
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = watch.look() => {}
            () = stop.cancelled() => return,
        }
    }
}

struct Watch {
    ctx: Arc<Context>,
    pods: Reflector<Pod>,
    evict: mpsc::Sender<Eviction>,
    memory: decide::Memory,
    /// When local storage was last measured.
    measured: Option<tokio::time::Instant>,
    /// The pod that was told to end last, and when.
    evicted: Option<(String, tokio::time::Instant)>,
    /// When images were last removed.
    reclaimed: Option<tokio::time::Instant>,
    /// When it was found last that no pod can be evicted.
    helpless: Option<tokio::time::Instant>,
    /// It has been said that something is being reclaimed.
    acting: bool,
}

impl Watch {
    async fn look(&mut self) {
        let data_dir = self.ctx.config.data_dir.clone();
        // A wedged mount may hold it up; that must not hold up others.
        let Ok(readings) = tokio::task::spawn_blocking(move || signals::read(&data_dir)).await else { return };
        let verdict = decide::look(&mut self.memory, &self.ctx.config.eviction, &readings, Timestamp::now());
        self.ctx.pressure.send_if_modified(|shown| std::mem::replace(shown, verdict.pressure) != verdict.pressure);
        if self.measured.is_none_or(|at| at.elapsed() >= MEASURE) {
            self.measured = Some(tokio::time::Instant::now());
            if self.enforce_limits().await {
                return;
            }
        }
        match verdict.act {
            Some((threshold, reading)) => self.act(&threshold, reading).await,
            None => self.acting = false,
        }
    }

    /// Pods that run and that nothing has ended yet.
    fn active(&self) -> Vec<Arc<Pod>> {
        let phase = |p: &Pod| p.status.as_ref().and_then(|s| s.phase.clone());
        let objects = self.pods.objects();
        let ended = self.evicted.as_ref().map(|(uid, _)| uid.as_str());
        objects
            .values()
            .filter(|p| !is_terminal(phase(p).as_deref()) && p.metadata.deletion_timestamp.is_none())
            .filter(|p| p.metadata.uid.as_deref() != ended)
            .cloned()
            .collect()
    }

    /// Ends pods that use more local storage than they may.
    async fn enforce_limits(&mut self) -> bool {
        let mut any = false;
        for pod in self.active() {
            if !pod.spec.as_ref().is_some_and(local::is_limited) {
                continue;
            }
            let used = measure::pod(&self.ctx, &pod, true).await;
            if let Some(message) = local::excess(&pod, &used) {
                any |= self.end(&pod, message, AT_ONCE, false).await;
            }
        }
        any
    }

    async fn act(&mut self, threshold: &Threshold, reading: Reading) {
        if self.settling() {
            return;
        }
        if !std::mem::replace(&mut self.acting, true)
            && let Some(node) = self.ctx.node.get("", &self.ctx.config.node_name)
        {
            let message = format!("Attempting to reclaim {}", threshold.signal.resource());
            self.ctx.events.node(&node, EventType::Warning, "EvictionThresholdMet", message);
        }
        if threshold.signal.is_disk() && self.reclaimed.is_none_or(|at| at.elapsed() >= RECLAIM_AGAIN) {
            self.reclaimed = Some(tokio::time::Instant::now());
            match garbage::remove_unused(&self.ctx, &self.pods).await {
                Ok(0) => {}
                Ok(_) => return, // The next look shows whether that was enough.
                Err(error) => tracing::warn!(%error, "unused images not removed"),
            }
        }
        if self.helpless.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return;
        }
        let mut ranked = Vec::new();
        for pod in self.active() {
            let used = measure::pod(&self.ctx, &pod, threshold.signal.is_disk()).await;
            ranked.push((pod, used));
        }
        ranked.sort_by_cached_key(|(pod, used)| rank::order(threshold.signal, pod, used));
        for (pod, used) in ranked {
            let own = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
            let grace =
                if threshold.grace.is_some() { own.min(self.ctx.config.eviction.max_grace_seconds) } else { AT_ONCE };
            if self.end(&pod, rank::message(&pod, &used, threshold, reading), grace, true).await {
                return;
            }
        }
        self.helpless = Some(tokio::time::Instant::now());
        tracing::warn!(
            signal = threshold.signal.name(),
            available = reading.available,
            "the node is short of it, and no pod can be evicted"
        );
    }

    /// The pod that was evicted last still takes what it had.
    fn settling(&self) -> bool {
        let Some((uid, at)) = &self.evicted else { return false };
        let objects = self.pods.objects();
        let pod = objects.values().find(|p| p.metadata.uid.as_deref() == Some(uid));
        let there = pod.is_some_and(|p| !is_terminal(p.status.as_ref().and_then(|s| s.phase.as_deref())));
        there && at.elapsed() < SETTLE
    }

    /// Ends a pod, unless the node cannot do without it.
    async fn end(&mut self, pod: &Arc<Pod>, message: String, grace_seconds: i64, disruption: bool) -> bool {
        if is_critical(pod) {
            return false;
        }
        let Some(uid) = pod.metadata.uid.clone() else { return false };
        tracing::info!(pod = pod.metadata.name, message, "evicting a pod");
        self.ctx.events.pod(pod, EventType::Warning, "Evicted", message.clone());
        let doom = Doom {
            reason: "Evicted".into(),
            message,
            rejected: false,
            grace_seconds,
            at: Timestamp::now(),
            disruption,
        };
        self.evicted = Some((uid.clone(), tokio::time::Instant::now()));
        self.evict.send(Eviction { uid, doom }).await.is_ok()
    }
}
