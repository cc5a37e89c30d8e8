//! `securityContext` as the runtime understands it. A container's field beats the pod's. Pure.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, PodSpec, SeccompProfile};
use mizzen_runtime::images::ImageConfig;
use mizzen_runtime::spec::{Seccomp, Security, User, UserName};

/// A container must not run as it is asked to: `CreateContainerConfigError`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// `runAsNonRoot`, and the image runs as root.
    #[error("container has runAsNonRoot and image will run as root")]
    ImageIsRoot,
    /// `runAsNonRoot`, and so does the pod.
    #[error("container's runAsUser breaks non-root policy")]
    UserIsRoot,
    /// `runAsNonRoot`, and the image names a user.
    #[error("container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root")]
    ImageUserUnknown {
        /// The user as written in the image.
        user: String,
    },
}

fn id(value: i64) -> u32 {
    // Validation keeps ids within 0..2^31.
    u32::try_from(value).unwrap_or(0)
}

/// Who a container runs as.
pub fn user(spec: &PodSpec, container: &Container, image: &ImageConfig) -> Result<User, SecurityError> {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let run_as = own.run_as_user.or(pod.run_as_user);
    let group = own.run_as_group.or(pod.run_as_group);
    if own.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
        match run_as {
            Some(0) => return Err(SecurityError::UserIsRoot),
            Some(_) => {}
            None => match image.user.split(':').next().unwrap_or_default() {
                "" | "0" => return Err(SecurityError::ImageIsRoot),
                name if name.parse::<u32>().is_err() => {
                    return Err(SecurityError::ImageUserUnknown { user: image.user.clone() });
                }
                _ => {}
            },
        }
    }
    let mut groups: Vec<u32> = pod.supplemental_groups.iter().flatten().map(|g| id(*g)).collect();
    groups.extend(pod.fs_group.map(id));
    Ok(User {
        user: match run_as {
            Some(uid) => UserName::Id(id(uid)),
            None => UserName::Image(image.user.clone()),
        },
        gid: group.map(id),
        additional_gids: groups,
        strict_groups: pod.supplemental_groups_policy.as_deref() == Some("Strict"),
    })
}

/// What a container may do. Local seccomp profiles lie below `profiles`.
pub fn security(spec: &PodSpec, container: &Container, profiles: &Path) -> Security {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let capabilities = own.capabilities.unwrap_or_default();
    let privileged = own.privileged == Some(true);
    let strip = |names: Option<Vec<String>>| -> Vec<String> {
        let names = names.unwrap_or_default().into_iter();
        names.map(|n| n.strip_prefix("CAP_").map_or(n.clone(), str::to_string)).collect()
    };
    let apparmor = own.app_armor_profile.or(pod.app_armor_profile);
    Security {
        privileged,
        read_only_root: own.read_only_root_filesystem == Some(true),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        capabilities_add: strip(capabilities.add),
        capabilities_drop: strip(capabilities.drop),
        seccomp: match own.seccomp_profile.or(pod.seccomp_profile) {
            _ if privileged => Seccomp::Unconfined,
            Some(profile) => seccomp(&profile, profiles),
            // Stricter than Kubernetes' default of Unconfined: what container engines do by themselves.
            None => Seccomp::RuntimeDefault,
        },
        apparmor_profile: apparmor.and_then(|p| match p.type_.as_str() {
            "Localhost" => p.localhost_profile,
            "Unconfined" => Some("unconfined".into()),
            _ => None,
        }),
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
    }
}

fn seccomp(profile: &SeccompProfile, profiles: &Path) -> Seccomp {
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Unconfined", _) => Seccomp::Unconfined,
        ("Localhost", Some(file)) => Seccomp::Profile(profiles.join(file)),
        _ => Seccomp::RuntimeDefault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_may_run() {
        for (case, pod, own, image, want) in [
            ("image's user", json!({}), json!({}), "app", Ok(UserName::Image("app".into()))),
            ("pod's user", json!({"runAsUser": 7}), json!({}), "app", Ok(UserName::Id(7))),
            ("container beats pod", json!({"runAsUser": 7}), json!({"runAsUser": 8}), "", Ok(UserName::Id(8))),
            ("root image", json!({"runAsNonRoot": true}), json!({}), "", Err(SecurityError::ImageIsRoot)),
            ("root by number", json!({"runAsNonRoot": true}), json!({}), "0:0", Err(SecurityError::ImageIsRoot)),
            (
                "root user",
                json!({"runAsNonRoot": true, "runAsUser": 0}),
                json!({}),
                "5",
                Err(SecurityError::UserIsRoot),
            ),
            (
                "a name proves nothing",
                json!({"runAsNonRoot": true}),
                json!({}),
                "app",
                Err(SecurityError::ImageUserUnknown { user: "app".into() }),
            ),
            ("numeric image", json!({"runAsNonRoot": true}), json!({}), "5:5", Ok(UserName::Image("5:5".into()))),
            (
                "container lifts it",
                json!({"runAsNonRoot": true}),
                json!({"runAsNonRoot": false}),
                "",
                Ok(UserName::Image("".into())),
            ),
        ] {
            let spec: PodSpec = serde_json::from_value(json!({"containers": [], "securityContext": pod})).unwrap();
            let container: Container = serde_json::from_value(json!({"name": "c", "securityContext": own})).unwrap();
            let image = ImageConfig { user: image.into(), ..ImageConfig::default() };
            assert_eq!(user(&spec, &container, &image).map(|u| u.user), want, "{case}");
        }
    }
}
