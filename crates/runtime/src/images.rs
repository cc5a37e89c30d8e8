//! What the agent asks of the image store: have an image ready, list, remove.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// When an image is pulled (`imagePullPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Ask the registry each time which content the name stands for.
    Always,
    /// Only if the store does not know the name.
    IfNotPresent,
    /// Never.
    Never,
}

/// A way to sign in to a registry, as found in a pull secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Host with optional port and path prefix, as keys of `.dockerconfigjson` `auths` are written
    /// (`registry.example:5000/team`, `https://index.docker.io/v1/`, `*.example.com`).
    pub registry: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Identity token, used instead of a password if present.
    pub identity_token: Option<String>,
}

/// The parts of an image's configuration that say how to run it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, `NAME=value`.
    pub env: Vec<String>,
    /// `User` as written: `name`, `name:group`, `uid`, `uid:gid` or empty.
    pub user: String,
    /// `WorkingDir`; may be empty.
    pub working_dir: String,
    /// `StopSignal` as written (`SIGTERM`, `15`), if any.
    pub stop_signal: Option<String>,
    /// `ExposedPorts` (`80/tcp`).
    pub exposed_ports: Vec<String>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:…` of its configuration: what [`crate::spec::ContainerSpec::image_id`] names.
    pub id: String,
    /// Its configuration.
    pub config: ImageConfig,
    /// Names it is known by (`docker.io/library/nginx:1.29`).
    pub tags: Vec<String>,
    /// Names with the digest of its manifest (`docker.io/library/nginx@sha256:…`); the first is shown as `imageID`.
    pub digests: Vec<String>,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Unix seconds of its last use by a container, 0 if never.
    pub last_used: i64,
    /// It was loaded by hand, so no registry need have it: only a person removes it, never the node for want of room.
    #[serde(default)]
    pub pinned: bool,
}

/// What a call of [`ImageService::ensure`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured {
    /// The image.
    pub image: Image,
    /// Something was fetched (or checked) at the registry; `false`: it was already present.
    pub pulled: bool,
    /// How long it took in milliseconds, waiting included.
    pub took_ms: u64,
}

/// Why an image is not there, in the words of a container's waiting reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageErrorReason {
    /// The name cannot be parsed.
    InvalidImageName,
    /// Pull policy `Never`, and it is not present.
    ErrImageNeverPull,
    /// The registry could not be reached, refused, or sent something wrong.
    ErrImagePull,
    /// It is there but unreadable.
    ImageInspectError,
}

impl ImageErrorReason {
    /// As the API shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            ImageErrorReason::InvalidImageName => "InvalidImageName",
            ImageErrorReason::ErrImageNeverPull => "ErrImageNeverPull",
            ImageErrorReason::ErrImagePull => "ErrImagePull",
            ImageErrorReason::ImageInspectError => "ImageInspectError",
        }
    }
}

/// No image.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ImageError {
    /// Reason of the waiting container.
    pub reason: ImageErrorReason,
    /// What happened, for people; names the image.
    pub message: String,
}

/// Disk use of the image store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageUsage {
    /// Bytes used by images.
    pub used_bytes: u64,
    /// Size of the file system they are on.
    pub capacity_bytes: u64,
    /// Free on that file system.
    pub available_bytes: u64,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, ImageError>>;

/// The image store of a node.
pub trait ImageService: Send + Sync + 'static {
    /// Has the image ready to run: finds or pulls it. Calls for one image share one pull. No back-off: the caller waits.
    /// Without credentials, or when none fits, the registry is asked anonymously.
    fn ensure<'a>(
        &'a self,
        reference: &'a str,
        policy: PullPolicy,
        credentials: &'a [Credential],
    ) -> Answer<'a, Ensured>;
    /// The image known by this name, digest or id, without asking anyone.
    fn find<'a>(&'a self, reference: &'a str) -> Answer<'a, Option<Image>>;
    /// All images.
    fn list(&self) -> Answer<'_, Vec<Image>>;
    /// Forgets an image (by id) and frees what only it used. Images of existing containers must not be named.
    fn remove<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;
    /// Disk use.
    fn usage(&self) -> Answer<'_, ImageUsage>;
}
