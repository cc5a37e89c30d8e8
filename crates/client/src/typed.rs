//! Typed requests over any [`Api`].

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use k8s_openapi::{Metadata, Resource, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{Api, ClientError, Request, Response};

/// The URL path of a kind's collection, or of one object if `name` is not empty, followed by the sub-resource if any.
///
/// `namespace` is empty for cluster-scoped kinds and for collections over all namespaces.
pub fn path<K: Resource>(namespace: &str, name: &str, subresource: &str) -> String {
    let mut path =
        if K::GROUP.is_empty() { format!("/api/{}", K::VERSION) } else { format!("/apis/{}/{}", K::GROUP, K::VERSION) };
    if !namespace.is_empty() {
        path.push_str("/namespaces/");
        path.push_str(namespace);
    }
    for part in [K::URL_PATH_SEGMENT, name, subresource] {
        if !part.is_empty() {
            path.push('/');
            path.push_str(part);
        }
    }
    path
}

/// A change to part of an object.
#[derive(Debug, Clone)]
pub enum Patch {
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes' strategic merge.
    Strategic(Value),
    /// RFC 6902.
    Json(Value),
    /// Server-side apply under this field manager, forced or not.
    Apply {
        /// The fields to own.
        object: Value,
        /// Who owns them.
        manager: String,
        /// Takes fields from other managers.
        force: bool,
    },
}

/// How to delete.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Seconds; `None` leaves it to the object.
    pub grace_seconds: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`.
    pub propagation: Option<&'static str>,
    /// Only this incarnation.
    pub uid: Option<String>,
    /// Only this revision.
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    fn body(&self) -> Value {
        let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(seconds) = self.grace_seconds {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = self.propagation {
            body["propagationPolicy"] = policy.into();
        }
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &self.resource_version {
            body["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        body
    }
}

/// Typed requests under one identity.
#[derive(Clone)]
pub struct Client {
    api: Arc<dyn Api>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Requests through `api`.
    pub fn new(api: Arc<dyn Api>) -> Self {
        Self { api }
    }

    /// The way the requests go.
    pub fn api(&self) -> &Arc<dyn Api> {
        &self.api
    }

    /// Sends any request with a JSON body; an error `Status` becomes [`ClientError::Status`].
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Response, ClientError> {
        let body = body.map(|b| encode(path, b)).transpose()?.unwrap_or_default();
        self.checked(request(method, path.to_string(), query, "application/json", body)).await
    }

    /// One object, `None` if it does not exist.
    pub async fn get<K: Resource + DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, ClientError> {
        let request = request(Method::GET, path::<K>(namespace, name, ""), &[], "", Bytes::new());
        let path = request.path.clone();
        match self.checked(request).await {
            Ok(answer) => decode(&path, &answer.body).map(Some),
            Err(ClientError::Status { code: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects of a namespace (all namespaces if empty) that match the selectors (empty: all).
    pub async fn list<K: Resource + DeserializeOwned>(
        &self,
        namespace: &str,
        label_selector: &str,
        field_selector: &str,
    ) -> Result<Vec<K>, ClientError> {
        #[derive(serde::Deserialize)]
        struct List {
            items: Vec<Value>,
        }
        let mut query = Vec::new();
        for (name, value) in [("labelSelector", label_selector), ("fieldSelector", field_selector)] {
            if !value.is_empty() {
                query.push((name, value));
            }
        }
        let path = path::<K>(namespace, "", "");
        let answer = self.checked(request(Method::GET, path.clone(), &query, "", Bytes::new())).await?;
        let list: List = decode(&path, &answer.body)?;
        list.items.into_iter().map(|item| typed_item::<K>(&path, item)).collect()
    }

    /// Creates; the object as stored.
    pub async fn create<K>(&self, object: &K) -> Result<K, ClientError>
    where
        K: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned,
    {
        let namespace = object.metadata().namespace.clone().unwrap_or_default();
        self.write(Method::POST, path::<K>(&namespace, "", ""), object).await
    }

    /// Creates through a sub-resource (`binding`, `eviction`, `token`); the answer as sent.
    pub async fn create_in<K: Resource>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &Value,
    ) -> Result<Value, ClientError> {
        let path = path::<K>(namespace, name, subresource);
        let answer = self.call(Method::POST, &path, &[], Some(body)).await?;
        decode(&path, &answer.body)
    }

    /// Replaces the object, or its sub-resource if one is named; conflicts if it changed since it was read.
    pub async fn replace<K>(&self, object: &K, subresource: &str) -> Result<K, ClientError>
    where
        K: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned,
    {
        let meta = object.metadata();
        let (namespace, name) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        self.write(Method::PUT, path::<K>(namespace, name, subresource), object).await
    }

    /// Patches the object, or its sub-resource if one is named.
    pub async fn patch<K: Resource + DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Patch,
    ) -> Result<K, ClientError> {
        let path = path::<K>(namespace, name, subresource);
        let (content_type, body, query): (_, _, Vec<(&str, &str)>) = match patch {
            Patch::Merge(body) => ("application/merge-patch+json", body, vec![]),
            Patch::Strategic(body) => ("application/strategic-merge-patch+json", body, vec![]),
            Patch::Json(body) => ("application/json-patch+json", body, vec![]),
            Patch::Apply { object, manager, force } => {
                let force = if *force { "true" } else { "false" };
                ("application/apply-patch+yaml", object, vec![("fieldManager", manager), ("force", force)])
            }
        };
        let body = encode(&path, body)?;
        let answer = self.checked(request(Method::PATCH, path.clone(), &query, content_type, body)).await?;
        decode(&path, &answer.body)
    }

    /// Deletes; `Ok(false)` if it was not there.
    pub async fn delete<K: Resource>(
        &self,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<bool, ClientError> {
        let path = path::<K>(namespace, name, "");
        match self.call(Method::DELETE, &path, &[], Some(&options.body())).await {
            Ok(_) => Ok(true),
            Err(ClientError::Status { code: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn write<K: Serialize + DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        object: &K,
    ) -> Result<K, ClientError> {
        let body = encode(&path, object)?;
        let answer = self.checked(request(method, path.clone(), &[], "application/json", body)).await?;
        decode(&path, &answer.body)
    }

    async fn checked(&self, request: Request) -> Result<Response, ClientError> {
        let (method, path) = (request.method.clone(), request.path.clone());
        let answer = self.api.send(request).await?;
        if answer.code < 400 { Ok(answer) } else { Err(status_error(method, path, &answer)) }
    }
}

pub(crate) fn status_error(method: Method, path: String, answer: &Response) -> ClientError {
    let status: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_string();
    let message = match status["message"].as_str() {
        Some(message) => message.to_string(),
        None => String::from_utf8_lossy(&answer.body[..answer.body.len().min(512)]).into_owned(),
    };
    ClientError::Status { method, path, code: answer.code, reason: text("reason"), message }
}

fn request(method: Method, path: String, query: &[(&str, &str)], content_type: &'static str, body: Bytes) -> Request {
    let query = query.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
    Request { method, path, query, content_type, body }
}

fn encode(path: &str, value: &impl Serialize) -> Result<Bytes, ClientError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|e| ClientError::Decode { path: path.into(), source: Arc::new(e) })
}

fn decode<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|e| ClientError::Decode { path: path.into(), source: Arc::new(e) })
}

/// An item of a list, which carries neither apiVersion nor kind for built-in kinds.
pub(crate) fn typed_item<K: Resource + DeserializeOwned>(path: &str, mut item: Value) -> Result<K, ClientError> {
    item["apiVersion"] = K::API_VERSION.into();
    item["kind"] = K::KIND.into();
    serde_json::from_value(item).map_err(|e| ClientError::Decode { path: path.into(), source: Arc::new(e) })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(super::path::<Pod>("default", "a", "status"), "/api/v1/namespaces/default/pods/a/status");
        assert_eq!(super::path::<Deployment>("", "", ""), "/apis/apps/v1/deployments");
    }
}
