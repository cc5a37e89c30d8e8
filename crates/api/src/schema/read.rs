//! Reads the types from `data/schema.txt`; its head explains the form.

use std::sync::{LazyLock, OnceLock};

use crate::kind::Name;

use super::{Field, List, ListKind, Map, Object, Patch, Type};

/// Shortened packages and what they stand for; `io.k8s.api.` is left away altogether.
const PACKAGES: &[(&str, &str)] = &[
    ("meta.", "io.k8s.apimachinery.pkg.apis.meta."),
    ("version.", "io.k8s.apimachinery.pkg.version."),
    ("apiextensions.", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions."),
    ("apiregistration.", "io.k8s.kube-aggregator.pkg.apis.apiregistration."),
];

struct Table {
    /// By short name.
    objects: &'static [Object],
    by_gvk: Vec<((&'static str, &'static str, &'static str), &'static Object)>,
}

fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("../../data/schema.txt")));
    &TABLE
}

/// The type of the bodies of this group (empty for core), version and kind.
pub fn by_gvk(group: &str, version: &str, kind: &str) -> Option<&'static Object> {
    let by_gvk = &table().by_gvk;
    let at = by_gvk.binary_search_by(|((k, g, v), _)| (*k, *g, *v).cmp(&(kind, group, version)));
    at.ok().map(|i| by_gvk[i].1)
}

/// The type with this full name (`io.k8s.api.core.v1.Pod`).
pub fn by_name(name: &str) -> Option<&'static Object> {
    table().objects.iter().find(|o| o.name == name)
}

/// All types, ordered by package and name.
pub fn objects() -> &'static [Object] {
    table().objects
}

impl Table {
    /// # Panics
    /// When the text, which is part of the program, is malformed; a test reads all of it.
    fn read(text: &'static str) -> Self {
        let lines: Vec<&'static str> = text.lines().filter(|l| !l.starts_with('#')).collect();
        let mut short_names = Vec::with_capacity(lines.len());
        let mut objects = Vec::with_capacity(lines.len());
        for line in &lines {
            let mut cells = line.splitn(4, ' ');
            let (name, gvk, atomic) =
                (cells.next().unwrap_or(""), cells.next().unwrap_or(""), cells.next().unwrap_or(""));
            short_names.push(name);
            objects.push(head(name, gvk, atomic));
        }
        assert!(short_names.is_sorted(), "schema.txt is sorted by name");
        let objects: &'static [Object] = objects.leak();
        let find = |name: &str| match short_names.binary_search(&name) {
            Ok(at) => &objects[at],
            Err(_) => panic!("schema.txt: no type {name:?}"),
        };
        for (object, line) in objects.iter().zip(&lines) {
            let fields: Vec<Field> = line.split(' ').skip(3).map(|cell| field(cell, &find)).collect();
            assert!(fields.is_sorted_by_key(|f| f.name), "schema.txt: fields of {} are sorted", object.name);
            // The cell was made empty a few lines above, so it cannot be taken.
            let _ = object.fields.set(fields.leak());
        }
        let mut by_gvk: Vec<_> = objects.iter().filter_map(|o| o.gvk.map(|(g, v, k)| ((k, g, v), o))).collect();
        by_gvk.sort_by_key(|(gvk, _)| *gvk);
        Self { objects, by_gvk }
    }
}

fn head(short: &'static str, gvk: &'static str, atomic: &str) -> Object {
    let package = PACKAGES.iter().find_map(|(s, full)| short.strip_prefix(s).map(|rest| format!("{full}{rest}")));
    let name = package.unwrap_or_else(|| format!("io.k8s.api.{short}")).leak();
    let go_name = short.split_once('.').map_or(short, |(_, rest)| rest);
    let gvk_parts: Vec<&'static str> = gvk.split('/').collect();
    let parsed = match gvk_parts.as_slice() {
        [group, version, kind] => Some((if *group == "core" { "" } else { *group }, *version, *kind)),
        _ => None,
    };
    Object { name, go_name, atomic: atomic == "a", gvk: parsed, everywhere: gvk == "*", fields: OnceLock::new() }
}

fn field(cell: &'static str, find: &dyn Fn(&str) -> &'static Object) -> Field {
    let Some((head, rest)) = cell.split_once(':') else { panic!("schema.txt: bad field {cell:?}") };
    let (rest, granular) = rest.strip_suffix("^granular").map_or((rest, false), |r| (r, true));
    let (ty, patch) = rest.split_once('~').map_or((rest, Patch::default()), |(ty, patch)| (ty, strategy(patch)));
    let (head, numbers) = head.split_once('=').unwrap_or((head, ""));
    let numbers: Vec<u32> = numbers.split('.').filter_map(|n| n.parse().ok()).collect();
    let name = head.trim_end_matches(['!', '*', '.']);
    let flags = &head[name.len()..];
    Field {
        name,
        required: flags.contains('!'),
        kept: flags.contains('*'),
        always_there: flags.contains('.'),
        numbers: numbers.leak(),
        ty: parse_type(ty, find),
        granular,
        patch,
    }
}

fn strategy(cell: &'static str) -> Patch {
    let (strategies, key) = cell.split_once('/').unwrap_or((cell, ""));
    let has = |name: &str| strategies.split('+').any(|s| s == name);
    let merge_key = (!key.is_empty()).then_some(key);
    Patch { merge: has("merge"), replace: has("replace"), retain_keys: has("retainKeys"), merge_key }
}

fn parse_type(text: &'static str, find: &dyn Fn(&str) -> &'static Object) -> Type {
    if let Some((kind, item)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        let list_kind = match kind {
            "a" | "-" => ListKind::Atomic,
            "s" => ListKind::Set,
            keys => {
                let keys = keys.trim_start_matches("m(").trim_end_matches(')');
                ListKind::Map(keys.split(',').map(Name::Borrowed).collect::<Vec<_>>().leak())
            }
        };
        let list = List { kind: list_kind, declared: kind != "-", item: parse_type(item, find) };
        return Type::List(Box::leak(Box::new(list)));
    }
    if let Some((kind, value)) = text.strip_prefix('{').and_then(|t| t.split_once('}')) {
        return Type::Map(Box::leak(Box::new(Map { atomic: kind == "a", value: parse_type(value, find) })));
    }
    match text {
        "s" => Type::String,
        "y" => Type::Bytes,
        "i" => Type::Int32,
        "l" => Type::Int64,
        "d" => Type::Double,
        "b" => Type::Bool,
        "T" => Type::Time,
        "U" => Type::MicroTime,
        "Q" => Type::Quantity,
        "I" => Type::IntOrString,
        "R" => Type::Raw,
        "F" => Type::FieldsV1,
        "J" | "P" | "o" => Type::Json,
        "A" => Type::SchemaOrArray,
        "B" => Type::SchemaOrBool,
        "C" => Type::SchemaOrStrings,
        name => Type::Object(find(name)),
    }
}
