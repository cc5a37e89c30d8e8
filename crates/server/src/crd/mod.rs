//! Custom resources: the kinds that CustomResourceDefinitions make, and their objects (api-facts §8).
//!
//! [`Definitions`] keeps each stored definition compiled. It is asked with a snapshot and answers as of that snapshot: a
//! definition is served from the moment it is established, without anybody having to be told. [`objects`] reads and
//! writes objects in the version of a request, which need not be the one they are stored in.

mod convert;
mod objects;
pub(crate) mod rules;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use mizzen_api::crd::{CLEANUP_FINALIZER, Definition, compare_versions};
use mizzen_api::key;
use mizzen_api::kind::KindRef;
use mizzen_api::status::ApiError;
use mizzen_store::{Entry, Expect, Revision, Snapshot};
use serde_json::{Value, json};

use crate::dispatch::Ctx;
use crate::registry::commit::Sides;
use crate::registry::prepare;

pub(crate) use convert::convert;
pub(crate) use objects::{current, current_all, renew, served, storable, translated};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";

/// A definition as stored at one revision.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// What it says.
    pub definition: Definition,
    /// The revision of the definition; objects written later were written under it.
    pub revision: Revision,
    /// The revision since which its spec has been what it is, as far as this server saw.
    pub since: Revision,
    uid: String,
    generation: i64,
}

/// The definitions that were asked for, compiled once for each change.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    compiled: ArcSwap<HashMap<Arc<str>, Arc<Compiled>>>,
}

impl Definitions {
    /// The kind that is served in a group, version and plural, with its definition.
    pub fn find(
        &self,
        snapshot: &Snapshot,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Option<(KindRef, Arc<Compiled>)> {
        let compiled = self.get(snapshot, group, plural)?;
        Some((compiled.definition.serves(version)?, compiled))
    }

    /// The definition of a resource, served or not.
    pub fn get(&self, snapshot: &Snapshot, group: &str, plural: &str) -> Option<Arc<Compiled>> {
        let entry = snapshot.get(&definition_key(group, plural))?;
        Some(self.compiled(snapshot, entry))
    }

    /// All kinds that discovery tells, by group, version and name.
    pub fn told(&self, snapshot: &Snapshot) -> Vec<KindRef> {
        let prefix = key::resource_prefix(GROUP, PLURAL);
        let definitions = snapshot.prefix(&prefix).map(|entry| self.compiled(snapshot, entry));
        let mut kinds: Vec<KindRef> = definitions.flat_map(|c| c.definition.told().collect::<Vec<_>>()).collect();
        kinds.sort_by(|a, b| {
            let version = || compare_versions(&a.version, &b.version);
            a.group.cmp(&b.group).then_with(version).then_with(|| a.plural.cmp(&b.plural))
        });
        kinds
    }

    /// What is different whenever any definition is: nothing has the number of definitions and the newest revision among
    /// them in common with an older state but the very same definitions.
    pub fn fingerprint(snapshot: &Snapshot) -> (usize, Revision) {
        let prefix = key::resource_prefix(GROUP, PLURAL);
        snapshot.prefix(&prefix).fold((0, Revision(0)), |(count, newest), e| (count + 1, newest.max(e.revision)))
    }

    fn compiled(&self, snapshot: &Snapshot, entry: &Arc<Entry>) -> Arc<Compiled> {
        let known = self.compiled.load();
        let before = known.get(&entry.key);
        if let Some(compiled) = before.filter(|c| c.revision == entry.revision) {
            return Arc::clone(compiled);
        }
        let compiled = Arc::new(Compiled::read(entry, before.map(Arc::as_ref)));
        self.compiled.rcu(|all| {
            // Those that are gone are forgotten when another changes.
            let mut all: HashMap<Arc<str>, Arc<Compiled>> = all
                .iter()
                .filter(|(k, _)| snapshot.get(k).is_some())
                .map(|(k, v)| (Arc::clone(k), Arc::clone(v)))
                .collect();
            all.insert(Arc::clone(&entry.key), Arc::clone(&compiled));
            all
        });
        compiled
    }
}

impl Compiled {
    fn read(entry: &Entry, before: Option<&Compiled>) -> Self {
        let object: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_string();
        let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
        let same = before.filter(|b| b.uid == uid && b.generation == generation && b.revision < entry.revision);
        let since = same.map_or(entry.revision, |b| b.since);
        Self { definition: Definition::read(&object, rules::compile), revision: entry.revision, since, uid, generation }
    }
}

/// Nothing is created under a definition that is on its way out, or that changes meanwhile: whoever clears up after it
/// would not see the object.
pub(crate) fn still_defined(
    ctx: &Ctx<'_>,
    snapshot: &Snapshot,
    object: &Value,
    sides: &mut Sides,
) -> Result<(), ApiError> {
    if ctx.resource.definition.is_none() {
        return Ok(());
    }
    let (group, plural) = (&ctx.kind().group, &ctx.kind().plural);
    let compiled = ctx.core.definitions.get(snapshot, group, plural).ok_or_else(ApiError::no_resource)?;
    if compiled.definition.is_terminating {
        let why = "create not allowed while custom resource definition is terminating";
        return Err(ApiError::forbidden(ctx.kind().subject(), prepare::text(object, "name"), why));
    }
    sides.expect.push((definition_key(group, plural), Expect::At(compiled.revision)));
    Ok(())
}

/// A definition that is deleted stays until its objects are gone; the controller of definitions sees to that.
pub(crate) fn hold(object: &mut Value, now: Timestamp) {
    if object["kind"] != "CustomResourceDefinition" || object["apiVersion"] != "apiextensions.k8s.io/v1" {
        return;
    }
    let mut finalizers: Vec<String> = prepare::finalizers(object).into_iter().map(str::to_string).collect();
    if !finalizers.iter().any(|f| f == CLEANUP_FINALIZER) {
        finalizers.push(CLEANUP_FINALIZER.into());
        prepare::metadata(object).insert("finalizers".into(), finalizers.into());
    }
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    let condition = json!({"type": "Terminating", "status": "True", "lastTransitionTime": prepare::time(now),
        "reason": "InstanceDeletionPending", "message": message});
    match object["status"]["conditions"].as_array_mut() {
        Some(conditions) => {
            conditions.retain(|c| c["type"] != "Terminating");
            conditions.push(condition);
        }
        None => object["status"]["conditions"] = json!([condition]),
    }
}

/// Where the definition of a resource is stored.
pub(crate) fn definition_key(group: &str, plural: &str) -> String {
    key::object(GROUP, PLURAL, "", &format!("{plural}.{group}"))
}
