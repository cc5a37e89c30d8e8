//! `/scale`: `spec.replicas` of a workload as an `autoscaling/v1 Scale` (api-facts §3.8), whole or as a table.

use bytes::Bytes;
use mizzen_api::crd::ScalePaths;
use mizzen_api::decode::Expected;
use mizzen_api::field::FieldError;
use mizzen_api::kind::Column;
use mizzen_api::rules::plain;
use mizzen_api::schema;
use mizzen_api::status::ApiError;
use serde_json::{Value, json};

use super::write_options;
use crate::crd;
use crate::dispatch::Ctx;
use crate::negotiate::Shape;
use crate::registry::patch;
use crate::registry::update::{Proposal, Seen, Target, change};
use crate::registry::{body, prepare};
use crate::render::{Body, Output, parse};
use crate::shapes;

/// Answers GET, PUT and PATCH.
pub(super) async fn handle(ctx: &Ctx<'_>, sent: &Bytes) -> Result<Output, ApiError> {
    match ctx.info.verb {
        "get" => {
            let snapshot = ctx.snapshot();
            let key = ctx.resource.key(&ctx.info.namespace, &ctx.info.name);
            let entry = snapshot.get(&key).ok_or_else(|| ApiError::not_found(ctx.kind().subject(), &ctx.info.name))?;
            let object = parse(crd::current(ctx.core, &ctx.resource, entry).await?.as_ref())?;
            Ok(Output::new(200, Body::Other(shaped(ctx, read(ctx, &object)?))))
        }
        "patch" => {
            let patch = patch::read(ctx, sent)?;
            let ty = schema::by_gvk("autoscaling", "v1", "Scale");
            write(ctx, |old| {
                // A custom resource may not say how many replicas it wants before somebody scales it.
                let mut scale = read(ctx, old).unwrap_or_else(|_| of_custom_or_built_in(ctx, old));
                patch::apply(&patch, &mut scale, ty)?;
                Ok(scale)
            })
            .await
        }
        _ => {
            let scale = body::of_kind(ctx, sent, &Expected::new("autoscaling", "v1", "Scale"))?;
            write(ctx, |_| Ok(scale.clone())).await
        }
    }
}

async fn write(ctx: &Ctx<'_>, mut scale: impl FnMut(&Value) -> Result<Value, ApiError>) -> Result<Output, ApiError> {
    let options = write_options(ctx)?;
    // What a custom resource may look like its schema says, which is checked for the whole of it.
    let target = if ctx.kind().custom.is_some() { Target::Main } else { Target::Part };
    let output = change(ctx, target, &options, |old| {
        let scale = scale(old)?;
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            return Err(ApiError::invalid("autoscaling", "Scale", &ctx.info.name, &[error]));
        }
        let mut object = old.clone();
        take(ctx, &mut object, &scale);
        let fields = prepare::metadata(&mut object);
        for field in ["resourceVersion", "uid"] {
            let sent = scale["metadata"][field].as_str().unwrap_or_default();
            if ctx.kind().custom.is_none() || !sent.is_empty() {
                fields.insert(field.into(), sent.into());
            }
        }
        let scales = [of_custom_or_built_in(ctx, old), of_custom_or_built_in(ctx, &object)];
        Ok(Proposal { seen: Seen::Scale(Box::new(scales)), ..Proposal::new(object) })
    })
    .await?;
    let object = match &output.body {
        Body::Entry(entry) => parse(crd::current(ctx.core, &ctx.resource, entry).await?.as_ref())?,
        Body::Stored(object) => object.clone(),
        Body::Other(_) | Body::List(_) => return Ok(output),
    };
    Ok(Output { body: Body::Other(shaped(ctx, read(ctx, &object)?)), ..output })
}

/// Takes the replicas of a Scale over into the object that it is of.
pub(crate) fn take(ctx: &Ctx<'_>, object: &mut Value, scale: &Value) {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    match paths(ctx) {
        Some(paths) => put(object, &paths.spec_replicas, replicas),
        None => object["spec"]["replicas"] = replicas.into(),
    }
}

/// Tables of Scales have columns of their own.
const COLUMNS: [Column; 4] = [
    Column::NAME,
    Column::integer("Desired", "Replicas asked for."),
    Column::integer("Available", "Replicas that there are."),
    Column::AGE,
];

fn row(scale: &Value, now: i64) -> Vec<Value> {
    let replicas = |part: &str| scale[part]["replicas"].as_i64().unwrap_or(0).into();
    let mut cells = (plain::PLAIN.row)(scale, now);
    cells.splice(1..1, [replicas("spec"), replicas("status")]);
    cells
}

/// A Scale in the shape that was asked for.
fn shaped(ctx: &Ctx<'_>, scale: Value) -> Value {
    match ctx.format.shape {
        Shape::Full => scale,
        Shape::Table(version) => {
            let cells = row(&scale, ctx.now.as_second());
            let object = match shapes::Include::parse(ctx.head.query.get("includeObject")) {
                shapes::Include::None => Value::Null,
                shapes::Include::Metadata => shapes::partial(&scale, version),
                shapes::Include::Object => scale.clone(),
            };
            let rows = vec![json!({"cells": cells, "object": object})];
            shapes::table_of(
                COLUMNS.iter().map(Column::definition).collect(),
                version,
                shapes::single_metadata(&scale),
                rows,
            )
        }
        Shape::Metadata(version) => shapes::partial(&scale, version),
    }
}

/// Where a custom resource has its numbers.
fn paths<'a>(ctx: &'a Ctx<'_>) -> Option<&'a ScalePaths> {
    ctx.kind().custom.as_ref()?.scale.as_ref()
}

/// The Scale of an object.
fn read(ctx: &Ctx<'_>, object: &Value) -> Result<Value, ApiError> {
    if let Some(paths) = paths(ctx)
        && at(object, &paths.spec_replicas).is_none()
    {
        let path = format!(".{}", paths.spec_replicas.join("."));
        return Err(ApiError::internal(format_args!("the spec replicas field {path:?} does not exist")));
    }
    Ok(of_custom_or_built_in(ctx, object))
}

fn of_custom_or_built_in(ctx: &Ctx<'_>, object: &Value) -> Value {
    let Some(paths) = paths(ctx) else { return of(object) };
    let number = |path: &[String]| at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let selector = paths.selector.as_ref().and_then(|path| at(object, path)).and_then(Value::as_str);
    scale(object, number(&paths.spec_replicas), number(&paths.status_replicas), selector.unwrap_or_default())
}

/// The value at a path of names.
fn at<'v>(object: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

/// Puts a number at a path of names; what is no object on the way is replaced, for validation to judge.
fn put(object: &mut Value, path: &[String], number: i64) {
    let mut slot = object;
    for name in path {
        if !slot.is_object() {
            *slot = json!({});
        }
        slot = &mut slot[name.as_str()];
    }
    *slot = number.into();
}

/// The Scale of a workload.
fn of(object: &Value) -> Value {
    let number = |part: &str| object[part]["replicas"].as_i64().unwrap_or(0);
    scale(object, number("spec"), number("status"), &selector(&object["spec"]["selector"]))
}

fn scale(object: &Value, wanted: i64, observed: i64, selector: &str) -> Value {
    let metadata: serde_json::Map<String, Value> = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
        .iter()
        .filter_map(|field| Some(((*field).to_string(), object["metadata"].get(*field)?.clone())))
        .collect();
    let mut status = json!({"replicas": observed});
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": metadata, "spec": {"replicas": wanted}, "status": status,
    })
}

/// A label selector as text; a ReplicationController's is a plain map.
fn selector(selector: &Value) -> String {
    let is_plain = !selector["matchLabels"].is_object() && !selector["matchExpressions"].is_array();
    let labels = if is_plain { selector } else { &selector["matchLabels"] };
    let mut parts: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    parts.sort();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        parts.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_string(),
        });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_the_workload() {
        let deployment = json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "5", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"b": "2", "a": "1"},
                "matchExpressions": [{"key": "t", "operator": "In", "values": ["x", "y"]}, {"key": "c", "operator": "DoesNotExist"}]}},
            "status": {"replicas": 2},
        });
        let expected = json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "5"},
            "spec": {"replicas": 3},
            "status": {"replicas": 2, "selector": "a=1,b=2,t in (x,y),!c"},
        });
        assert_eq!(of(&deployment), expected);
        assert_eq!(row(&expected, 0)[..3], [json!("a"), json!(3), json!(2)]);
        assert_eq!(selector(&json!({"app": "x"})), "app=x");
    }
}
