//! Which resources are encrypted, named as in an EncryptionConfiguration: `secrets`, `widgets.example.org`, `*.apps`, `*.`, `*.*`.

/// The resources to encrypt, as prefixes of the store's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources(Vec<String>);

/// A text that names no resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no resource such as secrets or widgets.example.org")]
pub struct BadResource(String);

impl Resources {
    /// Reads names; none means that nothing is encrypted.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, BadResource> {
        let prefix = |name: &str| {
            let bad = || BadResource(name.to_string());
            let (plural, group) = name.split_once('.').unwrap_or((name, ""));
            let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
            let folder = if group.is_empty() { "core" } else { group };
            match (plural, group) {
                ("*", "*") => Ok(String::new()),
                ("*", _) if name.contains('.') && word(group) => Ok(format!("{folder}/")),
                _ if !plural.is_empty() && word(plural) && word(group) => Ok(format!("{folder}/{plural}/")),
                _ => Err(bad()),
            }
        };
        names.into_iter().map(prefix).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a key of the store is one of theirs.
    pub fn hold(&self, key: &str) -> bool {
        self.0.iter().any(|prefix| key.starts_with(prefix.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::Resources;

    #[test]
    fn names_become_prefixes() {
        for (name, key, holds) in [
            ("secrets", "core/secrets/a/b", true),
            ("secrets", "core/secretsandmore/a/b", false),
            ("widgets.example.org", "example.org/widgets/a/b", true),
            ("*.apps", "apps/deployments/a/b", true),
            ("*.apps", "batch/jobs/a/b", false),
            ("*.", "core/pods/a/b", true),
            ("*.*", "anything", true),
        ] {
            assert_eq!(Resources::parse([name]).unwrap().hold(key), holds, "{name} {key}");
        }
        for bad in ["", "a/b", "*", "a b", "*.a/b"] {
            assert!(Resources::parse([bad]).is_err(), "{bad:?}");
        }
    }
}
