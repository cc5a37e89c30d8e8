//! Putting a partial object over another, as an apply does, but without owners: what mutating admission policies ask for.

use serde_json::Value;

use super::walk::{self, Shape, list_step, member, shape};
use super::{Node, merge};

/// Puts `config` over `live`.
///
/// # Errors
/// The places of parts that could only be replaced as a whole: what was meant to be added would take the rest away.
pub fn overlay(live: &mut Value, config: Value, ty: Node<'_>) -> Result<(), Vec<String>> {
    let root = walk::shape(ty, false);
    let mut wholes = Vec::new();
    find(&config, root, &mut String::new(), &mut wholes);
    if !wholes.is_empty() {
        return Err(wholes);
    }
    merge::merge(live, config, root);
    Ok(())
}

fn find(value: &Value, shape_of: Shape<'_>, at: &mut String, wholes: &mut Vec<String>) {
    let before = at.len();
    match (value, shape_of) {
        (Value::Array(_) | Value::Object(_), Shape::Whole) => wholes.push(at.clone()),
        (Value::Object(fields), _) => {
            for (name, field) in fields {
                at.push('.');
                at.push_str(name);
                find(field, member(shape_of, name).shape(), at, wholes);
                at.truncate(before);
            }
        }
        (Value::Array(items), Shape::Items(keys, node)) => {
            for (index, item) in items.iter().enumerate() {
                let step = list_step(item, index, keys, node);
                at.push_str(&format!("[{}]", step.trim_start_matches("k:")));
                find(item, shape(node, false), at, wholes);
                at.truncate(before);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Node;
    use super::overlay;
    use crate::kinds::kinds;
    use crate::schema::{self, Type};

    #[test]
    fn parts_are_added_and_wholes_are_refused() {
        let pod = kinds().by_resource("", "v1", "pods").unwrap();
        let ty = || Node::Type(Type::Object(schema::of(pod).unwrap()));
        let mut live =
            json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let config = json!({"metadata": {"labels": {"b": "2"}},
            "spec": {"initContainers": [{"name": "d"}], "containers": [{"name": "c", "env": [{"name": "X", "value": "y"}]}]}});
        overlay(&mut live, config, ty()).unwrap();
        assert_eq!(
            live,
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {
                "containers": [{"name": "c", "image": "i", "env": [{"name": "X", "value": "y"}]}],
                "initContainers": [{"name": "d"}]}})
        );
        let refused = overlay(&mut live, json!({"spec": {"containers": [{"name": "c", "command": ["x"]}]}}), ty());
        assert_eq!(refused, Err(vec![".spec.containers[{\"name\":\"c\"}].command".to_string()]));
    }
}
