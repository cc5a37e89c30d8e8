//! Follows the flow control objects: makes the plan, keeps the defaults as they should be, says which schemas lack their
//! level, and moves lent seats to where they are needed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use mizzen_api::key;
use mizzen_client::{Api, Request};
use mizzen_store::{Snapshot, WatchError};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::defaults::{self, AUTO_UPDATE, GROUP};
use super::{Flow, seats};
use crate::auth::{Identity, MASTERS};
use crate::local::LocalApi;
use crate::registry::prepare;
use crate::server::Core;

/// How often lent seats are looked at, while there is need for them.
const TICK: Duration = Duration::from_millis(250);
/// Wait after a write failed.
const RETRY: Duration = Duration::from_secs(1);
/// Changes taken at a time; they only say "look again".
const EVENTS_MAX: usize = 1024;

/// Follows the objects until `shutdown`.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) {
    let identity = Identity { user: "system:apiserver".into(), groups: vec![MASTERS.into()], ..Identity::part("") };
    let api = LocalApi::new(Arc::clone(&core), Arc::new(identity));
    let work = async {
        loop {
            match follow(&core, &api).await {
                WatchError::Compacted(_) => {}
                WatchError::Closed => return,
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = lend(&core.flow) => {}
        () = shutdown.cancelled() => {}
    }
}

async fn follow(core: &Arc<Core>, api: &LocalApi) -> WatchError {
    loop {
        let snapshot = core.store.snapshot();
        // The newest revision is always held.
        let Ok(mut watch) = core.store.watch(&format!("{GROUP}/"), snapshot.revision()) else { continue };
        core.flow.replan(&snapshot);
        let mut failed = false;
        for write in wanted(&snapshot, Timestamp::now()) {
            failed |= !send(api, write).await;
        }
        if failed {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        if let Err(error) = watch.next(EVENTS_MAX).await {
            return error;
        }
    }
}

/// Moves seats between levels while there is need; waits otherwise.
async fn lend(flow: &Flow) {
    loop {
        flow.pressure.notified().await;
        let mut demands: Vec<u32> = Vec::new();
        loop {
            let plan = flow.plan.load_full();
            demands.resize(plan.levels.len(), 0);
            let mut levels = Vec::new();
            for (planned, demand) in plan.levels.iter().zip(&mut demands) {
                // Falls slowly, so that a short pause does not cost a level the seats it will want again.
                *demand = planned.level.demand().max(*demand - *demand / 4);
                levels.push((planned.bounds, *demand));
            }
            let limits = seats::divide(&levels);
            let mut lent = false;
            for ((planned, limit), (bounds, _)) in plan.levels.iter().zip(limits).zip(&levels) {
                lent |= limit != bounds.nominal;
                planned.level.set_limit(limit);
            }
            if !lent && plan.levels.iter().all(|planned| planned.level.waiting() == 0) {
                break;
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

/// A write that brings the objects nearer to what they should be.
#[derive(Debug, PartialEq)]
enum Write {
    Create(&'static str, Value),
    Replace(&'static str, Value),
    Status(Value),
}

async fn send(api: &LocalApi, write: Write) -> bool {
    let base = format!("/apis/{GROUP}/v1");
    let name = |object: &Value| prepare::text(object, "name").to_string();
    let (method, path, object) = match write {
        Write::Create(plural, object) => (Method::POST, format!("{base}/{plural}"), object),
        Write::Replace(plural, object) => (Method::PUT, format!("{base}/{plural}/{}", name(&object)), object),
        Write::Status(object) => (Method::PUT, format!("{base}/flowschemas/{}/status", name(&object)), object),
    };
    let body = Bytes::from(object.to_string());
    let request = Request { method, path, query: Vec::new(), content_type: "", body };
    let path = request.path.clone();
    match api.send(request).await {
        // Changed, gone or there meanwhile: the change has been heard of, too.
        Ok(answer) if answer.code < 300 || matches!(answer.code, 404 | 409) => true,
        Ok(answer) => {
            tracing::warn!(path, code = answer.code, "a flow control object cannot be written");
            false
        }
        Err(error) => {
            tracing::warn!(path, %error, "a flow control object cannot be written");
            false
        }
    }
}

/// What is to be written.
fn wanted(snapshot: &Snapshot, now: Timestamp) -> Vec<Write> {
    let mut writes: Vec<Write> = defaults::all().into_iter().filter_map(|d| default(snapshot, d)).collect();
    for entry in snapshot.prefix(&key::all::<FlowSchema>()) {
        writes.extend(serde_json::from_slice(&entry.value).ok().and_then(|object| dangling(snapshot, object, now)));
    }
    writes
}

fn default(snapshot: &Snapshot, default: defaults::Default) -> Option<Write> {
    let Some(entry) = snapshot.get(&key::object(GROUP, default.plural, "", default.name)) else {
        return Some(Write::Create(default.plural, default.object));
    };
    let mut object: Value = serde_json::from_slice(&entry.value).ok()?;
    let marked = object["metadata"]["annotations"][AUTO_UPDATE].as_str().map(str::to_string);
    let ours = match marked.as_deref() {
        Some(mark) => mark == "true",
        // Without a mark an object that nobody ever changed is still as it was made.
        None => object["metadata"]["generation"] == 1,
    };
    if !(default.mandatory || ours) {
        return None;
    }
    let wanted = &default.object["spec"];
    // How much the exempt level lends is the user's business.
    let same = if default.plural == "prioritylevelconfigurations" && default.name == "exempt" {
        object["spec"]["type"] == wanted["type"]
    } else {
        object["spec"] == *wanted
    };
    if same && (!default.mandatory || marked.is_some()) {
        return None;
    }
    if !same {
        object["spec"] = wanted.clone();
    }
    if default.mandatory && marked.is_none() {
        let metadata = prepare::metadata(&mut object);
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        annotations[AUTO_UPDATE] = "true".into();
    }
    Some(Write::Replace(default.plural, object))
}

/// The schema with its condition `Dangling` as it should be; `None` if it is.
fn dangling(snapshot: &Snapshot, mut schema: Value, now: Timestamp) -> Option<Write> {
    let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
    let found = snapshot.get(&key::of::<PriorityLevelConfiguration>("", level)).is_some();
    let object = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, message) = if found {
        ("False", "Found", format!("{object} and it exists"))
    } else {
        ("True", "NotFound", format!("{object} but there is no such object"))
    };
    let mut conditions = schema["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let place = conditions.iter().position(|condition| condition["type"] == "Dangling");
    let mut since = prepare::time(now);
    if let Some(known) = place.map(|place| &conditions[place])
        && known["status"] == status
    {
        if known["reason"] == reason && known["message"] == message.as_str() {
            return None;
        }
        since = known["lastTransitionTime"].as_str().unwrap_or(&since).to_string();
    }
    let condition = json!({
        "type": "Dangling", "status": status, "lastTransitionTime": since, "reason": reason, "message": message,
    });
    match place {
        Some(place) => conditions[place] = condition,
        None => conditions.push(condition),
    }
    schema["status"] = json!({"conditions": conditions});
    Some(Write::Status(schema))
}

#[cfg(test)]
mod tests {
    use mizzen_store::{Entry, Revision};

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    /// The defaults with one object changed by `change` (or taken away), as `PLURAL NAME`; answers the writes about it.
    fn check(which: &str, change: impl Fn(&mut Value) -> bool) -> Vec<Write> {
        let (plural, name) = which.split_once(' ').unwrap();
        let base = defaults::testing::snapshot();
        let mut entries: Vec<Entry> = Vec::new();
        for default in defaults::all() {
            let key = key::object(GROUP, default.plural, "", default.name);
            let mut object: Value = serde_json::from_slice(&base.get(&key).unwrap().value).unwrap();
            if (default.plural, default.name) == (plural, name) && !change(&mut object) {
                continue;
            }
            entries.push(Entry::new(key.into(), object.to_string().into(), Revision(1), Revision(1), 0..0));
        }
        let snapshot: Snapshot = entries.into_iter().collect();
        let about = |write: &Write| match write {
            Write::Create(p, object) | Write::Replace(p, object) => *p == plural && object["metadata"]["name"] == name,
            Write::Status(object) => plural == "flowschemas" && object["metadata"]["name"] == name,
        };
        wanted(&snapshot, NOW).into_iter().filter(about).collect()
    }

    fn spec_of(plural: &str, name: &str) -> Value {
        defaults::all().into_iter().find(|d| d.plural == plural && d.name == name).unwrap().object["spec"].take()
    }

    #[test]
    fn defaults_are_kept_as_their_annotation_says() {
        let shares = |object: &mut Value| object["spec"]["limited"]["nominalConcurrencyShares"] = 7.into();
        let mark = |object: &mut Value, mark: Value| object["metadata"]["annotations"][AUTO_UPDATE] = mark;
        let level = "prioritylevelconfigurations workload-low";
        let restored = |writes: Vec<Write>, name: &str| match &writes[..] {
            [] => false,
            [Write::Replace(plural, object)] => {
                assert_eq!(object["spec"], spec_of(plural, name));
                true
            }
            other => panic!("{other:?}"),
        };
        assert!(matches!(&check(level, |_| false)[..], [Write::Create(_, _)]));
        assert!(!restored(check(level, |_| true), "workload-low"));
        assert!(restored(
            check(level, |o| {
                shares(o);
                true
            }),
            "workload-low"
        ));
        assert!(!restored(
            check(level, |o| {
                shares(o);
                mark(o, "false".into());
                true
            }),
            "workload-low"
        ));
        let unmarked = |o: &mut Value| o["metadata"].as_object_mut().unwrap().shift_remove("annotations");
        assert!(restored(
            check(level, |o| {
                shares(o);
                unmarked(o);
                true
            }),
            "workload-low"
        ));
        assert!(!restored(
            check(level, |o| {
                shares(o);
                unmarked(o);
                o["metadata"]["generation"] = 2.into();
                true
            }),
            "workload-low"
        ));
        // The mandatory ones cannot be kept otherwise.
        let catch_all = "prioritylevelconfigurations catch-all";
        assert!(restored(
            check(catch_all, |o| {
                shares(o);
                mark(o, "false".into());
                true
            }),
            "catch-all"
        ));
        let exempt = |o: &mut Value| {
            o["spec"]["exempt"]["lendablePercent"] = 50.into();
            true
        };
        assert!(check("prioritylevelconfigurations exempt", exempt).is_empty());
    }

    #[test]
    fn schemas_say_whether_their_level_is_there() {
        let condition = |writes: &[Write]| match writes {
            [Write::Status(object)] => {
                let condition = &object["status"]["conditions"][0];
                format!("{} {}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
            }
            other => format!("{other:?}"),
        };
        assert_eq!(condition(&check("flowschemas probes", |_| true)), "False Found");
        let lost = |o: &mut Value| {
            o["spec"]["priorityLevelConfiguration"]["name"] = "gone".into();
            o["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
            true
        };
        let writes = check("flowschemas service-accounts", lost);
        assert_eq!(condition(&writes), "True NotFound");
        let [Write::Status(told)] = &writes[..] else { panic!() };
        let told = told.clone();
        assert!(
            check("flowschemas service-accounts", |o| {
                *o = told.clone();
                true
            })
            .is_empty()
        );
    }
}
