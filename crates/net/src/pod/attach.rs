//! One pod's side: its interface, address and routes.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Error, INTERFACE, names};
use crate::netlink::message::Batch;
use crate::netlink::route::{self, Route, Veth};
use crate::netlink::{Family, Socket};

/// The loopback device is the first of every network namespace.
const LOOPBACK: u32 = 1;
/// How long a new interface may take to come into use before the pod is started anyway.
const READY_MAX: Duration = Duration::from_secs(1);
const READY_POLL: Duration = Duration::from_micros(200);

/// What a pod's interface is like.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Its network namespace.
    pub netns: &'a Path,
    /// Name of the end on the host.
    pub link: &'a str,
    /// The bridge.
    pub bridge: u32,
    /// Largest packet.
    pub mtu: u32,
    /// Its address.
    pub address: Ipv4Addr,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
}

/// Makes the network namespace as wished; one that is already so stays as it is.
pub fn attach(wish: &Wish<'_>) -> Result<(), Error> {
    let netns = File::open(wish.netns).map_err(|source| Error::Netns { path: wish.netns.to_owned(), source })?;
    let mut inside = socket_in(&netns, wish.netns)?;
    if route::link(&mut inside, INTERFACE)?.is_none() {
        connect(wish, &netns)?;
    }
    let interface =
        route::link(&mut inside, INTERFACE)?.ok_or_else(|| Error::Interface { path: wish.netns.to_owned() })?.index;
    let mut batch = Batch::new();
    route::set_up(&mut batch, LOOPBACK);
    // The address stands alone: everything else, the neighbours too, is reached through the gateway. Packets
    // between pods so pass the node's hooks in both directions, which Services and policies need.
    route::add_address(&mut batch, interface, wish.address.into(), 32);
    route::set_up(&mut batch, interface);
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let gateway = IpAddr::V4(wish.gateway);
    route::add_route(&mut batch, &Route { destination: gateway, prefix: 32, gateway: None, index: interface });
    route::add_route(&mut batch, &Route { destination: any, prefix: 0, gateway: Some(gateway), index: interface });
    inside.send(&batch)?;
    wait_until_ready(&mut inside, wish)
}

/// The kernel takes note of a link that came up a moment later, on a thread of its own. What a pod sends before is lost,
/// and is sent again only after a second; so we wait for it, as a rule for less than a millisecond.
fn wait_until_ready(inside: &mut Socket, wish: &Wish<'_>) -> Result<(), Error> {
    let mut outside = Socket::open(Family::Route)?;
    let deadline = Instant::now() + READY_MAX;
    loop {
        let ends = [route::link(inside, INTERFACE)?, route::link(&mut outside, wish.link)?];
        if ends.iter().all(|end| end.as_ref().is_some_and(|link| link.ready)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            tracing::warn!(link = wish.link, "a pod's interface is set up, but not yet in use");
            return Ok(());
        }
        thread::sleep(READY_POLL);
    }
}

fn connect(wish: &Wish<'_>, netns: &File) -> Result<(), Error> {
    let mut batch = Batch::new();
    let veth = Veth {
        name: wish.link,
        master: wish.bridge,
        mtu: wish.mtu,
        peer_name: INTERFACE,
        peer_mac: names::mac(wish.address),
        peer_netns: netns.as_fd(),
    };
    route::add_veth(&mut batch, &veth);
    route::set_hairpin(&mut batch, wish.link);
    let mut socket = Socket::open(Family::Route)?;
    match socket.send(&batch) {
        Err(error) if error.is_exists() => {
            // The end of an earlier network namespace of this pod, which the kernel has not cleared away yet.
            let mut deletion = Batch::new();
            if let Some(old) = route::link(&mut socket, wish.link)? {
                route::delete_link(&mut deletion, old.index);
            }
            match socket.send(&deletion) {
                Err(error) if !error.is_missing() => Err(error.into()),
                _ => Ok(socket.send(&batch)?),
            }
        }
        other => Ok(other?),
    }
}

/// A socket that speaks to another network namespace. A thread of its own goes there to open it, so no other thread
/// is ever in the wrong one.
fn socket_in(netns: &File, path: &Path) -> Result<Socket, Error> {
    thread::scope(|scope| {
        let opened = scope.spawn(|| {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| Error::Netns { path: path.to_owned(), source: errno.into() })?;
            Ok(Socket::open(Family::Route)?)
        });
        opened.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
