//! The bytes of nftables operations (linux/netfilter/nf_tables.h, nfnetlink.h).

use super::message::{self, Batch, Writer};
use super::nft::{
    BaseChain, ChainKind, Data, Element, Expr, Family, Hook, KeyAndValue, Op, Set, SetData, Table, Verdict,
};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
const GET_ELEMENTS: u16 = 13;
const DELETE_ELEMENTS: u16 = 14;

const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

const SET_MAP: u32 = 0x08;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;
const TYPE_VERDICT: u32 = 0xffff_ff00;

/// `NFT_REG32_00`; register 0 is the verdict.
const FIRST_REGISTER: u32 = 8;
const VERDICT_REGISTER: u32 = 0;

/// A list of elements is one attribute, whose length has 16 bits.
const ELEMENT_LIST_BYTES_MAX: usize = 60_000;

/// `struct nfgenmsg`.
fn header(message: &mut Writer<'_>, family: u8, resource: u16) {
    let [high, low] = resource.to_be_bytes();
    message.raw(&[family, 0, high, low]);
}

fn number_of(family: Family) -> u8 {
    match family {
        Family::V4 => libc::NFPROTO_IPV4 as u8,
        Family::V6 => libc::NFPROTO_IPV6 as u8,
    }
}

/// The start of a transaction.
pub fn begin(batch: &mut Batch) {
    batch.message(BATCH_BEGIN, 0, "begin a transaction", |m| header(m, 0, SUBSYSTEM));
}

/// Its end, where it takes effect.
pub fn end(batch: &mut Batch) {
    batch.message(BATCH_END, 0, "commit a transaction", |m| header(m, 0, SUBSYSTEM));
}

fn request(batch: &mut Batch, table: &Table, kind: u16, flags: i32, what: String, body: impl FnOnce(&mut Writer<'_>)) {
    let operation = format!("{what} (nftables table {})", table.name);
    batch.message(SUBSYSTEM << 8 | kind, flags, operation, |m| {
        header(m, number_of(table.family), 0);
        // The table's name is attribute 1 of every kind of message.
        m.text(1, &table.name);
        body(m);
    });
}

/// One step of a transaction.
pub fn operation(batch: &mut Batch, table: &Table, op: &Op) {
    match op {
        Op::AddTable => request(batch, table, NEW_TABLE, libc::NLM_F_CREATE, "create the table".into(), |_| ()),
        Op::DeleteTable => request(batch, table, DELETE_TABLE, 0, "delete the table".into(), |_| ()),
        Op::AddChain { name, hook } => {
            request(batch, table, NEW_CHAIN, libc::NLM_F_CREATE, format!("create the chain {name}"), |m| {
                m.text(3, name);
                if let Some(hook) = hook {
                    self::hook(m, hook);
                }
            });
        }
        Op::DeleteChain { name } => {
            request(batch, table, DELETE_CHAIN, 0, format!("delete the chain {name}"), |m| m.text(3, name));
        }
        Op::AddRule { chain, expressions } => rule(batch, table, chain, libc::NLM_F_APPEND, expressions, None),
        Op::InsertRule { chain, expressions, comment } => rule(batch, table, chain, 0, expressions, Some(comment)),
        Op::DeleteRule { chain, handle } => {
            request(batch, table, DELETE_RULE, 0, format!("delete a rule of the chain {chain}"), |m| {
                m.text(2, chain);
                m.bytes(3, &handle.to_be_bytes());
            });
        }
        Op::AddSet(set) => {
            // The kernel wants a number for referring to the set within this transaction; its name serves as well.
            let id = batch.len() as u32;
            request(batch, table, NEW_SET, libc::NLM_F_CREATE, format!("create the set {}", set.name), |m| {
                self::set(m, set, id);
            });
        }
        Op::AddElements { set, elements } => {
            let size = |e: &Element| e.key.len() + 64 + if let Data::Value(v) = &e.data { v.len() } else { 64 };
            for part in parts(elements, size) {
                let flags = libc::NLM_F_CREATE;
                request(batch, table, NEW_ELEMENTS, flags, format!("add elements to the set {set}"), |m| {
                    m.text(2, set);
                    m.nested(3, |m| part.iter().for_each(|e| m.nested(LIST_ELEMENT, |m| element(m, e))));
                });
            }
        }
        Op::DeleteElements { set, keys } => {
            for part in parts(keys, |key| key.len() + 32) {
                request(batch, table, DELETE_ELEMENTS, 0, format!("delete elements of the set {set}"), |m| {
                    m.text(2, set);
                    m.nested(3, |m| {
                        for key in part {
                            m.nested(LIST_ELEMENT, |m| m.nested(1, |m| m.bytes(DATA_VALUE, key)));
                        }
                    });
                });
            }
        }
    }
}

fn rule(batch: &mut Batch, table: &Table, chain: &str, place: i32, expressions: &[Expr], comment: Option<&String>) {
    let flags = libc::NLM_F_CREATE | place;
    request(batch, table, NEW_RULE, flags, format!("add a rule to the chain {chain}"), |m| {
        m.text(2, chain);
        m.nested(4, |m| {
            for expression in expressions {
                m.nested(LIST_ELEMENT, |m| self::expression(m, table.family, expression));
            }
        });
        if let Some(comment) = comment {
            m.bytes(7, &user_data(comment));
        }
    });
}

/// A comment as `nft` stores it: type 0, length, text with its zero byte.
fn user_data(comment: &str) -> Vec<u8> {
    let len = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    let text = comment.bytes().take(usize::from(len) - 1);
    [0, len].into_iter().chain(text).chain([0]).collect()
}

/// Cuts a list into pieces that fit an attribute; `size` is an upper bound for one item.
fn parts<T>(items: &[T], size: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|item| {
            bytes += size(item);
            bytes <= ELEMENT_LIST_BYTES_MAX
        });
        let count = fits.count().max(1).min(rest.len());
        let (part, remaining) = rest.split_at(count);
        rest = remaining;
        (!part.is_empty()).then_some(part)
    })
}

fn hook(message: &mut Writer<'_>, hook: &Hook) {
    message.nested(4, |m| {
        m.be32(1, hook.point as u32);
        m.be32(2, hook.priority as u32);
    });
    message.text(
        7,
        match hook.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        },
    );
}

fn set(message: &mut Writer<'_>, set: &Set, id: u32) {
    let mut flags = 0;
    if set.data != SetData::None {
        flags |= SET_MAP;
    }
    if set.dynamic {
        flags |= SET_TIMEOUT | SET_EVAL;
    }
    message.text(2, &set.name);
    message.be32(3, flags);
    // Types only matter to programs that print the set; 0 is `invalid`, shown as plain bytes.
    message.be32(4, 0);
    message.be32(5, set.key_len);
    match set.data {
        SetData::None => {}
        SetData::Value(len) => {
            message.be32(6, 0);
            message.be32(7, len);
        }
        SetData::Verdict => message.be32(6, TYPE_VERDICT),
    }
    message.be32(10, id);
}

fn element(message: &mut Writer<'_>, element: &Element) {
    message.nested(1, |m| m.bytes(DATA_VALUE, &element.key));
    match &element.data {
        Data::None => {}
        Data::Value(value) => message.nested(2, |m| m.bytes(DATA_VALUE, value)),
        Data::Verdict(verdict) => message.nested(2, |m| self::verdict(m, verdict)),
    }
}

fn verdict(message: &mut Writer<'_>, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    message.nested(DATA_VERDICT, |m| {
        m.be32(1, code as u32);
        if let Some(chain) = chain {
            m.text(2, chain);
        }
    });
}

fn reg(register: u32) -> u32 {
    FIRST_REGISTER + register
}

/// The name of an expression and its attributes.
fn expression(message: &mut Writer<'_>, family: Family, expression: &Expr) {
    let name = match expression {
        Expr::Meta { .. } => "meta",
        Expr::Payload { .. } => "payload",
        Expr::Ct { .. } => "ct",
        Expr::Compare { .. } => "cmp",
        Expr::Mask { .. } => "bitwise",
        Expr::Load { .. } | Expr::Verdict(_) => "immediate",
        Expr::Random { .. } => "numgen",
        Expr::Contains { .. } | Expr::Lookup { .. } | Expr::Dispatch { .. } => "lookup",
        Expr::Remember { .. } => "dynset",
        Expr::AddressKind { .. } => "fib",
        Expr::DestinationNat { .. } => "nat",
        Expr::Masquerade => "masq",
        Expr::RejectPort | Expr::RejectReset => "reject",
    };
    message.text(1, name);
    message.nested(2, |m| expression_data(m, family, expression));
}

fn expression_data(m: &mut Writer<'_>, family: Family, expression: &Expr) {
    match expression {
        Expr::Meta { key, to } => {
            m.be32(1, reg(*to));
            m.be32(2, *key as u32);
        }
        Expr::Payload { header, offset, len, to } => {
            m.be32(1, reg(*to));
            m.be32(2, *header as u32);
            m.be32(3, *offset);
            m.be32(4, *len);
        }
        Expr::Ct { key, to } => {
            m.be32(1, reg(*to));
            m.be32(2, *key as u32);
            if *key as u32 >= 10 {
                // IP_CT_DIR_ORIGINAL
                m.u8(3, 0);
            }
        }
        Expr::Compare { from, equal, value } => {
            m.be32(1, reg(*from));
            m.be32(2, u32::from(!equal));
            m.nested(3, |m| m.bytes(DATA_VALUE, value));
        }
        Expr::Mask { register, mask } => {
            m.be32(1, reg(*register));
            m.be32(2, reg(*register));
            m.be32(3, mask.len() as u32);
            m.nested(4, |m| m.bytes(DATA_VALUE, mask));
            m.nested(5, |m| m.bytes(DATA_VALUE, &vec![0; mask.len()]));
        }
        Expr::Load { value, to } => {
            m.be32(1, reg(*to));
            m.nested(2, |m| m.bytes(DATA_VALUE, value));
        }
        Expr::Verdict(verdict) => {
            m.be32(1, VERDICT_REGISTER);
            m.nested(2, |m| self::verdict(m, verdict));
        }
        Expr::Random { modulus, offset, to } => {
            m.be32(1, reg(*to));
            m.be32(2, *modulus);
            // NFT_NG_RANDOM
            m.be32(3, 1);
            m.be32(4, *offset);
        }
        Expr::Contains { set, key, inverted } => {
            m.text(1, set);
            m.be32(2, reg(*key));
            m.be32(5, u32::from(*inverted));
        }
        Expr::Lookup { set, key, to } => {
            m.text(1, set);
            m.be32(2, reg(*key));
            m.be32(3, reg(*to));
        }
        Expr::Dispatch { set, key } => {
            m.text(1, set);
            m.be32(2, reg(*key));
            m.be32(3, VERDICT_REGISTER);
        }
        Expr::Remember { set, key, data, timeout_seconds } => {
            m.text(1, set);
            // NFT_DYNSET_OP_UPDATE
            m.be32(3, 1);
            m.be32(4, reg(*key));
            m.be32(5, reg(*data));
            m.bytes(6, &(u64::from(*timeout_seconds) * 1000).to_be_bytes());
        }
        Expr::AddressKind { source, to } => {
            m.be32(1, reg(*to));
            // NFT_FIB_RESULT_ADDRTYPE; NFTA_FIB_F_SADDR or _DADDR
            m.be32(2, 3);
            m.be32(3, if *source { 1 } else { 2 });
        }
        Expr::DestinationNat { address, port } => {
            m.be32(1, 1);
            m.be32(2, u32::from(number_of(family)));
            m.be32(3, reg(*address));
            m.be32(5, reg(*port));
        }
        Expr::Masquerade => {}
        Expr::RejectPort => {
            // ICMP port unreachable
            m.be32(1, 0);
            m.u8(2, if family == Family::V4 { 3 } else { 4 });
        }
        Expr::RejectReset => m.be32(1, 1),
    }
}

/// A request for all chains of a family.
pub fn list_chains(batch: &mut Batch, family: Family) {
    batch.message(SUBSYSTEM << 8 | GET_CHAIN, libc::NLM_F_DUMP, "list the nftables chains", |m| {
        header(m, number_of(family), 0);
    });
}

/// The chain in one message of the answer, if it is a base chain.
pub fn read_chain(payload: &[u8]) -> Option<BaseChain> {
    let body = payload.get(4..)?;
    let number = |value: &[u8]| Some(u32::from_be_bytes(value.try_into().ok()?));
    let hook = message::attribute(body, 4)?;
    Some(BaseChain {
        table: message::text(message::attribute(body, 1)?),
        name: message::text(message::attribute(body, 3)?),
        point: number(message::attribute(hook, 1)?)?,
        // NF_DROP
        drops: message::attribute(body, 5).and_then(number) == Some(0),
    })
}

/// A request for all rules of a chain.
pub fn list_rules(batch: &mut Batch, table: &Table, chain: &str) {
    request(batch, table, GET_RULE, libc::NLM_F_DUMP, format!("list the chain {chain}"), |m| m.text(2, chain));
}

/// The number of the rule in one message of the answer, if it has this comment.
pub fn read_rule(payload: &[u8], comment: &str) -> Option<u64> {
    let body = payload.get(4..)?;
    let is_ours = message::attribute(body, 7)? == user_data(comment);
    let handle = message::attribute(body, 3)?.try_into().ok().map(u64::from_be_bytes)?;
    is_ours.then_some(handle)
}

/// A request for all elements of a set.
pub fn list_elements(batch: &mut Batch, table: &Table, set: &str) {
    request(batch, table, GET_ELEMENTS, libc::NLM_F_DUMP, format!("list the set {set}"), |m| m.text(2, set));
}

/// Reads the elements in one message of the answer.
pub fn read_elements(payload: &[u8], into: &mut Vec<KeyAndValue>) {
    let value = |item: &[u8], kind| {
        message::attribute(item, kind).and_then(|data| message::attribute(data, DATA_VALUE)).map(<[u8]>::to_vec)
    };
    let Some(list) = payload.get(4..).and_then(|body| message::attribute(body, 3)) else {
        return;
    };
    for (_, item) in message::attributes(list) {
        if let (Some(key), Some(data)) = (value(item, 1), value(item, 2)) {
            into.push((key, data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_into_pieces_that_fit() {
        let items = vec![(); 2_500];
        let sizes: Vec<_> = parts(&items, |()| 100).map(<[()]>::len).collect();
        assert_eq!(sizes, [600, 600, 600, 600, 100]);
        assert_eq!(parts(&[(); 0], |()| 100).count(), 0);
        assert_eq!(parts(&items[..2], |()| 100_000).count(), 2, "an item that never fits still goes alone");
    }
}
