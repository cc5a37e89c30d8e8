//! Registers the node and keeps its status: checked often, written on change and every five minutes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus, NodeSystemInfo};
use mizzen_client::{ClientError, Patch};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::object;
use crate::context::Context;

/// How often the status is looked at.
const CHECK: Duration = Duration::from_secs(10);
/// How often it is written even if nothing changed, seconds.
const REPORT: i64 = 300;
/// Wait before a registration that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Registers until it succeeds; the object as the API has it. `None`: `shutdown` came first.
pub async fn register(ctx: &Context, shutdown: &CancellationToken) -> Option<Node> {
    let info = object::system_info(&ctx.config);
    loop {
        match try_register(ctx, &info).await {
            Ok(node) => return Some(node),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "node not registered; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}

async fn try_register(ctx: &Context, info: &NodeSystemInfo) -> Result<Node, ClientError> {
    let status = current(ctx, info, None).await;
    match ctx.client.create(&object::new(&ctx.config, status)).await {
        // Some servers drop the status of an object that is created.
        Ok(node) if node.status.as_ref().is_some_and(|s| s.conditions.is_some()) => return Ok(node),
        Ok(node) => {
            let status = current(ctx, info, None).await;
            write(ctx, &status, None).await?;
            return Ok(node);
        }
        Err(error) if error.code() == Some(409) => {}
        Err(error) => return Err(error),
    }
    // It was here before: its labels and status are brought up to date, what others set stays.
    let patch = Patch::Merge(json!({"metadata": {"labels": object::labels(&ctx.config)}}));
    let node: Node = ctx.client.patch("", &ctx.config.node_name, "", &patch).await?;
    let status = current(ctx, info, node.status.as_ref()).await;
    write(ctx, &status, node.status.as_ref()).await?;
    Ok(node)
}

async fn current(ctx: &Context, info: &NodeSystemInfo, previous: Option<&NodeStatus>) -> NodeStatus {
    let images = match ctx.images.list().await {
        Ok(images) => images,
        Err(error) => {
            tracing::warn!(%error, "images cannot be listed");
            Vec::new()
        }
    };
    let pressure = *ctx.pressure.borrow();
    let capacity = ctx.capacity.with_devices(&ctx.devices.counts());
    object::status(&ctx.config, &capacity, info, &images, pressure, previous, Timestamp::now())
}

async fn write(ctx: &Context, status: &NodeStatus, previous: Option<&NodeStatus>) -> Result<(), ClientError> {
    // The status is plain data; it always serialises. Conditions and addresses are merged by their type.
    let mut body: Value = serde_json::to_value(status).unwrap_or_default();
    let same = previous.is_some_and(|p| p.addresses == status.addresses);
    match body.get_mut("addresses").and_then(Value::as_array_mut) {
        Some(addresses) if !same => addresses.push(json!({"$patch": "replace"})),
        _ => drop(body.as_object_mut().and_then(|b| b.remove("addresses"))),
    }
    let patch = Patch::Strategic(json!({"status": body}));
    ctx.client.patch::<Node>("", &ctx.config.node_name, "status", &patch).await.map(drop)
}

/// Keeps the status until `shutdown`.
pub async fn run(ctx: Arc<Context>, shutdown: CancellationToken) {
    let info = object::system_info(&ctx.config);
    let mut written: Option<(NodeStatus, Timestamp)> = None;
    let mut pressure = ctx.pressure.subscribe();
    loop {
        tokio::select! {
            () = tokio::time::sleep(CHECK) => {}
            () = ctx.devices.changed.notified() => {}
            // The context holds the sender, so it cannot fail.
            _ = pressure.changed() => {}
            () = shutdown.cancelled() => return,
        }
        let known = ctx.node.get("", &ctx.config.node_name);
        let previous = known.as_ref().and_then(|n| n.status.as_ref());
        let status = current(&ctx, &info, previous).await;
        let now = Timestamp::now();
        let due = match &written {
            Some((before, at)) => !object::same(before, &status) || now.duration_since(*at).as_secs() >= REPORT,
            None => true,
        };
        // Someone else (the node lifecycle controller) may have called this node lost.
        let doubted =
            previous.is_some_and(|p| p.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status != "True"));
        if !due && !doubted {
            continue;
        }
        match write(&ctx, &status, previous).await {
            Ok(()) => written = Some((status, now)),
            Err(error) if error.code() == Some(404) => {
                // Someone removed the object; a node that lives registers again.
                if let Err(error) = try_register(&ctx, &info).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "node not registered again");
                }
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "node status not written"),
        }
    }
}
