//! nftables as values: what a transaction does, what a rule says. `nft_encode` turns them into bytes.
//!
//! Only what the pod network and the service proxy use. Numbers are those of linux/netfilter/nf_tables.h.

use std::sync::Arc;

use super::message::Batch;
use super::{Error, Socket, nft_encode};

/// The address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Bytes of an address.
    #[must_use]
    pub fn address_len(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: String,
}

/// Names inside a table are shared: one set's name stands in thousands of operations.
pub type Name = Arc<str>;

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Creates the table if there is none.
    AddTable,
    /// Removes the table with all that is in it.
    DeleteTable,
    /// Creates a chain.
    AddChain {
        /// Its name.
        name: Name,
        /// Where the kernel enters it; none: only other chains do.
        hook: Option<Hook>,
    },
    /// Removes a chain with its rules.
    DeleteChain {
        /// Its name.
        name: Name,
    },
    /// Appends a rule.
    AddRule {
        /// To this chain.
        chain: Name,
        /// What it says.
        expressions: Vec<Expr>,
    },
    /// Puts a rule at the front of a chain, with a comment by which it is found again.
    InsertRule {
        /// To this chain.
        chain: Name,
        /// What it says.
        expressions: Vec<Expr>,
        /// Whose it is.
        comment: String,
    },
    /// Removes a rule.
    DeleteRule {
        /// From this chain.
        chain: Name,
        /// Its number.
        handle: u64,
    },
    /// Creates a set or map.
    AddSet(Set),
    /// Adds elements.
    AddElements {
        /// To this set.
        set: Name,
        /// The elements.
        elements: Vec<Element>,
    },
    /// Removes elements; they must be there.
    DeleteElements {
        /// From this set.
        set: Name,
        /// Their keys.
        keys: Vec<Vec<u8>>,
    },
}

/// Where a chain is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// `nat` or `filter`.
    pub kind: ChainKind,
    /// At which point of a packet's way.
    pub point: HookPoint,
    /// Lower comes first.
    pub priority: i32,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Accept and drop.
    Filter,
    /// Translate addresses; sees only the first packet of a connection.
    Nat,
}

/// Points of a packet's way (`NF_INET_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum HookPoint {
    /// Came in, not yet routed.
    Prerouting = 0,
    /// To this machine.
    Input = 1,
    /// Passing through.
    Forward = 2,
    /// From this machine.
    Output = 3,
    /// About to leave.
    Postrouting = 4,
}

/// A set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: Name,
    /// Bytes of a key.
    pub key_len: u32,
    /// What a key leads to.
    pub data: SetData,
    /// Rules add elements, and elements expire.
    pub dynamic: bool,
}

/// What the keys of a set lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetData {
    /// Nothing: a set.
    None,
    /// Bytes.
    Value(u32),
    /// A verdict.
    Verdict,
}

/// An element of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its key.
    pub key: Vec<u8>,
    /// Where it leads.
    pub data: Data,
}

/// Where an element leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Nowhere: it is in the set.
    None,
    /// To bytes.
    Value(Vec<u8>),
    /// To a verdict.
    Verdict(Verdict),
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It is gone.
    Drop,
    /// Back to the calling chain.
    Return,
    /// To a chain, and back after its end.
    Jump(Name),
    /// To a chain, for good.
    Goto(Name),
}

/// A four-byte register, 0 to 15. Longer values lie in the following ones too.
pub type Register = u32;

/// One expression of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Loads a property of the packet.
    Meta {
        /// Which.
        key: Meta,
        /// Into.
        to: Register,
    },
    /// Loads bytes of a header.
    Payload {
        /// Of which header.
        header: Header,
        /// From this byte.
        offset: u32,
        /// So many.
        len: u32,
        /// Into.
        to: Register,
    },
    /// Loads a property of the connection.
    Ct {
        /// Which.
        key: Ct,
        /// Into.
        to: Register,
    },
    /// Goes on only if a register holds this (or, `equal` false, not this).
    Compare {
        /// The register.
        from: Register,
        /// Whether they must be equal or differ.
        equal: bool,
        /// The value.
        value: Vec<u8>,
    },
    /// Keeps the bits of the mask.
    Mask {
        /// The register, changed in place.
        register: Register,
        /// The bits to keep.
        mask: Vec<u8>,
    },
    /// Loads a constant.
    Load {
        /// The value.
        value: Vec<u8>,
        /// Into.
        to: Register,
    },
    /// Loads a random number below `modulus`, plus `offset`.
    Random {
        /// How many numbers.
        modulus: u32,
        /// The first.
        offset: u32,
        /// Into.
        to: Register,
    },
    /// Goes on only if the key is in the set (or, `inverted`, not).
    Contains {
        /// The set.
        set: Name,
        /// Where the key begins.
        key: Register,
        /// Must not be in it.
        inverted: bool,
    },
    /// Loads what the key leads to; goes on only if it is there.
    Lookup {
        /// The map.
        set: Name,
        /// Where the key begins.
        key: Register,
        /// Into.
        to: Register,
    },
    /// Does the verdict that the key leads to; goes on if it is not there.
    Dispatch {
        /// The map.
        set: Name,
        /// Where the key begins.
        key: Register,
    },
    /// Adds or refreshes an element.
    Remember {
        /// The map.
        set: Name,
        /// Where the key begins.
        key: Register,
        /// Where the data begins.
        data: Register,
        /// How long it stays.
        timeout_seconds: u32,
    },
    /// Loads the kind of an address (`RTN_*`) as the routing table sees it.
    AddressKind {
        /// The source, or the destination.
        source: bool,
        /// Into.
        to: Register,
    },
    /// Sends the connection elsewhere.
    DestinationNat {
        /// Where the address begins.
        address: Register,
        /// Where the port is.
        port: Register,
    },
    /// Gives the connection an address of this machine as source.
    Masquerade,
    /// Refuses with an ICMP message.
    RejectPort,
    /// Refuses with a TCP reset.
    RejectReset,
    /// Ends the rule.
    Verdict(Verdict),
}

/// Properties of a packet (`NFT_META_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Meta {
    /// Name of the interface it came by (16 bytes).
    InputName = 6,
    /// Name of the interface it leaves by (16 bytes).
    OutputName = 7,
    /// Transport protocol (one byte).
    Protocol = 16,
}

/// Headers (`NFT_PAYLOAD_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Header {
    /// IP.
    Network = 1,
    /// TCP, UDP, SCTP, ICMP.
    Transport = 2,
}

/// Properties of a connection (`NFT_CT_*`); addresses and ports are those of its first packet, before translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Ct {
    /// `IPS_*` bits.
    Status = 2,
    /// Transport protocol (one byte).
    OriginalProtocol = 10,
    /// Destination port.
    OriginalPort = 12,
    /// Destination address, IPv4.
    OriginalAddressV4 = 20,
    /// Destination address, IPv6.
    OriginalAddressV6 = 22,
}

/// `IPS_DST_NAT`: the connection's destination was translated.
pub const STATUS_DESTINATION_NAT: u32 = 1 << 5;
/// `RTN_LOCAL`: an address of this machine.
pub const KIND_LOCAL: u32 = 2;

/// The 16 bytes in which an interface name is compared.
#[must_use]
pub fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// Carries out all steps, or none.
///
/// # Errors
/// The kernel refused a step.
pub fn commit(socket: &mut Socket, steps: &[(&Table, &[Op])]) -> Result<(), Error> {
    if steps.iter().all(|(_, ops)| ops.is_empty()) {
        return Ok(());
    }
    let mut batch = Batch::new();
    nft_encode::begin(&mut batch);
    for (table, ops) in steps {
        for op in *ops {
            nft_encode::operation(&mut batch, table, op);
        }
    }
    nft_encode::end(&mut batch);
    socket.send(&batch)
}

/// Removes a table if it is there.
///
/// # Errors
/// The kernel refused.
pub fn delete_table(socket: &mut Socket, table: &Table) -> Result<(), Error> {
    match commit(socket, &[(table, &[Op::DeleteTable])]) {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

/// A chain that the kernel enters by itself, of whatever program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where it is entered, as the number of a [`HookPoint`].
    pub point: u32,
    /// What it does not decide about is dropped.
    pub drops: bool,
}

/// The base chains of all tables of a family.
///
/// # Errors
/// The kernel refused.
pub fn base_chains(socket: &mut Socket, family: Family) -> Result<Vec<BaseChain>, Error> {
    let mut batch = Batch::new();
    nft_encode::list_chains(&mut batch, family);
    let mut found = Vec::new();
    socket.query(&batch, &mut |received| found.extend(nft_encode::read_chain(received.payload)))?;
    Ok(found)
}

/// The numbers of a chain's rules that have this comment.
///
/// # Errors
/// The kernel refused.
pub fn commented_rules(socket: &mut Socket, table: &Table, chain: &str, comment: &str) -> Result<Vec<u64>, Error> {
    let mut batch = Batch::new();
    nft_encode::list_rules(&mut batch, table, chain);
    let mut found = Vec::new();
    socket.query(&batch, &mut |received| found.extend(nft_encode::read_rule(received.payload, comment)))?;
    Ok(found)
}

/// A key and the bytes that it leads to.
pub type KeyAndValue = (Vec<u8>, Vec<u8>);

/// The elements of a map whose data is bytes.
///
/// # Errors
/// The kernel refused.
pub fn elements(socket: &mut Socket, table: &Table, set: &str) -> Result<Vec<KeyAndValue>, Error> {
    let mut batch = Batch::new();
    nft_encode::list_elements(&mut batch, table, set);
    let mut found = Vec::new();
    socket.query(&batch, &mut |received| nft_encode::read_elements(received.payload, &mut found))?;
    Ok(found)
}
