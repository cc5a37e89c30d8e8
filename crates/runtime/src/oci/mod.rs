//! The embedded driver: containers made by this crate, one shim process per pod.
//!
//! The driver keeps nothing that it could not find again: each pod has a directory `<run>/<uid>` with the shim's socket, its
//! state file and the containers' upper directories. Calls become requests to the shim ([`link`]); what belongs to no shim
//! any more is taken away by [`clean`].

mod clean;
mod driver;
mod events;
mod link;
mod spawn;

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::cgroup::{CgroupError, Cgroups};
use events::Events;
use link::Link;

/// Where the layers of images are. The image store implements it.
pub trait ImageLayers: Send + Sync + 'static {
    /// Directories of the layers of an image, topmost first, as overlayfs wants them.
    ///
    /// # Errors
    /// The image is unknown or incomplete; the text says which.
    fn layers(&self, image_id: &str) -> Result<Vec<PathBuf>, LayersError>;
}

impl ImageLayers for crate::image::ImageStore {
    fn layers(&self, image_id: &str) -> Result<Vec<PathBuf>, LayersError> {
        let error = |e: crate::image::StoreError| LayersError { image_id: image_id.to_owned(), message: e.to_string() };
        let mut layers = crate::image::ImageStore::layers(self, image_id).map_err(error)?;
        layers.reverse(); // The store lists the bottom one first.
        Ok(layers)
    }
}

/// An image whose layers are not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("image {image_id}: {message}")]
pub struct LayersError {
    /// The image asked for.
    pub image_id: String,
    /// What is wrong with it.
    pub message: String,
}

/// Settings of the driver.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory for pods: sockets, state files, upper directories. Must be on a file system that overlayfs can write to.
    pub run_directory: PathBuf,
    /// Name of the instance's root cgroup; two instances on one machine need two.
    pub cgroup_root: String,
    /// The program that is the shim when called with `shim_args`.
    pub shim_program: PathBuf,
    /// Its arguments before `--state <directory>`.
    pub shim_args: Vec<OsString>,
}

impl Config {
    /// The settings of the instance whose data directory this is: `<data>/run`, this very program as the shim, and a cgroup
    /// name of its own (`mizzen` for the default data directory).
    #[must_use]
    pub fn for_data_dir(data: &Path) -> Self {
        let cgroup_root = if data == Path::new("/var/lib/mizzen") {
            "mizzen".to_owned()
        } else {
            let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
            let hash = Sha256::digest(data.as_os_str().as_encoded_bytes());
            format!("mizzen-{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
        };
        Config {
            run_directory: data.join("run"),
            cgroup_root,
            shim_program: PathBuf::from("/proc/self/exe"),
            shim_args: vec![OsString::from("shim")],
        }
    }
}

/// Why the driver cannot work on this machine, or could not clean up.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// Cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A file or directory.
    #[error("{action} {path}: {source}")]
    File {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl OciError {
    fn on(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| OciError::File { action, path, source }
    }
}

/// The embedded driver. Needs a tokio runtime and root.
pub struct Oci {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    layers: Arc<dyn ImageLayers>,
    cgroups: Cgroups,
    program: OwnedFd,
    links: Mutex<HashMap<String, Arc<Link>>>,
    events: Arc<Events>,
}

impl Oci {
    /// A driver; running sandboxes are found by [`crate::driver::Driver::adopt`].
    ///
    /// # Errors
    /// Cgroups are not mounted, the shim program or the run directory cannot be opened.
    pub fn new(config: Config, layers: Arc<dyn ImageLayers>) -> Result<Self, OciError> {
        let cgroups = Cgroups::detect(&config.cgroup_root)?;
        clean::make_private(&config.run_directory)?;
        let program = spawn::open_program(&config.shim_program).map_err(OciError::on("open", &config.shim_program))?;
        let (links, events) = (Mutex::default(), Arc::default());
        Ok(Oci { inner: Arc::new(Inner { config, layers, cgroups, program, links, events }) })
    }

    /// Kills every shim and container of the instance and removes its mounts, cgroups and run directory: what
    /// `mizzen down` does. A second call finds nothing to do.
    ///
    /// # Errors
    /// Something could not be removed; all else has been.
    pub fn clean_up(config: &Config) -> Result<(), OciError> {
        clean::everything(config)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The shims go on; only the tasks that listen to them end.
        self.events.close();
        lock(&self.links).values().for_each(|link| link.abort());
    }
}

impl std::fmt::Debug for Oci {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oci").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

/// The value in a mutex, also after a panic elsewhere: every critical section here leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
