//! What tables are made of: columns, and the cells that several kinds share.

use serde_json::Value;

use crate::duration;
use crate::kind::Column;

/// What a cell shows for an empty list or an absent reference.
pub const NONE: &str = "<none>";
/// What a cell shows for an optional value that is not set.
pub const UNSET: &str = "<unset>";

impl Column {
    /// The first column of every table.
    pub const NAME: Column =
        Column { name: "Name", kind: "string", format: "name", description: "Name of the object.", priority: 0 };
    /// Time since creation.
    pub const AGE: Column = Column::text("Age", "Time since the object was created.");
    /// The time of creation, for kinds without columns of their own.
    pub const CREATED_AT: Column = Column {
        name: "Created At",
        kind: "date",
        format: "",
        description: "When the object was created.",
        priority: 0,
    };
    /// Container names of a pod template.
    pub const CONTAINERS: Column = Column::text("Containers", "Names of the containers in the template.").wide();
    /// Images of a pod template.
    pub const IMAGES: Column = Column::text("Images", "Images of the containers in the template.").wide();
    /// The selector that picks pods.
    pub const SELECTOR: Column = Column::text("Selector", "Labels that pods are picked by.").wide();

    /// A column of texts.
    pub const fn text(name: &'static str, description: &'static str) -> Column {
        Column { name, kind: "string", format: "", description, priority: 0 }
    }

    /// A column of whole numbers.
    pub const fn integer(name: &'static str, description: &'static str) -> Column {
        Column { name, kind: "integer", format: "", description, priority: 0 }
    }

    /// A column of truth values.
    pub const fn boolean(name: &'static str, description: &'static str) -> Column {
        Column { name, kind: "boolean", format: "", description, priority: 0 }
    }

    /// The same column, shown only with `-o wide`.
    #[must_use]
    pub const fn wide(self) -> Column {
        Column { priority: 1, ..self }
    }
}

/// The row of kinds that show nothing of their own.
pub fn name_and_age(object: &Value, now: i64) -> Vec<Value> {
    vec![name(object), age(object, now)]
}

/// The row of kinds that show their time of creation.
pub fn name_and_created(object: &Value, _now: i64) -> Vec<Value> {
    vec![name(object), object["metadata"]["creationTimestamp"].clone()]
}

/// `metadata.name`.
pub fn name(object: &Value) -> Value {
    text(&object["metadata"]["name"]).into()
}

/// `metadata.name`, marked if an annotation makes the object the default of its kind.
pub fn name_or_default(object: &Value, annotation: &str) -> Value {
    let name = text(&object["metadata"]["name"]);
    let is_default = object["metadata"]["annotations"][annotation] == "true";
    if is_default { format!("{name} (default)").into() } else { name.into() }
}

/// Time since `metadata.creationTimestamp`.
pub fn age(object: &Value, now: i64) -> Value {
    duration::since(&object["metadata"]["creationTimestamp"], now).into()
}

/// Whether deletion has begun.
pub fn is_terminating(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// The string in `value`, empty if it is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The string in `value`, or `other` if it is empty or none.
pub fn text_or<'a>(value: &'a Value, other: &'a str) -> &'a str {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or(other)
}

/// A string, number or truth value as text, `other` for anything else.
pub fn scalar_or(value: &Value, other: &str) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => other.into(),
    }
}

/// The number in `value`, zero if it is none.
pub fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// The truth in `value`, false if it is none.
pub fn flag(value: &Value) -> bool {
    value.as_bool().unwrap_or_default()
}

/// The items of a list, none if it is no list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The number of entries in a list or map.
pub fn len(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    }
}

/// Names and images of a pod spec's containers.
pub fn containers(pod_spec: &Value) -> [Value; 2] {
    ["name", "image"].map(|field| {
        let texts: Vec<&str> = list(&pod_spec["containers"]).iter().map(|container| text(&container[field])).collect();
        texts.join(",").into()
    })
}

/// A map of labels as `a=1,b=2`, ordered by key.
pub fn labels(map: &Value) -> String {
    let mut pairs: Vec<String> =
        map.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value))).collect();
    pairs.sort();
    if pairs.is_empty() { NONE.into() } else { pairs.join(",") }
}

/// A label selector as clients write it on the command line, ordered by key.
pub fn selector(selector: &Value) -> String {
    let pairs = selector["matchLabels"].as_object().into_iter().flatten();
    let mut terms: Vec<(String, String)> =
        pairs.map(|(key, value)| (key.clone(), format!("{key}={}", text(value)))).collect();
    for expression in list(&selector["matchExpressions"]) {
        let key = text(&expression["key"]);
        let mut values: Vec<&str> = list(&expression["values"]).iter().map(text).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match text(&expression["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_string(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".into(),
        };
        terms.push((key.into(), term));
    }
    terms.sort_by(|a, b| a.0.cmp(&b.0));
    if terms.is_empty() { NONE.into() } else { terms.into_iter().map(|(_, t)| t).collect::<Vec<_>>().join(",") }
}

/// The first `shown` texts, and how many more there are; `empty` if there are none.
pub fn shortened(texts: &[String], shown: usize, separator: &str, empty: &str) -> String {
    if texts.is_empty() {
        return empty.into();
    }
    let first = texts[..texts.len().min(shown)].join(separator);
    match texts.len().saturating_sub(shown) {
        0 => first,
        more => format!("{first} + {more} more..."),
    }
}

/// The addresses of a load balancer: IPs, or host names where it has no IP. Sorted, each once.
pub fn balancer_addresses(status: &Value) -> Vec<&str> {
    let ingresses = list(&status["loadBalancer"]["ingress"]).iter();
    let each = ingresses.map(|ingress| text_or(&ingress["ip"], text(&ingress["hostname"])));
    let mut addresses: Vec<&str> = each.filter(|address| !address.is_empty()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The status of the condition of this type, if there is one.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&object["status"]["conditions"]).iter().find(|condition| condition["type"] == kind)
}

/// Whether the condition of this type is True.
pub fn has_condition(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn selectors_read_as_on_the_command_line() {
        for (selector, text) in [
            (json!(null), "<none>"),
            (json!({}), "<none>"),
            (json!({"matchLabels": {"b": "2", "a": "1"}}), "a=1,b=2"),
            (
                json!({"matchLabels": {"m": "1"}, "matchExpressions": [{"key": "z", "operator": "Exists"},
                    {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "n", "operator": "DoesNotExist"}]}),
                "a in (x,y),m=1,!n,z",
            ),
        ] {
            assert_eq!(super::selector(&selector), text);
        }
    }

    #[test]
    fn long_lists_are_shortened() {
        let texts = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        for (n, text) in [(0, "<none>"), (2, "0,1"), (3, "0,1,2"), (5, "0,1,2 + 2 more...")] {
            assert_eq!(super::shortened(&texts(n), 3, ",", "<none>"), text);
        }
    }
}
