use super::*;
use crate::testing;

fn check(case: &str, world: &str, key: &str, writes: &str) {
    let decide = |snapshot: &Snapshot, key: &str, now| {
        let (owners, _) = Owners::of(snapshot);
        reconcile(snapshot, key, now, &owners)
    };
    testing::check(case, world, key, decide, writes);
}

#[test]
fn dependents_go_when_no_owner_is_left() {
    for (case, world, writes) in [
        ("no owners", "cm/d/a", ""),
        ("the owner is there", "cm/d/a owner=ConfigMap/o; cm/d/o", ""),
        ("the owner is gone", "cm/d/a owner=ConfigMap/o", "delete configmaps d/a"),
        ("another has its name", "cm/d/a owner=ConfigMap/o; cm/d/o metadata.uid=new", "delete configmaps d/a"),
        ("the owner is in another namespace", "cm/d/a owner=ConfigMap/o; cm/e/o", "delete configmaps d/a"),
        ("the owner is cluster-scoped", "cm/d/a owner=Node/o; node/o", ""),
        ("one owner is left", "cm/d/a owner=ConfigMap/o owner=ConfigMap/p; cm/d/p", "patch configmaps d/a"),
        ("going already", "cm/d/a owner=ConfigMap/o deleting finalizer=x", ""),
        (
            "one owner waits, one stays",
            "cm/d/a owner=ConfigMap/o owner=ConfigMap/p; cm/d/o deleting finalizer=foregroundDeletion; cm/d/p",
            "patch configmaps d/a",
        ),
        (
            "the only owner waits",
            "cm/d/a owner=ConfigMap/o; cm/d/o deleting finalizer=foregroundDeletion",
            "delete configmaps d/a",
        ),
    ] {
        check(case, world, "core/configmaps/d/a", writes);
    }
    check("a namespaced owner of a node", "node/a owner=ConfigMap/o", "core/nodes//a", "");
}

#[test]
fn owners_wait_for_their_dependents() {
    let foreground = "cm/d/o deleting finalizer=foregroundDeletion";
    let orphan = "cm/d/o deleting finalizer=orphan";
    for (case, rest, owner, writes) in [
        ("nothing is left", "", foreground, "patch configmaps d/o"),
        ("a dependent blocks", "cm/d/a blocked-by=ConfigMap/o", foreground, ""),
        ("a dependent does not block", "cm/d/a owner=ConfigMap/o", foreground, "patch configmaps d/o"),
        ("dependents are released first", "cm/d/a owner=ConfigMap/o", orphan, "patch configmaps d/a"),
        ("all are released", "cm/d/a", orphan, "patch configmaps d/o"),
    ] {
        check(case, &format!("{owner}; {rest}"), "core/configmaps/d/o", writes);
    }
}

#[test]
fn a_circle_of_owners_is_broken() {
    let world = "cm/d/a blocked-by=ConfigMap/b deleting finalizer=foregroundDeletion; cm/d/b blocked-by=ConfigMap/a";
    check("b no longer holds up a", world, "core/configmaps/d/b", "patch configmaps d/b");
    let world = "cm/d/a blocked-by=ConfigMap/b deleting finalizer=foregroundDeletion; cm/d/b owner=ConfigMap/a";
    check("so a may go", world, "core/configmaps/d/a", "patch configmaps d/a");
    check("and b as well", world, "core/configmaps/d/b", "delete configmaps d/b");
}

#[test]
fn changes_wake_whom_they_concern() {
    use mizzen_store::{Change, Event, Revision};
    let world = "cm/d/o; cm/d/a owner=ConfigMap/o; cm/d/b";
    let snapshot = testing::snapshot(world);
    let (mut owners, first) = Owners::of(&snapshot);
    assert_eq!(first, ["core/configmaps/d/a"]);
    let entry = |key: &str| Arc::clone(snapshot.get(key).unwrap());
    let event = |change| Event { revision: Revision(9), change };
    let gone = event(Change::Delete { previous: entry("core/configmaps/d/o") });
    assert_eq!(owners.follow(&snapshot, &gone), ["core/configmaps/d/a"]);
    let same = event(Change::Put { entry: entry("core/configmaps/d/a"), previous: Some(entry("core/configmaps/d/a")) });
    assert!(owners.follow(&snapshot, &same).is_empty());
    let gone = event(Change::Delete { previous: entry("core/configmaps/d/a") });
    owners.follow(&snapshot, &gone);
    assert_eq!(owners.dependents("uid-o").count(), 0);
}
