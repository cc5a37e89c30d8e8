//! Discovery and OpenAPI documents: made once, served with their ETags (api-facts §1.1, §1.2).

mod openapi;

use std::cell::LazyCell;
use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};
use mizzen_api::discovery::{self, AGGREGATED_CONTENT_TYPE};
use mizzen_api::kind::KindRef;
use mizzen_api::kinds::kinds;
use mizzen_store::{Revision, Snapshot};
use serde_json::Value;

use crate::aggregation;
use crate::answer::Answer;
use crate::crd::Definitions;
use crate::dispatch::Head;
use crate::node_metrics;
use crate::server::Core;

/// A document and its hash: upper-case hex of SHA-512.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    bytes: Bytes,
    hash: String,
}

impl Document {
    /// From JSON.
    pub fn new(value: &Value) -> Self {
        let bytes: Bytes = value.to_string().into();
        let hash = hex(ring::digest::digest(&ring::digest::SHA512, &bytes).as_ref());
        Self { bytes, hash }
    }

    /// The document, or 304 where the client has it.
    fn answer(&self, head: &Head<'_>, content_type: &'static str) -> Answer {
        let tag = format!("\"{}\"", self.hash);
        let answer = if head.header(IF_NONE_MATCH) == tag {
            Answer::bytes(304, "", "")
        } else {
            Answer::bytes(200, content_type, self.bytes.clone())
        };
        answer.with_header(ETAG, &tag).with_header(VARY, "Accept").with_header(CACHE_CONTROL, "public")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

/// The aggregated documents of `/api` and `/apis` as of a state of the definitions.
#[derive(Debug)]
struct Aggregated {
    of: ((usize, Revision), u64),
    core: Document,
    groups: Document,
}

/// Documents that were made before, to be used as long as they hold.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    aggregated: ArcSwapOption<Aggregated>,
    v2_tags: ArcSwapOption<openapi::Tags>,
}

impl Documents {
    fn aggregated(&self, core: &Core) -> Arc<Aggregated> {
        let snapshot = core.store.snapshot();
        let of = (Definitions::fingerprint(&snapshot), core.aggregation.generation(&snapshot));
        if let Some(made) = self.aggregated.load_full().filter(|made| made.of == of) {
            return made;
        }
        let all = all(core, &snapshot);
        let document = |core| discovery::aggregated(all.iter().map(|k| &**k), core);
        let groups = aggregation::merge_aggregated(&core.aggregation, &snapshot, document(false));
        let made = Arc::new(Aggregated { of, core: Document::new(&document(true)), groups: Document::new(&groups) });
        self.aggregated.store(Some(Arc::clone(&made)));
        made
    }
}

/// Answers `/api`, `/apis` and what is below them, and `/openapi`.
pub(crate) fn answer(core: &Core, head: &Head<'_>, path: &str) -> Option<Answer> {
    let all = LazyCell::new(|| all(core, &core.store.snapshot()));
    let kinds = || all.iter().map(|k| &**k);
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let document = match parts.as_slice() {
        ["api"] if wants_aggregated(head.header(ACCEPT)) => {
            return Some(core.documents.aggregated(core).core.answer(head, AGGREGATED_CONTENT_TYPE));
        }
        ["apis"] if wants_aggregated(head.header(ACCEPT)) => {
            return Some(core.documents.aggregated(core).groups.answer(head, AGGREGATED_CONTENT_TYPE));
        }
        ["api"] => discovery::api_versions(&format!("{}:{}", core.config.advertise, core.config.port)),
        ["apis"] => {
            aggregation::merge_group_list(&core.aggregation, &core.store.snapshot(), discovery::group_list(kinds()))
        }
        ["apis", group] => {
            let own = discovery::group(kinds(), group);
            aggregation::merge_group(&core.aggregation, &core.store.snapshot(), group, own)?
        }
        ["openapi", rest @ ..] => return openapi::answer(core, head, rest),
        ["api", version] => discovery::resources(kinds(), "", version)?,
        ["apis", group, version] => discovery::resources(kinds(), group, version)?,
        _ => return None,
    };
    Some(Answer::json(200, &document).with_header(VARY, "Accept"))
}

/// All that is served, in discovery's order.
fn all(core: &Core, snapshot: &Snapshot) -> Vec<KindRef> {
    let built_in = kinds().iter().chain(node_metrics::kinds()).map(KindRef::BuiltIn);
    let all = built_in.chain(core.definitions.told(snapshot));
    let services = core.aggregation.services(snapshot);
    if !services.has_remote() {
        return all.collect();
    }
    all.filter(|kind| services.remote(&kind.group, &kind.version).is_none()).collect()
}

/// Whether the first clause that fits is for the aggregated form.
fn wants_aggregated(accept: &str) -> bool {
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        if !matches!(parts.next(), Some("application/json" | "application/*" | "*/*")) {
            continue;
        }
        let parameters: HashMap<&str, &str> = parts.filter_map(|p| p.split_once('=')).collect();
        let Some(kind) = parameters.get("as") else { return false };
        let (group, version) = (parameters.get("g"), parameters.get("v"));
        if *kind == "APIGroupDiscoveryList" && group == Some(&"apidiscovery.k8s.io") && version == Some(&"v2") {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::wants_aggregated;

    #[test]
    fn clients_get_the_form_they_know() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        for (accept, expected) in [
            (format!("{v2},{beta},application/json"), true),
            (format!("{beta},application/json"), false),
            (format!("{v2};profile=nopeer"), true),
            ("application/json".to_string(), false),
            (format!("application/json,{v2}"), false),
            (String::new(), false),
        ] {
            assert_eq!(wants_aggregated(&accept), expected, "{accept}");
        }
    }
}
