//! What all parts of the agent share.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use mizzen_client::{Client, Reflector};
use mizzen_runtime::driver::Driver;
use mizzen_runtime::images::ImageService;
use tokio::sync::watch;

use crate::config::Config;
use crate::devices::Devices;
use crate::events::Events;
use crate::network::Network;
use crate::node::capacity::Capacity;
use crate::node::object::Pressure;
use crate::objects::Objects;
use crate::pod::id_ranges::IdRanges;
use crate::services::view::ServiceEnv;

/// Handles shared by workers, servers and loops of one node.
pub struct Context {
    /// Settings.
    pub config: Config,
    /// The API.
    pub client: Client,
    /// What runs containers.
    pub driver: Arc<dyn Driver>,
    /// The image store.
    pub images: Arc<dyn ImageService>,
    /// The network.
    pub network: Arc<dyn Network>,
    /// ConfigMaps and Secrets that pods use.
    pub objects: Objects,
    /// Where Events go.
    pub events: Events,
    /// Users of pods with user namespaces of their own.
    pub id_ranges: IdRanges,
    /// Devices of plugins.
    pub devices: Arc<Devices>,
    /// What this node has.
    pub capacity: Capacity,
    /// What the node is short of.
    pub pressure: watch::Sender<Pressure>,
    /// This node's object, once registered.
    pub node: Reflector<Node>,
    /// Environment that Services add to containers.
    pub service_env: ServiceEnv,
}
