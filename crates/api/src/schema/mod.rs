//! The types of the built-in kinds as data: fields, list types, merge keys, and what may be atomic.
//!
//! Read once from `data/schema.txt` (80 kB of text, names stay slices of it). Decoding, patches, server-side apply,
//! OpenAPI documents and the protobuf codec all walk these types; no other description of a field exists.

mod admit;
mod errors;
mod read;

use std::sync::OnceLock;

use crate::kind::{Kind, Name};

pub use admit::{admit, missing};
pub(crate) use admit::{admit_with, is_kept};
pub(crate) use errors::At;
pub use errors::TypeError;
pub use read::{by_gvk, by_name, objects};

/// The type of a value.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    /// UTF-8 text.
    String,
    /// Base64 text of bytes.
    Bytes,
    /// A number that fits 32 bits.
    Int32,
    /// A number that fits 64 bits.
    Int64,
    /// Any number.
    Double,
    /// `true` or `false`.
    Bool,
    /// RFC 3339, whole seconds in UTC.
    Time,
    /// RFC 3339 with six digits of the second, UTC.
    MicroTime,
    /// Amounts such as `500m` or `2Gi`.
    Quantity,
    /// A 32-bit number or text.
    IntOrString,
    /// An object of a kind not known here (`RawExtension`).
    Raw,
    /// The set of fields in an entry of `managedFields`.
    FieldsV1,
    /// Any JSON.
    Json,
    /// In JSON schemas: a schema or a list of them.
    SchemaOrArray,
    /// In JSON schemas: a schema or a bool.
    SchemaOrBool,
    /// In JSON schemas: a schema or a list of strings.
    SchemaOrStrings,
    /// A list.
    List(&'static List),
    /// A map with free keys.
    Map(&'static Map),
    /// A structure with named fields.
    Object(&'static Object),
}

/// How lists merge in server-side apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// Replaced as a whole.
    Atomic,
    /// A set of scalars.
    Set,
    /// Items with these keys.
    Map(&'static [Name]),
}

/// A list type.
#[derive(Debug)]
pub struct List {
    /// How it merges.
    pub kind: ListKind,
    /// Whether the kind is said in the schema, or is the default.
    pub declared: bool,
    /// The type of its items.
    pub item: Type,
}

/// A map type.
#[derive(Debug)]
pub struct Map {
    /// Replaced as a whole by server-side apply.
    pub atomic: bool,
    /// The type of its values.
    pub value: Type,
}

/// A structure.
#[derive(Debug)]
pub struct Object {
    /// The full name of its definition, `io.k8s.api.core.v1.Pod`.
    pub name: &'static str,
    /// The version and the name as Go prints the type, `v1.Pod`.
    pub go_name: &'static str,
    /// Replaced as a whole by server-side apply.
    pub atomic: bool,
    /// Group, version and kind, if it is the body of requests.
    pub gvk: Option<(&'static str, &'static str, &'static str)>,
    /// A body in every group (`DeleteOptions`, `WatchEvent`).
    pub everywhere: bool,
    fields: OnceLock<&'static [Field]>,
}

/// A field of a structure.
#[derive(Debug)]
pub struct Field {
    /// Its name in JSON.
    pub name: &'static str,
    /// Whether the schema requires it.
    pub required: bool,
    /// Kept when it is empty or zero: in Go it is a pointer, or never left out.
    pub kept: bool,
    /// A structure that is no pointer in Go: every object has it, if only empty.
    pub always_there: bool,
    /// Its number in protobuf. The fields of structures that JSON inlines have the way through their messages.
    pub numbers: &'static [u32],
    /// Its type.
    pub ty: Type,
    /// A structure that is atomic elsewhere merges by field here.
    pub granular: bool,
    /// Strategic merge: how it is patched.
    pub patch: Patch,
}

/// What `x-kubernetes-patch-strategy` and `-merge-key` say of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patch {
    /// Lists merge by item.
    pub merge: bool,
    /// A map is replaced, not merged.
    pub replace: bool,
    /// `$retainKeys` is honoured.
    pub retain_keys: bool,
    /// The field that identifies items of a list; lists of scalars have none.
    pub merge_key: Option<&'static str>,
}

impl Object {
    /// All fields, by name.
    pub fn fields(&self) -> &'static [Field] {
        self.fields.get().copied().unwrap_or_default()
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        let fields = self.fields();
        fields.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &fields[i])
    }
}

impl Type {
    /// The type as Go names it in decoding errors.
    pub fn go_name(self) -> String {
        match self {
            Type::String => "string".into(),
            Type::Bytes => "[]uint8".into(),
            Type::Int32 => "int32".into(),
            Type::Int64 => "int64".into(),
            Type::Double => "float64".into(),
            Type::Bool => "bool".into(),
            Type::Time => "v1.Time".into(),
            Type::MicroTime => "v1.MicroTime".into(),
            Type::Quantity => "resource.Quantity".into(),
            Type::IntOrString => "intstr.IntOrString".into(),
            Type::Raw => "runtime.RawExtension".into(),
            Type::FieldsV1 => "v1.FieldsV1".into(),
            Type::Json => "v1.JSON".into(),
            Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings => "v1.JSONSchemaProps".into(),
            Type::List(list) => format!("[]{}", list.item.go_name()),
            Type::Map(map) => format!("map[string]{}", map.value.go_name()),
            Type::Object(object) => object.go_name.into(),
        }
    }
}

/// The type of a kind's objects. Every stored built-in kind has one.
pub fn of(kind: &Kind) -> Option<&'static Object> {
    by_gvk(&kind.group, &kind.version, &kind.kind)
}

#[cfg(test)]
mod tests {
    use super::{ListKind, Name, Type, by_gvk, of};
    use crate::kinds::kinds;

    #[test]
    fn every_kind_and_its_list_has_a_type() {
        for kind in kinds().iter() {
            assert!(of(kind).is_some_and(|o| o.field("metadata").is_some()), "{}", kind.kind);
            if kind.is_stored() {
                assert!(by_gvk(&kind.group, &kind.version, &kind.list_kind).is_some(), "{}", kind.list_kind);
            }
        }
        for (group, version, kind) in
            [("autoscaling", "v1", "Scale"), ("policy", "v1", "Eviction"), ("", "v1", "Status")]
        {
            assert!(by_gvk(group, version, kind).is_some(), "{kind}");
        }
    }

    #[test]
    fn fields_carry_what_merging_needs() {
        let pod = by_gvk("", "v1", "Pod").expect("Pod");
        let Some(Type::Object(spec)) = pod.field("spec").map(|f| f.ty) else { panic!("spec") };
        let containers = spec.field("containers").expect("containers");
        assert!(containers.required && containers.patch.merge);
        assert_eq!(containers.patch.merge_key, Some("name"));
        let Type::List(list) = containers.ty else { panic!("list") };
        assert_eq!(list.kind, ListKind::Map(&[Name::Borrowed("name")]));
        let Type::Object(container) = list.item else { panic!("container") };
        assert_eq!((container.name, container.go_name), ("io.k8s.api.core.v1.Container", "v1.Container"));
        let Some(Type::List(ports)) = container.field("ports").map(|f| f.ty) else { panic!("ports") };
        assert_eq!(ports.kind, ListKind::Map(&[Name::Borrowed("containerPort"), Name::Borrowed("protocol")]));
        assert!(spec.field("volumes").is_some_and(|f| f.patch.retain_keys && f.patch.merge));
        assert!(matches!(spec.field("nodeSelector").map(|f| f.ty), Some(Type::Map(map)) if map.atomic));
    }
}
