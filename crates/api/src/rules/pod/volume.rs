//! Validation of a pod's volumes and their mounts.

use serde_json::Value;

use crate::names;
use crate::rules::cells::{flag, list, text};
use crate::rules::check::{At, Errors};
use crate::rules::resources;

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
/// Pod fields that environment variables can show.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Pod fields that files can show.
const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Container resources that both can show.
const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// The volumes of a pod that are good: name and definition.
pub type Volumes<'a> = Vec<(&'a str, &'a Value)>;

/// All volumes of a pod; answers those that can be mounted.
pub fn all<'a>(spec: &'a Value, pod_name: &str, at: &At<'_>, errors: &mut Errors) -> Volumes<'a> {
    let mut good: Volumes<'a> = Vec::new();
    for (i, volume) in list(&spec["volumes"]).iter().enumerate() {
        let (at, name, before) = (at.index(i), text(&volume["name"]), errors.0.len());
        source(volume, &at, errors);
        errors.required_form(&at.field("name"), &volume["name"], names::dns1123_label);
        if good.iter().any(|(other, _)| *other == name) {
            errors.duplicate(&at.field("name"), name);
        }
        if errors.0.len() == before {
            good.push((name, volume));
        }
        let claim = text(&volume["persistentVolumeClaim"]["claimName"]);
        let made_here =
            |other: &Value| !other["ephemeral"].is_null() && claim == format!("{pod_name}-{}", text(&other["name"]));
        if !claim.is_empty() && !pod_name.is_empty() && list(&spec["volumes"]).iter().any(made_here) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&at.field("persistentVolumeClaim").field("claimName"), claim, detail);
        }
    }
    good
}

/// A volume has exactly one source.
fn source(volume: &Value, at: &At<'_>, errors: &mut Errors) {
    let mut count = 0;
    for (kind, source) in volume.as_object().into_iter().flatten() {
        if kind == "name" || source.is_null() {
            continue;
        }
        count += 1;
        let at = at.field(kind);
        if count > 1 {
            errors.forbidden(&at, "may not specify more than 1 volume type");
            continue;
        }
        one_source(kind, source, &at, errors);
    }
    if count == 0 {
        errors.required(at, "must specify a volume type");
    }
}

fn one_source(kind: &str, source: &Value, at: &At<'_>, errors: &mut Errors) {
    let mut require = |fields: &[&str]| {
        for field in fields {
            errors.required_text(&at.field(field), &source[*field], "");
        }
    };
    match kind {
        "persistentVolumeClaim" => require(&["claimName"]),
        "gitRepo" => require(&["repository"]),
        "gcePersistentDisk" => require(&["pdName"]),
        "awsElasticBlockStore" | "cinder" => require(&["volumeID"]),
        "iscsi" => require(&["targetPortal", "iqn"]),
        "glusterfs" => require(&["endpoints", "path"]),
        "rbd" => require(&["image"]),
        "flexVolume" | "csi" => require(&["driver"]),
        "azureFile" => require(&["secretName", "shareName"]),
        "azureDisk" => require(&["diskName", "diskURI"]),
        "vsphereVolume" => require(&["volumePath"]),
        "image" => require(&["reference"]),
        "emptyDir" => {
            let limit = &source["sizeLimit"];
            if !limit.is_null() && resources::quantity(limit).is_none_or(|limit| limit.is_negative()) {
                errors.forbidden(&at.field("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
        }
        "hostPath" => host_path(source, at, errors),
        "secret" | "configMap" => {
            let name = if kind == "secret" { "secretName" } else { "name" };
            errors.required_text(&at.field(name), &source[name], "");
            mode(&source["defaultMode"], &at.field("defaultMode"), errors);
            key_paths(&source["items"], &at.field("items"), errors);
        }
        "nfs" => {
            require(&["server", "path"]);
            let path = text(&source["path"]);
            if !path.is_empty() && !path.starts_with('/') {
                errors.invalid(&at.field("path"), path, "must be an absolute path");
            }
        }
        "downwardAPI" => {
            mode(&source["defaultMode"], &at.field("defaultMode"), errors);
            list(&source["items"]).iter().for_each(|file| downward_file(file, at, errors));
        }
        "projected" => {
            mode(&source["defaultMode"], &at.field("defaultMode"), errors);
            projected(source, at, errors);
        }
        "ephemeral" => match &source["volumeClaimTemplate"] {
            Value::Null => errors.required(&at.field("volumeClaimTemplate"), ""),
            claim => {
                let at = at.field("volumeClaimTemplate");
                crate::rules::volume::claim_spec(&claim["spec"], &at.field("spec"), errors);
            }
        },
        _ => {}
    }
}

fn host_path(source: &Value, at: &At<'_>, errors: &mut Errors) {
    match text(&source["path"]) {
        "" => errors.required(&at.field("path"), ""),
        path => {
            no_backsteps(path, &at.field("path"), errors);
            let types =
                ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
            errors.one_of(&at.field("type"), &source["type"], &types);
        }
    }
}

fn mode(mode: &Value, at: &At<'_>, errors: &mut Errors) {
    if mode.as_i64().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.invalid(at, mode, FILE_MODE);
    }
}

fn key_paths(items: &Value, at: &At<'_>, errors: &mut Errors) {
    for (i, item) in list(items).iter().enumerate() {
        let at = at.index(i);
        errors.required_text(&at.field("key"), &item["key"], "");
        errors.required_text(&at.field("path"), &item["path"], "");
        not_reserved(text(&item["path"]), &at.field("path"), errors);
        mode(&item["mode"], &at.field("mode"), errors);
    }
}

fn downward_file(file: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.required_text(&at.field("path"), &file["path"], "");
    not_reserved(text(&file["path"]), &at.field("path"), errors);
    match (&file["fieldRef"], &file["resourceFieldRef"]) {
        (Value::Null, Value::Null) => errors.required(at, "one of fieldRef and resourceFieldRef is required"),
        (Value::Null, resource) => resource_ref(resource, true, &at.field("resourceFieldRef"), errors),
        (field, other) => {
            field_ref(field, false, &at.field("fieldRef"), errors);
            if !other.is_null() {
                errors.invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            }
        }
    }
    mode(&file["mode"], &at.field("mode"), errors);
}

fn projected<'a>(volume: &'a Value, at: &At<'_>, errors: &mut Errors) {
    let mut paths: Vec<&'a str> = Vec::new();
    let sources_at = at.field("sources");
    for (i, source) in list(&volume["sources"]).iter().enumerate() {
        let item = sources_at.index(i);
        let mut taken = |path: &'a str, errors: &mut Errors| {
            if !path.is_empty() && paths.contains(&path) {
                errors.invalid(at, path, "conflicting duplicate paths");
            }
            paths.push(path);
        };
        let kinds: Vec<&str> = source
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null())
            .map(|(kind, _)| kind.as_str())
            .collect();
        for kind in &kinds {
            let (part, at) = (&source[*kind], item.field(kind));
            match *kind {
                "secret" | "configMap" => {
                    errors.required_text(&at.field("name"), &part["name"], "");
                    key_paths(&part["items"], &at.field("items"), errors);
                    list(&part["items"]).iter().for_each(|file| taken(text(&file["path"]), errors));
                }
                "downwardAPI" => {
                    for file in list(&part["items"]) {
                        downward_file(file, &at, errors);
                        taken(text(&file["path"]), errors);
                    }
                }
                "serviceAccountToken" => {
                    token(part, &at, errors);
                    taken(text(&part["path"]), errors);
                }
                "clusterTrustBundle" => {
                    errors.required_text(&at.field("path"), &part["path"], "");
                    not_reserved(text(&part["path"]), &at.field("path"), errors);
                    taken(text(&part["path"]), errors);
                }
                _ => {}
            }
        }
        if kinds.len() > 1 {
            errors.forbidden(&item, "may not specify more than 1 volume type per source");
        }
    }
}

fn token(token: &Value, at: &At<'_>, errors: &mut Errors) {
    let (seconds, at_seconds) = (&token["expirationSeconds"], at.field("expirationSeconds"));
    match seconds.as_i64() {
        Some(short) if short < 600 => {
            errors.invalid(&at_seconds, seconds, "may not specify a duration less than 10 minutes")
        }
        Some(long) if long > 1 << 32 => {
            errors.invalid(&at_seconds, seconds, "may not specify a duration larger than 2^32 seconds")
        }
        _ => {}
    }
    match text(&token["path"]) {
        "" => errors.required(&at.field("path"), ""),
        path => not_reserved(path, &at.field("path"), errors),
    }
}

/// A field of the pod, for a variable or a file.
pub fn field_ref(reference: &Value, for_env: bool, at: &At<'_>, errors: &mut Errors) {
    if text(&reference["apiVersion"]).is_empty() {
        errors.required(&at.field("apiVersion"), "");
        return;
    }
    let path = text(&reference["fieldPath"]);
    if path.is_empty() {
        errors.required(&at.field("fieldPath"), "");
        return;
    }
    let subscript = path.split_once('[').and_then(|(map, rest)| {
        let key = rest.strip_suffix(']')?;
        Some((map, key.strip_prefix('\'')?.strip_suffix('\'')?))
    });
    let known = if for_env { ENV_FIELDS } else { FILE_FIELDS };
    match subscript {
        Some(("metadata.annotations", key)) => errors.all(at, key, names::qualified_name(&key.to_lowercase())),
        Some(("metadata.labels", key)) => errors.all(at, key, names::qualified_name(key)),
        Some((map, _)) => errors.invalid(at, map, "does not support subscript"),
        None if known.contains(&path) => {}
        None if is_pod_field(path) => {
            let at = at.field("fieldPath");
            errors.0.push(crate::field::FieldError::not_supported(at.to_string(), path, known));
        }
        None => {
            let detail = format!("error converting fieldPath: field label not supported: {path}");
            errors.invalid(&at.field("fieldPath"), path, detail);
        }
    }
}

fn is_pod_field(path: &str) -> bool {
    ENV_FIELDS.contains(&path) || FILE_FIELDS.contains(&path) || matches!(path, "spec.restartPolicy" | "status.phase")
}

/// A resource of a container, for a variable or a file.
pub fn resource_ref(reference: &Value, for_file: bool, at: &At<'_>, errors: &mut Errors) {
    let resource = text(&reference["resource"]);
    let is_huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|start| resource.starts_with(start));
    if for_file && text(&reference["containerName"]).is_empty() {
        errors.required(&at.field("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&at.field("resource"), "");
    } else if !is_huge {
        errors.one_of(&at.field("resource"), &reference["resource"], RESOURCE_FIELDS);
    }
    let divisor = text(&reference["divisor"]);
    if matches!(divisor, "" | "0") {
        return;
    }
    let (good, words): (&[&str], &str) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "1m and 1 are supported with the cpu resource"),
        _ => (
            &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"],
            match resource {
                "limits.memory" | "requests.memory" => {
                    "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource"
                }
                _ => "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with this resource",
            },
        ),
    };
    if !good.contains(&divisor) {
        errors.invalid(&at.field("divisor"), resource, format!("only divisor's values {words}"));
    }
}

/// Mounts and devices of one container.
pub fn mounts(container: &Value, volumes: &Volumes<'_>, at: &At<'_>, errors: &mut Errors) {
    let (mounts, devices) = (list(&container["volumeMounts"]), list(&container["volumeDevices"]));
    let mounts_at = at.field("volumeMounts");
    for (i, mount) in mounts.iter().enumerate() {
        let at = mounts_at.index(i);
        let (name, path) = (text(&mount["name"]), text(&mount["mountPath"]));
        errors.required_text(&at.field("name"), &mount["name"], "");
        if !volumes.iter().any(|(volume, _)| *volume == name) {
            errors.not_found(&at.field("name"), name);
        }
        errors.required_text(&at.field("mountPath"), &mount["mountPath"], "");
        if mounts[..i].iter().any(|other| text(&other["mountPath"]) == path) {
            errors.invalid(&at.field("mountPath"), path, "must be unique");
        }
        if devices.iter().any(|device| text(&device["name"]) == name) {
            errors.invalid(&at.field("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| text(&device["devicePath"]) == path) {
            errors.invalid(&at.field("mountPath"), path, "must not already exist as a path in volumeDevices");
        }
        sub_paths(mount, &mounts_at, &at, errors);
        propagation(mount, container, &mounts_at, errors);
    }
    self::devices(devices, mounts, volumes, &at.field("volumeDevices"), errors);
}

fn sub_paths(mount: &Value, list_at: &At<'_>, at: &At<'_>, errors: &mut Errors) {
    let (path, expression) = (text(&mount["subPath"]), text(&mount["subPathExpr"]));
    if !path.is_empty() {
        descending(path, &list_at.field("subPath"), errors);
    }
    if !expression.is_empty() {
        if !path.is_empty() {
            errors.invalid(&at.field("subPathExpr"), expression, "subPathExpr and subPath are mutually exclusive");
        }
        descending(expression, &list_at.field("subPathExpr"), errors);
    }
}

fn propagation(mount: &Value, container: &Value, at: &At<'_>, errors: &mut Errors) {
    let (propagation, at_propagation) = (&mount["mountPropagation"], at.field("mountPropagation"));
    errors.one_of(&at_propagation, propagation, &["Bidirectional", "HostToContainer", "None"]);
    if propagation == "Bidirectional" && !flag(&container["securityContext"]["privileged"]) {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.forbidden(&at_propagation, detail);
    }
    let (recursive, at_recursive) = (&mount["recursiveReadOnly"], at.field("recursiveReadOnly"));
    errors.one_of(&at_recursive, recursive, &["Disabled", "Enabled", "IfPossible"]);
    if matches!(text(recursive), "Enabled" | "IfPossible") {
        if !flag(&mount["readOnly"]) {
            errors.forbidden(&at_recursive, "may only be specified when readOnly is true");
        }
        if !matches!(text(propagation), "" | "None") {
            let detail = "may only be specified when mountPropagation is None or not specified";
            errors.forbidden(&at_recursive, detail);
        }
    }
}

fn devices(devices: &[Value], mounts: &[Value], volumes: &Volumes<'_>, at: &At<'_>, errors: &mut Errors) {
    for (i, device) in devices.iter().enumerate() {
        let at = at.index(i);
        let (name, path) = (text(&device["name"]), text(&device["devicePath"]));
        errors.required_text(&at.field("name"), &device["name"], "");
        if devices[..i].iter().any(|other| text(&other["name"]) == name) {
            errors.invalid(&at.field("name"), name, "must be unique");
        }
        match volumes.iter().find(|(volume, _)| *volume == name) {
            None => errors.not_found(&at.field("name"), name),
            Some((_, volume)) if volume["persistentVolumeClaim"].is_null() && volume["ephemeral"].is_null() => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&at.field("name"), name, detail);
            }
            Some(_) => {}
        }
        errors.required_text(&at.field("devicePath"), &device["devicePath"], "");
        if devices[..i].iter().any(|other| text(&other["devicePath"]) == path) {
            errors.invalid(&at.field("devicePath"), path, "must be unique");
        }
        if has_backsteps(path) {
            errors.invalid(&at.field("devicePath"), path, "can not contain backsteps ('..')");
        }
        if mounts.iter().any(|mount| text(&mount["name"]) == name) {
            errors.invalid(&at.field("name"), name, "must not already exist in volumeMounts");
        }
    }
}

fn has_backsteps(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// No part of the path may be `..`.
pub fn no_backsteps(path: &str, at: &At<'_>, errors: &mut Errors) {
    if has_backsteps(path) {
        errors.invalid(at, path, "must not contain '..'");
    }
}

/// A relative path that stays below where it starts.
pub fn descending(path: &str, at: &At<'_>, errors: &mut Errors) {
    if path.starts_with('/') {
        errors.invalid(at, path, "must be a relative path");
    }
    no_backsteps(path, at, errors);
}

/// A [`descending`] path that does not start with `..`, which volumes use for themselves.
fn not_reserved(path: &str, at: &At<'_>, errors: &mut Errors) {
    descending(path, at, errors);
    if path.starts_with("..") && !path.starts_with("../") {
        errors.invalid(at, path, "must not start with '..'");
    }
}
