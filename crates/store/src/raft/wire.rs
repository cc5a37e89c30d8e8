//! What voters say to one another: a byte of version, a byte that says what is asked, the request.
//!
//! Entries go in the form of the log, but never sealed: the transport encrypts, and the receiver seals with its own keys.
//! Everything small is JSON.

use std::io;

use openraft::SnapshotMeta;
use openraft::raft::{AppendEntriesRequest, InstallSnapshotRequest, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::log::{put_batch, put_entry, read_batch, read_entry};
use super::types::{Batch, LogId, TypeConfig, Vote};
use crate::codec::{DecodeError, Reader, Sealed, put_bytes, put_u32};

/// Two versions that do not understand one another have different numbers.
const VERSION: u8 = 1;

const APPEND: u8 = 1;
const VOTE: u8 = 2;
const SNAPSHOT: u8 = 3;
const PROPOSE: u8 = 4;
const READ: u8 = 5;

/// A request that arrived.
#[derive(Debug)]
pub(crate) enum Request {
    /// The leader's entries.
    Append(AppendEntriesRequest<TypeConfig>),
    /// A candidate asks for a vote.
    Vote(VoteRequest<u64>),
    /// A piece of the leader's snapshot.
    Snapshot(InstallSnapshotRequest<TypeConfig>),
    /// A follower's transactions, for the leader.
    Propose(Batch),
    /// A follower asks the leader how far it must have applied to read what is newest.
    Read,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct AppendHead {
    vote: Vote,
    previous: Option<LogId>,
    committed: Option<LogId>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct SnapshotHead {
    vote: Vote,
    meta: SnapshotMeta<u64, openraft::BasicNode>,
    offset: u64,
    done: bool,
}

fn head(kind: u8) -> Vec<u8> {
    vec![VERSION, kind]
}

fn put_json(out: &mut Vec<u8>, value: &impl Serialize) {
    // Numbers, strings and lists of them: nothing in here that JSON could not say.
    put_bytes(out, &serde_json::to_vec(value).unwrap_or_default());
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

pub(crate) fn append(request: &AppendEntriesRequest<TypeConfig>) -> io::Result<Vec<u8>> {
    let mut out = head(APPEND);
    let (vote, previous, committed) = (request.vote, request.prev_log_id, request.leader_commit);
    put_json(&mut out, &AppendHead { vote, previous, committed });
    put_u32(&mut out, request.entries.len() as u32);
    request.entries.iter().try_for_each(|entry| put_entry(&mut out, entry, &None))?;
    Ok(out)
}

pub(crate) fn vote(request: &VoteRequest<u64>) -> Vec<u8> {
    let mut out = head(VOTE);
    put_json(&mut out, request);
    out
}

pub(crate) fn snapshot(request: &InstallSnapshotRequest<TypeConfig>) -> Vec<u8> {
    let mut out = head(SNAPSHOT);
    let InstallSnapshotRequest { vote, meta, offset, data, done } = request;
    put_json(&mut out, &SnapshotHead { vote: *vote, meta: meta.clone(), offset: *offset, done: *done });
    put_bytes(&mut out, data);
    out
}

pub(crate) fn propose(batch: &Batch) -> io::Result<Vec<u8>> {
    let mut out = head(PROPOSE);
    put_batch(&mut out, batch, &None)?;
    Ok(out)
}

pub(crate) fn read() -> Vec<u8> {
    head(READ)
}

/// Reads a request. The error is for the other side's log.
pub(crate) fn read_request(bytes: &[u8]) -> Result<Request, String> {
    let text = |error: DecodeError| error.to_string();
    let mut reader = Reader::new(bytes);
    let version = reader.u8().map_err(text)?;
    if version != VERSION {
        return Err(format!("version {version} of the protocol between servers; this server speaks {VERSION}"));
    }
    let kind = reader.u8().map_err(text)?;
    let request = match kind {
        APPEND => {
            let head: AppendHead = json(reader.bytes().map_err(text)?)?;
            let count = reader.u32().map_err(text)?;
            let entries = (0..count).map(|_| read_entry(&mut reader, Sealed::Leave)).collect::<Result<_, _>>();
            Request::Append(AppendEntriesRequest {
                vote: head.vote,
                prev_log_id: head.previous,
                leader_commit: head.committed,
                entries: entries.map_err(text)?,
            })
        }
        VOTE => Request::Vote(json(reader.bytes().map_err(text)?)?),
        SNAPSHOT => {
            let SnapshotHead { vote, meta, offset, done } = json(reader.bytes().map_err(text)?)?;
            let data = reader.bytes().map_err(text)?.to_vec();
            Request::Snapshot(InstallSnapshotRequest { vote, meta, offset, data, done })
        }
        PROPOSE => Request::Propose(read_batch(&mut reader, Sealed::Leave).map_err(text)?),
        READ => Request::Read,
        other => return Err(format!("unknown request {other}")),
    };
    if reader.is_empty() { Ok(request) } else { Err("more bytes than the request has".to_owned()) }
}

/// An answer: the version, then what came of it.
pub(crate) fn answer<R: Serialize, E: Serialize>(result: &Result<R, E>) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_json(&mut out, result);
    out
}

/// Reads an answer. The outer error means that it is none.
pub(crate) fn read_answer<R: DeserializeOwned, E: DeserializeOwned>(bytes: &[u8]) -> Result<Result<R, E>, String> {
    let mut reader = Reader::new(bytes);
    match reader.u8() {
        Ok(VERSION) => reader.bytes().map_err(|error| error.to_string()).and_then(json),
        Ok(other) => Err(format!("an answer of version {other}")),
        Err(_) => Err("an empty answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openraft::{EntryPayload, LeaderId, Membership};

    use super::super::types::{Entry, Origin};
    use super::*;
    use crate::{Txn, testing};

    fn entry(index: u64, payload: EntryPayload<TypeConfig>) -> Entry {
        Entry { log_id: LogId { leader_id: LeaderId::new(3, 9), index }, payload }
    }

    fn batch() -> Batch {
        let txns = vec![Txn::put("a", None, testing::object("x")), Txn::delete("b", None)];
        Batch { txns: Arc::new(txns), origin: Some(Origin { run: 7, number: 8 }) }
    }

    fn requests() -> Vec<Vec<u8>> {
        let vote = Vote::new_committed(3, 9);
        let members = Membership::new(vec![[1, 9].into()], None);
        let entries = vec![
            entry(4, EntryPayload::Blank),
            entry(5, EntryPayload::Normal(batch())),
            entry(6, EntryPayload::Membership(members)),
        ];
        let previous = Some(LogId { leader_id: LeaderId::new(3, 9), index: 3 });
        let append = AppendEntriesRequest { vote, prev_log_id: previous, leader_commit: None, entries };
        let meta = SnapshotMeta { last_log_id: previous, snapshot_id: "s".to_owned(), ..SnapshotMeta::default() };
        let piece = InstallSnapshotRequest { vote, meta, offset: 12, data: vec![1, 2, 3], done: false };
        vec![
            append_of(&append),
            super::vote(&VoteRequest::new(vote, previous)),
            snapshot(&piece),
            propose(&batch()).expect("encodes"),
            read(),
        ]
    }

    fn append_of(request: &AppendEntriesRequest<TypeConfig>) -> Vec<u8> {
        append(request).expect("encodes")
    }

    /// What was read, written again.
    fn again(request: &Request) -> Vec<u8> {
        match request {
            Request::Append(request) => append_of(request),
            Request::Vote(request) => super::vote(request),
            Request::Snapshot(request) => snapshot(request),
            Request::Propose(batch) => propose(batch).expect("encodes"),
            Request::Read => read(),
        }
    }

    #[test]
    fn requests_read_back_as_written() {
        for bytes in requests() {
            let request = read_request(&bytes).expect("decodes");
            assert_eq!(again(&request), bytes, "{request:?}");
        }
    }

    #[test]
    fn what_is_cut_or_of_another_version_is_refused() {
        for bytes in requests() {
            for cut in 0..bytes.len() {
                assert!(read_request(&bytes[..cut]).is_err(), "{cut} of {bytes:?}");
            }
            let newer = [&[VERSION + 1], &bytes[1..]].concat();
            assert!(read_request(&newer).expect_err("refused").contains("version 2"));
            assert!(read_request(&[&bytes[..], &[0]].concat()).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(kind in 0_u8..8, bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = read_request(&[&[VERSION, kind], &bytes[..]].concat());
            let _ = read_answer::<u64, String>(&bytes);
        }
    }
}
