use std::sync::Arc;

use base64::Engine;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use mizzen_api::signing_request::SigningRequest;
use mizzen_store::Snapshot;

use super::{Authority, approve, clean, sign};
use crate::plan::Write;
use crate::testing::{check, snapshot};

/// A request for `system:node:n` in `system:nodes`, made with openssl; its key is nowhere.
const NODE: &str = include_str!("node.csr");

/// Signs everything; `boot` may ask for nodes, nodes for themselves.
#[derive(Debug)]
struct Fake;

impl Authority for Fake {
    fn sign(
        &self,
        request: &SigningRequest,
        _usages: &[String],
        life: Option<SignedDuration>,
        _now: Timestamp,
    ) -> Result<String, String> {
        Ok(format!("{} for {life:?}", request.common_name))
    }

    fn may(&self, _: &Snapshot, who: &CertificateSigningRequestSpec, kind: &str) -> bool {
        match kind {
            "nodeclient" => who.username.as_deref() == Some("boot"),
            _ => who.groups.as_ref().is_some_and(|groups| groups.iter().any(|group| group == "system:nodes")),
        }
    }
}

const KEY: &str = "certificates.k8s.io/certificatesigningrequests//r";
const USAGES: &str = r#"spec.usages=["client\u0020auth","digital\u0020signature"]"#;

fn world(signer: &str, who: &str, more: &str) -> String {
    let request = base64::engine::general_purpose::STANDARD.encode(NODE);
    format!("csr/r spec.request={request} spec.signerName={signer} spec.username={who} {USAGES} {more}")
}

const KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";

#[test]
fn nodes_are_approved_if_who_asks_may() {
    let yes = "patch certificatesigningrequests/approval r";
    let group = r#"spec.groups=["system:nodes"]"#;
    for (case, signer, who, more, writes) in [
        ("a token for a new node", KUBELET, "boot", "", yes),
        ("a node for itself", KUBELET, "system:node:n", group, yes),
        ("a node for another", KUBELET, "system:node:m", group, ""),
        ("anyone", KUBELET, "ann", "", ""),
        ("another signer", "kubernetes.io/kube-apiserver-client", "boot", "", ""),
        ("denied", KUBELET, "boot", r#"status.conditions=[{"type":"Denied","status":"True"}]"#, ""),
        ("other usages", KUBELET, "boot", r#"spec.usages=["any"]"#, ""),
    ] {
        let approve = |s: &_, k: &_, t| approve::reconcile(s, k, t, &Fake);
        check(case, &world(signer, who, more), KEY, approve, writes);
    }
}

#[test]
fn what_is_approved_is_signed_or_failed() {
    let approved = r#"status.conditions=[{"type":"Approved","status":"True"}]"#;
    let now = Timestamp::UNIX_EPOCH;
    let status = |signer: &str, more: &str| {
        let plan = sign::reconcile(&snapshot(&world(signer, "u", more)), KEY, now, &Fake).unwrap();
        match plan.writes.into_iter().next() {
            Some(Write::Merge { subresource: "status", patch, .. }) => patch["status"].clone(),
            _ => serde_json::Value::Null,
        }
    };
    let signed = status(KUBELET, &format!("{approved} spec.expirationSeconds=600"));
    let text = base64::engine::general_purpose::STANDARD.decode(signed["certificate"].as_str().unwrap()).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), "system:node:n for Some(10m)");
    let failed = status(KUBELET, &format!("{approved} spec.usages=[\"any\"]"));
    assert_eq!(failed["conditions"][1]["reason"], "SignerValidationFailure");
    for (signer, more) in [
        (KUBELET, String::new()),
        (KUBELET, format!("{approved} status.certificate=eA==")),
        (
            KUBELET,
            r#"status.conditions=[{"type":"Approved","status":"True"},{"type":"Failed","status":"True"}]"#.into(),
        ),
        ("example.org/x", approved.to_string()),
    ] {
        assert!(status(signer, &more).is_null(), "{signer} {more}");
    }
}

#[test]
fn requests_go_when_they_are_done_with() {
    let at = |kind: &str, seconds: i64| {
        let time = Timestamp::from_second(1_000_000 - seconds).unwrap();
        format!(r#"status.conditions=[{{"type":"{kind}","status":"True","lastUpdateTime":"{time}"}}]"#)
    };
    let gone = "delete certificatesigningrequests r";
    for (case, more, writes) in [
        ("nobody decided for a day", String::new(), gone),
        ("denied just now", at("Denied", 3500), ""),
        ("denied", at("Denied", 3601), gone),
        ("failed", at("Failed", 3601), gone),
        ("approved, not signed", at("Approved", 3601), ""),
        ("approved, not signed for a day", at("Approved", 86_401), gone),
        ("signed", format!("{} status.certificate=eA==", at("Approved", 3601)), gone),
    ] {
        check(case, &world(KUBELET, "u", &more), KEY, clean::reconcile, writes);
    }
}

#[test]
fn all_three_act_as_one_identity() {
    let authority: Arc<dyn Authority> = Arc::new(Fake);
    assert!(super::controllers(&authority).iter().all(|one| one.identity == "certificate-controller"));
}
