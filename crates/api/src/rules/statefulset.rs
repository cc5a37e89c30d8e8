//! apps/v1 StatefulSet and ControllerRevision.

use serde_json::{Value, json};

use crate::kind::{Column, Rules};
use crate::rules::cells::{self, NONE, number, text};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, PLAIN, WITH_SPEC_AND_STATUS};
use crate::rules::{pod, volume};

/// Rules of StatefulSets.
pub static RULES: Rules = Rules {
    default,
    prepare_create,
    columns: COLUMNS,
    row,
    ..WITH_SPEC_AND_STATUS
};

/// Rules of ControllerRevisions.
pub static REVISION: Rules = Rules {
    columns: REVISION_COLUMNS,
    row: revision_row,
    ..PLAIN
};

fn default(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    fill::optional(spec, "replicas", 1);
    pod::defaults::template(spec, "template");
    for claim in fill::items(spec, "volumeClaimTemplates") {
        fill::text(claim, "kind", "PersistentVolumeClaim");
        fill::text(claim, "apiVersion", "v1");
        volume::default_claim(claim);
    }
    fill::text(spec, "podManagementPolicy", "OrderedReady");
    update_strategy(spec);
    fill::optional(spec, "revisionHistoryLimit", 10);
    if let Some(policy) = fill::child(spec, "persistentVolumeClaimRetentionPolicy") {
        fill::text(policy, "whenDeleted", "Retain");
        fill::text(policy, "whenScaled", "Retain");
    }
}

/// The partition is filled where rolling parameters are given, or no strategy at all.
fn update_strategy(spec: &mut Fields) {
    let Some(strategy) = fill::child(spec, "updateStrategy") else {
        return;
    };
    if fill::is_empty(strategy, "type") {
        strategy.insert("type".into(), "RollingUpdate".into());
        fill::optional(strategy, "rollingUpdate", json!({}));
    }
    if strategy["type"] == "RollingUpdate" {
        if let Some(rolling) = fill::existing(strategy, "rollingUpdate") {
            fill::optional(rolling, "partition", 0);
        }
    }
}

fn prepare_create(object: &mut Value) {
    plain::set_status(object, json!({"replicas": 0, "availableReplicas": 0}));
}

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "Ready pods, of all that are wanted."),
    Column::AGE,
    Column::CONTAINERS,
    Column::IMAGES,
];

fn row(object: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [names, images] = cells::containers(&spec["template"]["spec"]);
    let ready = format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"]));
    vec![
        cells::name(object),
        ready.into(),
        cells::age(object, now),
        names,
        images,
    ]
}

const REVISION_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Controller", "The workload this is a revision of."),
    Column::text("Revision", "Number of the revision."),
    Column::AGE,
];

fn revision_row(object: &Value, now: i64) -> Vec<Value> {
    let owners = cells::list(&object["metadata"]["ownerReferences"]);
    let controller = match owners.iter().find(|owner| owner["controller"] == true) {
        Some(owner) => {
            let kind = text(&owner["kind"]).to_lowercase();
            match text(&owner["apiVersion"]).split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{}", text(&owner["name"])),
                None => format!("{kind}/{}", text(&owner["name"])),
            }
        }
        None => NONE.into(),
    };
    vec![
        cells::name(object),
        controller.into(),
        number(&object["revision"]).into(),
        cells::age(object, now),
    ]
}
