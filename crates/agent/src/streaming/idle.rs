//! When a stream has carried nothing for too long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// As kubelet's `streamingConnectionIdleTimeout`.
const IDLE_MAX: Duration = Duration::from_secs(4 * 60 * 60);

/// Knows when something was last carried.
#[derive(Debug)]
pub(super) struct Idle {
    start: Instant,
    last_millis: AtomicU64,
    max: Duration,
}

impl Idle {
    /// Begins now.
    pub(super) fn new() -> Self {
        Self::within(IDLE_MAX)
    }

    fn within(max: Duration) -> Self {
        Self { start: Instant::now(), last_millis: AtomicU64::new(0), max }
    }

    /// Something was carried.
    pub(super) fn touch(&self) {
        self.last_millis.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Waits until nothing was carried for [`IDLE_MAX`], or less in tests.
    pub(super) async fn expired(&self) {
        loop {
            let due = self.start + Duration::from_millis(self.last_millis.load(Ordering::Relaxed)) + self.max;
            if Instant::now() >= due {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn expires_after_the_last_touch() {
        let (idle, begun) = (Idle::within(Duration::from_millis(200)), Instant::now());
        tokio::time::sleep(Duration::from_millis(100)).await;
        idle.touch();
        idle.expired().await;
        assert!(begun.elapsed() >= Duration::from_millis(299), "{:?}", begun.elapsed());
    }
}
