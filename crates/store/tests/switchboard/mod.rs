//! A cluster in one process: each server has its own directory, and requests go through a switchboard that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use mizzen_store::{CommitError, Embedded, Identity, Options, PeerError, Peers, Store};

/// A wait that takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Board {
    stores: BTreeMap<u64, Weak<Embedded>>,
    cut: BTreeSet<u64>,
}

/// One server's line to the switchboard.
#[derive(Debug)]
struct Line {
    from: u64,
    board: Arc<Mutex<Board>>,
}

impl Line {
    fn reach(&self, to: u64) -> Option<Arc<Embedded>> {
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        if board.cut.contains(&self.from) || board.cut.contains(&to) {
            return None;
        }
        board.stores.get(&to)?.upgrade()
    }
}

impl Peers for Line {
    fn call(&self, address: &str, request: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let to = address.parse().expect("addresses are numbers here");
        let error = PeerError::Unreachable { address: address.to_owned(), reason: "cut".to_owned() };
        let (line, again) = (Self { from: self.from, board: Arc::clone(&self.board) }, error.clone());
        Box::pin(async move {
            let store = line.reach(to).ok_or(error)?;
            let answer = store.answer(request).expect("it has peers").await;
            // The answer may be lost as well.
            line.reach(to).map(|_| answer).ok_or(again)
        })
    }
}

/// Waits until a server has what was acknowledged anywhere.
pub async fn newest(store: &Embedded) -> Result<(), CommitError> {
    match store.newest() {
        Some(newest) => newest.await,
        None => Ok(()),
    }
}

/// Servers 1, 2, 3, …
pub struct Cluster {
    options: Options,
    dir: tempfile::TempDir,
    board: Arc<Mutex<Board>>,
    stores: BTreeMap<u64, Arc<Embedded>>,
}

impl Cluster {
    /// One server.
    pub async fn found(options: Options) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut cluster = Self { options, dir, board: Arc::default(), stores: BTreeMap::new() };
        cluster.start(1);
        cluster
    }

    /// Starts a server: anew, or where it stopped.
    pub fn start(&mut self, id: u64) {
        let peers = Arc::new(Line { from: id, board: Arc::clone(&self.board) });
        let identity = Identity { id, address: id.to_string(), founds: id == 1, peers };
        let dir = self.dir.path().join(id.to_string());
        let store = Arc::new(Embedded::open_as(dir, self.options, None, identity).expect("opens"));
        self.board().stores.insert(id, Arc::downgrade(&store));
        self.stores.insert(id, store);
    }

    /// Adds servers until there are so many, all with a vote.
    pub async fn grow(&mut self, to: u64) {
        for id in self.stores.len() as u64 + 1..=to {
            self.start(id);
            let leader = self.leader().await;
            leader.add(id, &id.to_string()).await.expect("added");
            leader.promote(id).await.expect("promoted");
        }
    }

    /// Ends a server, as if its machine had stopped once what it had promised was written.
    pub async fn stop(&mut self, id: u64) {
        self.board().stores.remove(&id);
        if let Some(store) = self.stores.remove(&id) {
            store.shutdown().await;
        }
    }

    /// Takes a server off the network.
    pub fn cut(&self, id: u64) {
        self.board().cut.insert(id);
    }

    /// Brings it back.
    pub fn mend(&self, id: u64) {
        self.board().cut.remove(&id);
    }

    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The servers that run.
    pub fn running(&self) -> Vec<u64> {
        self.stores.keys().copied().collect()
    }

    /// A server's store.
    pub fn store(&self, id: u64) -> Arc<Embedded> {
        Arc::clone(&self.stores[&id])
    }

    /// Those that do not lead.
    pub fn followers(&self) -> Vec<u64> {
        self.running().into_iter().filter(|id| self.stores[id].leader() != Some(*id)).collect()
    }

    /// The store that leads, once one does.
    pub async fn leader(&self) -> Arc<Embedded> {
        let led = tokio::time::timeout(PATIENCE, async {
            loop {
                let leads = |store: &&Arc<Embedded>| store.leader() == Some(store.id());
                if let Some(leader) = self.stores.values().find(leads) {
                    // It may have been replaced without knowing.
                    if newest(leader).await.is_ok() && leader.leader() == Some(leader.id()) {
                        return Arc::clone(leader);
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        led.await.expect("a leader")
    }
}
