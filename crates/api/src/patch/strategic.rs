//! Strategic merge patch: a merge that knows which lists merge by key, with directives for the rest.
//!
//! * `$patch: replace|delete|merge` in a map, or as an item of a list (api-facts §4.2);
//! * `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>`, `$retainKeys`.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{PatchError, remove_member};
use crate::schema::{self, Object, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

type Fields = Map<String, Value>;

/// Applies `patch` to `target`, an object of type `ty`.
///
/// # Errors
/// [`PatchError::Directive`] when the patch is none; what was done to `target` is then to be thrown away.
pub fn strategic(target: &mut Value, patch: &Value, ty: &'static Object) -> Result<(), PatchError> {
    let (Value::Object(fields), Value::Object(patch)) = (target, patch) else {
        return Err(PatchError::Malformed { message: "a strategic merge patch is an object".into() });
    };
    merge_map(fields, patch.clone(), Some(Type::Object(ty)))
}

fn directive(message: impl Into<String>) -> PatchError {
    PatchError::Directive { message: message.into() }
}

/// What the schema says of a field: its type, and how it is patched.
fn field_of(ty: Option<Type>, name: &str) -> (Option<Type>, schema::Patch) {
    match ty {
        Some(Type::Object(object)) => {
            object.field(name).map_or((None, schema::Patch::default()), |f| (Some(f.ty), f.patch))
        }
        Some(Type::Map(map)) => (Some(map.value), schema::Patch::default()),
        _ => (None, schema::Patch::default()),
    }
}

fn item_type(ty: Option<Type>) -> Option<Type> {
    if let Some(Type::List(list)) = ty { Some(list.item) } else { None }
}

fn merge_map(target: &mut Fields, mut patch: Fields, ty: Option<Type>) -> Result<(), PatchError> {
    match patch.shift_remove(DIRECTIVE) {
        None => {}
        Some(Value::String(word)) => match word.as_str() {
            "replace" => {
                *target = without_directives(patch);
                return Ok(());
            }
            "delete" => {
                target.clear();
                return Ok(());
            }
            "merge" => {}
            other => return Err(directive(format!("Unknown patch type [{other}] in map"))),
        },
        Some(other) => return Err(directive(format!("Unknown patch type [{other}] in map"))),
    }
    retain_keys(target, &mut patch)?;
    let orders: Vec<String> = patch.keys().filter_map(|k| k.strip_prefix(ORDER)).map(String::from).collect();
    for name in orders {
        let Some(order) = patch.shift_remove(&format!("{ORDER}{name}")) else {
            continue;
        };
        merge_in_order(target, &mut patch, &name, order, ty)?;
    }
    for (name, change) in patch {
        if let Some(list) = name.strip_prefix(DELETE_FROM) {
            delete_from(target, list, &change)?;
            continue;
        }
        merge_field(target, name, change, ty)?;
    }
    Ok(())
}

fn merge_field(target: &mut Fields, name: String, change: Value, ty: Option<Type>) -> Result<(), PatchError> {
    let (field_ty, how) = field_of(ty, &name);
    match change {
        Value::Null => {
            remove_member(target, &name);
        }
        Value::Object(change) => {
            let there = target.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if !there.is_object() || how.replace {
                *there = Value::Object(Map::new());
            }
            if let Value::Object(there) = there {
                merge_map(there, change, field_ty)?;
            }
        }
        Value::Array(change) if how.merge => {
            let before = take_list(target, &name);
            let merged = merge_list(before, change, item_type(field_ty), how.merge_key)?;
            target.insert(name, Value::Array(merged));
        }
        change => {
            target.insert(name, change);
        }
    }
    Ok(())
}

/// The list in a field, leaving an empty one behind so that the field keeps its place.
fn take_list(target: &mut Fields, name: &str) -> Vec<Value> {
    match target.get_mut(name) {
        Some(Value::Array(items)) => std::mem::take(items),
        _ => Vec::new(),
    }
}

/// `$retainKeys` keeps only the members it names, all of those that the patch sets among them.
fn retain_keys(target: &mut Fields, patch: &mut Fields) -> Result<(), PatchError> {
    let Some(keys) = patch.shift_remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(keys) = keys else {
        return Err(directive("invalid patch format of retainKeys"));
    };
    let keys: HashSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let names = |name: &str| keys.contains(name);
    let plain = |name: &str| !name.starts_with('$');
    if patch.iter().any(|(name, value)| plain(name) && !value.is_null() && !names(name)) {
        return Err(directive("invalid patch format of retainKeys: a field is set that is not to be kept"));
    }
    target.retain(|name, _| names(name));
    Ok(())
}

fn delete_from(target: &mut Fields, name: &str, gone: &Value) -> Result<(), PatchError> {
    let Value::Array(gone) = gone else {
        return Err(directive("invalid patch format of primitive list"));
    };
    if let Some(Value::Array(items)) = target.get_mut(name) {
        let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
        items.retain(|item| !gone.contains(&item.to_string()));
    }
    Ok(())
}

/// Merges the list `name` and puts it in the order that `$setElementOrder` asks for.
fn merge_in_order(
    target: &mut Fields,
    patch: &mut Fields,
    name: &str,
    order: Value,
    ty: Option<Type>,
) -> Result<(), PatchError> {
    let Value::Array(order) = order else {
        return Err(directive("invalid patch format of setElementOrder list"));
    };
    let (field_ty, how) = field_of(ty, name);
    if let Some(gone) = patch.shift_remove(&format!("{DELETE_FROM}{name}")) {
        delete_from(target, name, &gone)?;
    }
    let change = match patch.shift_remove(name) {
        None => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(Value::Null) => {
            remove_member(target, name);
            return Ok(());
        }
        Some(_) => {
            return Err(directive("invalid patch format of setElementOrder list: the field is no list"));
        }
    };
    let places = places(&order, how.merge_key);
    let in_order = |item: &Value| identity(item, how.merge_key).is_some_and(|id| places.contains_key(&id));
    if change.iter().any(|item| item.get(DIRECTIVE).is_none() && !in_order(item)) {
        return Err(directive(format!("The order in patch list doesn't match {ORDER} list of {name}")));
    }
    if change.is_empty() && !target.contains_key(name) {
        return Ok(());
    }
    let before = take_list(target, name);
    let merged = merge_items(before.clone(), change, item_type(field_ty), how.merge_key)?;
    target.insert(name.into(), Value::Array(arrange(merged, &order, &before, how.merge_key)));
    Ok(())
}

/// Merges the items of a list, those of the patch in the patch's order.
fn merge_list(
    before: Vec<Value>,
    change: Vec<Value>,
    item: Option<Type>,
    key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    let order: Vec<Value> = change.iter().filter(|i| i.get(DIRECTIVE).is_none()).cloned().collect();
    if change.iter().any(is_replace) {
        return merge_items(before, change, item, key);
    }
    let merged = merge_items(before.clone(), change, item, key)?;
    Ok(arrange(merged, &order, &before, key))
}

fn is_replace(item: &Value) -> bool {
    item.get(DIRECTIVE).and_then(Value::as_str) == Some("replace")
}

fn merge_items(
    before: Vec<Value>,
    change: Vec<Value>,
    item: Option<Type>,
    key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    let mut merged = before;
    if change.iter().chain(&merged).all(|i| !i.is_object() && !i.is_array()) {
        let mut seen: HashSet<String> = merged.iter().map(Value::to_string).collect();
        merged.extend(change.into_iter().filter(|value| seen.insert(value.to_string())));
        return Ok(merged);
    }
    let Some(key) = key else { return Err(directive("cannot merge lists without merge key")) };
    if change.iter().any(is_replace) {
        merged.clear();
    }
    let mut places = places(&merged, Some(key));
    let mut gone = HashSet::new();
    for changed in change {
        let Value::Object(mut changed) = changed else {
            return Err(directive("the items of a merged list must be of one type"));
        };
        let word = changed.shift_remove(DIRECTIVE);
        match word.as_ref().map(|w| w.as_str().unwrap_or_default()) {
            Some("replace") if changed.is_empty() => continue,
            Some("delete") => {
                gone.insert(key_of(&changed, key)?);
                continue;
            }
            None | Some("replace" | "merge") => {}
            Some(other) => return Err(directive(format!("Unknown patch type [{other}] in list"))),
        }
        let id = key_of(&changed, key)?;
        match places.get(&id).and_then(|at| merged[*at].as_object_mut()) {
            Some(there) => merge_map(there, changed, item)?,
            None => {
                let mut fresh = Map::new();
                merge_map(&mut fresh, changed, item)?;
                places.insert(id, merged.len());
                merged.push(Value::Object(fresh));
            }
        }
    }
    if !gone.is_empty() {
        merged.retain(|item| identity(item, Some(key)).is_none_or(|id| !gone.contains(&id)));
    }
    Ok(merged)
}

fn key_of(item: &Fields, key: &str) -> Result<String, PatchError> {
    let id = item.get(key).filter(|id| !id.is_null()).map(Value::to_string);
    id.ok_or_else(|| {
        directive(format!("map: {} does not contain declared merge key: {key}", Value::Object(item.clone())))
    })
}

/// What tells an item of a list from the others: its merge key, or itself.
fn identity(item: &Value, key: Option<&str>) -> Option<String> {
    key.map_or_else(|| Some(item.to_string()), |key| item.get(key).map(Value::to_string))
}

/// Where each item of a list stands; of equal ones the first.
fn places(list: &[Value], key: Option<&str>) -> HashMap<String, usize> {
    let mut places = HashMap::with_capacity(list.len());
    for (at, item) in list.iter().enumerate() {
        if let Some(id) = identity(item, key) {
            places.entry(id).or_insert(at);
        }
    }
    places
}

/// Puts the items that `order` names in its order, and the others, in the order they had before, where they stood among them.
fn arrange(merged: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let (order, before) = (places(order, key), places(before, key));
    let place =
        |places: &HashMap<String, usize>, item: &Value| identity(item, key).and_then(|id| places.get(&id).copied());
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|i| place(&order, i).is_some());
    named.sort_by_cached_key(|i| place(&order, i));
    others.sort_by_cached_key(|i| place(&before, i));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (named.peek(), others.peek()) {
            (None, None) => return out,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some(n), Some(o)) => matches!((place(&before, o), place(&before, n)), (Some(o), Some(n)) if o < n),
        };
        out.extend(if other_first { others.next() } else { named.next() });
    }
}

/// A map that replaces another, cleaned of directives.
fn without_directives(fields: Fields) -> Fields {
    fields.into_iter().filter(|(name, value)| !name.starts_with('$') && !value.is_null()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::schema::by_gvk;

    fn pod(spec: Value) -> Value {
        json!({"metadata": {"name": "a"}, "spec": spec})
    }

    fn check(kind: (&str, &str, &str), before: Value, patch: &Value, after: Option<Value>) {
        let ty = by_gvk(kind.0, kind.1, kind.2).expect("type");
        let mut value = before;
        let result = super::strategic(&mut value, patch, ty);
        assert_eq!(result.as_ref().ok().map(|()| value), after, "{patch}: {result:?}");
    }

    #[test]
    fn lists_merge_by_key() {
        let two = || json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
        for (before, patch, after) in [
            (
                two(),
                json!({"containers": [{"name": "b", "image": "2"}]}),
                Some(json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]})),
            ),
            (
                two(),
                json!({"containers": [{"name": "c", "image": "3"}]}),
                Some(
                    json!({"containers": [{"name": "c", "image": "3"}, {"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}),
                ),
            ),
            (
                two(),
                json!({"containers": [{"$patch": "delete", "name": "a"}]}),
                Some(json!({"containers": [{"name": "b", "image": "1"}]})),
            ),
            (
                two(),
                json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}),
                Some(json!({"containers": [{"name": "z"}]})),
            ),
            (
                two(),
                json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
                Some(json!({"containers": [{"name": "b", "image": "1"}, {"name": "a", "image": "1"}]})),
            ),
            (
                two(),
                json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [{"name": "c", "image": "3"}]}),
                Some(
                    json!({"containers": [{"name": "c", "image": "3"}, {"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}),
                ),
            ),
            (
                json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "1"}]}]}),
                json!({"containers": [{"name": "a", "env": [{"name": "X", "$patch": "delete"}, {"name": "Y", "value": "2"}]}]}),
                Some(json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]})),
            ),
            (
                json!({"containers": [{"name": "a", "args": ["1", "2"]}]}),
                json!({"containers": [{"name": "a", "args": ["3"]}]}),
                Some(json!({"containers": [{"name": "a", "args": ["3"]}]})),
            ),
            (two(), json!({"containers": [{"image": "2"}]}), None),
            (two(), json!({"containers": [{"$patch": "fly", "name": "a"}]}), None),
            (two(), json!({"containers": null}), Some(json!({}))),
        ] {
            check(("", "v1", "Pod"), pod(before), &json!({"spec": patch}), after.map(pod));
        }
    }

    #[test]
    fn scalars_are_sets() {
        let node = |cidrs: Value| json!({"spec": {"podCIDRs": cidrs}});
        for (patch, after) in [
            (json!({"podCIDRs": ["b"]}), json!(["b", "a"])),
            (json!({"$deleteFromPrimitiveList/podCIDRs": ["a"]}), json!([])),
            (json!({"$setElementOrder/podCIDRs": ["c", "a"], "podCIDRs": ["c"]}), json!(["c", "a"])),
        ] {
            check(("", "v1", "Node"), node(json!(["a"])), &json!({"spec": patch}), Some(node(after)));
        }
    }

    #[test]
    fn maps_merge_unless_told_otherwise() {
        let deployment = |strategy: Value| json!({"metadata": {"labels": {"a": "1"}}, "spec": {"strategy": strategy}});
        let rolling = || json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}});
        for (patch, after) in [
            (json!({"$retainKeys": ["type"], "type": "Recreate"}), Some(json!({"type": "Recreate"}))),
            (json!({"$retainKeys": ["type"], "rollingUpdate": {}}), None),
            (
                json!({"rollingUpdate": {"maxSurge": 2}}),
                Some(json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2}})),
            ),
            (json!({"$patch": "replace", "type": "Recreate"}), Some(json!({"type": "Recreate"}))),
            (json!({"$patch": "delete"}), Some(json!({}))),
            (json!({"rollingUpdate": null}), Some(json!({"type": "RollingUpdate"}))),
        ] {
            let patch = json!({"spec": {"strategy": patch}});
            check(("apps", "v1", "Deployment"), deployment(rolling()), &patch, after.map(deployment));
        }
        let labels = json!({"metadata": {"labels": {"b": "2", "a": null}}});
        check(
            ("", "v1", "Pod"),
            json!({"metadata": {"labels": {"a": "1"}}}),
            &labels,
            Some(json!({"metadata": {"labels": {"b": "2"}}})),
        );
    }

    #[test]
    fn nulls_and_directives_do_not_stay_in_what_is_new() {
        let patch = json!({"metadata": {"labels": {"a": null, "b": "1"}}, "spec": {"nodeSelector": {"$patch": "merge", "x": "y"}}});
        let after = json!({"metadata": {"labels": {"b": "1"}}, "spec": {"nodeSelector": {"x": "y"}}});
        check(("", "v1", "Pod"), json!({}), &patch, Some(after));
    }
}
