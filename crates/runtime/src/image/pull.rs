//! Layers into the store: verified by digest, unpacked beside their final place, moved there when durable.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::image::StoreError;
use crate::image::digest::{Digest, Hashing};
use crate::image::unpack;

/// A gzip member, a zstd frame or a plain tar, told by its first bytes whatever the media type says.
enum Plain<R: Read> {
    Gzip(Box<flate2::read::MultiGzDecoder<R>>),
    Zstd(Box<ruzstd::decoding::StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>),
    Tar(R),
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Plain::Gzip(r) => r.read(buffer),
            Plain::Zstd(r) => r.read(buffer),
            Plain::Tar(r) => r.read(buffer),
        }
    }
}

/// Where unpacked layers are.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    pub directory: PathBuf,
    pub scratch: PathBuf,
}

impl Layers {
    /// The directory of an unpacked layer, whether it is there or not. Short, since overlayfs takes all layers in one page of options.
    pub fn path(&self, diff_id: &Digest) -> PathBuf {
        self.directory.join(&diff_id.hex()[..32])
    }

    /// Is the layer there, complete?
    pub fn has(&self, diff_id: &Digest) -> bool {
        self.path(diff_id).join("fs").is_dir()
    }

    /// Unpacks a blob as layer `diff_id`. `blob` is its digest as sent, if it is to be checked. Blocks.
    pub fn add(&self, diff_id: &Digest, blob: Option<&Digest>, reader: impl Read) -> Result<(), StoreError> {
        if self.has(diff_id) {
            return Ok(());
        }
        let scratch = tempfile_in(&self.scratch, diff_id.hex())?;
        let result = self.add_in(&scratch, diff_id, blob, reader);
        if result.is_err() {
            unpack::remove_tree(&scratch).map_err(StoreError::file("removing", &scratch))?;
        }
        result
    }

    fn add_in(
        &self,
        scratch: &Path,
        diff_id: &Digest,
        blob: Option<&Digest>,
        reader: impl Read,
    ) -> Result<(), StoreError> {
        let what = format!("layer {}", blob.unwrap_or(diff_id));
        let fs = scratch.join("fs");
        std::fs::create_dir(&fs).map_err(StoreError::file("creating", &fs))?;
        let mut plain = Hashing::new(decompress(&what, Hashing::new(reader))?);
        let bytes = unpack::unpack(&blob.unwrap_or(diff_id).to_string(), &mut plain, &fs)?;
        // What follows the archive's end marker still belongs to both digests.
        io::copy(&mut plain, &mut io::sink()).map_err(|e| StoreError::malformed(&what, e))?;
        let (actual, plain) = plain.finish();
        check(&what, diff_id, &actual)?;
        if let Some(blob) = blob {
            let mut source = match plain {
                Plain::Gzip(r) => r.into_inner(),
                Plain::Zstd(r) => r.into_inner(),
                Plain::Tar(r) => r,
            };
            io::copy(&mut source, &mut io::sink()).map_err(|e| StoreError::malformed(&what, e))?;
            check(&what, blob, &source.into_inner_hash())?;
        }
        std::fs::write(scratch.join("size"), bytes.to_string()).map_err(StoreError::file("writing", scratch))?;
        unpack::sync_file_system(scratch).map_err(StoreError::file("syncing", scratch))?;
        let target = self.path(diff_id);
        match std::fs::rename(scratch, &target) {
            Ok(()) => Ok(()),
            // Another process was faster: its content is the same.
            Err(_) if self.has(diff_id) => unpack::remove_tree(scratch).map_err(StoreError::file("removing", scratch)),
            Err(error) => Err(StoreError::file("moving the layer to", target)(error)),
        }
    }

    /// Bytes of the layer's files.
    pub fn size(&self, diff_id: &Digest) -> u64 {
        // The size is for people; a layer without one counts nothing.
        std::fs::read_to_string(self.path(diff_id).join("size")).ok().and_then(|t| t.parse().ok()).unwrap_or(0)
    }

    /// Removes a layer's directory.
    pub fn remove(&self, diff_id: &Digest) -> Result<(), StoreError> {
        let path = self.path(diff_id);
        unpack::remove_tree(&path).map_err(StoreError::file("removing", path))
    }
}

/// A source whose first bytes were looked at.
struct Peeked<R> {
    head: io::Cursor<Vec<u8>>,
    inner: Hashing<R>,
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.head.read(buffer)? {
            0 => self.inner.read(buffer),
            n => Ok(n),
        }
    }
}

impl<R: Read> Peeked<R> {
    fn into_inner_hash(self) -> Digest {
        self.inner.finish().0
    }
}

fn decompress<R: Read>(what: &str, mut inner: Hashing<R>) -> Result<Plain<Peeked<R>>, StoreError> {
    let mut head = Vec::with_capacity(4);
    (&mut inner).take(4).read_to_end(&mut head).map_err(|e| StoreError::malformed(what, e))?;
    let gzip = head.starts_with(&[0x1f, 0x8b]);
    let zstd = head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let peeked = Peeked { head: io::Cursor::new(head), inner };
    Ok(if gzip {
        Plain::Gzip(Box::new(flate2::read::MultiGzDecoder::new(peeked)))
    } else if zstd {
        let decoder = ruzstd::decoding::StreamingDecoder::new(peeked).map_err(|e| StoreError::malformed(what, e))?;
        Plain::Zstd(Box::new(decoder))
    } else {
        Plain::Tar(peeked)
    })
}

fn check(what: &str, expected: &Digest, actual: &Digest) -> Result<(), StoreError> {
    if expected == actual {
        return Ok(());
    }
    Err(StoreError::DigestMismatch { what: what.into(), expected: expected.to_string(), actual: actual.to_string() })
}

/// A fresh directory that no other process uses.
pub(super) fn tempfile_in(directory: &Path, name: &str) -> Result<PathBuf, StoreError> {
    let path = directory.join(format!("{name}.{}.{:08x}", std::process::id(), rand::random::<u32>()));
    std::fs::create_dir(&path).map_err(StoreError::file("creating", &path))?;
    Ok(path)
}

/// Opens a file for reading in large pieces.
pub(super) fn open(path: &Path) -> Result<BufReader<File>, StoreError> {
    Ok(BufReader::with_capacity(256 << 10, File::open(path).map_err(StoreError::file("opening", path))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn store() -> (tempfile::TempDir, Layers) {
        let dir = tempfile::tempdir().unwrap();
        let layers = Layers { directory: dir.path().join("layers"), scratch: dir.path().join("scratch") };
        std::fs::create_dir(&layers.directory).unwrap();
        std::fs::create_dir(&layers.scratch).unwrap();
        (dir, layers)
    }

    fn tar() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, "hello", &b"world"[..]).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn layers_are_kept_only_when_their_digests_fit() {
        let (_dir, layers) = store();
        let plain = tar();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        let gzip = encoder.finish().unwrap();
        let (diff_id, blob, wrong) = (Digest::of(&plain), Digest::of(&gzip), Digest::of(b"wrong"));
        assert!(matches!(layers.add(&diff_id, Some(&wrong), gzip.as_slice()), Err(StoreError::DigestMismatch { .. })));
        assert!(matches!(layers.add(&wrong, Some(&blob), gzip.as_slice()), Err(StoreError::DigestMismatch { .. })));
        assert!(!layers.has(&diff_id) && std::fs::read_dir(&layers.scratch).unwrap().next().is_none());
        layers.add(&diff_id, Some(&blob), gzip.as_slice()).unwrap();
        assert_eq!(std::fs::read(layers.path(&diff_id).join("fs/hello")).unwrap(), b"world");
        assert_eq!(layers.size(&diff_id), 5);
    }
}
