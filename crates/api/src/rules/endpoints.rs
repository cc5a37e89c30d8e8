//! core/v1 Endpoints and discovery.k8s.io/v1 EndpointSlice.

use serde_json::Value;

use crate::kind::{Generation, Rules};
use crate::rules::fill;
use crate::rules::plain::PLAIN;

/// Rules of Endpoints.
pub static ENDPOINTS: Rules = Rules { default: default_endpoints, ..PLAIN };

/// Rules of EndpointSlices.
pub static ENDPOINT_SLICE: Rules = Rules { default: default_slice, generation: Generation::ContentAndLabels, ..PLAIN };

fn default_endpoints(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    for subset in fill::items(object, "subsets") {
        for port in fill::items(subset, "ports") {
            fill::text(port, "protocol", "TCP");
        }
    }
}

fn default_slice(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    for port in fill::items(object, "ports") {
        fill::optional(port, "name", "");
        fill::optional(port, "protocol", "TCP");
    }
}
