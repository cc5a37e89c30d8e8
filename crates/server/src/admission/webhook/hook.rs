//! One webhook of a configuration, read once for all requests.

use std::time::Duration;

use serde_json::Value;

use super::conditions::Conditions;
use crate::admission::matching::Criteria;
use crate::callout::Destination;

/// A registered webhook.
#[derive(Debug)]
pub(crate) struct Hook {
    /// `name.example.com`.
    pub name: String,
    /// The configuration it stands in.
    pub configuration: String,
    /// Whom to call, or why nobody can be.
    pub to: Result<Destination, String>,
    pub criteria: Criteria,
    pub conditions: Conditions,
    pub timeout: Duration,
    /// A failed call is as good as none (`failurePolicy: Ignore`).
    pub ignores_failure: bool,
    /// It may be called in dry runs.
    pub allows_dry_run: bool,
    /// Asked once more if later ones change the object.
    pub reinvoked: bool,
    /// The `AdmissionReview` that it understands, of those that we do.
    pub version: Option<ReviewVersion>,
}

/// A version of `admission.k8s.io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReviewVersion {
    V1,
    V1Beta1,
}

/// The webhooks of a stored configuration.
pub(super) fn read(bytes: &[u8]) -> Vec<Hook> {
    let configuration: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let name = configuration["metadata"]["name"].as_str().unwrap_or_default();
    configuration["webhooks"].as_array().into_iter().flatten().map(|webhook| Hook::new(name, webhook)).collect()
}

impl Hook {
    fn new(configuration: &str, webhook: &Value) -> Self {
        let versions = webhook["admissionReviewVersions"].as_array().into_iter().flatten();
        Self {
            name: webhook["name"].as_str().unwrap_or_default().into(),
            configuration: configuration.into(),
            to: Destination::from_client_config(&webhook["clientConfig"]).map_err(|error| error.to_string()),
            criteria: Criteria::of_webhook(webhook),
            conditions: Conditions::compile(&webhook["matchConditions"]),
            timeout: Duration::from_secs(webhook["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30)),
            ignores_failure: webhook["failurePolicy"] == "Ignore",
            allows_dry_run: matches!(webhook["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")),
            reinvoked: webhook["reinvocationPolicy"] == "IfNeeded",
            version: versions.filter_map(Value::as_str).find_map(|version| match version {
                "v1" => Some(ReviewVersion::V1),
                "v1beta1" => Some(ReviewVersion::V1Beta1),
                _ => None,
            }),
        }
    }
}
