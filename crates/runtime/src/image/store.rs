//! The image store: names, images and layers of a data directory, for the agent and the command line alike.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use futures_util::future::BoxFuture;

use crate::image::digest::Digest;
use crate::image::index::{Index, IndexFile, Record};
use crate::image::manifest::{ConfigDocument, Descriptor};
use crate::image::pull::{self, Layers};
use crate::image::registry::{RegistryClient, RegistryConfig, Session};
use crate::image::{Reference, StoreError, archive, unpack};
use crate::images::{Credential, Ensured, Image, ImageError, ImageErrorReason, ImageService, ImageUsage, PullPolicy};

/// Layers of one image that are fetched at a time.
const PARALLEL_LAYERS: usize = 4;

/// The images of one data directory. Cloning shares it.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    downloads: PathBuf,
    layers: Layers,
    index: IndexFile,
    registry: RegistryClient,
    /// The index as last read, with the stamp of its file.
    cached: Mutex<Cached>,
    /// When images were last used by a container of this process, Unix seconds.
    last_used: Mutex<HashMap<Digest, i64>>,
    /// One lock a name or layer under way, so that it is fetched once.
    under_way: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

type Stamp = Option<(u64, SystemTime)>;

#[derive(Debug, Default)]
struct Cached {
    stamp: Stamp,
    index: Arc<Index>,
}

impl ImageStore {
    /// Opens (or makes) the store in `directory`. Several processes may use it at once.
    pub fn open(directory: &Path, registries: RegistryConfig) -> Result<Self, StoreError> {
        let layers = Layers { directory: directory.join("layers"), scratch: directory.join("scratch") };
        let downloads = directory.join("downloads");
        for path in [&layers.directory, &layers.scratch, &downloads] {
            std::fs::create_dir_all(path).map_err(StoreError::file("creating", path))?;
        }
        let inner = Inner {
            downloads,
            layers,
            index: IndexFile::new(directory),
            registry: RegistryClient::new(registries)?,
            cached: Mutex::default(),
            last_used: Mutex::default(),
            under_way: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The directories of an image's layers, bottom first: the lower directories of its root file system.
    pub fn layers(&self, image_id: &str) -> Result<Vec<PathBuf>, StoreError> {
        let index = self.inner.current()?;
        let (id, record) = index.find(image_id).ok_or_else(|| missing("image", image_id))?;
        let absent = record.layers.iter().find(|l| !self.inner.layers.has(l));
        if let Some(layer) = absent {
            return Err(missing("layer", &layer.to_string()));
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
        self.inner.last_used.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), now);
        Ok(record.layers.iter().map(|l| self.inner.layers.path(l).join("fs")).collect())
    }

    /// Loads an OCI layout (directory or tar) or a `docker save` archive; the images it held. Blocks.
    pub fn load(&self, path: &Path) -> Result<Vec<Image>, StoreError> {
        let images = archive::read(path, &self.inner.layers)?;
        let mut loaded = Vec::new();
        for image in images {
            let record = Record { pinned: true, ..self.inner.record(&image.config, image.tags, image.digests) };
            let id = image.id.clone();
            self.inner.put(id.clone(), record)?;
            let index = self.inner.current()?;
            loaded.extend(index.images.get(&id).map(|record| self.inner.describe(&id, record)));
        }
        Ok(loaded)
    }

    async fn pull(&self, reference: &Reference, credentials: &[Credential]) -> Result<Image, StoreError> {
        let (session, fetched) = self.inner.registry.resolve(reference, credentials).await?;
        let id = fetched.manifest.config.digest.clone();
        let pinned = reference.pinned(&fetched.top);
        let mut tags = Vec::new();
        if reference.digest.is_none() {
            tags.push(reference.to_string());
        }
        let known = self.inner.current()?.images.get(&id).cloned();
        let complete = known.filter(|r| r.layers.iter().all(|l| self.inner.layers.has(l)));
        let record = match complete {
            Some(record) => Record { tags, digests: vec![pinned], pinned: false, ..record },
            None => {
                let bytes = session.small_blob(&fetched.manifest.config).await?;
                let what = format!("the configuration of {reference}");
                let config = ConfigDocument::parse(&what, &bytes, fetched.manifest.layers.len())?;
                self.fetch_layers(&session, &fetched.manifest.layers, config.diff_ids()).await?;
                self.inner.record(&config, tags, vec![pinned])
            }
        };
        self.inner.put(id.clone(), record)?;
        let index = self.inner.current()?;
        index
            .images
            .get(&id)
            .map(|record| self.inner.describe(&id, record))
            .ok_or_else(|| missing("image", &id.to_string()))
    }

    async fn fetch_layers(
        &self,
        session: &Session,
        blobs: &[Descriptor],
        diff_ids: &[Digest],
    ) -> Result<(), StoreError> {
        let slots = tokio::sync::Semaphore::new(PARALLEL_LAYERS);
        let mut work = Vec::with_capacity(blobs.len());
        for (blob, diff_id) in blobs.iter().zip(diff_ids) {
            work.push(async {
                // The semaphore is never closed; without a permit the layer would merely not wait its turn.
                let _permit = slots.acquire().await;
                self.fetch_layer(session, blob, diff_id).await
            });
        }
        futures_util::future::try_join_all(work).await?;
        Ok(())
    }

    async fn fetch_layer(&self, session: &Session, blob: &Descriptor, diff_id: &Digest) -> Result<(), StoreError> {
        let lock = self.inner.under_way(&blob.digest.to_string());
        let _alone = lock.lock().await;
        if self.inner.layers.has(diff_id) {
            return Ok(());
        }
        let file = self.inner.downloads.join(blob.digest.hex());
        session.download(blob, &file).await?;
        let (layers, blob, diff_id, path) =
            (self.inner.layers.clone(), blob.digest.clone(), diff_id.clone(), file.clone());
        let unpacked = tokio::task::spawn_blocking(move || layers.add(&diff_id, Some(&blob), pull::open(&path)?)).await;
        // Right or wrong, the download has served: a wrong one must not be taken up again.
        std::fs::remove_file(&file).map_err(StoreError::file("removing", &file))?;
        unpacked.map_err(|e| StoreError::malformed("unpacking a layer", e))?
    }

    async fn ensure_named(
        &self,
        reference: &Reference,
        policy: PullPolicy,
        credentials: &[Credential],
    ) -> Result<(Image, bool), ImageError> {
        let shown = reference.to_string();
        let lock = self.inner.under_way(&shown);
        let _alone = lock.lock().await;
        if policy != PullPolicy::Always
            && let Some(image) = self.inner.find(&shown)?
        {
            return Ok((image, false));
        }
        let image = self.pull(reference, credentials).await.map_err(|e| e.for_image(&shown))?;
        Ok((image, true))
    }
}

impl ImageService for ImageStore {
    fn ensure<'a>(
        &'a self,
        reference: &'a str,
        policy: PullPolicy,
        credentials: &'a [Credential],
    ) -> BoxFuture<'a, Result<Ensured, ImageError>> {
        Box::pin(async move {
            let began = Instant::now();
            let took_ms = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let parsed = Reference::parse(reference).map_err(|e| ImageError {
                reason: ImageErrorReason::InvalidImageName,
                message: format!("Failed to apply default image tag {reference:?}: {e}"),
            })?;
            if policy != PullPolicy::Always
                && let Some(image) = self.inner.find(&parsed.to_string())?
            {
                return Ok(Ensured { image: named_first(image, &parsed), pulled: false, took_ms: took_ms() });
            }
            if policy == PullPolicy::Never {
                let message = format!("Container image {reference:?} is not present with pull policy of Never");
                return Err(ImageError { reason: ImageErrorReason::ErrImageNeverPull, message });
            }
            let (image, pulled) = self.ensure_named(&parsed, policy, credentials).await?;
            Ok(Ensured { image: named_first(image, &parsed), pulled, took_ms: took_ms() })
        })
    }

    fn find<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<Image>, ImageError>> {
        Box::pin(async move {
            match self.inner.find(reference)? {
                Some(image) => Ok(Some(image)),
                None => Reference::parse(reference).ok().map_or(Ok(None), |r| self.inner.find(&r.to_string())),
            }
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Image>, ImageError>> {
        Box::pin(async move {
            let index = self.inner.current().map_err(|e| unreadable(&e))?;
            Ok(index.images.iter().map(|(id, record)| self.inner.describe(id, record)).collect())
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), ImageError>> {
        Box::pin(async move {
            let store = self.clone();
            let id = id.to_string();
            let removed = tokio::task::spawn_blocking(move || store.inner.remove(&id)).await;
            removed.map_err(|e| unreadable(&StoreError::malformed("removing an image", e)))?.map_err(|e| unreadable(&e))
        })
    }

    fn usage(&self) -> BoxFuture<'_, Result<ImageUsage, ImageError>> {
        Box::pin(async move {
            let path = &self.inner.layers.directory;
            let fs = rustix::fs::statvfs(path)
                .map_err(|e| unreadable(&StoreError::file("reading the size of", path)(e.into())))?;
            let index = self.inner.current().map_err(|e| unreadable(&e))?;
            let layers: std::collections::BTreeSet<&Digest> = index.images.values().flat_map(|r| &r.layers).collect();
            Ok(ImageUsage {
                used_bytes: layers.into_iter().map(|l| self.inner.layers.size(l)).sum(),
                capacity_bytes: fs.f_blocks * fs.f_frsize,
                available_bytes: fs.f_bavail * fs.f_frsize,
            })
        })
    }
}

impl Inner {
    /// The index, read again only when its file changed.
    fn current(&self) -> Result<Arc<Index>, StoreError> {
        let stamp = self.index.stamp();
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp.is_none() || cached.stamp != stamp {
            *cached = Cached { stamp, index: Arc::new(self.index.read()?) };
        }
        Ok(Arc::clone(&cached.index))
    }

    fn find(&self, name: &str) -> Result<Option<Image>, ImageError> {
        let index = self.current().map_err(|e| unreadable(&e))?;
        let complete = |record: &Record| record.layers.iter().all(|l| self.layers.has(l));
        Ok(index.find(name).filter(|(_, record)| complete(record)).map(|(id, record)| self.describe(id, record)))
    }

    fn describe(&self, id: &Digest, record: &Record) -> Image {
        let last_used = self.last_used.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied().unwrap_or(0);
        Image {
            id: id.to_string(),
            config: record.config.clone(),
            tags: record.tags.clone(),
            digests: record.digests.clone(),
            size_bytes: record.size_bytes,
            last_used,
            pinned: record.pinned,
        }
    }

    fn record(&self, config: &ConfigDocument, tags: Vec<String>, digests: Vec<String>) -> Record {
        let layers = config.diff_ids().to_vec();
        let size_bytes = layers.iter().map(|l| self.layers.size(l)).sum();
        Record { layers, config: config.run_config(), tags, digests, size_bytes, pinned: false }
    }

    fn put(&self, id: Digest, record: Record) -> Result<(), StoreError> {
        self.index.update(|index| index.put(id, record)).map(|_| ())
    }

    fn remove(&self, id: &str) -> Result<(), StoreError> {
        let (removed, index) = self.index.update(|index| {
            let found = index.find(id).map(|(id, _)| id.clone());
            found.and_then(|id| index.images.remove(&id))
        })?;
        let record = removed.ok_or_else(|| missing("image", id))?;
        for layer in record.layers.iter().filter(|l| !index.uses_layer(l)) {
            self.layers.remove(layer)?;
        }
        Ok(())
    }

    /// The lock of a name or layer. Locks that nobody holds are dropped on the way.
    fn under_way(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(name.to_string()).or_default())
    }
}

/// The image with the digest of the repository it was asked for by in front: several may hold the same image.
fn named_first(mut image: Image, reference: &Reference) -> Image {
    let prefix = format!("{}@", reference.name());
    image.digests.sort_by_key(|digest| !digest.starts_with(&prefix));
    image
}

fn missing(what: &'static str, digest: &str) -> StoreError {
    StoreError::Missing { what, digest: digest.to_string() }
}

fn unreadable(error: &StoreError) -> ImageError {
    ImageError { reason: ImageErrorReason::ImageInspectError, message: super::error::chain(error) }
}

/// Removes downloads and half-unpacked layers that an earlier process left. Call it while no other process uses the store.
pub fn clean_scratch(directory: &Path) -> Result<(), StoreError> {
    let scratch = directory.join("scratch");
    unpack::remove_tree(&scratch).map_err(StoreError::file("removing", &scratch))?;
    std::fs::create_dir_all(&scratch).map_err(StoreError::file("creating", scratch))
}
