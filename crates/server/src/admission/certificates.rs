//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction: who may have certificates made, and for whom.
//! A new request also learns here who sent it, which approvers go by.

use base64::Engine;
use mizzen_api::signing_request::{CLIENT_SIGNER, SigningRequest};
use mizzen_api::status::ApiError;
use serde_json::Value;

use super::plugin::Plugin;
use super::pods::{items, text};
use super::{Admitted, Operation, Request};
use crate::auth::{Attributes, MASTERS};
use crate::peers;

pub const PLUGIN: Plugin =
    Plugin { resources: &[(GROUP, "certificatesigningrequests")], mutate: Some(sign_in), validate: Some(check) };

const GROUP: &str = "certificates.k8s.io";

/// Notes who sends a new request, whatever it says itself, and when something was decided.
fn sign_in(request: &Request<'_>, object: &mut Value, old: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    if request.operation == Operation::Update && matches!(request.subresource, "approval" | "status") {
        date_conditions(object, old, request.now);
    }
    if request.operation == Operation::Create
        && request.subresource.is_empty()
        && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
        && let Value::Object(user) = request.identity.to_user_info()
    {
        for field in ["username", "uid", "groups", "extra"] {
            spec.shift_remove(field);
        }
        spec.extend(user);
    }
    Ok(())
}

/// Conditions without times get them; one that was there with the same status keeps its transition.
fn date_conditions(object: &mut Value, old: Option<&Value>, now: jiff::Timestamp) {
    let now = Value::from(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let before = old.map(|old| items(&old["status"], "conditions")).unwrap_or_default();
    let conditions = object["status"].get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter(|condition| condition.is_object()) {
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.clone();
        }
        if condition["lastTransitionTime"].is_null() {
            let same =
                before.iter().find(|old| old["type"] == condition["type"] && old["status"] == condition["status"]);
            let since = same.map(|same| &same["lastTransitionTime"]).filter(|since| !since.is_null());
            condition["lastTransitionTime"] = since.unwrap_or(&now).clone();
        }
    }
}

fn check(request: &Request<'_>, object: &Value, old: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    let signer = text(&old.unwrap_or(object)["spec"], "signerName");
    let refuse = |verb: &str| {
        Err(request.forbidden(object, &format!("user not permitted to {verb} requests with signerName {signer:?}")))
    };
    match (request.operation, request.subresource) {
        (Operation::Create, "") => subject(request, object),
        (Operation::Update, "approval") if !may(request, "approve", signer) => refuse("approve"),
        (Operation::Update, "status") if signs(object, old) && !may(request, "sign", signer) => refuse("sign"),
        _ => Ok(()),
    }
}

/// The status gets or loses a certificate or the condition that there will be none.
fn signs(object: &Value, old: Option<&Value>) -> bool {
    let failed = |object: &Value| {
        items(&object["status"], "conditions").iter().any(|condition| text(condition, "type") == "Failed")
    };
    old.is_none_or(|old| {
        text(&old["status"], "certificate") != text(&object["status"], "certificate") || failed(old) != failed(object)
    })
}

/// The verb on the signer, or on all signers of its domain.
fn may(request: &Request<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    [signer, &format!("{domain}/*")].into_iter().any(|name| {
        let what = Attributes {
            verb,
            resource_request: true,
            group: GROUP,
            version: "v1",
            resource: "signers",
            name,
            ..Attributes::default()
        };
        request.authorizer.allows(request.snapshot, request.identity, &what)
    })
}

/// Nobody gets into the group that may do everything by asking for a certificate.
fn subject(request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    let signer = text(&object["spec"], "signerName");
    // Who has the second group speaks to the store, past everything that is asked of clients: no signer of this cluster's
    // authority gives it.
    let kept: &[&str] = match signer {
        CLIENT_SIGNER => &[MASTERS, peers::GROUP],
        signer if signer.starts_with("kubernetes.io/") => &[peers::GROUP],
        _ => return Ok(()),
    };
    // What cannot be read is no request for a certificate: validation says so.
    let asked = groups(text(&object["spec"], "request")).unwrap_or_default();
    match kept.iter().find(|group| asked.iter().any(|asked| asked == *group)) {
        Some(group) => {
            Err(request.forbidden(object, &format!("use of {signer} signer with {group} group is not allowed")))
        }
        None => Ok(()),
    }
}

/// The organizations in a certificate request (base64 of PEM).
fn groups(request: &str) -> Option<Vec<String>> {
    let pem = base64::engine::general_purpose::STANDARD.decode(request).ok()?;
    SigningRequest::from_pem(&pem).ok().map(|request| request.organizations)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use serde_json::{Value, json};

    use super::super::testing::{Case, object};
    use crate::auth::Identity;

    const RESOURCE: &str = "certificatesigningrequests.certificates.k8s.io";

    fn world() -> Vec<Value> {
        let rbac = "rbac.authorization.k8s.io/v1";
        let rule = |verb: &str, name: &str| json!({"verbs": [verb], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": [name]});
        vec![
            object(
                rbac,
                "ClusterRole",
                "r",
                json!({"rules": [rule("approve", "example.org/*"), rule("sign", "example.org/web")]}),
            ),
            object(
                rbac,
                "ClusterRoleBinding",
                "b",
                json!({"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "ann"}]}),
            ),
        ]
    }

    #[test]
    fn approving_and_signing_need_the_signer() {
        let csr = |signer: &str, certificate: &str| json!({"metadata": {"name": "x"}, "spec": {"signerName": signer}, "status": {"certificate": certificate}});
        for (who, subresource, signer, certificate, refused) in [
            ("ann", "approval", "example.org/web", "", None),
            ("bob", "approval", "example.org/web", "", Some("approve")),
            ("ann", "approval", "example.com/web", "", Some("approve")),
            ("ann", "status", "example.org/web", "new", None),
            ("ann", "status", "example.org/db", "new", Some("sign")),
            ("bob", "status", "example.org/db", "", None),
        ] {
            let resource: &'static str = if subresource == "status" {
                "certificatesigningrequests.certificates.k8s.io/status"
            } else {
                "certificatesigningrequests.certificates.k8s.io/approval"
            };
            let message = refused.map(|verb| {
                format!("certificatesigningrequests.certificates.k8s.io \"x\" is forbidden: user not permitted to {verb} requests with signerName {signer:?}")
            });
            let case = Case::new(world()).of("update", resource, "x").by(Identity::part(who)).was(csr(signer, ""));
            case.refused(csr(signer, certificate), message.as_deref());
        }
    }

    #[test]
    fn a_request_tells_who_sent_it() {
        let sent = json!({"metadata": {"name": "x"}, "spec": {"username": "system:admin", "uid": "1", "groups": ["system:masters"],
            "extra": {"a": ["b"]}, "signerName": "example.org/x"}});
        let case = Case::new(world()).of("create", RESOURCE, "x").by(Identity::service_account("d", "robot"));
        let admitted = case.admitted(sent);
        let expected = json!({"signerName": "example.org/x", "username": "system:serviceaccount:d:robot",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:d", "system:authenticated"]});
        assert_eq!(admitted["spec"], expected);
    }

    #[test]
    fn nobody_asks_to_be_master() {
        let request = |group: &str| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
            let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
            base64::engine::general_purpose::STANDARD.encode(pem)
        };
        let refused = "certificatesigningrequests.certificates.k8s.io \"x\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
        let of_servers = &refused.replace("system:masters", "system:mizzen:servers");
        for (signer, group, refused) in [
            ("kubernetes.io/kube-apiserver-client", "dev", None),
            ("kubernetes.io/kube-apiserver-client", "system:masters", Some(refused)),
            ("kubernetes.io/kube-apiserver-client", "system:mizzen:servers", Some(of_servers)),
            (
                "kubernetes.io/legacy-unknown",
                "system:mizzen:servers",
                Some(&*of_servers.replace("kube-apiserver-client", "legacy-unknown")),
            ),
            ("example.org/x", "system:masters", None),
        ] {
            let csr = json!({"metadata": {"name": "x"}, "spec": {"signerName": signer, "request": request(group)}});
            Case::new(world()).of("create", RESOURCE, "x").refused(csr, refused);
        }
    }
}
