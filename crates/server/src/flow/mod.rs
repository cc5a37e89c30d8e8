//! API priority and fairness: who is served when not all can be (flowcontrol.apiserver.k8s.io).
//!
//! A request is classified by the first FlowSchema that matches it and takes seats at that schema's level, or waits for
//! them in a fair queue, or is refused. [`Plan`] is the pure part (objects → schemas and levels), [`queues`] decides who
//! is next, [`Level`] holds the seats, [`upkeep`] follows the objects.

mod defaults;
mod hand;
mod level;
mod matching;
mod plan;
mod queues;
mod report;
mod seats;
mod tally;
mod upkeep;
mod width;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;
use tokio::sync::{Notify, oneshot};
use tokio_util::task::TaskTracker;

use crate::auth::{Attributes, Identity};
pub(crate) use defaults::all as defaults;
use level::{Held, Reception};
use plan::{Plan, Schema};
use tally::{Tallies, Tally};
pub(crate) use upkeep::run;
pub(crate) use width::width;

/// Which schema a request fell to.
pub(crate) const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
/// Which level a request fell to.
pub(crate) const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// Longest wait for a seat: a quarter of the time that a request has, as in Kubernetes.
const PATIENCE: Duration = Duration::from_secs(15);
/// When those who are refused may come again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// All levels at work.
#[derive(Debug)]
pub(crate) struct Flow {
    plan: ArcSwap<Plan>,
    tallies: Tallies,
    /// Seats of all levels together.
    total: u32,
    /// Told when somebody had to wait or was refused: perhaps seats can be lent.
    pressure: Notify,
}

/// A request that was let through, until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    held: Held,
    tally: Arc<Tally>,
}

/// The UIDs of the schema and level of a request, for the headers of its answer.
pub(crate) type Uids = [HeaderValue; 2];

impl Flow {
    /// Levels with `total` seats together, as a snapshot without objects has them; [`run`] follows the objects.
    pub fn new(total: usize) -> Self {
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        let tallies = Tallies::default();
        let plan = Plan::of(&Snapshot::default(), total, None, &tallies);
        Self { plan: ArcSwap::from_pointee(plan), tallies, total, pressure: Notify::new() }
    }

    /// Lets a request through, at once or when its turn has come; `width` is asked only where seats are limited.
    /// The UIDs are put down before waiting, so that refusals carry them too.
    pub async fn enter(
        &self,
        who: &Identity,
        what: &Attributes<'_>,
        width: impl FnOnce() -> u32,
        uids: &mut Option<Uids>,
    ) -> Result<Seat, ApiError> {
        let (waits, tally, began) = {
            let plan = self.plan.load();
            let Some(schema) = plan.classify(who, what) else { return Err(refused()) };
            *uids = Some(schema.uids.clone());
            let width = width();
            match self.receive(schema, width, who, what) {
                Ok(seat) => return Ok(seat),
                Err(Some(place)) => (place, Arc::clone(&schema.tally), std::time::Instant::now()),
                Err(None) => return Err(refused()),
            }
        };
        let waiting = Waiting { tally, queued: true };
        match tokio::time::timeout(PATIENCE, waits.turn()).await {
            Ok(held) => {
                let tally = waiting.over(began.elapsed());
                Ok(Seat::new(held, tally))
            }
            Err(_) => {
                waiting.over(began.elapsed()).reject("time-out");
                Err(refused())
            }
        }
    }

    fn receive(
        &self,
        schema: &Schema,
        width: u32,
        who: &Identity,
        what: &Attributes<'_>,
    ) -> Result<Seat, Option<level::Place>> {
        match schema.level.receive(width, || schema.flow(who, what)) {
            Reception::Seated(held) => Ok(Seat::new(held, Arc::clone(&schema.tally))),
            Reception::Waits(place, behind) => {
                schema.tally.queued.add(1);
                schema.tally.lengths.observe_value(u32::try_from(behind).unwrap_or(u32::MAX));
                self.pressure.notify_one();
                Err(Some(place))
            }
            Reception::Refused(reason) => {
                schema.tally.reject(reason);
                self.pressure.notify_one();
                Err(None)
            }
        }
    }

    /// Follows the objects of a snapshot.
    fn replan(&self, snapshot: &Snapshot) {
        let before = self.plan.load();
        let plan = Plan::of(snapshot, self.total, Some(&before), &self.tallies);
        self.plan.store(Arc::new(plan));
    }
}

fn refused() -> ApiError {
    ApiError::too_many_requests("too many requests, please try again later", RETRY_AFTER_SECONDS)
}

/// A request in a queue; if it is dropped there, its client went away.
struct Waiting {
    tally: Arc<Tally>,
    queued: bool,
}

impl Waiting {
    fn over(mut self, waited: Duration) -> Arc<Tally> {
        self.queued = false;
        self.tally.queued.add(-1);
        self.tally.waited.observe(waited);
        Arc::clone(&self.tally)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.queued {
            self.tally.queued.add(-1);
            self.tally.reject("cancelled");
        }
    }
}

impl Seat {
    fn new(held: Held, tally: Arc<Tally>) -> Self {
        tally.dispatched.one();
        tally.seats.add(i64::from(held.width()));
        Self { held, tally }
    }

    /// Keeps the seat while an answer is sent, until the sender that is returned is dropped; a client that does not read
    /// keeps it no longer than `longest`.
    pub fn keep(self, tasks: &TaskTracker, longest: Duration) -> oneshot::Sender<()> {
        let (sender, sent) = oneshot::channel::<()>();
        tasks.spawn(async move {
            // Whichever comes first; the seat is free in any case.
            let _ = tokio::time::timeout(longest, sent).await;
            drop(self);
        });
        sender
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.tally.ended.one();
        self.tally.seats.add(-i64::from(self.held.width()));
        self.tally.widths.observe_value(self.held.width());
        self.tally.executed.observe(self.held.began().elapsed());
    }
}
