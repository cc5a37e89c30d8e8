//! Built-in versions that Kubernetes has deprecated: who asks for them is warned, and that somebody asks is counted.

use http::HeaderValue;
use mizzen_api::kind::Kind;

/// A deprecated version of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deprecated {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    /// What the warning says.
    warning: &'static str,
    /// The release that no longer serves it; empty while none is named.
    pub removed: &'static str,
}

const ALL: [Deprecated; 2] = [
    Deprecated {
        group: "",
        version: "v1",
        plural: "componentstatuses",
        warning: "299 - \"v1 ComponentStatus is deprecated in v1.19+\"",
        removed: "",
    },
    Deprecated {
        group: "",
        version: "v1",
        plural: "endpoints",
        warning: "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"",
        removed: "",
    },
];

impl Deprecated {
    /// The `Warning` header.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_static(self.warning)
    }
}

/// What is said about a kind, if it is deprecated.
pub(crate) fn of(kind: &Kind) -> Option<&'static Deprecated> {
    ALL.iter().find(|d| *kind.plural == *d.plural && *kind.version == *d.version && *kind.group == *d.group)
}
