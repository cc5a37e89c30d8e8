//! apps/v1 StatefulSet and ControllerRevision.

use serde_json::{Value, json};

use crate::kind::Rules;
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, WITH_SPEC_AND_STATUS};
use crate::rules::{pod, volume};

/// Rules of StatefulSets.
pub static RULES: Rules = Rules { default, prepare_create, ..WITH_SPEC_AND_STATUS };

fn default(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else { return };
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
    let Some(strategy) = fill::child(spec, "updateStrategy") else { return };
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
