//! Declared types of the built-in kinds, from the types that the API itself is described by.

use std::collections::BTreeMap;
use std::sync::Arc;

use mizzen_api::schema::{ListKind as ApiListKind, Object, Type as ApiType};

use crate::schema::{Decl, Field, ListKind, ObjectType, REQUEST_BYTES_MAX, Shape, escape};
use crate::types::Type;

impl Decl {
    /// The type of a built-in kind's objects, its parts named below `name`. A structure within itself is left out, and so
    /// is what may be anything.
    pub fn built_in(object: &'static Object, name: &str) -> Arc<Self> {
        structure(object, name, &mut Vec::new())
    }
}

fn structure(object: &'static Object, name: &str, above: &mut Vec<&'static str>) -> Arc<Decl> {
    above.push(object.name);
    let mut fields = BTreeMap::new();
    for field in object.fields() {
        let Some(escaped) = escape(field.name) else { continue };
        if let Some(decl) = value(field.ty, &format!("{name}.{escaped}"), above) {
            fields.insert(escaped, Field { decl, json_name: field.name.to_owned() });
        }
    }
    above.pop();
    let ty = Arc::new(ObjectType { name: name.to_owned(), fields, open: false });
    decl(Type::Object(ty.clone()), Shape::Object(ty))
}

fn decl(ty: Type, shape: Shape) -> Arc<Decl> {
    Arc::new(Decl { ty, max_elements: REQUEST_BYTES_MAX, min_bytes: 1, nullable: true, shape })
}

fn value(ty: ApiType, name: &str, above: &mut Vec<&'static str>) -> Option<Arc<Decl>> {
    Some(match ty {
        ApiType::String => Decl::of(Type::String),
        ApiType::Bytes => Decl::of(Type::Bytes),
        ApiType::Int32 | ApiType::Int64 => Decl::of(Type::Int),
        ApiType::Double => Decl::of(Type::Double),
        ApiType::Bool => Decl::of(Type::Bool),
        ApiType::Time | ApiType::MicroTime => Decl::of(Type::Timestamp),
        ApiType::Quantity | ApiType::IntOrString => Decl::of(Type::Dyn),
        ApiType::Raw
        | ApiType::FieldsV1
        | ApiType::Json
        | ApiType::SchemaOrArray
        | ApiType::SchemaOrBool
        | ApiType::SchemaOrStrings => return None,
        ApiType::List(list) => {
            let of = value(list.item, &format!("{name}.@idx"), above)?;
            let kind = match list.kind {
                ApiListKind::Atomic => ListKind::Atomic,
                ApiListKind::Set => ListKind::Set,
                ApiListKind::Map(keys) => ListKind::Map(keys.iter().map(|key| key.to_string()).collect()),
            };
            decl(Type::list(of.ty.clone()), Shape::List(of, kind))
        }
        ApiType::Map(map) => {
            let of = value(map.value, &format!("{name}.@elem"), above)?;
            decl(Type::map(Type::String, of.ty.clone()), Shape::Map(of))
        }
        ApiType::Object(object) if above.contains(&object.name) => return None,
        ApiType::Object(object) => structure(object, name, above),
    })
}

#[cfg(test)]
mod tests {
    use mizzen_api::schema;

    use super::*;
    use crate::{Env, compile};

    #[test]
    fn built_in_kinds_have_types() {
        let deployment = schema::by_gvk("apps", "v1", "Deployment").unwrap();
        let env = Env::new().with("object", Decl::built_in(deployment, "Deployment"));
        for (source, error) in [
            ("object.spec.replicas > 1", None),
            ("object.spec.template.spec.containers.all(c, c.image.startsWith('x'))", None),
            ("object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')", None),
            ("object.metadata.labels['a'] == 'b'", None),
            ("object.spec.replicas > '1'", Some("found no matching overload for '_>_' applied to '(int, string)'")),
            ("object.spec.maxReplicas > 1", Some("undefined field 'maxReplicas'")),
        ] {
            let found = compile(source, &env).err().map(|error| error.to_string());
            assert_eq!(found.is_some(), error.is_some(), "{source} {found:?}");
            assert!(error.is_none_or(|error| found.as_ref().is_some_and(|found| found.contains(error))), "{found:?}");
        }
        let definition = schema::by_gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
        Decl::built_in(definition, "CustomResourceDefinition");
    }
}
