//! The image store of a node: pulls from registries, loads archives, keeps unpacked layers by content.
//!
//! * [`reference`]: what an image name means.
//! * [`registry`]: the client of the OCI distribution specification.
//! * [`archive`]: OCI layouts and `docker save` archives.
//! * [`unpack`]: a layer onto disk, safely.
//! * [`index`]: which names and images the store knows, in one file.
//! * [`store`]: all of it behind [`crate::images::ImageService`].

pub mod archive;
pub mod digest;
mod error;
pub mod index;
pub mod manifest;
mod pull;
pub mod reference;
pub mod registry;
pub mod store;
pub mod unpack;

pub use error::StoreError;
pub use reference::Reference;
pub use registry::RegistryConfig;
pub use store::ImageStore;
