//! How many seats a request takes: lists and watches that begin with a list take more than one.

use mizzen_store::Snapshot;

use crate::query::Query;
use crate::request::RequestInfo;

/// Most seats of one request.
const MOST: u64 = 10;
/// Bytes of stored objects that one seat stands for. A list of a mebibyte takes about a millisecond, as a write does from
/// its first byte to the answer.
const BYTES_PER_SEAT: u64 = 1 << 20;

/// The seats of a request, judged by what the resource amounts to and how much of it is asked for.
pub fn width(info: &RequestInfo<'_>, query: &Query, snapshot: &Snapshot) -> u32 {
    let lists = match info.verb {
        "list" | "deletecollection" => true,
        "watch" => matches!(query.get("resourceVersion"), None | Some("0")) || query.flag("sendInitialEvents"),
        _ => false,
    };
    if !lists || !info.name.is_empty() {
        return 1;
    }
    let group = if info.group.is_empty() { "core" } else { &info.group };
    let lane = snapshot.resource(&format!("{group}/{}/", info.resource));
    let limit = query.get("limit").and_then(|text| text.parse::<u64>().ok()).filter(|limit| *limit > 0);
    let part = match limit {
        // A selector may have to look at many to find a few.
        Some(limit) if query.get("labelSelector").is_none() && query.get("fieldSelector").is_none() => limit,
        _ => u64::MAX,
    };
    let bytes = if part < lane.objects { lane.bytes / lane.objects * part } else { lane.bytes };
    u32::try_from(bytes.div_ceil(BYTES_PER_SEAT).clamp(1, MOST)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Method;
    use mizzen_store::{Entry, Revision};

    use super::*;

    #[test]
    fn lists_take_seats_by_their_size() {
        let entries = (0..40).map(|i| {
            let key = format!("core/configmaps/a/{i:02}");
            Entry::new(key.into(), Bytes::from(vec![b'x'; 100 << 10]), Revision(1), Revision(1), 0..0)
        });
        let snapshot: Snapshot = entries.collect();
        for (path, query, expected) in [
            ("/api/v1/configmaps", "", 4),
            ("/api/v1/namespaces/a/configmaps", "limit=10", 1),
            ("/api/v1/configmaps", "limit=25", 3),
            ("/api/v1/configmaps", "limit=25&labelSelector=a", 4),
            ("/api/v1/configmaps", "limit=500", 4),
            ("/api/v1/configmaps", "fieldSelector=metadata.name=x", 1),
            ("/api/v1/namespaces/a/configmaps/x", "", 1),
            ("/api/v1/configmaps", "watch=1&resourceVersion=7", 1),
            ("/api/v1/configmaps", "watch=1", 4),
            ("/api/v1/configmaps", "watch=1&resourceVersion=7&sendInitialEvents=true", 4),
            ("/api/v1/secrets", "", 1),
        ] {
            let query = Query::parse(query);
            let info = RequestInfo::parse(&Method::GET, path, &query);
            assert_eq!(width(&info, &query, &snapshot), expected, "{path} {query:?}");
        }
    }
}
