//! The Container Device Interface: devices by names such as `vendor.com/class=name`, described by JSON files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::plugin::Allotment;

/// Where vendors put their files; the later directory wins (CDI specification).
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Longest file that is read.
const MAX_FILE: u64 = 4 << 20;

/// A device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CdiError {
    /// No file describes it.
    #[error("unresolvable CDI device {name}")]
    Unknown {
        /// The device.
        name: String,
    },
    /// Its description asks for what this node does not do.
    #[error("CDI device {name} needs {what}, which this node does not do")]
    Unsupported {
        /// The device.
        name: String,
        /// What it asks for.
        what: &'static str,
    },
}

#[derive(Debug, Deserialize)]
struct File {
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(rename = "containerEdits", default)]
    edits: Edits,
}

#[derive(Debug, Deserialize)]
struct Device {
    name: String,
    #[serde(rename = "containerEdits", default)]
    edits: Edits,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Mount>,
    hooks: Vec<serde_json::Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: String,
    #[serde(default)]
    host_path: Option<String>,
    #[serde(default)]
    permissions: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    host_path: String,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
}

/// What containers with these devices have besides.
///
/// # Errors
/// A device is not described, or needs what this node does not do.
pub fn resolve(directories: &[PathBuf], names: &[String]) -> Result<Allotment, CdiError> {
    let mut all = Allotment::default();
    if names.is_empty() {
        return Ok(all);
    }
    let files: Vec<File> = directories.iter().flat_map(|d| read(d)).collect();
    let mut whole: BTreeMap<&str, ()> = BTreeMap::new();
    for name in names {
        let unknown = || CdiError::Unknown { name: name.clone() };
        let (kind, device) = name.split_once('=').ok_or_else(unknown)?;
        let find = |file: &&File| file.kind == kind && file.devices.iter().any(|d| d.name == device);
        let file = files.iter().rev().find(find).ok_or_else(unknown)?;
        if whole.insert(kind, ()).is_none() {
            apply(&mut all, &file.edits, name)?;
        }
        for device in file.devices.iter().filter(|d| d.name == device) {
            apply(&mut all, &device.edits, name)?;
        }
    }
    Ok(all)
}

fn apply(all: &mut Allotment, edits: &Edits, name: &str) -> Result<(), CdiError> {
    if !edits.hooks.is_empty() {
        return Err(CdiError::Unsupported { name: name.to_string(), what: "hooks" });
    }
    for line in &edits.env {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        all.envs.insert(key.to_string(), value.to_string());
    }
    for node in &edits.device_nodes {
        let host = node.host_path.clone().unwrap_or_else(|| node.path.clone());
        let permissions = node.permissions.clone().unwrap_or_else(|| "rwm".to_string());
        all.devices.push((node.path.clone(), host, permissions));
    }
    for mount in &edits.mounts {
        let read_only = mount.options.iter().any(|o| o == "ro");
        all.mounts.push((mount.container_path.clone(), mount.host_path.clone(), read_only));
    }
    Ok(())
}

/// All readable descriptions of a directory. A broken one spoils only itself.
fn read(directory: &Path) -> Vec<File> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    let json = paths.iter().filter(|p| p.extension().is_some_and(|e| e == "json"));
    let small = json.filter(|p| p.metadata().is_ok_and(|m| m.len() <= MAX_FILE));
    small
        .filter_map(|path| {
            let parsed = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if parsed.is_none() {
                tracing::warn!(path = %path.display(), "a CDI file cannot be read");
            }
            parsed
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn devices_are_looked_up_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = json!({"cdiVersion": "0.6.0", "kind": "v.com/gpu", "containerEdits": {"env": ["ALL=1"]}, "devices": [
            {"name": "a", "containerEdits": {"env": ["A=1"], "deviceNodes": [{"path": "/dev/a", "hostPath": "/dev/null"}],
                "mounts": [{"hostPath": "/h", "containerPath": "/c", "options": ["ro", "bind"]}]}},
            {"name": "hooked", "containerEdits": {"hooks": [{"hookName": "createContainer", "path": "/x"}]}}]});
        std::fs::write(directory.path().join("v.json"), file.to_string()).unwrap();
        std::fs::write(directory.path().join("broken.json"), "{").unwrap();
        let directories = [directory.path().to_path_buf()];
        let got = resolve(&directories, &["v.com/gpu=a".into()]).unwrap();
        assert_eq!(got.envs, BTreeMap::from([("A".into(), "1".into()), ("ALL".into(), "1".into())]));
        assert_eq!(got.devices, [("/dev/a".into(), "/dev/null".into(), "rwm".into())]);
        assert_eq!(got.mounts, [("/c".into(), "/h".into(), true)]);
        for (name, want) in [
            ("v.com/gpu=b", "unresolvable CDI device v.com/gpu=b"),
            ("v.com/gpu=hooked", "CDI device v.com/gpu=hooked needs hooks, which this node does not do"),
        ] {
            assert_eq!(resolve(&directories, &[name.into()]).unwrap_err().to_string(), want);
        }
    }
}
