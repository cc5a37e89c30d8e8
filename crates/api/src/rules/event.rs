//! core/v1 Event; events.k8s.io/v1 serves the same objects in another form.

use serde_json::Value;

use crate::duration;
use crate::field::FieldError;
use crate::kind::{Column, Rules, SelectableField};
use crate::names;
use crate::rules::cells::{self, number, text, text_or};
use crate::rules::check::{At, Errors};
use crate::rules::plain::PLAIN;

/// Rules of Events (core/v1; events.k8s.io/v1 serves the same objects).
pub static EVENT: Rules = Rules {
    validate: validate_event,
    validate_update: |new, _| validate_event(new),
    create_on_update: true,
    selectable: &[
        SelectableField { label: "involvedObject.kind", value: |e| text(&e["involvedObject"]["kind"]).into() },
        SelectableField {
            label: "involvedObject.namespace",
            value: |e| text(&e["involvedObject"]["namespace"]).into(),
        },
        SelectableField { label: "involvedObject.name", value: |e| text(&e["involvedObject"]["name"]).into() },
        SelectableField { label: "involvedObject.uid", value: |e| text(&e["involvedObject"]["uid"]).into() },
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
        SelectableField { label: "reason", value: |e| text(&e["reason"]).into() },
        SelectableField { label: "reportingComponent", value: |e| text(&e["reportingComponent"]).into() },
        SelectableField { label: "source", value: event_source },
        SelectableField { label: "type", value: |e| text(&e["type"]).into() },
    ],
    columns: EVENT_COLUMNS,
    row: event_row,
    ..PLAIN
};

/// Where an event came from: its component, or the controller that reports it.
fn event_source(event: &Value) -> String {
    let component = text(&event["source"]["component"]);
    if component.is_empty() { text(&event["reportingComponent"]).into() } else { component.into() }
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
    Column { priority: 1, ..Column::NAME },
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

/// Longest texts in events of the newer form.
const EVENT_FIELD_MAX: usize = 128;

const EVENT_MESSAGE_MAX: usize = 1024;

fn validate_event(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (own, about) = (text(&object["metadata"]["namespace"]), text(&object["involvedObject"]["namespace"]));
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
        errors.invalid(&At::ROOT.field("message"), "", format!("can have at most {EVENT_MESSAGE_MAX} characters"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;
    use serde_json::json;

    #[test]
    fn events_are_in_the_namespace_of_their_object() {
        for (case, event, errors) in [
            ("same", json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "a"}}), &[][..]),
            (
                "other",
                json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}}),
                &["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"],
            ),
            ("node", json!({"metadata": {"namespace": "default"}, "involvedObject": {"kind": "Node"}}), &[]),
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
