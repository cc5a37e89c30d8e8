//! PodSecurity: the labels of a namespace say how much its pods may do on their node.
//!
//! Policies are those of this version whatever version a label names; the version shows in messages only.

use k8s_openapi::api::core::v1::Namespace;
use mizzen_api::field::FieldError;
use mizzen_api::key;
use mizzen_api::status::ApiError;
use serde_json::Value;

use super::plugin::Plugin;
use super::{Admitted, Operation, Request};

mod baseline;
mod checks;
mod restricted;
#[cfg(test)]
mod tests;

pub const PLUGIN: Plugin = Plugin { resources: RESOURCES, mutate: None, validate: Some(check) };

const RESOURCES: &[(&str, &str)] = &[
    ("", "namespaces"),
    ("", "pods"),
    ("", "replicationcontrollers"),
    ("", "podtemplates"),
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("batch", "cronjobs"),
    ("batch", "jobs"),
];
const LABEL: &str = "pod-security.kubernetes.io/";
/// A namespace with more pods is checked in part when its policy changes, as in Kubernetes.
const PODS_MAX: usize = 3000;

/// How much is allowed, from most to least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// What a label asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Policy {
    level: Level,
    version: String,
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        write!(f, "{level}:{}", self.version)
    }
}

impl Policy {
    /// The policy of a mode (`enforce`, `warn`). A level that does not exist is taken as the strictest.
    fn of<'a>(mode: &str, label: impl Fn(&str) -> Option<&'a str>) -> Self {
        let level = match label(&format!("{LABEL}{mode}")) {
            None | Some("privileged") => Level::Privileged,
            Some("baseline") => Level::Baseline,
            Some(_) => Level::Restricted,
        };
        let version = label(&format!("{LABEL}{mode}-version")).unwrap_or("latest").to_string();
        Self { level, version }
    }

    /// What a pod spec does that the policy forbids.
    fn broken(&self, metadata: &Value, spec: &Value) -> Vec<checks::Broken> {
        let baseline = || baseline::CHECKS.iter().filter(|check| self.level == Level::Baseline || !check.refined);
        match self.level {
            Level::Privileged => Vec::new(),
            Level::Baseline => baseline().filter_map(|check| (check.run)(metadata, spec)).collect(),
            Level::Restricted => {
                baseline().chain(restricted::CHECKS).filter_map(|check| (check.run)(metadata, spec)).collect()
            }
        }
    }
}

fn check(request: &Request<'_>, object: &Value, old: Option<&Value>, out: &mut Admitted) -> Result<(), ApiError> {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    if request.is("", "namespaces") {
        return if request.subresource.is_empty() { namespace(request, object, old, out) } else { Ok(()) };
    }
    let pods = request.is("", "pods");
    let concerned = request.subresource.is_empty() || (pods && request.subresource == "ephemeralcontainers");
    let Some((metadata, spec)) = template(&request.kind.plural, object).filter(|_| concerned) else { return Ok(()) };
    let unchanged = old.and_then(|old| template(&request.kind.plural, old)).is_some_and(|(_, old)| old == spec);
    if request.operation == Operation::Update && unchanged {
        return Ok(());
    }
    let Some(namespace) = request.snapshot.get_as::<Namespace>(&key::of::<Namespace>("", request.namespace)) else {
        return Ok(());
    };
    let label = |name: &str| namespace.metadata.labels.as_ref()?.get(name).map(String::as_str);
    let enforce = Policy::of("enforce", label);
    // Only pods are refused: what makes pods is told.
    let broken = if pods { enforce.broken(metadata, spec) } else { Vec::new() };
    if !broken.is_empty() {
        let why = format!("violates PodSecurity \"{enforce}\": {}", checks::details(&broken));
        return Err(request.forbidden(object, &why));
    }
    let warn = Policy::of("warn", label);
    let broken = warn.broken(metadata, spec);
    if !broken.is_empty() {
        out.warnings.push(format!("would violate PodSecurity \"{warn}\": {}", checks::details(&broken)));
    }
    Ok(())
}

/// The metadata and spec of the pods that an object is or makes.
fn template<'a>(plural: &str, object: &'a Value) -> Option<(&'a Value, &'a Value)> {
    let template = match plural {
        "pods" => object,
        "podtemplates" => object.get("template")?,
        "cronjobs" => object.pointer("/spec/jobTemplate/spec/template")?,
        _ => object.pointer("/spec/template")?,
    };
    Some((template.get("metadata").unwrap_or(&Value::Null), template.get("spec")?))
}

/// Labels must name levels, and whoever tightens them is told which pods would not pass.
fn namespace(request: &Request<'_>, object: &Value, old: Option<&Value>, out: &mut Admitted) -> Result<(), ApiError> {
    let label = |object: &'_ Value, name: &str| {
        object["metadata"]["labels"].get(name).and_then(Value::as_str).map(String::from)
    };
    let wrong = ["enforce", "audit", "warn"].into_iter().filter_map(|mode| {
        let name = format!("{LABEL}{mode}");
        let level = label(object, &name)?;
        let known = ["privileged", "baseline", "restricted"].contains(&level.as_str());
        let unchanged = old.is_some_and(|old| label(old, &name).as_ref() == Some(&level));
        let path = format!("metadata.labels[{name}]");
        (!known && !unchanged)
            .then(|| FieldError::invalid(path, &level, "must be one of privileged, baseline, restricted"))
    });
    let wrong: Vec<FieldError> = wrong.collect();
    if !wrong.is_empty() {
        return Err(ApiError::invalid("", "Namespace", request.name, &wrong));
    }
    let Some(old) = old else { return Ok(()) };
    let policy =
        |object: &Value| Policy::of("enforce", |name| object["metadata"]["labels"].get(name).and_then(Value::as_str));
    let (before, after) = (policy(old), policy(object));
    if after.level > before.level {
        out.warnings.extend(existing(request, &after));
    }
    Ok(())
}

/// One warning for each way in which existing pods break the policy.
fn existing(request: &Request<'_>, policy: &Policy) -> Vec<String> {
    let prefix = key::namespace_prefix("", "pods", request.name);
    // Reasons in words, the first pod with them, and how many there are. Pods come in the order of their names.
    let mut found: Vec<(String, String, usize)> = Vec::new();
    let mut total = 0;
    for entry in request.snapshot.prefix(&prefix) {
        total += 1;
        if total > PODS_MAX {
            continue;
        }
        let Ok(pod) = serde_json::from_slice::<Value>(&entry.value) else { continue };
        let broken = policy.broken(&pod["metadata"], &pod["spec"]);
        if broken.is_empty() {
            continue;
        }
        let reasons = checks::reasons(&broken);
        match found.iter_mut().find(|known| known.0 == reasons) {
            Some(known) => known.2 += 1,
            None => found.push((reasons, super::pods::text(&pod["metadata"], "name").into(), 1)),
        }
    }
    let mut warnings = Vec::new();
    if total > PODS_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        let name = request.name;
        warnings.push(format!(
            "existing pods in namespace {name:?} violate the new PodSecurity enforce level \"{policy}\""
        ));
    }
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, pod, count)| match count {
            1 => format!("{pod}: {reasons}"),
            2 => format!("{pod} (and 1 other pod): {reasons}"),
            _ => format!("{pod} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}
