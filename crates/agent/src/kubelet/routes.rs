//! Leads a request to its answer.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use mizzen_client::Reflector;
use mizzen_runtime::driver::{Container, ContainerState};
use serde_json::json;

use super::identity::Identity;
use super::{Body, Refusal, full, logs, stats};
use crate::context::Context;
use crate::pod::roles;
use crate::streaming::{self, Sessions};

/// What answers need.
pub struct Routes {
    /// The node.
    pub ctx: Arc<Context>,
    /// Its pods.
    pub pods: Reflector<Pod>,
    sampler: stats::Sampler,
    sessions: Sessions,
}

/// A container of a pod on this node that was asked for.
pub struct Found {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its uid.
    pub uid: String,
    /// Its latest run.
    pub container: Container,
}

impl Routes {
    /// Over a node's parts.
    pub fn new(ctx: Arc<Context>, pods: Reflector<Pod>, sessions: Sessions) -> Self {
        Self { sampler: stats::Sampler::new(Arc::clone(&ctx), pods.clone()), ctx, pods, sessions }
    }

    /// Answers a request of `identity`.
    pub async fn answer(&self, request: Request<Incoming>, identity: Option<&Identity>) -> Response<Body> {
        let path = request.uri().path().to_string();
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        if let Err(refusal) =
            self.authorize(request.method().clone(), parts.first().copied().unwrap_or_default(), identity).await
        {
            return *refusal;
        }
        let get = request.method() == Method::GET;
        match parts.as_slice() {
            ["healthz", ..] => text(StatusCode::OK, "ok"),
            ["pods"] if get => self.list(|_| true),
            ["runningpods"] if get => {
                self.list(|p| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running"))
            }
            ["containerLogs", namespace, pod, container] if get => {
                let query = request.uri().query().unwrap_or_default().to_string();
                let answer = logs::answer(self, namespace, pod, container, &query).await;
                streaming::log(&self.sessions, request, answer)
            }
            ["exec" | "attach" | "run" | "portForward", ..] => {
                streaming::handle(self, &self.sessions, &parts, request).await
            }
            ["stats", "summary"] if get => json_answer(&self.sampler.summary().await),
            ["metrics", "resource"] if get => text(StatusCode::OK, self.sampler.resource_metrics().await),
            ["metrics"] | ["metrics", "cadvisor" | "probes"] if get => text(StatusCode::OK, self.sampler.own_metrics()),
            // Not the kubelet's: what `metrics.k8s.io` is made from.
            ["mizzen", "usage"] if get => json_answer(
                &json!({"node": self.sampler.node_metrics().await, "pods": self.sampler.pod_metrics().await}),
            ),
            ["configz"] if get => json_answer(&json!({"kubeletconfig": {"maxPods": self.ctx.config.max_pods,
                "clusterDomain": self.ctx.config.cluster_domain}})),
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    async fn authorize(&self, method: Method, first: &str, identity: Option<&Identity>) -> Result<(), Refusal> {
        let Some(identity) = identity else {
            return Err(refuse(StatusCode::UNAUTHORIZED, "Unauthorized"));
        };
        let subresource = match first {
            "stats" | "mizzen" => "stats",
            "metrics" => "metrics",
            "logs" => "log",
            "healthz" => "healthz",
            "pods" | "runningpods" => "pods",
            "configz" => "configz",
            _ => "proxy",
        };
        let verb = match method {
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        let config = &self.ctx.config;
        match identity.may(&self.ctx.client, &config.kubelet_clients, &config.node_name, verb, subresource).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message = format!(
                    "Forbidden (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                    identity.user
                );
                Err(refuse(StatusCode::FORBIDDEN, message))
            }
            Err(error) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, crate::pod::execute::chain(&error))),
        }
    }

    fn list(&self, keep: impl Fn(&Pod) -> bool) -> Response<Body> {
        let objects = self.pods.objects();
        let items: Vec<&Pod> = objects.values().map(|p| &**p).filter(|p| keep(p)).collect();
        json_answer(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
    }

    /// A pod of this node by name.
    pub fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
        self.pods.get(namespace, name).ok_or_else(|| {
            refuse(StatusCode::NOT_FOUND, format!("pod \"{name}\" not found in namespace \"{namespace}\""))
        })
    }

    /// The running container that exec, attach and the like are about.
    ///
    /// # Errors
    /// An answer for the client: no such pod or container, or it does not run.
    pub async fn running(&self, namespace: &str, pod: &str, container: &str) -> Result<Found, Refusal> {
        let pod = self.pod(namespace, pod)?;
        let empty = PodSpec::default();
        if roles::find(pod.spec.as_ref().unwrap_or(&empty), container).is_none() {
            return Err(refuse(StatusCode::NOT_FOUND, format!("container {container} not found in pod")));
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let sandbox = self.ctx.driver.sandbox(&uid).await;
        let sandbox = sandbox.map_err(|e| refuse(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
        let running = sandbox
            .containers
            .into_iter()
            .filter(|c| c.spec.name == container && matches!(c.state, ContainerState::Running { .. }))
            .max_by_key(|c| c.spec.attempt);
        match running {
            Some(container) => Ok(Found { pod, uid, container }),
            None => Err(refuse(StatusCode::BAD_REQUEST, format!("container {container} is not running"))),
        }
    }
}

/// An answer in plain text that ends a request early.
pub fn refuse(code: StatusCode, body: impl Into<String>) -> Refusal {
    Box::new(text(code, body))
}

/// An answer in plain text.
pub fn text(code: StatusCode, body: impl Into<String>) -> Response<Body> {
    let mut answer = Response::new(full(body.into()));
    *answer.status_mut() = code;
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// An answer in JSON.
pub fn json_answer(value: &serde_json::Value) -> Response<Body> {
    let mut answer = Response::new(full(value.to_string()));
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    answer
}
