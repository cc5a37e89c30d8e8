//! StorageObjectInUseProtection: claims and volumes are not removed while something uses them.

use mizzen_api::status::ApiError;
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::pods::{items, push};
use super::{Admitted, Operation, Request};

pub const PLUGIN: Plugin = Plugin {
    resources: &[("", "persistentvolumeclaims"), ("", "persistentvolumes")],
    mutate: Some(admit),
    validate: None,
};

fn admit(request: &Request<'_>, object: &mut Value, _: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    if request.operation != Operation::Create || !request.subresource.is_empty() || !object.is_object() {
        return Ok(());
    }
    let finalizer = match request.kind.plural.as_ref() {
        "persistentvolumes" => "kubernetes.io/pv-protection",
        _ => "kubernetes.io/pvc-protection",
    };
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let metadata = &mut object["metadata"];
    if !items(metadata, "finalizers").iter().any(|present| present == finalizer) {
        push(metadata, "finalizers", finalizer.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Case, object};

    #[test]
    fn finalizers_are_added_once() {
        let world = || vec![object("v1", "Namespace", "ns", json!({}))];
        for (operation, resource, before, after) in [
            ("create", "persistentvolumes", json!([]), json!(["kubernetes.io/pv-protection"])),
            ("create", "persistentvolumeclaims", json!(["a"]), json!(["a", "kubernetes.io/pvc-protection"])),
            (
                "create",
                "persistentvolumes",
                json!(["kubernetes.io/pv-protection"]),
                json!(["kubernetes.io/pv-protection"]),
            ),
            ("update", "persistentvolumes", json!([]), json!([])),
        ] {
            let object = json!({"metadata": {"finalizers": before}, "spec": {}});
            let admitted = Case::new(world()).of(operation, resource, "ns/x").admitted(object);
            assert_eq!(admitted["metadata"]["finalizers"], after, "{operation} {resource}");
        }
    }
}
