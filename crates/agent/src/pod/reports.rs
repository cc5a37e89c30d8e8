//! Events about a pod, in the words kubectl users know.

use k8s_openapi::api::core::v1::{Container, Pod};
use mizzen_runtime::driver;
use mizzen_runtime::images::{Ensured, ImageError, ImageErrorReason};
use serde_json::{Value, json};

use super::execute::StartError;
use super::observed::{ContainerPhase, Observed, StopReason};
use super::plan::Action;
use super::roles;
use crate::context::Context;
use crate::events::{EventType, field_path};

fn say(ctx: &Context, pod: &Pod, container: &str, kind: EventType, reason: &str, message: String) {
    ctx.events.container(pod, &field_path(pod, container), kind, reason, message);
}

/// An image is about to be pulled.
pub fn pulling(ctx: &Context, pod: &Pod, container: &str, image: &str) {
    say(ctx, pod, container, EventType::Normal, "Pulling", format!("Pulling image \"{image}\""));
}

/// An action is about to begin.
pub fn action(ctx: &Context, pod: &Pod, action: &Action, observed: &Observed) {
    match action {
        Action::PreStop { container, why, .. } => killing(ctx, pod, container, *why),
        Action::Signal { container, why, .. } | Action::Kill { container, why } => {
            let begun = matches!(observed.phase(container), ContainerPhase::Running(r) if r.stop.is_some());
            if !begun {
                killing(ctx, pod, container, *why);
            }
        }
        _ => {}
    }
}

fn killing(ctx: &Context, pod: &Pod, container: &str, why: StopReason) {
    let message = match why {
        StopReason::PodEnds => format!("Stopping container {container}"),
        StopReason::Liveness => format!("Container {container} failed liveness probe, will be restarted"),
        StopReason::Startup => format!("Container {container} failed startup probe, will be restarted"),
        StopReason::PostStart => "FailedPostStartHook".to_string(),
        StopReason::Resized => format!("Container {container} resize requires restart"),
        StopReason::Changed => format!("Container {container} definition changed, will be restarted"),
    };
    say(ctx, pod, container, EventType::Normal, "Killing", message);
}

/// An image was looked for.
pub fn image(ctx: &Context, pod: &Pod, container: &str, result: &Result<Ensured, ImageError>) {
    let image =
        pod.spec.as_ref().and_then(|s| roles::find(s, container)).and_then(|(c, _)| c.image).unwrap_or_default();
    match result {
        Ok(ensured) if ensured.pulled => {
            let message = format!(
                "Successfully pulled image \"{image}\" in {took}ms ({took}ms including waiting). Image size: {} bytes.",
                ensured.image.size_bytes,
                took = ensured.took_ms
            );
            say(ctx, pod, container, EventType::Normal, "Pulled", message);
        }
        Ok(_) => {
            let message = format!("Container image \"{image}\" already present on machine");
            say(ctx, pod, container, EventType::Normal, "Pulled", message);
        }
        Err(error) => {
            let (reason, message) = match error.reason {
                ImageErrorReason::InvalidImageName => {
                    ("InspectFailed", format!("Failed to apply default image tag \"{image}\": {error}"))
                }
                ImageErrorReason::ErrImageNeverPull => (
                    "ErrImageNeverPull",
                    format!("Container image \"{image}\" is not present with pull policy of Never"),
                ),
                _ => ("Failed", format!("Failed to pull image \"{image}\": {error}")),
            };
            say(ctx, pod, container, EventType::Warning, reason, message);
            say(ctx, pod, container, EventType::Warning, "Failed", format!("Error: {}", error.reason.as_str()));
        }
    }
}

/// A container was started, or not.
pub fn started(ctx: &Context, pod: &Pod, container: &str, result: &Result<driver::Container, StartError>) {
    match result {
        Ok(_) => {
            say(ctx, pod, container, EventType::Normal, "Created", format!("Created container: {container}"));
            say(ctx, pod, container, EventType::Normal, "Started", format!("Started container {container}"));
        }
        Err(error) => say(ctx, pod, container, EventType::Warning, "Failed", format!("Error: {}", error.message)),
    }
}

/// A container waits before it is started again.
pub fn backing_off(ctx: &Context, pod: &Pod, container: &str) {
    let meta = &pod.metadata;
    let message = format!(
        "Back-off restarting failed container {container} in pod {}_{}({})",
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default(),
    );
    say(ctx, pod, container, EventType::Warning, "BackOff", message);
}

/// A hook failed.
pub fn hook_failed(ctx: &Context, pod: &Pod, container: &str, reason: &str, message: &str) {
    let which = reason.trim_start_matches("Failed").trim_end_matches("Hook");
    say(ctx, pod, container, EventType::Warning, reason, format!("{which} hook failed: {message}"));
}

/// A volume could not be made.
pub fn mount_failed(ctx: &Context, pod: &Pod, volume: &str, message: &str) {
    let message = format!("MountVolume.SetUp failed for volume \"{volume}\" : {message}");
    ctx.events.pod(pod, EventType::Warning, "FailedMount", message);
}

/// The sandbox could not be started.
pub fn sandbox_failed(ctx: &Context, pod: &Pod, message: &str) {
    let message = format!("Failed to create pod sandbox: {message}");
    ctx.events.pod(pod, EventType::Warning, "FailedCreatePodSandBox", message);
}

/// The sandbox went away and is made anew.
pub fn sandbox_changed(ctx: &Context, pod: &Pod) {
    let message = "Pod sandbox changed, it will be killed and re-created.";
    ctx.events.pod(pod, EventType::Normal, "SandboxChanged", message);
}

/// The pod's time is over.
pub fn deadline(ctx: &Context, pod: &Pod) {
    let message = "Pod was active on the node longer than the specified deadline";
    ctx.events.pod(pod, EventType::Normal, "DeadlineExceeded", message);
}

/// A resize was granted, is done, has to wait, or went wrong; `error` says why.
pub fn resize(ctx: &Context, pod: &Pod, reason: &str, error: &str) {
    let (kind, words) = match reason {
        "ResizeStarted" => (EventType::Normal, "Pod resize started"),
        "ResizeCompleted" => (EventType::Normal, "Pod resize completed"),
        "ResizeDeferred" => (EventType::Warning, "Pod resize Deferred"),
        "ResizeInfeasible" => (EventType::Warning, "Pod resize Infeasible"),
        _ => (EventType::Warning, "Pod resize error"),
    };
    let Some(spec) = pod.spec.as_ref() else { return };
    let each = |list: &[Container]| -> Vec<Value> {
        list.iter().map(|c| json!({"name": c.name, "resources": c.resources})).collect()
    };
    let mut summary = json!({});
    if let Some(init) = spec.init_containers.as_deref().filter(|i| !i.is_empty()) {
        summary["initContainers"] = each(init).into();
    }
    summary["containers"] = each(&spec.containers).into();
    summary["generation"] = pod.metadata.generation.into();
    if !error.is_empty() {
        summary["error"] = error.into();
    }
    ctx.events.pod(pod, kind, reason, format!("{words}: {summary}"));
}

/// The pod was turned away.
pub fn rejected(ctx: &Context, pod: &Pod, reason: &str, message: &str) {
    ctx.events.pod(pod, EventType::Warning, reason, message.to_string());
}
