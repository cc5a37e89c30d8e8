//! Profiles in the JSON form of Docker and the OCI runtime specification.

use serde::Deserialize;

use super::compile::{Action, CONDITIONS_MAX, Condition, Rule, Rules, Test};
use super::numbers::NUMBERS;

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// The file.
    #[error("{0}")]
    Read(#[source] std::io::Error),
    /// Not JSON of this form.
    #[error("not a seccomp profile: {0}")]
    Syntax(#[source] serde_json::Error),
    /// An action that needs a helper process, or that is unknown.
    #[error("action {0:?} is not supported")]
    Action(String),
    /// An operator or argument index.
    #[error("argument {index} with operator {op:?} is not supported")]
    Argument {
        /// Argument index.
        index: u32,
        /// Operator.
        op: String,
    },
    /// More conditions than arguments could need.
    #[error("a rule has more than {CONDITIONS_MAX} conditions")]
    TooManyConditions,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<i32>,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    errno_ret: Option<i32>,
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: When,
    #[serde(default)]
    excludes: When,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct When {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a profile for a container with these capabilities on this machine. Names of calls unknown here are skipped.
pub(super) fn parse(text: &[u8], has_capability: &dyn Fn(&str) -> bool) -> Result<Rules, ProfileError> {
    let profile: Profile = serde_json::from_slice(text).map_err(ProfileError::Syntax)?;
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let is_errno = default.0 & 0xffff_0000 == libc::SECCOMP_RET_ERRNO;
    let newer = if is_errno { Action::errno(libc::ENOSYS) } else { default };
    let kernel = kernel_version();
    let mut list = Vec::new();
    for entry in &profile.syscalls {
        if !entry.includes.all_hold(has_capability, kernel) || entry.excludes.any_holds(has_capability, kernel) {
            continue;
        }
        let action = action(&entry.action, entry.errno_ret)?;
        let arguments = entry.args.as_deref().unwrap_or_default();
        if arguments.len() > CONDITIONS_MAX {
            return Err(ProfileError::TooManyConditions);
        }
        let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
        for name in entry.names.iter().chain(&entry.name) {
            if let Some((_, number)) = NUMBERS.iter().find(|(known, _)| known == name) {
                list.push(Rule { number: *number, action, conditions: conditions.clone() });
            }
        }
    }
    Ok(Rules { default, newer, list })
}

fn action(name: &str, errno: Option<i32>) -> Result<Action, ProfileError> {
    let errno = errno.unwrap_or(libc::EPERM);
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::ALLOW,
        "SCMP_ACT_ERRNO" => Action::errno(errno),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action(libc::SECCOMP_RET_KILL_THREAD),
        "SCMP_ACT_KILL_PROCESS" => Action(libc::SECCOMP_RET_KILL_PROCESS),
        "SCMP_ACT_TRAP" => Action(libc::SECCOMP_RET_TRAP),
        "SCMP_ACT_TRACE" => Action(libc::SECCOMP_RET_TRACE | (errno as u32 & 0xffff)),
        "SCMP_ACT_LOG" => Action(libc::SECCOMP_RET_LOG),
        other => return Err(ProfileError::Action(other.to_owned())),
    })
}

fn condition(argument: &Argument) -> Result<Condition, ProfileError> {
    let wrong = || ProfileError::Argument { index: argument.index, op: argument.op.clone() };
    let index = u8::try_from(argument.index).ok().filter(|i| *i < 6).ok_or_else(wrong)?;
    let value = argument.value;
    let test = match argument.op.as_str() {
        "SCMP_CMP_EQ" => Test::Equal(value),
        "SCMP_CMP_NE" => Test::NotEqual(value),
        "SCMP_CMP_LT" => Test::Less(value),
        "SCMP_CMP_LE" => Test::LessOrEqual(value),
        "SCMP_CMP_GT" => Test::Greater(value),
        "SCMP_CMP_GE" => Test::GreaterOrEqual(value),
        "SCMP_CMP_MASKED_EQ" => Test::MaskedEqual(value, argument.value_two),
        _ => return Err(wrong()),
    };
    Ok(Condition { argument: index, test })
}

impl When {
    fn all_hold(&self, has_capability: &dyn Fn(&str) -> bool, kernel: (u32, u32)) -> bool {
        self.caps.iter().flatten().all(|c| has_capability(c))
            && self.arches.as_ref().is_none_or(|list| list.is_empty() || list.iter().any(|a| is_this_arch(a)))
            && self.min_kernel.as_deref().is_none_or(|v| kernel >= version(v))
    }

    fn any_holds(&self, has_capability: &dyn Fn(&str) -> bool, kernel: (u32, u32)) -> bool {
        self.caps.iter().flatten().any(|c| has_capability(c))
            || self.arches.iter().flatten().any(|a| is_this_arch(a))
            || self.min_kernel.as_deref().is_some_and(|v| kernel >= version(v))
    }
}

fn is_this_arch(name: &str) -> bool {
    let this = if cfg!(target_arch = "x86_64") { ["amd64", "x86_64"] } else { ["arm64", "aarch64"] };
    this.contains(&name)
}

fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn kernel_version() -> (u32, u32) {
    version(&rustix::system::uname().release().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_form_of_docker() {
        let text = br#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "archMap": [],
            "syscalls": [
                {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": null},
                {"name": "write", "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
                 "args": [{"index": 0, "value": 7, "valueTwo": 0, "op": "SCMP_CMP_GE"}]},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#;
        let names = |rules: &Rules| -> Vec<&str> {
            let name = |n: u32| NUMBERS.iter().find(|(_, number)| *number == n).unwrap().0;
            rules.list.iter().map(|r| name(r.number)).collect()
        };
        let plain = parse(text, &|_| false).unwrap();
        assert_eq!(names(&plain), ["read", "write", "ptrace", "clone"]);
        assert_eq!(plain.default, Action::errno(38));
        assert_eq!(plain.list[1].action, Action::errno(5));
        assert_eq!(plain.list[1].conditions, [Condition { argument: 0, test: Test::GreaterOrEqual(7) }]);
        assert_eq!(names(&parse(text, &|_| true).unwrap()), ["read", "write", "mount", "ptrace"]);
    }

    #[test]
    fn refuses_what_it_cannot_keep() {
        for text in [
            &br#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#[..],
            br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 5}"#,
            b"",
        ] {
            assert!(parse(text, &|_| false).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }
}
