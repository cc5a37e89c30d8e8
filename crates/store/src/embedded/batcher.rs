//! The batcher: everything that waits is proposed as one log entry and so costs one sync (openraft syncs once an entry).

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};

use super::upkeep::Upkeep;
use crate::codec::txn_len;
use crate::raft::log::ENTRY_OVERHEAD;
use crate::raft::types::{Batch, Raft};
use crate::{CommitError, Committed, Txn};

/// At most so many transactions in a batch, and none is added once it has so many bytes.
const BATCH_TXNS: usize = 512;
const BATCH_BYTES: usize = 1 << 20;

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
    /// Who wants everything written anew.
    pub(crate) to_rewrite: mpsc::Receiver<oneshot::Sender<bool>>,
    /// The end.
    pub(crate) stop: Arc<Notify>,
}

/// Proposes one batch at a time until told to stop; then what already waits, and no more.
pub(crate) async fn run(raft: &Raft, requests: Requests, mut upkeep: Upkeep) {
    let Requests { waiting: mut queue, mut to_rewrite, stop } = requests;
    let mut stopping = false;
    let mut waiting = Vec::with_capacity(BATCH_TXNS);
    loop {
        tokio::select! {
            biased;
            () = stop.notified(), if !stopping => {
                stopping = true;
                queue.close();
            }
            first = queue.recv() => match first {
                Some(first) => {
                    fill(&mut waiting, first, &mut queue);
                    propose(raft, &mut waiting, &mut upkeep).await;
                    upkeep.after_batch(raft);
                }
                None => break,
            },
            Some(answer) = to_rewrite.recv(), if !stopping => {
                // As everywhere here, a caller may have gone away.
                let _ = answer.send(upkeep.rewrite(raft).await);
            }
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

async fn propose(raft: &Raft, batch: &mut Vec<Command>, upkeep: &mut Upkeep) {
    let bytes = batch.iter().map(|command| command.bytes).sum::<usize>() + ENTRY_OVERHEAD;
    if let Err(error) = upkeep.make_room(raft, bytes).await {
        for command in batch.drain(..) {
            // A caller that went away does not need the answer, here and below.
            let _ = command.answer.send(Err(error.clone()));
        }
        return;
    }
    let (txns, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(|command| (command.txn, command.answer)).unzip();
    match raft.client_write(Batch(Arc::new(txns))).await {
        Ok(response) => {
            for (answer, outcome) in answers.into_iter().zip(response.data.outcomes) {
                let _ = answer.send(outcome);
            }
        }
        Err(error) => {
            tracing::error!(%error, "a batch was not committed");
            for answer in answers {
                let _ = answer.send(Err(CommitError::Unavailable { reason: error.to_string() }));
            }
        }
    }
}
