//! `/scale`: `spec.replicas` of a workload as an `autoscaling/v1 Scale` (api-facts §3.8), whole or as a table.

use bytes::Bytes;
use mizzen_api::decode::Expected;
use mizzen_api::field::FieldError;
use mizzen_api::kind::{Column, Rules};
use mizzen_api::rules::plain;
use mizzen_api::schema;
use mizzen_api::status::ApiError;
use serde_json::{Value, json};

use super::write_options;
use crate::dispatch::Ctx;
use crate::negotiate::Shape;
use crate::registry::patch;
use crate::registry::update::{Proposal, Target, change};
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
            Ok(Output::new(200, Body::Other(shaped(ctx, of(&parse(entry)?)))))
        }
        "patch" => {
            let patch = patch::read(ctx, sent)?;
            let ty = schema::by_gvk("autoscaling", "v1", "Scale");
            write(ctx, |old| {
                let mut scale = of(old);
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
    let output = change(ctx, Target::Part, &options, |old| {
        let scale = scale(old)?;
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            return Err(ApiError::invalid("autoscaling", "Scale", &ctx.info.name, &[error]));
        }
        let mut object = old.clone();
        object["spec"]["replicas"] = replicas.into();
        let fields = prepare::metadata(&mut object);
        for field in ["resourceVersion", "uid"] {
            fields.insert(field.into(), scale["metadata"][field].as_str().unwrap_or_default().into());
        }
        Ok(Proposal::new(object))
    })
    .await?;
    let object = match &output.body {
        Body::Entry(entry) => parse(entry)?,
        Body::Stored(object) => object.clone(),
        Body::Other(_) | Body::List(_) => return Ok(output),
    };
    Ok(Output { body: Body::Other(shaped(ctx, of(&object))), ..output })
}

/// Tables of Scales have columns of their own.
static TABLE: Rules = Rules {
    columns: &[
        Column::NAME,
        Column::integer("Desired", "Replicas asked for."),
        Column::integer("Available", "Replicas that there are."),
        Column::AGE,
    ],
    row,
    ..plain::PLAIN
};

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
            shapes::table(&TABLE, version, shapes::single_metadata(&scale), rows, true)
        }
        Shape::Metadata(version) => shapes::partial(&scale, version),
    }
}

/// The Scale of a workload.
fn of(object: &Value) -> Value {
    let metadata: serde_json::Map<String, Value> = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
        .iter()
        .filter_map(|field| Some(((*field).to_string(), object["metadata"].get(*field)?.clone())))
        .collect();
    let mut status = json!({"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)});
    let selector = selector(&object["spec"]["selector"]);
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": metadata, "spec": {"replicas": replicas}, "status": status,
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
