//! One priority level at work: seats, and a line for those who find none free.
//!
//! While nobody waits, entering and leaving are one atomic operation each. Who finds no seat takes the lock, joins the
//! queues, and from then on all who come queue too, so that nobody is overtaken. Used seats and waiting requests share
//! one word: whoever leaves sees those who came to wait before, and whoever comes to wait sees the seats that were left.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::queues::{Next, Queues, Shape};

/// What is done with a request that finds no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// It needs none.
    Exempt,
    /// It is refused.
    Reject,
    /// It waits.
    Queue(Shape),
}

/// A priority level.
#[derive(Debug)]
pub struct Level {
    /// Its name.
    pub name: Box<str>,
    /// Used seats in the upper half, waiting requests in the lower.
    gate: AtomicU64,
    /// Seats that may be used.
    limit: AtomicU32,
    /// Requests refused since the limit was last looked at: they too say that more seats are wanted.
    turned_away: AtomicU32,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    response: Response,
    queues: Queues,
    waiters: HashMap<u64, oneshot::Sender<Next>>,
}

const SEAT: u64 = 1 << 32;

fn seats(gate: u64) -> u32 {
    (gate >> 32) as u32
}

fn waiting(gate: u64) -> u32 {
    gate as u32
}

/// How a request was received.
#[derive(Debug)]
pub enum Reception {
    /// It may go on.
    Seated(Held),
    /// It waits; so many now wait in its queue.
    Waits(Place, usize),
    /// No seat, and it cannot wait: `queue-full` or `concurrency-limit`.
    Refused(&'static str),
}

impl Level {
    /// A level without seats yet.
    pub fn new(name: &str) -> Self {
        let shape = Shape { queues: 1, hand: 1, length: 0 };
        let line = Line { response: Response::Reject, queues: Queues::new(shape), waiters: HashMap::new() };
        Self {
            name: name.into(),
            gate: AtomicU64::new(0),
            limit: AtomicU32::new(0),
            turned_away: AtomicU32::new(0),
            line: Mutex::new(line),
        }
    }

    /// Other rules from now on; those who wait keep waiting.
    pub fn configure(&self, response: Response) {
        let mut line = self.lock();
        line.response = response;
        if let Response::Queue(shape) = response {
            line.queues.reshape(shape);
        }
        self.serve(&mut line);
    }

    /// Other seats from now on. What is under way goes on.
    pub fn set_limit(&self, limit: u32) {
        if self.limit.swap(limit, Ordering::Relaxed) != limit {
            let mut line = self.lock();
            self.serve(&mut line);
        }
    }

    /// The seats that may be used now.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// The seats that are used now.
    #[cfg(test)]
    pub fn used(&self) -> u32 {
        seats(self.gate.load(Ordering::Relaxed))
    }

    /// The requests that wait now.
    pub fn waiting(&self) -> u32 {
        waiting(self.gate.load(Ordering::Relaxed))
    }

    /// The seats that could be used now, had the level all; forgets who was turned away.
    pub fn demand(&self) -> u32 {
        let gate = self.gate.load(Ordering::Relaxed);
        let refused = self.turned_away.swap(0, Ordering::Relaxed);
        seats(gate).saturating_add(waiting(gate)).saturating_add(refused)
    }

    /// Receives a request that takes `width` seats; `flow` is asked for only if it must wait.
    pub fn receive(self: &Arc<Self>, width: u32, flow: impl FnOnce() -> u64) -> Reception {
        let width = width.min(self.limit()).max(1);
        if self.enter(width) {
            return Reception::Seated(self.held(width, None));
        }
        let mut line = self.lock();
        match line.response {
            Response::Exempt => {
                self.gate.fetch_add(SEAT * u64::from(width), Ordering::AcqRel);
                return Reception::Seated(self.held(width, None));
            }
            Response::Reject => {
                self.turned_away.fetch_add(1, Ordering::Relaxed);
                return Reception::Refused("concurrency-limit");
            }
            Response::Queue(_) => {}
        }
        let Some((ticket, behind)) = line.queues.push(flow(), width) else {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return Reception::Refused("queue-full");
        };
        let (sender, receiver) = oneshot::channel();
        line.waiters.insert(ticket, sender);
        self.gate.fetch_add(1, Ordering::AcqRel);
        self.serve(&mut line);
        Reception::Waits(Place { level: Arc::clone(self), ticket, receiver, served: false }, behind)
    }

    fn held(self: &Arc<Self>, width: u32, from: Option<Next>) -> Held {
        Held { level: Arc::clone(self), width, from, began: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes seats if there are and nobody waits.
    fn enter(&self, width: u32) -> bool {
        self.take(width, |gate| waiting(gate) == 0)
    }

    fn take(&self, width: u32, may: impl Fn(u64) -> bool) -> bool {
        let limit = self.limit();
        let taken = self.gate.fetch_update(Ordering::AcqRel, Ordering::Acquire, |gate| {
            let used = seats(gate);
            // One that is wider than all seats there are now goes alone.
            let fits = used.saturating_add(width) <= limit || used == 0 && limit > 0;
            (fits && may(gate)).then(|| gate + SEAT * u64::from(width))
        });
        taken.is_ok()
    }

    /// Gives seats to those whose turn it is.
    fn serve(&self, line: &mut Line) {
        while let Some(next) = line.queues.next(|width| self.take(width, |_| true)) {
            self.gate.fetch_sub(1, Ordering::AcqRel);
            let sender = line.waiters.remove(&next.ticket);
            if sender.is_none_or(|sender| sender.send(next).is_err()) {
                // It went away at this moment.
                self.gate.fetch_sub(SEAT * u64::from(next.width), Ordering::AcqRel);
                line.queues.done(next, std::time::Duration::ZERO);
            }
        }
    }

    fn leave(&self, width: u32, from: Option<Next>, began: Instant) {
        let before = self.gate.fetch_sub(SEAT * u64::from(width), Ordering::AcqRel);
        if from.is_none() && waiting(before) == 0 {
            return;
        }
        let mut line = self.lock();
        if let Some(next) = from {
            line.queues.done(next, began.elapsed());
        }
        self.serve(&mut line);
    }
}

/// Seats that are held until this is dropped.
#[derive(Debug)]
pub struct Held {
    level: Arc<Level>,
    width: u32,
    from: Option<Next>,
    began: Instant,
}

impl Held {
    /// Since when.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// How many.
    pub fn width(&self) -> u32 {
        self.width
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.level.leave(self.width, self.from, self.began);
    }
}

/// A place in a queue, given up when dropped.
#[derive(Debug)]
pub struct Place {
    level: Arc<Level>,
    ticket: u64,
    receiver: oneshot::Receiver<Next>,
    served: bool,
}

impl Place {
    /// Waits for its turn. Cancel safe: a turn that comes meanwhile is passed on.
    pub async fn turn(mut self) -> Held {
        // The sender is dropped only with the level, which this holds.
        match (&mut self.receiver).await {
            Ok(next) => {
                self.served = true;
                self.level.held(next.width, Some(next))
            }
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.served {
            return;
        }
        let mut line = self.level.lock();
        line.waiters.remove(&self.ticket);
        if line.queues.cancel(self.ticket) {
            self.level.gate.fetch_sub(1, Ordering::AcqRel);
            // It may have been a wide one that held up the rest.
            self.level.serve(&mut line);
        } else if let Ok(next) = self.receiver.try_recv() {
            drop(line);
            self.level.leave(next.width, Some(next), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const SHAPE: Shape = Shape { queues: 8, hand: 1, length: 4 };

    fn level(limit: u32, response: Response) -> Arc<Level> {
        let level = Level::new("x");
        level.configure(response);
        level.set_limit(limit);
        Arc::new(level)
    }

    fn seated(level: &Arc<Level>, width: u32) -> Held {
        match level.receive(width, || 0) {
            Reception::Seated(held) => held,
            other => panic!("{other:?}"),
        }
    }

    fn waits(level: &Arc<Level>, flow: u64) -> Place {
        match level.receive(1, || flow) {
            Reception::Waits(place, _) => place,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn seats_run_out_and_come_back() {
        let level = level(3, Response::Reject);
        let wide = seated(&level, 2);
        let narrow = seated(&level, 1);
        assert!(matches!(level.receive(1, || 0), Reception::Refused("concurrency-limit")));
        assert_eq!(level.demand(), 4, "the refused one wants a seat too");
        drop(wide);
        assert_eq!((level.used(), level.demand()), (1, 1));
        // Wider than the level: as wide as the level.
        drop(narrow);
        assert_eq!(seated(&level, 99).width(), 3);
        assert_eq!(level.used(), 0);
    }

    #[test]
    fn exempt_requests_are_counted_only() {
        let level = level(0, Response::Exempt);
        let held: Vec<_> = (0..50).map(|_| seated(&level, 1)).collect();
        assert_eq!(level.used(), 50);
        drop(held);
        assert_eq!(level.used(), 0);
    }

    #[tokio::test]
    async fn those_who_wait_are_served_in_turn_and_nobody_overtakes() {
        let level = level(1, Response::Queue(SHAPE));
        let first = seated(&level, 1);
        let mut second = Box::pin(waits(&level, 7).turn());
        let third = waits(&level, 7);
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!(level.waiting(), 2);
        drop(first);
        let second = second.await;
        assert_eq!((level.used(), level.waiting()), (1, 1));
        let fourth = waits(&level, 8);
        drop(third);
        assert_eq!(level.waiting(), 1);
        drop(second);
        assert_eq!((level.used(), level.waiting()), (1, 0), "its turn came before it asked");
        drop(fourth);
        assert_eq!(level.used(), 0, "an unused turn is given back");
    }

    #[test]
    fn full_queues_refuse_and_more_seats_serve() {
        let level = level(1, Response::Queue(SHAPE));
        let _first = seated(&level, 1);
        let places: Vec<_> = (0..4).map(|_| waits(&level, 5)).collect();
        assert!(matches!(level.receive(1, || 5), Reception::Refused("queue-full")));
        level.set_limit(3);
        assert_eq!((level.used(), level.waiting()), (3, 2));
        level.set_limit(9);
        assert_eq!((level.used(), level.waiting()), (5, 0));
        drop(places);
        assert_eq!(level.used(), 1);
    }

    /// Many threads come, wait, give up and leave; in the end nothing is used and nobody waits.
    #[test]
    fn nothing_is_lost_between_threads() {
        let level = level(4, Response::Queue(Shape { queues: 4, hand: 2, length: 50 }));
        let highest = AtomicU32::new(0);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let runtime = runtime.handle();
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (level, highest) = (&level, &highest);
                scope.spawn(move || {
                    for round in 0..2000_u64 {
                        let held = match level.receive(1 + (round % 3 == 0) as u32, || thread * 31 + round % 2) {
                            Reception::Seated(held) => held,
                            Reception::Waits(place, _) if (thread + round) % 5 == 0 => {
                                drop(place);
                                continue;
                            }
                            Reception::Waits(place, _) => tokio::runtime::Handle::block_on(runtime, place.turn()),
                            Reception::Refused(_) => continue,
                        };
                        highest.fetch_max(level.used(), Ordering::Relaxed);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!((level.used(), level.waiting()), (0, 0));
        assert!(highest.into_inner() <= 4);
    }
}
