//! The API server over real HTTPS, as its clients see it. One program: what it stands on is linked once.

mod aggregation;
mod auditing;
mod authorizers;
mod bad_input;
mod custom_resources;
mod custom_resources_openapi;
mod fairness;
mod harness;
mod in_process;
mod lists;
mod node_metrics;
mod nodes;
mod objects;
mod openapi;
mod policies;
mod protobuf;
mod security;
mod servers;
mod subresources;
mod watching;
mod webhooks;
mod webhooks_conversion;
