//! internal.apiserver.k8s.io/v1alpha1 StorageVersion.

use serde_json::Value;

use crate::kind::{Column, Rules};
use crate::rules::cells::{self, UNSET, list, scalar_or, text};
use crate::rules::plain::WITH_STATUS;

/// Rules of StorageVersions.
pub static STORAGE_VERSION: Rules = Rules { columns: VERSION_COLUMNS, row: version_row, ..WITH_STATUS };

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
