//! The rules of a proxy table: the fixed ones, and those of a shape.

use super::Config;
use super::layout::{
    AFFINITY, CLUSTER_IPS, ENDPOINTS, EXTERNAL_OFFSET, FRONTS, HAIRPIN, HOST_PORTS, MASQUERADED, Shape, Target, sets,
};
use crate::cidr::Cidr;
use crate::netlink::nft::{
    ChainKind, Ct, Expr, Family, Header, Hook, HookPoint, KIND_LOCAL, Meta, Op, Register, STATUS_DESTINATION_NAT,
    Verdict,
};
use crate::netlink::route::octets;

/// Before and after which the kernel's own NAT priorities lie: `dstnat` and `srcnat`.
const DESTINATION_PRIORITY: i32 = -100;
const SOURCE_PRIORITY: i32 = 100;

/// The registers of a rule, in this order: client, front (address, protocol, port), number, endpoint. In this order
/// the front and the number are one key, and the client and the front are another. IPv6 fills all sixteen.
struct Registers {
    client: Register,
    front: Register,
    protocol: Register,
    port: Register,
    number: Register,
    endpoint: Register,
    endpoint_port: Register,
}

impl Registers {
    fn of(family: Family) -> Self {
        let words = family.address_len() / 4;
        let front = words;
        let protocol = front + words;
        let endpoint = protocol + 3;
        Self {
            client: 0,
            front,
            protocol,
            port: protocol + 1,
            number: protocol + 2,
            endpoint,
            endpoint_port: endpoint + words,
        }
    }
}

/// Writes rules for one family.
struct Rules<'a> {
    family: Family,
    registers: Registers,
    config: &'a Config,
}

impl Rules<'_> {
    fn source(&self, to: Register) -> Expr {
        let offset = if self.family == Family::V4 { 12 } else { 8 };
        Expr::Payload { header: Header::Network, offset, len: self.family.address_len(), to }
    }

    fn destination(&self, to: Register) -> Expr {
        let offset = if self.family == Family::V4 { 16 } else { 24 };
        Expr::Payload { header: Header::Network, offset, len: self.family.address_len(), to }
    }

    fn no_address(&self, to: Register) -> Expr {
        Expr::Load { value: vec![0; self.family.address_len() as usize], to }
    }

    /// Loads the front that a packet is sent to.
    fn front(&self, node: bool) -> Vec<Expr> {
        let r = &self.registers;
        let address = if node { self.no_address(r.front) } else { self.destination(r.front) };
        vec![
            address,
            Expr::Meta { key: Meta::Protocol, to: r.protocol },
            // All three protocols have their destination port here.
            Expr::Payload { header: Header::Transport, offset: 2, len: 2, to: r.port },
        ]
    }

    /// Loads the front that a translated connection was sent to.
    fn original_front(&self, node: bool) -> Vec<Expr> {
        let r = &self.registers;
        let address =
            if node { self.no_address(r.front) } else { Expr::Ct { key: self.original_address(), to: r.front } };
        vec![
            address,
            Expr::Ct { key: Ct::OriginalProtocol, to: r.protocol },
            Expr::Ct { key: Ct::OriginalPort, to: r.port },
        ]
    }

    fn original_address(&self) -> Ct {
        if self.family == Family::V4 { Ct::OriginalAddressV4 } else { Ct::OriginalAddressV6 }
    }

    /// `source`: what was not translated is of no concern.
    fn source_chain(&self) -> Vec<Vec<Expr>> {
        vec![vec![
            Expr::Ct { key: Ct::Status, to: 0 },
            Expr::Mask { register: 0, mask: STATUS_DESTINATION_NAT.to_ne_bytes().to_vec() },
            Expr::Compare { from: 0, equal: false, value: vec![0; 4] },
            Expr::Verdict(Verdict::Jump("translated".into())),
        ]]
    }

    fn source_in(&self, cidr: &Cidr, within: bool) -> Vec<Expr> {
        vec![
            self.source(0),
            Expr::Mask { register: 0, mask: cidr.mask() },
            Expr::Compare { from: 0, equal: within, value: octets(cidr.address()) },
        ]
    }

    fn cluster_cidrs(&self) -> impl Iterator<Item = &Cidr> {
        let v4 = self.family == Family::V4;
        self.config.cluster_cidrs.iter().filter(move |cidr| cidr.address().is_ipv4() == v4)
    }

    fn address_is_local(&self, source: bool) -> [Expr; 2] {
        let value = KIND_LOCAL.to_ne_bytes().to_vec();
        [Expr::AddressKind { source, to: 0 }, Expr::Compare { from: 0, equal: true, value }]
    }

    fn to_endpoint(&self) -> Expr {
        Expr::DestinationNat { address: self.registers.endpoint, port: self.registers.endpoint_port }
    }

    fn to_host_port(&self, node: bool) -> Vec<Expr> {
        let r = &self.registers;
        let lookup = Expr::Lookup { set: HOST_PORTS.into(), key: r.front, to: r.endpoint };
        [self.front(node), vec![lookup, self.to_endpoint()]].concat()
    }

    /// `services`: entered by every first packet that comes in or is sent from here.
    fn services(&self) -> Vec<Vec<Expr>> {
        let r = &self.registers;
        let dispatch = || Expr::Dispatch { set: FRONTS.into(), key: r.front };
        let is_cluster_ip = Expr::Contains { set: CLUSTER_IPS.into(), key: r.front, inverted: false };
        let refuse = Expr::Verdict(Verdict::Goto("refuse".into()));
        vec![
            [self.front(false), vec![dispatch()]].concat(),
            vec![self.destination(r.front), is_cluster_ip, refuse],
            self.to_host_port(false),
            [&self.address_is_local(false)[..], &[Expr::Verdict(Verdict::Goto("node".into()))]].concat(),
        ]
    }

    /// `node`: for packets to an address of the node.
    fn node(&self) -> Vec<Vec<Expr>> {
        let dispatch = Expr::Dispatch { set: FRONTS.into(), key: self.registers.front };
        vec![[self.front(true), vec![dispatch]].concat(), self.to_host_port(true)]
    }

    fn refuse(&self) -> Vec<Vec<Expr>> {
        let is_tcp = Expr::Compare { from: 0, equal: true, value: vec![libc::IPPROTO_TCP as u8] };
        vec![vec![Expr::Meta { key: Meta::Protocol, to: 0 }, is_tcp, Expr::RejectReset], vec![Expr::RejectPort]]
    }

    /// `translated`: which connections to Services get the node's address as source. It sees what they were before from the connection
    /// itself, so no mark is needed on packets, which others may use too.
    fn masquerading(&self) -> Vec<Vec<Expr>> {
        let r = &self.registers;
        let cluster_ip = |then: Vec<Expr>| {
            let address = Expr::Ct { key: self.original_address(), to: r.front };
            [vec![address, Expr::Contains { set: CLUSTER_IPS.into(), key: r.front, inverted: false }], then].concat()
        };
        let masqueraded = |node| {
            let is = Expr::Contains { set: MASQUERADED.into(), key: r.front, inverted: false };
            [self.original_front(node), vec![is, Expr::Masquerade]].concat()
        };
        let from_outside: Vec<_> = self.cluster_cidrs().flat_map(|cidr| self.source_in(cidr, false)).collect();
        let own = Expr::Contains { set: HAIRPIN.into(), key: r.client, inverted: false };
        let mut rules = vec![
            vec![self.source(r.client), self.destination(r.front), own, Expr::Masquerade],
            cluster_ip([from_outside, vec![Expr::Masquerade]].concat()),
            masqueraded(false),
            cluster_ip(vec![Expr::Verdict(Verdict::Return)]),
            masqueraded(true),
        ];
        if self.family == Family::V4
            && let Some(loopback) = Cidr::new(std::net::Ipv4Addr::LOCALHOST.into(), 8)
        {
            rules.push([self.source_in(&loopback, true), vec![Expr::Masquerade]].concat());
        }
        rules
    }

    /// Draws one of the endpoints.
    fn pick(&self, node: bool, external: bool, count: u32, affinity_seconds: Option<u32>) -> Vec<Vec<Expr>> {
        let r = &self.registers;
        let offset = if external { EXTERNAL_OFFSET } else { 0 };
        let find = || Expr::Lookup { set: ENDPOINTS.into(), key: r.front, to: r.endpoint };
        let remember =
            |timeout_seconds| Expr::Remember { set: AFFINITY.into(), key: r.client, data: r.endpoint, timeout_seconds };
        let start = || {
            let client = affinity_seconds.map(|_| self.source(r.client));
            client.into_iter().chain(self.front(node)).collect::<Vec<_>>()
        };
        let end = || affinity_seconds.map(remember).into_iter().chain([self.to_endpoint()]).collect::<Vec<_>>();
        let mut rules = Vec::new();
        if affinity_seconds.is_some() {
            let recall = Expr::Lookup { set: AFFINITY.into(), key: r.client, to: r.endpoint };
            rules.push([start(), vec![recall], end()].concat());
        }
        let draw = Expr::Random { modulus: count, offset, to: r.number };
        rules.push([start(), vec![draw, find()], end()].concat());
        // While a transaction takes effect, a packet may draw by the old count and look in the new map.
        let first = Expr::Load { value: offset.to_ne_bytes().to_vec(), to: r.number };
        rules.push([start(), vec![first, find()], end()].concat());
        rules
    }

    fn split(&self, node: bool, internal: Target, external: Target) -> Vec<Vec<Expr>> {
        let goto = |target| Expr::Verdict(Verdict::Goto(Shape::All { node, target }.chain()));
        let mut rules = vec![[&self.address_is_local(true)[..], &[goto(internal)]].concat()];
        for cidr in self.cluster_cidrs() {
            rules.push([self.source_in(cidr, true), vec![goto(internal)]].concat());
        }
        rules.push(vec![goto(external)]);
        rules
    }
}

fn add_rules(ops: &mut Vec<Op>, chain: &str, rules: Vec<Vec<Expr>>) {
    ops.extend(rules.into_iter().map(|expressions| Op::AddRule { chain: chain.into(), expressions }));
}

fn rules_for(family: Family, config: &Config) -> Rules<'_> {
    Rules { family, registers: Registers::of(family), config }
}

/// A new table without Services, in the place of the one that may be there.
pub fn skeleton(family: Family, config: &Config) -> Vec<Op> {
    let rules = rules_for(family, config);
    let mut ops = vec![Op::AddTable, Op::DeleteTable, Op::AddTable];
    ops.extend(sets(family).into_iter().map(Op::AddSet));
    let base = |name: &str, point, priority| Op::AddChain {
        name: name.into(),
        hook: Some(Hook { kind: ChainKind::Nat, point, priority }),
    };
    ops.extend(["refuse", "drop", "node", "services", "translated"].map(|name| add_chain(name.into())));
    ops.extend([
        base("incoming", HookPoint::Prerouting, DESTINATION_PRIORITY),
        base("outgoing", HookPoint::Output, DESTINATION_PRIORITY),
        base("source", HookPoint::Postrouting, SOURCE_PRIORITY),
    ]);
    add_rules(&mut ops, "refuse", rules.refuse());
    add_rules(&mut ops, "drop", vec![vec![Expr::Verdict(Verdict::Drop)]]);
    add_rules(&mut ops, "node", rules.node());
    add_rules(&mut ops, "services", rules.services());
    add_rules(&mut ops, "translated", rules.masquerading());
    add_rules(&mut ops, "source", rules.source_chain());
    for chain in ["incoming", "outgoing"] {
        add_rules(&mut ops, chain, vec![vec![Expr::Verdict(Verdict::Jump("services".into()))]]);
    }
    ops
}

fn add_chain(name: crate::netlink::nft::Name) -> Op {
    Op::AddChain { name, hook: None }
}

/// The chain of a shape. Chains that it goes on to must be there.
pub fn shape(family: Family, config: &Config, shape: Shape) -> Vec<Op> {
    let rules = rules_for(family, config);
    let lines = match shape {
        Shape::All { target: Target::Refuse | Target::Drop, .. } => return Vec::new(),
        Shape::All { node, target: Target::Pick { external, count, affinity_seconds } } => {
            rules.pick(node, external, count, affinity_seconds)
        }
        Shape::Split { node, internal, external } => rules.split(node, internal, external),
    };
    let name = shape.chain();
    let mut ops = vec![add_chain(name.clone())];
    add_rules(&mut ops, &name, lines);
    ops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_registers_of_the_longest_rule_exist() {
        for family in [Family::V4, Family::V6] {
            assert!(Registers::of(family).endpoint_port < 16);
        }
    }
}
