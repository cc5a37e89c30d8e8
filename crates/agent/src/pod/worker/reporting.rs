//! The pod's status, written when it changed and tried again when it could not be.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use mizzen_client::ClientError;

use super::Worker;
use crate::pod::backoff::Retry;
use crate::pod::{execute, patch, status};

/// Wait before a status is written again that could not be, seconds: first and longest.
const WRITE_RETRY: (i64, i64) = (1, 10);

impl Worker {
    pub(super) fn write_status(&mut self, now: Timestamp) {
        let due = self.write_retry.is_none_or(|r| r.at <= now);
        if self.writing || self.observed.gone || !due || self.shown == self.written {
            return;
        }
        let (ctx, pod) = (Arc::clone(&self.ctx), Arc::clone(&self.pod));
        let body = patch::status(pod.metadata.uid.as_deref().unwrap_or_default(), &self.written, &self.shown);
        if body["status"].as_object().is_none_or(serde_json::Map::is_empty) {
            // Only what others wrote differs.
            self.written = self.shown.clone();
            return;
        }
        self.writing = true;
        self.tasks.spawn(execute::write_status(ctx, pod, body, self.shown.clone()));
    }

    pub(super) fn take_written(&mut self, status: PodStatus, result: Result<bool, ClientError>, now: Timestamp) {
        self.writing = false;
        match result {
            Ok(there) => {
                self.write_retry = None;
                self.observed.gone |= !there;
                self.observed.reported_terminal |= status::is_terminal(status.phase.as_deref());
                self.written = status;
            }
            Err(error) => {
                tracing::warn!(pod = self.name(), error = execute::chain(&error), "status not written; trying again");
                self.write_retry = Some(Retry::after(self.write_retry, now, WRITE_RETRY.0, WRITE_RETRY.1));
            }
        }
    }
}
