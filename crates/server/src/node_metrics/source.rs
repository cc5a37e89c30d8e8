//! Where the figures come from: each node's agent, asked in parallel and remembered for a few seconds.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use mizzen_store::Snapshot;

use super::objects::{Report, Usage};
use crate::proxy;
use crate::server::Core;

/// How long an answer counts, and also that there was none.
const FRESH: Duration = Duration::from_secs(5);
/// How long a node may take. Its first answer needs half a second, for use is measured over a time.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many nodes are asked at once.
const PARALLEL: usize = 64;
/// Largest report: hundreds of pods have a few hundred bytes each.
const REPORT_MAX: usize = 8 << 20;
/// The agent's path; it answers [`Report`].
const PATH: &str = "/mizzen/usage";

/// What nodes answered lately.
#[derive(Default)]
pub(crate) struct Source {
    known: Mutex<HashMap<String, Known>>,
}

struct Known {
    at: Instant,
    report: Option<Arc<Report>>,
}

/// Why a node has no figures.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{0}")]
    NoWay(String),
    #[error("the connection failed")]
    Connection(#[from] hyper::Error),
    #[error("the node answered {0}")]
    Refused(StatusCode),
    #[error("the answer broke off or is too long: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is no report")]
    Report(#[from] serde_json::Error),
    #[error("no answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
}

impl Source {
    /// What these nodes use now; those that do not tell are missing.
    pub async fn usage(&self, core: &Core, snapshot: &Snapshot, nodes: BTreeSet<String>) -> Usage {
        let now = Instant::now();
        let mut usage = Usage::new();
        let mut stale = Vec::new();
        {
            let known = self.lock();
            for node in nodes {
                match known.get(&node).filter(|k| now.duration_since(k.at) < FRESH) {
                    Some(Known { report, .. }) => usage.extend(report.clone().map(|report| (node, report))),
                    None => stale.push(node),
                }
            }
        }
        let asked = stream::iter(stale).map(|node| async move {
            let report = tokio::time::timeout(PATIENCE, ask(core, snapshot, &node)).await;
            match report.map_err(AskError::from).and_then(|asked| asked) {
                Ok(report) => (node, Some(Arc::new(report))),
                Err(error) => {
                    tracing::debug!(node, error = &error as &dyn std::error::Error, "no usage from a node");
                    (node, None)
                }
            }
        });
        let answers: Vec<_> = asked.buffer_unordered(PARALLEL).collect().await;
        let now = Instant::now();
        let mut known = self.lock();
        known.retain(|_, known| now.duration_since(known.at) < FRESH);
        for (node, report) in answers {
            usage.extend(report.clone().map(|report| (node.clone(), report)));
            known.insert(node, Known { at: now, report });
        }
        usage
    }

    /// The map is whole whatever happened to another holder.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(core: &Core, snapshot: &Snapshot, node: &str) -> Result<Report, AskError> {
    let no_way = |error: mizzen_api::status::ApiError| AskError::NoWay(error.message);
    let nodes = core.nodes.as_ref().ok_or_else(|| AskError::NoWay("this server has no way to the nodes".into()))?;
    let (address, port) = proxy::kubelet_address(snapshot, node).map_err(no_way)?;
    let mut sender = nodes.connect::<Empty<Bytes>>(core, &address, port).await.map_err(no_way)?;
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = http::Uri::from_static(PATH);
    if let Ok(host) = format!("{address}:{port}").parse() {
        request.headers_mut().insert(HOST, host);
    }
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(AskError::Refused(response.status()));
    }
    let body = Limited::new(response.into_body(), REPORT_MAX).collect().await.map_err(AskError::Body)?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}
