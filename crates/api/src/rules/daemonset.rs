//! apps/v1 DaemonSet.

use serde_json::{Value, json};

use crate::kind::{Column, Rules};
use crate::rules::cells::{self, number};
use crate::rules::fill;
use crate::rules::plain::{self, WITH_SPEC_AND_STATUS};
use crate::rules::pod;

/// Rules of DaemonSets.
pub static RULES: Rules = Rules {
    default,
    prepare_create,
    columns: COLUMNS,
    row,
    ..WITH_SPEC_AND_STATUS
};

fn default(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    pod::defaults::template(spec, "template");
    if let Some(strategy) = fill::child(spec, "updateStrategy") {
        fill::text(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            if let Some(rolling) = fill::child(strategy, "rollingUpdate") {
                fill::optional(rolling, "maxUnavailable", 1);
                fill::optional(rolling, "maxSurge", 0);
            }
        }
    }
    fill::optional(spec, "revisionHistoryLimit", 10);
}

fn prepare_create(object: &mut Value) {
    let counters =
        json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0});
    plain::set_status(object, counters);
}

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired", "Nodes that should run the pod."),
    Column::integer("Current", "Nodes that should run the pod and do."),
    Column::integer("Ready", "Nodes whose pod is ready."),
    Column::integer("Up-to-date", "Nodes whose pod is made from the current template."),
    Column::integer("Available", "Nodes whose pod was ready for long enough."),
    Column::text("Node Selector", "Labels of the nodes that should run the pod."),
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
        number(&status["desiredNumberScheduled"]).into(),
        number(&status["currentNumberScheduled"]).into(),
        number(&status["numberReady"]).into(),
        number(&status["updatedNumberScheduled"]).into(),
        number(&status["numberAvailable"]).into(),
        cells::labels(&spec["template"]["spec"]["nodeSelector"]).into(),
        cells::age(object, now),
        names,
        images,
        cells::selector(&spec["selector"]).into(),
    ]
}
