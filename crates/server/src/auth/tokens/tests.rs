use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use mizzen_store::Snapshot;
use serde_json::{Value, json};

use super::TokenIssuer;
use crate::auth::fixture::{object, snapshot};
use crate::auth::{Authenticator, jwt};
use crate::pki::TokenKeys;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn now() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

fn issuer() -> TokenIssuer {
    let dir = tempfile::tempdir().unwrap();
    TokenIssuer::new(Arc::new(TokenKeys::open(dir.path()).unwrap()), ISSUER.into(), Vec::new())
}

fn objects() -> Vec<Value> {
    let spec = |account: &str| json!({"spec": {"serviceAccountName": account, "nodeName": "n1", "containers": []}});
    vec![
        object("v1", "ServiceAccount", "ns/web", json!({})),
        object("v1", "Pod", "ns/a", spec("web")),
        object("v1", "Pod", "ns/other", spec("default")),
        object("v1", "Node", "n1", json!({})),
        object("v1", "Secret", "ns/s", json!({})),
    ]
}

fn create(issuer: &TokenIssuer, snapshot: &Snapshot, spec: Value) -> Result<Value, String> {
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let answer = issuer.create(snapshot, "ns", "web", &request, now(), "id-1");
    answer.map_err(|error| format!("{} {}", error.code, error.message))
}

fn claims(token: &str) -> Value {
    use base64::Engine;
    let body = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
}

#[test]
fn requests_are_checked() {
    let (issuer, snapshot) = (issuer(), snapshot(objects()));
    for (spec, error) in [
        (json!({}), None),
        (
            json!({"expirationSeconds": 599}),
            Some(
                "422 TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
            ),
        ),
        (
            json!({"expirationSeconds": 1_i64 << 33}),
            Some(
                "422 TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 8589934592: may not specify a duration larger than 2^32 seconds",
            ),
        ),
        (json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "a"}}), None),
        (json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "uid-a"}}), None),
        (
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "old"}}),
            Some("409 Operation cannot be fulfilled on pods \"a\": the UID in the bound object reference (old)"),
        ),
        (
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "gone"}}),
            Some("404 pods \"gone\" not found"),
        ),
        (
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "other"}}),
            Some("400 cannot bind token for serviceaccount \"web\" to pod running with different serviceaccount name."),
        ),
        (json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "s"}}), None),
        (json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Node", "name": "n1"}}), None),
        (
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "s"}}),
            Some("400 cannot bind token to object of type v1, Kind=ConfigMap"),
        ),
        (json!({"audiences": "x"}), Some("400 TokenRequest in version \"v1\" cannot be handled as a TokenRequest")),
    ] {
        let result = create(&issuer, &snapshot, spec.clone()).err();
        let fits = match (&result, error) {
            (Some(text), Some(error)) => text.starts_with(error),
            (got, wanted) => got.is_none() && wanted.is_none(),
        };
        assert!(fits, "{spec}: {result:?}");
    }
}

#[test]
fn claims_are_those_of_kubernetes() {
    let (issuer, snapshot) = (issuer(), snapshot(objects()));
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": "a"});
    let answer = create(&issuer, &snapshot, json!({"boundObjectRef": pod, "expirationSeconds": 3607})).unwrap();
    assert_eq!(answer["status"]["expirationTimestamp"], "2026-09-21T15:13:27Z");
    assert_eq!(answer["spec"]["audiences"], json!([ISSUER]));
    let iat = now().as_second();
    assert_eq!(
        claims(answer["status"]["token"].as_str().unwrap()),
        json!({
            "aud": [ISSUER], "exp": iat + 365 * 24 * 3600, "iat": iat, "iss": ISSUER, "jti": "id-1",
            "kubernetes.io": {
                "namespace": "ns",
                "node": {"name": "n1", "uid": "uid-n1"},
                "pod": {"name": "a", "uid": "uid-a"},
                "serviceaccount": {"name": "web", "uid": "uid-web"},
                "warnafter": iat + 3607,
            },
            "nbf": iat, "sub": "system:serviceaccount:ns:web",
        })
    );
    let other =
        create(&issuer, &snapshot, json!({"boundObjectRef": pod, "expirationSeconds": 3607, "audiences": ["vault"]}));
    assert_eq!(claims(other.unwrap()["status"]["token"].as_str().unwrap())["exp"], iat + 3607);
}

#[test]
fn tokens_are_valid_while_what_they_are_bound_to_exists() {
    let issuer = Arc::new(issuer());
    let all = snapshot(objects());
    let without = |name: &str| snapshot(objects().into_iter().filter(|object| object["metadata"]["name"] != name));
    let going = |seconds: i64| {
        let at = (now() - SignedDuration::from_secs(seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut objects = objects();
        objects[1]["metadata"]["deletionTimestamp"] = at.into();
        snapshot(objects)
    };
    let recreated = {
        let mut objects = objects();
        objects[1]["metadata"]["uid"] = "another".into();
        snapshot(objects)
    };
    let token = |spec: Value| create(&issuer, &all, spec).unwrap()["status"]["token"].as_str().unwrap().to_string();
    let bound =
        |kind: &str, name: &str| token(json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name}}));
    let (free, pod, node) = (token(json!({})), bound("Pod", "a"), bound("Node", "n1"));
    let vault = token(json!({"audiences": ["vault"]}));
    let minutes = SignedDuration::from_mins;
    let tampered = free.replacen(free.split('.').nth(1).unwrap(), pod.split('.').nth(1).unwrap(), 1);
    for (case, token, snapshot, at, valid) in [
        ("fresh", &free, &all, now(), true),
        ("before its end", &free, &all, now() + minutes(59), true),
        ("after its end and the leeway", &free, &all, now() + minutes(62), false),
        ("before its time", &free, &all, now() - minutes(2), false),
        ("account deleted", &free, &without("web"), now(), false),
        ("pod bound", &pod, &all, now(), true),
        ("pod deleted", &pod, &without("a"), now(), false),
        ("pod recreated", &pod, &recreated, now(), false),
        ("pod being deleted", &pod, &going(30), now(), true),
        ("pod should be gone", &pod, &going(90), now(), false),
        ("node of a pod's token deleted", &pod, &without("n1"), now(), true),
        ("node deleted", &node, &without("n1"), now(), false),
        ("another audience", &vault, &all, now(), false),
        ("claims of another token", &tampered, &all, now(), false),
        ("no token", &"abc".to_string(), &all, now(), false),
    ] {
        // Once through a fresh authenticator, and once more with its cache filled while all was well.
        let authenticator = Authenticator::new(Arc::clone(&issuer));
        let header = format!("Bearer {token}");
        let ask = |snapshot: &Snapshot, at| authenticator.authenticate(snapshot, at, None, Some(&header));
        assert_eq!(ask(snapshot, at).is_ok(), valid, "{case}");
        let _ = ask(&all, now());
        assert_eq!(ask(snapshot, at).is_ok(), valid, "{case}, cached");
    }
    let authenticator = Authenticator::new(Arc::clone(&issuer));
    let who = authenticator.authenticate(&all, now(), None, Some(&format!("Bearer {pod}"))).unwrap();
    assert_eq!(who.user, "system:serviceaccount:ns:web");
    assert_eq!(who.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]);
    assert_eq!(who.extra["authentication.kubernetes.io/pod-name"], ["a"]);
    assert_eq!(who.extra["authentication.kubernetes.io/node-uid"], ["uid-n1"]);
    assert_eq!(who.extra["authentication.kubernetes.io/credential-id"], ["JTI=id-1"]);
}

#[test]
fn forged_tokens_are_refused() {
    use base64::Engine;
    let encode = |text: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let (issuer, all) = (issuer(), snapshot(objects()));
    let token = create(&issuer, &all, json!({})).unwrap()["status"]["token"].as_str().unwrap().to_string();
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let kid = issuer.keys.signing_id();
    for (case, token) in [
        ("none", format!("{}.{claims}.", encode(format!("{{\"alg\":\"none\",\"kid\":{kid:?}}}")))),
        (
            "another algorithm",
            format!("{}.{claims}.{signature}", encode(format!("{{\"alg\":\"HS256\",\"kid\":{kid:?}}}"))),
        ),
        ("no signature", format!("{header}.{claims}.")),
        ("two parts", format!("{header}.{claims}")),
        ("four parts", format!("{token}.x")),
        ("padding", format!("{token}=")),
        ("long", format!("{token}{}", "A".repeat(10_000))),
        (
            "critical extension",
            format!(
                "{}.{claims}.{signature}",
                encode(format!("{{\"alg\":\"ES256\",\"kid\":{kid:?},\"crit\":[\"x\"]}}"))
            ),
        ),
    ] {
        assert!(jwt::verify::<Value>(&issuer.keys, &token).is_none(), "{case}");
    }
    assert!(jwt::verify::<Value>(&issuer.keys, &token).is_some());
    let stranger = super::TokenIssuer::new(Arc::clone(&issuer.keys), "https://other".into(), vec![ISSUER.into()]);
    assert!(stranger.verify(&all, &token, &[], now()).is_none(), "another issuer");
    assert_eq!(issuer.verify(&all, &token, &["x".into(), ISSUER.into()], now()).unwrap().1, [ISSUER]);
}

#[test]
fn a_secrets_token_lasts_as_long_as_the_secret() {
    use base64::Engine;
    let issuer = Arc::new(issuer());
    let token = issuer.for_secret("ns", "s", "web", "uid-web").unwrap();
    let world = |secret: Value, account: &str| {
        let held = base64::engine::general_purpose::STANDARD.encode(&token);
        let mut kept = object("v1", "Secret", "ns/s", json!({"data": {"token": held}}));
        for (field, value) in secret.as_object().unwrap() {
            kept[field] = value.clone();
        }
        snapshot([kept, object("v1", "ServiceAccount", account, json!({}))])
    };
    let mut revoked = json!({"metadata": {"name": "s", "namespace": "ns", "labels": {}}});
    revoked["metadata"]["labels"]["kubernetes.io/legacy-token-invalid-since"] = "2024-01-01".into();
    let authenticator = Authenticator::new(Arc::clone(&issuer));
    for (case, secret, account, user) in [
        ("there", json!({}), "ns/web", Some("system:serviceaccount:ns:web")),
        ("another token", json!({"data": {"token": "eA=="}}), "ns/web", None),
        ("revoked", revoked, "ns/web", None),
        ("no account", json!({}), "ns/other", None),
    ] {
        let state = world(secret, account);
        let header = format!("Bearer {token}");
        let who = authenticator.authenticate(&state, now(), None, Some(&header)).ok();
        assert_eq!(who.as_ref().map(|who| who.user.as_str()), user, "{case}");
        assert_eq!(issuer.verify(&state, &token, &[], now()).is_some(), user.is_some(), "{case}");
        assert!(issuer.verify(&state, &token, &["vault".into()], now()).is_none(), "{case}");
    }
    assert!(authenticator.authenticate(&snapshot([]), now(), None, Some(&format!("Bearer {token}"))).is_err());
}
