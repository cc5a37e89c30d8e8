//! How a program ended, in the words of the error channel.

use bytes::Bytes;
use serde_json::json;

/// How an exec or attach ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The command exited with this code.
    Exited(i32),
    /// The streams of the attached container ended.
    Ended,
    /// It could not be run, or had to be given up.
    Failed(String),
    /// The client has gone: nobody is there to be told.
    Gone,
}

/// How the error channel words an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wording {
    /// A `Status` object, for success too (version 4 and later).
    Status,
    /// Plain text, and nothing for success (before version 4).
    Text,
}

impl Outcome {
    /// What to write to the error channel; nothing if nothing is to be said.
    pub(super) fn wording(&self, wording: Wording) -> Option<Bytes> {
        match wording {
            Wording::Status => self.status().map(|status| Bytes::from(status.to_string())),
            Wording::Text => self.message().map(Bytes::from),
        }
    }

    fn message(&self) -> Option<String> {
        match self {
            Outcome::Exited(0) | Outcome::Ended | Outcome::Gone => None,
            Outcome::Exited(code) => Some(format!("command terminated with non-zero exit code: exit status {code}")),
            Outcome::Failed(message) => Some(format!("Internal error occurred: {message}")),
        }
    }

    fn status(&self) -> Option<serde_json::Value> {
        let message = self.message();
        match self {
            Outcome::Exited(0) | Outcome::Ended => Some(json!({"metadata": {}, "status": "Success"})),
            Outcome::Exited(code) => Some(json!({
                "metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            })),
            Outcome::Failed(cause) => Some(json!({
                "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError",
                "details": {"causes": [{"message": cause}]}, "code": 500,
            })),
            Outcome::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(outcome: &Outcome, wording: Wording) -> Option<String> {
        outcome.wording(wording).map(|b| String::from_utf8(b.to_vec()).unwrap())
    }

    #[test]
    fn success_is_said_only_in_a_status() {
        for outcome in [Outcome::Exited(0), Outcome::Ended] {
            let said = words(&outcome, Wording::Status);
            assert_eq!(said.as_deref(), Some(r#"{"metadata":{},"status":"Success"}"#));
            assert_eq!(words(&outcome, Wording::Text), None);
        }
        assert_eq!(words(&Outcome::Gone, Wording::Status), None);
    }

    #[test]
    fn exit_codes_are_causes() {
        let status: serde_json::Value =
            serde_json::from_str(&words(&Outcome::Exited(42), Wording::Status).unwrap()).unwrap();
        assert_eq!(status["status"], "Failure");
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "42"}));
        assert!(words(&Outcome::Exited(42), Wording::Text).unwrap().contains("exit status 42"));
    }

    #[test]
    fn failures_are_internal_errors() {
        let failed = Outcome::Failed("no such program".into());
        let status: serde_json::Value = serde_json::from_str(&words(&failed, Wording::Status).unwrap()).unwrap();
        assert_eq!(status["message"], "Internal error occurred: no such program");
        assert_eq!((&status["reason"], &status["code"]), (&json!("InternalError"), &json!(500)));
    }
}
