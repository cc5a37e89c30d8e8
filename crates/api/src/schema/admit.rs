//! Checks an object against its type, and gives it the form in which Kubernetes would hand it back.
//!
//! What Go's decoder does to a request happens here: a value of the wrong JSON type is an error, an unknown field is
//! reported and dropped, `null` and empty optional lists and maps disappear, quantities and times become canonical.

use std::collections::HashSet;

use base64::Engine as _;
use serde_json::Value;

use super::{At, Field, Object, Type, TypeError};
use crate::field::FieldError;
use crate::{quantity, time};

/// Makes `value` a well-formed object of the type. Answers the unknown fields that were dropped, as `unknown field "spec.foo"`.
///
/// # Errors
/// The first value that its field cannot hold.
pub fn admit(value: &mut Value, ty: &'static Object) -> Result<Vec<String>, TypeError> {
    admit_with(value, ty, &[])
}

/// As [`admit`], telling also those of the `duplicates` (paths of fields) that are fields of the type, each where it stands.
///
/// # Errors
/// As [`admit`].
pub(crate) fn admit_with(
    value: &mut Value,
    ty: &'static Object,
    duplicates: &[&str],
) -> Result<Vec<String>, TypeError> {
    let mut walk = Walk { problems: Vec::new(), duplicates: duplicates.iter().copied().collect() };
    walk.object(value, ty, &At::ROOT, ty)?;
    Ok(walk.problems)
}

/// At most so many problems are told; nobody reads more, and the texts go into headers.
const PROBLEMS_MAX: usize = 100;

struct Walk<'d> {
    problems: Vec<String>,
    duplicates: HashSet<&'d str>,
}

impl Walk<'_> {
    fn tell(&mut self, problem: &str, at: &At<'_>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(format!("{problem} field \"{at}\""));
        }
    }

    fn tell_duplicate(&mut self, at: &At<'_>) {
        if !self.duplicates.is_empty() && self.duplicates.contains(at.to_string().as_str()) {
            self.tell("duplicate", at);
        }
    }

    fn object(
        &mut self,
        value: &mut Value,
        ty: &'static Object,
        at: &At<'_>,
        owner: &'static Object,
    ) -> Result<(), TypeError> {
        let Value::Object(map) = value else {
            return Err(TypeError::mismatch(value, owner, at, ty.go_name.into()));
        };
        let mut failed = None;
        map.retain(|name, value| {
            if failed.is_some() {
                return true;
            }
            let here = at.name(name);
            let Some(field) = ty.field(name) else {
                self.tell("unknown", &here);
                return false;
            };
            self.tell_duplicate(&here);
            match self.value(value, field.ty, &here, ty) {
                Ok(()) => is_kept(value, field),
                Err(error) => {
                    failed = Some(error);
                    true
                }
            }
        });
        failed.map_or(Ok(()), Err)
    }

    fn value(&mut self, value: &mut Value, ty: Type, at: &At<'_>, owner: &'static Object) -> Result<(), TypeError> {
        if value.is_null() {
            return Ok(());
        }
        let fits = match ty {
            Type::String => value.is_string(),
            Type::Bool => value.is_boolean(),
            Type::Double => value.is_number(),
            Type::Int64 => value.is_i64(),
            Type::Int32 => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Type::Bytes => match value {
                Value::String(text) => return bytes(text),
                _ => false,
            },
            Type::IntOrString => value.is_string() || value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Type::Quantity => return quantity(value),
            Type::Time | Type::MicroTime => match value {
                Value::String(text) => return timestamp(text, matches!(ty, Type::MicroTime)),
                _ => false,
            },
            Type::Raw | Type::FieldsV1 => value.is_object(),
            Type::Json => true,
            Type::SchemaOrArray => value.is_object() || value.is_array(),
            Type::SchemaOrBool => value.is_object() || value.is_boolean(),
            Type::SchemaOrStrings => value.is_object() || value.is_array(),
            Type::Object(object) => return self.object(value, object, at, owner),
            Type::List(list) => match value {
                Value::Array(items) => {
                    for (index, item) in items.iter_mut().enumerate() {
                        self.value(item, list.item, &at.index(index), owner)?;
                        fill_null(item, list.item);
                    }
                    return Ok(());
                }
                _ => false,
            },
            Type::Map(map) => match value {
                Value::Object(entries) => {
                    for (key, item) in entries.iter_mut() {
                        let here = at.key(key);
                        self.tell_duplicate(&here);
                        self.value(item, map.value, &here, owner)?;
                        fill_null(item, map.value);
                    }
                    return Ok(());
                }
                _ => false,
            },
        };
        if fits { Ok(()) } else { Err(TypeError::mismatch(value, owner, at, ty.go_name())) }
    }
}

/// Go leaves out what is empty or zero, unless the field is a pointer or always written.
pub(crate) fn is_kept(value: &Value, field: &Field) -> bool {
    if field.kept || field.required {
        return !value.is_null();
    }
    match (value, field.ty) {
        (Value::Null, _) => false,
        (Value::Array(items), Type::List(_)) => !items.is_empty(),
        (Value::Object(entries), Type::Map(_)) => !entries.is_empty(),
        (Value::String(text), Type::String | Type::Bytes) => !text.is_empty(),
        (Value::Bool(set), Type::Bool) => *set,
        (Value::Number(number), Type::Int32 | Type::Int64 | Type::Double) => number.as_f64() != Some(0.0),
        _ => true,
    }
}

/// `null` inside a list or map is the zero value of its type.
fn fill_null(value: &mut Value, ty: Type) {
    if !value.is_null() {
        return;
    }
    *value = match ty {
        Type::String | Type::Bytes => "".into(),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => 0.into(),
        Type::Bool => false.into(),
        Type::Quantity => "0".into(),
        Type::List(_) => Value::Array(Vec::new()),
        Type::Object(_) | Type::Map(_) => Value::Object(serde_json::Map::new()),
        _ => return,
    };
}

fn bytes(text: &mut String) -> Result<(), TypeError> {
    use base64::DecodeError::{InvalidByte, InvalidLastSymbol};
    if text.contains(['\n', '\r']) {
        text.retain(|c| c != '\n' && c != '\r');
    }
    match base64::engine::general_purpose::STANDARD.decode(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(InvalidByte(offset, _) | InvalidLastSymbol(offset, _)) => Err(TypeError::Base64 { offset }),
        Err(_) => Err(TypeError::Base64 { offset: text.len() / 4 * 4 }),
    }
}

fn quantity(value: &mut Value) -> Result<(), TypeError> {
    let text = match value {
        Value::String(text) => quantity::canonical(text).map(|c| (c != text.as_str()).then(|| c.into_owned())),
        Value::Number(number) => quantity::canonical(&number.to_string()).map(|c| Some(c.into_owned())),
        _ => return Err(TypeError::Quantity),
    };
    if let Some(text) = text.map_err(|_| TypeError::Quantity)? {
        *value = text.into();
    }
    Ok(())
}

fn timestamp(text: &mut String, micro: bool) -> Result<(), TypeError> {
    let canonical = time::canonical(text, micro).ok_or_else(|| TypeError::Time { value: text.clone() })?;
    if canonical != text.as_str() {
        *text = canonical.into_owned();
    }
    Ok(())
}

/// The required fields that `value` lacks, for kinds without rules of their own. Looks only into what is present.
pub fn missing(value: &Value, ty: &'static Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    missing_in(value, Type::Object(ty), &At::ROOT, &mut errors);
    errors
}

fn missing_in(value: &Value, ty: Type, at: &At<'_>, errors: &mut Vec<FieldError>) {
    match (value, ty) {
        (Value::Object(map), Type::Object(object)) => {
            for field in object.fields() {
                let here = at.name(field.name);
                match map.get(field.name) {
                    Some(value) => missing_in(value, field.ty, &here, errors),
                    None if field.required => errors.push(FieldError::required(here.to_string(), "")),
                    None => {}
                }
            }
        }
        (Value::Array(items), Type::List(list)) => {
            for (index, item) in items.iter().enumerate() {
                missing_in(item, list.item, &at.index(index), errors);
            }
        }
        (Value::Object(map), Type::Map(entries)) => {
            for (key, item) in map {
                missing_in(item, entries.value, &at.key(key), errors);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{admit, missing};
    use crate::schema::by_gvk;

    fn deployment(spec: Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec})
    }

    #[test]
    fn wrong_types_are_told_as_go_tells_them() {
        let ty = by_gvk("apps", "v1", "Deployment").expect("Deployment");
        for (spec, text) in [
            (
                json!({"replicas": "three"}),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                json!({"replicas": 1.5}),
                "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                json!({"replicas": 4294967296u64}),
                "json: cannot unmarshal number 4294967296 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (json!([]), "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec"),
            (
                json!({"template": {"spec": {"containers": {"a": 1}}}}),
                "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
            ),
            (
                json!({"template": {"metadata": {"labels": {"a": 1}}}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.spec.template.metadata.labels of type string",
            ),
            (
                json!({"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "many"}}}]}}}),
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
        ] {
            let error = admit(&mut deployment(spec), ty).expect_err(text);
            assert_eq!(error.to_string(), text);
        }
        let error = admit(&mut json!([]), ty).expect_err("array");
        assert_eq!(error.to_string(), "json: cannot unmarshal array into Go value of type v1.Deployment");
    }

    #[test]
    fn unknown_fields_are_named_and_dropped() {
        let ty = by_gvk("apps", "v1", "Deployment").expect("Deployment");
        let mut value = deployment(json!({"foo": 1, "template": {"spec": {"containers": [{"name": "c", "bar": {}}]}}}));
        let unknown = admit(&mut value, ty).expect("well-typed");
        assert_eq!(unknown, ["unknown field \"spec.foo\"", "unknown field \"spec.template.spec.containers[0].bar\""]);
        assert_eq!(value, deployment(json!({"template": {"spec": {"containers": [{"name": "c"}]}}})));
    }

    #[test]
    fn values_get_their_canonical_form() {
        let ty = by_gvk("", "v1", "Pod").expect("Pod");
        let mut value = json!({
            "metadata": {"labels": {"a": null}, "annotations": {}, "finalizers": [], "creationTimestamp": null,
                "deletionTimestamp": "2026-01-02T03:04:05.678+01:00"},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}}}],
                "volumes": [{"name": "v", "emptyDir": {}}], "nodeName": "", "hostNetwork": false, "priority": 0,
                "automountServiceAccountToken": false},
        });
        assert_eq!(admit(&mut value, ty), Ok(vec![]));
        let expected = json!({
            "metadata": {"labels": {"a": ""}, "deletionTimestamp": "2026-01-02T02:04:05Z"},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}],
                "volumes": [{"name": "v", "emptyDir": {}}], "priority": 0, "automountServiceAccountToken": false},
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn required_fields_are_missed() {
        let ty = by_gvk("rbac.authorization.k8s.io", "v1", "RoleBinding").expect("RoleBinding");
        let errors = missing(&json!({"subjects": [{"kind": "User"}]}), ty);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["roleRef: Required value", "subjects[0].name: Required value"]);
    }
}
