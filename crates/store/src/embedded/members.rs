//! The other servers: who they are, what they ask, and reading what is newest wherever it was written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};
use serde::Serialize;
use tokio::sync::oneshot;

use super::batcher::Ask;
use super::route::{Leader, leader};
use super::{Embedded, closed};
use crate::raft::log::Others;
use crate::raft::wire::{self, Request};
use crate::{CommitError, Member, MemberError};

/// A read that cannot be confirmed within this time is refused.
const READ: Duration = Duration::from_secs(5);
/// Between two attempts to confirm a read.
const RETRY: Duration = Duration::from_millis(20);

impl Embedded {
    /// This server's number.
    pub fn id(&self) -> u64 {
        self.identity.id
    }

    /// All members, as far as this server knows.
    pub fn members(&self) -> Vec<Member> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let member =
            |(id, node): (&u64, &BasicNode)| Member { id: *id, address: node.addr.clone(), votes: voters.contains(id) };
        membership.nodes().map(member).collect()
    }

    /// Who leads, as far as this server knows.
    pub fn leader(&self) -> Option<u64> {
        self.raft.metrics().borrow().current_leader
    }

    /// Adds a server, or tells of the new address of one that is known, and waits until it has everything. It has no vote
    /// before [`Embedded::promote`].
    pub async fn add(&self, id: u64, address: &str) -> Result<(), MemberError> {
        self.must_lead()?;
        let (answer, answered) = oneshot::channel();
        let failed = |reason: &str| MemberError::Failed { reason: reason.to_owned() };
        self.asks.send(Ask::Keep(answer)).await.map_err(|_| failed("the store is shutting down"))?;
        if !answered.await.unwrap_or(false) {
            return Err(failed("the log could not be prepared for others; see the log of this server"));
        }
        self.tick();
        let node = BasicNode::new(address);
        if self.members().iter().any(|member| member.id == id) {
            self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, node)]))).await
        } else {
            self.raft.add_learner(id, node, true).await.map(drop).map_err(|error| self.refused(&error))
        }
    }

    /// Gives a server that was added a vote.
    pub async fn promote(&self, id: u64) -> Result<(), MemberError> {
        self.must_lead()?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// Takes away a server's vote, if it has one, and then the server.
    pub async fn remove(&self, id: u64) -> Result<(), MemberError> {
        self.must_lead()?;
        let members = self.members();
        if members.iter().any(|member| member.id == id && member.votes) {
            if members.iter().filter(|member| member.votes).count() == 1 {
                return Err(MemberError::Last { id });
            }
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await?;
        }
        if self.members().iter().any(|member| member.id == id) && id != self.id() {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await?;
        }
        Ok(())
    }

    async fn change(&self, change: ChangeMembers<u64, BasicNode>) -> Result<(), MemberError> {
        self.raft.change_membership(change, true).await.map(drop).map_err(|error| self.refused(&error))
    }

    fn refused(&self, error: &RaftError<u64, ClientWriteError<u64, BasicNode>>) -> MemberError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
                MemberError::NotLeader { leader: self.leader_at() }
            }
            error => MemberError::Failed { reason: error.to_string() },
        }
    }

    fn must_lead(&self) -> Result<(), MemberError> {
        match leader(&self.raft, self.id()) {
            Leader::Me => Ok(()),
            _ => Err(MemberError::NotLeader { leader: self.leader_at() }),
        }
    }

    fn leader_at(&self) -> Option<String> {
        match leader(&self.raft, self.id()) {
            Leader::At(address) => Some(address),
            Leader::Me | Leader::Unknown => None,
        }
    }

    /// Clocks are needed as soon as there are others.
    pub(super) fn tick(&self) {
        self.raft.runtime_config().tick(true);
    }

    pub(super) async fn respond(&self, request: Bytes) -> Bytes {
        let answer = match wire::read_request(&request) {
            Ok(request) => self.carry_out(request).await,
            Err(reason) => {
                tracing::warn!(reason, "a request of another server cannot be understood");
                Vec::new()
            }
        };
        Bytes::from(answer)
    }

    async fn carry_out(&self, request: Request) -> Vec<u8> {
        match request {
            Request::Append(request) => wire::answer(&self.raft.append_entries(request).await),
            Request::Vote(request) => wire::answer(&self.raft.vote(request).await),
            Request::Snapshot(request) => wire::answer(&self.raft.install_snapshot(request).await),
            Request::Propose(batch) => in_words(self.raft.client_write(batch).await.map(drop)),
            Request::Read => in_words(self.raft.get_read_log_id().await.map(|(index, _)| index)),
        }
    }

    /// Whether anybody else acknowledges commits.
    pub(super) fn has_others(&self) -> bool {
        self.log.others() != Others::None
    }

    /// A round between the servers: the leader says how far it had committed, and this server waits until it has that.
    pub(super) async fn confirm(&self) -> Result<(), CommitError> {
        let mut last = String::new();
        let confirmed = tokio::time::timeout(READ, async {
            loop {
                match self.read_index().await {
                    Ok(index) => break index,
                    Err(reason) => last = reason,
                }
                tokio::time::sleep(RETRY).await;
            }
        });
        let Ok(index) = confirmed.await else { return Err(CommitError::Unavailable { reason: last }) };
        let applied = self.raft.wait(Some(READ)).applied_index_at_least(index, "what was read elsewhere").await;
        applied.map(drop).map_err(|_| closed())
    }

    async fn read_index(&self) -> Result<Option<u64>, String> {
        match leader(&self.raft, self.id()) {
            Leader::Me => {
                let read = self.raft.get_read_log_id().await.map_err(|error| error.to_string())?;
                Ok(read.0.map(|id| id.index))
            }
            Leader::At(address) => {
                let asked = self.identity.peers.call(&address, Bytes::from(wire::read())).await;
                let answer = asked.map_err(|error| error.to_string())?;
                let id: Option<crate::raft::types::LogId> = wire::read_answer::<_, String>(&answer)??;
                Ok(id.map(|id| id.index))
            }
            Leader::Unknown => Err("no server leads".to_owned()),
        }
    }
}

/// An answer whose error is for people.
fn in_words<R: Serialize, E: std::fmt::Display>(result: Result<R, E>) -> Vec<u8> {
    wire::answer(&result.map_err(|error| error.to_string()))
}
