//! What a client lets us send.
//!
//! SPDY/3.1 begins with windows of 64 KiB for each stream and for the connection. The library behind kubectl and all of
//! Kubernetes neither keeps windows nor ever opens them further, so a window counts only from the first sign that the
//! client has one: an update, or a setting.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

const INITIAL: i64 = 64 << 10;

/// The windows of a connection.
#[derive(Debug)]
pub(super) struct Flow(Mutex<State>);

#[derive(Debug)]
struct State {
    initial: i64,
    /// Streams have windows.
    by_stream: bool,
    /// The connection has one.
    by_connection: bool,
    connection: i64,
    streams: HashMap<u32, i64>,
    waiting: Vec<Waker>,
}

impl Flow {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            initial: INITIAL,
            by_stream: false,
            by_connection: false,
            connection: INITIAL,
            streams: HashMap::new(),
            waiting: Vec::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and numbers are never half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream has begun.
    pub(super) fn open(&self, stream: u32) {
        let mut state = self.lock();
        let initial = state.initial;
        state.streams.insert(stream, initial);
    }

    /// A stream has ended: whoever waits for its window learns it.
    pub(super) fn close(&self, stream: u32) {
        let mut state = self.lock();
        state.streams.remove(&stream);
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Takes up to `wanted` bytes from the windows; `None` if the stream has ended.
    pub(super) fn poll_take(&self, stream: u32, wanted: usize, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let mut state = self.lock();
        let Some(&left) = state.streams.get(&stream) else { return Poll::Ready(None) };
        let mut grant = wanted as i64;
        if state.by_stream {
            grant = grant.min(left);
        }
        if state.by_connection {
            grant = grant.min(state.connection);
        }
        if grant <= 0 && wanted > 0 {
            if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        state.streams.insert(stream, left.saturating_sub(grant));
        state.connection = state.connection.saturating_sub(grant);
        Poll::Ready(Some(grant as usize))
    }

    /// The client has opened a window further; stream 0 is the connection.
    pub(super) fn update(&self, stream: u32, delta: u32) {
        let mut state = self.lock();
        let delta = i64::from(delta);
        if stream == 0 {
            state.by_connection = true;
            state.connection = state.connection.saturating_add(delta);
        } else {
            state.by_stream = true;
            if let Some(left) = state.streams.get_mut(&stream) {
                *left = left.saturating_add(delta);
            }
        }
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// The client has set the size with which windows of streams begin.
    pub(super) fn set_initial(&self, size: u32) {
        let mut state = self.lock();
        let difference = i64::from(size) - state.initial;
        state.by_stream = true;
        state.initial = i64::from(size);
        state.streams.values_mut().for_each(|left| *left = left.saturating_add(difference));
        state.waiting.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(flow: &Flow, stream: u32, wanted: usize) -> Poll<Option<usize>> {
        flow.poll_take(stream, wanted, &mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn nothing_is_held_back_until_the_client_keeps_windows() {
        let flow = Flow::new();
        flow.open(1);
        assert_eq!(take(&flow, 1, 1 << 20), Poll::Ready(Some(1 << 20)));
        assert_eq!(take(&flow, 3, 1), Poll::Ready(None));
    }

    #[test]
    fn windows_are_kept_once_seen() {
        let flow = Flow::new();
        flow.open(1);
        flow.open(3);
        assert_eq!(take(&flow, 1, 60 << 10), Poll::Ready(Some(60 << 10)));
        flow.update(1, 1 << 10);
        assert_eq!(take(&flow, 1, 60 << 10), Poll::Ready(Some(5 << 10)));
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        assert_eq!(flow.poll_take(1, 1, &mut Context::from_waker(&waker)), Poll::Pending);
        assert_eq!(flow.poll_take(1, 1, &mut Context::from_waker(&waker)), Poll::Pending);
        flow.update(1, 7);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(take(&flow, 1, 100), Poll::Ready(Some(7)));
        // The connection's window has been used up by 65 KiB and 7 bytes.
        flow.update(0, (2 << 10) + 7);
        assert_eq!(take(&flow, 3, 60 << 10), Poll::Ready(Some(1 << 10)));
        assert_eq!(take(&flow, 3, 1), Poll::Pending);
    }

    #[test]
    fn settings_change_open_windows() {
        let flow = Flow::new();
        flow.open(1);
        flow.set_initial(10);
        flow.open(3);
        assert_eq!(take(&flow, 1, 100), Poll::Ready(Some(10)));
        assert_eq!(take(&flow, 3, 100), Poll::Ready(Some(10)));
        flow.set_initial(5);
        assert_eq!(take(&flow, 3, 100), Poll::Pending);
        flow.close(3);
        assert_eq!(take(&flow, 3, 100), Poll::Ready(None));
    }
}
