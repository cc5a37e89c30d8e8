use jiff::Timestamp;

use super::{Cluster, Issuer, clean, cluster_info, service_account};
use crate::plan::Write;
use crate::testing::{check, snapshot};

#[derive(Debug)]
struct Fake;

impl Issuer for Fake {
    fn token(&self, namespace: &str, secret: &str, account: &str, uid: &str) -> Option<String> {
        Some(format!("{namespace} {secret} {account} {uid}"))
    }
}

fn complete(world: &str) -> Vec<Write> {
    let key = "core/secrets/a/t";
    service_account::reconcile(&snapshot(world), key, &Fake, "pem").unwrap().writes
}

const ASKS: &str = r#"secret/a/t .type=kubernetes.io/service-account-token .metadata.annotations={"kubernetes.io/service-account.name":"robot"}"#;

#[test]
fn a_secret_gets_the_token_it_asks_for() {
    let world = format!("{ASKS}; serviceaccount/a/robot");
    let writes = complete(&world);
    let [Write::Merge { patch, .. }] = &writes[..] else { panic!("{writes:?}") };
    assert_eq!(patch["metadata"]["annotations"]["kubernetes.io/service-account.uid"], "uid-robot");
    let data = &patch["data"];
    // base64 of "a t robot uid-robot", "pem", "a".
    assert_eq!(data["token"], "YSB0IHJvYm90IHVpZC1yb2JvdA==");
    assert_eq!((&data["ca.crt"], &data["namespace"]), (&"cGVt".into(), &"YQ==".into()));
    let done = r#"secret/a/t .type=kubernetes.io/service-account-token .metadata.annotations={"kubernetes.io/service-account.name":"robot","kubernetes.io/service-account.uid":"uid-robot"} .data={"token":"eA==","ca.crt":"cGVt","namespace":"YQ=="}"#;
    assert_eq!(complete(&format!("{done}; serviceaccount/a/robot")), []);
}

#[test]
fn without_its_account_it_goes() {
    let other = ASKS.replace("\"robot\"}", "\"robot\",\"kubernetes.io/service-account.uid\":\"another\"}");
    for (case, world, goes) in [
        ("no account", ASKS.to_string(), true),
        ("another account of the name", format!("{other}; serviceaccount/a/robot"), true),
        ("another type", format!("{ASKS} .type=Opaque"), false),
    ] {
        let writes = complete(&world);
        assert_eq!(matches!(writes[..], [Write::Delete { .. }]), goes, "{case}: {writes:?}");
    }
}

/// The test's time is 1970-01-12T13:46:40Z.
fn token(id: &str, end: &str, more: &str) -> String {
    use base64::Engine;
    let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let end = if end.is_empty() { String::new() } else { format!(r#","expiration":"{}""#, encoded(end)) };
    format!(
        r#"secret/kube-system/bootstrap-token-{id} .type=bootstrap.kubernetes.io/token .data={{"token-id":"{}","token-secret":"{}","usage-bootstrap-signing":"{}"{end}}} {more}"#,
        encoded(id),
        encoded("0123456789abcdef"),
        encoded("true"),
    )
}

#[test]
fn tokens_end() {
    for (case, end, writes) in [
        ("never", "", ""),
        ("later", "1970-01-12T13:46:41Z", ""),
        ("now", "1970-01-12T13:46:40Z", "delete secrets kube-system/bootstrap-token-abcdef"),
        ("with an offset", "1970-01-12T14:46:40+02:00", "delete secrets kube-system/bootstrap-token-abcdef"),
        ("unreadable", "tomorrow", "delete secrets kube-system/bootstrap-token-abcdef"),
    ] {
        check(
            case,
            &token("abcdef", end, ""),
            "core/secrets/kube-system/bootstrap-token-abcdef",
            clean::reconcile,
            writes,
        );
    }
}

#[test]
fn the_map_is_signed_by_the_tokens_there_are() {
    let cluster = Cluster { ca_pem: "pem".into(), server: "https://192.0.2.1:6443".into() };
    let plan = |world: &str| {
        cluster_info::reconcile(&snapshot(world), Timestamp::from_second(1_000_000).unwrap(), &cluster).unwrap().writes
    };
    assert_eq!(plan(""), []);
    let made = plan(&token("abcdef", "", ""));
    let [Write::Create { object }] = &made[..] else { panic!("{made:?}") };
    let data = object["data"].as_object().unwrap();
    assert!(data["kubeconfig"].as_str().unwrap().contains("https://192.0.2.1:6443"));
    let signature = data["jws-kubeconfig-abcdef"].as_str().unwrap();
    let map = |signature: &str, more: &str| {
        let config = data["kubeconfig"].as_str().unwrap().replace('"', "\\\"");
        format!(
            r#"configmap/kube-public/cluster-info .data={{"kubeconfig":"{config}","jws-kubeconfig-abcdef":"{signature}"{more}}}"#
        )
    };
    assert_eq!(plan(&format!("{}; {}", token("abcdef", "", ""), map(signature, ""))), []);
    for (case, world, changed) in [
        ("token gone", map(signature, ""), ("jws-kubeconfig-abcdef", true)),
        (
            "token over",
            format!("{}; {}", token("abcdef", "1970-01-12T13:46:40Z", ""), map(signature, "")),
            ("jws-kubeconfig-abcdef", true),
        ),
        ("wrong signature", format!("{}; {}", token("abcdef", "", ""), map("x", "")), ("jws-kubeconfig-abcdef", false)),
        (
            "another token",
            format!("{}; {}; {}", token("abcdef", "", ""), token("abcdeg", "", ""), map(signature, "")),
            ("jws-kubeconfig-abcdeg", false),
        ),
    ] {
        let writes = plan(&world);
        let [Write::Merge { patch, .. }] = &writes[..] else { panic!("{case}: {writes:?}") };
        let (name, removed) = changed;
        assert_eq!(patch["data"].as_object().unwrap().keys().collect::<Vec<_>>(), [name], "{case}");
        assert_eq!(patch["data"][name].is_null(), removed, "{case}");
    }
}
