//! The sample image: one layer with one file, this very binary, as an OCI layout (OCI image specification).

use std::path::{Path, PathBuf};

use mizzen_runtime::image::digest::Digest;
use mizzen_runtime::image::{ImageStore, RegistryConfig, manifest};
use serde_json::{Value, json};

use crate::error::{CommandError, Result};

/// Name of the image.
pub const NAME: &str = "mizzen.dev/demo/web:v1";

/// Makes the image in `scratch` and loads it into the images of `data_dir`. Blocks.
pub fn load(program: &Path, scratch: &Path, data_dir: &Path) -> Result<()> {
    let layout = scratch.join("image");
    build(program, &layout)?;
    ImageStore::open(&data_dir.join("images"), RegistryConfig::default())?.load(&layout)?;
    std::fs::remove_dir_all(&layout).map_err(CommandError::file("removing", &layout))?;
    Ok(())
}

fn build(program: &Path, layout: &Path) -> Result<()> {
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(CommandError::file("creating", &blobs))?;
    let layer = layer(program)?;
    let config = json!({
        "architecture": manifest::machine_architecture(),
        "os": "linux",
        "config": {"Entrypoint": ["/mizzen", "web"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]},
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(&blobs, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?,
        "layers": [put(&blobs, "application/vnd.oci.image.layer.v1.tar", &layer)?],
    });
    let mut entry = put(&blobs, "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())?;
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": NAME});
    write(&layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string().as_bytes())?;
    write(&layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)
}

fn layer(program: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(program).map_err(CommandError::file("reading", program))?;
    let mut builder = tar::Builder::new(Vec::with_capacity(bytes.len() + 4096));
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    builder.append_data(&mut header, "mizzen", bytes.as_slice())?;
    Ok(builder.into_inner()?)
}

fn put(blobs: &Path, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let digest = Digest::of(bytes);
    write(&PathBuf::from(blobs).join(digest.hex()), bytes)?;
    Ok(json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()}))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(std::fs::write(path, bytes).map_err(CommandError::file("writing", path))?)
}
