//! Secrets at rest: the keys of a data directory, opened as the settings say; `mizzen secrets`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mizzen_server::at_rest::{Envelope, Keepers, KeyFile, Kms, KmsOptions, Resources};
use mizzen_store::{Embedded, Options};
use serde::Deserialize;

use crate::cli::{SecretsArgs, SecretsCommand};
use crate::error::{CommandError, Result};
use crate::settings;

/// The key `encryption` of the settings file.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Encryption {
    /// What is encrypted: `secrets`, `widgets.example.org`, `*.apps`, `*.*`; none switches it off.
    resources: Vec<String>,
    /// Who keeps the key; without it, a file in the data directory does.
    kms: Option<Plugin>,
}

/// A plugin of KMS v2.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Plugin {
    name: String,
    /// `unix:///path`.
    endpoint: String,
    #[serde(default = "plugin_seconds")]
    timeout_seconds: u64,
}

fn plugin_seconds() -> u64 {
    3
}

impl Default for Encryption {
    fn default() -> Self {
        Self { resources: vec!["secrets".into()], kms: None }
    }
}

/// What seals the store's files.
pub struct Sealing {
    /// The seal.
    pub envelope: Arc<Envelope>,
    /// The plugin that keeps the key, if one does.
    pub kms: Option<Arc<Kms>>,
}

fn key_file(data_dir: &Path) -> PathBuf {
    data_dir.join("encryption/keys")
}

fn wrong(message: impl ToString) -> CommandError {
    CommandError::Setting { setting: "encryption".into(), message: message.to_string() }
}

impl Encryption {
    /// Opens the keys; those of a file are made if there are none. A plugin is asked, and must answer.
    pub fn open(&self, data_dir: &Path) -> Result<Sealing> {
        let resources = Resources::parse(self.resources.iter().map(String::as_str)).map_err(wrong)?;
        let path = key_file(data_dir);
        let Some(plugin) = &self.kms else {
            let keepers = Keepers::file(KeyFile::open(&path)?);
            return Ok(Sealing { envelope: Arc::new(Envelope::new(resources, keepers)?), kms: None });
        };
        let socket = plugin.endpoint.strip_prefix("unix://").filter(|path| path.starts_with('/'));
        let socket = socket.ok_or_else(|| wrong(format!("kms.endpoint: {:?} is not unix:///path", plugin.endpoint)))?;
        let timeout = Duration::from_secs(plugin.timeout_seconds.clamp(1, 60));
        let kms = Kms::new(KmsOptions { name: plugin.name.clone(), socket: socket.into(), timeout })?;
        let kms = Arc::new(kms);
        let keepers = Keepers::kms(Arc::clone(&kms), KeyFile::read(&path)?);
        Ok(Sealing { envelope: Arc::new(Envelope::new(resources, keepers)?), kms: Some(kms) })
    }
}

/// Runs one sub-command.
pub fn run(args: &SecretsArgs) -> Result<()> {
    let data_dir = std::path::absolute(&args.data_dir).map_err(CommandError::file("resolving", &args.data_dir))?;
    let encryption = settings::encryption(args.config.as_deref())?;
    match args.command {
        SecretsCommand::Rotate => rotate(&data_dir, &encryption),
    }
}

/// A fresh key, everything written anew with it, the old keys forgotten; at each point in between all can be read.
fn rotate(data_dir: &Path, encryption: &Encryption) -> Result<()> {
    let path = key_file(data_dir);
    let store_dir = data_dir.join("store");
    if !store_dir.exists() {
        return Err(wrong(format!("there is no data in {}", data_dir.display())).into());
    }
    // Whoever holds the store would go on with the old key: opening it first finds out.
    let sealing = encryption.open(data_dir)?;
    drop(Embedded::open_sealed(&store_dir, Options::default(), Some(sealing.envelope))?);
    if encryption.kms.is_none() {
        KeyFile::open(&path)?.add()?;
    }
    let envelope = encryption.open(data_dir)?.envelope;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let written = runtime.block_on(async {
        let store = Embedded::open_sealed(&store_dir, Options::default(), Some(envelope))?;
        let written = store.rewrite().await;
        store.shutdown().await;
        Ok::<_, mizzen_store::OpenError>(written)
    })?;
    if !written {
        return Err(wrong("the store could not be written anew; the old key is kept, and a second run goes on").into());
    }
    let dropped = match KeyFile::read(&path)? {
        Some(mut file) if encryption.kms.is_none() => file.drop_old()?,
        _ => 0,
    };
    println!("everything is encrypted anew; {dropped} old keys are forgotten");
    Ok(())
}
