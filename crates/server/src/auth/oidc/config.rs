//! AuthenticationConfiguration (apiserver.config.k8s.io/v1): read, checked, its expressions compiled.

use std::sync::Arc;

use mizzen_cel::{Decl, Env, Program, Type, compile};
use serde::Deserialize;

/// As many issuers as Kubernetes takes.
const ISSUERS_MAX: usize = 64;
/// Paths at which anonymous requests may be taken.
const PATHS_MAX: usize = 256;

/// A configuration that can be used.
#[derive(Debug, Clone, Default)]
pub struct AuthenticationConfiguration {
    pub(super) issuers: Vec<Issuer>,
    /// Where requests without credentials are taken.
    pub anonymous: Anonymous,
}

/// Where requests without credentials are taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// Everywhere; what they may do is authorization's.
    #[default]
    Everywhere,
    /// Nowhere.
    Nowhere,
    /// At these paths.
    At(Vec<String>),
}

impl Anonymous {
    /// Whether a request to a path may go without credentials.
    pub fn takes(&self, path: &str) -> bool {
        match self {
            Anonymous::Everywhere => true,
            Anonymous::Nowhere => false,
            Anonymous::At(paths) => paths.iter().any(|one| one == path),
        }
    }
}

/// An issuer of tokens.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The `iss` of its tokens.
    pub url: String,
    /// Where it tells of its keys.
    pub discovery_url: String,
    /// Whose certificates it is known by, PEM.
    pub authority: Option<String>,
    /// One of these its tokens must be for.
    pub audiences: Vec<String>,
    /// What must hold of the claims.
    pub claim_rules: Vec<ClaimRule>,
    /// The name.
    pub username: Source,
    /// The groups.
    pub groups: Option<Source>,
    /// The UID.
    pub uid: Option<Source>,
    /// Further attributes.
    pub extra: Vec<(String, Arc<Program>)>,
    /// What must hold of the user.
    pub user_rules: Vec<Rule>,
}

/// Where a part of the identity is taken from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A claim, with this before it.
    Claim(String, String),
    /// What an expression gives.
    Expression(Arc<Program>),
}

/// What must hold of the claims.
#[derive(Debug, Clone)]
pub enum ClaimRule {
    /// A claim has a value.
    Value(String, String),
    /// An expression.
    Expression(Rule),
}

/// An expression that must be true.
#[derive(Debug, Clone)]
pub struct Rule {
    pub program: Arc<Program>,
    /// What is said if it is not.
    pub message: String,
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<FileIssuer>,
    anonymous: Option<FileAnonymous>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAnonymous {
    enabled: bool,
    #[serde(default)]
    conditions: Vec<FilePath>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePath {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileIssuer {
    issuer: FileSource,
    #[serde(default)]
    claim_validation_rules: Vec<FileClaimRule>,
    claim_mappings: FileMappings,
    #[serde(default)]
    user_validation_rules: Vec<FileUserRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileSource {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    certificate_authority: Option<String>,
    audiences: Vec<String>,
    audience_match_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileClaimRule {
    claim: Option<String>,
    #[serde(default)]
    required_value: String,
    expression: Option<String>,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileUserRule {
    expression: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileMappings {
    username: FileMapping,
    groups: Option<FileMapping>,
    uid: Option<FileMapping>,
    #[serde(default)]
    extra: Vec<FileExtra>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileMapping {
    claim: Option<String>,
    prefix: Option<String>,
    expression: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileExtra {
    key: String,
    value_expression: String,
}

fn wrong(path: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Wrong { path: path.into(), problem: problem.into() }
}

impl AuthenticationConfiguration {
    /// Reads YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let first = |error: String| error.lines().next().unwrap_or_default().trim().to_string();
        let file: File =
            serde_saphyr::from_str(text).map_err(|error| ConfigError::Unreadable(first(error.to_string())))?;
        if file.kind != "AuthenticationConfiguration" || file.api_version != "apiserver.config.k8s.io/v1" {
            let problem = "not an AuthenticationConfiguration of apiserver.config.k8s.io/v1";
            return Err(ConfigError::Unreadable(problem.into()));
        }
        if file.jwt.len() > ISSUERS_MAX {
            return Err(wrong("jwt", format!("must have at most {ISSUERS_MAX} items")));
        }
        let mut issuers: Vec<Issuer> = Vec::new();
        for (index, issuer) in file.jwt.into_iter().enumerate() {
            let issuer = issuer.checked(&format!("jwt[{index}]"))?;
            if issuers.iter().any(|other| other.url == issuer.url || other.discovery_url == issuer.discovery_url) {
                return Err(wrong(format!("jwt[{index}].issuer.url"), format!("duplicate value: {:?}", issuer.url)));
            }
            issuers.push(issuer);
        }
        Ok(Self { issuers, anonymous: anonymous(file.anonymous)? })
    }
}

fn anonymous(file: Option<FileAnonymous>) -> Result<Anonymous, ConfigError> {
    Ok(match file {
        None => Anonymous::Everywhere,
        Some(FileAnonymous { enabled: false, conditions }) if !conditions.is_empty() => {
            return Err(wrong("anonymous.conditions", "enabled should be set to true when conditions are defined"));
        }
        Some(FileAnonymous { enabled: false, .. }) => Anonymous::Nowhere,
        Some(FileAnonymous { conditions, .. }) if conditions.is_empty() => Anonymous::Everywhere,
        Some(FileAnonymous { conditions, .. }) if conditions.len() > PATHS_MAX => {
            return Err(wrong("anonymous.conditions", format!("must have at most {PATHS_MAX} items")));
        }
        Some(FileAnonymous { conditions, .. }) => {
            Anonymous::At(conditions.into_iter().map(|condition| condition.path).collect())
        }
    })
}

/// What an expression may see, and what it must give.
enum Sees {
    Claims,
    User,
}

fn program(path: &str, source: &str, sees: Sees, gives: fn(&Type) -> bool) -> Result<Arc<Program>, ConfigError> {
    let strings = || Type::list(Type::String);
    let (name, decl) = match sees {
        Sees::Claims => ("claims", Decl::of(Type::map(Type::String, Type::Dyn))),
        Sees::User => {
            let fields = [
                ("username", Decl::of(Type::String)),
                ("uid", Decl::of(Type::String)),
                ("groups", Decl::of(strings())),
                ("extra", Decl::of(Type::map(Type::String, strings()))),
            ];
            ("user", Decl::of(Type::Object(mizzen_cel::ObjectType::new("kubernetes.UserInfo", fields))))
        }
    };
    let program = compile(source, &Env::new().with(name, decl)).map_err(|error| wrong(path, error.to_string()))?;
    if !gives(program.ty()) {
        return Err(wrong(path, format!("must not evaluate to {}", program.ty())));
    }
    Ok(Arc::new(program))
}

fn is_bool(ty: &Type) -> bool {
    matches!(ty, Type::Bool)
}

fn is_text(ty: &Type) -> bool {
    matches!(ty, Type::String | Type::Dyn)
}

fn is_texts(ty: &Type) -> bool {
    is_text(ty) || matches!(ty, Type::List(_) | Type::Null)
}

impl FileMapping {
    fn checked(self, path: &str, prefixed: bool, gives: fn(&Type) -> bool) -> Result<Source, ConfigError> {
        match (self.claim.filter(|claim| !claim.is_empty()), self.expression.filter(|text| !text.is_empty())) {
            (Some(_), Some(_)) => Err(wrong(path, "claim and expression can't both be set")),
            (None, None) => Err(wrong(path, "claim or expression is required")),
            (Some(claim), None) => match self.prefix {
                None if prefixed => Err(wrong(
                    format!("{path}.prefix"),
                    "prefix is required when claim is set. It can be set to an empty string to disable prefixing",
                )),
                prefix => Ok(Source::Claim(claim, prefix.unwrap_or_default())),
            },
            (None, Some(_)) if self.prefix.is_some() => {
                Err(wrong(format!("{path}.prefix"), "prefix can't be set when expression is set"))
            }
            (None, Some(text)) => {
                program(&format!("{path}.expression"), &text, Sees::Claims, gives).map(Source::Expression)
            }
        }
    }
}

impl FileIssuer {
    fn checked(self, path: &str) -> Result<Issuer, ConfigError> {
        let Self { issuer, claim_validation_rules, claim_mappings, user_validation_rules } = self;
        let url_at = format!("{path}.issuer.url");
        let discovery_url = https(&format!("{path}.issuer.discoveryURL"), issuer.discovery_url)?;
        let url = https(&url_at, Some(issuer.url))?.ok_or_else(|| wrong(url_at, "URL is required"))?;
        if discovery_url.as_ref() == Some(&url) {
            return Err(wrong(format!("{path}.issuer.discoveryURL"), "discoveryURL must be different from URL"));
        }
        let audiences_at = format!("{path}.issuer.audiences");
        if issuer.audiences.is_empty() || issuer.audiences.iter().any(String::is_empty) {
            return Err(wrong(audiences_at, "at least one non-empty audience is required"));
        }
        let policy = issuer.audience_match_policy.unwrap_or_default();
        if !matches!(policy.as_str(), "" | "MatchAny") || issuer.audiences.len() > 1 && policy.is_empty() {
            let problem = "must be MatchAny for multiple audiences";
            return Err(wrong(format!("{path}.issuer.audienceMatchPolicy"), problem));
        }
        mail_is_verified(path, &claim_mappings, &claim_validation_rules)?;
        let mut claim_rules = Vec::new();
        for (index, rule) in claim_validation_rules.into_iter().enumerate() {
            claim_rules.push(rule.checked(&format!("{path}.claimValidationRules[{index}]"))?);
        }
        let mut user_rules = Vec::new();
        for (index, rule) in user_validation_rules.into_iter().enumerate() {
            let at = format!("{path}.userValidationRules[{index}].expression");
            let message = said(rule.message, &rule.expression);
            user_rules.push(Rule { program: program(&at, &rule.expression, Sees::User, is_bool)?, message });
        }
        let at = format!("{path}.claimMappings");
        let mut extra: Vec<(String, Arc<Program>)> = Vec::new();
        for (index, one) in claim_mappings.extra.into_iter().enumerate() {
            let at = format!("{at}.extra[{index}]");
            extra_key(&format!("{at}.key"), &one.key, extra.iter().any(|(key, _)| *key == one.key))?;
            let value = program(&format!("{at}.valueExpression"), &one.value_expression, Sees::Claims, is_texts)?;
            extra.push((one.key, value));
        }
        let mapped = |mapping: Option<FileMapping>, name: &str, prefixed, gives| {
            mapping.map(|mapping| mapping.checked(&format!("{at}.{name}"), prefixed, gives)).transpose()
        };
        let discovery = format!("{}/.well-known/openid-configuration", url.trim_end_matches('/'));
        Ok(Issuer {
            discovery_url: discovery_url.unwrap_or(discovery),
            authority: issuer.certificate_authority.filter(|pem| !pem.is_empty()),
            audiences: issuer.audiences,
            claim_rules,
            username: claim_mappings.username.checked(&format!("{at}.username"), true, is_text)?,
            groups: mapped(
                claim_mappings.groups.filter(|one| one.claim.is_some() || one.expression.is_some()),
                "groups",
                true,
                is_texts,
            )?,
            uid: mapped(
                claim_mappings.uid.filter(|one| one.claim.is_some() || one.expression.is_some()),
                "uid",
                false,
                is_text,
            )?,
            extra,
            user_rules,
            url,
        })
    }
}

impl FileClaimRule {
    fn checked(self, path: &str) -> Result<ClaimRule, ConfigError> {
        match (self.claim.filter(|claim| !claim.is_empty()), self.expression.filter(|text| !text.is_empty())) {
            (Some(_), Some(_)) => Err(wrong(path, "claim and expression can't both be set")),
            (None, None) => Err(wrong(path, "claim or expression is required")),
            (Some(claim), None) => Ok(ClaimRule::Value(claim, self.required_value)),
            (None, Some(text)) => {
                let program = program(&format!("{path}.expression"), &text, Sees::Claims, is_bool)?;
                Ok(ClaimRule::Expression(Rule { program, message: said(self.message, &text) }))
            }
        }
    }
}

fn said(message: String, expression: &str) -> String {
    if message.is_empty() { format!("validation expression '{expression}' failed") } else { message }
}

fn https(path: &str, url: Option<String>) -> Result<Option<String>, ConfigError> {
    let Some(url) = url.filter(|url| !url.is_empty()) else { return Ok(None) };
    let parsed: http::Uri = url.parse().map_err(|_| wrong(path, "it is no URL"))?;
    if parsed.scheme_str() != Some("https") || parsed.host().is_none_or(str::is_empty) {
        return Err(wrong(path, "URL scheme must be https"));
    }
    if parsed.authority().is_some_and(|authority| authority.as_str().contains('@')) || parsed.query().is_some() {
        return Err(wrong(path, "URL must not contain a username, password or query"));
    }
    Ok(Some(url))
}

/// A mail address that nobody verified names whom its owner likes.
fn mail_is_verified(path: &str, mappings: &FileMappings, rules: &[FileClaimRule]) -> Result<(), ConfigError> {
    let expressions = || {
        let extra = mappings.extra.iter().map(|one| &one.value_expression);
        mappings.username.expression.iter().chain(extra).chain(rules.iter().filter_map(|rule| rule.expression.as_ref()))
    };
    let mail = mappings.username.expression.as_ref().is_some_and(|text| {
        text.match_indices("claims.email").any(|(at, word)| !text[at + word.len()..].starts_with(['_']))
    });
    if mail && !expressions().any(|text| text.contains("claims.email_verified")) {
        let problem = "claims.email_verified must be used in claimMappings.username.expression or \
            claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in \
            claimMappings.username.expression";
        return Err(wrong(format!("{path}.claimMappings.username.expression"), problem));
    }
    Ok(())
}

fn extra_key(path: &str, key: &str, taken: bool) -> Result<(), ConfigError> {
    let domain = key.split_once('/').map(|(domain, _)| domain).unwrap_or_default();
    if domain.is_empty() || key.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_whitespace()) {
        return Err(wrong(path, "must be a lower-case path with a domain before it (such as example.org/foo)"));
    }
    let reserved = ["k8s.io", "kubernetes.io"];
    if reserved.into_iter().any(|own| domain == own || domain.ends_with(&format!(".{own}"))) {
        return Err(wrong(path, "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"));
    }
    if taken {
        return Err(wrong(path, format!("duplicate value: {key:?}")));
    }
    Ok(())
}
