//! The operations on each resource, with the parameters and content types that they take.

use serde_json::{Map, Value, json};

use super::custom;
use super::schemas::{Dialect, PATCH, reference};
use crate::kind::Kind;
use crate::schema;

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const RESOURCE_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";

/// Types that operations of every group use.
pub(super) const COMMON_TYPES: &[&str] = &[STATUS, DELETE_OPTIONS, RESOURCE_LIST];

const PRODUCES: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Custom resources have no merge keys for a strategic merge.
const CUSTOM_PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// A query parameter: name and type.
type Parameter = (&'static str, &'static str);

const WRITE: &[Parameter] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("pretty", "string")];
const APPLY: &[Parameter] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
    ("pretty", "string"),
];
const DELETE: &[Parameter] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
    ("pretty", "string"),
];
const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
    ("pretty", "string"),
];
const READ: &[Parameter] = &[("pretty", "string")];

/// `/api/v1`, `/apis/apps/v1`.
pub(super) fn base(kind: &Kind) -> String {
    if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    }
}

/// What an operation takes and answers.
struct Operation<'a> {
    verb: &'a str,
    scope: &'a str,
    gvk: (&'a str, &'a str, &'a str),
    tag: &'a str,
    query: &'a [Parameter],
    body: Option<&'a str>,
    answer: Option<&'a str>,
    codes: &'a [&'a str],
    patches: &'static [&'static str],
}

/// The document that lists the resources of a group and version.
pub(super) fn discovery(dialect: Dialect, kind: &Kind) -> Value {
    let get = Operation {
        verb: "get",
        scope: "APIResources",
        gvk: ("", "", ""),
        tag: &tag(kind),
        query: &[],
        body: None,
        answer: Some(RESOURCE_LIST),
        codes: &["200"],
        patches: PATCHES,
    };
    json!({"get": get.render(dialect)})
}

/// Adds the paths of a kind.
pub(super) fn of_kind(dialect: Dialect, kind: &Kind, paths: &mut Map<String, Value>) {
    let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{}{scope}/{}", base(kind), kind.plural);
    let add = |path: String, operations: Map<String, Value>, paths: &mut Map<String, Value>| {
        if !operations.is_empty() {
            let mut item = operations;
            item.insert("parameters".into(), path_parameters(dialect, &path));
            paths.insert(path, Value::Object(item));
        }
    };
    let object = format!("{collection}/{{name}}");
    add(collection.clone(), operations(dialect, kind, &["list", "create", "deletecollection"]), paths);
    add(object.clone(), operations(dialect, kind, &["get", "update", "patch", "delete"]), paths);
    if kind.namespaced && kind.allows("list") {
        add(format!("{}/{}", base(kind), kind.plural), operations(dialect, kind, &["list"]), paths);
    }
    for sub in &kind.subresources {
        let foreign = schema::by_gvk(&sub.group, &sub.version, &sub.kind).map(|o| o.name.to_string());
        let ty = foreign.or_else(|| type_name(kind, &sub.kind));
        let mut item = Map::new();
        for verb in sub.verbs {
            let gvk = (&*sub.group, &*sub.version, &*sub.kind);
            if let Some((method, operation)) = operation(verb, gvk, sub.name, &tag(kind), ty.as_deref(), None) {
                item.insert(method.into(), operation.of(kind).render(dialect));
            }
        }
        add(format!("{object}/{}", sub.name), item, paths);
    }
}

fn tag(kind: &Kind) -> String {
    let group = if kind.group.is_empty() { "core" } else { kind.group.split('.').next().unwrap_or(&kind.group) };
    format!("{group}_{}", kind.version)
}

/// The definition of a kind or of its list.
fn type_name(kind: &Kind, of: &str) -> Option<String> {
    match kind.custom {
        None => schema::by_gvk(&kind.group, &kind.version, of).map(|o| o.name.to_string()),
        Some(_) => Some(custom::name(kind, of)),
    }
}

fn operations(dialect: Dialect, kind: &Kind, verbs: &[&str]) -> Map<String, Value> {
    let (ty, list) = (type_name(kind, &kind.kind), type_name(kind, &kind.list_kind));
    let mut out = Map::new();
    for verb in verbs.iter().filter(|v| kind.allows(v)) {
        let gvk = (&*kind.group, &*kind.version, &*kind.kind);
        if let Some((method, operation)) = operation(verb, gvk, "", &tag(kind), ty.as_deref(), list.as_deref()) {
            out.insert(method.into(), operation.of(kind).render(dialect));
        }
    }
    out
}

/// The HTTP method of a verb, and what it takes and answers.
fn operation<'a>(
    verb: &'a str,
    gvk: (&'a str, &'a str, &'a str),
    scope: &'a str,
    tag: &'a str,
    ty: Option<&'a str>,
    list: Option<&'a str>,
) -> Option<(&'static str, Operation<'a>)> {
    let plain =
        Operation { verb, scope, gvk, tag, query: READ, body: None, answer: ty, codes: &["200"], patches: PATCHES };
    Some(match verb {
        "get" => ("get", plain),
        "list" => ("get", Operation { query: LIST, answer: list, ..plain }),
        "create" => ("post", Operation { query: WRITE, body: ty, codes: &["200", "201", "202"], ..plain }),
        "update" => ("put", Operation { query: WRITE, body: ty, codes: &["200", "201"], ..plain }),
        "patch" => ("patch", Operation { query: APPLY, body: Some(PATCH), codes: &["200", "201"], ..plain }),
        "delete" => (
            "delete",
            Operation {
                query: DELETE,
                body: Some(DELETE_OPTIONS),
                answer: Some(STATUS),
                codes: &["200", "202"],
                ..plain
            },
        ),
        "deletecollection" => {
            ("delete", Operation { query: DELETE, body: Some(DELETE_OPTIONS), answer: Some(STATUS), ..plain })
        }
        _ => return None,
    })
}

impl Operation<'_> {
    /// On objects of a kind.
    fn of(self, kind: &Kind) -> Self {
        Self { patches: if kind.custom.is_some() { CUSTOM_PATCHES } else { PATCHES }, ..self }
    }

    fn render(&self, dialect: Dialect) -> Value {
        let (group, version, kind) = self.gvk;
        let on = [self.scope, kind].iter().filter(|s| !s.is_empty()).copied().collect::<Vec<_>>().join(" of ");
        let mut out = json!({
            "tags": [self.tag],
            "description": format!("{} {on}", self.verb),
            "operationId": format!("{}_{}_{}{}", self.verb, self.tag, kind, self.scope),
        });
        let mut parameters: Vec<Value> =
            self.query.iter().map(|(name, ty)| parameter(dialect, "query", name, ty)).collect();
        if let Some(body) = self.body {
            let schema = reference(dialect, body);
            match dialect {
                Dialect::V2 => parameters.push(json!({"in": "body", "name": "body", "schema": schema})),
                Dialect::V3 => out["requestBody"] = json!({"content": content(self.consumes(), &schema)}),
            }
        }
        if !parameters.is_empty() {
            out["parameters"] = parameters.into();
        }
        if dialect == Dialect::V2 {
            out["consumes"] = self.consumes().into();
            out["produces"] = PRODUCES.into();
        }
        out["responses"] = self.responses(dialect);
        if !kind.is_empty() {
            out["x-kubernetes-action"] = match self.verb {
                "create" => "post",
                "update" => "put",
                other => other,
            }
            .into();
            out["x-kubernetes-group-version-kind"] = json!({"group": group, "kind": kind, "version": version});
        }
        out
    }

    fn consumes(&self) -> &'static [&'static str] {
        if self.verb == "patch" { self.patches } else { &["*/*"] }
    }

    fn responses(&self, dialect: Dialect) -> Value {
        let mut out = Map::new();
        for code in self.codes {
            let mut response =
                json!({"description": match *code { "201" => "Created", "202" => "Accepted", _ => "OK" }});
            if let Some(answer) = self.answer {
                let schema = reference(dialect, answer);
                match dialect {
                    Dialect::V2 => response["schema"] = schema,
                    Dialect::V3 => response["content"] = content(PRODUCES, &schema),
                }
            }
            out.insert((*code).into(), response);
        }
        out.insert("401".into(), json!({"description": "Unauthorized"}));
        Value::Object(out)
    }
}

fn content(types: &[&str], schema: &Value) -> Value {
    types.iter().map(|t| ((*t).to_string(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
}

fn parameter(dialect: Dialect, place: &str, name: &str, ty: &str) -> Value {
    let mut out = json!({"name": name, "in": place});
    if place == "path" {
        out["required"] = true.into();
    }
    match dialect {
        Dialect::V2 => {
            out["type"] = ty.into();
            out["uniqueItems"] = true.into();
        }
        Dialect::V3 => out["schema"] = json!({"type": ty, "uniqueItems": true}),
    }
    out
}

fn path_parameters(dialect: Dialect, path: &str) -> Value {
    let names = ["name", "namespace"];
    names
        .iter()
        .filter(|n| path.contains(&format!("{{{n}}}")))
        .map(|n| parameter(dialect, "path", n, "string"))
        .collect()
}
