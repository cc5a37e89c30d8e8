//! Validation of security contexts.

use serde_json::Value;

use crate::names;
use crate::rules::cells::{flag, list, text};
use crate::rules::check::{At, Errors};

/// Longest name of a sysctl.
const SYSCTL_MAX: usize = 253;

/// A container's security context; absent is fine.
pub fn container(context: &Value, host_users: bool, at: &At<'_>, errors: &mut Errors) {
    ids(context, &["runAsUser", "runAsGroup"], at, errors);
    let proc_mount = &context["procMount"];
    errors.one_of(&at.field("procMount"), proc_mount, &["Default", "Unmasked"]);
    if host_users && proc_mount == "Unmasked" {
        errors.invalid(&at.field("procMount"), proc_mount, "`hostUsers` must be false to use `Unmasked`");
    }
    profiles(context, at, errors);
    if context["allowPrivilegeEscalation"] == false {
        if flag(&context["privileged"]) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(at, context, detail);
        }
        if list(&context["capabilities"]["add"]).iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(at, context, detail);
        }
    }
}

/// A pod's security context; absent is fine.
pub fn pod(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let context = &spec["securityContext"];
    ids(context, &["fsGroup", "runAsUser", "runAsGroup"], at, errors);
    let groups_at = at.field("supplementalGroups");
    for (i, group) in list(&context["supplementalGroups"]).iter().enumerate() {
        id(group, &groups_at.index(i), errors);
    }
    if flag(&spec["shareProcessNamespace"]) && flag(&spec["hostPID"]) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&at.field("shareProcessNamespace"), true, detail);
    }
    sysctls(spec, &at.field("sysctls"), errors);
    let one_of = |field: &str, supported: &[&str], errors: &mut Errors| {
        errors.one_of(&at.field(field), &context[field], supported);
    };
    one_of("fsGroupChangePolicy", &["OnRootMismatch", "Always"], errors);
    one_of("supplementalGroupsPolicy", &["Merge", "Strict"], errors);
    one_of("seLinuxChangePolicy", &["Recursive", "MountOption"], errors);
    profiles(context, at, errors);
}

/// Without the host's user namespace a pod has none of the host's others.
pub fn host_users(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    if spec["hostUsers"] != false {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag(&spec[field]) {
            errors.forbidden(&at.field(shown), "when `hostUsers` is false");
        }
    }
}

fn ids(context: &Value, fields: &[&str], at: &At<'_>, errors: &mut Errors) {
    for field in fields {
        id(&context[*field], &at.field(field), errors);
    }
}

fn id(value: &Value, at: &At<'_>, errors: &mut Errors) {
    let max = i64::from(i32::MAX);
    if value.as_i64().is_some_and(|id| !(0..=max).contains(&id)) {
        errors.invalid(at, value, names::out_of_range(0, max));
    }
}

/// Seccomp and AppArmor profiles name a file or profile exactly if they are local.
fn profiles(context: &Value, at: &At<'_>, errors: &mut Errors) {
    for (field, types) in [
        ("seccompProfile", ["Localhost", "RuntimeDefault", "Unconfined"]),
        ("appArmorProfile", ["Localhost", "RuntimeDefault", "Unconfined"]),
    ] {
        let (profile, at) = (&context[field], at.field(field));
        if profile.is_null() {
            continue;
        }
        errors.required_one_of(&at.field("type"), &profile["type"], &types);
        let local = &profile["localhostProfile"];
        let local_at = at.field("localhostProfile");
        if profile["type"] == "Localhost" {
            match text(local) {
                "" => errors.required(&local_at, "must be set when seccomp type is Localhost"),
                path if field == "seccompProfile" => super::volume::descending(path, &local_at, errors),
                _ => {}
            }
        } else if !local.is_null() {
            errors.invalid(&local_at, local, "can only be set when seccomp type is Localhost");
        }
    }
}

fn sysctls(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, sysctl) in list(&spec["securityContext"]["sysctls"]).iter().enumerate() {
        let item = at.index(i);
        let (name, at) = (text(&sysctl["name"]), item.field("name"));
        if name.is_empty() {
            errors.required(&at, "");
        } else if !is_sysctl(name) {
            let form = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&at, name, format!("must have at most {SYSCTL_MAX} characters and match regex {form}"));
        } else if seen.contains(&name) {
            errors.duplicate(&at, name);
        }
        seen.push(name);
        let dotted = name.replace('/', ".");
        if flag(&spec["hostNetwork"]) && dotted.starts_with("net.") {
            errors.invalid(&at, name, "may not be specified when 'hostNetwork' is true");
        }
        let is_ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|start| dotted.starts_with(start));
        if flag(&spec["hostIPC"]) && (is_ipc || dotted == "kernel.sem") {
            errors.invalid(&at, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let is_end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_segment = |segment: &str| match (segment.bytes().next(), segment.bytes().last()) {
        (Some(first), Some(last)) => {
            is_end(first) && is_end(last) && segment.bytes().all(|byte| is_end(byte) || b"-_".contains(&byte))
        }
        _ => false,
    };
    name.len() <= SYSCTL_MAX && name.split(['.', '/']).all(is_segment)
}
