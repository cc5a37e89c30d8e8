//! The batcher: everything that waits is proposed as one log entry and so costs one sync (openraft syncs once an entry).

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::route::Route;
use super::upkeep::Upkeep;
use crate::codec::txn_len;
use crate::raft::log::ENTRY_OVERHEAD;
use crate::{CommitError, Committed, Txn};

/// At most so many transactions in a batch, and none is added once it has so many bytes.
const BATCH_TXNS: usize = 512;
const BATCH_BYTES: usize = 1 << 20;

/// What others write here needs upkeep too; it is looked at so often.
const LOOK: Duration = Duration::from_secs(1);

/// A transaction that waits.
#[derive(Debug)]
pub(crate) struct Command {
    bytes: usize,
    txn: Txn,
    answer: oneshot::Sender<Result<Committed, CommitError>>,
}

impl Command {
    /// `more` is what sealing may add to the transaction's own bytes.
    pub(crate) fn new(txn: Txn, more: usize, answer: oneshot::Sender<Result<Committed, CommitError>>) -> Self {
        Self { bytes: txn_len(&txn) + more, txn, answer }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What the store's thread is asked for.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Transactions.
    pub(crate) waiting: mpsc::Receiver<Command>,
    /// What else is wanted.
    pub(crate) asks: mpsc::Receiver<Ask>,
    /// The end.
    pub(crate) stop: watch::Receiver<bool>,
}

/// What the store's thread is asked for beside commits. The answer is whether it succeeded.
#[derive(Debug)]
pub(crate) enum Ask {
    /// To write everything anew.
    Rewrite(oneshot::Sender<bool>),
    /// To keep the log for others.
    Keep(oneshot::Sender<bool>),
}

/// Proposes one batch at a time until told to stop; then what already waits, and no more.
pub(crate) async fn run(mut route: Route, requests: Requests, mut upkeep: Upkeep) {
    let Requests { waiting: mut queue, mut asks, mut stop } = requests;
    let raft = route.raft().clone();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stopping = false;
    let mut waiting = Vec::with_capacity(BATCH_TXNS);
    loop {
        tokio::select! {
            biased;
            // The sender is only gone with the store.
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                queue.close();
            }
            first = queue.recv() => match first {
                Some(first) => {
                    fill(&mut waiting, first, &mut queue);
                    propose(&mut route, &mut waiting, &mut upkeep).await;
                    upkeep.after_batch(&raft);
                }
                None => break,
            },
            Some(ask) = asks.recv(), if !stopping => {
                // As everywhere here, a caller may have gone away.
                let _ = match ask {
                    Ask::Rewrite(answer) => answer.send(upkeep.rewrite(&raft).await),
                    Ask::Keep(answer) => answer.send(upkeep.keep(&raft).await),
                };
            }
            _ = look.tick(), if upkeep.with_others() => upkeep.after_batch(&raft),
        }
    }
    upkeep.finish().await;
}

fn fill(batch: &mut Vec<Command>, first: Command, queue: &mut mpsc::Receiver<Command>) {
    let mut bytes = first.bytes;
    batch.push(first);
    while batch.len() < BATCH_TXNS && bytes < BATCH_BYTES {
        let Ok(command) = queue.try_recv() else { break };
        bytes += command.bytes;
        batch.push(command);
    }
}

async fn propose(route: &mut Route, batch: &mut Vec<Command>, upkeep: &mut Upkeep) {
    let bytes = batch.iter().map(|command| command.bytes).sum::<usize>() + ENTRY_OVERHEAD;
    let room = upkeep.make_room(route.raft(), bytes).await;
    let (txns, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(|command| (command.txn, command.answer)).unzip();
    let outcomes = match room {
        Ok(()) => route.commit(txns).await,
        Err(error) => Err(error),
    };
    let mut outcomes = match outcomes {
        Ok(outcomes) => outcomes.into_iter(),
        Err(error) => vec![Err(error); answers.len()].into_iter(),
    };
    for (answer, outcome) in answers.into_iter().zip(&mut outcomes) {
        // A caller that went away does not need the answer.
        let _ = answer.send(outcome);
    }
}
