//! One version of a custom resource: what its definition says about objects, tables, selectors and scales.

use std::sync::Arc;

use serde_json::{Value, json};

use super::definition::Rules;
use super::path::Path;
use super::prune::{self, BadMetadata};
use super::schema::Schema;
use super::{defaults, validate};
use crate::duration;
use crate::field::{FieldError, Problem};
use crate::kind::Column;
use crate::rules::check::At;
use crate::schema::TypeError;

/// Where `/scale` finds its numbers.
#[derive(Debug, Clone)]
pub struct ScalePaths {
    /// Path of the wanted replicas, below `spec`.
    pub spec_replicas: Vec<String>,
    /// Path of the observed replicas, below `status`.
    pub status_replicas: Vec<String>,
    /// Path of the selector's text.
    pub selector: Option<Vec<String>>,
}

impl ScalePaths {
    pub(super) fn read(scale: &Value) -> Option<Self> {
        let path = |field: &str| {
            let text = scale[field].as_str()?.trim_start_matches('.');
            Some(text.split('.').map(str::to_string).collect::<Vec<_>>())
        };
        Some(Self {
            spec_replicas: path("specReplicasPath")?,
            status_replicas: path("statusReplicasPath")?,
            selector: path("labelSelectorPath"),
        })
    }
}

/// A column of tables.
#[derive(Debug)]
pub(super) struct CustomColumn {
    pub definition: Value,
    pub path: Path,
    pub ty: String,
}

/// A field that can be selected by.
#[derive(Debug)]
pub(super) struct Selectable {
    pub label: String,
    pub path: Path,
}

/// What a version of a definition says.
#[derive(Debug)]
pub struct Custom {
    /// The schema of objects; `None` if the version has none.
    pub schema: Option<Schema>,
    /// The version's entry in `spec.versions`, as it was written.
    pub source: Value,
    /// What to tell everyone who uses the version.
    pub deprecation: Option<String>,
    /// `/scale`, if it is served.
    pub scale: Option<ScalePaths>,
    pub(super) has_status: bool,
    pub(super) columns: Vec<CustomColumn>,
    pub(super) selectable: Vec<Selectable>,
    pub(super) rules: Option<Arc<dyn Rules>>,
}

impl Custom {
    /// Makes a decoded object well-formed: metadata typed, unknown fields dropped, stray nulls dropped. Answers the problems
    /// that a strict reader would refuse.
    ///
    /// # Errors
    /// Metadata of the wrong type.
    pub fn admit(&self, object: &mut Value) -> Result<Vec<String>, TypeError> {
        self.coerce(object, BadMetadata::Refuse)
    }

    /// The same for an object that was stored under an older schema, and fills in its defaults.
    pub fn refresh(&self, object: &mut Value) {
        self.prune(object);
        self.default(object);
    }

    /// The same without the defaults.
    pub fn prune(&self, object: &mut Value) {
        // Bad metadata is dropped, so there is nothing to refuse.
        let _unknown = self.coerce(object, BadMetadata::Drop);
    }

    fn coerce(&self, object: &mut Value, bad: BadMetadata) -> Result<Vec<String>, TypeError> {
        let told = |paths: Vec<String>| paths.into_iter().map(|p| format!("unknown field \"{p}\"")).collect::<Vec<_>>();
        let Some(schema) = &self.schema else {
            return Ok(told(prune::coerce(object, &Schema { embedded_resource: true, ..Schema::default() }, bad)?));
        };
        let mut unknown = prune::coerce(object, schema, bad)?;
        unknown.extend(prune::prune(object, schema));
        defaults::drop_nulls(object, schema);
        Ok(told(unknown))
    }

    /// Fills in defaults.
    pub fn default(&self, object: &mut Value) {
        if let Some(schema) = &self.schema {
            defaults::fill(object, schema);
        }
    }

    /// Before a create: a new object has no status where that is a sub-resource.
    pub fn prepare_create(&self, object: &mut Value) {
        if self.has_status {
            crate::rules::plain::drop_status(object);
        }
    }

    /// Before an update through the main resource: status stays where it is a sub-resource.
    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        if self.has_status {
            crate::rules::plain::keep_status(new, old);
        }
    }

    /// Before an update through `/status`: everything else stays, metadata included.
    pub fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        let managed = new["metadata"].get("managedFields").cloned();
        crate::rules::plain::keep_all_but_status(new, old);
        let (Some(fields), Some(metadata)) = (new.as_object_mut(), old.get("metadata")) else { return };
        let mut metadata = metadata.clone();
        if let Some(kept) = metadata.as_object_mut() {
            match managed {
                Some(managed) => drop(kept.insert("managedFields".into(), managed)),
                None => drop(kept.shift_remove("managedFields")),
            }
        }
        fields.insert("metadata".into(), metadata);
    }

    /// All errors of a new object.
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = self.check(object, None);
        if let Some(schema) = &self.schema {
            validate::unique_items(object, schema, &At::ROOT, &mut errors);
        }
        self.check_rules(object, None, &mut errors);
        errors
    }

    /// All errors of a changed object.
    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.check(new, Some(old));
        if let Some(schema) = &self.schema {
            let (mut before, mut now) = (Vec::new(), Vec::new());
            validate::unique_items(new, schema, &At::ROOT, &mut now);
            if !now.is_empty() {
                // Lists that had duplicates before may keep them.
                validate::unique_items(old, schema, &At::ROOT, &mut before);
            }
            if before.is_empty() {
                errors.extend(now);
            }
        }
        self.check_rules(new, Some(old), &mut errors);
        errors
    }

    /// All errors of a changed status.
    pub fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let schema = self.schema.as_ref();
        if let (Some(status), Some(schema)) = (new.get("status"), schema.and_then(|s| s.property("status").0)) {
            let at = At::ROOT.field("status");
            errors.extend(validate::check(status, old.get("status"), schema, &at));
            validate::embedded(status, schema, &at, &mut errors);
            validate::unique_items(status, schema, &at, &mut errors);
        }
        self.check_scale_status(new, &mut errors);
        self.check_rules(new, Some(old), &mut errors);
        errors
    }

    fn check(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(schema) = &self.schema {
            errors.extend(validate::check(object, old, schema, &At::ROOT));
            validate::embedded(object, schema, &At::ROOT, &mut errors);
        }
        if let Some(scale) = &self.scale {
            check_replicas(object, &scale.spec_replicas, &mut errors);
        }
        self.check_scale_status(object, &mut errors);
        errors
    }

    fn check_scale_status(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let Some(scale) = &self.scale else { return };
        check_replicas(object, &scale.status_replicas, errors);
        if let Some(path) = &scale.selector
            && let Some(found) = at(object, path).filter(|v| !v.is_string())
        {
            let shown = format!(".{}", path.join("."));
            let detail = format!("{shown} accessor error: {found} is of the type {}, expected string", go_type(found));
            errors.push(FieldError::invalid(shown, "", detail));
        }
    }

    /// The rules of `x-kubernetes-validations` speak only of objects whose types are right.
    fn check_rules(&self, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let Some(rules) = &self.rules else { return };
        let blocks = |e: &FieldError| {
            matches!(
                e.problem,
                Problem::NotSupported | Problem::Required | Problem::TooLong | Problem::TooMany | Problem::TypeInvalid
            )
        };
        if errors.iter().any(blocks) {
            let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(FieldError::invalid("<nil>", Value::Null, detail));
            return;
        }
        errors.extend(rules.validate(object, old));
    }

    /// The columns of tables, as tables define them.
    pub fn columns(&self) -> Vec<Value> {
        let name = Column::NAME.definition();
        if self.columns.is_empty() {
            let age = json!({"name": "Age", "type": "date", "format": "", "priority": 0,
                "description": "Time since the object was created."});
            return vec![name, age];
        }
        std::iter::once(name).chain(self.columns.iter().map(|c| c.definition.clone())).collect()
    }

    /// The cells of an object. `now` in Unix seconds.
    pub fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().into();
        if self.columns.is_empty() {
            return vec![name, duration::since(&object["metadata"]["creationTimestamp"], now).into()];
        }
        let cells = self.columns.iter().map(|c| c.path.first(object).map_or(Value::Null, |v| cell(v, &c.ty, now)));
        std::iter::once(name).chain(cells).collect()
    }

    /// Whether there are field selectors beyond name and namespace.
    pub fn has_selectable(&self) -> bool {
        !self.selectable.is_empty()
    }

    /// The place of a field selector.
    pub fn selectable(&self, label: &str) -> Option<usize> {
        self.selectable.iter().position(|s| s.label == label)
    }

    /// The values of the selectable fields.
    pub fn selected_values(&self, object: &Value) -> Vec<String> {
        let text = |value: Option<&Value>| match value {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        self.selectable.iter().map(|s| text(s.path.first(object))).collect()
    }

    /// What people should know about a new or changed object.
    pub fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let finalizers = |object: &Value| -> Vec<String> {
            let list = object["metadata"]["finalizers"].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_string).collect()
        };
        let before = old.map(finalizers).unwrap_or_default();
        let fresh = finalizers(object).into_iter().filter(|f| !before.contains(f));
        fresh.filter(|f| !f.contains('/') && !matches!(f.as_str(), "orphan" | "foregroundDeletion" | "kubernetes")).map(|f| {
            let path = if f.contains('.') { " including a path (/)" } else { "" };
            format!(
                "metadata.finalizers: {f:?}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
            )
        }).collect()
    }
}

/// The value at a path of names.
pub(super) fn at<'v>(object: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

fn check_replicas(object: &Value, path: &[String], errors: &mut Vec<FieldError>) {
    let Some(found) = at(object, path) else { return };
    let shown = format!(".{}", path.join("."));
    let error = match found.as_i64() {
        None => FieldError::invalid(
            shown.clone(),
            0,
            format!("{shown} accessor error: {found} is of the type {}, expected int64", go_type(found)),
        ),
        Some(n) if n < 0 => FieldError::invalid(shown, n, "should be a non-negative integer"),
        Some(n) if n > i64::from(i32::MAX) => {
            FieldError::invalid(shown, n, format!("should be less than or equal to {}", i32::MAX))
        }
        Some(_) => return,
    };
    errors.push(error);
}

/// A value's type as Go names it.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as a cell of a column's type; nothing where it is of another.
fn cell(value: &Value, ty: &str, now: i64) -> Value {
    match (ty, value) {
        (_, Value::Null) => Value::Null,
        ("string", Value::String(text)) => text.as_str().into(),
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(n)) => n.as_i64().map_or_else(|| n.as_f64().map(|f| f as i64).into(), Value::from),
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) if text.parse::<jiff::Timestamp>().is_err() => "<invalid>".into(),
        ("date", Value::String(_)) => duration::since(value, now).into(),
        _ => Value::Null,
    }
}
