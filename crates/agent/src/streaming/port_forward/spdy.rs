//! Port-forward over SPDY: two streams for each connection, `error` and `data`, with the same request id.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::idle::Idle;
use super::super::spdy::{Accepted, Opened, ResetStatus};
use super::{Pod, carry, port};

/// How long one stream of a pair may wait for the other.
const PAIR_WITHIN: Duration = Duration::from_secs(30);

/// Serves an upgraded connection.
pub(in super::super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(io: S, pod: Pod, gone: CancellationToken) {
    super::super::spdy::serve(io, gone.clone(), |accepted| async move {
        tokio::select! {
            () = pairs(accepted, pod) => {}
            () = gone.cancelled() => {}
        }
    })
    .await;
}

/// A stream that waits for its other half.
struct Half {
    opened: Opened,
    since: Instant,
}

async fn pairs(mut accepted: Accepted, pod: Pod) {
    let pod = Arc::new(pod);
    let idle = Idle::new();
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut forwards = JoinSet::new();
    loop {
        let due = halves.values().map(|half| half.since + PAIR_WITHIN).min();
        let late = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            opened = accepted.next() => {
                let Some(opened) = opened else { return };
                idle.touch();
                if let Some((data, error)) = pair(&mut halves, opened).await {
                    forwards.spawn(forward(Arc::clone(&pod), data, error));
                }
            }
            Some(_) = forwards.join_next() => idle.touch(),
            () = late => expire(&mut halves).await,
            () = idle.expired(), if forwards.is_empty() => return,
        }
    }
}

fn is_data(opened: &Opened) -> bool {
    opened.headers.get("streamtype") == Some("data")
}

/// Which request a stream belongs to. Old clients do not say; they open `error` right before `data`.
fn request_id(opened: &Opened) -> String {
    match opened.headers.get("requestid") {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ if is_data(opened) => format!("stream-{}", opened.id.wrapping_sub(2)),
        _ => format!("stream-{}", opened.id),
    }
}

/// Brings together the two streams of a request, data first; what fits nowhere is reset.
async fn pair(halves: &mut HashMap<String, Half>, opened: Opened) -> Option<(Opened, Opened)> {
    let known = matches!(opened.headers.get("streamtype"), Some("data" | "error"));
    if !known || opened.headers.get("port").is_none_or(|text| port(text).is_err()) {
        opened.writer.reset(ResetStatus::RefusedStream).await;
        return None;
    }
    let id = request_id(&opened);
    let Some(half) = halves.remove(&id) else {
        halves.insert(id, Half { opened, since: Instant::now() });
        return None;
    };
    match (is_data(&half.opened), is_data(&opened)) {
        (true, false) => Some((half.opened, opened)),
        (false, true) => Some((opened, half.opened)),
        _ => {
            opened.writer.reset(ResetStatus::RefusedStream).await;
            halves.insert(id, half);
            None
        }
    }
}

async fn expire(halves: &mut HashMap<String, Half>) {
    let now = Instant::now();
    let late: Vec<String> =
        halves.iter().filter(|(_, half)| half.since + PAIR_WITHIN <= now).map(|(id, _)| id.clone()).collect();
    for id in late {
        if let Some(half) = halves.remove(&id) {
            half.opened.writer.reset(ResetStatus::Cancel).await;
        }
    }
}

/// One connection. The client waits for the end of the error stream.
async fn forward(pod: Arc<Pod>, data: Opened, error: Opened) {
    let Ok(port) = port(data.headers.get("port").unwrap_or_default()) else { return };
    let Opened { reader, mut writer, broken, .. } = data;
    let mut error = error.writer;
    let connected = tokio::select! {
        connected = pod.connect(port) => connected,
        () = broken.cancelled() => return,
    };
    let carried = match connected {
        Ok(tcp) => tokio::select! {
            carried = carry(tcp, reader, &mut writer) => carried.map_err(|error| pod.failure(port, &error)),
            () = broken.cancelled() => Ok(()),
        },
        Err(message) => {
            // Whoever has gone need not be told.
            let _ = error.write_all(message.as_bytes()).await;
            Err(message)
        }
    };
    // A connection that breaks later is no error to be told: kubectl would end all the others because of it.
    let _ = error.shutdown().await;
    if let Err(message) = carried {
        tracing::debug!(%message, "port-forward");
        writer.reset(ResetStatus::Cancel).await;
    } else {
        let _ = writer.shutdown().await;
    }
}
