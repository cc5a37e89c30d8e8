//! NamespaceLifecycle: nothing is created where its namespace is not, or is going away.

use k8s_openapi::api::core::v1::Namespace;
use mizzen_api::key;
use mizzen_api::status::{ApiError, Subject};
use serde_json::Value;

use super::plugin::Plugin;
use super::{Admitted, Operation, Request};

pub const PLUGIN: Plugin = Plugin { resources: &[], mutate: Some(admit), validate: None };

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

fn admit(request: &Request<'_>, object: &mut Value, _: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    if request.is("", "namespaces") {
        let whole = request.operation == Operation::Delete && request.subresource.is_empty();
        if whole && IMMORTAL.contains(&request.name) {
            return Err(request.forbidden(object, "this namespace may not be deleted"));
        }
        return Ok(());
    }
    let review = request.is("authorization.k8s.io", "localsubjectaccessreviews");
    if request.namespace.is_empty() || request.operation == Operation::Delete || review {
        return Ok(());
    }
    let namespace = request.namespace;
    let Some(found) = request.snapshot.get_as::<Namespace>(&key::of::<Namespace>("", namespace)) else {
        return Err(ApiError::not_found(Subject { group: "", resource: "namespaces" }, namespace));
    };
    let phase = found.status.as_ref().and_then(|status| status.phase.as_deref());
    let terminating = phase == Some("Terminating") || found.metadata.deletion_timestamp.is_some();
    if request.operation == Operation::Create && terminating {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let cause = format!("namespace {namespace} is being terminated");
        let error = request.forbidden(object, &why);
        return Err(error.with_cause("NamespaceTerminating", &cause, "metadata.namespace"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Case, object};

    #[test]
    fn content_needs_a_living_namespace() {
        let world = || {
            vec![
                object("v1", "Namespace", "here", json!({"status": {"phase": "Active"}})),
                object("v1", "Namespace", "going", json!({"status": {"phase": "Terminating"}})),
            ]
        };
        let going = "configmaps \"x\" is forbidden: unable to create new content in namespace going because it is being terminated";
        for (operation, resource, at, refused) in [
            ("create", "configmaps", "here/x", None),
            ("create", "configmaps", "going/x", Some(going)),
            ("update", "configmaps", "going/x", None),
            ("delete", "configmaps", "going/x", None),
            ("create", "configmaps", "nowhere/x", Some("namespaces \"nowhere\" not found")),
            ("delete", "configmaps", "nowhere/x", None),
            ("create", "nodes", "x", None),
            ("delete", "namespaces", "here", None),
            (
                "delete",
                "namespaces",
                "default",
                Some("namespaces \"default\" is forbidden: this namespace may not be deleted"),
            ),
        ] {
            Case::new(world()).of(operation, resource, at).refused(json!({}), refused);
        }
    }
}
