//! Who owns which fields: `metadata.managedFields` on every write (api-facts §4.4).

use serde_json::Value;

use crate::dispatch::Ctx;

/// Tracks a new object.
pub(crate) fn created(_ctx: &Ctx<'_>, _object: &mut Value, _manager: &str) {}

/// Tracks a change.
pub(crate) fn updated(_ctx: &Ctx<'_>, _new: &mut Value, _old: &Value, _manager: &str) {}
