//! Which requests a FlowSchema is about.

use k8s_openapi::api::flowcontrol::v1 as api;

use crate::auth::{Attributes, Identity, SERVICE_ACCOUNT_USER};

/// One of `spec.rules`: it matches if one of its subjects asks for something that one of its rules names.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug, Clone, PartialEq)]
enum Subject {
    Anyone,
    User(Box<str>),
    Group(Box<str>),
    /// `system:serviceaccount:<namespace>:`, with the name or, if all are meant, without.
    ServiceAccount {
        user: Box<str>,
        whole: bool,
    },
}

#[derive(Debug, Clone, PartialEq)]
struct ResourceRule {
    verbs: Words,
    groups: Words,
    resources: Words,
    namespaces: Words,
    cluster_scope: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct PathRule {
    verbs: Words,
    paths: Vec<Box<str>>,
}

/// A list of words in which `*` alone stands for all.
#[derive(Debug, Clone, PartialEq)]
enum Words {
    All,
    These(Box<[Box<str>]>),
}

impl Words {
    fn read(words: &[String]) -> Self {
        match words {
            [only] if only == "*" => Words::All,
            _ => Words::These(words.iter().map(|word| word.as_str().into()).collect()),
        }
    }

    fn holds(&self, word: &str) -> bool {
        match self {
            Words::All => true,
            Words::These(words) => words.iter().any(|w| **w == *word),
        }
    }

    /// As [`Words::holds`] of `resource/subresource`, without building it.
    fn holds_resource(&self, resource: &str, subresource: &str) -> bool {
        let is = |word: &str| match word.split_once('/') {
            Some((first, second)) => first == resource && second == subresource,
            None => word == resource && subresource.is_empty(),
        };
        match self {
            Words::All => true,
            Words::These(words) => words.iter().any(|w| is(w)),
        }
    }
}

impl Rule {
    /// Reads a rule; subjects of an unknown kind match nobody.
    pub fn read(rule: &api::PolicyRulesWithSubjects) -> Self {
        let resources = rule.resource_rules.iter().flatten().map(|rule| ResourceRule {
            verbs: Words::read(&rule.verbs),
            groups: Words::read(&rule.api_groups),
            resources: Words::read(&rule.resources),
            namespaces: Words::read(rule.namespaces.as_deref().unwrap_or_default()),
            cluster_scope: rule.cluster_scope.unwrap_or_default(),
        });
        let paths = rule.non_resource_rules.iter().flatten().map(|rule| PathRule {
            verbs: Words::read(&rule.verbs),
            paths: rule.non_resource_urls.iter().map(|path| path.as_str().into()).collect(),
        });
        Self {
            subjects: rule.subjects.iter().filter_map(Subject::read).collect(),
            resources: resources.collect(),
            paths: paths.collect(),
        }
    }

    /// Whether it is about this request.
    pub fn matches(&self, who: &Identity, what: &Attributes<'_>) -> bool {
        if !self.subjects.iter().any(|subject| subject.is(who)) {
            return false;
        }
        if what.resource_request {
            self.resources.iter().any(|rule| rule.matches(what))
        } else {
            self.paths.iter().any(|rule| rule.matches(what))
        }
    }
}

impl Subject {
    fn read(subject: &api::Subject) -> Option<Self> {
        match subject.kind.as_str() {
            "User" => subject.user.as_ref().map(|user| match user.name.as_str() {
                "*" => Subject::Anyone,
                name => Subject::User(name.into()),
            }),
            "Group" => subject.group.as_ref().map(|group| match group.name.as_str() {
                "*" => Subject::Anyone,
                name => Subject::Group(name.into()),
            }),
            "ServiceAccount" => subject.service_account.as_ref().map(|account| {
                let whole = account.name != "*";
                let name = if whole { account.name.as_str() } else { "" };
                let user = format!("{SERVICE_ACCOUNT_USER}{}:{name}", account.namespace);
                Subject::ServiceAccount { user: user.into(), whole }
            }),
            _ => None,
        }
    }

    fn is(&self, who: &Identity) -> bool {
        match self {
            Subject::Anyone => true,
            Subject::User(name) => **name == *who.user,
            Subject::Group(name) => who.groups.iter().any(|group| **name == **group),
            Subject::ServiceAccount { user, whole: true } => **user == *who.user,
            Subject::ServiceAccount { user, whole: false } => who.user.starts_with(&**user),
        }
    }
}

impl ResourceRule {
    fn matches(&self, what: &Attributes<'_>) -> bool {
        self.verbs.holds(what.verb)
            && self.groups.holds(what.group)
            && self.resources.holds_resource(what.resource, what.subresource)
            && if what.namespace.is_empty() { self.cluster_scope } else { self.namespaces.holds(what.namespace) }
    }
}

impl PathRule {
    fn matches(&self, what: &Attributes<'_>) -> bool {
        self.verbs.holds(what.verb) && self.paths.iter().any(|path| path_matches(path, what.path))
    }
}

/// A path matches itself and what lies below it; a `*` at the end may say so.
fn path_matches(pattern: &str, path: &str) -> bool {
    if pattern == "*" || pattern == path {
        return true;
    }
    let parent = pattern.strip_suffix('*').unwrap_or(pattern).trim_end_matches('/');
    path.strip_prefix(parent).is_some_and(|below| below.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(value: Value) -> Rule {
        Rule::read(&serde_json::from_value(value).unwrap())
    }

    fn group(name: &str) -> Value {
        json!({"kind": "Group", "group": {"name": name}})
    }

    #[test]
    fn subjects_are_told_apart() {
        let who = Identity::service_account("kube-system", "gc");
        let all = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
        for (subject, expected) in [
            (json!({"kind": "User", "user": {"name": "*"}}), true),
            (json!({"kind": "User", "user": {"name": "system:serviceaccount:kube-system:gc"}}), true),
            (json!({"kind": "User", "user": {"name": "gc"}}), false),
            (group("system:serviceaccounts"), true),
            (group("system:nodes"), false),
            (group("*"), true),
            (json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}}), true),
            (json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "gc"}}), true),
            (json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "g"}}), false),
            (json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube", "name": "*"}}), false),
            (json!({"kind": "Team", "user": {"name": "*"}}), false),
        ] {
            let rule = rule(json!({"subjects": [subject], "nonResourceRules": all}));
            let what = Attributes { verb: "get", path: "/version", ..Attributes::default() };
            assert_eq!(rule.matches(&who, &what), expected, "{subject}");
        }
    }

    #[test]
    fn resources_and_scopes() {
        let base = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"], "namespaces": ["a"]});
        let cluster =
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": [], "clusterScope": true});
        for (sent, verb, group_name, resource, sub, namespace, expected) in [
            (&base, "get", "", "pods", "", "a", true),
            (&base, "get", "", "pods", "log", "a", true),
            (&base, "get", "", "pods", "exec", "a", false),
            (&base, "create", "", "pods", "", "a", false),
            (&base, "get", "apps", "pods", "", "a", false),
            (&base, "get", "", "pods", "", "b", false),
            (&base, "get", "", "pods", "", "", false),
            (&cluster, "delete", "", "nodes", "", "", true),
            (&cluster, "delete", "", "pods", "", "a", false),
        ] {
            let rule = rule(json!({"subjects": [group("*")], "resourceRules": [sent]}));
            let what = Attributes {
                verb,
                resource_request: true,
                group: group_name,
                resource,
                subresource: sub,
                namespace,
                ..Attributes::default()
            };
            assert_eq!(rule.matches(&Identity::anonymous(), &what), expected, "{verb} {resource}/{sub} in {namespace}");
        }
    }

    #[test]
    fn paths_and_what_is_below_them() {
        for (pattern, path, expected) in [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/ping", true),
            ("/healthz", "/healthzz", false),
            ("/healthz/*", "/healthz/ping", true),
            ("/healthz/", "/healthz/ping", true),
            ("*", "/anything", true),
            ("/api", "/apis", false),
        ] {
            assert_eq!(path_matches(pattern, path), expected, "{pattern} {path}");
        }
    }
}
