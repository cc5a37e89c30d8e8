//! Shapes of objects for those who do not want all of it: tables and metadata (api-facts §2.4).

use mizzen_api::kind::Kind;
use serde_json::{Map, Value, json};

use crate::negotiate::MetaVersion;
use crate::registry::Resource;
use crate::render::served;

/// What the rows of a table carry beside their cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    /// Nothing.
    None,
    /// The metadata.
    Metadata,
    /// The whole object.
    Object,
}

impl Include {
    /// The `includeObject` parameter.
    pub fn parse(parameter: Option<&str>) -> Self {
        match parameter {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        }
    }
}

/// `PartialObjectMetadata` of an object.
pub(crate) fn partial(object: &Value, version: MetaVersion) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": version.api_version(), "metadata": object["metadata"]})
}

/// The metadata of a table that shows one object.
pub(crate) fn single_metadata(object: &Value) -> Value {
    json!({"resourceVersion": object["metadata"]["resourceVersion"]})
}

/// One row of a table; `object` in its storage version, `now` in Unix seconds.
pub(crate) fn row(resource: &Resource, object: Value, version: MetaVersion, include: Include, now: i64) -> Value {
    let cells = resource.storage.row(&object, now);
    let mut row = Map::new();
    row.insert("cells".into(), cells.into());
    match include {
        Include::None => {}
        Include::Metadata => {
            row.insert("object".into(), partial(&object, version));
        }
        Include::Object => {
            row.insert("object".into(), served(resource, object));
        }
    }
    row.into()
}

/// A table. Column definitions are left out of all but the first table of a watch.
pub(crate) fn table(kind: &Kind, version: MetaVersion, metadata: Value, rows: Vec<Value>, columns: bool) -> Value {
    table_of(if columns { kind.columns() } else { Vec::new() }, version, metadata, rows)
}

/// A table with these columns.
pub(crate) fn table_of(definitions: Vec<Value>, version: MetaVersion, metadata: Value, rows: Vec<Value>) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": version.api_version(),
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}
