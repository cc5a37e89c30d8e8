//! Whatever JSON comes in, nothing panics, and what must hold of well-formed objects holds of what came out.

use mizzen_api::apply::{self, Writable, Writer};
use mizzen_api::schema::{self, Object, Type};
use mizzen_api::{patch, protobuf};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Names that mean something to the code under test, so that the walk gets deep into a Pod.
const NAMES: &[&str] = &[
    "metadata",
    "spec",
    "status",
    "name",
    "labels",
    "annotations",
    "finalizers",
    "managedFields",
    "ownerReferences",
    "uid",
    "containers",
    "ports",
    "containerPort",
    "protocol",
    "env",
    "value",
    "resources",
    "limits",
    "cpu",
    "volumes",
    "emptyDir",
    "nodeSelector",
    "tolerations",
    "conditions",
    "type",
    "podIPs",
    "ip",
    "creationTimestamp",
    "livenessProbe",
    "httpGet",
    "port",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "foo",
];
const TEXTS: &[&str] = &["", "a", "b", "80", "1Gi", "TCP", "replace", "delete", "2026-01-02T03:04:05Z", "x/y"];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..100).prop_map(Value::from),
        proptest::sample::select(TEXTS).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((proptest::sample::select(NAMES), inner), 0..6).prop_map(|entries| entries
                .into_iter()
                .map(|(k, v)| (k.to_string(), v))
                .collect::<Map<_, _>>()
                .into()),
        ]
    })
}

/// A Pod of the right shape with arbitrary parts, more often well-formed than [`value`].
fn pod() -> impl Strategy<Value = Value> {
    let text = || proptest::sample::select(&["a", "b", "c"][..]);
    let container = (text(), proptest::collection::vec((1u16..4, any::<bool>()), 0..3), proptest::option::of(text()))
        .prop_map(|(name, ports, image)| {
            let ports: Vec<Value> = ports
                .into_iter()
                .map(|(port, udp)| {
                    if udp { json!({"containerPort": port, "protocol": "UDP"}) } else { json!({"containerPort": port}) }
                })
                .collect();
            json!({"name": name, "ports": ports, "image": image})
        });
    let labels = proptest::collection::btree_map("[a-c]", "[a-c]?", 0..3);
    (labels, proptest::collection::vec(container, 0..4), value()).prop_map(|(labels, containers, extra)| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": labels, "finalizers": ["x"]},
            "spec": {"containers": containers, "nodeSelector": extra}})
    })
}

fn pod_type() -> &'static Object {
    schema::by_gvk("", "v1", "Pod").expect("Pod")
}

fn writer(manager: &str) -> Writer<'_> {
    Writer {
        manager,
        api_version: "v1",
        subresource: "",
        time: "2026-01-02T00:00:00Z",
        writable: Writable::AllButStatus,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn admitted_objects_stay_as_they_are(object in prop_oneof![value(), pod()]) {
        let mut first = object;
        if schema::admit(&mut first, pod_type()).is_ok() {
            let mut second = first.clone();
            prop_assert_eq!(schema::admit(&mut second, pod_type()), Ok(Vec::new()));
            prop_assert_eq!(&second, &first);
            schema::missing(&first, pod_type());
        }
    }

    #[test]
    fn protobuf_says_the_same(object in pod()) {
        let mut object = object;
        // Protobuf does not know an empty list from none.
        prop_assume!(object["spec"]["containers"] != json!([]));
        if schema::admit(&mut object, pod_type()).is_ok() {
            let decoded = protobuf::decode(&protobuf::encode(&object).expect("Pod"), ("", ""));
            prop_assert_eq!(decoded, Ok(object));
        }
    }

    #[test]
    fn patches_are_answered(target in prop_oneof![value(), pod()], change in value()) {
        let mut target = target;
        let _ = patch::strategic(&mut target.clone(), &change, pod_type());
        if let Ok(operations) = patch::JsonPatch::parse(change.to_string().as_bytes()) {
            let _ = operations.apply(&mut target.clone());
        }
        patch::merge(&mut target, &change);
    }

    #[test]
    fn applies_settle(live in pod(), config in pod(), other in value()) {
        let ty = apply::Node::Type(Type::Object(pod_type()));
        let mut live = live;
        apply::own(None, &mut live, ty, &writer("other"));
        let mut odd = other;
        apply::own(Some(&live), &mut odd, ty, &writer("odd"));
        let _ = apply::apply(Some(&odd), config.clone(), ty, &writer("odd"), true);
        if let Ok(first) = apply::apply(Some(&live), config.clone(), ty, &writer("me"), true) {
            let again = apply::apply(Some(&first.object), config, ty, &writer("me"), false).expect("no conflict with oneself");
            prop_assert!(!again.changed);
            prop_assert_eq!(again.object, first.object);
        }
    }
}

/// As deep as decoding lets anything be, on a thread with the stack that a server's threads have.
#[test]
fn the_deepest_objects_fit_the_stack() {
    let mut schema = String::from("{}");
    for _ in 0..112 {
        schema = format!("{{\"not\":{schema}}}");
    }
    let body = format!(
        "{{\"metadata\":{{\"name\":\"a\"}},\"spec\":{{\"versions\":[{{\"name\":\"v1\",\"schema\":{{\"openAPIV3Schema\":{schema}}}}}]}}}}"
    );
    let expected = mizzen_api::decode::Expected::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let read =
        mizzen_api::decode::object(body.as_bytes(), mizzen_api::decode::Format::Json, &expected, Default::default());
    let mut object = read.expect("not too deep").value;
    let kind = expected.ty.expect("type");
    let ty = apply::Node::Type(Type::Object(kind));
    apply::own(None, &mut object, ty, &writer("a"));
    let bare =
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a"}});
    apply::apply(Some(&object), bare, ty, &writer("b"), true).expect("applied");
    patch::strategic(&mut object.clone(), &object, kind).expect("patched");
    patch::merge(&mut object.clone(), &object);
    let decoded = protobuf::decode(&protobuf::encode(&object).expect("encoded"), ("", "")).expect("decoded");
    assert_eq!(decoded.to_string().len(), object.to_string().len());
}
