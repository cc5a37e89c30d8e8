//! The keys to look at: each at most once in line, never while it is being worked on, some only after a time.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::stats::QueueStats;

/// A work queue of keys.
#[derive(Debug)]
pub(super) struct Queue {
    pub stats: Arc<QueueStats>,
    ready: VecDeque<String>,
    /// Since when.
    waiting: HashMap<String, Instant>,
    /// Since when.
    working: HashMap<String, Instant>,
    /// Woken while being worked on.
    dirty: HashSet<String>,
    timers: BTreeSet<(Instant, String)>,
    due: HashMap<String, Instant>,
}

impl Queue {
    /// An empty queue that counts in `stats`.
    pub fn new(stats: Arc<QueueStats>) -> Self {
        Self {
            stats,
            ready: VecDeque::new(),
            waiting: HashMap::new(),
            working: HashMap::new(),
            dirty: HashSet::new(),
            timers: BTreeSet::new(),
            due: HashMap::new(),
        }
    }

    /// Looks at a key as soon as possible.
    pub fn add(&mut self, key: String) {
        if self.working.contains_key(&key) {
            self.dirty.insert(key);
        } else if !self.waiting.contains_key(&key) {
            self.waiting.insert(key.clone(), Instant::now());
            self.ready.push_back(key);
            self.stats.adds.one();
            self.stats.depth.add(1);
        }
    }

    /// Looks at a key at `at`, or earlier if it is asked for earlier.
    pub fn add_at(&mut self, key: String, at: Instant) {
        if let Some(known) = self.due.get(&key) {
            if *known <= at {
                return;
            }
            self.timers.remove(&(*known, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.timers.insert((at, key));
    }

    /// The next key to work on.
    pub fn take(&mut self, now: Instant) -> Option<String> {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            let Some((_, key)) = self.timers.pop_first() else { break };
            self.due.remove(&key);
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        if let Some(since) = self.waiting.remove(&key) {
            self.stats.waited.observe(now.saturating_duration_since(since));
        }
        self.stats.depth.add(-1);
        self.stats.working.add(1);
        self.working.insert(key.clone(), now);
        Some(key)
    }

    /// A key is no longer worked on.
    pub fn done(&mut self, key: &str) {
        if let Some(since) = self.working.remove(key) {
            self.stats.worked.observe(since.elapsed());
            self.stats.working.add(-1);
        }
        if self.dirty.remove(key) {
            self.add(key.to_string());
        }
    }

    /// When the next timer ends.
    pub fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn queue() -> Queue {
        Queue::new(Arc::new(QueueStats::new("test")))
    }

    #[test]
    fn a_key_is_in_line_once_and_never_worked_on_twice() {
        let now = Instant::now();
        let mut queue = queue();
        queue.add("a".into());
        queue.add("a".into());
        assert_eq!(queue.take(now).as_deref(), Some("a"));
        queue.add("a".into());
        assert_eq!(queue.take(now), None);
        queue.done("a");
        assert_eq!(queue.take(now).as_deref(), Some("a"));
    }

    #[test]
    fn the_earlier_timer_wins() {
        let now = Instant::now();
        let mut queue = queue();
        queue.add_at("a".into(), now + Duration::from_secs(5));
        queue.add_at("a".into(), now + Duration::from_secs(1));
        queue.add_at("a".into(), now + Duration::from_secs(9));
        assert_eq!(queue.next_due(), Some(now + Duration::from_secs(1)));
        assert_eq!(queue.take(now), None);
        assert_eq!(queue.take(now + Duration::from_secs(1)).as_deref(), Some("a"));
        assert_eq!(queue.next_due(), None);
    }
}
