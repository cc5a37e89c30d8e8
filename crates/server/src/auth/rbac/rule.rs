//! Whether a PolicyRule covers a request.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::auth::Attributes;

/// The rule allows what is asked for.
pub fn matches(rule: &PolicyRule, what: &Attributes<'_>) -> bool {
    if !has(&rule.verbs, what.verb) {
        return false;
    }
    if !what.resource_request {
        return rule.non_resource_urls.iter().flatten().any(|url| url_covers(url, what.path));
    }
    has(list(&rule.api_groups), what.group) && has_resource(list(&rule.resources), what) && has_name(rule, what.name)
}

/// A list that may be missing.
pub fn list(list: &Option<Vec<String>>) -> &[String] {
    list.as_deref().unwrap_or_default()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn has_resource(resources: &[String], what: &Attributes<'_>) -> bool {
    resources.iter().any(|item| {
        if item == "*" {
            return true;
        }
        match item.split_once('/') {
            None => what.subresource.is_empty() && item == what.resource,
            Some((resource, subresource)) => {
                subresource == what.subresource && (resource == "*" || resource == what.resource)
            }
        }
    })
}

fn has_name(rule: &PolicyRule, name: &str) -> bool {
    let names = list(&rule.resource_names);
    names.is_empty() || names.iter().any(|item| item == name)
}

/// `/healthz` covers itself, `/healthz/*` what is below it.
pub fn url_covers(pattern: &str, path: &str) -> bool {
    pattern == "*" || pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::rbac::v1::PolicyRule;

    use super::matches;
    use crate::auth::Attributes;

    fn rule(text: &str) -> PolicyRule {
        let mut parts = text.split(' ').map(|part| part.split(',').map(String::from).collect::<Vec<_>>());
        let verbs = parts.next().unwrap();
        let second = parts.next().unwrap();
        if second[0].starts_with('/') || second == ["url*"] {
            return PolicyRule { verbs, non_resource_urls: Some(second), ..PolicyRule::default() };
        }
        PolicyRule {
            verbs,
            api_groups: Some(second),
            resources: parts.next(),
            resource_names: parts.next(),
            ..PolicyRule::default()
        }
    }

    #[test]
    fn rules_cover_what_kubernetes_says() {
        // Rule: verbs, groups, resources, names. Request: verb, group, resource[/subresource], name; or verb and path.
        for (text, request, covered) in [
            ("get  pods", "get  pods a", true),
            ("get  pods", "list  pods ", false),
            ("*  pods", "list  pods ", true),
            ("get apps pods", "get  pods a", false),
            ("get * pods", "get apps pods a", true),
            ("get  pods", "get  pods/log a", false),
            ("get  pods/log", "get  pods/log a", true),
            ("get  pods/log", "get  pods a", false),
            ("get  */scale", "get  replicationcontrollers/scale a", true),
            ("get  */scale", "get  pods a", false),
            ("get  *", "get  pods/log a", true),
            ("get  pods a,b", "get  pods b", true),
            ("get  pods a,b", "get  pods c", false),
            ("list  pods a", "list  pods ", false),
            ("get /healthz", "get /healthz", true),
            ("get /healthz", "get /healthz/etcd", false),
            ("get /healthz/*", "get /healthz/etcd", true),
            ("get /healthz", "post /healthz", false),
            ("get  pods", "get /api", false),
            ("get /api", "get  pods a", false),
        ] {
            let parts: Vec<&str> = request.split(' ').collect();
            let what = match parts.as_slice() {
                [verb, path] => Attributes { verb, path, ..Attributes::default() },
                [verb, group, resource, name] => {
                    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                    Attributes {
                        verb,
                        resource_request: true,
                        group,
                        resource,
                        subresource,
                        name,
                        ..Attributes::default()
                    }
                }
                _ => panic!("{request}"),
            };
            assert_eq!(matches(&rule(text), &what), covered, "{text:?} {request:?}");
        }
    }
}
