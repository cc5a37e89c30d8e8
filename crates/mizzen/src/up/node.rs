//! The node: images, containers, network, agent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use mizzen_agent::eviction::settings::BadSetting;
use mizzen_agent::{Agent, Config};
use mizzen_client::{Reflector, Selection};
use mizzen_runtime::image::ImageStore;
use mizzen_runtime::oci::{self, Oci};
use mizzen_server::pki::{KUBELET_CLIENT, Pki};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::control_plane::Running;
use super::network::{NodeNetwork, Plan};
use crate::error::{CommandError, Result};
use crate::instance::{Instance, net_cidr};
use crate::settings::{KUBERNETES_VERSION, Settings};

/// This machine's addresses, the one to announce first; never empty.
pub fn addresses(settings: &Settings) -> Vec<IpAddr> {
    let listen = settings.listen.ip();
    let mut found: Vec<IpAddr> = if listen.is_unspecified() { Vec::new() } else { vec![listen] };
    found.extend(routed_address());
    found.extend(interface_addresses());
    let mut unique: Vec<IpAddr> = Vec::new();
    for address in found {
        if !address.is_loopback() && !unique.contains(&address) {
            unique.push(address);
        }
    }
    if unique.is_empty() {
        // A machine without a network: pods reach the host by the bridge's address.
        unique.push(IpAddr::V4(Ipv4Addr::from(u32::from(settings.pod_range.address) + 1)));
    }
    unique
}

/// The address that packets to the outside would carry. Connecting a UDP socket sends nothing.
fn routed_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}

fn interface_addresses() -> Vec<IpAddr> {
    // Without a list there is still the routed address.
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let bridges = |name: &str| name.ends_with("-br") || name.starts_with("mz");
    let v4 = |a: nix::ifaddrs::InterfaceAddress| a.address?.as_sockaddr_in().map(|s| IpAddr::V4(s.ip()));
    interfaces.filter(|i| !bridges(&i.interface_name)).filter_map(v4).collect()
}

/// Opens what the node needs and starts the agent.
pub fn start(
    settings: &Settings,
    instance: &Instance,
    pki: &Arc<Pki>,
    running: &Running,
    addresses: Vec<IpAddr>,
    shutdown: &CancellationToken,
    parts: &mut JoinSet<Result<&'static str>>,
) -> Result<()> {
    let images = Arc::new(ImageStore::open(&settings.data_dir.join("images"), settings.registries.clone())?);
    let driver = Arc::new(Oci::new(
        oci::Config::for_data_dir(&settings.data_dir),
        Arc::clone(&images) as Arc<dyn oci::ImageLayers>,
    )?);
    let api = running.node_api(&settings.node_name);
    let selection = Selection { fields: format!("metadata.name={}", settings.node_name), ..Selection::default() };
    let (nodes, feed) = Reflector::<Node>::new(Arc::clone(&api), selection, shutdown.clone());
    parts.spawn(async move {
        feed.await;
        Ok("the node's watch")
    });
    let (network, set_up) = NodeNetwork::new(plan(settings, instance)?, nodes, shutdown.clone());
    parts.spawn(set_up);
    let agent = Agent::new(config(settings, pki, addresses)?, api, driver, images, Arc::new(network));
    let stop = shutdown.clone();
    parts.spawn(async move {
        agent.run(stop).await?;
        Ok("the agent")
    });
    Ok(())
}

fn config(settings: &Settings, pki: &Pki, addresses: Vec<IpAddr>) -> Result<Config> {
    let mut config = Config::new(settings.node_name.clone(), addresses, &settings.data_dir);
    config.cluster_dns = vec![settings.cluster_dns().into()];
    config.kubelet_address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.kubelet_port));
    config.version = format!("{KUBERNETES_VERSION}.0+mizzen.{}", env!("CARGO_PKG_VERSION"));
    config.kubelet_tls = Some(pki.kubelet_server_config());
    config.kubelet_clients = vec![KUBELET_CLIENT.into()];
    let wrong = |error: BadSetting| CommandError::Setting {
        setting: format!("kubelet.{}", error.setting),
        message: error.message,
    };
    settings.kubelet.apply(&mut config).map_err(wrong)?;
    Ok(config)
}

fn plan(settings: &Settings, instance: &Instance) -> Result<Plan> {
    let range = settings.pod_range;
    let bad =
        |setting: &str| CommandError::Setting { setting: setting.into(), message: "not a range of addresses".into() };
    Ok(Plan {
        instance: instance.clone(),
        cluster: net_cidr(range.address, range.prefix).ok_or_else(|| bad("--pod-cidr"))?,
        services: net_cidr(settings.service_cidr.address, settings.service_cidr.prefix)
            .ok_or_else(|| bad("--service-cidr"))?,
        cluster_dns: settings.cluster_dns().into(),
    })
}
