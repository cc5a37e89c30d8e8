//! Where a request is passed on to. Pure: a snapshot and a request in, an address and a path out.

use k8s_openapi::api::core::v1::ServicePort;
use mizzen_api::key;
use mizzen_api::status::{ApiError, Subject};
use mizzen_store::Snapshot;
use serde_json::{Value, json};

use crate::callout::ready_endpoints;
use crate::query::{Query, escape};
use crate::request::RequestInfo;

/// The port of kubelets that say no other.
const KUBELET_PORT: u16 = 10250;

const PODS: Subject<'static> = Subject { group: "", resource: "pods" };
const NODES: Subject<'static> = Subject { group: "", resource: "nodes" };
const SERVICES: Subject<'static> = Subject { group: "", resource: "services" };

/// Where to.
#[derive(Debug, PartialEq)]
pub(super) enum Target {
    /// A kubelet, over TLS with the API server's certificate.
    Kubelet {
        /// Its node's address.
        address: String,
        /// Its port.
        port: u16,
        /// Path and query.
        path: String,
    },
    /// A pod.
    Pod {
        /// Over TLS; whose certificate it is cannot be known.
        tls: bool,
        /// Its address.
        address: String,
        /// Its port.
        port: u16,
        /// Path and query.
        path: String,
    },
    /// Nowhere yet, and that is no error: a pod without a node has no logs.
    Nothing,
}

/// Finds the target of a request.
pub(super) fn resolve(snapshot: &Snapshot, info: &RequestInfo<'_>, query: &Query) -> Result<Target, ApiError> {
    match (info.resource.as_ref(), info.subresource.as_ref()) {
        ("pods", "proxy") => pod_proxy(snapshot, info, query),
        ("services", _) => service_proxy(snapshot, info, query),
        ("nodes", _) => {
            let (_, name, _) = split_name(&info.name);
            kubelet(snapshot, name, format!("/{}{}", info.rest, suffix(query.pairs())))
        }
        (_, subresource) => stream(snapshot, info, subresource, query),
    }
}

/// Logs, exec, attach and port-forward of a pod, at its kubelet.
fn stream(snapshot: &Snapshot, info: &RequestInfo<'_>, subresource: &str, query: &Query) -> Result<Target, ApiError> {
    let pod = object(snapshot, PODS, &info.namespace, &info.name)?;
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let (namespace, name) = (&info.namespace, &info.name);
    let path = match subresource {
        "portforward" => format!("/portForward/{namespace}/{name}{}", suffix(&only(query, &["ports"]))),
        "log" => {
            let container = container(&pod, query)?;
            let options =
                ["follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"];
            format!("/containerLogs/{namespace}/{name}/{container}{}", suffix(&only(query, &options)))
        }
        other => {
            let container = container(&pod, query)?;
            format!("/{other}/{namespace}/{name}/{container}{}", suffix(&exec_options(query)))
        }
    };
    match (node, subresource) {
        ("", "log") => Ok(Target::Nothing),
        ("", _) => Err(ApiError::bad_request(format!("pod {name} does not have a host assigned"))),
        _ => kubelet(snapshot, node, path),
    }
}

/// The options of a connecting request as the object that admission sees (`PodExecOptions`, …).
pub(super) fn options(info: &RequestInfo<'_>, query: &Query, kind: &str) -> Value {
    let mut out = json!({"kind": kind, "apiVersion": "v1"});
    match info.subresource.as_ref() {
        "proxy" => out["path"] = format!("/{}", info.rest).into(),
        "portforward" => {
            let ports =
                query.all("ports").flat_map(|ports| ports.split(',')).filter_map(|port| port.parse::<u16>().ok());
            out["ports"] = ports.collect();
        }
        _ => {
            for flag in ["stdin", "stdout", "stderr", "tty"] {
                if query.flag(flag) {
                    out[flag] = true.into();
                }
            }
            if let Some(container) = query.get("container") {
                out["container"] = container.into();
            }
            if info.subresource == "exec" {
                out["command"] = query.all("command").collect();
            }
        }
    }
    out
}

/// The options of exec and attach as kubelets name them.
fn exec_options(query: &Query) -> Vec<(String, String)> {
    let names = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
    let mut out: Vec<(String, String)> =
        names.iter().filter(|(name, _)| query.flag(name)).map(|(_, name)| ((*name).into(), "1".into())).collect();
    out.extend(query.all("command").map(|word| ("command".into(), word.into())));
    out
}

/// The container asked for, or the only one.
fn container(pod: &Value, query: &Query) -> Result<String, ApiError> {
    let list = |field: &str| -> Vec<&str> {
        let containers = pod["spec"][field].as_array().into_iter().flatten();
        containers.filter_map(|c| c["name"].as_str()).collect()
    };
    let (containers, init, ephemeral) = (list("containers"), list("initContainers"), list("ephemeralContainers"));
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    match query.get("container") {
        Some(asked) if [&containers, &init, &ephemeral].iter().any(|names| names.contains(&asked)) => Ok(asked.into()),
        Some(asked) => Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}"))),
        None if containers.len() == 1 => Ok(containers[0].into()),
        None => {
            let mut message =
                format!("a container name must be specified for pod {name}, choose one of: [{}]", containers.join(" "));
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            if !ephemeral.is_empty() {
                message.push_str(&format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" ")));
            }
            Err(ApiError::bad_request(message))
        }
    }
}

fn kubelet(snapshot: &Snapshot, node: &str, path: String) -> Result<Target, ApiError> {
    let (address, port) = kubelet_address(snapshot, node)?;
    Ok(Target::Kubelet { address, port, path })
}

/// Address and port of a node's kubelet.
pub(crate) fn kubelet_address(snapshot: &Snapshot, node: &str) -> Result<(String, u16), ApiError> {
    let object = object(snapshot, NODES, "", node)?;
    let addresses = || object["status"]["addresses"].as_array().into_iter().flatten();
    let of_type = |kind: &str| addresses().find(|a| a["type"] == kind).and_then(|a| a["address"].as_str());
    let address = of_type("InternalIP").or_else(|| of_type("ExternalIP")).or_else(|| of_type("Hostname"));
    let address =
        address.ok_or_else(|| ApiError::internal(format_args!("no preferred addresses found for node {node}")))?;
    let port = object["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0).unwrap_or(KUBELET_PORT);
    Ok((address.into(), port))
}

fn pod_proxy(snapshot: &Snapshot, info: &RequestInfo<'_>, query: &Query) -> Result<Target, ApiError> {
    let (scheme, name, port) = split_name(&info.name);
    let tls = is_tls(scheme)?;
    let pod = object(snapshot, PODS, &info.namespace, name)?;
    let address = pod["status"]["podIP"].as_str().filter(|ip| !ip.is_empty());
    let address = address.ok_or_else(|| ApiError::bad_request("address not allowed"))?;
    let first = || {
        pod["spec"]["containers"].as_array().into_iter().flatten().find_map(|c| c["ports"][0]["containerPort"].as_u64())
    };
    let port = if port.is_empty() { first().and_then(|p| u16::try_from(p).ok()).unwrap_or(80) } else { number(port)? };
    Ok(Target::Pod { tls, address: address.into(), port, path: format!("/{}{}", info.rest, suffix(query.pairs())) })
}

fn service_proxy(snapshot: &Snapshot, info: &RequestInfo<'_>, query: &Query) -> Result<Target, ApiError> {
    let (scheme, name, port) = split_name(&info.name);
    let tls = is_tls(scheme)?;
    let service = object(snapshot, SERVICES, &info.namespace, name)?;
    let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let wanted = ports.iter().find(|p| {
        port.is_empty() && ports.len() == 1
            || p["name"].as_str() == Some(port) && !port.is_empty()
            || p["port"].as_u64().is_some_and(|number| port.parse() == Ok(number))
    });
    let unavailable = || ApiError::unavailable(format!("no endpoints available for service {:?}", info.name));
    let wanted =
        wanted.ok_or_else(|| ApiError::unavailable(format!("no service port {port:?} found for service {name:?}")))?;
    let wanted: ServicePort = serde_json::from_value(wanted.clone()).map_err(ApiError::internal)?;
    let endpoints = ready_endpoints(snapshot, &info.namespace, name, &wanted);
    let (address, port) = endpoints.into_iter().next().ok_or_else(unavailable)?;
    Ok(Target::Pod { tls, address, port, path: format!("/{}{}", info.rest, suffix(query.pairs())) })
}

/// `scheme:name:port`, of which scheme and port may be missing.
fn split_name(text: &str) -> (&str, &str, &str) {
    let parts: Vec<&str> = text.splitn(3, ':').collect();
    match parts.as_slice() {
        [name] => ("", name, ""),
        [name, port] => ("", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => ("", text, ""),
    }
}

fn is_tls(scheme: &str) -> Result<bool, ApiError> {
    match scheme {
        "" | "http" => Ok(false),
        "https" => Ok(true),
        other => Err(ApiError::bad_request(format!("proxying to {other} is not supported, only to http and https"))),
    }
}

fn number(text: &str) -> Result<u16, ApiError> {
    text.parse().map_err(|_| ApiError::bad_request(format!("invalid port {text:?}")))
}

fn object(snapshot: &Snapshot, what: Subject<'_>, namespace: &str, name: &str) -> Result<Value, ApiError> {
    let entry = snapshot.get(&key::object("", what.resource, namespace, name));
    let entry = entry.ok_or_else(|| ApiError::not_found(what, name))?;
    serde_json::from_slice(&entry.value).map_err(ApiError::internal)
}

fn only(query: &Query, names: &[&str]) -> Vec<(String, String)> {
    query.pairs().iter().filter(|(key, _)| names.contains(&key.as_str())).cloned().collect()
}

fn suffix(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use mizzen_store::{Memory, Operation, Store, Txn, Value as Stored};
    use serde_json::json;

    use super::*;

    async fn world() -> Snapshot {
        let store = Memory::default();
        let objects = [
            (
                "core/pods/d/one",
                json!({"metadata": {"name": "one"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"containerPort": 81}]}]}, "status": {"podIP": "10.0.0.5"}}),
            ),
            (
                "core/pods/d/two",
                json!({"metadata": {"name": "two"}, "spec": {"nodeName": "n", "containers": [{"name": "a"}, {"name": "b"}]}}),
            ),
            ("core/pods/d/new", json!({"metadata": {"name": "new"}, "spec": {"containers": [{"name": "c"}]}})),
            (
                "core/nodes//n",
                json!({"status": {"addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.1.1.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": 10260}}}}),
            ),
            ("core/services/d/s", json!({"spec": {"ports": [{"name": "web", "port": 80}]}})),
            (
                "discovery.k8s.io/endpointslices/d/s-1",
                json!({"metadata": {"labels": {"kubernetes.io/service-name": "s"}},
                "ports": [{"name": "web", "port": 8080}],
                "endpoints": [{"addresses": ["10.0.0.8"], "conditions": {"ready": false}}, {"addresses": ["10.0.0.9"], "conditions": {"ready": true}}]}),
            ),
        ];
        let operations = objects.into_iter().map(|(key, object)| Operation::Put {
            key: key.into(),
            value: Stored { bytes: object.to_string().into(), revision_at: None },
        });
        store.commit(Txn { expect: vec![], operations: operations.collect() }).await.unwrap();
        store.snapshot()
    }

    #[tokio::test]
    async fn requests_find_their_way() {
        let snapshot = world().await;
        for (path, query, expected) in [
            ("pods/one/log", "tailLines=3&pretty=1", "kubelet 10.1.1.1:10260 /containerLogs/d/one/c?tailLines=3"),
            ("pods/two/log", "", "400 a container name must be specified for pod two, choose one of: [a b]"),
            ("pods/two/log", "container=b", "kubelet 10.1.1.1:10260 /containerLogs/d/two/b"),
            ("pods/two/log", "container=x", "400 container x is not valid for pod two"),
            ("pods/new/log", "", "nothing"),
            ("pods/new/exec", "command=ls", "400 pod new does not have a host assigned"),
            ("pods/none/log", "", "404 pods \"none\" not found"),
            (
                "pods/one/exec",
                "command=sh&command=-c&command=echo+a&stdin=true&stdout=1&stderr=false&tty=true",
                "kubelet 10.1.1.1:10260 /exec/d/one/c?input=1&output=1&tty=1&command=sh&command=-c&command=echo%20a",
            ),
            ("pods/one/portforward", "ports=80", "kubelet 10.1.1.1:10260 /portForward/d/one?ports=80"),
            ("pods/one/proxy/a/b", "x=1", "plain 10.0.0.5:81 /a/b?x=1"),
            ("pods/http:one:8080/proxy/", "", "plain 10.0.0.5:8080 /"),
            ("pods/https:one:443/proxy/", "", "tls 10.0.0.5:443 /"),
            ("services/https:s:web/proxy/", "", "tls 10.0.0.9:8080 /"),
            ("pods/ftp:one:21/proxy/", "", "400 proxying to ftp is not supported, only to http and https"),
            ("services/s/proxy", "", "plain 10.0.0.9:8080 /"),
            ("services/s:web/proxy/x", "", "plain 10.0.0.9:8080 /x"),
            ("services/s:other/proxy", "", "503 no service port \"other\" found for service \"s\""),
        ] {
            let (path, query) = (format!("/api/v1/namespaces/d/{path}"), Query::parse(query));
            let info = RequestInfo::parse(&Method::GET, &path, &query);
            let got = match resolve(&snapshot, &info, &query) {
                Ok(Target::Kubelet { address, port, path }) => format!("kubelet {address}:{port} {path}"),
                Ok(Target::Pod { tls, address, port, path }) => {
                    format!("{} {address}:{port} {path}", if tls { "tls" } else { "plain" })
                }
                Ok(Target::Nothing) => "nothing".into(),
                Err(error) => format!("{} {}", error.code, error.message),
            };
            assert_eq!(got, expected, "{path}");
        }
    }
}
