//! Watches Services and their endpoints, and hands the network what follows from them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use mizzen_client::Reflector;
use mizzen_net::dns::Zone;
use mizzen_net::service::ServiceTable;
use tokio_util::sync::CancellationToken;

use super::endpoints::group;
use super::table::{self, Place};
use super::zone;
use crate::context::Context;

/// How long changes are gathered before the network is programmed: a rollout changes several objects at once.
const GATHER: Duration = Duration::from_millis(3);
/// Wait before a table that could not be programmed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Label of a node's zone.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Environment variables that Services add to containers.
#[derive(Debug, Clone)]
pub struct ServiceEnv {
    services: Reflector<Service>,
}

impl ServiceEnv {
    /// From the Services of the cluster.
    pub fn new(services: Reflector<Service>) -> Self {
        Self { services }
    }

    /// Variables for a container in `namespace`: the API server's always, those of its namespace with `links`.
    pub fn variables(&self, namespace: &str, links: bool) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        for ((ns, name), service) in &self.services.objects() {
            let master = &**ns == "default" && &**name == "kubernetes";
            if master || (links && &**ns == namespace) {
                variables.extend(of_service(name, service));
            }
        }
        variables
    }
}

/// The variables of one Service, as Docker links once named them.
fn of_service(name: &str, service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return Vec::new() };
    let upper = |text: &str| text.to_ascii_uppercase().replace(['-', '.'], "_");
    let name = upper(name);
    // An IPv6 address stands in brackets in front of a port.
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_string() };
    let mut list = vec![(format!("{name}_SERVICE_HOST"), ip.to_string())];
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let number = port.port;
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{number}", protocol.to_ascii_lowercase());
        if index == 0 {
            list.push((format!("{name}_SERVICE_PORT"), number.to_string()));
            list.push((format!("{name}_PORT"), url.clone()));
        }
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            list.push((format!("{name}_SERVICE_PORT_{}", upper(port_name)), number.to_string()));
        }
        let prefix = format!("{name}_PORT_{number}_{protocol}");
        list.push((prefix.clone(), url));
        list.push((format!("{prefix}_PROTO"), protocol.to_ascii_lowercase()));
        list.push((format!("{prefix}_PORT"), number.to_string()));
        list.push((format!("{prefix}_ADDR"), ip.to_string()));
    }
    list
}

/// Where the view's objects come from.
pub struct Inputs {
    /// All Services.
    pub services: Reflector<Service>,
    /// All slices.
    pub slices: Reflector<EndpointSlice>,
    /// Pods of this node.
    pub pods: Reflector<Pod>,
}

/// Keeps the network current until `shutdown`.
pub async fn run(ctx: Arc<Context>, inputs: Inputs, shutdown: CancellationToken) {
    let synced = async { inputs.services.synced().await && inputs.slices.synced().await && inputs.pods.synced().await };
    tokio::select! {
        all = synced => if !all { return },
        () = shutdown.cancelled() => return,
    }
    let (mut services, mut slices, mut pods) =
        (inputs.services.changes(), inputs.slices.changes(), inputs.pods.changes());
    let mut node = ctx.node.changes();
    let mut applied: Option<(ServiceTable, Zone)> = None;
    loop {
        services.mark_unchanged();
        slices.mark_unchanged();
        pods.mark_unchanged();
        node.mark_unchanged();
        let failed = apply(&ctx, &inputs, &mut applied).await;
        tokio::select! {
            _ = services.changed() => {}
            _ = slices.changed() => {}
            _ = pods.changed() => {}
            _ = node.changed() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
            () = shutdown.cancelled() => return,
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Programs what changed; `true` if that failed and must be tried again.
async fn apply(ctx: &Context, inputs: &Inputs, applied: &mut Option<(ServiceTable, Zone)>) -> bool {
    let (services, slices, pods) = (inputs.services.objects(), inputs.slices.objects(), inputs.pods.objects());
    let own = ctx.node.get("", &ctx.config.node_name);
    let label = own.as_ref().and_then(|n| n.metadata.labels.as_ref()).and_then(|l| l.get(ZONE_LABEL)).cloned();
    let place = Place { node: ctx.config.node_name.clone(), zone: label };
    let by_service = group(slices.values());
    let table = table::table(services.values(), &by_service, pods.values(), &place);
    let zone = zone::zone(&ctx.config.cluster_domain, services.values(), &by_service);
    let (old_table, old_zone) = match applied {
        Some((table, zone)) => (Some(table), Some(zone)),
        None => (None, None),
    };
    let (new_table, new_zone) = (old_table.as_deref() != Some(&table), old_zone.as_deref() != Some(&zone));
    let mut failed = false;
    if new_table && let Err(error) = ctx.network.apply_services(table.clone()).await {
        tracing::warn!(error = crate::pod::execute::chain(&error), "Services not programmed; trying again");
        failed = true;
    }
    if new_zone && let Err(error) = ctx.network.apply_names(zone.clone()).await {
        tracing::warn!(error = crate::pod::execute::chain(&error), "names not published; trying again");
        failed = true;
    }
    *applied = if failed { None } else { Some((table, zone)) };
    failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_of_a_service() {
        let service: Service = serde_json::from_value(json!({"metadata": {}, "spec": {"clusterIP": "10.96.0.9",
            "ports": [{"name": "web-a", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]}}))
        .unwrap();
        let got: Vec<String> = of_service("my-svc", &service).into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            got,
            [
                "MY_SVC_SERVICE_HOST=10.96.0.9",
                "MY_SVC_SERVICE_PORT=80",
                "MY_SVC_PORT=tcp://10.96.0.9:80",
                "MY_SVC_SERVICE_PORT_WEB_A=80",
                "MY_SVC_PORT_80_TCP=tcp://10.96.0.9:80",
                "MY_SVC_PORT_80_TCP_PROTO=tcp",
                "MY_SVC_PORT_80_TCP_PORT=80",
                "MY_SVC_PORT_80_TCP_ADDR=10.96.0.9",
                "MY_SVC_SERVICE_PORT_DNS=53",
                "MY_SVC_PORT_53_UDP=udp://10.96.0.9:53",
                "MY_SVC_PORT_53_UDP_PROTO=udp",
                "MY_SVC_PORT_53_UDP_PORT=53",
                "MY_SVC_PORT_53_UDP_ADDR=10.96.0.9",
            ]
        );
    }
}
