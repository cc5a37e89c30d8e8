//! The environment of a container: Services, `envFrom`, `env`, in that order; later ones win.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};

use super::expand::expand;
use super::fields::{FieldError, FieldSource};
use super::uses::Uses;
use crate::context::Context;
use crate::volume::{Mounted, MountedVolumes};

/// Most bytes of a file that gives environment variables.
const MAX_ENV_FILE: u64 = 64 << 10;

/// The environment cannot be made: `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// A ConfigMap or Secret does not exist.
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A key does not exist in it.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// The key.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Namespace of the object.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A value is not text.
    #[error("key {key} in {kind} {name} is not valid UTF-8")]
    NotText {
        /// The key.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A field reference.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A file of variables cannot be read.
    #[error("couldn't find key {key} in file {path:?} of volume {volume:?}")]
    File {
        /// The key.
        key: String,
        /// Path in the volume.
        path: String,
        /// The volume.
        volume: String,
    },
}

/// Variables in the order in which they were first set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    list: Vec<(String, String)>,
}

impl Environment {
    /// Sets a variable; an earlier one of that name is replaced.
    pub fn set(&mut self, name: &str, value: String) {
        match self.list.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.list.push((name.to_string(), value)),
        }
    }

    /// A variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// As `NAME=value`.
    pub fn lines(&self) -> Vec<String> {
        self.list.iter().map(|(n, v)| format!("{n}={v}")).collect()
    }

    /// Replaces `$(NAME)` in a text.
    pub fn expand(&self, text: &str) -> String {
        expand(text, |name| self.get(name))
    }
}

/// What an environment is made from.
pub struct Sources<'a> {
    /// The node.
    pub ctx: &'a Context,
    /// The pod.
    pub pod: &'a Pod,
    /// What the pod holds.
    pub uses: &'a Uses,
    /// Its fields.
    pub fields: FieldSource<'a>,
    /// Its volumes.
    pub volumes: &'a MountedVolumes,
}

/// The environment that the pod gives to a container; the image's own comes before it.
pub async fn environment(sources: &Sources<'_>, container: &Container) -> Result<Environment, EnvError> {
    let namespace = sources.pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = sources.pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let mut env = Environment::default();
    for (name, value) in sources.ctx.service_env.variables(namespace, links) {
        env.set(&name, value);
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            match sources.config_map(&reference.name).await {
                Ok(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        set_named(&mut env, &format!("{prefix}{key}"), value.clone());
                    }
                }
                Err(_) if reference.optional == Some(true) => {}
                Err(error) => return Err(error),
            }
        } else if let Some(reference) = &from.secret_ref {
            match sources.secret(&reference.name).await {
                Ok(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        set_named(&mut env, &format!("{prefix}{key}"), text(&value.0, key, "Secret", &reference.name)?);
                    }
                }
                Err(_) if reference.optional == Some(true) => {}
                Err(error) => return Err(error),
            }
        }
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value_from, &var.value) {
            (Some(from), _) => sources.value(container, from).await?,
            (None, Some(value)) => Some(env.expand(value)),
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            env.set(&var.name, value);
        }
    }
    Ok(env)
}

/// Keys that cannot be names of variables are skipped, as Kubernetes does.
fn set_named(env: &mut Environment, name: &str, value: String) {
    let fine = !name.is_empty() && name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    if fine {
        env.set(name, value);
    }
}

fn text(bytes: &[u8], key: &str, kind: &'static str, name: &str) -> Result<String, EnvError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| EnvError::NotText { key: key.into(), kind, name: name.into() })
}

impl Sources<'_> {
    async fn config_map(&self, name: &str) -> Result<Arc<ConfigMap>, EnvError> {
        let found = self.uses.config_map(&self.ctx.objects, name).await;
        found.ok_or_else(|| EnvError::NotFound { kind: "configmap", name: name.into() })
    }

    async fn secret(&self, name: &str) -> Result<Arc<Secret>, EnvError> {
        let found = self.uses.secret(&self.ctx.objects, name).await;
        found.ok_or_else(|| EnvError::NotFound { kind: "secret", name: name.into() })
    }

    fn no_key(&self, key: &str, kind: &'static str, name: &str) -> EnvError {
        let namespace = self.pod.metadata.namespace.clone().unwrap_or_default();
        EnvError::NoKey { key: key.into(), kind, namespace, name: name.into() }
    }

    /// A value from elsewhere; `None` if it is optional and not there.
    async fn value(&self, container: &Container, from: &EnvVarSource) -> Result<Option<String>, EnvError> {
        let optional = |flag: Option<bool>, result: Result<String, EnvError>| match result {
            Err(EnvError::NotFound { .. } | EnvError::NoKey { .. } | EnvError::File { .. }) if flag == Some(true) => {
                Ok(None)
            }
            other => other.map(Some),
        };
        if let Some(field) = &from.field_ref {
            return Ok(Some(self.fields.env_field(self.pod, &field.field_path)?));
        }
        if let Some(resource) = &from.resource_field_ref {
            return Ok(Some(self.fields.resource(self.pod, resource, &container.name)?));
        }
        if let Some(key) = &from.config_map_key_ref {
            let value = self.config_map(&key.name).await.and_then(|map| {
                let value = map.data.as_ref().and_then(|d| d.get(&key.key)).cloned();
                value.ok_or_else(|| self.no_key(&key.key, "ConfigMap", &key.name))
            });
            return optional(key.optional, value);
        }
        if let Some(key) = &from.secret_key_ref {
            let value = self.secret(&key.name).await.and_then(|secret| {
                let value = secret.data.as_ref().and_then(|d| d.get(&key.key));
                let value = value.ok_or_else(|| self.no_key(&key.key, "Secret", &key.name))?;
                text(&value.0, &key.key, "Secret", &key.name)
            });
            return optional(key.optional, value);
        }
        if let Some(key) = &from.file_key_ref {
            let value = self.file_value(&key.volume_name, &key.path, &key.key).await.ok_or_else(|| EnvError::File {
                key: key.key.clone(),
                path: key.path.clone(),
                volume: key.volume_name.clone(),
            });
            return optional(key.optional, value);
        }
        Ok(None)
    }

    async fn file_value(&self, volume: &str, path: &str, key: &str) -> Option<String> {
        let Some(Mounted::Path { path: root, .. }) = self.volumes.by_name.get(volume) else { return None };
        let (root, path, key) = (root.clone(), PathBuf::from(path), key.to_string());
        let read = tokio::task::spawn_blocking(move || read_beneath(&root, &path)).await.ok()??;
        read.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| name.trim() == key)
            .map(|(_, v)| unquote(v))
    }
}

/// Reads a small file of a volume, never one outside it.
fn read_beneath(root: &std::path::Path, path: &std::path::Path) -> Option<String> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    use std::io::Read as _;
    let base = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(&base, path, flags, Mode::empty(), resolve).ok()?;
    let mut text = String::new();
    std::fs::File::from(file).take(MAX_ENV_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

fn unquote(value: &str) -> String {
    let value = value.trim();
    let inner = |q: char| value.strip_prefix(q).and_then(|v| v.strip_suffix(q));
    inner('"').or_else(|| inner('\'')).unwrap_or(value).to_string()
}
