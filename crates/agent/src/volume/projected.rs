//! Volumes whose files the node writes: configMap, secret, downwardAPI and projected.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{KeyToPath, Volume};

use super::atomic::{self, File, Payload};
use super::payload::{self, Defaults};
use super::{Maker, Mounted, VolumeError, blocking, token};
use crate::pod::fields::FieldSource;

/// Permission bits of files when the volume does not say.
const DEFAULT_MODE: u32 = 0o644;

impl Maker<'_> {
    /// Makes or renews a volume of files.
    pub(super) async fn written(&self, volume: &Volume) -> Result<(Mounted, Option<Timestamp>), VolumeError> {
        let mut refresh_at = None;
        // What the API gives may be secret; only ConfigMaps and the pod's own fields are not.
        let mut volatile = true;
        let payload = if let Some(source) = &volume.config_map {
            volatile = false;
            let mode = payload::mode(source.default_mode, DEFAULT_MODE);
            self.config_map(&source.name, source.items.as_deref(), mode, source.optional.unwrap_or(false)).await?
        } else if let Some(source) = &volume.secret {
            let mode = payload::mode(source.default_mode, DEFAULT_MODE);
            let name = source.secret_name.as_deref().unwrap_or_default();
            self.secret(name, source.items.as_deref(), mode, source.optional.unwrap_or(false)).await?
        } else if let Some(source) = &volume.downward_api {
            volatile = false;
            let mode = payload::mode(source.default_mode, DEFAULT_MODE);
            self.downward(source.items.as_deref().unwrap_or_default(), mode)?
        } else if let Some(source) = &volume.projected {
            let mode = payload::mode(source.default_mode, DEFAULT_MODE);
            let mut all = Payload::new();
            for part in source.sources.iter().flatten() {
                if let Some(map) = &part.config_map {
                    all.extend(
                        self.config_map(&map.name, map.items.as_deref(), mode, map.optional.unwrap_or(false)).await?,
                    );
                } else if let Some(secret) = &part.secret {
                    all.extend(
                        self.secret(&secret.name, secret.items.as_deref(), mode, secret.optional.unwrap_or(false))
                            .await?,
                    );
                } else if let Some(downward) = &part.downward_api {
                    all.extend(self.downward(downward.items.as_deref().unwrap_or_default(), mode)?);
                } else if let Some(projection) = &part.service_account_token {
                    let token = token::request(&self.ctx.client, self.pod, projection, self.now).await?;
                    refresh_at = [refresh_at, Some(token.refresh_at)].into_iter().flatten().min();
                    all.insert(projection.path.clone(), self.token_file(token.text, mode));
                } else {
                    return Err(VolumeError::Unsupported);
                }
            }
            all
        } else {
            return Err(VolumeError::Unsupported);
        };
        let dir = self.dir(&volume.name, volatile);
        let (root, group, now) = (dir.clone(), self.fs_group(), self.now);
        blocking(move || {
            let io = |what, path: &std::path::Path, source| VolumeError::Io { what, path: path.to_path_buf(), source };
            if !root.is_dir() {
                fs::create_dir_all(&root).map_err(|e| io("create", &root, e))?;
                fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).map_err(|e| io("chmod", &root, e))?;
                if let Some(group) = group {
                    super::ownership::apply(&root, group, false).map_err(|e| io("chown", &root, e))?;
                }
            }
            atomic::write(&root, &payload, group, &stamp(now))?;
            Ok(())
        })
        .await?;
        Ok((Mounted::Path { path: dir, read_only: true }, refresh_at))
    }

    async fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: u32,
        optional: bool,
    ) -> Result<Payload, VolumeError> {
        match self.uses.config_map(&self.ctx.objects, name).await {
            Some(map) => Ok(payload::config_map(&map, items, Defaults { mode, optional })?),
            None if optional => Ok(Payload::new()),
            None => Err(VolumeError::NotFound { kind: "configmap", name: name.into() }),
        }
    }

    async fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: u32,
        optional: bool,
    ) -> Result<Payload, VolumeError> {
        match self.uses.secret(&self.ctx.objects, name).await {
            Some(secret) => Ok(payload::secret(&secret, items, Defaults { mode, optional })?),
            None if optional => Ok(Payload::new()),
            None => Err(VolumeError::NotFound { kind: "secret", name: name.into() }),
        }
    }

    fn downward(
        &self,
        items: &[k8s_openapi::api::core::v1::DownwardAPIVolumeFile],
        mode: u32,
    ) -> Result<Payload, VolumeError> {
        let fields = FieldSource {
            pod_ips: &[],
            host_ips: &self.ctx.config.addresses,
            allocatable: &self.ctx.capacity.allocatable,
        };
        Ok(payload::downward(self.pod, items, mode, &fields)?)
    }

    /// A token: readable by all, or by its user alone where the pod says who that is.
    fn token_file(&self, text: String, mode: u32) -> File {
        let pod_user = self.spec.security_context.as_ref().and_then(|s| s.run_as_user);
        let users: Vec<Option<i64>> = self
            .spec
            .containers
            .iter()
            .map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(pod_user))
            .collect();
        // Only if all containers run as the same known user is it given to that user.
        let uid = match users.split_first() {
            Some((Some(first), rest)) if rest.iter().all(|u| u == &Some(*first)) => u32::try_from(*first).ok(),
            _ => None,
        };
        let mode = if uid.is_some() || self.fs_group().is_some() { 0o600 } else { mode };
        File { data: Bytes::from(text), mode, uid }
    }
}

/// The name of a new directory of files: the time, and nanoseconds so that no two are equal.
fn stamp(now: Timestamp) -> String {
    let text = now.strftime("%Y_%m_%d_%H_%M_%S");
    format!("{text}.{:09}{:04}", now.subsec_nanosecond(), rand::random::<u16>() % 10_000)
}
