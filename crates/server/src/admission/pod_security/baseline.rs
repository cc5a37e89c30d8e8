//! The baseline level: nothing that is known to give power over the node. In the order of Kubernetes' check ids.

use std::collections::BTreeSet;

use mizzen_api::pod::SAFE_SYSCTLS;
use serde_json::Value;

use super::super::pods::{items, text};
use super::checks::{Broken, Check, containers, has_own_users, list, named, quoted, setters};

pub const CHECKS: &[Check] = &[
    Check { refined: false, run: app_armor },
    Check { refined: true, run: capabilities },
    Check { refined: false, run: host_namespaces },
    Check { refined: true, run: host_path },
    Check { refined: false, run: host_ports },
    Check { refined: false, run: probe_hosts },
    Check { refined: false, run: privileged },
    Check { refined: true, run: proc_mount },
    Check { refined: false, run: selinux },
    Check { refined: true, run: seccomp },
    Check { refined: false, run: sysctls },
    Check { refined: false, run: windows_host_process },
];

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SELINUX_TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Whether a profile of AppArmor or seccomp confines.
pub fn confines(profile: &Value) -> bool {
    profile == "RuntimeDefault" || profile == "Localhost"
}

fn app_armor(metadata: &Value, spec: &Value) -> Option<Broken> {
    let fields = setters(spec, "/appArmorProfile/type", |profile| !confines(profile));
    let allowed = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let annotations = metadata["annotations"].as_object().into_iter().flatten();
    let bad: BTreeSet<String> = annotations
        .filter(|(name, _)| name.starts_with("container.apparmor.security.beta.kubernetes.io/"))
        .filter_map(|(name, value)| {
            value.as_str().filter(|value| !allowed(value)).map(|value| format!("{name}={value:?}"))
        })
        .collect();
    let mut who: Vec<String> = fields.iter().map(|fields| fields.who.clone()).collect();
    if !bad.is_empty() {
        who.push(if bad.len() == 1 { "annotation".into() } else { "annotations".into() });
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = fields.into_iter().flat_map(|fields| fields.values).chain(bad).collect();
    let s = if values.len() == 1 { "" } else { "s" };
    let values = quoted(values.iter().map(String::as_str));
    Broken::new(
        format!("forbidden AppArmor profile{s}"),
        format!("{} must not set AppArmor profile type to {values}", who.join(" and ")),
    )
}

/// Added capabilities that are not among `allowed`: the containers, and which.
pub fn added<'a>(spec: &'a Value, allowed: &[&str]) -> (Vec<&'a str>, BTreeSet<&'a str>) {
    let bad = |container: &'a Value| {
        let added = items(&container["securityContext"]["capabilities"], "add").iter();
        added.filter_map(Value::as_str).filter(|capability| !allowed.contains(capability)).collect::<Vec<_>>()
    };
    let which = containers(spec).flat_map(bad).collect();
    let names = containers(spec).filter(|container| !bad(container).is_empty());
    (names.map(|container| text(container, "name")).collect(), which)
}

fn capabilities(_: &Value, spec: &Value) -> Option<Broken> {
    let (names, which) = added(spec, &CAPABILITIES);
    if names.is_empty() {
        return None;
    }
    let detail =
        format!("{} must not include {} in securityContext.capabilities.add", list("container", &names), quoted(which));
    Broken::new("non-default capabilities", detail)
}

fn host_namespaces(_: &Value, spec: &Value) -> Option<Broken> {
    let set = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| spec[*field] == true);
    let set: Vec<String> = set.map(|field| format!("{field}=true")).collect();
    if set.is_empty() { None } else { Broken::new("host namespaces", set.join(", ")) }
}

fn host_path(_: &Value, spec: &Value) -> Option<Broken> {
    let volumes = items(spec, "volumes").iter().filter(|volume| volume.get("hostPath").is_some());
    let names: Vec<&str> = volumes.map(|volume| text(volume, "name")).collect();
    if names.is_empty() { None } else { Broken::new("hostPath volumes", list("volume", &names)) }
}

fn host_ports(_: &Value, spec: &Value) -> Option<Broken> {
    let ports = |container: &Value| {
        let ports = items(container, "ports").iter().filter_map(|port| port["hostPort"].as_i64());
        ports.filter(|port| *port != 0).map(|port| port.to_string()).collect::<Vec<_>>()
    };
    let names = named(spec, |container| !ports(container).is_empty());
    if names.is_empty() {
        return None;
    }
    let all: BTreeSet<String> = containers(spec).flat_map(ports).collect();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let s = if all.len() == 1 { "" } else { "s" };
    let all = all.into_iter().collect::<Vec<_>>().join(", ");
    Broken::new("hostPort", format!("{} {uses} hostPort{s} {all}", list("container", &names)))
}

/// Probes and hooks to another host make the kubelet a way into its network.
fn probe_hosts(_: &Value, spec: &Value) -> Option<Broken> {
    let hosts = |container: &Value| {
        let handlers = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
        let hooks = ["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]);
        let all = handlers.into_iter().chain(hooks);
        let hosts =
            all.flat_map(|handler| ["httpGet", "tcpSocket"].map(|action| text(&handler[action], "host").to_string()));
        hosts.filter(|host| !["", "127.0.0.1", "::1"].contains(&host.as_str())).collect::<Vec<_>>()
    };
    let mut names = named(spec, |container| !hosts(container).is_empty());
    if names.is_empty() {
        return None;
    }
    names.sort_unstable();
    let all: BTreeSet<String> = containers(spec).flat_map(hosts).collect();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let s = if all.len() == 1 { "" } else { "s" };
    let all = quoted(all.iter().map(String::as_str));
    let detail = format!("{} {uses} probe or lifecycle host{s} {all}", list("container", &names));
    Broken::new("probe or lifecycle host", detail)
}

fn privileged(_: &Value, spec: &Value) -> Option<Broken> {
    let names = named(spec, |container| container["securityContext"]["privileged"] == true);
    if names.is_empty() {
        return None;
    }
    Broken::new("privileged", format!("{} must not set securityContext.privileged=true", list("container", &names)))
}

fn proc_mount(_: &Value, spec: &Value) -> Option<Broken> {
    if has_own_users(spec) { None } else { unmasked(spec) }
}

/// A `/proc` of which nothing is hidden.
pub fn unmasked(spec: &Value) -> Option<Broken> {
    let mount = |container: &'_ Value| text(&container["securityContext"], "procMount").to_string();
    let bad = |container: &Value| !["", "Default"].contains(&mount(container).as_str());
    let names = named(spec, bad);
    if names.is_empty() {
        return None;
    }
    let types: BTreeSet<String> = containers(spec).filter(|container| bad(container)).map(mount).collect();
    let types = quoted(types.iter().map(String::as_str));
    Broken::new("procMount", format!("{} must not set securityContext.procMount to {types}", list("container", &names)))
}

fn selinux(_: &Value, spec: &Value) -> Option<Broken> {
    let is_set = |value: &Value, field: &str| !text(value, field).is_empty();
    let bad_type = |value: &Value| !SELINUX_TYPES.contains(&text(value, "type"));
    let bad = |value: &Value| bad_type(value) || is_set(value, "user") || is_set(value, "role");
    let who = setters(spec, "/seLinuxOptions", bad)?.who;
    let options =
        || std::iter::once(spec).chain(containers(spec)).map(|part| &part["securityContext"]["seLinuxOptions"]);
    let types: BTreeSet<&str> = options().filter(|value| bad_type(value)).map(|value| text(value, "type")).collect();
    let mut problems = Vec::new();
    if !types.is_empty() {
        problems.push(list("type", &types.into_iter().collect::<Vec<_>>()));
    }
    for field in ["user", "role"] {
        if options().any(|value| is_set(value, field)) {
            problems.push(format!("{field} may not be set"));
        }
    }
    let problems = problems.join("; ");
    Broken::new("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {problems}"))
}

fn seccomp(_: &Value, spec: &Value) -> Option<Broken> {
    unconfined(spec)
}

/// A seccomp profile that is set and does not confine.
pub fn unconfined(spec: &Value) -> Option<Broken> {
    let found = setters(spec, "/seccompProfile/type", |profile| !confines(profile))?;
    let values = quoted(found.values.iter().map(String::as_str));
    Broken::new("seccompProfile", format!("{} must not set securityContext.seccompProfile.type to {values}", found.who))
}

fn sysctls(_: &Value, spec: &Value) -> Option<Broken> {
    let names = items(&spec["securityContext"], "sysctls").iter().map(|sysctl| text(sysctl, "name"));
    let bad: Vec<&str> = names.filter(|name| !SAFE_SYSCTLS.contains(name)).collect();
    if bad.is_empty() { None } else { Broken::new("forbidden sysctls", bad.join(", ")) }
}

fn windows_host_process(_: &Value, spec: &Value) -> Option<Broken> {
    let found = setters(spec, "/windowsOptions/hostProcess", |value| *value == true)?;
    let detail = format!("{} must not set securityContext.windowsOptions.hostProcess=true", found.who);
    Broken::new("hostProcess", detail)
}
