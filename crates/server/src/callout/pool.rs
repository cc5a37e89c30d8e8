//! The connections to one origin: few calls at a time, idle connections kept for the next.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::connect;
use super::tls::Connector;
use super::{Body, Callout, Cause};

/// Calls under way to one origin. Each holds a request of the API server, of which there are a few hundred to a thousand:
/// a target that hangs may not take them all.
const CALLS_MAX: usize = 256;
/// Calls that wait for one of these to end. Further ones fail at once.
const WAITING_MAX: usize = 256;
/// Idle connections that are kept for one address; as many as calls come in parallel in a steady load.
const IDLE_MAX: usize = 64;
/// How long an idle connection is kept: less than servers commonly do.
const IDLE: Duration = Duration::from_secs(50);

/// What is kept of an origin.
pub(super) struct Peer {
    connector: Connector,
    calls: Semaphore,
    waiting: AtomicUsize,
    /// By address, for a Service's endpoints come and go.
    idle: Mutex<HashMap<(String, u16), Vec<Idle>>>,
}

struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

/// A connection that carries one call.
pub(super) struct Connection {
    pub sender: SendRequest<Body>,
    /// It carried calls before.
    pub reused: bool,
}

/// Counts a waiting call until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Peer {
    /// An origin without connections yet.
    pub fn new(connector: Connector) -> Self {
        Self { connector, calls: Semaphore::new(CALLS_MAX), waiting: AtomicUsize::new(0), idle: Mutex::default() }
    }

    /// A place among the calls under way.
    pub async fn permit(&self) -> Result<SemaphorePermit<'_>, Cause> {
        if let Ok(permit) = self.calls.try_acquire() {
            return Ok(permit);
        }
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _counted = Waiting(&self.waiting);
        if waiting >= WAITING_MAX {
            return Err(Cause::Crowded);
        }
        // The semaphore is never closed.
        self.calls.acquire().await.map_err(|_| Cause::Crowded)
    }

    /// A connection to an address: a kept one, unless it must be fresh.
    pub async fn connection(
        &self,
        callout: &Callout,
        address: &(String, u16),
        fresh: bool,
    ) -> Result<Connection, Cause> {
        while !fresh && let Some(mut sender) = self.kept(address) {
            if sender.ready().await.is_ok() {
                return Ok(Connection { sender, reused: true });
            }
        }
        let sender = connect::open(&self.connector, address, &callout.tasks, &callout.closing).await?;
        Ok(Connection { sender, reused: false })
    }

    fn kept(&self, address: &(String, u16)) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.get_mut(address)?;
        let found = list.pop().filter(|kept| kept.since.elapsed() < IDLE);
        if found.is_none() {
            // The last one in is the youngest: the others are too old as well.
            idle.remove(address);
        }
        found.map(|kept| kept.sender)
    }

    /// Keeps a connection whose answer was read to its end.
    pub fn keep(&self, address: &(String, u16), connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, list| {
            list.retain(|kept| !kept.sender.is_closed() && kept.since.elapsed() < IDLE);
            !list.is_empty()
        });
        let list = idle.entry(address.clone()).or_default();
        if list.len() < IDLE_MAX {
            list.push(Idle { sender: connection.sender, since: Instant::now() });
        }
    }
}
