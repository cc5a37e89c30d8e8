//! Manifests, indexes and configurations: the documents of the OCI image specification and their Docker forms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::image::{StoreError, digest::Digest};
use crate::images::ImageConfig;

/// Largest manifest, index or configuration that is read (registries cap them at 4 MiB).
pub const DOCUMENT_MAX: u64 = 4 << 20;
/// Most layers of an image; overlayfs stacks up to 500.
const LAYERS_MAX: usize = 256;

/// What registries are told is understood.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Points to content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// For whom, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Notes; `org.opencontainers.image.ref.name` names an image in a layout.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A platform of an index entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, in Go's words.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Images for several platforms.
    Index(Vec<Descriptor>),
}

/// One image: its configuration and layers, bottom first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The configuration.
    pub config: Descriptor,
    /// The layers.
    pub layers: Vec<Descriptor>,
}

/// The configuration document, as far as it is used.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ConfigDocument {
    #[serde(default)]
    config: Option<RunConfig>,
    #[serde(default)]
    rootfs: RootFs,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// Docker writes `null` where nothing is set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RunConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    labels: Option<BTreeMap<String, String>>,
}

impl Document {
    /// Parses a manifest or an index; `what` names it in errors.
    pub fn parse(what: &str, bytes: &[u8]) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        struct Any {
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
            manifests: Option<Vec<Descriptor>>,
        }
        let any: Any = serde_json::from_slice(bytes).map_err(|e| StoreError::malformed(what, e))?;
        match (any.config, any.layers, any.manifests) {
            (Some(config), Some(layers), None) if layers.len() <= LAYERS_MAX => {
                Ok(Self::Manifest(Manifest { config, layers }))
            }
            (Some(_), Some(_), None) => {
                Err(StoreError::malformed(what, format!("it has more than {LAYERS_MAX} layers")))
            }
            (None, None, Some(manifests)) => Ok(Self::Index(manifests)),
            _ => Err(StoreError::malformed(what, "it is neither an image manifest (schema 2 or OCI) nor an index")),
        }
    }
}

/// The entry of an index for this machine.
pub fn select<'a>(what: &str, manifests: &'a [Descriptor]) -> Result<&'a Descriptor, StoreError> {
    let architecture = machine_architecture();
    let fits = |d: &&Descriptor| d.platform.as_ref().is_none_or(|p| p.os == "linux" && p.architecture == architecture);
    manifests.iter().find(fits).ok_or_else(|| {
        let offered: Vec<String> = manifests
            .iter()
            .filter_map(|d| d.platform.as_ref())
            .map(|p| format!("{}/{}", p.os, p.architecture))
            .collect();
        StoreError::malformed(what, format!("no image for linux/{architecture}; there are: {}", offered.join(", ")))
    })
}

/// This machine in Go's words.
pub fn machine_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

impl ConfigDocument {
    /// Parses a configuration and checks it against its manifest's number of layers.
    pub fn parse(what: &str, bytes: &[u8], layers: usize) -> Result<Self, StoreError> {
        let document: Self = serde_json::from_slice(bytes).map_err(|e| StoreError::malformed(what, e))?;
        if document.rootfs.diff_ids.len() != layers {
            let message =
                format!("the configuration names {} layers, the manifest {layers}", document.rootfs.diff_ids.len());
            return Err(StoreError::malformed(what, message));
        }
        let (os, architecture) = (document.os.as_str(), document.architecture.as_str());
        if !matches!(os, "" | "linux") || !(architecture.is_empty() || architecture == machine_architecture()) {
            let message =
                format!("the image is for {os}/{architecture}, this machine is linux/{}", machine_architecture());
            return Err(StoreError::malformed(what, message));
        }
        Ok(document)
    }

    /// Digests of the uncompressed layers, bottom first.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.rootfs.diff_ids
    }

    /// How to run the image.
    pub fn run_config(&self) -> ImageConfig {
        let config = self.config.clone().unwrap_or_default();
        ImageConfig {
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            working_dir: config.working_dir.unwrap_or_default(),
            stop_signal: config.stop_signal,
            exposed_ports: config.exposed_ports.unwrap_or_default().into_keys().collect(),
            labels: config.labels.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_manifests_from_indexes() {
        let d = |extra: &str| format!(r#"{{"digest":"{}","size":1{extra}}}"#, Digest::of(b"x"));
        let manifest = format!(r#"{{"config":{},"layers":[{}]}}"#, d(""), d(""));
        assert!(matches!(Document::parse("m", manifest.as_bytes()), Ok(Document::Manifest(_))));
        let other = d(r#","platform":{"os":"linux","architecture":"s390x"}"#);
        let mine = d(&format!(r#","platform":{{"os":"linux","architecture":"{}"}}"#, machine_architecture()));
        let index = format!(r#"{{"manifests":[{other},{mine}]}}"#);
        let Ok(Document::Index(list)) = Document::parse("i", index.as_bytes()) else { panic!("no index") };
        assert_eq!(select("i", &list).unwrap(), &list[1]);
        assert!(select("i", &list[..1]).unwrap_err().to_string().contains("linux/s390x"));
        for bad in ["{}", "[]", "{\"schemaVersion\":1,\"fsLayers\":[]}", "nonsense"] {
            assert!(Document::parse("m", bad.as_bytes()).is_err());
        }
    }

    #[test]
    fn reads_configurations_with_nulls() {
        let text = format!(
            r#"{{"config":{{"Cmd":["a"],"Entrypoint":null,"Env":null}},"rootfs":{{"diff_ids":["{}"]}}}}"#,
            Digest::of(b"")
        );
        let config = ConfigDocument::parse("c", text.as_bytes(), 1).unwrap();
        assert_eq!(config.run_config().cmd, ["a"]);
        assert!(ConfigDocument::parse("c", text.as_bytes(), 2).is_err());
    }
}
