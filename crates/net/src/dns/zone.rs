//! What names mean: the cluster zone as plain values (Kubernetes DNS-based service discovery, version 1.1.0).

use std::collections::BTreeMap;
use std::net::IpAddr;

/// The names of the cluster domain. The server turns this into A, AAAA, SRV, PTR and CNAME answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    /// `cluster.local`.
    pub domain: String,
    /// Services by (namespace, name).
    pub services: BTreeMap<(String, String), ServiceNames>,
}

/// What a Service's names mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceNames {
    /// One or two addresses of its own.
    Cluster {
        /// Cluster IPs.
        addresses: Vec<IpAddr>,
        /// Its named ports: (name, protocol in lower case, port).
        ports: Vec<(String, String, u16)>,
    },
    /// No address of its own: the endpoints answer.
    Headless {
        /// Ready (or published) endpoints.
        endpoints: Vec<EndpointName>,
    },
    /// Another name.
    External {
        /// The target.
        target: String,
    },
}

/// An endpoint of a headless Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointName {
    /// Host name below the Service's name, if the pod has one.
    pub hostname: Option<String>,
    /// Its address.
    pub address: IpAddr,
    /// Its named ports: (name, protocol in lower case, port).
    pub ports: Vec<(String, String, u16)>,
}
