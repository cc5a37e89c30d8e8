//! Who may come in, do what, and what is told of it: the keys `authentication`, `authorization` and `audit` of the settings
//! file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mizzen_server::audit::{Audit, FileOptions, Mode, Options, Output, Policy};
use mizzen_server::auth::chain::{self, AuthorizationConfiguration, Chain};
use mizzen_server::auth::oidc::AuthenticationConfiguration;
use mizzen_server::auth::{Authorizer, Outside, TokenWebhook};
use serde::Deserialize;

use crate::error::{CommandError, Result};

/// Largest file that is read here.
const FILE_MAX: u64 = 1 << 20;

/// The key `authentication`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Authentication {
    /// An AuthenticationConfiguration: issuers of tokens, anonymous requests.
    config: Option<PathBuf>,
    /// The kubeconfig of a webhook that knows tokens.
    token_webhook: Option<PathBuf>,
}

/// The key `authorization`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Authorization {
    /// An AuthorizationConfiguration: webhooks beside Node and RBAC.
    config: Option<PathBuf>,
}

impl Authorization {
    /// Who decides what requests may; Node and RBAC alone without a configuration.
    pub fn open(&self) -> Result<Authorizer> {
        let Some(path) = &self.config else { return Ok(Authorizer::new()) };
        let setting = "authorization.config";
        let bad = |error: chain::ConfigError| wrong(setting, format!("{}: {error}", path.display()));
        let configuration = AuthorizationConfiguration::parse(&read(setting, path)?).map_err(bad)?;
        let kubeconfig = |file: &str| read(setting, Path::new(file)).map_err(|error| error.to_string());
        Ok(Authorizer::new().with_chain(Chain::new(&configuration, &kubeconfig).map_err(bad)?))
    }
}

/// The key `audit`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Auditing {
    /// A Policy of audit.k8s.io/v1; nothing is told without one.
    policy: Option<PathBuf>,
    /// The file; in the data directory if nothing else is said.
    log: Option<PathBuf>,
    /// It is put aside at this size.
    max_megabytes: Option<u64>,
    /// So many put aside are kept.
    max_files: Option<usize>,
    /// The kubeconfig of a webhook that takes events, instead of the file.
    webhook: Option<PathBuf>,
    /// What happens when events come faster than they are taken: `batch` loses them, `blocking` has requests wait.
    mode: Mode,
}

fn read(setting: &str, path: &Path) -> Result<String> {
    let size = std::fs::metadata(path).map_err(CommandError::file("reading", path))?.len();
    if size > FILE_MAX {
        return Err(wrong(setting, format!("{} is larger than {FILE_MAX} bytes", path.display())).into());
    }
    Ok(std::fs::read_to_string(path).map_err(CommandError::file("reading", path))?)
}

fn wrong(setting: &str, message: impl ToString) -> CommandError {
    CommandError::Setting { setting: setting.into(), message: message.to_string() }
}

impl Authentication {
    /// Who is asked about tokens; `None` if there is nobody.
    pub fn open(&self) -> Result<Option<Outside>> {
        if self.config.is_none() && self.token_webhook.is_none() {
            return Ok(None);
        }
        let configuration = match &self.config {
            None => AuthenticationConfiguration::default(),
            Some(path) => {
                let text = read("authentication.config", path)?;
                AuthenticationConfiguration::parse(&text)
                    .map_err(|error| wrong("authentication.config", format!("{}: {error}", path.display())))?
            }
        };
        let webhook = match &self.token_webhook {
            None => None,
            Some(path) => {
                let text = read("authentication.tokenWebhook", path)?;
                let webhook = TokenWebhook::from_kubeconfig(&text);
                Some(webhook.map_err(|error| wrong("authentication.tokenWebhook", error))?)
            }
        };
        Ok(Some(Outside::new(&configuration, webhook)))
    }
}

impl Auditing {
    /// Opens the log; `None` without a policy.
    pub fn open(&self, data_dir: &Path) -> Result<Option<Arc<Audit>>> {
        let Some(path) = &self.policy else { return Ok(None) };
        let policy = Policy::parse(&read("audit.policy", path)?)
            .map_err(|error| wrong("audit.policy", format!("{}: {error}", path.display())))?;
        let output = match &self.webhook {
            Some(kubeconfig) => Output::Webhook { kubeconfig: kubeconfig.clone() },
            None => Output::File(FileOptions {
                path: self.log.clone().unwrap_or_else(|| data_dir.join("audit/audit.log")),
                bytes_max: self.max_megabytes.unwrap_or(100).max(1) << 20,
                kept: self.max_files.unwrap_or(10),
            }),
        };
        Ok(Some(Arc::new(Audit::open(Options { policy, output, mode: self.mode })?)))
    }
}
