use bytes::Bytes;
use http::Method;

use super::file::{FileOptions, Log};
use super::policy::{Level, Policy};
use super::webhook::list;
use crate::auth::Identity;
use crate::query::Query;
use crate::request::RequestInfo;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, users: ['system:quiet']}
- {level: None, nonResourceURLs: ['/healthz*', /version]}
- {level: Metadata, resources: [{group: '', resources: [secrets, pods/log]}]}
- {level: RequestResponse, resources: [{group: apps, resources: ['*/scale']}], omitManagedFields: false}
- {level: Request, verbs: [create], userGroups: [dev], namespaces: [shop], omitStages: [ResponseStarted]}
- {level: Request, resources: [{group: '', resources: [configmaps], resourceNames: [special]}]}
- {level: None, resources: [{group: batch}]}
- {level: Metadata}
";

#[test]
fn the_first_rule_that_matches_counts() {
    let policy = Policy::parse(POLICY).unwrap();
    for (user, method, path, level) in [
        ("system:quiet", "GET", "/api/v1/pods", Level::None),
        ("ann", "GET", "/healthz/ping", Level::None),
        ("ann", "GET", "/version", Level::None),
        ("ann", "GET", "/versions", Level::Metadata),
        ("ann", "POST", "/api/v1/namespaces/shop/secrets", Level::Metadata),
        ("ann", "GET", "/api/v1/namespaces/shop/pods/a/log", Level::Metadata),
        ("ann", "PUT", "/apis/apps/v1/namespaces/shop/deployments/a/scale", Level::RequestResponse),
        ("ann", "POST", "/api/v1/namespaces/shop/pods", Level::Request),
        ("bob", "POST", "/api/v1/namespaces/shop/pods", Level::Metadata),
        ("bob", "GET", "/api/v1/namespaces/x/configmaps/special", Level::Request),
        ("bob", "GET", "/api/v1/namespaces/x/configmaps/other", Level::Metadata),
        ("bob", "GET", "/apis/batch/v1/namespaces/x/jobs", Level::None),
    ] {
        let mut who = Identity::part(user);
        if user == "ann" {
            who.groups.push("dev".into());
        }
        let info = RequestInfo::parse(&Method::from_bytes(method.as_bytes()).unwrap(), path, &Query::default());
        let verdict = policy.verdict(&who, &info, path);
        assert_eq!(verdict.level, level, "{user} {method} {path}");
        let also_by_rule = level == Level::Request && user == "ann";
        assert_eq!(verdict.omit.len(), 1 + usize::from(also_by_rule), "{user} {method} {path}");
        assert!(verdict.omit_managed_fields != (level == Level::RequestResponse) || level == Level::None, "{path}");
    }
}

#[test]
fn wrong_policies_are_told() {
    let rule = |text: &str| format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- {text}\n");
    for (text, why) in [
        ("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\n".to_string(), "not a Policy"),
        ("apiVersion: audit.k8s.io/v1\nkind: Policy\n".to_string(), "1 to 1000 rules"),
        (rule("{level: Some}"), "Some"),
        (rule("{level: None, user: [a]}"), "user"),
        (rule("{level: None, namespaces: [a], nonResourceURLs: [/a]}"), "both"),
        (rule("{level: None, nonResourceURLs: [a]}"), "slash"),
        (rule("{level: None, nonResourceURLs: ['/a*b']}"), "star"),
        (rule("{level: None, resources: [{resourceNames: [a]}]}"), "at least one resource"),
    ] {
        let error = Policy::parse(&text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn full_files_are_put_aside_and_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let options = FileOptions { path: dir.path().join("logs/audit.log"), bytes_max: 40, kept: 2 };
    std::fs::create_dir(dir.path().join("logs")).unwrap();
    std::fs::write(dir.path().join("logs/audit-notes.log"), "not ours").unwrap();
    let mut log = Log::open(options.clone()).unwrap();
    for number in 10..30 {
        log.write(&[Bytes::from(format!("event {number}")), Bytes::from(format!("again {number}"))]).unwrap();
    }
    drop(log);
    let mut names: Vec<String> = std::fs::read_dir(dir.path().join("logs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    let text = |name: &str| std::fs::read_to_string(dir.path().join("logs").join(name)).unwrap();
    let kept: String = [&names[0], &names[1], &names[3]].map(|name| text(name)).concat();
    assert!(kept.ends_with("event 29\nagain 29\n") && !kept.contains("event 10"), "{kept}");
    assert!(names.iter().all(|name| text(name).len() <= 40));
    assert_eq!(text("audit-notes.log"), "not ours");
    // A restart goes on with the file that is there.
    Log::open(options).unwrap().write(&[Bytes::from_static(b"later")]).unwrap();
}

#[test]
fn lists_are_json() {
    let list: serde_json::Value =
        serde_json::from_slice(&list(&[Bytes::from_static(b"{}"), Bytes::from_static(b"{}")])).unwrap();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&"EventList".into(), 2));
}
