//! The objects of the demo.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use super::image;
use crate::error::Result;

/// Namespace of everything.
pub const NAMESPACE: &str = "default";
/// Name of the Deployment and its Service.
pub const NAME: &str = "web";

/// Three replicas of the sample program.
pub fn deployment() -> Result<Deployment> {
    let container = json!({
        "name": "web",
        "image": image::NAME,
        "args": ["--version", "v1"],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    });
    Ok(serde_json::from_value(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 5},
            },
        },
    }))?)
}

/// The Service in front of them.
pub fn service() -> Result<Service> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"selector": {"app": NAME}, "ports": [{"port": 80, "targetPort": 8080}]},
    }))?)
}
