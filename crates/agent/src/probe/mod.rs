//! Probes: one task for each probe of a running container; verdicts go to the pod's worker.

pub mod exec;
mod grpc;
pub mod http;
pub mod threshold;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::events::{EventType, field_path};
pub use threshold::{Kind, Threshold};

/// First wait between two tries of a container that has just started.
const OPENING_WAIT: Duration = Duration::from_millis(8);
/// `User-Agent` of probes.
pub const AGENT: &str = "kube-probe/1.36";

/// A verdict of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The container.
    pub container: String,
    /// Its id at the driver: verdicts about an earlier one are void.
    pub id: String,
    /// Which probe.
    pub kind: Kind,
    /// Passed.
    pub ok: bool,
}

/// What one probe looks at.
pub struct Target {
    /// The node.
    pub ctx: Arc<Context>,
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container.
    pub container: Container,
    /// Its id at the driver.
    pub id: String,
    /// Address of the pod.
    pub ip: IpAddr,
    /// Which probe.
    pub kind: Kind,
    /// Where verdicts go.
    pub verdicts: mpsc::Sender<Verdict>,
}

/// Probes until it is dropped, or the receiver is. A startup probe ends when it has passed.
pub async fn run(target: Target) {
    let Some(probe) = target.kind.of(&target.container).cloned() else { return };
    let seconds = |value: Option<i32>, default: u64| {
        Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
    };
    let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let mut threshold = Threshold::new(&probe);
    let mut first_tick = tokio::time::Instant::now();
    if target.kind != Kind::Liveness && opened(&target, &probe, period).await {
        if !tell(&target, threshold.add(true)).await {
            return;
        }
        first_tick = tokio::time::Instant::now() + period;
    }
    let mut ticks = tokio::time::interval_at(first_tick, period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let ok = attempt_and_tell(&target, &probe).await;
        if !tell(&target, threshold.add(ok)).await {
            return;
        }
    }
}

/// Hands a verdict on, if there is one; `false` when no more are wanted.
async fn tell(target: &Target, verdict: Option<bool>) -> bool {
    let Some(ok) = verdict else { return true };
    let verdict = Verdict { container: target.container.name.clone(), id: target.id.clone(), kind: target.kind, ok };
    target.verdicts.send(verdict).await.is_ok() && !(target.kind == Kind::Startup && ok)
}

/// Most containers serve a few milliseconds after their start, long before a second period begins. So until the first
/// one is over, a container that is not yet ready is asked at waits that double. Failures of these tries count for
/// nothing and are not spoken of; `true` as soon as one passes.
async fn opened(target: &Target, probe: &Probe, period: Duration) -> bool {
    let timeout = http::timeout(probe.timeout_seconds);
    let tries = async {
        let mut wait = OPENING_WAIT;
        while attempt(target, probe, timeout).await.is_err() {
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    };
    tokio::time::timeout(period, tries).await.is_ok()
}

async fn attempt_and_tell(target: &Target, probe: &Probe) -> bool {
    let timeout = http::timeout(probe.timeout_seconds);
    // A command has the limit itself, so that it is killed rather than left behind.
    let patience = if probe.exec.is_some() { timeout + Duration::from_secs(1) } else { timeout };
    let result = match tokio::time::timeout(patience, attempt(target, probe, timeout)).await {
        Ok(result) => result,
        Err(_) => Err(format!("probe timed out after {}s", timeout.as_secs())),
    };
    let field = field_path(&target.pod, &target.container.name);
    let say = |reason, message| target.ctx.events.container(&target.pod, &field, EventType::Warning, reason, message);
    match result {
        Ok(None) => true,
        Ok(Some(warning)) => {
            say("ProbeWarning", format!("{} probe warning: {warning}", target.kind.as_str()));
            true
        }
        Err(message) => {
            say("Unhealthy", format!("{} probe failed: {message}", target.kind.as_str()));
            false
        }
    }
}

/// One try; `Ok(Some)` passed with a warning.
async fn attempt(target: &Target, probe: &Probe, timeout: Duration) -> Result<Option<String>, String> {
    let container = &target.container;
    if let Some(action) = &probe.http_get {
        let answer = http::get(action, container, target.ip, AGENT).await.map_err(|e| e.to_string())?;
        return match answer.code {
            code if answer.elsewhere => {
                Ok(Some(format!("Probe terminated redirects, Response body: {} ({code})", answer.body)))
            }
            200..400 => Ok(None),
            code => Err(format!("HTTP probe failed with statuscode: {code}")),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| target.ip.to_string());
        let port = http::port(&action.port, container).map_err(|e| e.to_string())?;
        return http::connect(&host, port).await.map(|()| None).map_err(|e| format!("dial tcp {host}:{port}: {e}"));
    }
    if let Some(action) = &probe.grpc {
        let port = u16::try_from(action.port).map_err(|_| format!("port {} is out of range", action.port))?;
        return grpc::check(target.ip, port, action.service.as_deref().unwrap_or_default(), AGENT).await.map(|()| None);
    }
    let Some(action) = &probe.exec else {
        return Err("the probe has no action".into());
    };
    let uid = target.pod.metadata.uid.as_deref().unwrap_or_default();
    let args = action.command.clone().unwrap_or_default();
    match exec::run(&*target.ctx.driver, uid, &target.id, args, timeout).await {
        Ok(exec::Output { code: Some(0), .. }) => Ok(None),
        Ok(exec::Output { text, .. }) => Err(text),
        Err(error) => Err(error.to_string()),
    }
}
