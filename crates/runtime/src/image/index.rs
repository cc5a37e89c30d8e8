//! Which images and names the store knows: one small file, replaced as a whole, guarded by a lock between processes.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::image::{StoreError, digest::Digest};
use crate::images::ImageConfig;

/// The content of `index.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Images by the digest of their configuration.
    pub images: BTreeMap<Digest, Record>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Digests of its uncompressed layers, bottom first.
    pub layers: Vec<Digest>,
    /// How to run it.
    pub config: ImageConfig,
    /// Full names with a tag.
    pub tags: Vec<String>,
    /// Full names with the digest of a manifest.
    pub digests: Vec<String>,
    /// Bytes of its layers' files.
    pub size_bytes: u64,
    /// It was loaded by hand: no registry need have it.
    #[serde(default)]
    pub pinned: bool,
}

impl Index {
    /// The image that a full name (`registry/repository:tag`, `…@digest`) or an id (whole or at least 12 digits of it) stands for.
    pub fn find(&self, name: &str) -> Option<(&Digest, &Record)> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let is_id = |id: &Digest| hex.len() >= 12 && id.hex().starts_with(hex);
        self.images
            .iter()
            .find(|(id, r)| r.tags.iter().any(|t| t == name) || r.digests.iter().any(|d| d == name) || is_id(id))
    }

    /// Adds an image or names to one; a tag moves here from whatever image had it. One whose last tag went to another image
    /// is superseded: it is no longer pinned.
    pub fn put(&mut self, id: Digest, record: Record) {
        for (other, existing) in &mut self.images {
            let tags = existing.tags.len();
            if *other != id {
                existing.tags.retain(|t| !record.tags.contains(t));
            }
            existing.pinned &= existing.tags.len() == tags || !existing.tags.is_empty();
        }
        match self.images.get_mut(&id) {
            Some(existing) => {
                merge(&mut existing.tags, record.tags);
                merge(&mut existing.digests, record.digests);
                existing.layers = record.layers;
                existing.pinned |= record.pinned;
            }
            None => {
                self.images.insert(id, record);
            }
        }
    }

    /// Is a layer part of any image?
    pub fn uses_layer(&self, layer: &Digest) -> bool {
        self.images.values().any(|r| r.layers.contains(layer))
    }
}

fn merge(into: &mut Vec<String>, from: Vec<String>) {
    for name in from {
        if !into.contains(&name) {
            into.push(name);
        }
    }
}

/// The index on disk.
#[derive(Debug)]
pub struct IndexFile {
    path: PathBuf,
    lock: PathBuf,
}

impl IndexFile {
    /// The index of the store in `directory`, which exists.
    pub fn new(directory: &Path) -> Self {
        Self { path: directory.join("index.json"), lock: directory.join("lock") }
    }

    /// The index as it now is; empty if there is none yet.
    pub fn read(&self) -> Result<Index, StoreError> {
        match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
                StoreError::malformed(format!("{} (remove it and load the images again)", self.path.display()), e)
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(StoreError::file("reading", &self.path)(error)),
        }
    }

    /// Something that changes whenever the file does.
    pub fn stamp(&self) -> Option<(u64, std::time::SystemTime)> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(&self.path).ok()?;
        Some((metadata.ino(), metadata.modified().ok()?))
    }

    /// Changes the index under the lock and writes it, durably.
    pub fn update<T>(&self, change: impl FnOnce(&mut Index) -> T) -> Result<(T, Index), StoreError> {
        let _held = self.lock()?;
        let mut index = self.read()?;
        let before = index.clone();
        let answer = change(&mut index);
        if index != before {
            self.write(&index)?;
        }
        Ok((answer, index))
    }

    fn lock(&self) -> Result<File, StoreError> {
        let failed = |e| StoreError::file("locking", &self.lock)(e);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.lock).map_err(failed)?;
        file.lock().map_err(|e| StoreError::file("locking", &self.lock)(e))?;
        Ok(file)
    }

    fn write(&self, index: &Index) -> Result<(), StoreError> {
        let failed = |e| StoreError::file("writing", &self.path)(e);
        let bytes = serde_json::to_vec(index).map_err(|e| StoreError::malformed("the index of images", e))?;
        let temporary = self.path.with_extension("tmp");
        let mut file = File::create(&temporary).map_err(failed)?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(|e| StoreError::file("writing", &temporary)(e))?;
        std::fs::rename(&temporary, &self.path).map_err(|e| StoreError::file("replacing", &self.path)(e))?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        File::open(directory).and_then(|d| d.sync_all()).map_err(StoreError::file("syncing", directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tag: &str) -> Record {
        Record {
            layers: vec![],
            config: ImageConfig::default(),
            tags: vec![tag.into()],
            digests: vec![],
            size_bytes: 0,
            pinned: true,
        }
    }

    #[test]
    fn a_tag_means_one_image() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let mut index = Index::default();
        index.put(one.clone(), record("r/a:1"));
        index.put(two.clone(), record("r/a:1"));
        assert_eq!(index.find("r/a:1").unwrap().0, &two);
        assert!(index.images[&two].pinned && !index.images[&one].pinned, "a superseded image is not pinned");
        index.put(two.clone(), Record { pinned: false, ..record("r/b:1") });
        assert!(index.images[&two].pinned, "a pull takes no pin away");
        assert_eq!(index.find(&one.to_string()).unwrap().0, &one);
        assert_eq!(index.find(&one.hex()[..12]).unwrap().0, &one);
        assert!(index.find(&one.hex()[..8]).is_none());
    }

    #[test]
    fn survives_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let file = IndexFile::new(dir.path());
        assert_eq!(file.read().unwrap(), Index::default());
        file.update(|i| i.put(Digest::of(b"1"), record("r/a:1"))).unwrap();
        assert!(file.read().unwrap().find("r/a:1").is_some());
        std::fs::write(dir.path().join("index.json"), "{").unwrap();
        assert!(file.read().unwrap_err().to_string().contains("index.json"));
    }
}
