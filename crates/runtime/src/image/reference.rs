//! Image references: `nginx`, `registry.example:5000/team/app:1.2`, `app@sha256:…` (distribution specification, as Docker reads them).

use std::fmt;

use crate::image::{StoreError, digest::Digest};

/// Longest name that is accepted.
const NAME_MAX: usize = 255;
/// Longest tag.
const TAG_MAX: usize = 128;

/// A reference with everything that was left out filled in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// `docker.io`, `registry.example:5000`.
    pub registry: String,
    /// `library/nginx`.
    pub repository: String,
    /// `latest` if neither tag nor digest was given.
    pub tag: Option<String>,
    /// Pins the content.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses a reference.
    ///
    /// # Errors
    /// [`StoreError::Name`].
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let bad = |message| StoreError::Name { name: text.to_string(), message };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(Digest::parse(digest).ok_or_else(|| bad("the digest is not sha256:<64 hex digits>"))?))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|t| !valid_tag(t)) {
            return Err(bad("the tag may hold letters, digits, '_', '.' and '-' only"));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path.to_string()),
            _ => ("docker.io", name.to_string()),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let official = registry == "docker.io" && !repository.contains('/');
        let repository = if official { format!("library/{repository}") } else { repository };
        if !valid_host(registry) || name.len() > NAME_MAX || !repository.split('/').all(valid_component) {
            return Err(bad("must be [host[:port]/]path[:tag][@digest] in lower case"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_string()),
            (None, None) => Some("latest".to_string()),
            (None, Some(_)) => None,
        };
        Ok(Self { registry: registry.to_string(), repository, tag, digest })
    }

    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `registry/repository@digest` for a manifest's digest.
    pub fn pinned(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name())
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_string(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn valid_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    first && tag.len() <= TAG_MAX && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn valid_host(host: &str) -> bool {
    let (name, port) = host.rsplit_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let port_ok = port.is_none_or(|p| p.parse::<u16>().is_ok());
    let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    port_ok && name.split('.').all(label)
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn valid_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    alphanumeric(*first)
        && alphanumeric(*last)
        && bytes.iter().all(|b| alphanumeric(*b) || matches!(b, b'.' | b'_' | b'-'))
        && !component.contains("..")
        && !component.contains("___")
}

#[cfg(test)]
mod tests {
    use super::Reference;

    #[test]
    fn fills_in_what_is_left_out() {
        let hex = "a".repeat(64);
        for (text, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.29", "docker.io/library/nginx:1.29"),
            ("team/app", "docker.io/team/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("10.0.0.1:5000/a/b:v1", "10.0.0.1:5000/a/b:v1"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            (&format!("a@sha256:{hex}"), &format!("docker.io/library/a@sha256:{hex}")),
            (&format!("a:1@sha256:{hex}"), &format!("docker.io/library/a:1@sha256:{hex}")),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), full);
        }
    }

    #[test]
    fn refuses_what_is_no_name() {
        for text in
            ["", "Nginx", "a//b", "a:", "a:b c", "a@sha256:12", "-a", "a/", "http://a/b", "a b", "../x", "x:y:z/w"]
        {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_prints_what_it_parses(text in ".{0,80}") {
            if let Ok(reference) = Reference::parse(&text) {
                let again = Reference::parse(&reference.to_string()).unwrap();
                proptest::prop_assert_eq!(again, reference);
            }
        }
    }
}
