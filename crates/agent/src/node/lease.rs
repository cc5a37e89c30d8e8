//! The node's Lease: the sign of life that controllers wait for.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use mizzen_client::{Client, ClientError, Patch};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-node-lease";
/// How long the node counts as alive after a sign, seconds.
const DURATION: i32 = 40;
/// Wait before a failed renewal is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Renews the Lease of a node until `shutdown`.
pub async fn run(client: Client, node: String, node_uid: String, interval: Duration, shutdown: CancellationToken) {
    loop {
        let wait = match renew(&client, &node, &node_uid).await {
            Ok(()) => interval,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "lease not renewed; trying again");
                RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn renew(client: &Client, node: &str, node_uid: &str) -> Result<(), ClientError> {
    let now = MicroTime(Timestamp::now());
    let patch =
        Patch::Merge(json!({"spec": {"renewTime": now, "holderIdentity": node, "leaseDurationSeconds": DURATION}}));
    match client.patch::<Lease>(NAMESPACE, node, "", &patch).await {
        Err(error) if error.code() == Some(404) => {}
        other => return other.map(drop),
    }
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(node.into()),
            namespace: Some(NAMESPACE.into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: node.into(),
                uid: node_uid.into(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.into()),
            lease_duration_seconds: Some(DURATION),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    client.create(&lease).await.map(drop)
}
