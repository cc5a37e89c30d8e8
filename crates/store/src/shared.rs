//! What readers and the applying thread share: the newest state, the retained past, and who waits for more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::history::{Group, History, Retention};
use crate::state::undo;
use crate::{Compacted, Event, Revision, Snapshot, Watch};

/// The readers' side of an engine.
#[derive(Debug)]
pub(crate) struct Shared {
    current: ArcSwap<Snapshot>,
    history: RwLock<History>,
    reached: watch::Sender<Revision>,
    /// The last past state that was computed: pages of one list ask for the same.
    past: Mutex<Option<Snapshot>>,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(retention: Retention, current: Snapshot) -> Self {
        Self {
            history: RwLock::new(History::new(retention, current.revision())),
            reached: watch::Sender::new(current.revision()),
            current: ArcSwap::from_pointee(current),
            past: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Shows readers a new state and the events that led to it. Called by the one thread that applies.
    pub(crate) fn publish(&self, events: Vec<Arc<Event>>, after: &Snapshot, now: Instant) {
        if events.is_empty() {
            return;
        }
        let mut history = self.history_mut();
        let woken = history.record(events, after, now);
        self.current.store(Arc::new(after.clone()));
        drop(history);
        self.wake(&woken, after.revision());
    }

    /// Shows readers a state that comes from elsewhere (a snapshot file); watchers from before it must list again.
    pub(crate) fn replace(&self, state: &Snapshot) {
        let mut history = self.history_mut();
        let woken = history.reset(state.revision());
        self.current.store(Arc::new(state.clone()));
        drop(history);
        self.wake(&woken, state.revision());
    }

    fn wake(&self, groups: &[Arc<Group>], revision: Revision) {
        self.reached.send_replace(revision);
        for group in groups {
            group.notify.notify_waiters();
        }
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let groups = self.history().groups();
        self.wake(&groups, self.snapshot().revision());
    }

    pub(crate) fn closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::clone(&self.current.load())
    }

    pub(crate) fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, Compacted> {
        let (state, events) = {
            let history = self.history();
            let current = self.snapshot();
            if revision >= current.revision() {
                return Ok(current);
            }
            let (checkpoint, events) = history.past(revision)?;
            (checkpoint.unwrap_or(current), events)
        };
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = past.as_ref().filter(|kept| kept.revision() == revision) {
            return Ok(kept.clone());
        }
        let computed = undo(state, &events, revision);
        *past = Some(computed.clone());
        Ok(computed)
    }

    pub(crate) fn watch(self: &Arc<Self>, prefix: &str, after: Revision) -> Result<Watch, Compacted> {
        let (group, next) = self.history_mut().join(prefix, after)?;
        Ok(Watch::new(Arc::clone(self), Arc::from(prefix), group, next, after))
    }

    pub(crate) async fn reached(&self, revision: Revision) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.reached.subscribe().wait_for(|newest| *newest >= revision).await;
    }

    pub(crate) fn history(&self) -> RwLockReadGuard<'_, History> {
        self.history.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn history_mut(&self) -> RwLockWriteGuard<'_, History> {
        self.history.write().unwrap_or_else(PoisonError::into_inner)
    }
}
