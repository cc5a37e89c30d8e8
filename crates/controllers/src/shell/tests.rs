use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use mizzen_client::{Api, ClientError, Request, Response, WatchStream};
use mizzen_store::{Memory, Store, Txn, Value};
use tokio_util::sync::CancellationToken;

use super::{Controller, Start, Wake};
use crate::plan::{Plan, Target, Write};

/// Remembers the paths of what it is sent, and answers that all is well.
#[derive(Default)]
struct Sent(Mutex<Vec<String>>);

impl Api for Sent {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, ClientError>> {
        self.0.lock().unwrap().push(format!("{} {}", request.method, request.path));
        Box::pin(async { Ok(Response { code: 200, body: Bytes::from_static(b"{}") }) })
    }
    fn watch(&self, _: Request) -> BoxFuture<'_, Result<WatchStream, ClientError>> {
        unreachable!("controllers watch the store")
    }
}

fn controller() -> Controller {
    let start: Start = Arc::new(|snapshot| snapshot.prefix("core/").map(|e| e.key.to_string()).collect());
    let wake: Wake = Arc::new(|_, event| vec![event.key().to_string()]);
    let decide = |_: &mizzen_store::Snapshot, key: &str, _| {
        assert!(!key.ends_with("/bad"), "an object that nobody thought of");
        let mut plan = Plan::default();
        let (_, _, namespace, name) = mizzen_api::key::parse(key).unwrap();
        plan.write(Write::Merge {
            target: Target::of::<k8s_openapi::api::core::v1::ConfigMap>(namespace, name),
            subresource: "",
            patch: serde_json::json!({}),
        });
        Ok(plan)
    };
    Controller {
        name: "test",
        identity: "test",
        start,
        wakes: vec![("core/configmaps/".into(), wake)],
        reconcile: Arc::new(decide),
    }
}

async fn put(store: &Memory, name: &str) {
    let value = Value { bytes: Bytes::from_static(b"{}"), revision_at: None };
    let key = format!("core/configmaps/d/{name}");
    store.commit(Txn::put(key, None, value)).await.unwrap();
}

#[tokio::test]
async fn an_object_that_panics_costs_only_itself() {
    let (store, sent, stop) = (Arc::new(Memory::default()), Arc::new(Sent::default()), CancellationToken::new());
    put(&store, "bad").await;
    put(&store, "first").await;
    let api = Arc::clone(&sent);
    let running = tokio::spawn(super::run(
        vec![controller()],
        Arc::clone(&store) as Arc<dyn Store>,
        move |_| Arc::clone(&api) as Arc<dyn Api>,
        Arc::default(),
        stop.clone(),
    ));
    let seen = |path: &str| sent.0.lock().unwrap().iter().any(|s| s.ends_with(path));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    let mut later = false;
    while !(seen("/configmaps/first") && seen("/configmaps/later")) {
        assert!(tokio::time::Instant::now() < deadline, "only {:?} was sent", sent.0.lock().unwrap());
        if seen("/configmaps/first") && !later {
            put(&store, "later").await; // Found through the watch.
            later = true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    running.await.unwrap();
}
