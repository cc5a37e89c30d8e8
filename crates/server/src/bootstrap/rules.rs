//! The notation of the tables: `groups | resources | verbs | names`, blanks between several; `core` is the core group,
//! and `url | paths | verbs` a rule for paths.

use serde_json::{Value, json};

/// A ClusterRole.
pub struct Role {
    /// Its name.
    pub name: &'static str,
    /// The aggregated role that takes its rules in.
    pub part_of: Option<&'static str>,
    /// Its rules.
    pub rules: &'static [&'static str],
}

/// Writing events, which nearly everyone does.
pub const EVENTS: &str = "core events.k8s.io | events | create patch update";

/// A PolicyRule from its notation.
pub fn rule(text: &str) -> Value {
    let words =
        |part: &str| part.split_whitespace().map(|word| if word == "core" { "" } else { word }.to_string()).collect();
    let parts: Vec<Vec<String>> = text.split('|').map(words).collect();
    match parts.as_slice() {
        [url, paths, verbs] if *url == ["url"] => json!({"verbs": verbs, "nonResourceURLs": paths}),
        [groups, resources, verbs] => json!({"verbs": verbs, "apiGroups": groups, "resources": resources}),
        [groups, resources, verbs, names] => {
            json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": names})
        }
        // The tables are constant; a test reads every line.
        _ => unreachable!("a rule has three or four parts: {text}"),
    }
}
