//! Kinds of the control plane's own business: Lease, LeaseCandidate, Event, CertificateSigningRequest, ControllerRevision,
//! flow control, storage version migration and dynamic resources.

use serde_json::Value;

use crate::kind::{Generation, Rules, SelectableField};
use crate::rules::cells::text;
use crate::rules::fill;
use crate::rules::plain::{PLAIN, WITH_SPEC_AND_STATUS, WITH_STATUS};

/// Rules of Leases and LeaseCandidates.
pub static LEASE: Rules = Rules { create_on_update: true, unconditional_update: false, ..PLAIN };

/// Rules of Events (core/v1; events.k8s.io/v1 serves the same objects).
pub static EVENT: Rules = Rules {
    create_on_update: true,
    selectable: &[
        SelectableField { label: "involvedObject.kind", value: |e| text(&e["involvedObject"]["kind"]).into() },
        SelectableField { label: "involvedObject.namespace", value: |e| text(&e["involvedObject"]["namespace"]).into() },
        SelectableField { label: "involvedObject.name", value: |e| text(&e["involvedObject"]["name"]).into() },
        SelectableField { label: "involvedObject.uid", value: |e| text(&e["involvedObject"]["uid"]).into() },
        SelectableField { label: "involvedObject.apiVersion", value: |e| text(&e["involvedObject"]["apiVersion"]).into() },
        SelectableField {
            label: "involvedObject.resourceVersion",
            value: |e| text(&e["involvedObject"]["resourceVersion"]).into(),
        },
        SelectableField { label: "involvedObject.fieldPath", value: |e| text(&e["involvedObject"]["fieldPath"]).into() },
        SelectableField { label: "reason", value: |e| text(&e["reason"]).into() },
        SelectableField { label: "reportingComponent", value: |e| text(&e["reportingComponent"]).into() },
        SelectableField { label: "source", value: event_source },
        SelectableField { label: "type", value: |e| text(&e["type"]).into() },
    ],
    ..PLAIN
};

/// Rules of CertificateSigningRequests.
pub static SIGNING_REQUEST: Rules = Rules {
    selectable: &[SelectableField { label: "spec.signerName", value: |csr| text(&csr["spec"]["signerName"]).into() }],
    ..WITH_STATUS
};

/// Rules of FlowSchemas.
pub static FLOW_SCHEMA: Rules = Rules { default: default_flow_schema, ..WITH_SPEC_AND_STATUS };

/// Rules of PriorityLevelConfigurations.
pub static PRIORITY_LEVEL: Rules = Rules { default: default_priority_level, ..WITH_SPEC_AND_STATUS };

/// Rules of ResourceClaims.
pub static RESOURCE_CLAIM: Rules = Rules { returns_deleted: true, ..WITH_STATUS };

/// Rules of DeviceClasses, ResourceSlices, ResourceClaimTemplates.
pub static DEVICE: Rules = Rules { generation: Generation::Spec, returns_deleted: true, ..PLAIN };

/// Rules of DeviceTaintRules and other resource.k8s.io kinds with a status.
pub static DEVICE_WITH_STATUS: Rules = Rules { returns_deleted: true, ..WITH_SPEC_AND_STATUS };

/// Where an event came from: its component, or the controller that reports it.
fn event_source(event: &Value) -> String {
    let component = text(&event["source"]["component"]);
    if component.is_empty() { text(&event["reportingComponent"]).into() } else { component.into() }
}

fn default_flow_schema(object: &mut Value) {
    if let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) {
        fill::number(spec, "matchingPrecedence", 1000);
    }
}

fn default_priority_level(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else { return };
    if let Some(exempt) = fill::existing(spec, "exempt") {
        fill::optional(exempt, "nominalConcurrencyShares", 0);
        fill::optional(exempt, "lendablePercent", 0);
    }
    let Some(limited) = fill::existing(spec, "limited") else { return };
    fill::optional(limited, "nominalConcurrencyShares", 30);
    fill::optional(limited, "lendablePercent", 0);
    let response = fill::existing(limited, "limitResponse");
    if let Some(queuing) = response.and_then(|r| fill::existing(r, "queuing")) {
        fill::number(queuing, "queues", 64);
        fill::number(queuing, "handSize", 8);
        fill::number(queuing, "queueLengthLimit", 50);
    }
}
