//! Whether an aggregated server can be asked: first what the cluster says of its Service, then the server itself.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use mizzen_api::key;
use mizzen_store::Snapshot;
use serde_json::{Value, json};

use super::proxy::fetch;
use super::services::Remote;
use crate::callout::ready_endpoints;
use crate::server::Core;

/// How long the server may take to tell what it serves.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked before it counts as gone: its endpoints are asked by chance.
const ATTEMPTS: usize = 3;

/// What the condition `Available` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub available: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    /// Of what this server answers itself.
    pub const LOCAL: Verdict = Verdict { available: true, reason: "Local", message: String::new() };

    fn no(reason: &'static str, message: String) -> Self {
        Self { available: false, reason, message }
    }

    fn words(&self) -> &str {
        match self.reason {
            "Local" => "Local APIServices are always available",
            _ => &self.message,
        }
    }
}

/// Asks about one server.
pub(super) async fn check(core: &Core, snapshot: &Snapshot, remote: &Remote) -> Verdict {
    if let Err(verdict) = in_cluster(snapshot, remote) {
        return verdict;
    }
    let path = format!("/apis/{}/{}", remote.group, remote.version);
    let url = format!("https://{}.{}.svc:{}{path}", remote.service, remote.namespace, remote.port);
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match tokio::time::timeout(PATIENCE, fetch(core, snapshot, remote, &path, "application/json")).await {
            Ok(Ok(answer)) if (200..400).contains(&answer.code) => {
                return Verdict { available: true, reason: "Passed", message: "all checks passed".into() };
            }
            Ok(Ok(answer)) => last = format!("bad status from {url}: {}", answer.code),
            Ok(Err(cause)) => last = format!("Get {url:?}: {cause}"),
            Err(_) => last = format!("Get {url:?}: context deadline exceeded"),
        }
    }
    Verdict::no("FailedDiscoveryCheck", format!("failing or missing response from {url}: {last}"))
}

/// What the cluster says of the Service. Pure.
fn in_cluster(snapshot: &Snapshot, remote: &Remote) -> Result<(), Verdict> {
    let Remote { namespace, service: name, port, .. } = remote;
    let Some(service) = snapshot.get_as::<Service>(&key::of::<Service>(namespace, name)) else {
        return Err(Verdict::no("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
    };
    let spec = service.spec.as_ref();
    if spec.and_then(|s| s.type_.as_deref()).unwrap_or("ClusterIP") != "ClusterIP" {
        return Ok(());
    }
    let ports = spec.and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let Some(found) = ports.iter().find(|p| p.port == i32::from(*port)) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Err(Verdict::no("ServicePortError", message));
    };
    let has_name = |slice: &EndpointSlice| {
        let labels = slice.metadata.labels.as_ref();
        labels.and_then(|l| l.get("kubernetes.io/service-name")).is_some_and(|of| of == name)
    };
    let prefix = key::in_namespace::<EndpointSlice>(namespace);
    if !snapshot.list_as::<EndpointSlice>(&prefix).any(|slice| has_name(&slice)) {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Err(Verdict::no("EndpointsNotFound", message));
    }
    if ready_endpoints(snapshot, namespace, name, found).is_empty() {
        let port_name = found.name.as_deref().unwrap_or_default();
        let message = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        return Err(Verdict::no("MissingEndpoints", message));
    }
    Ok(())
}

/// The APIService with this verdict; `None` if it says so already.
pub(super) fn with_condition(object: &Value, verdict: &Verdict, now: &str) -> Option<Value> {
    let status = if verdict.available { "True" } else { "False" };
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let before = conditions.iter().find(|condition| condition["type"] == "Available");
    let same = |field: &str, text: &str| before.is_some_and(|condition| condition[field] == text);
    if same("status", status) && same("reason", verdict.reason) && same("message", verdict.words()) {
        return None;
    }
    let since = before.filter(|_| same("status", status)).map(|condition| condition["lastTransitionTime"].clone());
    let condition = json!({
        "lastTransitionTime": since.unwrap_or_else(|| now.into()), "message": verdict.words(), "reason": verdict.reason,
        "status": status, "type": "Available",
    });
    let mut all: Vec<Value> = conditions.into_iter().filter(|other| other["type"] != "Available").collect();
    all.push(condition);
    let mut changed = object.clone();
    changed["status"] = json!({"conditions": all});
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fixture::{object, snapshot};

    #[test]
    fn the_cluster_knows_whether_somebody_is_there() {
        let remote = Remote::read(&json!({"metadata": {"name": "v1.g"}, "spec": {"group": "g", "version": "v1",
            "service": {"namespace": "n", "name": "s", "port": 443}}}));
        let remote = remote.unwrap();
        let service = |ports: Value| object("v1", "Service", "n/s", json!({"spec": {"ports": ports}}));
        let good = service(json!([{"name": "https", "port": 443}]));
        let slice = |ready: bool| {
            object(
                "discovery.k8s.io/v1",
                "EndpointSlice",
                "n/s-1",
                json!({"metadata": {"labels": {"kubernetes.io/service-name": "s"}},
                    "addressType": "IPv4", "ports": [{"name": "https", "port": 8443}],
                    "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]}),
            )
        };
        for (world, expected) in [
            (vec![], "ServiceNotFound service/s in \"n\" is not present"),
            (vec![service(json!([{"port": 80}]))], "ServicePortError service/s in \"n\" is not listening on port 443"),
            (vec![good.clone()], "EndpointsNotFound cannot find endpointslices for service/s in \"n\""),
            (
                vec![good.clone(), slice(false)],
                "MissingEndpoints endpointslices for service/s in \"n\" have no addresses with port name \"https\"",
            ),
            (vec![good, slice(true)], "fine"),
        ] {
            let verdict = in_cluster(&snapshot(world), &remote).err();
            let got = verdict.map_or("fine".to_string(), |v| format!("{} {}", v.reason, v.message));
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let no = Verdict::no("MissingEndpoints", "m".into());
        let first = with_condition(&json!({"spec": {}}), &no, "1").unwrap();
        assert_eq!(with_condition(&first, &no, "2"), None);
        let second = with_condition(&first, &Verdict::no("ServiceNotFound", "x".into()), "2").unwrap();
        assert_eq!(second["status"]["conditions"][0]["lastTransitionTime"], "1");
        let third = with_condition(&second, &Verdict::LOCAL, "3").unwrap();
        assert_eq!(third["status"]["conditions"][0]["lastTransitionTime"], "3");
    }
}
