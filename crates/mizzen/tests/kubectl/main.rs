//! Real kubectl against a real `mizzen up`, with real images, processes and packets.
//!
//! Needs root, nsenter, ip and busybox-static, and kubectl (`MIZZEN_TEST_KUBECTL`, or on the path); `cargo xtask test` brings
//! them. Each test has a cluster of its own in a network namespace of its own and takes everything away again.

mod bad_input;
mod cluster;
mod custom_resources;
mod identity;
mod image;
mod lifecycle;
mod node;
mod objects;
mod operator;
mod policies;
mod pressure;
mod python;
mod registry;
mod storage;
mod workloads;
