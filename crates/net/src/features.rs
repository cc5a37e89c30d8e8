//! What the kernel must be able to do, tried out before the node starts.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::thread;

use rustix::thread::UnshareFlags;

use crate::netlink::message::Batch;
use crate::netlink::nft::{self, ChainKind, Expr, Family as TableFamily, Hook, HookPoint, Op, Set, SetData, Table};
use crate::netlink::{Family, Socket, route};

/// A feature's name, and why it is missing.
pub type Feature = (&'static str, Result<(), String>);

/// Tries everything that the pod network and the service proxy need, in a network namespace that vanishes afterwards.
/// When that cannot be made, the others are not tried.
#[must_use]
pub fn required_features() -> Vec<Feature> {
    // A thread of its own enters the new namespace and ends in it.
    let tried = thread::Builder::new().name("network-features".into()).spawn(probe).map(thread::JoinHandle::join);
    match tried {
        Ok(Ok(features)) => features,
        Ok(Err(_)) => vec![("network features", Err("the probe panicked".into()))],
        Err(error) => vec![("network features", Err(format!("cannot start a thread: {error}")))],
    }
}

fn probe() -> Vec<Feature> {
    // SAFETY: only this thread, which ends right after, changes its network namespace; no memory is shared less.
    if let Err(errno) = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) } {
        return vec![("network namespaces", Err(errno.to_string()))];
    }
    vec![
        ("network namespaces", Ok(())),
        ("bridge devices (CONFIG_BRIDGE)", reason(bridge())),
        ("veth devices (CONFIG_VETH)", reason(veth())),
        ("nftables (CONFIG_NF_TABLES)", reason(tables())),
        (
            "nftables maps and random numbers (CONFIG_NFT_NUMGEN)",
            reason(rules(&[Expr::Random { modulus: 2, offset: 0, to: 0 }])),
        ),
        ("nftables address translation (CONFIG_NFT_NAT)", reason(rules(&translation()))),
        ("nftables masquerading (CONFIG_NFT_MASQ)", reason(masquerade())),
        ("nftables reject (CONFIG_NFT_REJECT)", reason(rules(&[Expr::RejectPort]))),
        ("nftables address kinds (CONFIG_NFT_FIB_IPV4)", reason(rules(&[Expr::AddressKind { source: false, to: 0 }]))),
        ("connection tracking (CONFIG_NF_CT_NETLINK)", reason(connections())),
    ]
}

/// The error with its causes, in one line.
fn reason(result: Result<(), crate::netlink::Error>) -> Result<(), String> {
    result.map_err(|error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

type Probed = Result<(), crate::netlink::Error>;

fn bridge() -> Probed {
    let mut batch = Batch::new();
    route::add_bridge(&mut batch, "probe0", [2, 0, 0, 0, 0, 1], 1500);
    Socket::open(Family::Route)?.send(&batch)
}

fn veth() -> Probed {
    let mut socket = Socket::open(Family::Route)?;
    let answer = || crate::netlink::Error::Answer { operation: "try a veth pair".into() };
    let bridge = route::link(&mut socket, "probe0")?.ok_or_else(answer)?.index;
    let netns = File::open("/proc/thread-self/ns/net")
        .map_err(|source| crate::netlink::Error::Socket { operation: "open the network namespace", source })?;
    let mut batch = Batch::new();
    let veth = route::Veth {
        name: "probe1",
        master: bridge,
        mtu: 1500,
        peer_name: "probe2",
        peer_mac: [2, 0, 0, 0, 0, 2],
        peer_netns: netns.as_fd(),
    };
    route::add_veth(&mut batch, &veth);
    socket.send(&batch)
}

fn table() -> Table {
    Table { family: TableFamily::V4, name: "probe".into() }
}

fn tables() -> Probed {
    let map = Set { name: "map".into(), key_len: 4, data: SetData::Verdict, dynamic: false };
    commit(&[Op::AddTable, Op::AddSet(map)])
}

/// A rule in a chain that translates destinations.
fn rules(expressions: &[Expr]) -> Probed {
    rule_at(HookPoint::Prerouting, expressions)
}

fn masquerade() -> Probed {
    rule_at(HookPoint::Postrouting, &[Expr::Masquerade])
}

fn rule_at(point: HookPoint, expressions: &[Expr]) -> Probed {
    let hook = Hook { kind: ChainKind::Nat, point, priority: -100 };
    commit(&[
        Op::AddTable,
        Op::AddChain { name: "probe".into(), hook: Some(hook) },
        Op::AddRule { chain: "probe".into(), expressions: expressions.to_vec() },
        // The next probe begins with an empty table.
        Op::DeleteTable,
    ])
}

fn translation() -> [Expr; 3] {
    [
        Expr::Load { value: vec![127, 0, 0, 1], to: 0 },
        Expr::Load { value: vec![0, 80], to: 1 },
        Expr::DestinationNat { address: 0, port: 1 },
    ]
}

fn commit(ops: &[Op]) -> Probed {
    nft::commit(&mut Socket::open(Family::Netfilter)?, &[(&table(), ops)])
}

fn connections() -> Probed {
    let mut socket = Socket::open(Family::Netfilter)?;
    crate::netlink::conntrack::flows(&mut socket, TableFamily::V4, &|_| true).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_runs_the_other_tests_has_all_features() {
        for (name, result) in required_features() {
            assert_eq!(result, Ok(()), "{name}");
        }
    }

    #[test]
    fn a_missing_feature_is_told_in_one_line() {
        let refused = crate::netlink::Error::Refused {
            operation: "create the bridge probe0".into(),
            detail: None,
            source: std::io::Error::from_raw_os_error(libc::EOPNOTSUPP),
        };
        assert_eq!(
            reason(Err(refused)),
            Err("netlink: cannot create the bridge probe0: Operation not supported (os error 95)".into())
        );
    }
}
