//! A watcher's cursor into the shared history.

use std::sync::Arc;

use crate::history::{Group, Sequence};
use crate::shared::Shared;
use crate::{Event, Revision, WatchError};

/// A cursor into the history of the keys under a prefix. It holds no queue of its own: a slow watcher costs nothing but
/// its position, and gets [`WatchError::Compacted`] when the history moved past it.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    prefix: Arc<str>,
    group: Arc<Group>,
    next: Sequence,
    position: Revision,
}

impl Watch {
    pub(crate) fn new(
        shared: Arc<Shared>,
        prefix: Arc<str>,
        group: Arc<Group>,
        next: Sequence,
        position: Revision,
    ) -> Self {
        Self { shared, prefix, group, next, position }
    }

    /// The next changes, oldest first, at most `max`; waits until there is one. Cancel safe.
    pub async fn next(&mut self, max: usize) -> Result<Vec<Arc<Event>>, WatchError> {
        let group = Arc::clone(&self.group);
        loop {
            let mut woken = std::pin::pin!(group.notify.notified());
            // Registered before looking, so that what is written after the look is not missed.
            woken.as_mut().enable();
            if self.shared.closed() {
                return Err(WatchError::Closed);
            }
            let look = self.shared.history().look(&self.prefix, self.next, self.position, max.max(1))?;
            (self.next, self.position) = (look.next, look.position);
            if !look.events.is_empty() {
                return Ok(look.events);
            }
            woken.await;
        }
    }

    /// The newest revision up to which every change under the prefix has been handed out (for bookmarks).
    ///
    /// It moves on with writes elsewhere, as long as none under the prefix waits to be handed out.
    pub fn position(&self) -> Revision {
        match self.shared.history().look(&self.prefix, self.next, self.position, 1) {
            Ok(look) if look.events.is_empty() => look.position,
            _ => self.position,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.history_mut().leave(&self.prefix);
    }
}
