//! apps/v1 Deployment.

use serde_json::Value;

use crate::kind::{Column, Generation, Rules};
use crate::rules::cells::{self, number};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, WITH_STATUS};
use crate::rules::pod;

/// Rules of Deployments.
pub static RULES: Rules = Rules {
    default,
    prepare_status_update,
    prepare_create: plain::empty_status,
    generation: Generation::SpecAndAnnotations,
    columns: COLUMNS,
    row,
    ..WITH_STATUS
};

fn default(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    fill::optional(spec, "replicas", 1);
    pod::defaults::template(spec, "template");
    strategy(spec);
    fill::optional(spec, "revisionHistoryLimit", 10);
    fill::optional(spec, "progressDeadlineSeconds", 600);
}

fn strategy(spec: &mut Fields) {
    let Some(strategy) = fill::child(spec, "strategy") else {
        return;
    };
    fill::text(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        if let Some(rolling) = fill::child(strategy, "rollingUpdate") {
            fill::optional(rolling, "maxUnavailable", "25%");
            fill::optional(rolling, "maxSurge", "25%");
        }
    }
}

/// Status writers change neither spec nor labels.
fn prepare_status_update(new: &mut Value, old: &Value) {
    plain::keep_all_but_status(new, old);
    let labels = old["metadata"].get("labels").cloned();
    let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    match labels {
        Some(labels) => metadata.insert("labels".into(), labels),
        None => fill::remove(metadata, "labels"),
    };
}

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "Ready pods, of all that are wanted."),
    Column::text("Up-to-date", "Pods made from the current template."),
    Column::text("Available", "Pods that were ready for long enough."),
    Column::AGE,
    Column::CONTAINERS,
    Column::IMAGES,
    Column::SELECTOR,
];

fn row(object: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [names, images] = cells::containers(&spec["template"]["spec"]);
    vec![
        cells::name(object),
        format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"])).into(),
        number(&status["updatedReplicas"]).into(),
        number(&status["availableReplicas"]).into(),
        cells::age(object, now),
        names,
        images,
        cells::selector(&spec["selector"]).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rolls_by_quarters_unless_told_otherwise() {
        for (sent, strategy) in [
            (
                json!({}),
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}),
            ),
            (json!({"type": "Recreate"}), json!({"type": "Recreate"})),
            (
                json!({"rollingUpdate": {"maxSurge": 1}}),
                json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}, "type": "RollingUpdate"}),
            ),
        ] {
            let mut object = json!({"spec": {"strategy": sent}});
            default(&mut object);
            assert_eq!(object["spec"]["strategy"], strategy);
            assert_eq!(object["spec"]["replicas"], 1);
            assert_eq!(object["spec"]["template"]["spec"]["restartPolicy"], "Always");
        }
    }
}
