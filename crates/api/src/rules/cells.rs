//! What tables are made of: columns and the cells that most kinds share.

use serde_json::Value;

use crate::duration;
use crate::kind::Column;

impl Column {
    /// The first column of every table.
    pub const NAME: Column =
        Column { name: "Name", kind: "string", format: "name", description: "Name of the object.", priority: 0 };
    /// Time since creation.
    pub const AGE: Column = Column::text("Age", "Time since the object was created.");

    /// A column of texts.
    pub const fn text(name: &'static str, description: &'static str) -> Column {
        Column { name, kind: "string", format: "", description, priority: 0 }
    }

    /// A column of whole numbers.
    pub const fn integer(name: &'static str, description: &'static str) -> Column {
        Column { name, kind: "integer", format: "", description, priority: 0 }
    }

    /// A column of truth values.
    pub const fn boolean(name: &'static str, description: &'static str) -> Column {
        Column { name, kind: "boolean", format: "", description, priority: 0 }
    }

    /// The same column, shown only with `-o wide`.
    #[must_use]
    pub const fn wide(self) -> Column {
        Column { priority: 1, ..self }
    }
}

/// The row of kinds that show nothing of their own.
pub fn name_and_age(object: &Value, now: i64) -> Vec<Value> {
    vec![name(object), age(object, now)]
}

/// `metadata.name`.
pub fn name(object: &Value) -> Value {
    text(&object["metadata"]["name"]).into()
}

/// Time since `metadata.creationTimestamp`.
pub fn age(object: &Value, now: i64) -> Value {
    duration::since(&object["metadata"]["creationTimestamp"], now).into()
}

/// The string in `value`, empty if it is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
