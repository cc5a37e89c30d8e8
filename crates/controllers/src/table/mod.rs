//! The one list of controllers: what each is called, looks at, and is woken by. A file an area.

mod cluster;
mod network;
mod nodes;
mod security;
mod storage;
mod workloads;

use std::sync::Arc;

use crate::node_ipam::PodRange;
use crate::shell::Controller;
use crate::{certificates, tokens};

/// What controllers must know of the cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// PEM of the certificate authority that pods are given.
    pub root_ca_pem: String,
    /// Pod addresses of the cluster.
    pub pod_range: PodRange,
    /// Address of the cluster's DNS Service.
    pub cluster_dns: String,
    /// Signs certificates, and says who may have them.
    pub authority: Arc<dyn certificates::Authority>,
    /// Signs the tokens of ServiceAccounts.
    pub issuer: Arc<dyn tokens::Issuer>,
    /// `https://address:port` of the API, for new nodes.
    pub server: String,
}

/// All controllers.
pub fn all(settings: &Settings) -> Vec<Controller> {
    let areas = [
        cluster::controllers(settings),
        security::controllers(settings),
        workloads::controllers(),
        network::controllers(settings),
        nodes::controllers(settings),
        storage::controllers(),
    ];
    areas.into_iter().flatten().collect()
}

/// The controllers without which no CustomResourceDefinition is served and no policy checked: a server that runs alone has
/// these.
pub fn definitions() -> Vec<Controller> {
    vec![cluster::custom_resource_definitions(), cluster::validating_admission_policies()]
}
