//! Reads the table of kinds from its compact form: see the head of `data/kinds.tsv`.

use crate::kind::{Kind, Name, Subresource};
use crate::rules;

const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A group, version and plural as they are served, and the group and version of storage.
type StoredElsewhere = (&'static str, &'static str, &'static str, (&'static str, &'static str));

/// Resources stored in another group or version than some of those they are served in.
const STORED_ELSEWHERE: &[StoredElsewhere] = &[
    ("autoscaling", "v1", "horizontalpodautoscalers", ("autoscaling", "v2")),
    ("events.k8s.io", "v1", "events", ("", "v1")),
];

/// The kinds in the order of the file.
///
/// # Panics
/// When the file, which is part of the program, is malformed; a test reads all of it.
pub(super) fn read(text: &'static str) -> &'static [Kind] {
    let mut kinds: Vec<Kind> = Vec::new();
    let mut subresources: Vec<Subresource> = Vec::new();
    let attach = |kinds: &mut Vec<Kind>, subresources: &mut Vec<Subresource>| {
        if let Some(last) = kinds.last_mut() {
            last.subresources = std::mem::take(subresources);
        }
    };
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let cells: Vec<&'static str> = line.split('\t').collect();
        match cells.as_slice() {
            ["kind", cells @ ..] => {
                attach(&mut kinds, &mut subresources);
                kinds.push(kind(cells));
            }
            ["sub", name, group, version, kind, verbs] => {
                let parent = || kinds.last().map(|k| (k.group.clone(), k.version.clone())).unwrap_or_default();
                let own = || (Name::Borrowed(*group), Name::Borrowed(*version));
                let (group, version) = if *version == "-" { parent() } else { own() };
                subresources.push(Subresource {
                    name,
                    group,
                    version,
                    kind: Name::Borrowed(*kind),
                    verbs: list(verbs),
                });
            }
            _ => panic!("kinds.tsv: bad line {line:?}"),
        }
    }
    attach(&mut kinds, &mut subresources);
    kinds.leak()
}

fn kind(cells: &[&'static str]) -> Kind {
    let [group, version, plural, singular, kind, scope, verbs, short_names, categories] = cells else {
        panic!("kinds.tsv: a kind has nine cells, not {cells:?}");
    };
    let group = if *group == "core" { "" } else { *group };
    let elsewhere = STORED_ELSEWHERE.iter().find(|(g, v, p, _)| (*g, *v, *p) == (group, *version, *plural));
    let (storage_group, storage_version) = elsewhere.map_or((group, *version), |(.., stored)| *stored);
    Kind {
        group: group.into(),
        version: (*version).into(),
        kind: (*kind).into(),
        list_kind: format!("{kind}List").into(),
        plural: (*plural).into(),
        singular: (*singular).into(),
        short_names: names(short_names),
        categories: names(categories),
        namespaced: *scope == "N",
        verbs: list(verbs),
        subresources: Vec::new(),
        storage_group: storage_group.into(),
        storage_version: storage_version.into(),
        rules: rules::of(group, plural),
        custom: None,
    }
}

fn names(cell: &'static str) -> Vec<Name> {
    list(cell).iter().copied().map(Name::Borrowed).collect()
}

fn list(cell: &'static str) -> &'static [&'static str] {
    match cell {
        "-" => &[],
        "*" => ALL_VERBS,
        some => some.split(',').collect::<Vec<_>>().leak(),
    }
}
