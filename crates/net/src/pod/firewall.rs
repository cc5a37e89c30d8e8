//! Other programs' firewalls that drop what passes through the machine.
//!
//! Docker, for one, sets the policy of `ip filter FORWARD` to drop, which stops pods too: acceptance in a table of ours
//! does not help, since a packet must pass all tables. So we put two rules of ours in front of that chain, as the
//! programs that use it do, recognised by their comment. What `iptables-legacy` programmed is not visible here.

use super::{Config, names};
use crate::netlink::nft::{self, Expr, Family, HookPoint, Meta, Op, Table, Verdict};
use crate::netlink::{Error, Socket};

/// Where iptables keeps its rules in nftables.
const TABLE: &str = "filter";
const CHAIN: &str = "FORWARD";

/// Lets pods' traffic through.
pub fn permit(socket: &mut Socket, config: &Config) -> Result<(), Error> {
    for chain in nft::base_chains(socket, Family::V4)? {
        if chain.point != HookPoint::Forward as u32 || !chain.drops {
            continue;
        }
        if chain.table != TABLE || chain.name != CHAIN {
            let (table, chain) = (chain.table, chain.name);
            tracing::warn!(table, chain, "a firewall drops forwarded packets: it must accept those of pods");
            continue;
        }
        let mut ops = deletions(socket, config)?;
        let bridge = nft::interface_name(&config.bridge);
        ops.extend([Meta::InputName, Meta::OutputName].map(|key| Op::InsertRule {
            chain: CHAIN.into(),
            expressions: vec![
                Expr::Meta { key, to: 0 },
                Expr::Compare { from: 0, equal: true, value: bridge.clone() },
                Expr::Verdict(Verdict::Accept),
            ],
            comment: comment(config),
        }));
        nft::commit(socket, &[(&table(), &ops)])?;
    }
    Ok(())
}

/// Removes our rules, if there are any.
pub fn withdraw(socket: &mut Socket, config: &Config) -> Result<(), Error> {
    match deletions(socket, config).and_then(|ops| nft::commit(socket, &[(&table(), &ops)])) {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

fn deletions(socket: &mut Socket, config: &Config) -> Result<Vec<Op>, Error> {
    let rules = nft::commented_rules(socket, &table(), CHAIN, &comment(config))?;
    Ok(rules.into_iter().map(|handle| Op::DeleteRule { chain: CHAIN.into(), handle }).collect())
}

fn table() -> Table {
    Table { family: Family::V4, name: TABLE.into() }
}

fn comment(config: &Config) -> String {
    names::table(&config.instance, "pods")
}
