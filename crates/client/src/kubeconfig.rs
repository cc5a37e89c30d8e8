//! kubeconfig files: where the cluster is and who is asking (`client.authentication`, kubectl's `config` view).

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::HttpsConfig;

/// A kubeconfig with embedded certificates.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kubeconfig {
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
    #[serde(default)]
    current_context: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    item: T,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority_data: Option<String>,
    certificate_authority: Option<PathBuf>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<String>,
}

/// What the current context of a kubeconfig says, with the files that it refers to read.
#[derive(Clone)]
pub struct Access {
    /// `https://host:port`, with a path where one is called as a webhook.
    pub server: String,
    /// PEM of the CA that signed the server's certificate.
    pub ca_pem: Option<Vec<u8>>,
    /// The server's certificate is not to be verified.
    pub insecure: bool,
    /// The name that the server's certificate must be for, if not that of `server`.
    pub server_name: Option<String>,
    /// PEM of the client certificate and key.
    pub client_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// Bearer token.
    pub token: Option<String>,
    /// User and password.
    pub basic: Option<(String, String)>,
}

#[derive(Debug, Clone, Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
}

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// The file cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It is no kubeconfig.
    #[error("the kubeconfig is not valid YAML of the expected form: {message}")]
    Parse {
        /// What the parser says.
        message: String,
    },
    /// Something it refers to is missing.
    #[error("the kubeconfig has no {what} named {name:?}")]
    Missing {
        /// `context`, `cluster`, `user` or a field.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Embedded data is no base64.
    #[error("{field} of the kubeconfig is not base64")]
    Base64 {
        /// Which field.
        field: &'static str,
    },
}

impl Kubeconfig {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| KubeconfigError::Read { path: path.into(), source })?;
        Self::parse(&text)
    }

    /// Parses YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, KubeconfigError> {
        serde_saphyr::from_str(text).map_err(|e| KubeconfigError::Parse { message: e.to_string() })
    }

    /// The connection that the current context names.
    pub fn https(&self, user_agent: &str) -> Result<HttpsConfig, KubeconfigError> {
        let access = self.access()?;
        let missing = || KubeconfigError::Missing { what: "certificate-authority", name: self.current_context.clone() };
        Ok(HttpsConfig {
            server: access.server,
            ca_pem: access.ca_pem.ok_or_else(missing)?,
            client_pem: access.client_pem,
            token: access.token,
            user_agent: user_agent.to_string(),
        })
    }

    /// All that the current context says. A context without a user says nothing of credentials.
    pub fn access(&self) -> Result<Access, KubeconfigError> {
        let context = find(&self.contexts, "context", &self.current_context)?;
        let cluster = find(&self.clusters, "cluster", &context.cluster)?;
        let user = match context.user.as_str() {
            "" => &User::default(),
            name => find(&self.users, "user", name)?,
        };
        let ca_pem =
            material("certificate-authority", &cluster.certificate_authority_data, &cluster.certificate_authority)?;
        let certificate = material("client-certificate", &user.client_certificate_data, &user.client_certificate)?;
        let key = material("client-key", &user.client_key_data, &user.client_key)?;
        let token = match (&user.token, &user.token_file) {
            (None, Some(path)) => {
                let read = std::fs::read_to_string(path);
                let text = read.map_err(|source| KubeconfigError::Read { path: path.clone(), source })?;
                Some(text.trim().to_string())
            }
            (token, _) => token.clone(),
        };
        Ok(Access {
            server: cluster.server.clone(),
            ca_pem,
            insecure: cluster.insecure_skip_tls_verify,
            server_name: cluster.tls_server_name.clone(),
            client_pem: certificate.zip(key),
            token,
            basic: user.username.clone().zip(user.password.clone()),
        })
    }
}

fn find<'a, T>(list: &'a [Named<T>], what: &'static str, name: &str) -> Result<&'a T, KubeconfigError> {
    list.iter()
        .find(|n| n.name == name)
        .map(|n| &n.item)
        .ok_or_else(|| KubeconfigError::Missing { what, name: name.into() })
}

fn material(
    field: &'static str,
    data: &Option<String>,
    path: &Option<PathBuf>,
) -> Result<Option<Vec<u8>>, KubeconfigError> {
    if let Some(data) = data {
        return STANDARD.decode(data.trim()).map(Some).map_err(|_| KubeconfigError::Base64 { field });
    }
    let Some(path) = path else { return Ok(None) };
    std::fs::read(path).map(Some).map_err(|source| KubeconfigError::Read { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_the_current_context() {
        let text = "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {server: 'https://a:1', certificate-authority-data: YWJj}\n\
                    users:\n- name: u\n  user: {token: t}\ncontexts:\n- name: x\n  context: {cluster: c, user: u}\ncurrent-context: x\n";
        let https = super::Kubeconfig::parse(text).unwrap().https("test").unwrap();
        assert_eq!(
            (https.server.as_str(), https.ca_pem.as_slice(), https.token.as_deref()),
            ("https://a:1", &b"abc"[..], Some("t"))
        );
        assert!(super::Kubeconfig::parse("clusters: 3").is_err());
    }
}
