//! A CustomResourceDefinition, compiled: one kind for each of its versions.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Value, json};

use super::custom::{Custom, CustomColumn, ScalePaths, Selectable};
use super::path::Path;
use super::schema::Schema;
use super::versions;
use crate::field::FieldError;
use crate::kind::{Kind, KindRef, Name, Subresource};
use crate::rules::custom::CUSTOM;

/// The compiled rules (`x-kubernetes-validations`) of a version.
pub trait Rules: std::fmt::Debug + Send + Sync {
    /// All rules that an object breaks; `old` is what it replaces.
    fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError>;
}

/// Compiles the rules of a schema (`openAPIV3Schema`); `None` if it has none.
pub type Compile = fn(&Value) -> Option<Arc<dyn Rules>>;

/// How objects come from one version to another.
#[derive(Debug, Clone, PartialEq)]
pub enum Conversion {
    /// They differ in `apiVersion` alone.
    None,
    /// A webhook converts them: `spec.conversion.webhook`.
    Webhook(Value),
}

/// A definition.
#[derive(Debug)]
pub struct Definition {
    /// API group.
    pub group: String,
    /// Plural name.
    pub plural: String,
    /// The kind of its objects.
    pub kind: String,
    /// All versions, in order of preference.
    pub versions: Vec<Version>,
    /// The version that is stored.
    pub storage: String,
    /// How versions convert.
    pub conversion: Conversion,
    /// Its names are its own, or were when it was established: it is served.
    pub is_served: bool,
    /// It is told in discovery.
    pub is_established: bool,
    /// It is on its way out: nothing is created any more.
    pub is_terminating: bool,
}

/// One version of a definition.
#[derive(Debug)]
pub struct Version {
    /// Whether clients may use it.
    pub served: bool,
    /// The kind in this version.
    pub kind: Arc<Kind>,
}

const VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
/// What can still be done while a definition is on its way out.
const LAST_VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "watch"];
const PART_VERBS: &[&str] = &["get", "patch", "update"];

impl Definition {
    /// Compiles a stored definition.
    pub fn read(object: &Value, compile: Compile) -> Self {
        let (spec, status) = (&object["spec"], &object["status"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let storage =
            list(&spec["versions"]).find(|v| v["storage"] == true).map(|v| text(&v["name"])).unwrap_or_default();
        let mut versions: Vec<Version> = list(&spec["versions"])
            .map(|version| Version {
                served: version["served"] == true,
                kind: Arc::new(kind(object, version, &storage, compile)),
            })
            .collect();
        versions.sort_by(|a, b| versions::compare(&a.kind.version, &b.kind.version));
        let is = |condition: &str| list(&status["conditions"]).any(|c| c["type"] == condition && c["status"] == "True");
        Self {
            group: text(&spec["group"]),
            plural: text(&spec["names"]["plural"]),
            kind: text(&spec["names"]["kind"]),
            versions,
            storage,
            conversion: match spec["conversion"]["strategy"].as_str() {
                Some("Webhook") => Conversion::Webhook(spec["conversion"]["webhook"].clone()),
                _ => Conversion::None,
            },
            is_served: is("NamesAccepted") || is("Established"),
            is_established: is("Established"),
            is_terminating: is("Terminating") || object["metadata"]["deletionTimestamp"].is_string(),
        }
    }

    /// The kind in a version, served or not.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.kind.version == name)
    }

    /// The kinds that clients may use.
    pub fn served(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.versions.iter().filter(|v| self.is_served && v.served).map(|v| &v.kind)
    }

    /// The kinds that discovery tells, with the verbs that are left to them.
    pub fn told(&self) -> impl Iterator<Item = KindRef> {
        let told = |kind: &Arc<Kind>| match self.is_terminating {
            false => KindRef::Custom(Arc::clone(kind)),
            true => KindRef::Custom(Arc::new(Kind { verbs: LAST_VERBS, ..Kind::clone(kind) })),
        };
        self.served().filter(|_| self.is_established).map(told)
    }

    /// The kind that is served in a version.
    pub fn serves(&self, version: &str) -> Option<KindRef> {
        // Who clears up after a definition that serves nothing any more has to reach its objects.
        let last = self.versions.iter().find(|v| self.is_terminating && v.kind.version == self.storage);
        let last = last.filter(|_| self.is_served && !self.versions.iter().any(|v| v.served)).map(|v| &v.kind);
        self.served().chain(last).find(|k| k.version == version).map(|k| KindRef::Custom(Arc::clone(k)))
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn kind(object: &Value, version: &Value, storage: &str, compile: Compile) -> Kind {
    let spec = &object["spec"];
    // Names that were accepted are those that are served, whatever is asked for now.
    let accepted = &object["status"]["acceptedNames"];
    let names = if accepted["plural"].as_str().is_some_and(|p| !p.is_empty()) { accepted } else { &spec["names"] };
    let name = |value: &Value| -> Name { Cow::Owned(value.as_str().unwrap_or_default().to_string()) };
    let names_of = |value: &Value| list(value).map(name).collect::<Vec<Name>>();
    let group = name(&spec["group"]);
    let kind_name = name(&names["kind"]);
    let version_name = name(&version["name"]);
    let custom = custom(spec, version, compile);
    let part = |part: &'static str, group: Name, version: Name, kind: Name| Subresource {
        name: part,
        group,
        version,
        kind,
        verbs: PART_VERBS,
    };
    let mut subresources = Vec::new();
    if custom.has_status {
        subresources.push(part("status", group.clone(), version_name.clone(), kind_name.clone()));
    }
    if custom.scale.is_some() {
        subresources.push(part("scale", "autoscaling".into(), "v1".into(), "Scale".into()));
    }
    Kind {
        storage_group: group.clone(),
        group,
        version: version_name,
        list_kind: name(&names["listKind"]),
        kind: kind_name,
        plural: name(&spec["names"]["plural"]),
        singular: name(&names["singular"]),
        short_names: names_of(&names["shortNames"]),
        categories: names_of(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        verbs: VERBS,
        subresources,
        storage_version: storage.to_string().into(),
        rules: &CUSTOM,
        custom: Some(Arc::new(custom)),
    }
}

fn custom(spec: &Value, version: &Value, compile: Compile) -> Custom {
    let schema = &version["schema"]["openAPIV3Schema"];
    Custom {
        schema: schema.is_object().then(|| Schema::root(schema)),
        deprecation: deprecation(spec, version),
        scale: ScalePaths::read(&version["subresources"]["scale"]),
        has_status: version["subresources"]["status"].is_object(),
        columns: list(&version["additionalPrinterColumns"]).filter_map(column).collect(),
        selectable: list(&version["selectableFields"])
            .filter_map(|field| {
                let text = field["jsonPath"].as_str()?;
                let label = text.trim_start_matches('.').to_string();
                Some(Selectable { label, path: Path::parse(text).ok()? })
            })
            .collect(),
        rules: compile(schema),
        source: version.clone(),
    }
}

fn column(column: &Value) -> Option<CustomColumn> {
    let text = |field: &str| column[field].as_str().unwrap_or_default();
    let description = match text("description") {
        "" => format!("Custom resource definition column (in JSONPath format): {}", text("jsonPath")),
        given => given.to_string(),
    };
    let definition = json!({
        "name": text("name"),
        "type": text("type"),
        "format": text("format"),
        "description": description,
        "priority": column["priority"].as_i64().unwrap_or(0),
    });
    Some(CustomColumn { definition, path: Path::parse(text("jsonPath")).ok()?, ty: text("type").to_string() })
}

/// The warning of a deprecated version: the author's, or one that names a newer version.
fn deprecation(spec: &Value, version: &Value) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    if let Some(own) = version["deprecationWarning"].as_str() {
        return Some(own.to_string());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let (group, kind, name) = (text(&spec["group"]), text(&spec["names"]["kind"]), text(&version["name"]));
    let mut newer: Vec<String> = list(&spec["versions"])
        .filter(|v| v["served"] == true && v["deprecated"] != true)
        .map(|v| text(&v["name"]))
        .filter(|v| versions::compare(v, &name).is_lt())
        .collect();
    newer.sort_by(|a, b| versions::compare(a, b));
    let instead = newer.first().map(|v| format!("; use {group}/{v} {kind}")).unwrap_or_default();
    Some(format!("{group}/{name} {kind} is deprecated{instead}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Definition;

    fn definition() -> Definition {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "color": {"type": "string"}, "replicas": {"type": "integer"}}}}});
        let object = json!({
            "metadata": {"name": "crontabs.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList", "shortNames": ["ct"]},
                "versions": [
                    {"name": "v1beta1", "served": true, "storage": false, "deprecated": true, "schema": {"openAPIV3Schema": schema}},
                    {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                     "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                     "selectableFields": [{"jsonPath": ".spec.color"}],
                     "additionalPrinterColumns": [{"name": "Color", "type": "string", "jsonPath": ".spec.color"},
                        {"name": "N", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
                        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]},
                    {"name": "v0", "served": false, "storage": false, "schema": {"openAPIV3Schema": schema}}]},
            "status": {"conditions": [{"type": "NamesAccepted", "status": "True"}]},
        });
        Definition::read(&object, |_| None)
    }

    #[test]
    fn each_served_version_is_a_kind() {
        let definition = definition();
        let served: Vec<&str> = definition.served().map(|k| &*k.version).collect();
        assert_eq!((served, definition.storage.as_str()), (vec!["v1", "v1beta1"], "v1"));
        assert!(definition.serves("v0").is_none() && definition.version("v0").is_some());
        let v1 = definition.serves("v1").expect("v1");
        assert_eq!((&*v1.plural, &*v1.list_kind, v1.namespaced), ("crontabs", "CronTabList", true));
        assert!(v1.subresource("status").is_some() && v1.subresource("scale").is_some());
        let custom = v1.custom.as_ref().expect("custom");
        assert_eq!(custom.deprecation, None);
        let beta = definition.serves("v1beta1").expect("v1beta1");
        let beta = beta.custom.as_ref().expect("custom");
        assert_eq!(
            beta.deprecation.as_deref(),
            Some("example.com/v1beta1 CronTab is deprecated; use example.com/v1 CronTab")
        );
    }

    #[test]
    fn objects_become_rows_and_fields() {
        let definition = definition();
        let v1 = definition.serves("v1").expect("v1");
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"color": "blue", "replicas": 2}});
        let now = 1_767_225_600 + 120;
        assert_eq!(v1.row(&object, now), [json!("a"), json!("blue"), json!(2), json!("2m")]);
        let names: Vec<Value> = v1.columns().iter().map(|c| c["name"].clone()).collect();
        assert_eq!(names, ["Name", "Color", "N", "Age"]);
        assert_eq!(v1.selectable("spec.color"), Some(0));
        assert_eq!(v1.selected_values(&object), ["blue"]);
        let beta = definition.serves("v1beta1").expect("v1beta1");
        assert_eq!(beta.row(&object, now), ["a", "2m"]);
        assert_eq!(
            v1.row(&json!({"metadata": {"name": "a"}}), now),
            [json!("a"), Value::Null, Value::Null, Value::Null]
        );
    }
}
