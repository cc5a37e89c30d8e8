//! Answers from the zone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::zone::{EndpointName, ServiceNames, Zone};

/// The version of the specification that `dns-version` tells.
const SCHEMA_VERSION: &str = "1.1.0";
/// Aliases of aliases are followed so far.
const ALIASES_MAX: usize = 8;

/// A zone, and what is looked up in it the other way round.
#[derive(Debug)]
pub struct Names {
    zone: Arc<Zone>,
    origin: Vec<String>,
    ttl_seconds: u32,
    reverse: BTreeMap<IpAddr, BTreeSet<String>>,
    namespaces: BTreeSet<String>,
}

/// What the zone says to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These records, and others that the asker will want next.
    Found {
        /// What was asked for.
        answers: Vec<Record>,
        /// Addresses of names in the answers.
        additionals: Vec<Record>,
    },
    /// The name is another one, outside of the zone.
    Alias {
        /// The records that say so.
        answers: Vec<Record>,
        /// The other name.
        target: Name,
    },
    /// The name exists, and has nothing of this type.
    NoData,
    /// There is no such name.
    NoName,
    /// The zone has no say.
    Foreign,
}

/// What a name in the zone has.
#[derive(Debug, Default)]
struct Node {
    addresses: Vec<IpAddr>,
    services: Vec<(u16, String, Vec<IpAddr>)>,
    alias: Option<String>,
    text: Option<&'static str>,
}

impl Names {
    /// Prepares a zone.
    #[must_use]
    pub fn new(zone: Arc<Zone>, ttl_seconds: u32) -> Self {
        let mut reverse = BTreeMap::<_, BTreeSet<_>>::new();
        for ((namespace, service), names) in &zone.services {
            let name = format!("{service}.{namespace}.svc.{}", zone.domain);
            match names {
                ServiceNames::Cluster { addresses, .. } => {
                    for address in addresses {
                        reverse.entry(*address).or_default().insert(name.clone());
                    }
                }
                ServiceNames::Headless { endpoints } => {
                    for endpoint in endpoints {
                        if let Some(host) = &endpoint.hostname {
                            reverse.entry(endpoint.address).or_default().insert(format!("{host}.{name}"));
                        }
                    }
                }
                ServiceNames::External { .. } => {}
            }
        }
        Self {
            origin: zone.domain.split('.').filter(|label| !label.is_empty()).map(str::to_lowercase).collect(),
            namespaces: zone.services.keys().map(|(namespace, _)| namespace.clone()).collect(),
            zone,
            ttl_seconds,
            reverse,
        }
    }

    /// Answers a question.
    #[must_use]
    pub fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        if let Some(address) = reverse_address(name) {
            return self.answer_reverse(name, address, kind);
        }
        let mut answers = Vec::new();
        let mut name = name.clone();
        for _ in 0..ALIASES_MAX {
            let Some(labels) = self.below_origin(&name) else {
                return if answers.is_empty() { Answer::Foreign } else { Answer::Alias { answers, target: name } };
            };
            if labels.is_empty() {
                return self.answer_origin(&name, kind);
            }
            let Some(node) = self.node(&labels.iter().map(String::as_str).collect::<Vec<_>>()) else {
                return if answers.is_empty() { Answer::NoName } else { found(answers, vec![]) };
            };
            let Some(target) = node.alias.as_deref().and_then(absolute) else {
                return self.answer_node(&name, kind, node, answers);
            };
            answers.push(self.record(&name, RData::CNAME(CNAME(target.clone()))));
            if matches!(kind, RecordType::CNAME | RecordType::ANY) {
                return found(answers, vec![]);
            }
            name = target;
        }
        found(answers, vec![])
    }

    fn answer_node(&self, name: &Name, kind: RecordType, node: Node, mut answers: Vec<Record>) -> Answer {
        let mut additionals = Vec::new();
        answers.extend(self.address_records(name, &node.addresses, kind));
        if matches!(kind, RecordType::SRV | RecordType::ANY) {
            for (port, target, addresses) in node.services {
                let Some(target) = absolute(&target) else { continue };
                answers.push(self.record(name, RData::SRV(SRV::new(0, 100, port, target.clone()))));
                additionals.extend(self.address_records(&target, &addresses, RecordType::ANY));
            }
        }
        if let Some(text) = node.text.filter(|_| matches!(kind, RecordType::TXT | RecordType::ANY)) {
            answers.push(self.record(name, RData::TXT(TXT::new(vec![text.to_owned()]))));
        }
        if answers.is_empty() { Answer::NoData } else { found(answers, additionals) }
    }

    fn answer_origin(&self, name: &Name, kind: RecordType) -> Answer {
        match kind {
            RecordType::SOA | RecordType::ANY => {
                self.authority().map_or(Answer::NoData, |soa| found(vec![soa], vec![]))
            }
            RecordType::NS => match absolute(&format!("ns.dns.{}", self.zone.domain)) {
                Some(server) => found(vec![self.record(name, RData::NS(NS(server)))], vec![]),
                None => Answer::NoData,
            },
            _ => Answer::NoData,
        }
    }

    fn answer_reverse(&self, name: &Name, address: IpAddr, kind: RecordType) -> Answer {
        let Some(targets) = self.reverse.get(&address) else {
            return Answer::Foreign;
        };
        if !matches!(kind, RecordType::PTR | RecordType::ANY) {
            return Answer::NoData;
        }
        let targets = targets.iter().filter_map(|target| absolute(target));
        found(targets.map(|target| self.record(name, RData::PTR(PTR(target)))).collect(), vec![])
    }

    /// The record that comes with "no": how long that may be believed.
    #[must_use]
    pub fn authority(&self) -> Option<Record> {
        let origin = absolute(&self.zone.domain)?;
        let server = absolute(&format!("ns.dns.{}", self.zone.domain))?;
        let mailbox = absolute(&format!("hostmaster.{}", self.zone.domain))?;
        let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86_400, self.ttl_seconds);
        Some(self.record(&origin, RData::SOA(soa)))
    }

    fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), self.ttl_seconds, data)
    }

    fn address_records(&self, name: &Name, addresses: &[IpAddr], kind: RecordType) -> Vec<Record> {
        let data = addresses.iter().filter_map(|address| match address {
            IpAddr::V4(v4) if matches!(kind, RecordType::A | RecordType::ANY) => Some(RData::A(A(*v4))),
            IpAddr::V6(v6) if matches!(kind, RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(AAAA(*v6))),
            _ => None,
        });
        data.map(|data| self.record(name, data)).collect()
    }

    /// The labels left of the cluster domain, in lower case; `None` outside of it.
    fn below_origin(&self, name: &Name) -> Option<Vec<String>> {
        let labels: Vec<_> = name.iter().map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
        let split = labels.len().checked_sub(self.origin.len())?;
        (labels[split..] == self.origin[..]).then(|| labels[..split].to_vec())
    }

    /// What the name with these labels has; `None` if there is no such name.
    fn node(&self, labels: &[&str]) -> Option<Node> {
        match labels {
            ["dns-version"] => Some(Node { text: Some(SCHEMA_VERSION), ..Node::default() }),
            ["svc" | "pod" | "dns"] | ["ns", "dns"] => Some(Node::default()),
            [namespace, "svc" | "pod"] => self.namespaces.contains(*namespace).then(Node::default),
            [address, _, "pod"] => Some(Node { addresses: vec![dashed_address(address)?], ..Node::default() }),
            [rest @ .., service, namespace, "svc"] => {
                let names = self.zone.services.get(&((*namespace).to_owned(), (*service).to_owned()))?;
                let name = format!("{service}.{namespace}.svc.{}", self.zone.domain);
                service_node(names, rest, &name)
            }
            _ => None,
        }
    }
}

fn found(answers: Vec<Record>, additionals: Vec<Record>) -> Answer {
    Answer::Found { answers, additionals }
}

/// What a name at or below a Service's has; `rest` are the labels left of the Service's name.
fn service_node(names: &ServiceNames, rest: &[&str], name: &str) -> Option<Node> {
    match (names, rest) {
        (ServiceNames::External { target }, []) => Some(Node { alias: Some(target.clone()), ..Node::default() }),
        (ServiceNames::External { .. }, _) => None,
        (ServiceNames::Cluster { addresses, .. }, []) => Some(Node { addresses: addresses.clone(), ..Node::default() }),
        (ServiceNames::Headless { endpoints }, []) => {
            let addresses: BTreeSet<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
            Some(Node { addresses: addresses.into_iter().collect(), ..Node::default() })
        }
        (ServiceNames::Cluster { addresses, ports }, rest) => {
            let services = ports_at(ports, rest)?;
            let services = services.into_iter().map(|port| (port, name.to_owned(), addresses.clone())).collect();
            Some(Node { services, ..Node::default() })
        }
        (ServiceNames::Headless { endpoints }, [host]) if !host.starts_with('_') => {
            let here = endpoints.iter().filter(|endpoint| host_of(endpoint) == *host);
            let addresses: Vec<_> = here.map(|endpoint| endpoint.address).collect();
            (!addresses.is_empty()).then(|| Node { addresses, ..Node::default() })
        }
        (ServiceNames::Headless { endpoints }, rest) => {
            let each = endpoints.iter().filter_map(|endpoint| Some((endpoint, ports_at(&endpoint.ports, rest)?)));
            let mut exists = false;
            let mut services = Vec::new();
            for (endpoint, ports) in each {
                exists = true;
                let target = format!("{}.{name}", host_of(endpoint));
                services.extend(ports.into_iter().map(|port| (port, target.clone(), vec![endpoint.address])));
            }
            exists.then(|| Node { services, ..Node::default() })
        }
    }
}

/// The ports at `_name._protocol`, or none at `_protocol`, above them. `None` if there is no such name.
fn ports_at(ports: &[(String, String, u16)], rest: &[&str]) -> Option<Vec<u16>> {
    let protocol_of = |label: &str| label.strip_prefix('_').map(str::to_owned);
    match rest {
        [protocol] => {
            let protocol = protocol_of(protocol)?;
            ports.iter().any(|(_, of, _)| *of == protocol).then(Vec::new)
        }
        [name, protocol] => {
            let (name, protocol) = (protocol_of(name)?, protocol_of(protocol)?);
            let found = ports.iter().filter(|(port, of, _)| *port == name && *of == protocol);
            let found: Vec<_> = found.map(|(_, _, number)| *number).collect();
            (!found.is_empty()).then_some(found)
        }
        _ => None,
    }
}

/// The label of an endpoint below its Service: its host name, or its address with dashes.
fn host_of(endpoint: &EndpointName) -> String {
    endpoint.hostname.clone().unwrap_or_else(|| endpoint.address.to_string().replace(['.', ':'], "-"))
}

/// `10-244-0-5`, or an IPv6 address with dashes for colons.
fn dashed_address(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The address that a name under `in-addr.arpa` or `ip6.arpa` stands for.
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let labels: Vec<_> = name.iter().map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
    match labels.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [d, c, b, a, "in-addr", "arpa"] => format!("{a}.{b}.{c}.{d}").parse().ok().map(IpAddr::V4),
        [ref nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let text: String = nibbles.iter().rev().copied().collect();
            (text.len() == 32)
                .then(|| u128::from_str_radix(&text, 16).ok())
                .flatten()
                .map(|n| Ipv6Addr::from_bits(n).into())
        }
        _ => None,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn zone() -> Zone {
        let port = |name: &str, number| (name.to_owned(), "tcp".to_owned(), number);
        let endpoint = |host: Option<&str>, last| EndpointName {
            hostname: host.map(str::to_owned),
            address: IpAddr::from([10, 244, 0, last]),
            ports: vec![port("peer", 2380)],
        };
        let services = [
            (
                "web",
                ServiceNames::Cluster {
                    addresses: vec!["10.96.0.10".parse().unwrap()],
                    ports: vec![port("http", 80), port("https", 443)],
                },
            ),
            (
                "dual",
                ServiceNames::Cluster {
                    addresses: vec!["10.96.0.11".parse().unwrap(), "fd00::11".parse().unwrap()],
                    ports: vec![],
                },
            ),
            ("db", ServiceNames::Headless { endpoints: vec![endpoint(Some("db-0"), 5), endpoint(None, 6)] }),
            ("empty", ServiceNames::Headless { endpoints: vec![] }),
            ("away", ServiceNames::External { target: "example.com".into() }),
            ("alias", ServiceNames::External { target: "web.default.svc.cluster.local".into() }),
            ("loop", ServiceNames::External { target: "loop.default.svc.cluster.local".into() }),
            ("dangling", ServiceNames::External { target: "none.default.svc.cluster.local".into() }),
        ];
        let services = services.into_iter().map(|(name, names)| (("default".to_owned(), name.to_owned()), names));
        Zone { domain: "cluster.local".into(), services: services.collect() }
    }

    fn ask(question: &str) -> String {
        let (name, kind) = question.split_once(' ').unwrap();
        let names = Names::new(Arc::new(zone()), 5);
        let text = |record: &Record| format!("{} {}", record.record_type(), record.data);
        let texts = |records: &[Record]| records.iter().map(text).collect::<Vec<_>>().join(", ");
        match names.answer(&absolute(name).unwrap(), kind.parse().unwrap()) {
            Answer::Found { answers, additionals } if additionals.is_empty() => texts(&answers),
            Answer::Found { answers, additionals } => format!("{}; {}", texts(&answers), texts(&additionals)),
            Answer::Alias { answers, target } => format!("{} -> {target}", texts(&answers)),
            Answer::NoData => "no data".into(),
            Answer::NoName => "no name".into(),
            Answer::Foreign => "foreign".into(),
        }
    }

    #[test]
    fn questions_have_these_answers() {
        for (question, expected) in [
            ("web.default.svc.cluster.local A", "A 10.96.0.10"),
            ("WEB.Default.svc.Cluster.Local A", "A 10.96.0.10"),
            ("web.default.svc.cluster.local AAAA", "no data"),
            ("web.default.svc.cluster.local TXT", "no data"),
            ("dual.default.svc.cluster.local AAAA", "AAAA fd00::11"),
            ("dual.default.svc.cluster.local ANY", "A 10.96.0.11, AAAA fd00::11"),
            ("none.default.svc.cluster.local A", "no name"),
            ("web.other.svc.cluster.local A", "no name"),
            ("x.web.default.svc.cluster.local A", "no name"),
            (
                "_http._tcp.web.default.svc.cluster.local SRV",
                "SRV 0 100 80 web.default.svc.cluster.local.; A 10.96.0.10",
            ),
            ("_http._tcp.web.default.svc.cluster.local A", "no data"),
            ("_tcp.web.default.svc.cluster.local SRV", "no data"),
            ("_http._udp.web.default.svc.cluster.local SRV", "no name"),
            ("_ftp._tcp.web.default.svc.cluster.local SRV", "no name"),
            ("db.default.svc.cluster.local A", "A 10.244.0.5, A 10.244.0.6"),
            ("db-0.db.default.svc.cluster.local A", "A 10.244.0.5"),
            ("10-244-0-6.db.default.svc.cluster.local A", "A 10.244.0.6"),
            ("10-244-0-5.db.default.svc.cluster.local A", "no name"),
            ("db-0.db.default.svc.cluster.local AAAA", "no data"),
            (
                "_peer._tcp.db.default.svc.cluster.local SRV",
                "SRV 0 100 2380 db-0.db.default.svc.cluster.local., \
                 SRV 0 100 2380 10-244-0-6.db.default.svc.cluster.local.; A 10.244.0.5, A 10.244.0.6",
            ),
            ("empty.default.svc.cluster.local A", "no data"),
            ("away.default.svc.cluster.local A", "CNAME example.com. -> example.com."),
            ("away.default.svc.cluster.local CNAME", "CNAME example.com."),
            ("alias.default.svc.cluster.local A", "CNAME web.default.svc.cluster.local., A 10.96.0.10"),
            ("dangling.default.svc.cluster.local A", "CNAME none.default.svc.cluster.local."),
            ("10-1-2-3.default.pod.cluster.local A", "A 10.1.2.3"),
            ("fd00--7.default.pod.cluster.local AAAA", "AAAA fd00::7"),
            ("10-1-2.default.pod.cluster.local A", "no name"),
            ("dns-version.cluster.local TXT", "TXT 1.1.0"),
            ("dns-version.cluster.local A", "no data"),
            ("cluster.local A", "no data"),
            ("cluster.local NS", "NS ns.dns.cluster.local."),
            ("svc.cluster.local A", "no data"),
            ("default.svc.cluster.local A", "no data"),
            ("other.svc.cluster.local A", "no name"),
            ("nonsense.cluster.local A", "no name"),
            ("10.0.96.10.in-addr.arpa PTR", "PTR web.default.svc.cluster.local."),
            ("10.0.96.10.in-addr.arpa A", "no data"),
            ("9.0.96.10.in-addr.arpa PTR", "foreign"),
            ("5.0.244.10.in-addr.arpa PTR", "PTR db-0.db.default.svc.cluster.local."),
            ("6.0.244.10.in-addr.arpa PTR", "foreign"),
            (
                "1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa PTR",
                "PTR dual.default.svc.cluster.local.",
            ),
            ("example.com A", "foreign"),
            ("cluster.local.example.com A", "foreign"),
            ("local A", "foreign"),
            (". NS", "foreign"),
        ] {
            assert_eq!(ask(question), expected, "{question}");
        }
    }

    #[test]
    fn an_alias_of_itself_ends() {
        let answer = ask("loop.default.svc.cluster.local A");
        assert_eq!(answer.matches("CNAME").count(), ALIASES_MAX);
    }

    proptest::proptest! {
        #[test]
        fn no_name_panics(labels in proptest::collection::vec("[ -~]{0,8}", 0..8), kind: u16) {
            let name = labels.iter().try_fold(Name::root(), |name, label| {
                name.prepend_label(label.as_bytes())
            });
            if let Ok(name) = name {
                let _ = Names::new(Arc::new(zone()), 5).answer(&name, RecordType::from(kind));
            }
        }
    }
}
