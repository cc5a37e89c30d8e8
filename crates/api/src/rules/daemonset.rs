//! apps/v1 DaemonSet.

use serde_json::{Value, json};

use crate::kind::Rules;
use crate::rules::fill;
use crate::rules::plain::{self, WITH_SPEC_AND_STATUS};
use crate::rules::pod;

/// Rules of DaemonSets.
pub static RULES: Rules = Rules { default, prepare_create, ..WITH_SPEC_AND_STATUS };

fn default(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else { return };
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
    let counters = json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0});
    plain::set_status(object, counters);
}
