//! Fair queues: who is next when there are not seats for all. Pure: no clock, no waking.
//!
//! Start-time fair queuing. Each queue has a virtual time at which its next request starts; the queue with the earliest is
//! served, and its time moves on by the work of what was served. So every queue gets the same work done, however many
//! requests wait in it. How long a request takes is known only at its end: until then [`ASSUMED`] counts, and the
//! difference is put right afterwards.

use std::collections::VecDeque;
use std::time::Duration;

use super::hand;

/// The time a request is taken to need until it is known. A write that shares a sync with others takes about this long.
const ASSUMED: Duration = Duration::from_millis(1);

/// `spec.limited.limitResponse.queuing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Queues there are.
    pub queues: usize,
    /// Queues of one flow.
    pub hand: usize,
    /// Requests that may wait in a queue.
    pub length: usize,
}

/// The queues of one level.
#[derive(Debug)]
pub struct Queues {
    shape: Shape,
    queues: Vec<Queue>,
    /// Virtual time, in seats times seconds a queue: the start of what was last served.
    clock: f64,
    /// Where to look first, so that equals take turns.
    turn: usize,
    waiting: usize,
    next_ticket: u64,
}

#[derive(Debug, Default, Clone)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// When its next request starts.
    start: f64,
    /// Seats of the requests that came from it and are worked on.
    busy: u32,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    ticket: u64,
    width: u32,
}

/// A request that is to start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// What [`Queues::push`] answered.
    pub ticket: u64,
    /// The seats it takes.
    pub width: u32,
    /// Where it came from, for [`Queues::done`].
    pub queue: usize,
}

impl Queues {
    /// Empty queues.
    pub fn new(shape: Shape) -> Self {
        let queues = vec![Queue::default(); shape.queues.max(1)];
        Self { shape, queues, clock: 0.0, turn: 0, waiting: 0, next_ticket: 0 }
    }

    /// How many wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Puts a request of a flow in the least used queue of the flow's hand; answers its ticket and how many now wait there.
    /// `None` if even that queue is full.
    pub fn push(&mut self, flow: u64, width: u32) -> Option<(u64, usize)> {
        let hand = hand::deal(flow, self.queues.len(), self.shape.hand);
        let place = hand.min_by_key(|place| self.queues[*place].load())?;
        let queue = &mut self.queues[place];
        if queue.waiting.len() >= self.shape.length {
            return None;
        }
        if queue.waiting.is_empty() {
            // Nobody saves up time while he wants nothing.
            queue.start = queue.start.max(self.clock);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        queue.waiting.push_back(Waiting { ticket, width });
        self.waiting += 1;
        Some((ticket, queue.waiting.len()))
    }

    /// The request that is to start, if `fits` says that there are seats for it. A wide one is not passed by narrow ones
    /// behind it, else it would wait for ever.
    pub fn next(&mut self, fits: impl FnOnce(u32) -> bool) -> Option<Next> {
        let count = self.queues.len();
        let places = (0..count).map(|step| (self.turn + step) % count);
        let place = places
            .filter(|place| !self.queues[*place].waiting.is_empty())
            .min_by(|a, b| self.queues[*a].start.total_cmp(&self.queues[*b].start))?;
        let queue = &mut self.queues[place];
        let head = *queue.waiting.front()?;
        if !fits(head.width) {
            return None;
        }
        queue.waiting.pop_front();
        self.clock = self.clock.max(queue.start);
        queue.start += work(head.width, ASSUMED);
        queue.busy += head.width;
        self.waiting -= 1;
        self.turn = (place + 1) % count;
        Some(Next { ticket: head.ticket, width: head.width, queue: place })
    }

    /// A request that [`Queues::next`] handed out has ended.
    pub fn done(&mut self, next: Next, took: Duration) {
        // Queues may have become fewer meanwhile.
        if let Some(queue) = self.queues.get_mut(next.queue) {
            queue.busy = queue.busy.saturating_sub(next.width);
            queue.start += work(next.width, took) - work(next.width, ASSUMED);
        }
    }

    /// A request does not want to wait any more; `false` if it is not waiting.
    pub fn cancel(&mut self, ticket: u64) -> bool {
        for queue in &mut self.queues {
            if let Some(at) = queue.waiting.iter().position(|w| w.ticket == ticket) {
                queue.waiting.remove(at);
                self.waiting -= 1;
                return true;
            }
        }
        false
    }

    /// Other queues from now on. Whoever waits keeps waiting, in the same order as before.
    pub fn reshape(&mut self, shape: Shape) {
        if self.shape == shape {
            return;
        }
        let mut rest = Self::new(shape);
        let count = rest.queues.len();
        for (place, old) in std::mem::take(&mut self.queues).into_iter().enumerate() {
            let queue = &mut rest.queues[place % count];
            queue.waiting.extend(old.waiting);
            queue.busy += old.busy;
            queue.start = queue.start.max(old.start);
        }
        *self = Self { clock: self.clock, waiting: self.waiting, next_ticket: self.next_ticket, ..rest };
    }
}

impl Queue {
    /// What is worked on or waits, in seats.
    fn load(&self) -> u32 {
        self.waiting.iter().map(|w| w.width).sum::<u32>() + self.busy
    }
}

fn work(width: u32, time: Duration) -> f64 {
    f64::from(width) * time.as_secs_f64()
}

#[cfg(test)]
mod tests;
