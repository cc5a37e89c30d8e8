//! Lifecycle hooks: what runs after a container started and before it is stopped.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::context::Context;
use crate::probe::{exec, http};

/// Longest that a hook may run if nothing else bounds it.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Runs a hook to its end, at most for `limit`; `Err` says what went wrong.
pub async fn run(
    ctx: &Context,
    pod_uid: &str,
    id: &str,
    container: &Container,
    handler: &LifecycleHandler,
    ip: Option<IpAddr>,
    limit: Option<Duration>,
) -> Result<(), String> {
    let limit = limit.unwrap_or(LONGEST);
    if let Some(action) = &handler.exec {
        let args = action.command.clone().unwrap_or_default();
        return match exec::run(&*ctx.driver, pod_uid, id, args, limit).await {
            Ok(exec::Output { code: Some(0), .. }) => Ok(()),
            Ok(exec::Output { code: Some(code), text }) => Err(format!("command exited with {code}: {text}")),
            Ok(exec::Output { code: None, text }) => Err(text),
            Err(error) => Err(error.to_string()),
        };
    }
    let rest = async {
        if let Some(action) = &handler.http_get {
            let ip = ip.ok_or("the pod has no address")?;
            let answer = http::get(action, container, ip, "kube-lifecycle/1.36").await.map_err(|e| e.to_string())?;
            return if answer.code < 400 {
                Ok(())
            } else {
                Err(format!("HTTP hook failed with statuscode: {}", answer.code))
            };
        }
        if let Some(action) = &handler.sleep {
            tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
        }
        // A tcpSocket hook is accepted by the API, but never did anything.
        Ok(())
    };
    tokio::time::timeout(limit, rest)
        .await
        .unwrap_or_else(|_| Err(format!("hook timed out after {}s", limit.as_secs())))
}
