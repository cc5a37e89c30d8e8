//! AuthorizationConfiguration: read and checked.

use std::time::Duration;

use mizzen_cel::{Decl, Env, Type, compile};
use serde::Deserialize;

use super::Step;
use super::webhook::{Failure, Webhook};
use crate::callout::Destination;

/// More webhooks than that are a mistake: each is waited for in turn.
const AUTHORIZERS_MAX: usize = 16;
/// As many as Kubernetes takes.
const CONDITIONS_MAX: usize = 64;

/// A configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationConfiguration {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    authorizers: Vec<Entry>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(rename = "type")]
    type_: String,
    name: String,
    webhook: Option<EntryWebhook>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EntryWebhook {
    timeout: String,
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: Option<String>,
    failure_policy: String,
    connection_info: Connection,
    #[serde(default)]
    match_conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Connection {
    #[serde(rename = "type")]
    type_: String,
    kube_config_file: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    expression: String,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// It says what cannot be.
    #[error("{path}: {problem}")]
    Wrong {
        /// Where.
        path: String,
        /// What.
        problem: String,
    },
}

fn wrong(path: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Wrong { path: path.into(), problem: problem.into() }
}

impl AuthorizationConfiguration {
    /// Reads YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let first = |error: String| error.lines().next().unwrap_or_default().trim().to_string();
        let configuration: Self =
            serde_saphyr::from_str(text).map_err(|error| ConfigError::Unreadable(first(error.to_string())))?;
        if configuration.kind != "AuthorizationConfiguration"
            || configuration.api_version != "apiserver.config.k8s.io/v1"
        {
            let problem = "not an AuthorizationConfiguration of apiserver.config.k8s.io/v1";
            return Err(ConfigError::Unreadable(problem.into()));
        }
        Ok(configuration)
    }

    /// The links of the chain.
    pub(super) fn steps(&self, read: &dyn Fn(&str) -> Result<String, String>) -> Result<Vec<Step>, ConfigError> {
        if self.authorizers.len() > AUTHORIZERS_MAX {
            return Err(wrong("authorizers", format!("must have at most {AUTHORIZERS_MAX} items")));
        }
        let mut steps = Vec::new();
        for (index, entry) in self.authorizers.iter().enumerate() {
            let path = format!("authorizers[{index}]");
            let named = |entry: &&Entry| entry.name == entry_name(&self.authorizers[index]);
            if self.authorizers[..index].iter().any(|other| named(&other)) {
                return Err(wrong(format!("{path}.name"), format!("duplicate value: {:?}", entry.name)));
            }
            match (entry.type_.as_str(), &entry.webhook) {
                ("Webhook", Some(webhook)) => {
                    steps.push(Step::Webhook(Box::new(webhook.opened(&entry.name, &path, read)?)));
                }
                ("Webhook", None) => return Err(wrong(format!("{path}.webhook"), "required when type is Webhook")),
                ("Node" | "RBAC", None) => {
                    // Both look at what is stored only: they are asked together, where the first of them stands.
                    if !steps.iter().any(|step| matches!(step, Step::Local)) {
                        steps.push(Step::Local);
                    }
                }
                ("Node" | "RBAC", Some(_)) => {
                    return Err(wrong(format!("{path}.webhook"), "may only be specified when type is Webhook"));
                }
                (other, _) => {
                    return Err(wrong(format!("{path}.type"), format!("{other:?} is not Node, RBAC or Webhook")));
                }
            }
        }
        for needed in ["Node", "RBAC"] {
            if !self.authorizers.iter().any(|entry| entry.type_ == needed) {
                return Err(wrong("authorizers", format!("{needed} is missing: the cluster's own parts need it")));
            }
        }
        Ok(steps)
    }
}

fn entry_name(entry: &Entry) -> &str {
    &entry.name
}

impl EntryWebhook {
    fn opened(
        &self,
        name: &str,
        path: &str,
        read: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Webhook, ConfigError> {
        let at = |field: &str| format!("{path}.webhook.{field}");
        let time = |field: &str, text: &str| seconds(text).ok_or_else(|| wrong(at(field), "must be a time such as 3s"));
        let failure = match self.failure_policy.as_str() {
            "NoOpinion" => Failure::NoOpinion,
            "Deny" => Failure::Deny,
            _ => return Err(wrong(at("failurePolicy"), "must be NoOpinion or Deny")),
        };
        let timeout = time("timeout", &self.timeout)?;
        if timeout.is_zero() || timeout > Duration::from_secs(30) {
            return Err(wrong(at("timeout"), "must be above 0s and at most 30s"));
        }
        if self.subject_access_review_version != "v1" {
            return Err(wrong(at("subjectAccessReviewVersion"), "must be v1"));
        }
        let conditions = &self.match_conditions;
        if !conditions.is_empty() && self.match_condition_subject_access_review_version.as_deref() != Some("v1") {
            return Err(wrong(at("matchConditionSubjectAccessReviewVersion"), "must be v1"));
        }
        if conditions.len() > CONDITIONS_MAX {
            return Err(wrong(at("matchConditions"), format!("must have at most {CONDITIONS_MAX} items")));
        }
        let file = match (self.connection_info.type_.as_str(), &self.connection_info.kube_config_file) {
            ("KubeConfigFile", Some(file)) => file,
            ("KubeConfigFile", None) => return Err(wrong(at("connectionInfo.kubeConfigFile"), "required")),
            _ => return Err(wrong(at("connectionInfo.type"), "must be KubeConfigFile")),
        };
        let text = read(file).map_err(|error| wrong(at("connectionInfo.kubeConfigFile"), error))?;
        let to = Destination::from_kubeconfig(&text)
            .map_err(|error| wrong(at("connectionInfo.kubeConfigFile"), error.to_string()))?;
        let env = Env::new().with("request", Decl::of(Type::Dyn));
        let mut programs = Vec::new();
        for (index, condition) in conditions.iter().enumerate() {
            let at = at(&format!("matchConditions[{index}].expression"));
            let program = compile(&condition.expression, &env).map_err(|error| wrong(&at, error.to_string()))?;
            if !matches!(program.ty(), Type::Bool | Type::Dyn) {
                return Err(wrong(at, "must evaluate to bool"));
            }
            programs.push(program);
        }
        let kept = |field: &str, text: &Option<String>, default: u64| match text {
            Some(text) => time(field, text),
            None => Ok(Duration::from_secs(default)),
        };
        Ok(Webhook::new(name, to, timeout, failure, programs).keeping(
            kept("authorizedTTL", &self.authorized_ttl, 300)?,
            kept("unauthorizedTTL", &self.unauthorized_ttl, 30)?,
        ))
    }
}

/// `3s`, `500ms`, `5m`: as much of Go's durations as people write here.
fn seconds(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        _ => None,
    }
}
