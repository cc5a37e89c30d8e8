//! Defaults of pods and of the pod templates in workloads (core/v1).

use serde_json::{Value, json};

use crate::quantity::Quantity;
use crate::rules::fill::{self, Fields};

/// Mode of files in Secret, ConfigMap, downward API and projected volumes: 0644.
const FILE_MODE: i64 = 0o644;
/// An hour, the default lifetime of projected tokens.
const TOKEN_SECONDS: i64 = 3600;

/// Defaults of a Pod: those of its spec, and those that templates do not get.
pub fn pod(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    if let Some(spec) = fill::child(object, "spec") {
        pod_only(spec);
        pod_spec(spec);
    }
    if let Some(status) = fill::existing(object, "status") {
        pod_ips(status);
    }
}

/// Defaults of the pod template in `fields[name]`.
pub fn template(fields: &mut Fields, name: &str) {
    if let Some(template) = fill::child(fields, name)
        && let Some(spec) = fill::child(template, "spec")
    {
        pod_spec(spec);
    }
}

/// Defaults of a PodTemplate.
pub fn pod_template(object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        template(object, "template");
    }
}

/// What only pods get: requests from limits, service links, host ports.
fn pod_only(spec: &mut Fields) {
    for list in ["containers", "initContainers"] {
        for container in fill::items(spec, list) {
            if let Some(resources) = fill::existing(container, "resources") {
                requests_from_limits(resources);
            }
        }
    }
    if let Some(resources) = fill::existing(spec, "resources") {
        requests_from_limits(resources);
    }
    fill::optional(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        for list in ["containers", "initContainers"] {
            for container in fill::items(spec, list) {
                fill::items(container, "ports").for_each(host_port);
            }
        }
    }
}

fn host_port(port: &mut Fields) {
    if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
        fill::number(port, "hostPort", number);
    }
}

/// A limit without a request is also the request.
fn requests_from_limits(resources: &mut Fields) {
    let Some(Value::Object(limits)) = resources.get("limits") else {
        return;
    };
    let limits = limits.clone();
    if limits.is_empty() {
        return;
    }
    let Some(requests) = fill::child(resources, "requests") else {
        return;
    };
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

/// Defaults of a pod spec, in pods and templates alike.
pub fn pod_spec(spec: &mut Fields) {
    fill::items(spec, "volumes").for_each(volume);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        fill::items(spec, list).for_each(container);
    }
    fill::text(spec, "restartPolicy", "Always");
    fill::optional(spec, "terminationGracePeriodSeconds", 30);
    fill::text(spec, "dnsPolicy", "ClusterFirst");
    service_account(spec);
    fill::optional(spec, "securityContext", json!({}));
    fill::text(spec, "schedulerName", "default-scheduler");
}

/// `serviceAccount` is the old name of `serviceAccountName`; both always say the same.
fn service_account(spec: &mut Fields) {
    if fill::is_empty(spec, "serviceAccountName") && !fill::is_empty(spec, "serviceAccount") {
        let name = spec["serviceAccount"].clone();
        spec.insert("serviceAccountName".into(), name);
    }
    if !fill::is_empty(spec, "serviceAccountName") && spec.get("serviceAccount") != spec.get("serviceAccountName") {
        let name = spec["serviceAccountName"].clone();
        spec.insert("serviceAccount".into(), name);
    }
}

fn container(container: &mut Fields) {
    for port in fill::items(container, "ports") {
        fill::text(port, "protocol", "TCP");
    }
    for variable in fill::items(container, "env") {
        if let Some(source) = fill::existing(variable, "valueFrom") {
            env_source(source);
        }
    }
    fill::optional(container, "resources", json!({}));
    if let Some(resources) = fill::existing(container, "resources") {
        round_amounts(resources);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = fill::existing(container, name) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = fill::existing(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(handler) = fill::existing(lifecycle, hook) {
                http_get(handler);
            }
        }
    }
    fill::text(container, "terminationMessagePath", "/dev/termination-log");
    fill::text(container, "terminationMessagePolicy", "File");
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = pull_policy(image);
    fill::text(container, "imagePullPolicy", policy);
}

/// Amounts finer than a thousandth are rounded up to one.
fn round_amounts(resources: &mut Fields) {
    for list in ["limits", "requests"] {
        let Some(amounts) = fill::existing(resources, list) else { continue };
        for (_, amount) in amounts.iter_mut() {
            // Only a quantity with `n` or `u`, or many digits, can be that fine.
            let Some(text) = amount.as_str().filter(|text| text.ends_with(['n', 'u']) || text.contains('.')) else {
                continue;
            };
            let Ok(exact) = text.parse::<Quantity>() else { continue };
            let rounded = Quantity::from_millis(exact.millis());
            if rounded != exact && exact.millis() != i64::MAX {
                *amount = rounded.to_string().into();
            }
        }
    }
}

/// `Always` for the tag `latest`, given or implied; any other tag or a digest stays what it was.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if digest.is_none() && !last.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

fn env_source(source: &mut Fields) {
    if let Some(field) = fill::existing(source, "fieldRef") {
        fill::text(field, "apiVersion", "v1");
    }
    if let Some(resource) = fill::existing(source, "resourceFieldRef") {
        fill::text(resource, "divisor", "0");
    }
    if let Some(key) = fill::existing(source, "fileKeyRef") {
        fill::optional(key, "optional", false);
    }
}

fn probe(probe: &mut Fields) {
    http_get(probe);
    if let Some(grpc) = fill::existing(probe, "grpc") {
        fill::optional(grpc, "service", "");
    }
    fill::number(probe, "timeoutSeconds", 1);
    fill::number(probe, "periodSeconds", 10);
    fill::number(probe, "successThreshold", 1);
    fill::number(probe, "failureThreshold", 3);
}

fn http_get(handler: &mut Fields) {
    if let Some(get) = fill::existing(handler, "httpGet") {
        fill::text(get, "path", "/");
        fill::text(get, "scheme", "HTTP");
    }
}

/// Each kind of volume has defaults of its own; a volume that names no kind is an emptyDir.
fn volume(volume: &mut Fields) {
    if volume.iter().all(|(name, source)| name == "name" || source.is_null()) {
        volume.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "projected", "downwardAPI"] {
        if let Some(source) = fill::existing(volume, source) {
            fill::optional(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = fill::existing(volume, "downwardAPI") {
        downward_items(source);
    }
    if let Some(projected) = fill::existing(volume, "projected") {
        for source in fill::items(projected, "sources") {
            if let Some(token) = fill::existing(source, "serviceAccountToken") {
                fill::optional(token, "expirationSeconds", TOKEN_SECONDS);
            }
            if let Some(downward) = fill::existing(source, "downwardAPI") {
                downward_items(downward);
            }
        }
    }
    if let Some(host) = fill::existing(volume, "hostPath") {
        fill::optional(host, "type", "");
    }
    if let Some(image) = fill::existing(volume, "image") {
        let policy = pull_policy(image.get("reference").and_then(Value::as_str).unwrap_or_default());
        fill::text(image, "pullPolicy", policy);
    }
    if let Some(ephemeral) = fill::existing(volume, "ephemeral")
        && let Some(claim) = fill::existing(ephemeral, "volumeClaimTemplate")
        && let Some(spec) = fill::child(claim, "spec")
    {
        fill::optional(spec, "volumeMode", "Filesystem");
    }
    network_volume(volume);
}

fn downward_items(source: &mut Fields) {
    for item in fill::items(source, "items") {
        env_source(item);
    }
}

/// Volumes of storage systems that are configured in the pod itself; PersistentVolumes share these defaults.
pub fn network_volume(volume: &mut Fields) {
    if let Some(iscsi) = fill::existing(volume, "iscsi") {
        fill::text(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = fill::existing(volume, "rbd") {
        fill::text(rbd, "pool", "rbd");
        fill::text(rbd, "user", "admin");
        fill::text(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = fill::existing(volume, "azureDisk") {
        fill::optional(disk, "cachingMode", "ReadWrite");
        fill::optional(disk, "fsType", "ext4");
        fill::optional(disk, "readOnly", false);
        fill::optional(disk, "kind", "Shared");
    }
    if let Some(scale) = fill::existing(volume, "scaleIO") {
        fill::text(scale, "storageMode", "ThinProvisioned");
        fill::text(scale, "fsType", "xfs");
    }
}

/// `podIP` is the first of `podIPs`.
fn pod_ips(status: &mut Fields) {
    let Some(ip) = status.get("podIP").and_then(Value::as_str).filter(|ip| !ip.is_empty()) else {
        return;
    };
    if status.get("podIPs").is_none_or(|ips| ips[0]["ip"] != ip) {
        let ips = json!([{"ip": ip}]);
        status.insert("podIPs".into(), ips);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_tag_decides_when_to_pull() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.29", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1.29", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
            ("nginx:latest@sha256:0123", "Always"),
            ("", "IfNotPresent"),
        ] {
            assert_eq!(super::pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn fine_amounts_are_rounded_up() {
        for (sent, kept) in
            [("1500u", "2m"), ("0.0001", "1m"), ("1", "1"), ("0.5", "0.5"), ("100m", "100m"), ("x.", "x.")]
        {
            let mut pod = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": sent}}}]}});
            super::pod(&mut pod);
            assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"]["cpu"], kept);
        }
    }

    #[test]
    fn a_small_pod_becomes_a_whole_one() {
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {
            "hostNetwork": true,
            "serviceAccount": "robot",
            "volumes": [{"name": "tmp"}, {"name": "c", "configMap": {"name": "c"}}],
            "containers": [{"name": "a", "image": "nginx:1", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"port": 80}}}],
        }});
        super::pod(&mut pod);
        let spec = &pod["spec"];
        assert_eq!(
            spec["volumes"],
            json!([{"name": "tmp", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c", "defaultMode": 420}}])
        );
        assert_eq!(
            spec["containers"][0],
            json!({
                "name": "a", "image": "nginx:1",
                "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "imagePullPolicy": "IfNotPresent",
            })
        );
        for (field, value) in [
            ("restartPolicy", json!("Always")),
            ("terminationGracePeriodSeconds", json!(30)),
            ("dnsPolicy", json!("ClusterFirst")),
            ("securityContext", json!({})),
            ("schedulerName", json!("default-scheduler")),
            ("serviceAccountName", json!("robot")),
            ("enableServiceLinks", json!(true)),
        ] {
            assert_eq!(spec[field], value, "{field}");
        }
        let once = pod.clone();
        super::pod(&mut pod);
        assert_eq!(pod, once, "defaulting twice changes nothing");
    }
}
