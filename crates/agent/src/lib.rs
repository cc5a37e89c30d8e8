//! The node: keeps the pods bound to it running and says how they are.
//!
//! Floor 3. It sees the cluster through [`mizzen_client::Api`] alone, so it may be on another machine than the server;
//! it drives [`mizzen_runtime`] and the network through traits.
//!
//! * [`Agent`]: puts everything together.
//! * [`pod`]: pod workers around a pure state machine.
//! * [`volume`], [`probe`]: what workers use.
//! * [`node`]: the Node object and its Lease.
//! * [`eviction`]: what happens when memory or disk run out.
//! * [`services`]: what Services mean for this node.
//! * [`kubelet`]: the endpoint for logs, stats and streams.
//! * [`devices`]: devices of plugins, over [`rpc`].
//! * [`streaming`]: exec, attach and port-forward.

mod agent;
pub mod config;
pub mod context;
pub mod devices;
pub mod events;
pub mod eviction;
pub mod kubelet;
pub mod network;
pub mod node;
pub mod objects;
pub mod pod;
pub mod probe;
pub mod quantity;
pub mod rpc;
pub mod services;
pub mod settings;
pub mod streaming;
pub mod usage;
pub mod volume;

pub use agent::{Agent, AgentError};
pub use config::Config;
pub use network::{Network, NetworkError};
