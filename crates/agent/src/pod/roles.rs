//! The containers of a pod by the part they play, and when one that ended starts again.

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod, PodSpec};

use super::observed::Ended;

/// The part a container plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next begins.
    Init,
    /// An init container with `restartPolicy: Always`: runs beside the pod.
    Sidecar,
    /// A regular container.
    Main,
    /// Added to the running pod for debugging.
    Ephemeral,
}

/// A container with its role.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// The spec.
    pub container: &'a Container,
    /// Its role.
    pub role: Role,
}

/// All containers: init containers in order, regular ones. Ephemeral ones are in [`ephemeral`].
pub fn members(spec: &PodSpec) -> impl DoubleEndedIterator<Item = Member<'_>> {
    let init = spec.init_containers.iter().flatten().map(|container| Member { container, role: init_role(container) });
    init.chain(spec.containers.iter().map(|container| Member { container, role: Role::Main }))
}

fn init_role(container: &Container) -> Role {
    if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init }
}

/// The ephemeral containers, in the shape of regular ones.
pub fn ephemeral(spec: &PodSpec) -> Vec<Container> {
    spec.ephemeral_containers
        .iter()
        .flatten()
        .map(|e| Container {
            args: e.args.clone(),
            command: e.command.clone(),
            env: e.env.clone(),
            env_from: e.env_from.clone(),
            image: e.image.clone(),
            image_pull_policy: e.image_pull_policy.clone(),
            name: e.name.clone(),
            resources: e.resources.clone(),
            security_context: e.security_context.clone(),
            stdin: e.stdin,
            stdin_once: e.stdin_once,
            termination_message_path: e.termination_message_path.clone(),
            termination_message_policy: e.termination_message_policy.clone(),
            tty: e.tty,
            volume_mounts: e.volume_mounts.clone(),
            working_dir: e.working_dir.clone(),
            ..Container::default()
        })
        .collect()
}

/// One container by name, with its role.
pub fn find(spec: &PodSpec, name: &str) -> Option<(Container, Role)> {
    members(spec)
        .find(|m| m.container.name == name)
        .map(|m| (m.container.clone(), m.role))
        .or_else(|| ephemeral(spec).into_iter().find(|c| c.name == name).map(|c| (c, Role::Ephemeral)))
}

/// Whether a container that ended is started again while its pod goes on.
pub fn restarts(spec: &PodSpec, member: Member<'_>, ended: &Ended) -> bool {
    let failed = ended.code != 0;
    match member.role {
        Role::Ephemeral => return false,
        Role::Sidecar => return true,
        Role::Init | Role::Main => {}
    }
    if rule(member.container, ended).is_some_and(|action| action.starts_with("Restart")) {
        return true;
    }
    let own = member.container.restart_policy.as_deref();
    match own.or(spec.restart_policy.as_deref()).unwrap_or("Always") {
        "Never" => false,
        "OnFailure" => failed,
        // For an init container Always means: until it succeeds.
        _ => member.role == Role::Main || failed,
    }
}

/// What the first rule that fits says about a container that ended (`restartPolicyRules`).
fn rule<'a>(container: &'a Container, ended: &Ended) -> Option<&'a str> {
    let fits = |rule: &&ContainerRestartRule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let listed = codes.values.iter().flatten().any(|v| *v == ended.code);
        match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    };
    container.restart_policy_rules.iter().flatten().find(fits).map(|rule| rule.action.as_str())
}

/// Whether the end of a container means that all of its pod start anew.
pub fn restarts_all(container: &Container, ended: &Ended) -> bool {
    rule(container, ended) == Some("RestartAllContainers")
}

/// Seconds that the containers of a pod have to stop in.
pub fn grace_seconds(pod: &Pod) -> i64 {
    let spec = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
    pod.metadata.deletion_grace_period_seconds.unwrap_or(spec).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_is_started_again() {
        for (pod, own, rules, init, code, want) in [
            ("Always", None, json!(null), false, 0, true),
            ("Always", None, json!(null), true, 0, false),
            ("Always", None, json!(null), true, 1, true),
            ("OnFailure", None, json!(null), false, 0, false),
            ("OnFailure", None, json!(null), false, 3, true),
            ("Never", None, json!(null), false, 3, false),
            ("Never", Some("Always"), json!(null), true, 0, true), // a sidecar
            ("Never", Some("OnFailure"), json!(null), false, 1, true),
            (
                "Never",
                Some("Never"),
                json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]),
                false,
                42,
                true,
            ),
            (
                "Never",
                Some("Never"),
                json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]),
                false,
                41,
                false,
            ),
            (
                "Never",
                Some("Never"),
                json!([{"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [42]}}]),
                false,
                41,
                true,
            ),
        ] {
            let container: Container =
                serde_json::from_value(json!({"name": "c", "restartPolicy": own, "restartPolicyRules": rules}))
                    .unwrap();
            let spec = PodSpec { restart_policy: Some(pod.into()), ..PodSpec::default() };
            let role = if init { init_role(&container) } else { Role::Main };
            let ended = Ended {
                id: String::new(),
                image_id: String::new(),
                started_at: None,
                finished_at: jiff::Timestamp::UNIX_EPOCH,
                code,
                signal: None,
                reason: String::new(),
                message: String::new(),
            };
            let got = restarts(&spec, Member { container: &container, role }, &ended);
            assert_eq!(got, want, "pod {pod} own {own:?} rules {rules} init {init} code {code}");
        }
    }
}
