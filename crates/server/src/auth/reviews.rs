//! Reviews: objects that are answered and never stored (api-facts §6.3).

use std::ops::ControlFlow;

use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, ResourceAttributes};
use k8s_openapi::api::rbac::v1::PolicyRule;
use mizzen_api::field::FieldError;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::chain::Verdict;
use super::tokens::TokenIssuer;
use super::{Attributes, Authenticator, Authorizer, Decision, Identity, MASTERS};

/// What a review is answered from.
pub struct Context<'a> {
    /// The state.
    pub snapshot: &'a Snapshot,
    /// Verifies tokens.
    pub issuer: &'a TokenIssuer,
    /// Decides access.
    pub authorizer: &'a Authorizer,
    /// Who asks.
    pub identity: &'a Identity,
    /// The time of the request.
    pub now: Timestamp,
    /// Who knows tokens that are kept in Secrets.
    pub authenticator: &'a Authenticator,
    /// Who others say that a token speaks for.
    pub outside: Option<Identity>,
    /// What was asked about access, noted while answering: others may have to be asked the same.
    pub asked: std::cell::OnceCell<Question>,
}

/// Whether someone may do something, as an access review asks it.
#[derive(Debug)]
pub struct Question {
    who: Identity,
    resource_request: bool,
    /// Verb, group, version, resource, sub-resource, namespace, name, path, field selector, label selector.
    words: [String; 10],
}

impl Question {
    fn new(who: &Identity, what: &Attributes<'_>) -> Self {
        let Attributes { verb, group, version, resource, subresource, namespace, name, path, .. } = *what;
        let selectors = [what.field_selector, what.label_selector];
        let [fields, labels] = selectors;
        let words = [verb, group, version, resource, subresource, namespace, name, path, fields, labels];
        Self { who: who.clone(), resource_request: what.resource_request, words: words.map(String::from) }
    }

    /// Who is meant.
    pub fn who(&self) -> &Identity {
        &self.who
    }

    /// What they want.
    pub fn what(&self) -> Attributes<'_> {
        let words = self.words.each_ref().map(String::as_str);
        let [verb, group, version, resource, subresource, namespace, name, path, field_selector, label_selector] =
            words;
        Attributes {
            verb,
            resource_request: self.resource_request,
            group,
            version,
            resource,
            subresource,
            namespace,
            name,
            path,
            field_selector,
            label_selector,
        }
    }
}

/// The status of an access review as a chain of authorizers decided.
pub fn status_of(verdict: Verdict) -> Value {
    let (allowed, denied, reason) = match verdict {
        Verdict::Allow(reason) => (true, false, reason),
        Verdict::Deny(reason) => (false, true, reason),
        Verdict::NoOpinion(reason) => (false, false, reason),
    };
    let mut status = json!({"allowed": allowed});
    if denied {
        status["denied"] = true.into();
    }
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

/// Whether [`answer`] answers creates of this resource.
pub fn is_review(group: &str, resource: &str) -> bool {
    match group {
        "authentication.k8s.io" => matches!(resource, "tokenreviews" | "selfsubjectreviews"),
        "authorization.k8s.io" => matches!(
            resource,
            "subjectaccessreviews"
                | "selfsubjectaccessreviews"
                | "localsubjectaccessreviews"
                | "selfsubjectrulesreviews"
        ),
        _ => false,
    }
}

/// The review with its status filled; answered 201. `namespace` is that of the URL.
pub fn answer(context: &Context<'_>, resource: &str, namespace: &str, mut review: Value) -> Result<Value, ApiError> {
    let status = match resource {
        "tokenreviews" => token(context, &review)?,
        "selfsubjectreviews" => json!({"userInfo": context.identity.to_user_info()}),
        "subjectaccessreviews" => subject_access(context, &review, "SubjectAccessReview")?,
        "localsubjectaccessreviews" => local_subject_access(context, &review, namespace)?,
        "selfsubjectaccessreviews" => {
            let spec: AccessSpec = read(&review)?;
            access(context, context.identity, &spec, "SelfSubjectAccessReview")?
        }
        "selfsubjectrulesreviews" => rules(context, &review)?,
        _ => return Err(ApiError::no_resource()),
    };
    let Some(fields) = review.as_object_mut() else {
        return Err(ApiError::bad_request("the review is no object"));
    };
    if !fields.get("metadata").is_some_and(Value::is_object) {
        fields.insert("metadata".into(), json!({}));
    }
    fields.insert("status".into(), status);
    Ok(review)
}

fn read<T: DeserializeOwned>(review: &Value) -> Result<T, ApiError> {
    let spec = review.get("spec").filter(|spec| !spec.is_null()).cloned().unwrap_or_else(|| json!({}));
    T::deserialize(spec).map_err(|error| ApiError::bad_request(format!("the review's spec cannot be read: {error}")))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenSpec {
    #[serde(default)]
    token: String,
    #[serde(default)]
    audiences: Option<Vec<String>>,
}

fn token(context: &Context<'_>, review: &Value) -> Result<Value, ApiError> {
    let spec: TokenSpec = read(review)?;
    if spec.token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = spec.audiences.unwrap_or_default();
    let mut verified = context.issuer.verify(context.snapshot, &spec.token, &audiences, context.now);
    if verified.is_none() && context.issuer.is_asked(&audiences) {
        let stored = context.authenticator.stored(context.snapshot, context.now, &spec.token);
        verified = stored.or_else(|| context.outside.clone()).map(|who| (who, context.issuer.shared(&audiences)));
    }
    Ok(match verified {
        Some((identity, audiences)) => {
            json!({"authenticated": true, "user": identity.to_user_info(), "audiences": audiences})
        }
        None => {
            json!({"user": {}, "error": "the token is not valid, has expired, or is meant for another audience"})
        }
    })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AccessSpec {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<NonResourceAttributes>,
    user: String,
    groups: Option<Vec<String>>,
    extra: Option<std::collections::BTreeMap<String, Vec<String>>>,
    uid: String,
}

fn subject_access(context: &Context<'_>, review: &Value, kind: &'static str) -> Result<Value, ApiError> {
    let spec: AccessSpec = read(review)?;
    let groups = spec.groups.clone().unwrap_or_default();
    if spec.user.is_empty() && groups.is_empty() {
        let error = FieldError::required("spec.user", "at least one of user or group must be specified");
        return Err(ApiError::invalid("authorization.k8s.io", kind, "", &[error]));
    }
    let extra = spec.extra.clone().unwrap_or_default();
    let who = Identity { user: spec.user.clone(), uid: spec.uid.clone(), groups, extra };
    access(context, &who, &spec, kind)
}

fn local_subject_access(context: &Context<'_>, review: &Value, namespace: &str) -> Result<Value, ApiError> {
    let kind = "LocalSubjectAccessReview";
    let invalid = |error| Err(ApiError::invalid("authorization.k8s.io", kind, "", &[error]));
    let wanted = review.pointer("/spec/resourceAttributes/namespace").and_then(Value::as_str).unwrap_or_default();
    if review.pointer("/spec/nonResourceAttributes").is_some_and(|attributes| !attributes.is_null()) {
        return invalid(FieldError::forbidden("spec.nonResourceAttributes", "disallowed on this kind of request"));
    }
    if wanted != namespace {
        let path = "spec.resourceAttributes.namespace";
        return invalid(FieldError::invalid(path, wanted, "must match metadata.namespace"));
    }
    subject_access(context, review, kind)
}

fn access(context: &Context<'_>, who: &Identity, spec: &AccessSpec, kind: &str) -> Result<Value, ApiError> {
    let text = |field: &'_ Option<String>| field.clone().unwrap_or_default();
    let decision = match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(wanted), None) => {
            let [verb, group, version, resource, subresource, namespace, name] = [
                &wanted.verb,
                &wanted.group,
                &wanted.version,
                &wanted.resource,
                &wanted.subresource,
                &wanted.namespace,
                &wanted.name,
            ]
            .map(text);
            let fields = wanted.field_selector.as_ref().map(|s| {
                selector(&s.raw_selector, s.requirements.iter().flatten().map(|r| (&r.key, &r.operator, &r.values)))
            });
            let labels = wanted.label_selector.as_ref().map(|s| {
                selector(&s.raw_selector, s.requirements.iter().flatten().map(|r| (&r.key, &r.operator, &r.values)))
            });
            let what = Attributes {
                verb: &verb,
                resource_request: true,
                group: &group,
                version: &version,
                resource: &resource,
                subresource: &subresource,
                namespace: &namespace,
                name: &name,
                path: "",
                field_selector: fields.as_deref().unwrap_or_default(),
                label_selector: labels.as_deref().unwrap_or_default(),
            };
            decide(context, who, &what)
        }
        (None, Some(wanted)) => {
            let (verb, path) = (text(&wanted.verb), text(&wanted.path));
            let what = Attributes { verb: &verb, path: &path, ..Attributes::default() };
            decide(context, who, &what)
        }
        (resource, _) => {
            let detail = match resource {
                Some(_) => "cannot be specified in combination with resourceAttributes",
                None => "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            };
            let path = if resource.is_some() { "spec.nonResourceAttributes" } else { "spec.resourceAttributes" };
            let error = FieldError::invalid(path, Value::Null, detail);
            return Err(ApiError::invalid("authorization.k8s.io", kind, "", &[error]));
        }
    };
    Ok(status_of(match decision {
        Decision::Allow(reason) => Verdict::Allow(reason),
        Decision::NoOpinion(reason) => Verdict::NoOpinion(reason),
    }))
}

/// Node and RBAC decide; the question is noted for others.
fn decide(context: &Context<'_>, who: &Identity, what: &Attributes<'_>) -> Decision {
    if context.authorizer.chain().is_some() {
        // A review asks one question.
        let _ = context.asked.set(Question::new(who, what));
    }
    context.authorizer.decide(context.snapshot, who, what)
}

/// The selector of the attributes as a client would have sent it; requirements other than equality limit nothing here.
fn selector<'a>(
    raw: &Option<String>,
    requirements: impl Iterator<Item = (&'a String, &'a String, &'a Option<Vec<String>>)>,
) -> String {
    if let Some(raw) = raw {
        return raw.clone();
    }
    let equal = requirements.filter_map(|(key, operator, values)| match (operator.as_str(), values.as_deref()) {
        ("In", Some([value])) => Some(format!("{key}={value}")),
        _ => None,
    });
    equal.collect::<Vec<_>>().join(",")
}

fn rules(context: &Context<'_>, review: &Value) -> Result<Value, ApiError> {
    let namespace = review.pointer("/spec/namespace").and_then(Value::as_str).unwrap_or_default();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let all = || json!(["*"]);
    let (mut resources, mut urls) = (Vec::new(), Vec::new());
    if context.identity.is_in(MASTERS) {
        resources.push(json!({"verbs": all(), "apiGroups": all(), "resources": all()}));
        urls.push(json!({"verbs": all(), "nonResourceURLs": all()}));
    }
    let index = context.authorizer.index(context.snapshot);
    index.visit(context.identity, namespace, |grant| {
        for rule in grant.rules() {
            describe(rule, &mut resources, &mut urls);
        }
        ControlFlow::<()>::Continue(())
    });
    // What the node authorizer allows depends on pods and cannot be listed.
    let incomplete = context.identity.as_node().is_some();
    let mut status = json!({"resourceRules": resources, "nonResourceRules": urls, "incomplete": incomplete});
    if incomplete {
        status["evaluationError"] = "node authorizer does not support user rule resolution".into();
    }
    Ok(status)
}

fn describe(rule: &PolicyRule, resources: &mut Vec<Value>, urls: &mut Vec<Value>) {
    if rule.resources.iter().flatten().next().is_some() {
        let mut item = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
        if let Some(names) = rule.resource_names.as_ref().filter(|names| !names.is_empty()) {
            item["resourceNames"] = json!(names);
        }
        resources.push(item);
    }
    if rule.non_resource_urls.iter().flatten().next().is_some() {
        urls.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
    }
}
