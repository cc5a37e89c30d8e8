//! A plan's writes as requests.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::Method;
use mizzen_api::kinds::kinds;
use mizzen_client::{Client, ClientError, Request};
use serde_json::{Value, json};

use crate::plan::{Target, Write};

/// Writes of one plan on their way at a time.
const PARALLEL: usize = 64;

/// Sends all writes; the first error is returned when all have been answered.
pub(super) async fn all(client: &Client, writes: Vec<Write>) -> Result<(), SendError> {
    let mut answers =
        stream::iter(writes.into_iter().map(|write| one(client.clone(), write))).buffer_unordered(PARALLEL);
    let mut first = Ok(());
    while let Some(answer) = answers.next().await {
        if first.is_ok() {
            first = answer;
        }
    }
    first
}

/// Why a write was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// The API refused it or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The object is of a kind that is not served.
    #[error("{api_version} {kind} is not served")]
    UnknownKind { api_version: String, kind: String },
}

impl SendError {
    /// Someone else was faster: looking again will tell.
    pub fn is_race(&self) -> bool {
        matches!(self, SendError::Client(error) if error.code() == Some(409))
    }

    /// The namespace is being deleted: what is missing there is no longer wanted.
    pub fn is_too_late(&self) -> bool {
        let ending = |message: &str| message.ends_with("because it is being terminated");
        matches!(self, SendError::Client(ClientError::Status { code: 403, message, .. }) if ending(message))
    }

    /// The words of a create that was refused for good reason (quota, admission, validation).
    pub fn refused_create(&self) -> Option<String> {
        match self {
            SendError::Client(ClientError::Status { method, code: 400 | 403 | 422, message, .. })
                if *method == Method::POST =>
            {
                Some(message.clone())
            }
            _ => None,
        }
    }
}

async fn one(client: Client, write: Write) -> Result<(), SendError> {
    let (request, missing_is_fine) = request(write)?;
    let (method, path) = (request.method.clone(), request.path.clone());
    let answer = client.api().send(request).await?;
    if answer.code < 400 || (missing_is_fine && answer.code == 404) {
        return Ok(());
    }
    let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_string();
    Err(ClientError::Status { method, path, code: answer.code, reason: text("reason"), message: text("message") }
        .into())
}

fn request(write: Write) -> Result<(Request, bool), SendError> {
    Ok(match write {
        Write::Create { object } => {
            let mut target = target_of(&object)?;
            target.name.clear();
            (build(Method::POST, target.path(), "application/json", &object)?, false)
        }
        Write::Replace { object, subresource } => {
            let path = with_subresource(target_of(&object)?.path(), subresource);
            (build(Method::PUT, path, "application/json", &object)?, true)
        }
        Write::Merge { target, subresource, patch } => {
            let path = with_subresource(target.path(), subresource);
            (build(Method::PATCH, path, "application/merge-patch+json", &patch)?, true)
        }
        Write::Delete { target, uid, resource_version, propagation, grace_seconds } => {
            let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}});
            if let Some(version) = resource_version {
                options["preconditions"]["resourceVersion"] = version.into();
            }
            if let Some(policy) = propagation {
                options["propagationPolicy"] = policy.into();
            }
            if let Some(seconds) = grace_seconds {
                options["gracePeriodSeconds"] = seconds.into();
            }
            (build(Method::DELETE, target.path(), "application/json", &options)?, true)
        }
        Write::DeleteCollection { target } => {
            let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
            (build(Method::DELETE, target.path(), "application/json", &options)?, true)
        }
    })
}

fn with_subresource(mut path: String, subresource: &str) -> String {
    if !subresource.is_empty() {
        path.push('/');
        path.push_str(subresource);
    }
    path
}

fn build(method: Method, path: String, content_type: &'static str, body: &Value) -> Result<Request, SendError> {
    let bytes =
        serde_json::to_vec(body).map_err(|e| ClientError::Decode { path: path.clone(), source: Arc::new(e) })?;
    Ok(Request { method, path, query: Vec::new(), content_type, body: Bytes::from(bytes) })
}

fn target_of(object: &Value) -> Result<Target, SendError> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let Some(found) = kinds().by_kind(group, version, &kind) else {
        return Err(SendError::UnknownKind { api_version, kind });
    };
    let metadata = &object["metadata"];
    Ok(Target {
        group: group.into(),
        version: version.into(),
        plural: found.plural.to_string(),
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"]),
    })
}
