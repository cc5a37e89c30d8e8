//! Names and hardware addresses derived from what must not collide: the instance and the pod.

use std::net::Ipv4Addr;

/// FNV-1a: short, stable across versions, and nothing here needs more.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What the names of all host ends of an instance begin with.
#[must_use]
pub fn link_prefix(instance: &str) -> String {
    format!("mz{:04x}", hash(instance) >> 48)
}

/// The name of a pod's interface on the host, of 15 letters, which is the most that Linux allows.
#[must_use]
pub fn link(instance: &str, uid: &str) -> String {
    format!("{}{:09x}", link_prefix(instance), hash(uid) >> 28)
}

/// A locally administered hardware address that follows from the IP address: when an address is used again, what
/// neighbours remember of it stays right.
#[must_use]
pub fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// The name of a table of an instance. It takes part in a log line and in `nft list tables`, hence the words.
#[must_use]
pub fn table(instance: &str, part: &str) -> String {
    format!("mizzen-{instance}-{part}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let one = link("default", "0b4ff1b5-0c1c-4f3a-8f8e-5f6d3a1b2c3d");
        assert_eq!(one.len(), 15);
        assert!(one.starts_with(&link_prefix("default")));
        assert_ne!(one, link("default", "0b4ff1b5-0c1c-4f3a-8f8e-5f6d3a1b2c3e"));
        assert_ne!(one, link("other", "0b4ff1b5-0c1c-4f3a-8f8e-5f6d3a1b2c3d"));
        assert_eq!(link("default", "x"), link("default", "x"));
    }
}
