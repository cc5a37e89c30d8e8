//! The stream of one watcher: initial state, then changes, with bookmarks in between and an end in time.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use mizzen_api::status::ApiError;
use mizzen_store::{Change, Entry, Event, Revision, Watch, WatchError};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::frame::Frames;
use super::too_old;
use crate::answer::Hold;
use crate::crd;
use crate::dispatch::Ctx;
use crate::metrics::Watching;
use crate::registry::select::Selection;
use crate::server::Core;

/// Events taken from the store at a time.
const BATCH: usize = 256;
/// Bytes sent at a time: many small events share a frame on the wire, a few large ones do not pile up.
const CHUNK: usize = 64 << 10;
/// How often an idle watcher hears how far it is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A last bookmark comes this long before the end.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// Where a watch begins.
pub(super) struct Start {
    pub watch: Watch,
    /// The objects to begin with.
    pub state: VecDeque<Arc<Entry>>,
    /// The revision of that state.
    pub state_at: Revision,
    /// Changes of the definition of a custom resource.
    pub definition: Option<Watch>,
    /// A bookmark is to mark the end of the state.
    pub announce_end: bool,
}

/// Waits until the definition changes, whatever happens to it; for ever where there is none. `false`: it can no longer be
/// followed.
async fn changed(definition: &mut Option<Watch>) -> bool {
    match definition {
        Some(watch) => watch.next(BATCH).await.is_ok(),
        None => std::future::pending().await,
    }
}

/// One watcher.
pub(super) struct Watcher {
    core: Arc<Core>,
    start: Start,
    pending: VecDeque<Arc<Event>>,
    selection: Selection,
    frames: Frames,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    ended: bool,
    /// The seats of the initial events.
    hold: Option<Hold>,
    watching: Watching,
    /// Rings at the next bookmark, or at the end. Kept from one event to the next, as is `closing`: to make them anew would
    /// cost each watcher of each change two locks that all watchers share.
    alarm: Pin<Box<Sleep>>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Watcher {
    pub fn new(
        ctx: &Ctx<'_>,
        start: Start,
        selection: Selection,
        frames: Frames,
        bookmarks: bool,
        life: Duration,
    ) -> Self {
        let end = Instant::now() + life;
        let mut watcher = Self {
            core: Arc::clone(ctx.core),
            start,
            pending: VecDeque::new(),
            selection,
            frames,
            bookmarks,
            next_bookmark: end,
            end,
            ended: false,
            hold: None,
            watching: ctx.core.metrics.watching(ctx.info),
            alarm: Box::pin(tokio::time::sleep_until(end)),
            closing: Box::pin(ctx.core.closing.clone().cancelled_owned()),
        };
        watcher.schedule_bookmark();
        watcher
    }

    /// Keeps this until the initial events are sent.
    pub fn holding(mut self, hold: Option<Hold>) -> Self {
        self.hold = hold;
        self
    }

    /// The body of the answer. Its head goes out before the first item is there.
    pub fn into_stream(self) -> BoxStream<'static, Bytes> {
        futures_util::stream::unfold(self, |mut watcher| async move {
            let chunk = watcher.next().await?;
            Some((chunk, watcher))
        })
        .boxed()
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        loop {
            if !out.is_empty() {
                return Some(out.freeze());
            }
            if self.ended {
                return None;
            }
            if self.put_state(&mut out) || self.put_pending(&mut out) {
                continue;
            }
            tokio::select! {
                biased;
                changes = self.start.watch.next(BATCH) => match changes {
                    Ok(events) => self.take(&mut out, events).await,
                    Err(error) => self.fail(&mut out, &error),
                },
                followed = changed(&mut self.start.definition) => {
                    self.ended = !followed || !crd::renew(&self.core, &mut self.frames.resource);
                }
                () = self.closing.as_mut() => return None,
                () = self.alarm.as_mut() => self.tick(&mut out),
            }
        }
    }

    /// Takes events from the store, those of custom resources in the version that is watched.
    async fn take(&mut self, out: &mut BytesMut, events: Vec<Arc<Event>>) {
        if self.frames.resource.definition.is_none() {
            return self.pending.extend(events);
        }
        match crd::translated(&self.core, &self.frames.resource, events).await {
            Ok(events) => self.pending.extend(events),
            Err(error) => {
                self.ended = true;
                self.frames.error(out, &error);
            }
        }
    }

    /// Puts initial state; `false` when it was all sent before.
    fn put_state(&mut self, out: &mut BytesMut) -> bool {
        let mut sent = 0;
        while out.len() < CHUNK {
            let Some(entry) = self.start.state.pop_front() else { break };
            if self.selection.matches(&entry) {
                self.frames.event(out, "ADDED", &entry, None, None);
                sent += 1;
            }
        }
        self.watching.events(sent);
        if self.start.state.is_empty() {
            self.hold = None;
        }
        if self.start.state.is_empty() && std::mem::take(&mut self.start.announce_end) {
            self.frames.bookmark(out, self.start.state_at, true);
        }
        !out.is_empty()
    }

    /// Puts changes that were taken from the store; `false` if none of them is for this watcher.
    fn put_pending(&mut self, out: &mut BytesMut) -> bool {
        let mut sent = 0;
        while out.len() < CHUNK {
            let Some(event) = self.pending.pop_front() else { break };
            sent += usize::from(self.put(out, &event));
        }
        self.watching.events(sent);
        !out.is_empty()
    }

    /// Puts one change as the watcher's selection sees it: what stops matching is deleted, what starts to is added.
    fn put(&mut self, out: &mut BytesMut, event: &Event) -> bool {
        let (now, before) = match &event.change {
            Change::Put { entry, previous } => (Some(entry), previous.as_ref()),
            Change::Delete { previous } => (None, Some(previous)),
        };
        let now = now.filter(|e| self.selection.matches(e));
        let before = before.filter(|e| self.selection.matches(e));
        let (kind, entry, at) = match (now, before) {
            (Some(entry), None) => ("ADDED", entry, None),
            (Some(entry), Some(_)) => ("MODIFIED", entry, None),
            (None, Some(previous)) => ("DELETED", previous, Some(event.revision)),
            (None, None) => return false,
        };
        self.frames.event(out, kind, entry, at, Some(&self.core.rendered));
        true
    }

    /// The end or a bookmark is due.
    fn tick(&mut self, out: &mut BytesMut) {
        let now = Instant::now();
        if now >= self.next_bookmark && self.bookmarks {
            let revision = self.start.watch.position().max(self.start.state_at);
            self.frames.bookmark(out, revision, false);
        }
        self.ended = now >= self.end;
        self.schedule_bookmark();
    }

    fn schedule_bookmark(&mut self) {
        if self.bookmarks {
            let now = Instant::now();
            let last = self.end.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(self.end);
            let next = now + BOOKMARK_EVERY;
            self.next_bookmark = if next < last {
                next
            } else if now < last {
                last
            } else {
                self.end + BOOKMARK_EVERY
            };
        }
        self.alarm.as_mut().reset(self.next_bookmark.min(self.end));
    }

    fn fail(&mut self, out: &mut BytesMut, error: &WatchError) {
        self.ended = true;
        if let WatchError::Compacted(compacted) = error {
            self.frames.error(out, &too_old(compacted));
        }
    }
}

/// A stream that says why there is none.
pub(super) fn failed(frames: Frames, error: &ApiError) -> BoxStream<'static, Bytes> {
    let mut out = BytesMut::new();
    frames.error(&mut out, error);
    futures_util::stream::iter([out.freeze()]).boxed()
}
