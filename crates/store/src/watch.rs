//! A watcher's cursor into the shared history.

use std::sync::Arc;

use crate::{Event, Revision, WatchError};

/// A cursor into the history of the keys under a prefix. It holds no queue of its own: a slow watcher costs nothing but
/// its position, and gets [`WatchError::Compacted`] when the history moved past it.
#[derive(Debug)]
pub struct Watch {
    position: Revision,
}

impl Watch {
    /// The next changes, oldest first, at most `max`; waits until there is one. Cancel safe.
    pub async fn next(&mut self, max: usize) -> Result<Vec<Arc<Event>>, WatchError> {
        let _ = max;
        Err(WatchError::Closed)
    }

    /// The newest revision up to which every change under the prefix has been handed out (for bookmarks).
    pub fn position(&self) -> Revision {
        self.position
    }
}
