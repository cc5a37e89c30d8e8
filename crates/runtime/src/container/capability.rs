//! Capabilities: which a container gets, and giving up the rest.

use std::io;

use crate::spec::Security;
use crate::sys::{check, prctl};

/// Names in the kernel's order (`linux/capability.h`), without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containers get unless told otherwise (the set of Docker and containerd).
const USUAL: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// `CAP_SYS_ADMIN`, needed to install a seccomp filter without `no_new_privs`.
pub(super) const SYS_ADMIN: CapabilitySet = CapabilitySet(1 << 21);

/// A set of capabilities as the kernel's bit mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CapabilitySet(u64);

impl CapabilitySet {
    /// Whether the capability of this name (without `CAP_`) is in the set.
    pub(crate) fn has(self, name: &str) -> bool {
        number(name).is_some_and(|n| self.0 & (1 << n) != 0)
    }

    fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        CapabilitySet(names.into_iter().filter_map(number).fold(0, |set, n| set | 1 << n))
    }

    const ALL: CapabilitySet = CapabilitySet((1 << NAMES.len()) - 1);

    fn union(self, other: CapabilitySet) -> Self {
        CapabilitySet(self.0 | other.0)
    }
}

fn number(name: &str) -> Option<usize> {
    let upper = name.to_ascii_uppercase();
    let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|n| *n == plain)
}

/// The capabilities that `security` asks for. Names the kernel has no capability for are an error.
pub(crate) fn wanted(security: &Security) -> Result<CapabilitySet, String> {
    if security.privileged {
        return Ok(CapabilitySet::ALL);
    }
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let unknown = |name: &&String| !is_all(name) && number(name).is_none();
    if let Some(name) = security.capabilities_add.iter().chain(&security.capabilities_drop).find(unknown) {
        return Err(format!("unknown capability {name:?}"));
    }
    let named = |list: &[String]| CapabilitySet::of(list.iter().map(String::as_str)).0;
    let (add, drop) = (&security.capabilities_add, &security.capabilities_drop);
    // ALL first, then the single names, as containerd applies them: drop ALL, add X leaves X.
    let mut set = CapabilitySet::of(USUAL).0;
    if add.iter().any(is_all) {
        set = CapabilitySet::ALL.0;
    }
    if drop.iter().any(is_all) {
        set = 0;
    }
    Ok(CapabilitySet((set | named(add)) & !named(drop)))
}

/// Takes from the bounding set what is not in `keep`, and empties the ambient set.
///
/// Answers the part of `keep` that this process has itself and can thus pass on.
pub(super) fn bound(keep: CapabilitySet) -> io::Result<CapabilitySet> {
    let mut have = 0;
    for n in 0..64 {
        match prctl(libc::PR_CAPBSET_READ, n) {
            Ok(1) if keep.0 & (1 << n) != 0 => have |= 1 << n,
            Ok(1) => drop(prctl(libc::PR_CAPBSET_DROP, n)?),
            Ok(_) => {}
            Err(_) => break, // The kernel knows no more.
        }
    }
    match prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64) {
        Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
        _ => {}
    }
    Ok(CapabilitySet(have))
}

/// Sets the permitted and effective sets; the inheritable one is always empty (CVE-2022-24769).
pub(super) fn set(permitted: CapabilitySet, more_effective: Option<CapabilitySet>) -> io::Result<()> {
    let all = more_effective.map_or(permitted, |more| permitted.union(more));
    let header: [u32; 2] = [0x2008_0522 /* _LINUX_CAPABILITY_VERSION_3 */, 0];
    let (low, high) = (all.0 as u32, (all.0 >> 32) as u32);
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: header and data have the layout of version 3 (one header, two data structs) and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) } as i32).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_and_dropping() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let usual = CapabilitySet::of(USUAL).0;
        for (case, add, drop, expected) in [
            ("nothing", vec![], vec![], usual),
            ("one more", list(&["NET_ADMIN"]), vec![], usual | 1 << 12),
            ("prefix, case", list(&["cap_net_admin"]), vec![], usual | 1 << 12),
            ("all but", list(&["ALL"]), list(&["SYS_ADMIN"]), CapabilitySet::ALL.0 & !(1 << 21)),
            ("only", list(&["CHOWN"]), list(&["ALL"]), 1),
            ("none", vec![], list(&["all"]), 0),
        ] {
            let security = Security { capabilities_add: add, capabilities_drop: drop, ..Security::default() };
            assert_eq!(wanted(&security), Ok(CapabilitySet(expected)), "{case}");
        }
        let wrong = Security { capabilities_add: list(&["FLY"]), ..Security::default() };
        assert_eq!(wanted(&wrong), Err("unknown capability \"FLY\"".to_owned()));
    }
}
