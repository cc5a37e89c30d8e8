//! What a request asks for, read from its method and path as Kubernetes reads them (api-facts §1.1).
//!
//! Pure: a path and a method in, a [`RequestInfo`] out. Whether the resource exists is decided later, by the catalog.

use std::borrow::Cow;

use http::Method;

use crate::query::{Query, unescape};

/// The parts of a request that authorization and dispatch look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for non-resource paths the method in lower case.
    pub verb: &'static str,
    /// The path is below `/api/<version>` or `/apis/<group>/<version>` and names a resource.
    pub is_resource: bool,
    /// API group, empty for core.
    pub group: Cow<'a, str>,
    /// API version.
    pub version: Cow<'a, str>,
    /// Namespace, empty for cluster scope and for all namespaces.
    pub namespace: Cow<'a, str>,
    /// Plural resource.
    pub resource: Cow<'a, str>,
    /// Sub-resource, empty for none.
    pub subresource: Cow<'a, str>,
    /// Object name, empty for collections.
    pub name: Cow<'a, str>,
    /// What follows the sub-resource, without its leading slash and still escaped (only `proxy` has any).
    pub rest: &'a str,
}

/// Resources whose third part below `namespaces/<name>` is a sub-resource of the namespace itself.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl<'a> RequestInfo<'a> {
    /// Reads method, path and query.
    pub fn parse(method: &Method, path: &'a str, query: &Query) -> Self {
        Self::resource(method, path, query).unwrap_or_else(|| Self::non_resource(method))
    }

    fn non_resource(method: &Method) -> Self {
        let verb = match *method {
            Method::GET => "get",
            Method::HEAD => "head",
            Method::POST => "post",
            Method::PUT => "put",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "options",
        };
        Self {
            verb,
            is_resource: false,
            group: Cow::Borrowed(""),
            version: Cow::Borrowed(""),
            namespace: Cow::Borrowed(""),
            resource: Cow::Borrowed(""),
            subresource: Cow::Borrowed(""),
            name: Cow::Borrowed(""),
            rest: "",
        }
    }

    fn resource(method: &Method, path: &'a str, query: &Query) -> Option<Self> {
        let mut parts = Parts::new(path);
        let group = match parts.next()? {
            "api" => "",
            "apis" => parts.next()?,
            _ => return None,
        };
        let version = parts.next()?;
        let mut first = parts.next()?;
        let mut watch_path = false;
        if first == "watch" {
            // The deprecated form of a watch: /api/v1/watch/pods.
            watch_path = true;
            first = parts.next()?;
        }
        let mut info = Self { is_resource: true, ..Self::non_resource(method) };
        info.group = unescape(group);
        info.version = unescape(version);
        info.read_object(first, &mut parts);
        info.verb = verb(method, &info, watch_path, query);
        if matches!(info.verb, "list" | "watch" | "deletecollection") && info.name.is_empty() {
            // A field selector on one name is authorized as a request for that name.
            if let Some(name) = query.get("fieldSelector").and_then(selected_name) {
                info.name = Cow::Owned(name);
            }
        }
        Some(info)
    }

    fn read_object(&mut self, first: &'a str, parts: &mut Parts<'a>) {
        let (resource, name) = if first == "namespaces" {
            let name = parts.next();
            match (name, parts.peek()) {
                (Some(name), Some(next)) if !NAMESPACE_SUBRESOURCES.contains(&next) => {
                    self.namespace = unescape(name);
                    (parts.next().unwrap_or_default(), parts.next())
                }
                _ => {
                    self.namespace = name.map(unescape).unwrap_or_default();
                    (first, name)
                }
            }
        } else {
            (first, parts.next())
        };
        self.resource = unescape(resource);
        self.name = name.map(unescape).unwrap_or_default();
        self.subresource = parts.next().map(unescape).unwrap_or_default();
        self.rest = parts.rest;
        if self.resource == "namespaces" {
            // A Namespace is cluster scoped, yet authorized in itself.
            self.namespace = self.name.clone();
        }
    }
}

/// The name that a field selector of `metadata.name=x` asks for.
pub fn selected_name(selector: &str) -> Option<String> {
    let part = selector.split(',').find_map(|part| part.trim().strip_prefix("metadata.name="))?;
    let name = part.strip_prefix('=').unwrap_or(part);
    (!name.is_empty()).then(|| name.to_string())
}

fn verb(method: &Method, info: &RequestInfo<'_>, watch_path: bool, query: &Query) -> &'static str {
    let watching = watch_path || query.flag("watch");
    match *method {
        Method::GET | Method::HEAD if watch_path => "watch",
        Method::GET | Method::HEAD if info.name.is_empty() => {
            if watching {
                "watch"
            } else {
                "list"
            }
        }
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if info.name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The parts of a path between slashes; empty ones are skipped.
struct Parts<'a> {
    rest: &'a str,
}

impl<'a> Parts<'a> {
    fn new(path: &'a str) -> Self {
        Self { rest: path.trim_start_matches('/') }
    }

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (part, rest) = self.rest.split_once('/').unwrap_or((self.rest, ""));
        self.rest = rest;
        Some(part)
    }

    fn peek(&self) -> Option<&'a str> {
        let next = self.rest.split('/').next()?;
        (!next.is_empty()).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_kubernetes_reads_them() {
        // method, path, query → verb, group/version, namespace, resource, subresource, name
        for (method, path, query, expected) in [
            ("GET", "/api/v1/pods", "", "list /v1 ns= pods/ name="),
            ("GET", "/api/v1/pods", "watch=true", "watch /v1 ns= pods/ name="),
            ("GET", "/api/v1/pods", "watch=0", "list /v1 ns= pods/ name="),
            ("HEAD", "/api/v1/namespaces/a/pods/b", "", "get /v1 ns=a pods/ name=b"),
            ("GET", "/api/v1/namespaces", "", "list /v1 ns= namespaces/ name="),
            ("GET", "/api/v1/namespaces/a", "", "get /v1 ns=a namespaces/ name=a"),
            ("PUT", "/api/v1/namespaces/a/finalize", "", "update /v1 ns=a namespaces/finalize name=a"),
            ("PATCH", "/api/v1/namespaces/a/status", "", "patch /v1 ns=a namespaces/status name=a"),
            ("POST", "/apis/apps/v1/namespaces/a/deployments", "", "create apps/v1 ns=a deployments/ name="),
            (
                "PUT",
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "",
                "update apps/v1 ns=a deployments/scale name=b",
            ),
            ("DELETE", "/api/v1/namespaces/a/pods", "", "deletecollection /v1 ns=a pods/ name="),
            ("DELETE", "/api/v1/nodes/n", "", "delete /v1 ns= nodes/ name=n"),
            ("GET", "/api/v1/watch/namespaces/a/pods/b", "", "watch /v1 ns=a pods/ name=b"),
            ("GET", "/api/v1/pods", "fieldSelector=metadata.name%3Dx&watch=1", "watch /v1 ns= pods/ name=x"),
            (
                "GET",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "",
                "get rbac.authorization.k8s.io/v1 ns= clusterroles/ name=system:node",
            ),
            ("GET", "/api/v1", "", "get non-resource"),
            ("GET", "/apis/apps", "", "get non-resource"),
            ("GET", "/healthz", "", "get non-resource"),
            ("POST", "/version", "", "post non-resource"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let info = RequestInfo::parse(&method, path, &Query::parse(query));
            let got = if info.is_resource {
                format!(
                    "{} {}/{} ns={} {}/{} name={}",
                    info.verb, info.group, info.version, info.namespace, info.resource, info.subresource, info.name
                )
            } else {
                format!("{} non-resource", info.verb)
            };
            assert_eq!(got, expected, "{path}?{query}");
        }
    }

    /// Any path and query are read as something: no panic, and no part that is not in the path.
    #[test]
    fn any_path_is_read_as_something() {
        use rand::rngs::StdRng;
        use rand::{Rng, SeedableRng};
        const PIECES: [&str; 18] = [
            "api",
            "apis",
            "v1",
            "watch",
            "namespaces",
            "pods",
            "a",
            "b",
            "proxy",
            "log",
            "/",
            "//",
            "%2F",
            "%",
            "%zz",
            "+",
            "\u{e9}",
            ".",
        ];
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..20_000 {
            let mut text = |most: usize| -> String {
                (0..random.random_range(0..most)).map(|_| PIECES[random.random_range(0..PIECES.len())]).collect()
            };
            let (path, query) = (format!("/{}", text(12)), text(6).replace('/', "&"));
            let query = Query::parse(&query);
            for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS] {
                let info = RequestInfo::parse(&method, &path, &query);
                assert!(path.ends_with(info.rest), "{path}: {info:?}");
                assert!(info.resource.len() <= path.len() && info.name.len() <= path.len() * 3, "{path}: {info:?}");
            }
        }
    }

    #[test]
    fn what_follows_proxy_is_kept_as_sent() {
        let info = RequestInfo::parse(
            &Method::GET,
            "/api/v1/namespaces/a/services/http:b:80/proxy/x%20y/z/",
            &Query::default(),
        );
        assert_eq!((info.name.as_ref(), info.subresource.as_ref(), info.rest), ("http:b:80", "proxy", "x%20y/z/"));
    }
}
