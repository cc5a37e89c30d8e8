//! Parts of a pod's JSON that several plugins look at.

use serde_json::Value;

/// The annotation of pods that mirror one which a node runs from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The pod mirrors a static pod.
pub fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(MIRROR).is_some()
}

/// The items of a list; none if there is no list.
pub fn items<'a>(object: &'a Value, list: &str) -> &'a [Value] {
    object.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The items of a list, to be changed; an absent list is left absent.
pub fn items_mut<'a>(object: &'a mut Value, list: &str) -> &'a mut [Value] {
    object.get_mut(list).and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default()
}

/// A string field; empty if it is absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Adds an item to a list, which is made if need be. What is no object stays as it is: validation will refuse it.
pub fn push(object: &mut Value, list: &str, item: Value) {
    let Some(fields) = object.as_object_mut() else { return };
    match fields.get_mut(list) {
        Some(Value::Array(items)) => items.push(item),
        _ => {
            fields.insert(list.into(), vec![item].into());
        }
    }
}

/// Sets a field of an object. What is no object stays as it is.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.into(), value.into());
    }
}
