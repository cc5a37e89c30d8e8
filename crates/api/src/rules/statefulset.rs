//! apps/v1 StatefulSet and ControllerRevision.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::names;
use crate::rules::cells::{self, NONE, number, text};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, PLAIN, WITH_SPEC_AND_STATUS};
use crate::rules::{pod, volume, workload};

/// Rules of StatefulSets.
pub static RULES: Rules = Rules {
    default,
    prepare_create,
    validate,
    warnings: pod::warnings::workload,
    validate_update,
    validate_status_update: |new, old| {
        let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
        workload::status(new, old, "replicas", &parts)
    },
    columns: COLUMNS,
    row,
    ..WITH_SPEC_AND_STATUS
};

/// Rules of ControllerRevisions.
pub static REVISION: Rules = Rules {
    validate: validate_revision,
    validate_update: update_revision,
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
    if strategy["type"] == "RollingUpdate"
        && let Some(rolling) = fill::existing(strategy, "rollingUpdate")
    {
        fill::optional(rolling, "partition", 0);
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
    vec![cells::name(object), ready.into(), cells::age(object, now), names, images]
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
    vec![cells::name(object), controller.into(), number(&object["revision"]).into(), cells::age(object, now)]
}

/// What an update of the spec may change.
const UPDATABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn validate(object: &Value) -> Vec<FieldError> {
    let at = At::ROOT.field("spec");
    let mut errors = Errors(validate_spec(object));
    let claims_at = at.field("volumeClaimTemplates");
    for (i, claim) in cells::list(&object["spec"]["volumeClaimTemplates"]).iter().enumerate() {
        volume::claim_spec(&claim["spec"], &claims_at.index(i).field("spec"), &mut errors);
    }
    errors.0
}

fn validate_spec(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    let management = &spec["podManagementPolicy"];
    match text(management) {
        "" => errors.required(&at.field("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        _ => errors.invalid(&at.field("podManagementPolicy"), management, "must be 'OrderedReady' or 'Parallel'"),
    }
    validate_strategy(&spec["updateStrategy"], &at.field("updateStrategy"), &mut errors);
    let (policy, policy_at) =
        (&spec["persistentVolumeClaimRetentionPolicy"], at.field("persistentVolumeClaimRetentionPolicy"));
    for field in ["whenDeleted", "whenScaled"] {
        errors.one_of(&policy_at.field(field), &policy[field], &["Retain", "Delete"]);
    }
    workload::counts(spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"], &at, &mut errors);
    errors.not_negative(&at.field("ordinals.start"), &spec["ordinals"]["start"]);
    errors.form(&at.field("serviceName"), &spec["serviceName"], names::dns1123_label);
    workload::selector(spec, "statefulset", &at, &mut errors);
    let with_claims = with_claim_volumes(spec);
    workload::template(with_claims.as_ref().unwrap_or(spec), "StatefulSet", &at, &mut errors);
    errors.0
}

/// The spec with a volume for each claim template, as its pods will have them. `None` if it has no claim templates.
fn with_claim_volumes(spec: &Value) -> Option<Value> {
    let claims = cells::list(&spec["volumeClaimTemplates"]);
    if claims.is_empty() {
        return None;
    }
    let name = |claim: &Value| text(&claim["metadata"]["name"]).to_string();
    let mut spec = json!({"selector": spec["selector"], "template": spec["template"]});
    let pod = spec["template"].get_mut("spec")?.as_object_mut()?;
    fill::optional(pod, "volumes", json!([]));
    let volumes = pod.get_mut("volumes")?.as_array_mut()?;
    volumes.retain(|volume| !claims.iter().any(|claim| volume["name"] == name(claim).as_str()));
    volumes.extend(
        claims.iter().map(|claim| json!({"name": name(claim), "persistentVolumeClaim": {"claimName": name(claim)}})),
    );
    Some(spec)
}

fn validate_strategy(strategy: &Value, at: &At<'_>, errors: &mut Errors) {
    let rolling = &strategy["rollingUpdate"];
    match text(&strategy["type"]) {
        "" => errors.required(at, ""),
        "OnDelete" if !rolling.is_null() => {
            errors.invalid(&at.field("rollingUpdate"), rolling, "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            let at = at.field("rollingUpdate");
            errors.not_negative(&at.field("partition"), &rolling["partition"]);
            let (unavailable, at) = (&rolling["maxUnavailable"], at.field("maxUnavailable"));
            workload::number_or_part(unavailable, &at, errors);
            if workload::is_zero(unavailable) {
                errors.invalid(&at, unavailable, "cannot be 0");
            }
        }
        _ => errors.invalid(at, strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    if same(&new["spec"], &old["spec"]) {
        return Vec::new();
    }
    let mut errors = Errors(validate_spec(new));
    let fixed = |fields: &Value| {
        let kept = fields.as_object().into_iter().flatten().filter(|(name, _)| !UPDATABLE.contains(&name.as_str()));
        Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    };
    if !same(&fixed(&new["spec"]), &fixed(&old["spec"])) {
        let listed = "'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', \
            'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds'";
        let detail = format!("updates to statefulset spec for fields other than {listed} are forbidden");
        errors.forbidden(&At::ROOT.field("spec"), &detail);
    }
    errors.0
}

fn validate_revision(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.not_negative(&At::ROOT.field("revision"), &object["revision"]);
    match &object["data"] {
        Value::Null => errors.required(&At::ROOT.field("data"), "data is mandatory"),
        Value::Object(_) => {}
        _ => errors.required(&At::ROOT.field("data"), "data must be a valid JSON object"),
    }
    errors.0
}

fn update_revision(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.not_negative(&At::ROOT.field("revision"), &new["revision"]);
    errors.immutable(&At::ROOT.field("data"), &new["data"], &old["data"]);
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::{Case, check};

    fn set(change: impl Fn(&mut Value)) -> Value {
        let mut object = json!({"spec": {"serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}],
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "db:1",
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}}}});
        change(&mut object["spec"]);
        default(&mut object);
        object
    }

    #[test]
    fn new_and_changed_sets() {
        let cases: &[Case] = &[
            ("good", |_| {}, &[]),
            (
                "order",
                |s| s["podManagementPolicy"] = json!("Any"),
                &["spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'"],
            ),
            (
                "claim without size",
                |s| s["volumeClaimTemplates"][0]["spec"]["resources"] = json!({}),
                &["spec.volumeClaimTemplates[0].spec.resources[storage]: Required value"],
            ),
        ];
        for (case, change, errors) in cases {
            check(case, &validate(&set(change)), errors);
        }
        let cases: &[Case] = &[
            ("scale", |s| s["replicas"] = json!(3), &[]),
            (
                "service",
                |s| s["serviceName"] = json!("x"),
                &["spec: Forbidden: updates to statefulset spec for fields other than"],
            ),
        ];
        for (case, change, errors) in cases {
            check(case, &validate_update(&set(change), &set(|_| {})), errors);
        }
    }

    #[test]
    fn strategies() {
        for (sent, filled) in [
            (json!({}), json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})),
            (json!({"type": "OnDelete"}), json!({"type": "OnDelete"})),
            (json!({"type": "RollingUpdate"}), json!({"type": "RollingUpdate"})),
        ] {
            assert_eq!(set(|s| s["updateStrategy"] = sent.clone())["spec"]["updateStrategy"], filled);
        }
    }
}
