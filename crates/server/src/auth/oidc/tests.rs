use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Anonymous, AuthenticationConfiguration, Issuers};
use crate::callout::Callout;
use crate::callout::testing::Https;

/// An issuer's key.
struct Signer(EcdsaKeyPair, &'static str);

impl Signer {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap(), id)
    }

    fn jwk(&self) -> Value {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.1, "x": part(x), "y": part(y)})
    }

    fn sign(&self, algorithm: &str, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": algorithm, "kid": self.1})), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

fn config(issuer: &str, pem: &str, more: Value) -> AuthenticationConfiguration {
    let mut jwt = json!({
        "issuer": {"url": issuer, "audiences": ["mizzen"], "certificateAuthority": pem},
        "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}, "groups": {"claim": "groups", "prefix": ""}},
    });
    for (field, value) in more.as_object().unwrap() {
        jwt[field] = value.clone();
    }
    let text = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [jwt]});
    AuthenticationConfiguration::parse(&text.to_string()).unwrap()
}

/// An issuer on loopback, with the keys it shows and how often it was asked for them.
struct Issuer {
    https: Https,
    keys: Arc<Mutex<(Value, usize)>>,
}

impl Issuer {
    async fn start(keys: Value) -> Self {
        let keys = Arc::new(Mutex::new((keys, 0)));
        let shown = Arc::clone(&keys);
        let https = Https::start(move |port, path, _| {
            let url = format!("https://localhost:{port}");
            match path {
                "/.well-known/openid-configuration" => {
                    (200, json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string())
                }
                "/keys" => {
                    let mut shown = shown.lock().unwrap();
                    shown.1 += 1;
                    (200, json!({"keys": shown.0}).to_string())
                }
                _ => (404, String::new()),
            }
        });
        Self { https: https.await, keys }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.https.port)
    }
}

fn callout() -> Callout {
    Callout::new(None, TaskTracker::new(), CancellationToken::new())
}

fn now() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

#[tokio::test]
async fn tokens_of_an_issuer_are_taken_and_its_keys_rotate() {
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let issuer = Issuer::start(json!([one.jwk(), {"kty": "oct"}])).await;
    let configuration = config(&issuer.url(), &issuer.https.pem, json!({}));
    let issuers = Issuers::new(&configuration).unwrap();
    let callout = callout();
    let claims =
        json!({"iss": issuer.url(), "aud": ["x", "mizzen"], "sub": "ann", "groups": ["dev"], "exp": 1_790_000_100});
    let with = |field: &str, value: Value| {
        let mut claims = claims.clone();
        claims[field] = value;
        claims
    };
    let forged = one.sign("ES256", &claims).chars().rev().collect::<String>();
    for (case, token, user) in [
        ("as it should be", one.sign("ES256", &claims), Some("oidc:ann dev,system:authenticated")),
        ("one group", one.sign("ES256", &with("groups", "ops".into())), Some("oidc:ann ops,system:authenticated")),
        ("expired", one.sign("ES256", &with("exp", 1_789_999_999.into())), None),
        ("not yet", one.sign("ES256", &with("nbf", 1_790_000_999.into())), None),
        ("without end", one.sign("ES256", &with("exp", Value::Null)), None),
        ("for others", one.sign("ES256", &with("aud", "x".into())), None),
        ("of another issuer", one.sign("ES256", &with("iss", "https://example.org".into())), None),
        ("not signed", one.sign("none", &claims), None),
        ("by another algorithm", one.sign("RS256", &claims), None),
        ("forged", forged, None),
        ("no name", one.sign("ES256", &with("sub", 7.into())), None),
        ("by a key that is not shown", two.sign("ES256", &claims), None),
    ] {
        let who = issuers.identity(&callout, &token, now()).await;
        let shown = who.map(|who| format!("{} {}", who.user, who.groups.join(",")));
        assert_eq!(shown.as_deref(), user, "{case}");
    }
    assert_eq!(issuer.keys.lock().unwrap().1, 1, "unknown keys are not asked for each time");
    issuer.keys.lock().unwrap().0 = json!([two.jwk()]);
    let again = Issuers::new(&configuration).unwrap();
    assert!(again.identity(&callout, &two.sign("ES256", &claims), now()).await.is_some());
    assert!(again.identity(&callout, &one.sign("ES256", &claims), now()).await.is_none());
}

#[tokio::test]
async fn expressions_map_and_refuse() {
    let signer = Signer::new("k");
    let issuer = Issuer::start(json!([signer.jwk()])).await;
    let configuration = config(
        &issuer.url(),
        &issuer.https.pem,
        json!({
            "claimMappings": {
                "username": {"expression": "claims.email.lowerAscii()"},
                "groups": {"expression": "claims.roles.split(',')"},
                "uid": {"claim": "sub"},
                "extra": [{"key": "example.org/tenant", "valueExpression": "claims.tenant"}],
            },
            "claimValidationRules": [
                {"claim": "hd", "requiredValue": "example.org"},
                {"expression": "claims.email_verified == true", "message": "mail"},
            ],
            "userValidationRules": [{"expression": "!user.username.startsWith('system:')"}],
        }),
    );
    let issuers = Issuers::new(&configuration).unwrap();
    let claims = json!({"iss": issuer.url(), "aud": "mizzen", "sub": "7", "exp": 1_790_000_100, "email": "Ann@Example.org",
        "email_verified": true, "roles": "dev,ops", "tenant": "t", "hd": "example.org"});
    let callout = callout();
    let who = issuers.identity(&callout, &signer.sign("ES256", &claims), now()).await.unwrap();
    assert_eq!((who.user.as_str(), who.uid.as_str()), ("ann@example.org", "7"));
    assert_eq!(who.groups, ["dev", "ops", "system:authenticated"]);
    assert_eq!(who.extra["example.org/tenant"], ["t"]);
    for (field, value) in [
        ("email_verified", json!(false)),
        ("hd", json!("other")),
        ("email", json!("system:admin")),
        ("roles", json!(1)),
    ] {
        let mut claims = claims.clone();
        claims[field] = value;
        assert!(issuers.identity(&callout, &signer.sign("ES256", &claims), now()).await.is_none(), "{field}");
    }
}

#[test]
fn wrong_configurations_are_told() {
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";
    let jwt = |issuer: &str, more: &str| format!("{head}jwt:\n- issuer: {{{issuer}}}\n  claimMappings: {{{more}}}\n");
    let (good, name) = ("url: 'https://a', audiences: [x]", "username: {claim: sub, prefix: ''}");
    assert!(AuthenticationConfiguration::parse(&jwt(good, name)).is_ok());
    for (text, why) in [
        ("kind: Other\napiVersion: v1\n".to_string(), "not an AuthenticationConfiguration"),
        (jwt("url: 'http://a', audiences: [x]", name), "https"),
        (jwt("url: 'https://a', audiences: []", name), "audience"),
        (jwt("url: 'https://a', audiences: [x, y]", name), "MatchAny"),
        (jwt(good, "username: {claim: sub}"), "prefix is required"),
        (jwt(good, "username: {claim: sub, prefix: '', expression: claims.sub}"), "can't both be set"),
        (jwt(good, "username: {expression: 'claims.'}"), "username.expression"),
        (jwt(good, "username: {expression: '1 + 1'}"), "must not evaluate to int"),
        (jwt(good, "username: {expression: claims.email}"), "claims.email_verified must be used"),
        (jwt(good, &format!("{name}, extra: [{{key: 'kubernetes.io/x', valueExpression: claims.x}}]")), "reserved"),
        (jwt(good, &format!("{name}, extra: [{{key: X, valueExpression: claims.x}}]")), "lower-case path"),
        (format!("{head}anonymous: {{enabled: false, conditions: [{{path: /x}}]}}\n"), "enabled should be set"),
    ] {
        let error = AuthenticationConfiguration::parse(&text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let at = |text: &str| AuthenticationConfiguration::parse(&format!("{head}anonymous: {text}\n")).unwrap().anonymous;
    assert_eq!(at("{enabled: false}"), Anonymous::Nowhere);
    let some = at("{enabled: true, conditions: [{path: /livez}]}");
    assert!(some.takes("/livez") && !some.takes("/livez/ping") && at("{enabled: true}").takes("/x"));
}
