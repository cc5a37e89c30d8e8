//! A world for the agent: an API, a runtime, images and a network that exist in memory only.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use http::Method;
use mizzen_agent::{Network, NetworkError};
use mizzen_client::{Api, ClientError, Request, Response, WatchStream};
use mizzen_net::dns::Zone;
use mizzen_net::service::ServiceTable;
use mizzen_runtime::driver::*;
use mizzen_runtime::images::*;
use mizzen_runtime::spec::{ContainerSpec, PodSpec, Resources};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};

/// An API server that stores what it is given, by path.
pub struct FakeApi {
    state: Mutex<State>,
    events: broadcast::Sender<(String, Value)>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
}

impl FakeApi {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), events: broadcast::channel(1024).0 })
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    pub fn list(&self, prefix: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state.objects.iter().filter(|(p, _)| p.starts_with(prefix)).map(|(_, v)| v.clone()).collect()
    }

    pub fn put(&self, path: &str, mut object: Value) -> Value {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = format!("uid-{}", state.version).into();
        }
        let kind = if state.objects.insert(path.into(), object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        let _ = self.events.send((path.into(), json!({"type": kind, "object": object})));
        object
    }

    pub fn remove(&self, path: &str) -> bool {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let Some(mut object) = state.objects.remove(path) else { return false };
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let _ = self.events.send((path.into(), json!({"type": "DELETED", "object": object})));
        true
    }

    /// Waits until an object looks as wanted.
    pub async fn wait(&self, path: &str, what: &str, want: impl Fn(&Value) -> bool) -> Value {
        let started = tokio::time::Instant::now();
        loop {
            let object = self.get(path).unwrap_or_default();
            if want(&object) {
                return object;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "never {what}: {object:#}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn answer(&self, request: Request) -> Response {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let (path, sub) = match request.path.strip_suffix("/status") {
            Some(path) => (path.to_string(), "status"),
            None => (request.path.clone(), ""),
        };
        let missing = || (404, json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": path}));
        let (code, answer) = match request.method {
            Method::GET => self.get(&path).map_or_else(missing, |o| (200, o)),
            Method::POST if path.ends_with("/token") => {
                (201, json!({"status": {"token": "a-token", "expirationTimestamp": "2100-01-01T00:00:00Z"}}))
            }
            Method::POST => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                match self.get(&path) {
                    Some(_) => (409, json!({"kind": "Status", "code": 409, "reason": "AlreadyExists"})),
                    None => (201, self.put(&path, body)),
                }
            }
            Method::PATCH => match self.get(&path) {
                Some(mut object) => {
                    if sub == "status" {
                        merge(&mut object["status"], &body["status"]);
                    } else {
                        merge(&mut object, &body);
                    }
                    (200, self.put(&path, object))
                }
                None => missing(),
            },
            Method::DELETE if self.remove(&path) => (200, json!({"kind": "Status", "status": "Success"})),
            _ => missing(),
        };
        Response { code, body: Bytes::from(answer.to_string()) }
    }
}

/// A strategic merge as far as statuses need it.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (field, change) in changes {
        match (change, field.as_str()) {
            (Value::Null, _) => {
                target.as_object_mut().unwrap().remove(field);
            }
            (Value::Array(items), "conditions") => {
                let list = target[field].as_array().cloned().unwrap_or_default();
                let kept = list.into_iter().filter(|c| !items.iter().any(|i| i["type"] == c["type"]));
                let new = items.iter().filter(|i| i["$patch"].is_null()).cloned();
                target[field] = kept.chain(new).collect();
            }
            (Value::Array(items), _) => {
                target[field] = items.iter().filter(|i| i["$patch"].is_null()).cloned().collect();
            }
            (Value::Object(_), _) => merge(&mut target[field], change),
            _ => target[field] = change.clone(),
        }
    }
}

impl Api for FakeApi {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, ClientError>> {
        Box::pin(async move { Ok(self.answer(request)) })
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, ClientError>> {
        let folder = request.path.clone();
        // Objects of all namespaces, or of one: the last part names the kind.
        let kind = folder.rsplit('/').next().unwrap().to_string();
        let namespace = folder.split("/namespaces/").nth(1).and_then(|r| r.split('/').next()).map(str::to_string);
        let fields =
            request.query.iter().find(|(n, _)| n == "fieldSelector").map(|(_, v)| v.clone()).unwrap_or_default();
        let wanted = move |path: &str, object: &Value| {
            let parts: Vec<&str> = path.split('/').collect();
            let same_kind = parts.len() > 2 && parts[parts.len() - 2] == kind;
            let same_namespace = namespace.as_ref().is_none_or(|n| object["metadata"]["namespace"] == n.as_str());
            let same_field = match fields.split_once('=') {
                Some(("metadata.name", name)) => object["metadata"]["name"] == name,
                Some(("spec.nodeName", node)) => object["spec"]["nodeName"] == node,
                _ => true,
            };
            same_kind && same_namespace && same_field
        };
        let state = self.state.lock().unwrap();
        let receiver = self.events.subscribe();
        let mut first: Vec<Value> = Vec::new();
        if request.query.iter().any(|(n, _)| n == "sendInitialEvents") {
            first.extend(
                state.objects.iter().filter(|(p, o)| wanted(p, o)).map(|(_, o)| json!({"type": "ADDED", "object": o})),
            );
        }
        first.push(json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": state.version.to_string(),
            "annotations": {"k8s.io/initial-events-end": "true"}}}}));
        let later = futures_util::stream::unfold((receiver, wanted), |(mut receiver, wanted)| async move {
            loop {
                let (path, event) = receiver.recv().await.ok()?;
                if wanted(&path, &event["object"]) {
                    return Some((event, (receiver, wanted)));
                }
            }
        });
        let all = futures_util::stream::iter(first).chain(later).map(|e| Ok(Bytes::from(e.to_string())));
        Box::pin(async move { Ok(all.boxed()) })
    }
}

/// A runtime whose containers end when a test says so.
pub struct FakeDriver {
    sandboxes: Mutex<BTreeMap<String, Sandbox>>,
    events: mpsc::Sender<DriverEvent>,
    receiver: Mutex<Option<mpsc::Receiver<DriverEvent>>>,
    /// Signals that were sent: (container name, signal).
    pub signals: Mutex<Vec<(String, i32)>>,
    /// Containers that end at once when they are asked to.
    pub polite: bool,
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap()
}

impl FakeDriver {
    pub fn new() -> Arc<Self> {
        let (events, receiver) = mpsc::channel(64);
        Arc::new(Self {
            sandboxes: Mutex::default(),
            events,
            receiver: Mutex::new(Some(receiver)),
            signals: Mutex::default(),
            polite: true,
        })
    }

    /// A driver that finds what another left running.
    pub fn succeeding(other: &Self) -> Arc<Self> {
        let new = Self::new();
        *new.sandboxes.lock().unwrap() = other.sandboxes.lock().unwrap().clone();
        new
    }

    pub fn running(&self) -> Vec<ContainerSpec> {
        let sandboxes = self.sandboxes.lock().unwrap();
        let all = sandboxes.values().flat_map(|s| s.containers.iter());
        all.filter(|c| matches!(c.state, ContainerState::Running { .. })).map(|c| c.spec.clone()).collect()
    }

    pub fn sandboxes(&self) -> usize {
        self.sandboxes.lock().unwrap().len()
    }

    pub fn exit(&self, name: &str, code: i32) {
        let mut sandboxes = self.sandboxes.lock().unwrap();
        for (uid, sandbox) in sandboxes.iter_mut() {
            for container in sandbox.containers.iter_mut().filter(|c| c.spec.name == name) {
                if let ContainerState::Running { started_at, .. } = container.state {
                    container.state = ContainerState::Exited {
                        started_at,
                        finished_at: now(),
                        code,
                        signal: None,
                        oom_killed: false,
                    };
                    self.events.try_send(DriverEvent::Container { pod_uid: uid.clone() }).unwrap();
                }
            }
        }
    }
}

type Driven<'a, T> = BoxFuture<'a, Result<T, DriverError>>;

fn ok<'a, T: Send + 'a>(value: T) -> Driven<'a, T> {
    Box::pin(async move { Ok(value) })
}

impl Driver for FakeDriver {
    fn adopt(&self) -> Driven<'_, Vec<Sandbox>> {
        ok(self.sandboxes.lock().unwrap().values().cloned().collect())
    }
    fn events(&self) -> mpsc::Receiver<DriverEvent> {
        self.receiver.lock().unwrap().take().expect("one listener")
    }
    fn start_sandbox(&self, spec: PodSpec) -> Driven<'_, Sandbox> {
        let network_namespace = (!spec.host_network).then(|| PathBuf::from("/proc/1/ns/net"));
        let sandbox = Sandbox { network_namespace, shim_pid: 1, containers: Vec::new(), spec };
        self.sandboxes.lock().unwrap().insert(sandbox.spec.uid.clone(), sandbox.clone());
        ok(sandbox)
    }
    fn sandbox<'a>(&'a self, pod_uid: &'a str) -> Driven<'a, Sandbox> {
        let found = self.sandboxes.lock().unwrap().get(pod_uid).cloned();
        Box::pin(async move { found.ok_or(DriverError::NoSandbox { pod_uid: pod_uid.into() }) })
    }
    fn remove_sandbox<'a>(&'a self, pod_uid: &'a str) -> Driven<'a, ()> {
        self.sandboxes.lock().unwrap().remove(pod_uid);
        ok(())
    }
    fn start_container<'a>(&'a self, pod_uid: &'a str, spec: ContainerSpec) -> Driven<'a, Container> {
        if spec.args == ["missing"] {
            return Box::pin(async {
                Err(DriverError::Start { message: "exec: \"missing\": executable file not found in $PATH".into() })
            });
        }
        let container = Container { spec, state: ContainerState::Running { pid: 7, started_at: now() } };
        self.sandboxes.lock().unwrap().get_mut(pod_uid).unwrap().containers.push(container.clone());
        ok(container)
    }
    fn signal<'a>(&'a self, pod_uid: &'a str, id: &'a str, signal: i32) -> Driven<'a, ()> {
        let name = {
            let sandboxes = self.sandboxes.lock().unwrap();
            let found = sandboxes.get(pod_uid).and_then(|s| s.containers.iter().find(|c| c.spec.id == id));
            found.map(|c| c.spec.name.clone())
        };
        if let Some(name) = name {
            self.signals.lock().unwrap().push((name.clone(), signal));
            if self.polite {
                self.exit(&name, 0);
            }
        }
        ok(())
    }
    fn kill<'a>(&'a self, pod_uid: &'a str, id: &'a str) -> Driven<'a, ()> {
        self.signal(pod_uid, id, 9)
    }
    fn remove_container<'a>(&'a self, pod_uid: &'a str, id: &'a str) -> Driven<'a, ()> {
        if let Some(sandbox) = self.sandboxes.lock().unwrap().get_mut(pod_uid) {
            sandbox.containers.retain(|c| c.spec.id != id);
        }
        ok(())
    }
    fn update<'a>(&'a self, _: &'a str, _: Option<&'a str>, _: Resources) -> Driven<'a, ()> {
        ok(())
    }
    fn exec<'a>(&'a self, _: &'a str, id: &'a str, _: ExecSpec) -> Driven<'a, Exec> {
        Box::pin(async move { Err(DriverError::NoContainer { id: id.into() }) })
    }
    fn kill_exec<'a>(&'a self, _: &'a str, _: &'a str) -> Driven<'a, ()> {
        ok(())
    }
    fn attach<'a>(&'a self, _: &'a str, id: &'a str, _: bool) -> Driven<'a, Streams> {
        Box::pin(async move { Err(DriverError::NoContainer { id: id.into() }) })
    }
    fn reopen_log<'a>(&'a self, _: &'a str, _: &'a str) -> Driven<'a, ()> {
        ok(())
    }
    fn writable_layer(&self, _: &str, _: &str) -> Option<PathBuf> {
        None
    }
    fn usage<'a>(&'a self, _: &'a str, _: Option<&'a str>) -> Driven<'a, Usage> {
        ok(Usage::default())
    }
}

/// Images that are all there, save those whose name says `missing`.
pub struct FakeImages;

fn image(reference: &str) -> Image {
    Image {
        id: "sha256:1".into(),
        config: ImageConfig { cmd: vec!["/serve".into()], env: vec!["FROM=image".into()], ..ImageConfig::default() },
        tags: vec![reference.into()],
        digests: vec![format!("{reference}@sha256:2")],
        size_bytes: 10,
        last_used: 0,
        pinned: false,
    }
}

impl ImageService for FakeImages {
    fn ensure<'a>(
        &'a self,
        reference: &'a str,
        _: PullPolicy,
        _: &'a [Credential],
    ) -> BoxFuture<'a, Result<Ensured, ImageError>> {
        Box::pin(async move {
            if reference.contains("missing") {
                let message = format!("{reference}: not found");
                return Err(ImageError { reason: ImageErrorReason::ErrImagePull, message });
            }
            Ok(Ensured { image: image(reference), pulled: false, took_ms: 0 })
        })
    }
    fn find<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<Image>, ImageError>> {
        Box::pin(async move { Ok(Some(image(reference))) })
    }
    fn list(&self) -> BoxFuture<'_, Result<Vec<Image>, ImageError>> {
        Box::pin(async { Ok(vec![image("web:1")]) })
    }
    fn remove<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), ImageError>> {
        Box::pin(async { Ok(()) })
    }
    fn usage(&self) -> BoxFuture<'_, Result<ImageUsage, ImageError>> {
        Box::pin(async { Ok(ImageUsage::default()) })
    }
}

/// A network that gives every pod the same address.
#[derive(Default)]
pub struct FakeNetwork {
    pub table: Mutex<ServiceTable>,
    pub zone: Mutex<Zone>,
    pub attached: Mutex<Vec<String>>,
}

type Wired<'a, T> = BoxFuture<'a, Result<T, NetworkError>>;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 2));

impl Network for FakeNetwork {
    fn attach<'a>(&'a self, pod_uid: &'a str, _: PathBuf) -> Wired<'a, Vec<IpAddr>> {
        self.attached.lock().unwrap().push(pod_uid.into());
        Box::pin(async { Ok(vec![ADDRESS]) })
    }
    fn adopt<'a>(&'a self, uids: &'a [String]) -> Wired<'a, BTreeMap<String, Vec<IpAddr>>> {
        Box::pin(async move { Ok(uids.iter().map(|u| (u.clone(), vec![ADDRESS])).collect()) })
    }
    fn detach<'a>(&'a self, pod_uid: &'a str) -> Wired<'a, ()> {
        self.attached.lock().unwrap().retain(|u| u != pod_uid);
        Box::pin(async { Ok(()) })
    }
    fn apply_services(&self, table: ServiceTable) -> Wired<'_, ()> {
        *self.table.lock().unwrap() = table;
        Box::pin(async { Ok(()) })
    }
    fn apply_names(&self, zone: Zone) -> Wired<'_, ()> {
        *self.zone.lock().unwrap() = zone;
        Box::pin(async { Ok(()) })
    }
}
