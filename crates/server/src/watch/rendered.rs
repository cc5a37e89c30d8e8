//! Frames that were rendered a moment ago, for the other watchers of the same change.
//!
//! JSON in the stored version is copied from the store and needs none of this. Tables, metadata, other versions and
//! protobuf cost a parse and an encoding; a change wakes all its watchers together, and the first of them does the work.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use mizzen_api::kind::Kind;
use mizzen_store::{Entry, Revision};

use super::frame::Frames;
use crate::negotiate::Format;
use crate::shapes::Include;

/// Frames kept. Watchers of a change run together, so few changes are under way at a time.
const SLOTS: usize = 256;
/// Larger frames are not kept: all slots together stay below 16 MiB.
const LARGEST: usize = 64 << 10;

/// The frames, each in the place that its key says.
#[derive(Debug)]
pub(crate) struct Rendered {
    slots: Box<[ArcSwapOption<(Key, Bytes)>]>,
}

/// What a frame was made of and for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    revision: Revision,
    key: Arc<str>,
    /// `ADDED` and so on: watchers with different selectors see the same change differently.
    kind: &'static str,
    format: Format,
    include: Include,
    /// The first table of a watch has columns.
    columns: bool,
    /// The version of the kind; those that are built in lie in one place for ever.
    version: usize,
}

impl Default for Rendered {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| ArcSwapOption::empty()).collect() }
    }
}

impl Key {
    /// The key of a frame; `None` for kinds that can change while the server runs.
    pub fn of(frames: &Frames, kind: &'static str, entry: &Entry, at: Option<Revision>) -> Option<Self> {
        if frames.resource.definition.is_some() {
            return None;
        }
        let version: &Kind = &frames.resource.kind;
        Some(Self {
            revision: at.unwrap_or(entry.revision),
            key: Arc::clone(&entry.key),
            kind,
            format: frames.format,
            include: frames.include,
            columns: !frames.columns_sent,
            version: std::ptr::from_ref(version).addr(),
        })
    }

    fn place(&self) -> usize {
        let wanted = self.format.encoding as usize * 11 + self.include as usize * 5;
        let shape = wanted + usize::from(self.columns) + 2 * self.kind.len() + self.version / 64 + 7 * self.key.len();
        (self.revision.0 as usize).wrapping_mul(31).wrapping_add(shape) % SLOTS
    }
}

impl Rendered {
    /// The frame of this key: the one that is kept, or a new one.
    pub(super) fn frame(&self, key: Key, make: impl FnOnce() -> Bytes) -> Bytes {
        let slot = &self.slots[key.place()];
        if let Some(kept) = slot.load().as_ref().filter(|kept| kept.0 == key) {
            return kept.1.clone();
        }
        let frame = make();
        if frame.len() <= LARGEST {
            slot.store(Some(Arc::new((key, frame.clone()))));
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use mizzen_api::kinds::kinds;

    use super::*;
    use crate::registry::Resource;

    #[test]
    fn a_frame_is_made_once_for_all_that_want_the_same() {
        let rendered = Rendered::default();
        let frames = |format| Frames {
            resource: Resource::new(kinds().by_resource("", "v1", "pods").unwrap()),
            format,
            include: Include::Metadata,
            columns_sent: false,
        };
        let entry =
            |revision: u64| Entry::new("core/pods/a/b".into(), Bytes::new(), Revision(revision), Revision(1), 0..0);
        let protobuf = Format { encoding: crate::negotiate::Encoding::Protobuf, ..Format::JSON };
        let mut made = Vec::new();
        for (name, format, kind, revision, at) in [
            ("first", protobuf, "ADDED", 5, None),
            ("again", protobuf, "ADDED", 5, None),
            ("other type", protobuf, "MODIFIED", 5, None),
            ("other format", Format::JSON, "ADDED", 5, None),
            ("other revision", protobuf, "ADDED", 6, None),
            ("deletion", protobuf, "DELETED", 6, Some(Revision(9))),
            ("first once more", protobuf, "ADDED", 5, None),
        ] {
            let key = Key::of(&frames(format), kind, &entry(revision), at).unwrap();
            rendered.frame(key, || {
                made.push(name);
                Bytes::from_static(b"x")
            });
        }
        assert_eq!(made, ["first", "other type", "other format", "other revision", "deletion"]);
    }
}
