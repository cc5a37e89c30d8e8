//! Answers from upstream, remembered for a short time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{LowerName, RecordType};

/// However long an answer may be kept, we ask again after this: what runs in a cluster changes often.
const TTL_MAX: Duration = Duration::from_secs(30);
/// "No" is believed for less: what is missing may be just starting.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(5);
/// Bounds memory: an answer has at most some kilobytes.
const ENTRIES_MAX: usize = 10_000;

/// What was asked: name, type, and whether signatures were wanted.
pub type Key = (LowerName, RecordType, bool);

/// The key of a question.
pub fn key(query: &Query, signatures: bool) -> Key {
    (LowerName::new(query.name()), query.query_type(), signatures)
}

/// Remembered answers. The time is passed in.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    stored: Instant,
    until: Instant,
}

impl Cache {
    /// The answer, with what is left of its records' time.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Message> {
        let entry = self.entries.get(key).filter(|entry| now < entry.until)?;
        let age = now.saturating_duration_since(entry.stored).as_secs() as u32;
        let mut message = entry.message.clone();
        let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(message)
    }

    /// Remembers an answer, if it is one to remember.
    pub fn put(&mut self, key: Key, message: &Message, now: Instant) {
        let Some(ttl) = ttl_of(message).filter(|ttl| !ttl.is_zero()) else {
            return;
        };
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&key) {
            self.entries.retain(|_, entry| now < entry.until);
            if self.entries.len() >= ENTRIES_MAX {
                // All are fresh: somebody asks for very many names. Any half serves as well as another.
                let mut keep = false;
                self.entries.retain(|_, _| {
                    keep = !keep;
                    keep
                });
            }
        }
        self.entries.insert(key, Entry { message: message.clone(), stored: now, until: now + ttl });
    }
}

/// How long an answer may be kept; `None` for failures and for what is cut short.
fn ttl_of(message: &Message) -> Option<Duration> {
    let least = |records: &[hickory_proto::rr::Record]| records.iter().map(|record| record.ttl).min();
    let seconds = |ttl: u32| Duration::from_secs(ttl.into());
    match message.metadata.response_code {
        _ if message.metadata.truncation => None,
        ResponseCode::NoError if !message.answers.is_empty() => Some(seconds(least(&message.answers)?).min(TTL_MAX)),
        // Without a SOA record nothing says how long (RFC 2308).
        ResponseCode::NoError | ResponseCode::NXDomain => {
            Some(seconds(least(&message.authorities)?).min(NEGATIVE_TTL_MAX))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record};

    use super::*;

    fn answer(ttl: u32, code: ResponseCode, answers: bool) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.response_code = code;
        let record = Record::from_rdata(Name::root(), ttl, RData::A(A::new(10, 0, 0, 1)));
        if answers {
            message.add_answer(record);
        } else {
            message.add_authority(record);
        }
        message
    }

    #[test]
    fn answers_are_kept_so_long() {
        for (ttl, code, answers, kept_seconds) in [
            (10, ResponseCode::NoError, true, 10),
            (3600, ResponseCode::NoError, true, 30),
            (0, ResponseCode::NoError, true, 0),
            (3600, ResponseCode::NXDomain, false, 5),
            (3600, ResponseCode::NoError, false, 5),
            (3600, ResponseCode::ServFail, true, 0),
        ] {
            let mut cache = Cache::default();
            let key = key(&Query::query(Name::root(), RecordType::A), false);
            let start = Instant::now();
            cache.put(key.clone(), &answer(ttl, code, answers), start);
            let kept = (0..100).take_while(|s| cache.get(&key, start + Duration::from_secs(*s)).is_some()).count();
            assert_eq!(kept, kept_seconds, "{ttl} {code}");
            if kept > 4 {
                let later = cache.get(&key, start + Duration::from_secs(4)).unwrap();
                let record = later.answers.first().or(later.authorities.first()).unwrap();
                assert_eq!(record.ttl, ttl - 4, "time runs on");
            }
        }
    }

    #[test]
    fn it_does_not_grow_beyond_its_bound() {
        let mut cache = Cache::default();
        let now = Instant::now();
        for number in 0..ENTRIES_MAX + 50 {
            let name = Name::from_ascii(format!("n{number}.")).unwrap();
            cache.put(key(&Query::query(name, RecordType::A), false), &answer(10, ResponseCode::NoError, true), now);
        }
        assert!(cache.entries.len() <= ENTRIES_MAX);
        assert!(cache.entries.len() > ENTRIES_MAX / 3);
    }
}
