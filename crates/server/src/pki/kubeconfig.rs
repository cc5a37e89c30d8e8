//! The kubeconfig of the administrator.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A kubeconfig (YAML) with everything embedded. `pem` holds a client's key and certificate.
pub fn render(server: &str, ca_pem: &str, user: &str, pem: &str) -> String {
    let (key, certificate) = match pem.find("-----BEGIN CERTIFICATE-----") {
        Some(at) => pem.split_at(at),
        None => (pem, ""),
    };
    let server = serde_json::Value::from(server);
    let [ca, certificate, key] = [ca_pem, certificate, key].map(|text| STANDARD.encode(text));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: mizzen
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: {user}@mizzen
  context:
    cluster: mizzen
    user: {user}
current-context: {user}@mizzen
preferences: {{}}
"
    )
}
