//! How a batch comes to be committed: proposed here, or by whoever leads, as often as it takes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::BasicNode;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::raft::log::{Log, Others};
use crate::raft::machine::Machine;
use crate::raft::types::{Batch, Origin, Outcomes, Raft};
use crate::raft::wire;
use crate::{CommitError, Peers, Txn};

/// A batch that is not committed within this time is given up; longer than the election of a leader takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// A store that is closed waits no longer than this for others.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(20);
/// A leader that takes longer than this may be gone: it is asked again, or its successor.
const ATTEMPT: Duration = Duration::from_secs(3);

/// The way of this voter's batches.
pub(crate) struct Route {
    me: u64,
    raft: Raft,
    log: Log,
    machine: Machine,
    peers: Arc<dyn Peers>,
    /// The store is being closed.
    stop: watch::Receiver<bool>,
    /// The newest batch that may be proposed more than once.
    newest: Origin,
}

/// Who leads, as far as this voter knows.
pub(crate) enum Leader {
    /// This voter.
    Me,
    /// Another one, reached at this address.
    At(String),
    /// Nobody, or nobody knows.
    Unknown,
}

/// Who leads now.
pub(crate) fn leader(raft: &Raft, me: u64) -> Leader {
    let metrics = raft.metrics();
    let metrics = metrics.borrow();
    match metrics.current_leader {
        Some(id) if id == me => Leader::Me,
        Some(id) => {
            let node = metrics.membership_config.membership().get_node(&id);
            node.map_or(Leader::Unknown, |BasicNode { addr }| Leader::At(addr.clone()))
        }
        None => Leader::Unknown,
    }
}

impl Route {
    pub(crate) fn new(
        me: u64,
        raft: Raft,
        log: Log,
        machine: Machine,
        peers: Arc<dyn Peers>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let newest = Origin { run: rand::random(), number: 0 };
        Self { me, raft, log, machine, peers, stop, newest }
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Commits a batch. The outer error holds for all of it.
    pub(crate) async fn commit(&mut self, txns: Vec<Txn>) -> Result<Outcomes, CommitError> {
        let txns = Arc::new(txns);
        if self.log.others() == Others::None {
            return self.alone(Batch { txns, origin: None }).await;
        }
        self.newest.number += 1;
        let (batch, mut stop) = (Batch { txns, origin: Some(self.newest) }, self.stop.clone());
        let closing = async {
            // The sender is only gone with the store.
            let _ = stop.wait_for(|stop| *stop).await;
            sleep(LAST_WORDS).await;
        };
        tokio::select! {
            outcomes = self.with_others(batch, self.newest) => outcomes,
            () = closing => Err(unknown("the store was closed, and the other servers did not answer")),
        }
    }

    async fn alone(&self, batch: Batch) -> Result<Outcomes, CommitError> {
        match self.raft.client_write(batch).await {
            Ok(response) => Ok(response.data.outcomes),
            Err(error) => {
                tracing::error!(%error, "a batch was not committed");
                Err(CommitError::Unavailable { reason: error.to_string() })
            }
        }
    }

    /// The outcome is what this voter's own state machine says: wherever the batch was proposed, it is applied here too.
    async fn with_others(&self, batch: Batch, origin: Origin) -> Result<Outcomes, CommitError> {
        let deadline = Instant::now() + PATIENCE;
        let mut answered = self.machine.expect(origin);
        let mut last = String::new();
        while Instant::now() < deadline {
            let wait = tokio::select! {
                biased;
                outcomes = &mut answered => return outcomes.map_err(|_| unknown("its outcome was lost in a snapshot")),
                proposed = tokio::time::timeout(ATTEMPT, self.propose(&batch)) => match proposed {
                    // Committed: it will be applied here as soon as this voter hears of it.
                    Ok(Ok(())) => ATTEMPT,
                    Ok(Err(reason)) => { last = reason; RETRY }
                    Err(_) => { last = "the leader does not answer".to_owned(); Duration::ZERO }
                },
            };
            let until = deadline.min(Instant::now() + wait);
            if let Ok(outcomes) = timeout_at(until, &mut answered).await {
                return outcomes.map_err(|_| unknown("its outcome was lost in a snapshot"));
            }
        }
        tracing::warn!(reason = last, "a batch was not committed in time");
        Err(unknown(&last))
    }

    async fn propose(&self, batch: &Batch) -> Result<(), String> {
        match leader(&self.raft, self.me) {
            Leader::Me => self.raft.client_write(batch.clone()).await.map(drop).map_err(|error| error.to_string()),
            Leader::At(address) => {
                let request = wire::propose(batch).map_err(|error| error.to_string())?;
                let answer =
                    self.peers.call(&address, Bytes::from(request)).await.map_err(|error| error.to_string())?;
                wire::read_answer::<(), String>(&answer)?
            }
            Leader::Unknown => {
                sleep(RETRY).await;
                Err("no server leads".to_owned())
            }
        }
    }
}

fn unknown(reason: &str) -> CommitError {
    CommitError::Unavailable { reason: format!("it is not known whether this was committed: {reason}") }
}
