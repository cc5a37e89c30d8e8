//! TokenRequest: what is asked for, checked and completed.

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mizzen_api::field::FieldError;
use mizzen_api::key;
use mizzen_api::status::{ApiError, Subject};
use mizzen_store::Snapshot;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::claims::{Claims, Private, Reference};
use crate::auth::SERVICE_ACCOUNT_USER;

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// What the ServiceAccount admission asks for in every pod: clients that never reload the file get a token of a year,
/// and a warning is recorded from the 3607th second on.
const EXTENDABLE_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;
const AUDIENCES_MAX: usize = 64;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    metadata: Option<ObjectMeta>,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    audiences: Option<Vec<String>>,
    expiration_seconds: Option<i64>,
    bound_object_ref: Option<ObjectReference>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectReference {
    kind: String,
    api_version: String,
    name: String,
    uid: String,
}

/// A token about to be made.
pub struct Draft<'a> {
    namespace: &'a str,
    name: &'a str,
    audiences: Vec<String>,
    seconds: i64,
    extended: bool,
    private: Private,
}

impl<'a> Draft<'a> {
    pub fn new(
        snapshot: &Snapshot,
        namespace: &'a str,
        name: &'a str,
        request: &Value,
        api_audiences: &[String],
    ) -> Result<Self, ApiError> {
        let Request { metadata, spec } = serde::Deserialize::deserialize(request).map_err(|error| {
            ApiError::bad_request(format!(
                "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: {error}"
            ))
        })?;
        let metadata = metadata.unwrap_or_default();
        let (audiences, seconds) = checked(&spec, &metadata, namespace, name, api_audiences)?;
        let account = found::<ServiceAccount>(snapshot, namespace, name)?;
        let uid = uid_of(&*account);
        if let Some(wanted) = metadata.uid.filter(|wanted| !wanted.is_empty() && *wanted != uid) {
            return Err(stale("serviceaccounts", name, &wanted, &uid));
        }
        let mut private = Private {
            namespace: namespace.into(),
            serviceaccount: Reference { name: name.into(), uid },
            ..Private::default()
        };
        if let Some(reference) = &spec.bound_object_ref {
            bind(snapshot, namespace, name, reference, &mut private)?;
        }
        let own = audiences.iter().all(|audience| api_audiences.contains(audience));
        let extended = private.pod.is_some() && seconds == EXTENDABLE_SECONDS && own;
        Ok(Self { namespace, name, audiences, seconds, extended, private })
    }

    pub fn claims(&self, issuer: &str, now: Timestamp, jti: &str) -> Claims {
        let iat = now.as_second();
        let seconds = if self.extended { EXTENDED_SECONDS } else { self.seconds };
        let mut private = self.private.clone();
        private.warnafter = self.extended.then_some(iat + self.seconds);
        Claims {
            aud: self.audiences.clone(),
            exp: iat + seconds,
            iat,
            iss: issuer.into(),
            jti: jti.into(),
            private,
            nbf: iat,
            sub: format!("{SERVICE_ACCOUNT_USER}{}:{}", self.namespace, self.name),
        }
    }

    /// The whole TokenRequest as answered.
    pub fn answer(&self, request: &Value, now: Timestamp, token: String) -> Value {
        let expires = Timestamp::from_second(now.as_second() + self.seconds).unwrap_or(Timestamp::MAX);
        let mut spec = json!({"audiences": self.audiences, "expirationSeconds": self.seconds});
        spec["boundObjectRef"] = request.pointer("/spec/boundObjectRef").cloned().unwrap_or_default();
        json!({
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": self.name, "namespace": self.namespace, "creationTimestamp": seconds_text(now)},
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": seconds_text(expires)},
        })
    }
}

fn seconds_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Audiences and seconds, if the request is well-formed.
fn checked(
    spec: &Spec,
    metadata: &ObjectMeta,
    namespace: &str,
    name: &str,
    api_audiences: &[String],
) -> Result<(Vec<String>, i64), ApiError> {
    let says_other =
        |field: &Option<String>, url: &str| field.as_deref().is_some_and(|own| !own.is_empty() && own != url);
    if says_other(&metadata.name, name) || says_other(&metadata.namespace, namespace) {
        return Err(ApiError::bad_request("the name and namespace of the object do not match those of the URL"));
    }
    let seconds = spec.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
    let path = "spec.expirationSeconds";
    let mut errors = Vec::new();
    if seconds < MIN_SECONDS {
        errors.push(FieldError::invalid(path, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > MAX_SECONDS {
        errors.push(FieldError::invalid(path, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    let audiences = match spec.audiences.as_deref() {
        Some(audiences) if !audiences.is_empty() => audiences,
        _ => api_audiences,
    };
    if audiences.len() > AUDIENCES_MAX {
        errors.push(FieldError::too_many("spec.audiences", audiences.len(), AUDIENCES_MAX));
    }
    if errors.is_empty() {
        return Ok((audiences.to_vec(), seconds));
    }
    Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", "", &errors))
}

fn bind(
    snapshot: &Snapshot,
    namespace: &str,
    account: &str,
    wanted: &ObjectReference,
    private: &mut Private,
) -> Result<(), ApiError> {
    let refer = |resource: &str, uid: String| match wanted.uid.as_str() {
        "" => Ok(Some(Reference { name: wanted.name.clone(), uid })),
        same if same == uid => Ok(Some(Reference { name: wanted.name.clone(), uid })),
        other => Err(stale(resource, &wanted.name, other, &uid)),
    };
    match (wanted.api_version.as_str(), wanted.kind.as_str()) {
        ("v1", "Pod") => {
            let pod = found::<Pod>(snapshot, namespace, &wanted.name)?;
            let spec = pod.spec.as_ref();
            if spec.and_then(|spec| spec.service_account_name.as_deref()) != Some(account) {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            private.pod = refer("pods", uid_of(&*pod))?;
            private.node =
                spec.and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty()).map(|node| {
                    let known = snapshot.get_as::<Node>(&key::of::<Node>("", node));
                    Reference { name: node.into(), uid: known.map(|node| uid_of(&*node)).unwrap_or_default() }
                });
        }
        ("v1", "Secret") => {
            private.secret = refer("secrets", uid_of(&*found::<Secret>(snapshot, namespace, &wanted.name)?))?
        }
        ("v1", "Node") => private.node = refer("nodes", uid_of(&*found::<Node>(snapshot, "", &wanted.name)?))?,
        (version, kind) => {
            return Err(ApiError::bad_request(format!("cannot bind token to object of type {version}, Kind={kind}")));
        }
    }
    Ok(())
}

fn found<K>(snapshot: &Snapshot, namespace: &str, name: &str) -> Result<std::sync::Arc<K>, ApiError>
where
    K: k8s_openapi::Resource + DeserializeOwned + Send + Sync + 'static,
{
    let what = Subject { group: K::GROUP, resource: K::URL_PATH_SEGMENT };
    snapshot.get_as::<K>(&key::of::<K>(namespace, name)).ok_or_else(|| ApiError::not_found(what, name))
}

fn uid_of(object: &impl Metadata<Ty = ObjectMeta>) -> String {
    object.metadata().uid.clone().unwrap_or_default()
}

fn stale(resource: &str, name: &str, wanted: &str, actual: &str) -> ApiError {
    let why = format!(
        "the UID in the bound object reference ({wanted}) does not match the UID in record ({actual}). The object might \
         have been deleted and then recreated"
    );
    ApiError::conflict(Subject { group: "", resource }, name, &why)
}
