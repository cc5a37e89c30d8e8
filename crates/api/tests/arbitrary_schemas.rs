//! Whatever schema a definition brings and whatever object is held to it: an answer, in bounded time, and the same answer
//! to what was answered.

use mizzen_api::crd::{Definition, check_schema};
use mizzen_api::rules::check::{At, Errors};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5i64..5).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c(\\[{*+?\\\\]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-c]", inner), 0..4).prop_map(|f| Value::Object(f.into_iter().collect())),
        ]
    })
}

/// Keywords with values of the right kind, mostly.
fn keyword(schema: impl Strategy<Value = Value> + Clone + 'static) -> impl Strategy<Value = (String, Value)> {
    let pair = |name: &'static str, value: BoxedStrategy<Value>| value.prop_map(move |v| (name.to_string(), v)).boxed();
    let types = prop::sample::select(vec!["object", "array", "string", "integer", "number", "boolean", "null", "x"]);
    let number = (-3i64..6).prop_map(Value::from).boxed();
    let flag = any::<bool>().prop_map(Value::from).boxed();
    let many = prop::collection::vec(schema.clone(), 0..3).prop_map(Value::from).boxed();
    let fields = prop::collection::vec(("[a-c]", schema.clone()), 0..3)
        .prop_map(|f| Value::Object(f.into_iter().collect::<Map<_, _>>()))
        .boxed();
    let names = prop::collection::vec("[a-d]", 0..3).prop_map(Value::from).boxed();
    let lists = prop::sample::select(vec!["atomic", "set", "map", "y"]).prop_map(Value::from).boxed();
    prop_oneof![
        4 => pair("type", types.prop_map(Value::from).boxed()),
        3 => pair("properties", fields),
        2 => pair("items", schema.clone().boxed()),
        1 => pair("additionalProperties", schema.clone().boxed()),
        1 => pair("additionalProperties", flag.clone()),
        1 => pair("default", any_json().boxed()),
        1 => pair("enum", prop::collection::vec(any_json(), 0..3).prop_map(Value::from).boxed()),
        1 => pair("required", names.clone()),
        1 => pair("pattern", "[a-c(\\[{*+?\\\\]{0,8}".prop_map(Value::from).boxed()),
        1 => pair("format", prop::sample::select(vec!["ipv4", "date-time", "duration", "z"]).prop_map(Value::from).boxed()),
        1 => pair("maxLength", number.clone()),
        1 => pair("minItems", number.clone()),
        1 => pair("maximum", number.clone()),
        1 => pair("multipleOf", number),
        1 => pair("anyOf", many.clone()),
        1 => pair("oneOf", many.clone()),
        1 => pair("allOf", many),
        1 => pair("not", schema.boxed()),
        1 => pair("nullable", flag.clone()),
        1 => pair("x-kubernetes-preserve-unknown-fields", flag.clone()),
        1 => pair("x-kubernetes-embedded-resource", flag.clone()),
        1 => pair("x-kubernetes-int-or-string", flag),
        1 => pair("x-kubernetes-list-type", lists),
        1 => pair("x-kubernetes-list-map-keys", names),
        1 => any_json().prop_map(|v| ("x-kubernetes-map-type".to_string(), v)),
    ]
}

fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec!["object", "string", "integer", "array"]).prop_map(|t| json!({"type": t}));
    leaf.prop_recursive(5, 60, 5, |inner| {
        prop::collection::vec(keyword(inner), 0..6).prop_map(|k| Value::Object(k.into_iter().collect()))
    })
}

fn definition(schema: &Value) -> Definition {
    let object = json!({
        "metadata": {"name": "as.g.example"},
        "spec": {"group": "g.example", "scope": "Cluster", "names": {"plural": "as", "kind": "A", "listKind": "AList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
        "status": {"conditions": [{"type": "Established", "status": "True"}]},
    });
    Definition::read(&object, |_| None)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn schemas_and_objects_are_answered(schema in any_schema(), object in any_json(), old in any_json()) {
        let mut errors = Errors::default();
        check_schema(&schema, true, &At::ROOT, &mut errors);
        prop_assert!(errors.0.len() < 300);
        let definition = definition(&schema);
        let kind = definition.serves("v1").expect("served");
        let custom = kind.custom.as_ref().expect("custom");
        let mut object = object;
        if custom.admit(&mut object).is_ok() {
            kind.default(&mut object);
            let mut again = object.clone();
            custom.refresh(&mut again);
            // What was pruned and filled once stays as it is, if its defaults fit their schema, which admission sees to.
            if errors.0.is_empty() {
                prop_assert_eq!(&again, &object);
            }
            prop_assert!(kind.validate(&object).len() < 1000);
            prop_assert!(kind.validate_update(&object, &old).len() < 1000);
            kind.row(&object, 0);
        }
    }
}

#[test]
fn hostile_schemas_are_answered() {
    let mut deep = json!({"type": "string"});
    for _ in 0..50 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    let wide: Map<String, Value> = (0..2_100)
        .map(|n| (format!("f{n}"), json!({"type": "string", "pattern": format!("^[a-z]{{{}}}", n % 200)})))
        .collect();
    let mut doubled = json!({"minimum": 1});
    for _ in 0..14 {
        doubled = json!({"anyOf": [doubled, doubled]});
    }
    for schema in [
        deep,
        json!({"type": "object", "properties": wide}),
        json!({"type": "object", "properties": {"a": {"type": "integer", "anyOf": [doubled]}}}),
        json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "((a{1000}){1000}){1000}"}}}),
    ] {
        let mut errors = Errors::default();
        check_schema(&schema, false, &At::ROOT, &mut errors);
        let definition = definition(&schema);
        let kind = definition.serves("v1").expect("served");
        kind.validate(&json!({"a": {"a": 1}, "f1": "x"}));
        assert!(errors.0.len() <= 200, "{}", errors.0.len());
    }
}
