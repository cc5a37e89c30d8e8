//! The restricted level: what hardened pods do, on top of the baseline. In the order of Kubernetes' check ids.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::pods::{items, text};
use super::baseline::{added, unconfined, unmasked};
use super::checks::{Broken, Check, has_own_users, list, named, quoted, setters};

pub const CHECKS: &[Check] = &[
    Check { refined: false, run: privilege_escalation },
    Check { refined: false, run: capabilities },
    Check { refined: false, run: proc_mount },
    Check { refined: false, run: volumes },
    Check { refined: false, run: non_root },
    Check { refined: false, run: user },
    Check { refined: false, run: seccomp },
];

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn windows(spec: &Value) -> bool {
    spec["os"]["name"] == "windows"
}

fn privilege_escalation(_: &Value, spec: &Value) -> Option<Broken> {
    let names = named(spec, |container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if names.is_empty() || windows(spec) {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", list("container", &names));
    Broken::new("allowPrivilegeEscalation != false", detail)
}

fn capabilities(_: &Value, spec: &Value) -> Option<Broken> {
    if windows(spec) {
        return None;
    }
    let keeps = |container: &Value| {
        !items(&container["securityContext"]["capabilities"], "drop").iter().any(|capability| capability == "ALL")
    };
    let keeping = named(spec, keeps);
    let (adding, which) = added(spec, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = list("container", &keeping);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if !adding.is_empty() {
        let (who, which) = (list("container", &adding), quoted(which));
        details.push(format!("{who} must not include {which} in securityContext.capabilities.add"));
    }
    if details.is_empty() { None } else { Broken::new("unrestricted capabilities", details.join("; ")) }
}

fn proc_mount(_: &Value, spec: &Value) -> Option<Broken> {
    unmasked(spec)
}

fn volumes(_: &Value, spec: &Value) -> Option<Broken> {
    let source = |volume: &'_ Value| {
        let fields = volume.as_object().into_iter().flatten();
        fields.map(|(field, _)| field.clone()).find(|field| field != "name").unwrap_or_default()
    };
    let bad = items(spec, "volumes").iter().filter(|volume| {
        let source = source(volume);
        // Without a source it is an emptyDir.
        !source.is_empty() && !VOLUMES.contains(&source.as_str())
    });
    let bad: Vec<&Value> = bad.collect();
    if bad.is_empty() {
        return None;
    }
    let names: Vec<&str> = bad.iter().map(|volume| text(volume, "name")).collect();
    let types: BTreeSet<String> = bad.iter().map(|volume| source(volume)).collect();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let detail = format!("{} {uses} {}", list("volume", &names), list("restricted volume type", &types));
    Broken::new("restricted volume types", detail)
}

fn non_root(_: &Value, spec: &Value) -> Option<Broken> {
    if has_own_users(spec) {
        return None;
    }
    let reason = "runAsNonRoot != true";
    if let Some(found) = setters(spec, "/runAsNonRoot", |value| *value == false) {
        return Broken::new(reason, format!("{} must not set securityContext.runAsNonRoot=false", found.who));
    }
    if spec["securityContext"]["runAsNonRoot"] == true {
        return None;
    }
    let silent = named(spec, |container| container["securityContext"]["runAsNonRoot"].is_null());
    if silent.is_empty() {
        return None;
    }
    let who = list("container", &silent);
    Broken::new(reason, format!("pod or {who} must set securityContext.runAsNonRoot=true"))
}

fn user(_: &Value, spec: &Value) -> Option<Broken> {
    if has_own_users(spec) {
        return None;
    }
    let found = setters(spec, "/runAsUser", |user| *user == 0)?;
    Broken::new("runAsUser=0", format!("{} must not set runAsUser=0", found.who))
}

fn seccomp(_: &Value, spec: &Value) -> Option<Broken> {
    if windows(spec) {
        return None;
    }
    if let Some(broken) = unconfined(spec) {
        return Some(broken);
    }
    let profile = |part: &Value| !part["securityContext"]["seccompProfile"].is_null();
    let silent = named(spec, |container| !profile(container));
    if profile(spec) || silent.is_empty() {
        return None;
    }
    let who = list("container", &silent);
    let detail =
        format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"");
    Broken::new("seccompProfile", detail)
}
