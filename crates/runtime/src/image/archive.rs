//! Images from files: OCI layouts (a directory or a tar of one) and `docker save` archives, gzip or plain.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::Deserialize;

use crate::image::digest::Digest;
use crate::image::manifest::{self, ConfigDocument, DOCUMENT_MAX, Descriptor, Document, Manifest};
use crate::image::pull::{Layers, tempfile_in};
use crate::image::{Reference, StoreError, unpack};

/// An image whose layers are in the store.
#[derive(Debug)]
pub struct Loaded {
    /// Digest of its configuration.
    pub id: Digest,
    /// Its configuration.
    pub config: ConfigDocument,
    /// Full names the archive gives it.
    pub tags: Vec<String>,
    /// Full names with the digest of its manifest.
    pub digests: Vec<String>,
}

/// An entry of a `docker save` archive's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct LayoutIndex {
    manifests: Vec<Descriptor>,
}

/// Reads every image of `path` into `layers`. Blocks.
pub(super) fn read(path: &Path, layers: &Layers) -> Result<Vec<Loaded>, StoreError> {
    if path.is_dir() {
        return Folder { root: path.to_path_buf() }.read(layers);
    }
    let scratch = tempfile_in(&layers.scratch, "archive")?;
    let result = extract(path, &scratch).and_then(|()| Folder { root: scratch.clone() }.read(layers));
    unpack::remove_tree(&scratch).map_err(StoreError::file("removing", &scratch))?;
    result
}

fn extract(path: &Path, into: &Path) -> Result<(), StoreError> {
    let file = File::open(path).map_err(StoreError::file("opening", path))?;
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let gzip =
        std::io::BufRead::fill_buf(&mut reader).map_err(StoreError::file("reading", path))?.starts_with(&[0x1f, 0x8b]);
    let name = path.display().to_string();
    if gzip {
        unpack::unpack(&name, flate2::read::MultiGzDecoder::new(reader), into)
    } else {
        unpack::unpack(&name, reader, into)
    }
    .map(|_| ())
}

/// A directory with the files of an archive or layout.
struct Folder {
    root: PathBuf,
}

impl Folder {
    fn read(&self, layers: &Layers) -> Result<Vec<Loaded>, StoreError> {
        if let Some(bytes) = self.document("manifest.json")? {
            let what = "manifest.json of the archive";
            let images: Vec<DockerImage> =
                serde_json::from_slice(&bytes).map_err(|e| StoreError::malformed(what, e))?;
            return images.into_iter().map(|image| self.docker_image(image, layers)).collect();
        }
        let Some(bytes) = self.document("index.json")? else {
            let message = "it holds neither manifest.json (docker save) nor index.json (OCI layout)";
            return Err(StoreError::malformed(self.root.display().to_string(), message));
        };
        let index: LayoutIndex =
            serde_json::from_slice(&bytes).map_err(|e| StoreError::malformed("index.json of the layout", e))?;
        index.manifests.into_iter().map(|descriptor| self.layout_image(&descriptor, layers)).collect()
    }

    fn docker_image(&self, image: DockerImage, layers: &Layers) -> Result<Loaded, StoreError> {
        let bytes = self.document(&image.config)?.ok_or_else(|| missing("configuration", &image.config))?;
        let config = ConfigDocument::parse(&format!("the configuration {}", image.config), &bytes, image.layers.len())?;
        for (file, diff_id) in image.layers.iter().zip(config.diff_ids()) {
            layers.add(diff_id, None, self.open(file)?.ok_or_else(|| missing("layer", file))?)?;
        }
        let tags = image.repo_tags.unwrap_or_default();
        let tags = tags.iter().map(|t| Reference::parse(t).map(|r| r.to_string())).collect::<Result<_, _>>()?;
        Ok(Loaded { id: Digest::of(&bytes), config, tags, digests: Vec::new() })
    }

    fn layout_image(&self, descriptor: &Descriptor, layers: &Layers) -> Result<Loaded, StoreError> {
        let manifest = self.manifest(&descriptor.digest, 0)?;
        let bytes = self.blob(&manifest.config.digest, "configuration")?;
        let config = ConfigDocument::parse(
            &format!("the configuration {}", manifest.config.digest),
            &bytes,
            manifest.layers.len(),
        )?;
        for (blob, diff_id) in manifest.layers.iter().zip(config.diff_ids()) {
            let file = blob_path(&blob.digest);
            let reader = self.open(&file)?.ok_or_else(|| missing("layer", &blob.digest.to_string()))?;
            layers.add(diff_id, Some(&blob.digest), reader)?;
        }
        let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
            .iter()
            .find_map(|a| descriptor.annotations.get(*a));
        let reference = name.map(|n| Reference::parse(n)).transpose()?;
        let digests = reference.iter().map(|r| r.pinned(&descriptor.digest)).collect();
        let tags = reference.iter().map(ToString::to_string).collect();
        Ok(Loaded { id: manifest.config.digest, config, tags, digests })
    }

    /// The manifest behind a digest, through at most two indexes.
    fn manifest(&self, digest: &Digest, depth: u32) -> Result<Manifest, StoreError> {
        let what = format!("the manifest {digest}");
        match Document::parse(&what, &self.blob(digest, "manifest")?)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(list) if depth < 2 => self.manifest(&manifest::select(&what, &list)?.digest, depth + 1),
            Document::Index(_) => Err(StoreError::malformed(what, "indexes are nested too deeply")),
        }
    }

    fn blob(&self, digest: &Digest, what: &'static str) -> Result<Vec<u8>, StoreError> {
        let bytes = self.document(&blob_path(digest))?.ok_or_else(|| missing(what, &digest.to_string()))?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(StoreError::DigestMismatch {
                what: what.into(),
                expected: digest.to_string(),
                actual: actual.to_string(),
            });
        }
        Ok(bytes)
    }

    /// A whole small file; `None` if it is not there.
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(DOCUMENT_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(StoreError::file("reading", self.root.join(name)))?;
        if bytes.len() as u64 > DOCUMENT_MAX {
            return Err(StoreError::malformed(name, format!("it is larger than {DOCUMENT_MAX} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Opens a file of the archive; links that the archive brings are followed only inside it.
    fn open(&self, name: &str) -> Result<Option<BufReader<File>>, StoreError> {
        let path = self.root.join(name);
        let failed = |e: rustix::io::Errno| StoreError::file("opening", &path)(e.into());
        let root =
            rustix::fs::openat(CWD, &self.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(failed)?;
        match rustix::fs::openat2(&root, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(fd) => Ok(Some(BufReader::with_capacity(256 << 10, File::from(fd)))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn missing(what: &'static str, digest: &str) -> StoreError {
    StoreError::Missing { what, digest: digest.to_string() }
}
