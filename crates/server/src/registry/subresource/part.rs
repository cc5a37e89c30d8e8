//! Sub-resources that take one part of the object they are sent and ignore the rest: finalize, approval,
//! ephemeralcontainers, resize.

use bytes::Bytes;
use mizzen_api::field::FieldError;
use mizzen_api::rules::pod::{resize, validate_whole};
use mizzen_api::rules::signing::validate_approval;
use mizzen_api::status::ApiError;
use serde_json::Value;

use super::write_options;
use crate::dispatch::Ctx;
use crate::registry::update::{self, Proposal, Target, change};
use crate::registry::{create, patch, prepare, read};
use crate::render::Output;

/// Takes the part of `sent` over into `stored`.
type Take = fn(&mut Value, &Value) -> Vec<FieldError>;

/// Answers GET, PUT and PATCH.
pub(super) async fn handle(ctx: &Ctx<'_>, name: &str, body: &Bytes) -> Result<Output, ApiError> {
    let take: Take = match name {
        "finalize" => finalizers,
        "approval" => approval,
        "ephemeralcontainers" => ephemeral_containers,
        "resize" => resize::take,
        _ => return Err(ApiError::no_resource()),
    };
    let options = write_options(ctx)?;
    match ctx.info.verb {
        "get" => read::get(ctx).await,
        "patch" => {
            let patch = patch::read(ctx, body)?;
            change(ctx, Target::Part, &options, |old| {
                let (sent, warnings) = patch::patched(ctx, &patch, old, options.field_validation)?;
                Ok(Proposal { warnings, ..propose(ctx, take, old, &sent)? })
            })
            .await
        }
        _ => {
            let (sent, warnings) = update::decode(ctx, body, &options)?;
            let output = change(ctx, Target::Part, &options, |old| propose(ctx, take, old, &sent)).await?;
            Ok(output.warn(warnings))
        }
    }
}

fn propose(ctx: &Ctx<'_>, take: Take, old: &Value, sent: &Value) -> Result<Proposal, ApiError> {
    let mut object = old.clone();
    let errors = take(&mut object, sent);
    create::invalid(ctx.kind(), old, errors)?;
    let fields = prepare::metadata(&mut object);
    for field in ["uid", "resourceVersion"] {
        fields.insert(field.into(), prepare::text(sent, field).into());
    }
    Ok(Proposal::new(object))
}

/// `namespaces/finalize` writes `spec.finalizers`.
fn finalizers(stored: &mut Value, sent: &Value) -> Vec<FieldError> {
    match sent["spec"].get("finalizers") {
        Some(finalizers) => stored["spec"]["finalizers"] = finalizers.clone(),
        None => {
            if let Some(spec) = stored["spec"].as_object_mut() {
                spec.shift_remove("finalizers");
            }
        }
    }
    Vec::new()
}

/// `certificatesigningrequests/approval` writes conditions, and what users may write of the metadata.
fn approval(stored: &mut Value, sent: &Value) -> Vec<FieldError> {
    let old = stored.clone();
    let metadata = prepare::metadata(stored);
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        match sent["metadata"].get(field) {
            Some(value) => {
                metadata.insert(field.into(), value.clone());
            }
            None => {
                metadata.shift_remove(field);
            }
        }
    }
    stored["status"]["conditions"] = sent["status"]["conditions"].clone();
    validate_approval(stored, &old)
}

/// `pods/ephemeralcontainers` adds containers; those that are there stay as they are.
fn ephemeral_containers(stored: &mut Value, sent: &Value) -> Vec<FieldError> {
    const PATH: &str = "spec.ephemeralContainers";
    let list = |pod: &Value| pod["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
    let (old, new) = (list(stored), list(sent));
    let mut errors = Vec::new();
    for container in &old {
        match new.iter().find(|c| c["name"] == container["name"]) {
            Some(same) if same == container => {}
            Some(_) => {
                let detail = format!("existing ephemeral containers {} may not be changed\n", container["name"]);
                errors.push(FieldError::forbidden(PATH, detail));
            }
            None => {
                let detail = format!("existing ephemeral containers {} may not be removed\n", container["name"]);
                errors.push(FieldError::forbidden(PATH, detail));
            }
        }
    }
    stored["spec"]["ephemeralContainers"] = new.into();
    errors.extend(validate_whole(stored));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_approval_takes_conditions_and_metadata() {
        let mut stored = json!({"metadata": {"name": "a", "uid": "u", "labels": {"old": ""}}, "spec": {"x": 1}});
        let sent = json!({"metadata": {"name": "b", "annotations": {"a": "b"}}, "spec": {"x": 2},
            "status": {"conditions": [{"type": "Approved", "status": "True"}]}});
        assert!(approval(&mut stored, &sent).is_empty());
        let expected = json!({"metadata": {"name": "a", "uid": "u", "annotations": {"a": "b"}}, "spec": {"x": 1},
            "status": {"conditions": [{"type": "Approved", "status": "True"}]}});
        assert_eq!(stored, expected);
    }

    #[test]
    fn ephemeral_containers_are_only_added() {
        let stored = json!({"spec": {"ephemeralContainers": [{"name": "a", "image": "x"}]}});
        for (sent, errors) in [
            (json!([{"name": "a", "image": "x"}, {"name": "b"}]), 0),
            (json!([{"name": "a", "image": "y"}]), 1),
            (json!([]), 1),
        ] {
            let sent = json!({"spec": {"ephemeralContainers": sent, "containers": [{"name": "ignored"}]}});
            let mut pod = stored.clone();
            let found = ephemeral_containers(&mut pod, &sent);
            let forbidden = found.iter().filter(|e| e.message().contains("existing ephemeral containers")).count();
            assert_eq!(forbidden, errors, "{sent}");
            assert!(pod["spec"]["containers"].is_null());
        }
    }

    #[test]
    fn a_namespace_loses_its_finalizers() {
        let mut stored = json!({"spec": {"finalizers": ["kubernetes"]}});
        finalizers(&mut stored, &json!({"spec": {}}));
        assert_eq!(stored, json!({"spec": {}}));
    }
}
