//! openraft's way to the other voters, over [`Peers`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{BasicNode, RaftNetwork, RaftNetworkFactory};
use serde::de::DeserializeOwned;

use super::types::TypeConfig;
use super::wire;
use crate::{PeerError, Peers};

type RpcError<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

/// Makes the links to the others.
#[derive(Debug, Clone)]
pub(crate) struct Network(pub(crate) Arc<dyn Peers>);

/// The link to one other voter.
#[derive(Debug)]
pub(crate) struct Link {
    peers: Arc<dyn Peers>,
    id: u64,
    address: String,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, id: u64, node: &BasicNode) -> Link {
        Link { peers: Arc::clone(&self.0), id, address: node.addr.clone() }
    }
}

impl Link {
    /// One request. An answer that does not come in time is as good as none.
    async fn ask<R, E>(&self, request: Vec<u8>, within: Duration) -> Result<R, RpcError<E>>
    where
        R: DeserializeOwned,
        E: std::error::Error + DeserializeOwned,
    {
        let late = || PeerError::Unreachable {
            address: self.address.clone(),
            reason: format!("no answer within {} ms", within.as_millis()),
        };
        let asked = tokio::time::timeout(within, self.peers.call(&self.address, Bytes::from(request)));
        let answer = match asked.await.unwrap_or_else(|_| Err(late())) {
            Ok(answer) => answer,
            Err(error) => return Err(Unreachable::new(&error).into()),
        };
        match wire::read_answer::<R, RaftError<u64, E>>(&answer) {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(RemoteError::new(self.id, error).into()),
            Err(reason) => {
                let error = PeerError::Protocol { address: self.address.clone(), reason };
                Err(NetworkError::new(&error).into())
            }
        }
    }
}

impl RaftNetwork<TypeConfig> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        let request = match wire::append(&request) {
            Ok(request) => request,
            Err(error) => return Err(NetworkError::new(&error).into()),
        };
        self.ask(request, option.hard_ttl()).await
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RpcError<InstallSnapshotError>> {
        self.ask(wire::snapshot(&request), option.hard_ttl()).await
    }

    async fn vote(&mut self, request: VoteRequest<u64>, option: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
        self.ask(wire::vote(&request), option.hard_ttl()).await
    }
}
