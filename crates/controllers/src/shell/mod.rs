//! The shell around the pure controllers: waits for changes, takes a snapshot, calls the controller, commits its plan.
//!
//! One task a controller. A change only names keys; whatever is to be done is read from the snapshot. A key is never worked
//! on twice at once; one that fails is tried again after a wait that doubles.

mod queue;
mod read;
mod recorder;
mod send;
mod stats;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use mizzen_client::{Api, Client};
use mizzen_store::{Event, Snapshot, Store, Watch, WatchError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::plan::{ControllerError, Plan};
use queue::Queue;
use recorder::Recorder;
pub use stats::Stats;

/// Which keys a change makes worth looking at. The snapshot is at least as new as the change.
pub type Wake = Arc<dyn Fn(&Snapshot, &Event) -> Vec<String> + Send + Sync>;
/// Which keys of a state are worth looking at when nothing is known of what came before.
pub type Start = Arc<dyn Fn(&Snapshot) -> Vec<String> + Send + Sync>;
/// A controller's decision.
pub type Reconcile = Arc<dyn Fn(&Snapshot, &str, Timestamp) -> Result<Plan, ControllerError> + Send + Sync>;

/// A controller as the shell runs it.
#[derive(Clone)]
pub struct Controller {
    /// Its name, in logs and as the source of Events.
    pub name: &'static str,
    /// It acts as this service account of `kube-system`, whose role says what it may.
    pub identity: &'static str,
    /// Which keys are looked at when the shell starts, or starts over.
    pub start: Start,
    /// Which changes wake which keys.
    pub wakes: Vec<(String, Wake)>,
    /// The decision.
    pub reconcile: Reconcile,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Keys of one controller worked on at a time: enough to fill a commit batch, few enough not to starve others.
const IN_FLIGHT_MAX: usize = 32;
/// Changes taken from a watch at a time.
const EVENTS_MAX: usize = 256;
/// First and longest wait after a failure.
const RETRY_MIN: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Runs controllers until `shutdown` is cancelled; answers when all have ended.
///
/// `api` gives the way to the API under a controller's identity.
pub async fn run(
    controllers: Vec<Controller>,
    store: Arc<dyn Store>,
    api: impl Fn(&str) -> Arc<dyn Api>,
    stats: Arc<Stats>,
    shutdown: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    for controller in controllers {
        let client = Client::new(api(controller.identity));
        let runner = Runner {
            store: Arc::clone(&store),
            recorder: Recorder::new(client.clone(), controller.name),
            client,
            queue: Queue::new(stats.of(controller.name)),
            controller,
            failures: HashMap::new(),
        };
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = runner.run() => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a controller ended unexpectedly");
        }
    }
}

struct Runner {
    controller: Controller,
    store: Arc<dyn Store>,
    client: Client,
    recorder: Recorder,
    queue: Queue,
    failures: HashMap<String, u32>,
}

/// What became of one key.
struct Outcome {
    key: String,
    result: Result<Option<Duration>, ()>,
}

type Awaited = BoxFuture<'static, (usize, Watch, Result<Vec<Arc<Event>>, WatchError>)>;

impl Runner {
    async fn run(mut self) {
        loop {
            let snapshot = self.store.snapshot();
            let watches: FuturesUnordered<Awaited> = FuturesUnordered::new();
            for (index, (prefix, _)) in self.controller.wakes.iter().enumerate() {
                // The snapshot's own revision is always held.
                let Ok(watch) = self.store.watch(prefix, snapshot.revision()) else {
                    continue;
                };
                watches.push(next(index, watch));
            }
            for key in (self.controller.start)(&snapshot) {
                self.queue.add(key);
            }
            drop(snapshot);
            if self.follow(watches).await.is_err() {
                return;
            }
            tracing::info!(controller = self.controller.name, "fell behind the history; looking at everything again");
        }
    }

    /// Works until a watch falls behind (`Ok`: start over) or the store closes (`Err`).
    async fn follow(&mut self, mut watches: FuturesUnordered<Awaited>) -> Result<(), WatchError> {
        let mut working: FuturesUnordered<BoxFuture<'static, Outcome>> = FuturesUnordered::new();
        loop {
            let now = tokio::time::Instant::now();
            while working.len() < IN_FLIGHT_MAX
                && let Some(key) = self.queue.take(now)
            {
                working.push(self.start(key));
            }
            let timer = self.queue.next_due();
            tokio::select! {
                Some((index, watch, events)) = watches.next() => match events {
                    Ok(events) => {
                        self.wake(index, &events);
                        watches.push(next(index, watch));
                    }
                    Err(WatchError::Compacted(_)) => {
                        while let Some(outcome) = working.next().await {
                            self.finish(outcome);
                        }
                        return Ok(());
                    }
                    Err(closed) => return Err(closed),
                },
                Some(outcome) = working.next() => self.finish(outcome),
                () = sleep_until(timer), if timer.is_some() && working.len() < IN_FLIGHT_MAX => {}
            }
        }
    }

    fn wake(&mut self, index: usize, events: &[Arc<Event>]) {
        let snapshot = self.store.snapshot();
        let Some((_, wake)) = self.controller.wakes.get(index) else {
            return;
        };
        for event in events {
            for key in wake(&snapshot, event) {
                self.queue.add(key);
            }
        }
    }

    fn start(&self, key: String) -> BoxFuture<'static, Outcome> {
        let snapshot = self.store.snapshot();
        let decide = AssertUnwindSafe(|| (self.controller.reconcile)(&snapshot, &key, Timestamp::now()));
        // An object that a controller cannot stand costs its own key only. Decisions leave nothing behind that a panic
        // could have left half done.
        let plan = catch_unwind(decide).unwrap_or_else(|_| Err(ControllerError::Panicked { object: key.clone() }));
        let (client, recorder, name) = (self.client.clone(), self.recorder.clone(), self.controller.name);
        let store = Arc::clone(&self.store);
        Box::pin(async move {
            let plan = match plan {
                Ok(plan) => read::resolve(&client, &*store, &key, plan).await,
                Err(error) => Err(error),
            };
            let plan = match plan {
                Ok(plan) => plan,
                Err(error) => {
                    tracing::warn!(controller = name, key, %error, "no plan can be made");
                    return Outcome { key, result: Err(()) };
                }
            };
            let sent = send::all(&client, plan.writes).await;
            recorder.record(plan.notes).await;
            let result = match sent {
                Ok(()) => Ok(plan.again_after),
                Err(error) if error.is_race() => Ok(Some(RETRY_MIN)),
                Err(error) if error.is_too_late() => Ok(None),
                Err(error) => {
                    tracing::warn!(controller = name, key, %error, "a write failed; trying again");
                    if let Some((refusal, answer)) = error.refused_create().zip(plan.on_refusal) {
                        let answer = answer(&refusal, Timestamp::now());
                        recorder.record(answer.notes).await;
                        if let Err(error) = send::all(&client, answer.writes).await {
                            tracing::warn!(controller = name, key, %error, "the refusal could not be noted");
                        }
                    }
                    Err(())
                }
            };
            Outcome { key, result }
        })
    }

    fn finish(&mut self, outcome: Outcome) {
        let Outcome { key, result } = outcome;
        let again = match result {
            Ok(again) => {
                self.failures.remove(&key);
                again
            }
            Err(()) => {
                let failures = self.failures.entry(key.clone()).or_default();
                *failures += 1;
                self.queue.stats.retries.one();
                Some((RETRY_MIN * 2_u32.saturating_pow((*failures).min(20))).min(RETRY_MAX))
            }
        };
        self.queue.done(&key);
        if let Some(after) = again {
            self.queue.add_at(key, tokio::time::Instant::now() + after);
        }
    }
}

fn next(index: usize, mut watch: Watch) -> Awaited {
    Box::pin(async move {
        let events = watch.next(EVENTS_MAX).await;
        (index, watch, events)
    })
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
