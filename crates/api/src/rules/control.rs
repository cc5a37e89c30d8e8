//! Kinds of the control plane's own business: Lease, LeaseCandidate, Event, CertificateSigningRequest, ControllerRevision,
//! flow control, storage version migration and dynamic resources.

use serde_json::Value;

use crate::duration;
use crate::field::FieldError;
use crate::kind::{Column, Generation, Rules, SelectableField};
use crate::names;
use crate::rules::cells::{self, NONE, UNSET, list, number, scalar_or, text, text_or};
use crate::rules::check::{At, Errors};
use crate::rules::fill;
use crate::rules::plain::{PLAIN, WITH_SPEC_AND_STATUS, WITH_STATUS};

/// Rules of Leases.
pub static LEASE: Rules = Rules {
    validate: validate_lease,
    validate_update: |new, _| validate_lease(new),
    columns: &[
        Column::NAME,
        Column::text("Holder", "Who holds the lease."),
        Column::AGE,
    ],
    row: |object, now| {
        vec![
            cells::name(object),
            text(&object["spec"]["holderIdentity"]).into(),
            cells::age(object, now),
        ]
    },
    ..LEASE_BASE
};

/// Rules of LeaseCandidates.
pub static LEASE_CANDIDATE: Rules = Rules {
    columns: CANDIDATE_COLUMNS,
    row: candidate_row,
    ..LEASE_BASE
};

const LEASE_BASE: Rules = Rules {
    create_on_update: true,
    unconditional_update: false,
    ..PLAIN
};

/// Rules of Events (core/v1; events.k8s.io/v1 serves the same objects).
pub static EVENT: Rules = Rules {
    validate: validate_event,
    validate_update: |new, _| validate_event(new),
    create_on_update: true,
    selectable: &[
        SelectableField {
            label: "involvedObject.kind",
            value: |e| text(&e["involvedObject"]["kind"]).into(),
        },
        SelectableField {
            label: "involvedObject.namespace",
            value: |e| text(&e["involvedObject"]["namespace"]).into(),
        },
        SelectableField {
            label: "involvedObject.name",
            value: |e| text(&e["involvedObject"]["name"]).into(),
        },
        SelectableField {
            label: "involvedObject.uid",
            value: |e| text(&e["involvedObject"]["uid"]).into(),
        },
        SelectableField {
            label: "involvedObject.apiVersion",
            value: |e| text(&e["involvedObject"]["apiVersion"]).into(),
        },
        SelectableField {
            label: "involvedObject.resourceVersion",
            value: |e| text(&e["involvedObject"]["resourceVersion"]).into(),
        },
        SelectableField {
            label: "involvedObject.fieldPath",
            value: |e| text(&e["involvedObject"]["fieldPath"]).into(),
        },
        SelectableField {
            label: "reason",
            value: |e| text(&e["reason"]).into(),
        },
        SelectableField {
            label: "reportingComponent",
            value: |e| text(&e["reportingComponent"]).into(),
        },
        SelectableField {
            label: "source",
            value: event_source,
        },
        SelectableField {
            label: "type",
            value: |e| text(&e["type"]).into(),
        },
    ],
    columns: EVENT_COLUMNS,
    row: event_row,
    ..PLAIN
};

/// Rules of CertificateSigningRequests.
pub static SIGNING_REQUEST: Rules = Rules {
    validate: validate_request,
    validate_update: update_request,
    selectable: &[SelectableField {
        label: "spec.signerName",
        value: |csr| text(&csr["spec"]["signerName"]).into(),
    }],
    columns: SIGNING_COLUMNS,
    row: signing_row,
    ..WITH_STATUS
};

/// Rules of FlowSchemas.
pub static FLOW_SCHEMA: Rules = Rules {
    default: default_flow_schema,
    columns: FLOW_COLUMNS,
    row: flow_row,
    ..WITH_SPEC_AND_STATUS
};

/// Rules of PriorityLevelConfigurations.
pub static PRIORITY_LEVEL: Rules = Rules {
    default: default_priority_level,
    columns: LEVEL_COLUMNS,
    row: level_row,
    ..WITH_SPEC_AND_STATUS
};

/// Rules of ResourceClaims.
pub static RESOURCE_CLAIM: Rules = Rules {
    returns_deleted: true,
    columns: &[
        Column::NAME,
        Column::text("State", "Whether it is pending, allocated, reserved."),
        Column::AGE,
    ],
    row: |object, now| vec![cells::name(object), claim_state(object).into(), cells::age(object, now)],
    ..WITH_STATUS
};

/// Rules of ResourceSlices.
pub static RESOURCE_SLICE: Rules = Rules {
    generation: Generation::Spec,
    returns_deleted: true,
    columns: SLICE_COLUMNS,
    row: slice_row,
    ..PLAIN
};

/// Rules of StorageVersions.
pub static STORAGE_VERSION: Rules = Rules {
    columns: VERSION_COLUMNS,
    row: version_row,
    ..WITH_STATUS
};

/// Rules of DeviceClasses and ResourceClaimTemplates.
pub static DEVICE: Rules = Rules {
    generation: Generation::Spec,
    returns_deleted: true,
    ..PLAIN
};

/// Rules of DeviceTaintRules and other resource.k8s.io kinds with a status.
pub static DEVICE_WITH_STATUS: Rules = Rules {
    returns_deleted: true,
    ..WITH_SPEC_AND_STATUS
};

/// Where an event came from: its component, or the controller that reports it.
fn event_source(event: &Value) -> String {
    let component = text(&event["source"]["component"]);
    if component.is_empty() {
        text(&event["reportingComponent"]).into()
    } else {
        component.into()
    }
}

fn default_flow_schema(object: &mut Value) {
    if let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) {
        fill::number(spec, "matchingPrecedence", 1000);
    }
}

fn default_priority_level(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    if let Some(exempt) = fill::existing(spec, "exempt") {
        fill::optional(exempt, "nominalConcurrencyShares", 0);
        fill::optional(exempt, "lendablePercent", 0);
    }
    let Some(limited) = fill::existing(spec, "limited") else {
        return;
    };
    fill::optional(limited, "nominalConcurrencyShares", 30);
    fill::optional(limited, "lendablePercent", 0);
    let response = fill::existing(limited, "limitResponse");
    if let Some(queuing) = response.and_then(|r| fill::existing(r, "queuing")) {
        fill::number(queuing, "queues", 64);
        fill::number(queuing, "handSize", 8);
        fill::number(queuing, "queueLengthLimit", 50);
    }
}

const CANDIDATE_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("LeaseName", "The lease it is a candidate for."),
    Column::text("BinaryVersion", "Version of its binary."),
    Column::text("EmulationVersion", "Version it behaves as."),
    Column::AGE,
];

fn candidate_row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    let [lease, binary, emulated] =
        ["leaseName", "binaryVersion", "emulationVersion"].map(|field| text(&spec[field]).into());
    vec![cells::name(object), lease, binary, emulated, cells::age(object, now)]
}

const EVENT_COLUMNS: &[Column] = &[
    Column::text("Last Seen", "Time since it was last observed."),
    Column::text("Type", "Normal or Warning."),
    Column::text("Reason", "Why it happened, in one word."),
    Column::text("Object", "The object it is about."),
    Column::text("Subobject", "The part of the object it is about.").wide(),
    Column::text("Source", "Who reported it.").wide(),
    Column::text("Message", "What happened."),
    Column::text("First Seen", "Time since it was first observed.").wide(),
    Column::text("Count", "How often it was observed.").wide(),
    Column {
        priority: 1,
        ..Column::NAME
    },
];

fn event_row(object: &Value, now: i64) -> Vec<Value> {
    let (about, series) = (&object["involvedObject"], &object["series"]);
    let at = |field: &Value| (!field.is_null()).then(|| duration::since(field, now));
    let first = at(&object["firstTimestamp"]).unwrap_or_else(|| duration::since(&object["eventTime"], now));
    let mut last = at(&object["lastTimestamp"]).unwrap_or_else(|| first.clone());
    let mut count = number(&object["count"]).max(1);
    if !series.is_null() {
        last = duration::since(&series["lastObservedTime"], now);
        count = number(&series["count"]);
    }
    let kind = text(&about["kind"]).to_lowercase();
    let target = match text(&about["name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        last.into(),
        text(&object["type"]).into(),
        text(&object["reason"]).into(),
        target.into(),
        text(&about["fieldPath"]).into(),
        reporter(object).into(),
        text(&object["message"]).trim().into(),
        first.into(),
        count.into(),
        cells::name(object),
    ]
}

/// The component that reported an event, and the instance or node.
fn reporter(event: &Value) -> String {
    let source = &event["source"];
    let component = text_or(&source["component"], text(&event["reportingComponent"]));
    match text_or(&source["host"], text(&event["reportingInstance"])) {
        "" => component.into(),
        instance => format!("{component}, {instance}"),
    }
}

const SIGNING_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::AGE,
    Column::text("SignerName", "Who is to sign."),
    Column::text("Requestor", "Who asks."),
    Column::text("RequestedDuration", "How long the certificate should be valid."),
    Column::text("Condition", "Whether it is approved, denied, issued."),
];

fn signing_row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    let seconds = spec["expirationSeconds"].as_i64();
    vec![
        cells::name(object),
        cells::age(object, now),
        text_or(&spec["signerName"], NONE).into(),
        text(&spec["username"]).into(),
        seconds.map_or_else(|| NONE.into(), duration::human).into(),
        signing_state(object).into(),
    ]
}

fn signing_state(object: &Value) -> String {
    let has = |kind| cells::condition(object, kind).is_some();
    let decision = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if text(&object["status"]["certificate"]).is_empty() {
        ""
    } else {
        ",Issued"
    };
    format!("{decision}{failed}{issued}")
}

const FLOW_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("PriorityLevel", "The level its requests go to."),
    Column::text("MatchingPrecedence", "Lower is tried first."),
    Column::text("DistinguisherMethod", "How flows are told apart."),
    Column::AGE,
    Column::text("MissingPL", "Whether the level does not exist."),
];

fn flow_row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    vec![
        cells::name(object),
        text(&spec["priorityLevelConfiguration"]["name"]).into(),
        number(&spec["matchingPrecedence"]).into(),
        text_or(&spec["distinguisherMethod"]["type"], NONE).into(),
        cells::age(object, now),
        cells::condition(object, "Dangling")
            .map_or("?", |condition| text(&condition["status"]))
            .into(),
    ]
}

const LEVEL_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Type", "Exempt or limited."),
    Column::text("NominalConcurrencyShares", "Its part of the server's capacity."),
    Column::text("Queues", "Number of queues."),
    Column::text("HandSize", "Queues one flow may use."),
    Column::text("QueueLengthLimit", "Requests that may wait in one queue."),
    Column::AGE,
];

fn level_row(object: &Value, now: i64) -> Vec<Value> {
    let limited = &object["spec"]["limited"];
    let queuing = &limited["limitResponse"]["queuing"];
    let shown = |value: &Value| if value.is_number() { value.clone() } else { NONE.into() };
    vec![
        cells::name(object),
        text(&object["spec"]["type"]).into(),
        shown(&limited["nominalConcurrencyShares"]),
        shown(&queuing["queues"]),
        shown(&queuing["handSize"]),
        shown(&queuing["queueLengthLimit"]),
        cells::age(object, now),
    ]
}

fn claim_state(object: &Value) -> String {
    let (deleting, status) = (cells::is_terminating(object), &object["status"]);
    let allocated = !status["allocation"].is_null();
    let states = [
        (deleting, "deleted"),
        (!allocated && !deleting, "pending"),
        (allocated, "allocated"),
        (allocated && !list(&status["reservedFor"]).is_empty(), "reserved"),
    ];
    states
        .into_iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, word)| word)
        .collect::<Vec<_>>()
        .join(",")
}

const SLICE_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Node", "The node that has the devices."),
    Column::text("Driver", "The driver that serves them."),
    Column::text("Pool", "The pool they belong to."),
    Column::AGE,
];

fn slice_row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    vec![
        cells::name(object),
        text(&spec["nodeName"]).into(),
        text(&spec["driver"]).into(),
        text(&spec["pool"]["name"]).into(),
        cells::age(object, now),
    ]
}

const VERSION_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("CommonEncodingVersion", "The version all servers store."),
    Column::text("StorageVersions", "The version each server stores."),
    Column::AGE,
];

fn version_row(object: &Value, now: i64) -> Vec<Value> {
    let status = &object["status"];
    let each = |v: &Value| format!("{}={}", text(&v["apiServerID"]), text(&v["encodingVersion"]));
    let versions: Vec<String> = list(&status["storageVersions"]).iter().map(each).collect();
    vec![
        cells::name(object),
        scalar_or(&status["commonEncodingVersion"], UNSET).into(),
        cells::shortened(&versions, 3, ",", UNSET).into(),
        cells::age(object, now),
    ]
}

fn validate_lease(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    errors.positive(&at.field("leaseDurationSeconds"), &spec["leaseDurationSeconds"]);
    errors.not_negative(&at.field("leaseTransitions"), &spec["leaseTransitions"]);
    let strategy = text(&spec["strategy"]);
    if !strategy.is_empty() && !strategy.contains('/') {
        errors.one_of(&at.field("strategy"), &spec["strategy"], &["OldestEmulationVersion"]);
    }
    if !text(&spec["preferredHolder"]).is_empty() && strategy.is_empty() {
        errors.forbidden(
            &at.field("preferredHolder"),
            "may only be specified if `strategy` is defined",
        );
    }
    errors.0
}

/// Longest texts in events of the newer form.
const EVENT_FIELD_MAX: usize = 128;
const EVENT_MESSAGE_MAX: usize = 1024;

fn validate_event(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (own, about) = (
        text(&object["metadata"]["namespace"]),
        text(&object["involvedObject"]["namespace"]),
    );
    let newer = !object["eventTime"].is_null();
    let fits = match (about.is_empty(), newer) {
        (true, false) => matches!(own, "" | "default"),
        (true, true) => matches!(own, "default" | "kube-system"),
        (false, false) => own == about,
        (false, true) => true,
    };
    if !fits {
        let at = At::ROOT.field("involvedObject");
        errors.invalid(&at.field("namespace"), about, "does not match event.namespace");
    }
    if newer {
        newer_event(object, &mut errors);
    }
    errors.0
}

/// What an event that carries `eventTime` must say, and how long it may be.
fn newer_event(object: &Value, errors: &mut Errors) {
    let at = At::ROOT.field("reportingComponent");
    errors.required_form(&at, &object["reportingComponent"], names::qualified_name);
    for field in ["reportingInstance", "action", "reason"] {
        let at = At::ROOT.field(field);
        errors.required_text(&at, &object[field], "");
        if text(&object[field]).len() > EVENT_FIELD_MAX {
            errors.invalid(&at, "", format!("can have at most {EVENT_FIELD_MAX} characters"));
        }
    }
    if text(&object["message"]).len() > EVENT_MESSAGE_MAX {
        errors.invalid(
            &At::ROOT.field("message"),
            "",
            format!("can have at most {EVENT_MESSAGE_MAX} characters"),
        );
    }
}

fn validate_request(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    errors.required_text(&at.field("request"), &spec["request"], "");
    if list(&spec["usages"]).is_empty() {
        errors.required(&at.field("usages"), "");
    }
    match text(&spec["signerName"]) {
        "" => errors.required(&at.field("signerName"), ""),
        name => match name.split_once('/') {
            Some((domain, path)) if !path.is_empty() => {
                errors.all(&at.field("signerName"), name, names::dns1123_subdomain(domain));
            }
            _ => errors.invalid(
                &at.field("signerName"),
                name,
                "must be a fully qualified domain and path of the form 'example.com/signer-name'",
            ),
        },
    }
    if spec["expirationSeconds"].as_i64().is_some_and(|seconds| seconds < 600) {
        errors.invalid(
            &at.field("expirationSeconds"),
            &spec["expirationSeconds"],
            "may not specify a duration less than 600 seconds (10 minutes)",
        );
    }
    errors.0
}

/// A request is never changed; decisions go through `/approval` and `/status`.
fn update_request(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.immutable(&At::ROOT.field("spec"), &new["spec"], &old["spec"]);
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;
    use serde_json::json;

    #[test]
    fn events_are_in_the_namespace_of_their_object() {
        for (case, event, errors) in [
            (
                "same",
                json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "a"}}),
                &[][..],
            ),
            (
                "other",
                json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}}),
                &["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"],
            ),
            (
                "node",
                json!({"metadata": {"namespace": "default"}, "involvedObject": {"kind": "Node"}}),
                &[],
            ),
            (
                "newer",
                json!({"metadata": {"namespace": "default"}, "eventTime": "2026-01-01T00:00:00Z", "reason": "R",
                    "reportingComponent": "a.b/c", "reportingInstance": "x"}),
                &["action: Required value"],
            ),
        ] {
            check(case, &validate_event(&event), errors);
        }
    }

    #[test]
    fn leases_run_out() {
        let lease = json!({"spec": {"leaseDurationSeconds": 0}});
        let errors = ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"];
        check("zero", &validate_lease(&lease), &errors);
        check("none", &validate_lease(&json!({"spec": {}})), &[]);
    }

    #[test]
    fn an_event_in_a_row() {
        let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p"}, "type": "Normal", "reason": "Started",
            "message": " up ", "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:05:00Z", "count": 3,
            "source": {"component": "kubelet", "host": "n1"}});
        let row = event_row(&event, 600);
        assert_eq!(
            row,
            [
                json!("5m"),
                json!("Normal"),
                json!("Started"),
                json!("pod/p"),
                json!(""),
                json!("kubelet, n1"),
                json!("up"),
                json!("10m"),
                json!(3),
                json!("e")
            ]
        );
    }
}
