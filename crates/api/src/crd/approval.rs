//! The groups of Kubernetes itself (`*.k8s.io`, `*.kubernetes.io`): who defines kinds in them says with an annotation who
//! approved that.

use serde_json::Value;

/// The annotation.
pub const APPROVED: &str = "api-approved.kubernetes.io";

const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// What the annotation of a definition in such a group says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approval {
    /// There is none.
    Missing,
    /// It is neither an address nor an admission that nobody approved.
    Invalid,
    /// Approved at this address.
    Approved(String),
    /// Not approved, and said so.
    Bypassed(String),
}

impl Approval {
    /// Of a definition; `None` if its group needs none.
    pub fn of(group: &str, annotations: &Value) -> Option<Self> {
        let within = |domain: &str| group == domain || group.strip_suffix(domain).is_some_and(|b| b.ends_with('.'));
        if !within("k8s.io") && !within("kubernetes.io") {
            return None;
        }
        let text = annotations[APPROVED].as_str().unwrap_or_default();
        let is_address = text.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
        Some(match text {
            "" => Self::Missing,
            text if text.starts_with("unapproved") => Self::Bypassed(text.into()),
            text if is_address => Self::Approved(text.into()),
            _ => Self::Invalid,
        })
    }

    /// The words of errors and of the condition.
    pub fn message(&self) -> String {
        match self {
            Self::Missing => format!("protected groups must have approval annotation {APPROVED:?}, {SEE}"),
            Self::Invalid => format!(
                "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {SEE}"
            ),
            Self::Approved(address) => format!("approved in {address}"),
            Self::Bypassed(reason) => format!("not approved: {reason:?}"),
        }
    }

    /// The reason of the condition `KubernetesAPIApprovalPolicyConformant`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAnnotation",
            Self::Invalid => "InvalidAnnotation",
            Self::Approved(_) => "ApprovedAnnotation",
            Self::Bypassed(_) => "UnapprovedAnnotation",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{APPROVED, Approval};

    #[test]
    fn kubernetes_own_groups_need_approval() {
        for (group, text, expected) in [
            ("example.com", "", None),
            ("notk8s.io", "", None),
            ("x.k8s.io", "", Some("MissingAnnotation")),
            ("k8s.io", "yes", Some("InvalidAnnotation")),
            ("a.kubernetes.io", "unapproved, for a test", Some("UnapprovedAnnotation")),
            ("a.kubernetes.io", "https://github.com/kubernetes/kubernetes/pull/1", Some("ApprovedAnnotation")),
        ] {
            let found = Approval::of(group, &json!({APPROVED: text}));
            assert_eq!(found.as_ref().map(Approval::reason), expected, "{group} {text}");
        }
    }
}
