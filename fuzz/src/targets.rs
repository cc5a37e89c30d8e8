//! What is fuzzed: each decoder of bytes from outside, with what is done at once with its result.
//!
//! A target panics if a promise is broken; whether the input is good does not matter.

use mizzen_api::decode::{self, Expected, FieldValidation, Format, Limits};
use mizzen_api::kind::Kind;
use mizzen_api::kinds::kinds;
use mizzen_api::patch;
use mizzen_api::protobuf;
use mizzen_api::quantity::Quantity;
use mizzen_api::schema;
use mizzen_api::selector::{FieldSelector, LabelSelector};
use mizzen_cel::{Activation, Budget, Decl, Env, RUNTIME_BUDGET, Slot, compile};
use serde_json::{Value, json};

/// A fuzz target.
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Runs it with one input.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target { name: "json", run: json },
    Target { name: "yaml", run: yaml },
    Target { name: "object", run: object },
    Target { name: "definition", run: definition },
    Target { name: "protobuf", run: protobuf },
    Target { name: "patch", run: patches },
    Target { name: "selector", run: selectors },
    Target { name: "cel", run: cel },
    Target { name: "quantity", run: quantity },
];

fn limits() -> Limits {
    Limits { bytes_max: 64 << 10, ..Limits::default() }
}

fn json(data: &[u8]) {
    if let Ok(decoded) = decode::json(data, limits()) {
        let text = decoded.value.to_string();
        let again = decode::json(text.as_bytes(), limits()).map(|d| d.value);
        // What is written may be longer than what was read, and so over the limit.
        assert!(again.is_err() || again.as_ref() == Ok(&decoded.value), "{text} reads back as {again:?}");
    }
}

fn yaml(data: &[u8]) {
    if let Ok(decoded) = decode::yaml(data, limits()) {
        let _ = decoded.value.to_string();
    }
}

/// The first byte chooses the kind, the rest is its JSON.
fn object(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let all: Vec<&Kind> = kinds().iter().collect();
    whole_way(all[usize::from(*first) % all.len()], rest);
}

fn definition(data: &[u8]) {
    let kind = kinds().by_resource("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    whole_way(kind.expect("a built-in kind"), data);
}

/// What a create does with a body: decoded, defaulted, checked, shown, and in protobuf.
fn whole_way(kind: &Kind, body: &[u8]) {
    let expected = Expected::of(kind);
    let Ok(decoded) = decode::object(body, Format::Json, &expected, limits()) else { return };
    let _ = FieldValidation::Strict.judge(decoded.problems, &expected);
    let mut object = decoded.value;
    (kind.rules.default)(&mut object);
    (kind.rules.prepare_create)(&mut object);
    let _ = (kind.rules.validate)(&object);
    let _ = (kind.rules.validate_update)(&object, &object);
    let _ = (kind.rules.warnings)(&object);
    let _ = (kind.rules.row)(&object, 1_700_000_000);
    if let Some(bytes) = protobuf::encode(&object) {
        let _ = protobuf::decode(&bytes, ("v1", "Pod"));
    }
}

fn protobuf(data: &[u8]) {
    if let Ok(object) = protobuf::decode(data, ("v1", "Pod"))
        && let Some(bytes) = protobuf::encode(&object)
    {
        let again = protobuf::decode(&bytes, ("v1", "Pod"));
        assert!(again.is_ok(), "{object} cannot be read back: {again:?}");
    }
}

/// A patch, a zero byte, what it is applied to; without a second part a pod.
fn patches(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (patch_text, target) = (parts.next().unwrap_or_default(), parts.next());
    let target = target.and_then(|t| decode::json(t, limits()).ok()).map_or_else(pod, |d| d.value);
    if let Ok(operations) = patch::JsonPatch::parse(patch_text) {
        let mut patched = target.clone();
        let _ = operations.apply(&mut patched);
    }
    let Ok(decoded) = decode::json(patch_text, limits()) else { return };
    let mut merged = target.clone();
    patch::merge(&mut merged, &decoded.value);
    let kind = kinds().by_resource("", "v1", "pods").expect("a built-in kind");
    if let Some(ty) = schema::of(kind) {
        let mut patched = target;
        let _ = patch::strategic(&mut patched, &decoded.value, ty);
    }
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "labels": {"x": "y"}, "finalizers": ["f/g"]},
        "spec": {"containers": [
            {"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}], "env": [{"name": "E", "value": "1"}]},
            {"name": "d", "image": "j"},
        ]},
    })
}

fn selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selector) = LabelSelector::parse(text) {
        let _ = selector.matches(|name| (name.len() % 2 == 0).then_some("v"));
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let _ = selector.matches(|name| name.to_string());
    }
    if let Ok(object) = decode::json(data, limits())
        && let Ok(selector) = LabelSelector::from_object(&object.value)
    {
        let _ = selector.matches_object(&pod());
    }
}

fn cel(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let schema = json!({"type": "object", "properties": {
        "n": {"type": "integer"},
        "s": {"type": "string", "maxLength": 64},
        "l": {"type": "array", "maxItems": 16, "items": {"type": "string"}},
        "m": {"type": "object", "additionalProperties": {"type": "integer"}},
        "o": {"type": "object", "properties": {"x": {"type": "boolean"}}},
    }});
    let Some(decl) = Decl::from_schema(&schema, "selfType", false) else { return };
    let Ok(program) = compile(text, &Env::new().with("self", decl.clone())) else { return };
    let object = json!({"n": 7, "s": "abc", "l": ["a", "b", "c"], "m": {"k": 1, "j": 2}, "o": {"x": true}});
    let Ok(value) = mizzen_cel::Value::from_json(&object, Some(&decl)) else { return };
    let mut activation = Activation::new(vec![Slot::Value(value)]);
    let mut budget = Budget::new(RUNTIME_BUDGET / 100);
    let _ = program.eval(&mut activation, &mut budget);
}

fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(quantity) = text.parse::<Quantity>() {
        let shown = quantity.to_string();
        let again = shown.parse::<Quantity>();
        assert!(again.is_ok(), "{text} is shown as {shown}, which is none");
    }
}
