//! The service proxy: [`ServiceTable`] to nftables rules.
//!
//! `plan` decides what the kernel must hold, `diff` how to get there; both are functions of values. This shell commits
//! the steps in one transaction: packets meet the old rules or the new ones. Connections that are established are not
//! looked at again, save UDP ones whose endpoint is gone, which the kernel is told to forget.

mod chains;
mod diff;
mod layout;
mod plan;
mod stale;

use std::sync::{Arc, Mutex, PoisonError};

use crate::cidr::Cidr;
use crate::netlink::nft::{self, Family, Table};
use crate::netlink::{self, Socket};
use crate::pod::names;
use crate::service::ServiceTable;

use diff::Changes;
use plan::{Before, Plan};

/// How the proxy of a node is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Identifies the instance among several on one machine; part of the names of tables.
    pub instance: String,
    /// The addresses of this node's pods.
    pub pod_cidr: Cidr,
    /// The addresses of all pods: who has none of these is outside of the cluster.
    pub cluster_cidrs: Vec<Cidr>,
}

/// What can go wrong with the proxy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// The work was given up because the process is ending.
    #[error("the service proxy is shutting down")]
    Stopping,
}

/// What a call changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Steps of the transactions.
    pub steps: usize,
    /// UDP connections that the kernel was told to forget.
    pub forgotten: usize,
    /// The rules were built anew, not changed.
    pub rebuilt: bool,
}

/// Programs the kernel. Clones share what is programmed.
#[derive(Debug, Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    /// Held while programming, so that changes follow each other. Nothing is awaited under it.
    programmed: Mutex<Programmed>,
}

/// What the kernel holds, as far as we know.
#[derive(Debug, Default)]
struct Programmed {
    table: Arc<ServiceTable>,
    v4: Option<Plan>,
    v6: Option<Plan>,
    /// The kernel has no IPv6 translation: Services of that family are left out, and this is told once.
    v6_missing: bool,
}

impl Programmed {
    fn plan(&self, family: Family) -> Option<&Plan> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }
}

impl Proxy {
    /// A proxy that has programmed nothing yet. The first table is built anew in the place of what an earlier process
    /// left.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { shared: Arc::new(Shared { config, programmed: Mutex::default() }) }
    }

    /// Makes the kernel serve this table. Equal tables cost nothing; otherwise only differences are told. When the
    /// kernel's rules are not what they should be, they are built anew.
    ///
    /// # Errors
    /// The kernel refused; it then still serves the table before.
    pub async fn apply(&self, table: Arc<ServiceTable>) -> Result<Applied, Error> {
        self.blocking(move |shared, programmed| match apply(&shared.config, programmed, Arc::clone(&table)) {
            Err(error) if programmed.v4.is_some() => {
                tracing::warn!(%error, "service rules could not be changed and are built anew");
                *programmed = Programmed::default();
                apply(&shared.config, programmed, table)
            }
            other => other,
        })
        .await
    }

    /// Builds the rules of the table applied last anew, for when others may have removed them.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn rebuild(&self) -> Result<Applied, Error> {
        self.blocking(|shared, programmed| {
            let table = std::mem::take(programmed).table;
            apply(&shared.config, programmed, table)
        })
        .await
    }

    /// Removes all rules of an instance, whether or not they are there.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn clean_up(config: Config) -> Result<(), Error> {
        Self::new(config)
            .blocking(|shared, _| {
                let mut socket = Socket::open(netlink::Family::Netfilter)?;
                for family in [Family::V4, Family::V6] {
                    nft::delete_table(&mut socket, &table_of(&shared.config, family))?;
                }
                Ok(())
            })
            .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &mut Programmed) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || {
            // What is programmed is replaced as a whole, so a panic elsewhere left it in order.
            let mut programmed = shared.programmed.lock().unwrap_or_else(PoisonError::into_inner);
            work(&shared, &mut programmed)
        });
        done.await.unwrap_or(Err(Error::Stopping))
    }
}

fn table_of(config: &Config, family: Family) -> Table {
    Table { family, name: names::table(&config.instance, "services") }
}

fn apply(config: &Config, programmed: &mut Programmed, table: Arc<ServiceTable>) -> Result<Applied, Error> {
    if programmed.v4.is_some() && (Arc::ptr_eq(&programmed.table, &table) || programmed.table == table) {
        return Ok(Applied::default());
    }
    let mut v6_is_missing = programmed.v6_missing;
    let mut steps = Vec::new();
    let mut plans = [None, None];
    for (family, plan) in [Family::V4, Family::V6].into_iter().zip(&mut plans) {
        let old = programmed.plan(family);
        let before = old.map(|plan| Before { table: &programmed.table, plan });
        let new = plan::plan(&table, family, config, before);
        if family == Family::V6 && old.is_none() && (new == Plan::default() || v6_missing(config, &mut v6_is_missing)?)
        {
            continue;
        }
        let mut changes = diff::diff(family, config, old.unwrap_or(&Plan::default()), &new);
        if old.is_none() {
            changes.ops.splice(0..0, chains::skeleton(family, config));
        }
        steps.push((table_of(config, family), changes));
        *plan = Some(new);
    }
    let mut socket = Socket::open(netlink::Family::Netfilter)?;
    let transaction: Vec<_> = steps.iter().map(|(table, changes)| (table, &changes.ops[..])).collect();
    nft::commit(&mut socket, &transaction)?;
    let rebuilt = programmed.v4.is_none();
    let [v4, v6] = plans;
    *programmed = Programmed { table, v4, v6, v6_missing: v6_is_missing };
    let mut applied =
        Applied { steps: steps.iter().map(|(_, changes)| changes.ops.len()).sum(), rebuilt, forgotten: 0 };
    for (table, changes) in &steps {
        if let Some(plan) = programmed.plan(table.family) {
            applied.forgotten += forget(&mut socket, table, changes, plan);
        }
    }
    Ok(applied)
}

/// Whether IPv6 Services must be left out. A node may well have no IPv6, and its IPv4 Services shall not suffer: so this
/// is tried by itself, when there is first something to put into that table.
fn v6_missing(config: &Config, known: &mut bool) -> Result<bool, Error> {
    if *known {
        return Ok(true);
    }
    let mut socket = Socket::open(netlink::Family::Netfilter)?;
    let table = table_of(config, Family::V6);
    if let Err(error) = nft::commit(&mut socket, &[(&table, &chains::skeleton(Family::V6, config))]) {
        tracing::warn!(%error, "IPv6 Services are not served: the kernel cannot translate IPv6 addresses");
        *known = true;
    }
    Ok(*known)
}

/// Clears what the kernel remembers of endpoints that are gone. The rules are right already, so a failure is only told.
fn forget(socket: &mut Socket, table: &Table, changes: &Changes, plan: &Plan) -> usize {
    let mut result = stale::forget_flows(socket, table.family, changes, plan);
    if let Err(error) = stale::forget_clients(socket, table, changes, plan) {
        result = Err(error);
    }
    result.unwrap_or_else(|error| {
        tracing::warn!(%error, "connections to endpoints that are gone may linger");
        0
    })
}
