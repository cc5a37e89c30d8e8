//! The options of a request as `AdmissionReview` shows them.

use serde_json::{Value, json};

use super::{Operation, Request};
use crate::options::{DeleteOptions, Propagation};
use crate::query::Query;

/// What was sent beside the object.
#[derive(Clone, Copy)]
pub(crate) enum Options<'a> {
    /// The query of a create or update.
    Write(&'a Query),
    /// Those of a delete.
    Delete(&'a DeleteOptions),
    /// None: connects have their options as the object.
    None,
}

impl Options<'_> {
    /// `CreateOptions`, `UpdateOptions` or `DeleteOptions`, with what was said in them.
    pub fn to_value(self, request: &Request<'_>) -> Value {
        match self {
            Options::None => Value::Null,
            Options::Write(query) => {
                let kind = if request.operation == Operation::Create { "CreateOptions" } else { "UpdateOptions" };
                let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
                if request.dry_run {
                    options["dryRun"] = json!(["All"]);
                }
                for field in ["fieldManager", "fieldValidation"] {
                    if let Some(value) = query.get(field) {
                        options[field] = value.into();
                    }
                }
                options
            }
            Options::Delete(options) => delete(options),
        }
    }
}

fn delete(options: &DeleteOptions) -> Value {
    let mut out = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
    if let Some(grace) = options.grace {
        out["gracePeriodSeconds"] = grace.into();
    }
    let preconditions = [("uid", &options.uid), ("resourceVersion", &options.resource_version)];
    for (field, value) in preconditions {
        if let Some(value) = value {
            out["preconditions"][field] = value.as_str().into();
        }
    }
    if let Some(orphan) = options.orphan_dependents {
        out["orphanDependents"] = orphan.into();
    }
    if let Some(propagation) = options.propagation {
        out["propagationPolicy"] = match propagation {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        }
        .into();
    }
    if options.dry_run {
        out["dryRun"] = json!(["All"]);
    }
    out
}
