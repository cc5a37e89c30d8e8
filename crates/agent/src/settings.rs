//! The node's part of the configuration file, in the words of kubelet's own.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;

use crate::config::Config;
use crate::eviction::settings::{BadSetting, Texts, thresholds};
use crate::quantity;

/// What a file may say of the node; what it leaves out keeps its usual value.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct KubeletSettings {
    max_pods: Option<u32>,
    pod_pids_limit: Option<i64>,
    eviction_hard: Option<BTreeMap<String, String>>,
    eviction_soft: Option<BTreeMap<String, String>>,
    eviction_soft_grace_period: BTreeMap<String, String>,
    eviction_minimum_reclaim: Option<BTreeMap<String, String>>,
    eviction_pressure_transition_period: Option<String>,
    eviction_max_pod_grace_period: Option<i64>,
    container_log_max_size: Option<String>,
    container_log_max_files: Option<usize>,
    kube_reserved: BTreeMap<String, String>,
    system_reserved: BTreeMap<String, String>,
}

impl KubeletSettings {
    /// Writes what is said into `config`.
    ///
    /// # Errors
    /// The setting that cannot be used, and why.
    pub fn apply(&self, config: &mut Config) -> Result<(), BadSetting> {
        config.max_pods = self.max_pods.unwrap_or(config.max_pods);
        // Kubelet's -1 means no limit.
        config.pod_pids_limit = self.pod_pids_limit.filter(|limit| *limit > 0).or(config.pod_pids_limit);
        let mut grace = BTreeMap::new();
        for (signal, text) in &self.eviction_soft_grace_period {
            grace.insert(signal.clone(), duration(&format!("evictionSoftGracePeriod.{signal}"), text)?);
        }
        let (hard, soft) = (self.eviction_hard.as_ref(), self.eviction_soft.as_ref());
        let texts = Texts { hard, soft, grace, reclaim: self.eviction_minimum_reclaim.as_ref() };
        config.eviction.thresholds = thresholds(&texts)?;
        if let Some(text) = &self.eviction_pressure_transition_period {
            config.eviction.transition = duration("evictionPressureTransitionPeriod", text)?;
        }
        let grace = self.eviction_max_pod_grace_period;
        config.eviction.max_grace_seconds = grace.unwrap_or(config.eviction.max_grace_seconds).max(0);
        if let Some(text) = &self.container_log_max_size {
            let size = amount("containerLogMaxSize", text)?;
            config.log_max_size = u64::try_from(size)
                .ok()
                .filter(|s| *s > 0)
                .ok_or_else(|| bad("containerLogMaxSize", "must be more than 0"))?;
        }
        if let Some(files) = self.container_log_max_files {
            config.log_max_files =
                (files > 1).then_some(files).ok_or_else(|| bad("containerLogMaxFiles", "must be at least 2"))?;
        }
        self.reserve(config)
    }

    fn reserve(&self, config: &mut Config) -> Result<(), BadSetting> {
        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        for (setting, reserved) in [("kubeReserved", &self.kube_reserved), ("systemReserved", &self.system_reserved)] {
            for (name, text) in reserved {
                let setting = format!("{setting}.{name}");
                let known = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
                let list = BTreeMap::from([(name.clone(), Quantity(text.clone()))]);
                let value = quantity::amount(Some(&list), name).filter(|v| *v >= 0);
                match value {
                    _ if !known => return Err(bad(&setting, "can be reserved: cpu, memory, ephemeral-storage")),
                    None => return Err(bad(&setting, format!("{text:?} is no amount"))),
                    Some(value) => *sums.entry(name).or_default() += value,
                }
            }
        }
        let sum = |name: &str, usual: i64| sums.get(name).copied().unwrap_or(usual);
        config.reserved_cpu_millis = sum("cpu", config.reserved_cpu_millis);
        config.reserved_memory_bytes = sum("memory", config.reserved_memory_bytes);
        config.reserved_disk_bytes = sum("ephemeral-storage", config.reserved_disk_bytes);
        Ok(())
    }
}

fn bad(setting: &str, message: impl Into<String>) -> BadSetting {
    BadSetting { setting: setting.into(), message: message.into() }
}

fn amount(setting: &str, text: &str) -> Result<i64, BadSetting> {
    quantity::units(&Quantity(text.into())).ok_or_else(|| bad(setting, format!("{text:?} is no amount")))
}

/// A duration as Go writes it: `1m30s`.
fn duration(setting: &str, text: &str) -> Result<Duration, BadSetting> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    parsed.ok_or_else(|| bad(setting, format!("{text:?} is no duration like 1m30s")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kubelets_words_are_understood_or_told() {
        let mut config = Config::new("n", vec![], "/d");
        let settings: KubeletSettings = serde_json::from_value(json!({
            "maxPods": 7, "podPidsLimit": 50, "evictionSoft": {"memory.available": "10%"},
            "evictionSoftGracePeriod": {"memory.available": "1m30s"}, "evictionPressureTransitionPeriod": "0s",
            "containerLogMaxSize": "1Mi", "containerLogMaxFiles": 2,
            "kubeReserved": {"cpu": "100m", "memory": "1Gi"}, "systemReserved": {"memory": "1Gi"},
        }))
        .unwrap();
        settings.apply(&mut config).unwrap();
        assert_eq!((config.max_pods, config.pod_pids_limit, config.log_max_size), (7, Some(50), 1 << 20));
        assert_eq!((config.reserved_cpu_millis, config.reserved_memory_bytes), (100, 2 << 30));
        assert_eq!(config.log_max_files, 2);
        let soft = config.eviction.thresholds.last().unwrap();
        assert_eq!(soft.grace, Some(Duration::from_secs(90)));
        for (text, named) in [
            (json!({"evictionPressureTransitionPeriod": "soon"}), "evictionPressureTransitionPeriod"),
            (json!({"containerLogMaxFiles": 1}), "containerLogMaxFiles"),
            (json!({"kubeReserved": {"beer": "1"}}), "kubeReserved.beer"),
            (json!({"evictionHard": {"x": "1"}}), "evictionHard.x"),
        ] {
            let settings: KubeletSettings = serde_json::from_value(text).unwrap();
            let error = settings.apply(&mut Config::new("n", vec![], "/d")).unwrap_err();
            assert_eq!(error.setting, named);
        }
        assert!(serde_json::from_value::<KubeletSettings>(json!({"evictionHart": {}})).is_err());
    }
}
