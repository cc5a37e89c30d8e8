//! Signing in to a registry: choosing a credential, answering a `WWW-Authenticate` challenge (RFC 7235, Docker token authentication).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;

use crate::image::StoreError;
use crate::image::registry::{ERROR_BODY_MAX, RegistryClient, refusal};
use crate::images::Credential;

/// The credential whose key fits best: the longest path wins; `*.` stands for one part of a host name.
pub(super) fn choose(credentials: &[Credential], registry: &str, repository: &str) -> Option<Credential> {
    let fits = |credential: &&Credential| matches(&credential.registry, registry, repository);
    credentials.iter().filter(fits).max_by_key(|c| c.registry.len()).cloned()
}

fn matches(key: &str, registry: &str, repository: &str) -> bool {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let path = path.trim_end_matches('/');
    let docker_hub =
        matches!(host, "index.docker.io" | "docker.io" | "registry-1.docker.io") && registry == "docker.io";
    let host_fits = docker_hub || host == registry || wildcard(host, registry);
    let path_fits = matches!(path, "" | "v1" | "v2")
        || repository == path
        || repository.strip_prefix(path).is_some_and(|r| r.starts_with('/'));
    host_fits && path_fits
}

fn wildcard(pattern: &str, host: &str) -> bool {
    let (patterns, parts): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), host.split('.').collect());
    pattern.contains('*')
        && patterns.len() == parts.len()
        && patterns.iter().zip(&parts).all(|(p, h)| *p == "*" || p == h)
}

/// The `Authorization` that a challenge asks for; `None` if there is nothing to answer with.
pub(super) async fn answer(
    client: &RegistryClient,
    challenge: &str,
    repository: &str,
    credential: Option<&Credential>,
) -> Result<Option<String>, StoreError> {
    let basic = credential.map(|c| format!("Basic {}", STANDARD.encode(format!("{}:{}", c.username, c.password))));
    let Some((scheme, parameters)) = challenge.split_once(' ') else {
        return Ok(basic);
    };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(basic);
    }
    let parameter = |name| parameter(parameters, name);
    let Some(realm) = parameter("realm") else {
        return Ok(None);
    };
    let scope = parameter("scope").unwrap_or_else(|| format!("repository:{repository}:pull"));
    let separator = if realm.contains('?') { '&' } else { '?' };
    let mut url = format!("{realm}{separator}scope={}", escape(&scope));
    if let Some(service) = parameter("service") {
        url.push_str("&service=");
        url.push_str(&escape(&service));
    }
    token(client, &url, basic).await.map(Some)
}

async fn token(client: &RegistryClient, url: &str, basic: Option<String>) -> Result<String, StoreError> {
    #[derive(Deserialize)]
    struct Token {
        token: Option<String>,
        access_token: Option<String>,
    }
    let mut headers = HeaderMap::new();
    if let Some(value) = basic.and_then(|b| http::HeaderValue::try_from(b).ok()) {
        headers.insert(AUTHORIZATION, value);
    }
    let answer = client.get_following(url, &headers).await?;
    if !answer.status().is_success() {
        return Err(refusal(url, answer).await);
    }
    let body = Limited::new(answer.into_body(), ERROR_BODY_MAX).collect().await;
    let body = body.map_err(|e| StoreError::Transport { url: url.to_string(), message: e.to_string() })?.to_bytes();
    let token: Token = serde_json::from_slice(&body).map_err(|e| StoreError::malformed(url, e))?;
    let token = token.token.or(token.access_token).ok_or_else(|| StoreError::malformed(url, "it holds no token"))?;
    Ok(format!("Bearer {token}"))
}

/// A parameter of a challenge, unquoted.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (key, after) = rest.trim_start_matches([',', ' ']).split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.to_string());
        }
        rest = next;
    }
}

fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b':' | b'/' | b',');
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_taken_apart() {
        let text = r#"realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push""#;
        assert_eq!(parameter(text, "realm").as_deref(), Some("https://auth.example/token"));
        assert_eq!(parameter(text, "scope").as_deref(), Some("repository:a/b:pull,push"));
        assert_eq!(parameter("realm=x,service=y", "service").as_deref(), Some("y"));
        assert_eq!(parameter("nonsense", "realm"), None);
        assert_eq!(parameter("realm=\"unclosed", "realm"), None);
    }

    #[test]
    fn the_closest_credential_is_used() {
        for (key, registry, repository, fits) in [
            ("https://index.docker.io/v1/", "docker.io", "library/nginx", true),
            ("reg.example:5000", "reg.example:5000", "a/b", true),
            ("reg.example:5000/a", "reg.example:5000", "a/b", true),
            ("reg.example:5000/a", "reg.example:5000", "ab/c", false),
            ("*.example.com", "eu.example.com", "a", true),
            ("*.example.com", "example.com", "a", false),
            ("other", "reg.example:5000", "a", false),
        ] {
            assert_eq!(matches(key, registry, repository), fits, "{key}");
        }
    }
}
