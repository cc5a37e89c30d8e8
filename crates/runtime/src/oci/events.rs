//! Events on their way to the agent. An event only says "look again", so one of a kind and pod waits at most: the queue is
//! bounded by the number of pods, and no link ever waits for the agent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::lock;
use crate::driver::DriverEvent;

/// Events handed over at a time; the rest waits in the queue.
const CHANNEL: usize = 64;

/// The queue and its one listener.
#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: Mutex<VecDeque<DriverEvent>>,
    more: Notify,
    forwarder: Mutex<Option<AbortHandle>>,
}

impl Events {
    /// Adds an event unless the same one waits already.
    pub(super) fn push(&self, event: DriverEvent) {
        let mut waiting = lock(&self.waiting);
        if !waiting.contains(&event) {
            waiting.push_back(event);
            self.more.notify_one();
        }
    }

    /// The receiver, once; a second listener gets one that has ended.
    pub(super) fn listen(self: &Arc<Self>) -> mpsc::Receiver<DriverEvent> {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let mut forwarder = lock(&self.forwarder);
        if forwarder.is_none() {
            *forwarder = Some(tokio::spawn(Arc::clone(self).forward(sender)).abort_handle());
        }
        receiver
    }

    /// Ends the forwarding.
    pub(super) fn close(&self) {
        if let Some(task) = lock(&self.forwarder).take() {
            task.abort();
        }
    }

    async fn forward(self: Arc<Self>, sender: mpsc::Sender<DriverEvent>) {
        loop {
            // Room first: until it is handed over, an event stays in the queue and swallows its like.
            let Ok(room) = sender.reserve().await else { return };
            let event = loop {
                let next = lock(&self.waiting).pop_front();
                match next {
                    Some(event) => break event,
                    None => self.more.notified().await,
                }
            };
            room.send(event);
        }
    }
}
