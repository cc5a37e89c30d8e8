//! APIServices, read once for all requests.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mizzen_store::Snapshot;
use serde_json::Value;

use super::PREFIX;
use crate::callout::{Client, Destination, Trust};

/// Who serves which group and version.
#[derive(Debug, Default)]
pub(crate) struct Services {
    remote: Vec<Remote>,
    /// The highest `groupPriorityMinimum` of each group.
    groups: HashMap<String, i64>,
    /// Different for different remote services.
    pub fingerprint: u64,
}

/// An APIService that another server answers.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    /// `<version>.<group>`.
    pub name: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub service: String,
    pub port: u16,
    pub version_priority: i64,
    /// As its status says.
    pub available: bool,
    /// Where it is, or why it cannot be called.
    pub to: Result<Destination, String>,
}

impl Services {
    /// Of all stored APIServices.
    pub fn new(snapshot: &Snapshot) -> Self {
        let mut out = Self::default();
        let mut hasher = DefaultHasher::new();
        for entry in snapshot.prefix(PREFIX) {
            let Ok(object) = serde_json::from_slice::<Value>(&entry.value) else { continue };
            let spec = &object["spec"];
            let group = spec["group"].as_str().unwrap_or_default();
            let priority = out.groups.entry(group.into()).or_default();
            *priority = (*priority).max(spec["groupPriorityMinimum"].as_i64().unwrap_or_default());
            if let Some(remote) = Remote::read(&object) {
                spec.to_string().hash(&mut hasher);
                remote.available.hash(&mut hasher);
                out.remote.push(remote);
            }
        }
        out.fingerprint = hasher.finish();
        out
    }

    /// Somebody else serves something.
    pub fn has_remote(&self) -> bool {
        !self.remote.is_empty()
    }

    /// All that others serve.
    pub fn all_remote(&self) -> &[Remote] {
        &self.remote
    }

    /// The other server of a group and version.
    pub fn remote(&self, group: &str, version: &str) -> Option<&Remote> {
        self.remote.iter().find(|remote| remote.group == group && remote.version == version)
    }

    /// Where a group stands among the others: higher comes first.
    pub fn group_priority(&self, group: &str) -> i64 {
        self.groups.get(group).copied().unwrap_or_default()
    }
}

impl Remote {
    /// `None` for those that this server answers itself.
    pub fn read(object: &Value) -> Option<Self> {
        let spec = &object["spec"];
        let service = spec.get("service").filter(|service| service.is_object())?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let (namespace, name) = (text(&service["namespace"]), text(&service["name"]));
        let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
        let to = trust(spec).map(|trust| {
            let mut to = Destination::service(&namespace, &name, port, "/", trust);
            to.origin.client = Client::FrontProxy;
            to
        });
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        Some(Self {
            name: text(&object["metadata"]["name"]),
            group: text(&spec["group"]),
            version: text(&spec["version"]),
            service: name,
            namespace,
            port,
            version_priority: spec["versionPriority"].as_i64().unwrap_or_default(),
            available: conditions.clone().any(|c| c["type"] == "Available" && c["status"] == "True"),
            to,
        })
    }
}

fn trust(spec: &Value) -> Result<Trust, String> {
    if spec["insecureSkipTLSVerify"] == true {
        return Ok(Trust::Anyone);
    }
    match spec["caBundle"].as_str().unwrap_or_default() {
        "" => Ok(Trust::System),
        text => {
            let pem = STANDARD.decode(text.trim()).map_err(|_| "caBundle is not base64".to_string())?;
            Ok(Trust::Bundle(pem.into()))
        }
    }
}
