//! ServiceAccount: every pod has an account, and a volume with its token, the CA and the namespace.

use k8s_openapi::api::core::v1::ServiceAccount;
use mizzen_api::key;
use mizzen_api::status::ApiError;
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::pods::{is_mirror, items, items_mut, push, set, text};
use super::{Admitted, Operation, Request};

pub const PLUGIN: Plugin = Plugin { resources: &[("", "pods")], mutate: Some(admit), validate: Some(check) };

const DEFAULT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// The odd number by which tokens of pods are recognized, see `auth::tokens`.
const TOKEN_SECONDS: i64 = 3607;

fn admit(request: &Request<'_>, pod: &mut Value, _: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    let concerned = request.operation == Operation::Create && request.subresource.is_empty();
    if !concerned || is_mirror(pod) || !pod["spec"].is_object() {
        return Ok(());
    }
    let named = [text(&pod["spec"], "serviceAccountName"), text(&pod["spec"], "serviceAccount"), DEFAULT];
    let name = named.into_iter().find(|name| !name.is_empty()).unwrap_or(DEFAULT).to_string();
    let account = account(request, pod, &name)?;
    let spec = &mut pod["spec"];
    set(spec, "serviceAccountName", name.as_str());
    set(spec, "serviceAccount", name.as_str());
    let of_pod = spec.get("automountServiceAccountToken").and_then(Value::as_bool);
    if of_pod.or(account.automount_service_account_token).unwrap_or(true) {
        mount_token(spec, request.suffix);
    }
    let secrets = account.image_pull_secrets.as_deref().unwrap_or_default();
    if items(spec, "imagePullSecrets").is_empty() && !secrets.is_empty() {
        let secrets = secrets.iter().map(|secret| json!({"name": secret.name}));
        set(spec, "imagePullSecrets", secrets.collect::<Vec<_>>());
    }
    Ok(())
}

fn account(request: &Request<'_>, pod: &Value, name: &str) -> Result<std::sync::Arc<ServiceAccount>, ApiError> {
    let namespace = request.namespace;
    request.snapshot.get_as::<ServiceAccount>(&key::of::<ServiceAccount>(namespace, name)).ok_or_else(|| {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        request.forbidden(pod, &why)
    })
}

fn mount_token(spec: &mut Value, suffix: &dyn Fn() -> String) {
    let present = items(spec, "volumes").iter().map(|volume| text(volume, "name"));
    let present = present.filter(|name| name.starts_with(VOLUME_PREFIX)).map(String::from).next();
    let name = present.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", suffix()));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            if items(container, "volumeMounts").iter().any(|mount| text(mount, "mountPath") == MOUNT_PATH) {
                continue;
            }
            push(container, "volumeMounts", json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
            mounted = true;
        }
    }
    if mounted && present.is_none() {
        push(spec, "volumes", token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ],
            "defaultMode": 0o644,
        },
    })
}

fn check(request: &Request<'_>, pod: &Value, _: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    if request.operation != Operation::Create || !request.subresource.is_empty() {
        return Ok(());
    }
    let spec = &pod["spec"];
    let name = text(spec, "serviceAccountName");
    if !is_mirror(pod) {
        return account(request, pod, name).map(|_| ());
    }
    if !name.is_empty() {
        return Err(request.forbidden(pod, "a mirror pod may not reference service accounts"));
    }
    if refers_to_secrets(spec) {
        return Err(request.forbidden(pod, "a mirror pod may not reference secrets"));
    }
    let sources = items(spec, "volumes").iter().flat_map(|volume| items(&volume["projected"], "sources"));
    if sources.into_iter().any(|source| source.get("serviceAccountToken").is_some()) {
        return Err(request.forbidden(pod, "a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

fn refers_to_secrets(spec: &Value) -> bool {
    let containers = ["containers", "initContainers"].into_iter().flat_map(|list| items(spec, list));
    let mut environments =
        containers.flat_map(|container| items(container, "env").iter().chain(items(container, "envFrom")));
    let mut volumes = items(spec, "volumes").iter();
    let projects =
        |volume: &Value| items(&volume["projected"], "sources").iter().any(|source| source.get("secret").is_some());
    !items(spec, "imagePullSecrets").is_empty()
        || volumes.any(|volume| volume.get("secret").is_some() || projects(volume))
        || environments.any(|env| env["valueFrom"].get("secretKeyRef").is_some() || env.get("secretRef").is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{Case, object};

    fn world() -> Vec<Value> {
        vec![
            object("v1", "Namespace", "ns", json!({})),
            object("v1", "ServiceAccount", "ns/default", json!({"imagePullSecrets": [{"name": "pull"}]})),
            object("v1", "ServiceAccount", "ns/quiet", json!({"automountServiceAccountToken": false})),
        ]
    }

    fn pod(spec: Value) -> Value {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
        for (field, value) in spec.as_object().unwrap() {
            pod["spec"][field] = value.clone();
        }
        pod
    }

    #[test]
    fn the_default_account_comes_with_its_volume() {
        let mount = json!([{"name": "kube-api-access-xxxxx", "readOnly": true, "mountPath": super::MOUNT_PATH}]);
        let pod = pod(json!({"initContainers": [{"name": "i"}]}));
        let admitted = Case::new(world()).of("create", "pods", "ns/p").admitted(pod);
        let spec = &admitted["spec"];
        assert_eq!(spec["serviceAccountName"], "default");
        assert_eq!(spec["serviceAccount"], "default");
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
        assert_eq!(spec["containers"][0]["volumeMounts"], mount);
        assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
        assert_eq!(
            spec["volumes"],
            json!([{"name": "kube-api-access-xxxxx", "projected": {"sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
            ], "defaultMode": 420}}])
        );
    }

    #[test]
    fn who_says_no_gets_no_token() {
        let own = json!([{"name": "own", "mountPath": super::MOUNT_PATH}]);
        for (case, spec, mounted) in [
            ("account says no", json!({"serviceAccountName": "quiet"}), false),
            ("pod says yes", json!({"serviceAccountName": "quiet", "automountServiceAccountToken": true}), true),
            ("pod says no", json!({"automountServiceAccountToken": false}), false),
            ("deprecated field", json!({"serviceAccount": "quiet"}), false),
            ("own mount", json!({"containers": [{"name": "c", "volumeMounts": own}]}), false),
        ] {
            let admitted = Case::new(world()).of("create", "pods", "ns/p").admitted(pod(spec));
            assert_eq!(admitted["spec"].get("volumes").is_some(), mounted, "{case}");
        }
    }

    #[test]
    fn refusals() {
        let mirror = |spec: Value| {
            let mut pod = pod(spec);
            pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
            pod
        };
        let lookup =
            "pods \"p\" is forbidden: error looking up service account ns/gone: serviceaccount \"gone\" not found";
        for (pod, refused) in [
            (pod(json!({"serviceAccountName": "gone"})), Some(lookup)),
            (mirror(json!({})), None),
            (
                mirror(json!({"serviceAccountName": "default"})),
                Some("pods \"p\" is forbidden: a mirror pod may not reference service accounts"),
            ),
            (
                mirror(json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]})),
                Some("pods \"p\" is forbidden: a mirror pod may not reference secrets"),
            ),
        ] {
            Case::new(world()).of("create", "pods", "ns/p").refused(pod, refused);
        }
    }
}
