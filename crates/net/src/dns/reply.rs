//! From the bytes of a request to the bytes of a reply.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};

use super::names::{Answer, Names};

/// What a client without EDNS takes (RFC 1035).
const PLAIN_BYTES_MAX: usize = 512;
/// What we send at most, whatever the client offers: it passes networks unfragmented (DNS flag day 2020).
pub const EDNS_BYTES_MAX: u16 = 1232;
/// What TCP's length field allows.
const TCP_BYTES_MAX: usize = 65_535;
/// A header is this long; what is shorter has no id to answer to.
const HEADER_LEN: usize = 12;

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: replies are short.
    Udp,
    /// By a connection.
    Tcp,
}

/// A well-formed request: one question.
#[derive(Debug, Clone)]
pub struct Request {
    message: Message,
    query: Query,
    transport: Transport,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Step {
    /// Send this.
    Send(Vec<u8>),
    /// Ask upstream, then send what [`Request::forwarded`] makes of the answer.
    Forward {
        /// The request.
        request: Box<Request>,
        /// What upstream is asked.
        query: Query,
        /// What is known already: the way to that name.
        aliases: Vec<Record>,
    },
    /// It deserves no reply.
    Ignore,
}

/// Decides about a request. `names` is `None` as long as the zone is not known.
pub fn step(
    bytes: &[u8],
    transport: Transport,
    names: Option<&Names>,
    domain_is_ours: impl Fn(&Query) -> bool,
) -> Step {
    let message = match Message::from_vec(bytes) {
        Ok(message) => message,
        Err(_) => return malformed(bytes),
    };
    // Replying to replies would let two servers talk forever.
    if message.metadata.message_type == MessageType::Response {
        return Step::Ignore;
    }
    let query = match &message.queries[..] {
        [query] => query.clone(),
        _ => return malformed(bytes),
    };
    let request = Request { message, query, transport };
    if request.message.metadata.op_code != OpCode::Query {
        return request.refuse(ResponseCode::NotImp);
    }
    if request.query.query_class() != DNSClass::IN {
        return request.refuse(ResponseCode::Refused);
    }
    match names {
        Some(names) => request.answer(names),
        None if domain_is_ours(&request.query) => request.refuse(ResponseCode::ServFail),
        None => request.forward(Vec::new(), None),
    }
}

/// An answer that says "not a proper message", if there is an id to answer to and it is no reply.
fn malformed(bytes: &[u8]) -> Step {
    let is_request = bytes.len() >= HEADER_LEN && bytes[2] & 0x80 == 0;
    if !is_request {
        return Step::Ignore;
    }
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    reply.to_vec().map_or(Step::Ignore, Step::Send)
}

impl Request {
    fn answer(self, names: &Names) -> Step {
        let mut reply = self.reply(ResponseCode::NoError);
        reply.metadata.authoritative = true;
        match names.answer(self.query.name(), self.query.query_type()) {
            Answer::Foreign => return self.forward(Vec::new(), None),
            Answer::Alias { answers, target } => {
                let query = Query::query(target, self.query.query_type());
                return self.forward(answers, Some(query));
            }
            Answer::Found { mut answers, additionals } => {
                // Those who take the first of several endpoints shall not all take the same. Aliases stay in front.
                let aliases = answers.iter().take_while(|r| r.record_type() == hickory_proto::rr::RecordType::CNAME);
                let (start, len) = (aliases.count(), answers.len());
                if len > start {
                    answers[start..].rotate_left(usize::from(self.message.metadata.id) % (len - start));
                }
                reply.add_answers(answers);
                reply.add_additionals(additionals);
            }
            Answer::NoData => {
                reply.add_authorities(names.authority());
            }
            Answer::NoName => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.add_authorities(names.authority());
            }
        }
        self.send(reply)
    }

    fn forward(self, aliases: Vec<Record>, query: Option<Query>) -> Step {
        let query = query.unwrap_or_else(|| self.query.clone());
        Step::Forward { request: Box::new(self), query, aliases }
    }

    /// What upstream said, as a reply to this request; without an answer, a failure.
    pub fn forwarded(&self, aliases: Vec<Record>, upstream: Option<Message>) -> Step {
        let Some(upstream) = upstream else {
            return self.failed(aliases, ResponseCode::ServFail);
        };
        let mut reply = self.reply(upstream.metadata.response_code);
        reply.metadata.authentic_data = upstream.metadata.authentic_data && aliases.is_empty();
        reply.add_answers(aliases);
        reply.add_answers(upstream.answers);
        reply.add_authorities(upstream.authorities);
        reply.add_additionals(upstream.additionals);
        self.send(reply)
    }

    /// There is nobody to ask.
    pub fn failed(&self, aliases: Vec<Record>, code: ResponseCode) -> Step {
        // The alias itself is right, whatever is behind it.
        let mut reply = self.reply(if aliases.is_empty() { code } else { ResponseCode::NoError });
        reply.add_answers(aliases);
        self.send(reply)
    }

    /// Whether the client wants signatures, which are then asked for upstream.
    pub fn wants_signatures(&self) -> bool {
        self.message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok)
    }

    fn refuse(&self, code: ResponseCode) -> Step {
        self.send(self.reply(code))
    }

    fn reply(&self, code: ResponseCode) -> Message {
        let mut reply = Message::response(self.message.metadata.id, self.message.metadata.op_code);
        reply.metadata.recursion_desired = self.message.metadata.recursion_desired;
        reply.metadata.checking_disabled = self.message.metadata.checking_disabled;
        reply.metadata.recursion_available = true;
        reply.metadata.response_code = code;
        reply.add_query(self.query.clone());
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(EDNS_BYTES_MAX);
            edns.set_dnssec_ok(self.wants_signatures());
            reply.set_edns(edns);
        }
        reply
    }

    fn bytes_max(&self) -> usize {
        match (self.transport, &self.message.edns) {
            (Transport::Tcp, _) => TCP_BYTES_MAX,
            (Transport::Udp, None) => PLAIN_BYTES_MAX,
            (Transport::Udp, Some(edns)) => usize::from(edns.max_payload().min(EDNS_BYTES_MAX)).max(PLAIN_BYTES_MAX),
        }
    }

    fn send(&self, reply: Message) -> Step {
        fit(reply, self.bytes_max()).map_or(Step::Ignore, Step::Send)
    }
}

/// The message in at most so many bytes: extras go first, then answers from the end, which is told.
fn fit(mut reply: Message, bytes_max: usize) -> Option<Vec<u8>> {
    let fits = |reply: &Message| reply.to_vec().ok().filter(|bytes| bytes.len() <= bytes_max);
    if let Some(bytes) = fits(&reply) {
        return Some(bytes);
    }
    reply.additionals.clear();
    if let Some(bytes) = fits(&reply) {
        return Some(bytes);
    }
    reply.metadata.truncation = true;
    reply.authorities.clear();
    let answers = std::mem::take(&mut reply.answers);
    // Searched, not computed: names are compressed, so records differ in length.
    let (mut fitting, mut too_many) = (0, answers.len() + 1);
    let mut best = fits(&reply);
    while fitting + 1 < too_many {
        let middle = usize::midpoint(fitting, too_many);
        reply.answers = answers[..middle].to_vec();
        match fits(&reply) {
            Some(bytes) => (fitting, best) = (middle, Some(bytes)),
            None => too_many = middle,
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hickory_proto::rr::{Name, RecordType};

    use super::super::names::tests::zone;
    use super::super::zone::{EndpointName, ServiceNames};
    use super::*;

    fn request(name: &str, edns: Option<u16>) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        if let Some(size) = edns {
            message.set_edns(Edns::new().set_max_payload(size).clone());
        }
        message
    }

    fn names(endpoints: u8) -> Names {
        let mut zone = zone();
        let endpoints = (0..endpoints).map(|n| EndpointName {
            hostname: None,
            address: std::net::IpAddr::from([10, 244, 1, n]),
            ports: vec![],
        });
        let headless = ServiceNames::Headless { endpoints: endpoints.collect() };
        zone.services.insert(("default".into(), "many".into()), headless);
        Names::new(Arc::new(zone), 5)
    }

    fn sent(request: &Message, transport: Transport, names: &Names) -> (Message, usize) {
        match step(&request.to_vec().unwrap(), transport, Some(names), |_| true) {
            Step::Send(bytes) => (Message::from_vec(&bytes).unwrap(), bytes.len()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn replies_fit_what_the_client_takes() {
        let names = names(200);
        for (edns, transport, bytes_max, complete) in [
            (None, Transport::Udp, 512, false),
            (Some(4096), Transport::Udp, 1232, false),
            (Some(100), Transport::Udp, 512, false),
            (None, Transport::Tcp, 65_535, true),
        ] {
            let request = request("many.default.svc.cluster.local.", edns);
            let (reply, bytes) = sent(&request, transport, &names);
            assert!(bytes <= bytes_max, "{bytes} bytes of {bytes_max}");
            assert_eq!(reply.metadata.truncation, !complete);
            assert_eq!(reply.answers.len() == 200, complete);
            assert!(reply.answers.len() > 20, "as much as fits: {} in {bytes}", reply.answers.len());
            assert_eq!(reply.edns.is_some(), edns.is_some());
            assert_eq!((reply.metadata.id, &reply.queries), (request.metadata.id, &request.queries));
        }
    }

    #[test]
    fn no_comes_with_its_authority() {
        let names = names(0);
        for (name, code) in
            [("none.default.svc.cluster.local.", ResponseCode::NXDomain), ("svc.cluster.local.", ResponseCode::NoError)]
        {
            let (reply, _) = sent(&request(name, None), Transport::Udp, &names);
            assert_eq!(reply.metadata.response_code, code);
            assert_eq!(reply.authorities.len(), 1);
            assert!(reply.answers.is_empty() && reply.metadata.authoritative);
        }
    }

    #[test]
    fn improper_requests_are_refused_or_ignored() {
        let names = names(0);
        let code = |bytes: &[u8]| match step(bytes, Transport::Udp, Some(&names), |_| true) {
            Step::Send(bytes) => Some(Message::from_vec(&bytes).unwrap().metadata.response_code),
            Step::Ignore => None,
            Step::Forward { .. } => panic!("forwarded"),
        };
        let valid = request("web.default.svc.cluster.local.", None);
        let changed = |change: fn(&mut Message)| {
            let mut message = valid.clone();
            change(&mut message);
            message.to_vec().unwrap()
        };
        assert_eq!(code(b"short"), None);
        assert_eq!(code(&[0; 12]), Some(ResponseCode::FormErr), "no question");
        assert_eq!(code(&valid.to_vec().unwrap()[..20]), Some(ResponseCode::FormErr), "cut");
        assert_eq!(code(&changed(|m| m.metadata.message_type = MessageType::Response)), None);
        assert_eq!(code(&changed(|m| m.metadata.op_code = OpCode::Update)), Some(ResponseCode::NotImp));
        let chaos = changed(|m| {
            m.queries[0].set_query_class(DNSClass::CH);
        });
        assert_eq!(code(&chaos), Some(ResponseCode::Refused));
        let two = changed(|m| m.queries.push(m.queries[0].clone()));
        assert_eq!(code(&two), Some(ResponseCode::FormErr));
    }

    #[test]
    fn before_the_zone_is_known_its_names_fail_for_now() {
        let bytes = request("web.default.svc.cluster.local.", None).to_vec().unwrap();
        let Step::Send(reply) = step(&bytes, Transport::Udp, None, |_| true) else { panic!() };
        assert_eq!(Message::from_vec(&reply).unwrap().metadata.response_code, ResponseCode::ServFail);
        assert!(matches!(step(&bytes, Transport::Udp, None, |_| false), Step::Forward { .. }));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, cut in 0usize..60, flip in 0usize..400) {
            let names = names(3);
            let _ = step(&bytes, Transport::Udp, Some(&names), |_| true);
            let mut damaged = request("web.default.svc.cluster.local.", Some(1232)).to_vec().unwrap();
            let at = flip % (damaged.len() * 8);
            damaged[at / 8] ^= 1 << (at % 8);
            damaged.truncate(cut.max(1));
            let _ = step(&damaged, Transport::Tcp, Some(&names), |_| true);
        }
    }
}
