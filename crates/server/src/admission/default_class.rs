//! DefaultStorageClass and DefaultIngressClass: an object that names no class gets the default one.
//!
//! A class is the default by an annotation; of several the newest wins, of equally old ones the first by name.

use k8s_openapi::Metadata;
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mizzen_api::key;
use mizzen_api::status::ApiError;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::plugin::Plugin;
use super::pods::set;
use super::{Admitted, Operation, Request};

pub const STORAGE: Plugin =
    Plugin { resources: &[("", "persistentvolumeclaims")], mutate: Some(claim), validate: None };
pub const INGRESS: Plugin =
    Plugin { resources: &[("networking.k8s.io", "ingresses")], mutate: Some(ingress), validate: None };

fn claim(request: &Request<'_>, claim: &mut Value, _: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    // An empty name means "no class" and stays; so does the annotation that came before the field.
    let annotated = claim["metadata"]["annotations"].get("volume.beta.kubernetes.io/storage-class").is_some();
    if !annotated && lacks(request, claim, "storageClassName") {
        let annotations =
            ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
        if let Some(name) = default::<StorageClass>(request, &annotations) {
            set(&mut claim["spec"], "storageClassName", name);
        }
    }
    Ok(())
}

fn ingress(request: &Request<'_>, ingress: &mut Value, _: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    let annotated = ingress["metadata"]["annotations"].get("kubernetes.io/ingress.class").is_some();
    if !annotated
        && lacks(request, ingress, "ingressClassName")
        && let Some(name) = default::<IngressClass>(request, &["ingressclass.kubernetes.io/is-default-class"])
    {
        set(&mut ingress["spec"], "ingressClassName", name);
    }
    Ok(())
}

/// A new object whose spec does not say.
fn lacks(request: &Request<'_>, object: &Value, field: &str) -> bool {
    let new = request.operation == Operation::Create && request.subresource.is_empty();
    new && object["spec"].is_object() && object["spec"].get(field).is_none_or(Value::is_null)
}

fn default<K>(request: &Request<'_>, annotations: &[&str]) -> Option<String>
where
    K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
{
    let prefix = key::all::<K>();
    let marked = request.snapshot.list_as::<K>(&prefix).filter(|class| {
        let marks = class.metadata().annotations.as_ref();
        annotations.iter().any(|mark| marks.and_then(|marks| marks.get(*mark)).is_some_and(|mark| mark == "true"))
    });
    // The order of keys is that of names, and `min_by` keeps the first of equals.
    let created = |class: &K| class.metadata().creation_timestamp.as_ref().map(|time| time.0);
    let newest = marked.min_by(|a, b| created(b).cmp(&created(a)))?;
    newest.metadata().name.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{Case, object};

    #[test]
    fn the_newest_default_is_taken() {
        let class = |version, kind, prefix: &str, name, created, default: bool| {
            let mark = format!("{prefix}.kubernetes.io/is-default-class");
            let metadata = json!({"creationTimestamp": created, "annotations": {mark: default.to_string()}});
            object(version, kind, name, json!({"metadata": metadata, "provisioner": "p"}))
        };
        let world = || {
            let mut world = vec![object("v1", "Namespace", "ns", json!({}))];
            for (version, kind, prefix) in [
                ("storage.k8s.io/v1", "StorageClass", "storageclass"),
                ("networking.k8s.io/v1", "IngressClass", "ingressclass"),
            ] {
                world.extend([
                    class(version, kind, prefix, "a-newest", "2026-03-01T00:00:00Z", false),
                    class(version, kind, prefix, "b-old", "2026-01-01T00:00:00Z", true),
                    class(version, kind, prefix, "c-new", "2026-02-01T00:00:00Z", true),
                    class(version, kind, prefix, "d-new", "2026-02-01T00:00:00Z", true),
                ]);
            }
            world
        };
        for (resource, field, given, class) in [
            ("persistentvolumeclaims", "storageClassName", Value::Null, json!("c-new")),
            ("persistentvolumeclaims", "storageClassName", json!(""), json!("")),
            ("persistentvolumeclaims", "storageClassName", json!("mine"), json!("mine")),
            ("ingresses.networking.k8s.io", "ingressClassName", Value::Null, json!("c-new")),
            ("ingresses.networking.k8s.io", "ingressClassName", json!("mine"), json!("mine")),
        ] {
            let admitted = Case::new(world()).of("create", resource, "ns/x").admitted(json!({"spec": {field: given}}));
            assert_eq!(admitted["spec"][field], class, "{resource} {given}");
        }
    }
}
