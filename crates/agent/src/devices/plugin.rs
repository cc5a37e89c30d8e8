//! The device plugin protocol (`v1beta1`): what plugins are told and what they answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rpc::RpcError;
use crate::rpc::client::{Answers, Connection};
use crate::rpc::wire::{self, Message, WireError};

/// The only version there is.
pub const VERSION: &str = "v1beta1";
/// How long a plugin may think.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a plugin registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Version of the protocol.
    pub version: String,
    /// Its socket, in the directory of plugins.
    pub endpoint: String,
    /// What it offers.
    pub resource: String,
    /// How it wants to be asked.
    pub options: Options,
}

/// How a plugin wants to be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Before each start of a container.
    pub pre_start: bool,
    /// Which devices to choose.
    pub preferred: bool,
}

/// What a container with devices has besides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allotment {
    /// Environment.
    pub envs: BTreeMap<String, String>,
    /// (in the container, on the host, read-only).
    pub mounts: Vec<(String, String, bool)>,
    /// (in the container, on the host, permissions).
    pub devices: Vec<(String, String, String)>,
    /// Names of devices described by CDI files.
    pub cdi: Vec<String>,
}

impl Allotment {
    /// Adds another.
    pub fn extend(&mut self, other: Allotment) {
        self.envs.extend(other.envs);
        self.mounts.extend(other.mounts);
        self.devices.extend(other.devices);
        self.cdi.extend(other.cdi);
    }
}

/// Reads a registration.
///
/// # Errors
/// It is none.
pub fn registration(bytes: &[u8]) -> Result<Registration, WireError> {
    let (mut version, mut endpoint, mut resource, mut options) =
        (String::new(), String::new(), String::new(), Options::default());
    for (field, value) in wire::fields(bytes)? {
        match field {
            1 => version = value.text(),
            2 => endpoint = value.text(),
            3 => resource = value.text(),
            4 => options = self::options(value.bytes())?,
            _ => {}
        }
    }
    Ok(Registration { version, endpoint, resource, options })
}

fn options(bytes: &[u8]) -> Result<Options, WireError> {
    let mut options = Options::default();
    for (field, value) in wire::fields(bytes)? {
        match field {
            1 => options.pre_start = value.flag(),
            2 => options.preferred = value.flag(),
            _ => {}
        }
    }
    Ok(options)
}

/// The devices of a plugin, and whether each is healthy.
///
/// # Errors
/// It is no such list.
pub fn devices(bytes: &[u8]) -> Result<BTreeMap<String, bool>, WireError> {
    let mut devices = BTreeMap::new();
    for (_, device) in wire::fields(bytes)?.into_iter().filter(|(field, _)| *field == 1) {
        let (mut id, mut healthy) = (String::new(), false);
        for (field, value) in wire::fields(device.bytes())? {
            match field {
                1 => id = value.text(),
                2 => healthy = value.text() == "Healthy",
                _ => {}
            }
        }
        devices.insert(id, healthy);
    }
    Ok(devices)
}

/// Asks for the devices, now and whenever they change.
///
/// # Errors
/// The plugin does not answer.
pub async fn watch(connection: &Connection) -> Result<Answers, RpcError> {
    connection.stream("v1beta1.DevicePlugin/ListAndWatch", &Message::default()).await
}

async fn ask(socket: &Path, method: &str, request: &Message) -> Result<bytes::Bytes, RpcError> {
    let connection = Connection::open(socket).await?;
    connection.call(&format!("v1beta1.DevicePlugin/{method}"), request, PATIENCE).await
}

/// Which `count` of the available devices the plugin would choose, `must` among them.
///
/// # Errors
/// The plugin does not answer.
pub async fn preferred(
    socket: &Path,
    available: &[String],
    must: &[String],
    count: usize,
) -> Result<Vec<String>, RpcError> {
    let container = Message::default().texts(1, available).texts(2, must).number(3, count as u64);
    let answer = ask(socket, "GetPreferredAllocation", &Message::default().message(1, &container)).await?;
    let mut chosen = Vec::new();
    for (_, container) in wire::fields(&answer)?.into_iter().filter(|(field, _)| *field == 1) {
        chosen.extend(wire::fields(container.bytes())?.into_iter().filter(|(f, _)| *f == 1).map(|(_, v)| v.text()));
    }
    Ok(chosen)
}

/// Takes devices into use.
///
/// # Errors
/// The plugin does not answer, or refuses.
pub async fn allocate(socket: &Path, ids: &[String]) -> Result<Allotment, RpcError> {
    let container = Message::default().texts(1, ids);
    let answer = ask(socket, "Allocate", &Message::default().message(1, &container)).await?;
    Ok(allotment(&answer)?)
}

/// Tells the plugin that a container with these devices is about to start.
///
/// # Errors
/// The plugin does not answer, or refuses.
pub async fn pre_start(socket: &Path, ids: &[String]) -> Result<(), RpcError> {
    ask(socket, "PreStartContainer", &Message::default().texts(1, ids)).await.map(drop)
}

fn allotment(answer: &[u8]) -> Result<Allotment, WireError> {
    let mut all = Allotment::default();
    for (_, container) in wire::fields(answer)?.into_iter().filter(|(field, _)| *field == 1) {
        for (field, value) in wire::fields(container.bytes())? {
            let mut parts = [String::new(), String::new(), String::new()];
            let mut flag = false;
            for (number, part) in wire::fields(value.bytes())? {
                flag |= number == 3 && part.flag();
                if let Some(place) = usize::try_from(number).ok().and_then(|n| parts.get_mut(n.wrapping_sub(1))) {
                    *place = part.text();
                }
            }
            let [first, second, third] = parts;
            match field {
                1 => drop(all.envs.insert(first, second)),
                2 => all.mounts.push((first, second, flag)),
                3 => all.devices.push((first, second, third)),
                5 => all.cdi.push(first),
                _ => {}
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let device = |id: &str, health: &str| Message::default().text(1, id).text(2, health);
        let list = Message::default().message(1, &device("a", "Healthy")).message(1, &device("b", "Unhealthy"));
        assert_eq!(devices(&list.0).unwrap(), BTreeMap::from([("a".into(), true), ("b".into(), false)]));
        let pair = |a: &str, b: &str| Message::default().text(1, a).text(2, b);
        let container = Message::default()
            .message(1, &pair("K", "v"))
            .message(2, &pair("/in", "/out").number(3, 1))
            .message(3, &pair("/dev/x", "/dev/null").text(3, "rw"))
            .message(5, &Message::default().text(1, "vendor.com/class=a"));
        let got = allotment(&Message::default().message(1, &container).0).unwrap();
        let want = Allotment {
            envs: [("K".into(), "v".into())].into(),
            mounts: vec![("/in".into(), "/out".into(), true)],
            devices: vec![("/dev/x".into(), "/dev/null".into(), "rw".into())],
            cdi: vec!["vendor.com/class=a".into()],
        };
        assert_eq!(got, want);
    }
}
