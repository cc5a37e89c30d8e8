//! The settings of `mizzen up`: flags over a YAML file over defaults, checked before anything starts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use mizzen_agent::settings::KubeletSettings;
use mizzen_controllers::node_ipam::PodRange;
use mizzen_runtime::image::RegistryConfig;
use mizzen_server::config::Cidr;
use serde::Deserialize;

use crate::access::{Auditing, Authentication, Authorization};
use crate::cli::UpArgs;
use crate::error::{CommandError, Result};
use crate::secrets::Encryption;

/// Where everything is kept unless said otherwise.
pub const DATA_DIR: &str = "/var/lib/mizzen";
/// The Kubernetes API that is served.
pub const KUBERNETES_VERSION: &str = "v1.36";
/// Largest settings file.
const FILE_MAX: u64 = 1 << 20;
/// Pod addresses of one node.
const NODE_PREFIX: u8 = 24;
/// Domain of the cluster.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// How to log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The file of `--config`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct File {
    data_dir: Option<PathBuf>,
    listen: Option<SocketAddr>,
    kubeconfig: Option<PathBuf>,
    node_name: Option<String>,
    pod_cidr: Option<String>,
    service_cidr: Option<String>,
    kubelet_port: Option<u16>,
    log_level: Option<String>,
    log_format: Option<LogFormat>,
    registries: RegistryConfig,
    encryption: Encryption,
    authentication: Authentication,
    authorization: Authorization,
    audit: Auditing,
    kubelet: KubeletSettings,
}

/// Settings as they are used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where everything is kept; absolute.
    pub data_dir: PathBuf,
    /// Address of the API.
    pub listen: SocketAddr,
    /// Where the administrator's kubeconfig is written.
    pub kubeconfig: PathBuf,
    /// Name of this node.
    pub node_name: String,
    /// Addresses of pods.
    pub pod_range: PodRange,
    /// Addresses of Services.
    pub service_cidr: Cidr,
    /// Port of the node's endpoint.
    pub kubelet_port: u16,
    /// What to log.
    pub log_level: String,
    /// How to log.
    pub log_format: LogFormat,
    /// How registries are reached.
    pub registries: RegistryConfig,
    /// What is encrypted in the store's files.
    pub encryption: Encryption,
    /// Who is asked about tokens.
    pub authentication: Authentication,
    /// Who decides what requests may.
    pub authorization: Authorization,
    /// What is told of requests.
    pub audit: Auditing,
    /// Of the node.
    pub kubelet: KubeletSettings,
}

impl Settings {
    /// Reads the file, if one is named, and puts the flags over it.
    pub fn read(args: &UpArgs) -> Result<Self> {
        let file = args.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let data_dir = args.data_dir.clone().or(file.data_dir).unwrap_or_else(|| DATA_DIR.into());
        let data_dir = std::path::absolute(&data_dir).map_err(CommandError::file("resolving", &data_dir))?;
        let pods = cidr("--pod-cidr", args.pod_cidr.clone().or(file.pod_cidr).as_deref().unwrap_or("10.244.0.0/16"))?;
        let services = cidr(
            "--service-cidr",
            args.service_cidr.clone().or(file.service_cidr).as_deref().unwrap_or("10.96.0.0/12"),
        )?;
        if pods.prefix > 28 {
            return Err(wrong("--pod-cidr", "at least a /28 is needed"));
        }
        if pods.offset(services.address).is_some() || services.offset(pods.address).is_some() {
            return Err(wrong("--pod-cidr", format!("{pods} overlaps the addresses of Services, {services}")));
        }
        let node_name = match args.node_name.clone().or(file.node_name) {
            Some(name) => name,
            None => rustix::system::uname().nodename().to_string_lossy().to_lowercase(),
        };
        let bad = mizzen_api::names::dns1123_subdomain(&node_name);
        if let Some(problem) = bad.first() {
            return Err(wrong("--node-name", format!("{node_name:?}: {problem}")));
        }
        Ok(Self {
            listen: args.listen.or(file.listen).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 6443))),
            kubeconfig: args
                .kubeconfig
                .clone()
                .or(file.kubeconfig)
                .unwrap_or_else(|| data_dir.join("admin.kubeconfig")),
            data_dir,
            node_name,
            pod_range: PodRange {
                address: pods.address,
                prefix: pods.prefix,
                node_prefix: NODE_PREFIX.max(pods.prefix),
            },
            service_cidr: services,
            kubelet_port: args.kubelet_port.or(file.kubelet_port).unwrap_or(10250),
            log_level: args.log_level.clone().or(file.log_level).unwrap_or_else(|| "warn".into()),
            log_format: args.log_format.or(file.log_format).unwrap_or_default(),
            registries: file.registries,
            encryption: file.encryption,
            authentication: file.authentication,
            authorization: file.authorization,
            audit: file.audit,
            kubelet: file.kubelet,
        })
    }

    /// Address of the API as programs on this machine reach it.
    pub fn local_server(&self) -> String {
        let ip = if self.listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { self.listen.ip() };
        format!("https://{}", SocketAddr::new(ip, self.listen.port()))
    }

    /// Address of the cluster's DNS: the tenth of the Services'.
    pub fn cluster_dns(&self) -> Ipv4Addr {
        self.service_cidr.nth(10)
    }
}

/// The registries of a settings file, for commands that need no more of it.
pub fn registries(config: Option<&Path>) -> Result<RegistryConfig> {
    Ok(config.map(read_file).transpose()?.unwrap_or_default().registries)
}

/// The encryption of a settings file, for commands that need no more of it.
pub fn encryption(config: Option<&Path>) -> Result<Encryption> {
    Ok(config.map(read_file).transpose()?.unwrap_or_default().encryption)
}

fn read_file(path: &Path) -> Result<File> {
    let size = std::fs::metadata(path).map_err(CommandError::file("reading", path))?.len();
    if size > FILE_MAX {
        return Err(wrong("--config", format!("{} is larger than {FILE_MAX} bytes", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(CommandError::file("reading", path))?;
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_saphyr::from_str(&text)
        .map_err(|e| wrong("--config", format!("{}: {}", path.display(), first_line(&e.to_string()))))
}

fn first_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).take(1).collect()
}

fn cidr(setting: &str, text: &str) -> Result<Cidr> {
    text.parse().map_err(|e: mizzen_server::config::BadCidr| wrong(setting, e.to_string()))
}

fn wrong(setting: &str, message: impl Into<String>) -> Box<dyn std::error::Error + Send + Sync> {
    CommandError::Setting { setting: setting.into(), message: message.into() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_over_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.yaml");
        std::fs::write(&file, "listen: 127.0.0.1:7000\nnodeName: from-file\nregistries:\n  insecure: [a:5000]\n")
            .unwrap();
        let args = UpArgs { config: Some(file.clone()), node_name: Some("from-flag".into()), ..UpArgs::default() };
        let settings = Settings::read(&args).unwrap();
        assert_eq!((settings.node_name.as_str(), settings.listen.port()), ("from-flag", 7000));
        assert_eq!(settings.data_dir, Path::new(DATA_DIR));
        assert!(settings.registries.insecure.contains("a:5000"));
        for (text, named) in
            [("lisen: 1", "lisen"), ("podCidr: 10.0.0.0/30", "--pod-cidr"), ("nodeName: A_b", "--node-name")]
        {
            std::fs::write(&file, text).unwrap();
            let error = Settings::read(&UpArgs { config: Some(file.clone()), ..UpArgs::default() }).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
        let overlapping = UpArgs { pod_cidr: Some("10.96.0.0/16".into()), ..UpArgs::default() };
        assert!(Settings::read(&overlapping).unwrap_err().to_string().contains("overlaps"));
    }
}
