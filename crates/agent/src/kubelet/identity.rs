//! Who asks the kubelet endpoint, and whether they may.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use mizzen_client::{Client, ClientError};
use serde_json::json;

/// Members of this group may do anything.
const MASTERS: &str = "system:masters";

/// A client by its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Common name.
    pub user: String,
    /// Organizations.
    pub groups: Vec<String>,
}

impl Identity {
    /// From a certificate whose chain was verified; `None` if it names nobody.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?.to_string();
        let groups = subject.iter_organization().filter_map(|o| o.as_str().ok().map(str::to_string)).collect();
        (!user.is_empty()).then_some(Self { user, groups })
    }

    /// Whether this client may use `subresource` of the node: known clients at once, others by asking the API.
    pub async fn may(
        &self,
        client: &Client,
        known: &[String],
        node: &str,
        verb: &str,
        subresource: &str,
    ) -> Result<bool, ClientError> {
        if self.groups.iter().any(|g| g == MASTERS) || known.contains(&self.user) {
            return Ok(true);
        }
        let review: SubjectAccessReview = client
            .create(&SubjectAccessReview {
                spec: k8s_openapi::api::authorization::v1::SubjectAccessReviewSpec {
                    user: Some(self.user.clone()),
                    groups: Some(self.groups.clone()),
                    resource_attributes: serde_json::from_value(json!({
                        "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": node,
                    }))
                    .ok(),
                    ..Default::default()
                },
                ..SubjectAccessReview::default()
            })
            .await?;
        Ok(review.status.is_some_and(|s| s.allowed))
    }
}
