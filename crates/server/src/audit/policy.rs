//! What is told of which request (audit.k8s.io/v1 Policy): the first rule that matches says how much.

use serde::Deserialize;

use crate::auth::Identity;
use crate::request::RequestInfo;

/// More rules than that are a mistake: each request looks at them in turn.
const RULES_MAX: usize = 1000;

/// How much is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, when, what, and how it went.
    Metadata,
    /// The request's object as well.
    Request,
    /// The answer's object as well.
    RequestResponse,
}

impl Level {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

/// When something is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Stage {
    /// Before anything is done.
    RequestReceived,
    /// A stream begins.
    ResponseStarted,
    /// It is over.
    ResponseComplete,
    /// Something broke.
    Panic,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }
}

/// A policy.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde::de::IgnoredAny,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// It is of another kind.
    #[error("apiVersion {0:?}, kind {1:?}: not a Policy of audit.k8s.io/v1")]
    Kind(String, String),
    /// A rule says what cannot be.
    #[error("rules[{index}]: {problem}")]
    Rule {
        /// Which.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is nothing in it, or too much.
    #[error("a policy has 1 to {RULES_MAX} rules")]
    Size,
}

/// What is to be told of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub level: Level,
    pub omit: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy from YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let first = |error: String| error.lines().next().unwrap_or_default().trim().to_string();
        let policy: Self =
            serde_saphyr::from_str(text).map_err(|error| PolicyError::Unreadable(first(error.to_string())))?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            return Err(PolicyError::Kind(policy.api_version, policy.kind));
        }
        if policy.rules.is_empty() || policy.rules.len() > RULES_MAX {
            return Err(PolicyError::Size);
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            rule.check().map_err(|problem| PolicyError::Rule { index, problem })?;
        }
        Ok(policy)
    }

    /// What is to be told of a request.
    pub(crate) fn verdict(&self, who: &Identity, info: &RequestInfo<'_>, path: &str) -> Verdict {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(who, info, path)) else {
            return Verdict { level: Level::None, omit: Vec::new(), omit_managed_fields: false };
        };
        Verdict {
            level: rule.level,
            omit: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), &'static str> {
        let by_resource = !self.resources.is_empty() || !self.namespaces.is_empty();
        if by_resource && !self.non_resource_urls.is_empty() {
            return Err("rules cannot apply to both regular resources and non-resource URLs");
        }
        let star_inside =
            |url: &String| url != "*" && (!url.starts_with('/') || url.trim_end_matches('*').contains('*'));
        if self.non_resource_urls.iter().any(star_inside) {
            return Err("nonResourceURLs begin with a slash and have a star at most at their end");
        }
        let nameless = |one: &GroupResources| !one.resource_names.is_empty() && one.resources.is_empty();
        if self.resources.iter().any(nameless) {
            return Err("resourceNames need at least one resource");
        }
        Ok(())
    }

    fn matches(&self, who: &Identity, info: &RequestInfo<'_>, path: &str) -> bool {
        let named = |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
        if !named(&self.users, &who.user) || !named(&self.verbs, info.verb) {
            return false;
        }
        if !self.user_groups.is_empty() && !self.user_groups.iter().any(|group| who.is_in(group)) {
            return false;
        }
        if !self.resources.is_empty() || !self.namespaces.is_empty() {
            return info.is_resource
                && named(&self.namespaces, &info.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|one| one.matches(info)));
        }
        if self.non_resource_urls.is_empty() {
            return true;
        }
        let url = |url: &String| match url.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == url,
        };
        !info.is_resource && self.non_resource_urls.iter().any(url)
    }
}

impl GroupResources {
    fn matches(&self, info: &RequestInfo<'_>) -> bool {
        if self.group != info.group {
            return false;
        }
        let named = self.resource_names.is_empty() || self.resource_names.iter().any(|name| *name == info.name);
        let resource = |wanted: &String| {
            let (plural, sub) = wanted.split_once('/').unwrap_or((wanted, ""));
            wanted == "*" || (plural == "*" || plural == info.resource) && (sub == "*" || sub == info.subresource)
        };
        named && (self.resources.is_empty() || self.resources.iter().any(resource))
    }
}
