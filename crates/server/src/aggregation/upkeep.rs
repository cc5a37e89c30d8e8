//! The one task of aggregation: writes what APIServices are missing, asks the aggregated servers whether they are there,
//! and reads what they serve. It looks again when something of that changes, and now and then where others are asked; a
//! cluster without aggregated servers is left alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, join_all, select_all};
use http::Method;
use jiff::Timestamp;
use mizzen_client::{Api, Request};
use mizzen_store::{Revision, Snapshot};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::availability::{check, with_condition};
use super::documents::read;
use super::local::{Write, plan};
use super::services::Remote;
use super::{Known, PREFIX};
use crate::auth::{AUTHENTICATED, Identity, MASTERS};
use crate::local::LocalApi;
use crate::registry::prepare;
use crate::server::Core;

/// How often servers are asked that were there the last time.
const CHECK: Duration = Duration::from_secs(30);
/// How often servers are asked that were not.
const RETRY: Duration = Duration::from_secs(3);
/// Shortest time between two rounds: Services and endpoints change all the time.
const PAUSE: Duration = Duration::from_millis(250);
/// What the APIServices of this server follow from.
const LOCAL: [&str; 2] = [PREFIX, "apiextensions.k8s.io/customresourcedefinitions/"];
/// What the availability of others follows from.
const REMOTE: [&str; 2] = ["core/services/", "discovery.k8s.io/endpointslices/"];

const PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// Runs until `shutdown`.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) {
    let own = Identity {
        user: "system:apiserver".into(),
        groups: vec![MASTERS.into(), AUTHENTICATED.into()],
        ..Identity::default()
    };
    let api = LocalApi::new(Arc::clone(&core), Arc::new(own));
    let mut starting = true;
    while !shutdown.is_cancelled() {
        let seen = core.store.snapshot().revision();
        let round = async {
            let whole = local_round(&core, &api, starting).await;
            let rest = remote_round(&core, &api).await;
            (whole, rest)
        };
        let (whole, rest) = tokio::select! {
            () = shutdown.cancelled() => return,
            done = round => done,
        };
        starting &= !whole;
        let rest = if whole { rest } else { Some(RETRY) };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = async {
                tokio::join!(changed(&core, seen, rest), tokio::time::sleep(PAUSE));
            } => {}
        }
    }
}

/// Waits until something changes that a round depends on, or `rest` is over.
async fn changed(core: &Core, seen: Revision, rest: Option<Duration>) {
    let prefixes = LOCAL.iter().chain(rest.is_some().then_some(&REMOTE).into_iter().flatten());
    let mut waits: Vec<BoxFuture<'_, ()>> = Vec::new();
    for prefix in prefixes {
        // A history that is gone is as good as a change.
        let Ok(mut watch) = core.store.watch(prefix, seen) else { return };
        waits.push(async move { drop(watch.next(1).await) }.boxed());
    }
    if let Some(rest) = rest {
        waits.push(tokio::time::sleep(rest).boxed());
    }
    select_all(waits).await;
}

/// Writes what is missing of this server's own; whether nothing is missing any more.
async fn local_round(core: &Core, api: &LocalApi, starting: bool) -> bool {
    let now = prepare::time(Timestamp::now());
    let mut whole = true;
    for write in plan(&core.store.snapshot(), starting, &now) {
        let (method, path, body) = match &write {
            Write::Create(object) => (Method::POST, PATH.to_string(), Some(object)),
            Write::Status(object) => (Method::PUT, status_path(object), Some(object)),
            Write::Delete(name, _) => (Method::DELETE, format!("{PATH}/{name}"), None),
        };
        whole &= send(api, method, path, body).await;
        if let Write::Create(object) = &write {
            // A new object has no status yet.
            let name = prepare::text(object, "name").to_string();
            let stored = core.store.snapshot().get(&format!("{PREFIX}/{name}")).map(|entry| entry.value.clone());
            let stored: Option<Value> = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(mut stored) = stored {
                stored["status"] = object["status"].clone();
                whole &= send(api, Method::PUT, status_path(&stored), Some(&stored)).await;
            }
        }
    }
    whole
}

fn status_path(object: &Value) -> String {
    format!("{PATH}/{}/status", prepare::text(object, "name"))
}

/// Whether a write went through, or somebody else was faster, which the next round sees.
async fn send(api: &LocalApi, method: Method, path: String, object: Option<&Value>) -> bool {
    let body: Bytes = object.map(|object| object.to_string().into()).unwrap_or_default();
    let request = Request { method, path: path.clone(), query: Vec::new(), content_type: "application/json", body };
    match api.send(request).await {
        Ok(answer) if answer.code < 300 || matches!(answer.code, 404 | 409) => true,
        Ok(answer) => {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            tracing::warn!(path, code = answer.code, text, "an APIService cannot be kept");
            false
        }
        Err(error) => {
            tracing::warn!(path, %error, "an APIService cannot be kept");
            false
        }
    }
}

/// Asks the aggregated servers; when to ask again, if there are any.
async fn remote_round(core: &Core, api: &LocalApi) -> Option<Duration> {
    let snapshot = core.store.snapshot();
    let services = core.aggregation.services(&snapshot);
    let asked = services.all_remote().iter().map(|remote| one(core, &snapshot, remote));
    let found: Vec<Found> = join_all(asked).await;
    let fine = found.iter().all(|found| !found.known.stale);
    let told = found.iter().map(|found| (found.name.clone(), Arc::clone(&found.known)));
    // First what they serve is known, then they are said to be there.
    core.aggregation.tell(told.collect::<HashMap<_, _>>());
    for object in found.into_iter().filter_map(|found| found.changed) {
        send(api, Method::PUT, status_path(&object), Some(&object)).await;
    }
    services.has_remote().then_some(if fine { CHECK } else { RETRY })
}

/// What came of asking one server.
struct Found {
    name: String,
    known: Arc<Known>,
    /// Its APIService with another status.
    changed: Option<Value>,
}

async fn one(core: &Core, snapshot: &Snapshot, remote: &Remote) -> Found {
    let verdict = check(core, snapshot, remote).await;
    let stored = snapshot.get(&format!("{PREFIX}/{}", remote.name));
    let object: Option<Value> = stored.and_then(|entry| serde_json::from_slice(&entry.value).ok());
    let changed = object.and_then(|object| with_condition(&object, &verdict, &prepare::time(Timestamp::now())));
    if changed.is_some() {
        tracing::info!(
            service = remote.name,
            available = verdict.available,
            reason = verdict.reason,
            "an APIService changed"
        );
    }
    let before = core.aggregation.told.load().by_service.get(&remote.name).cloned();
    let known = match verdict.available {
        true => read(core, snapshot, remote, before.as_deref()).await,
        false => None,
    };
    let stale = || {
        let before = before.as_deref();
        Known {
            discovery: before.map(|b| b.discovery.clone()).unwrap_or_default(),
            v3_hash: before.and_then(|b| b.v3_hash.clone()),
            v2: before.map(|b| b.v2.clone()).unwrap_or_default(),
            stale: true,
        }
    };
    Found { name: remote.name.clone(), known: Arc::new(known.unwrap_or_else(stale)), changed }
}
