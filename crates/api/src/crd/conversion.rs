//! Conversion by webhook: what is asked, and what is believed of the answer.
//!
//! A webhook may change everything about an object but who it is: of metadata only labels and annotations are taken over.

use serde_json::{Map, Value, json};

use crate::rules::check::{At, Errors};
use crate::rules::metadata;

/// The group of `ConversionReview`.
const GROUP: &str = "apiextensions.k8s.io";

/// The body of a call, and what its answer will be held to.
#[derive(Debug)]
pub struct Review<'a> {
    objects: &'a [Value],
    desired: &'a str,
    uid: &'a str,
    version: &'static str,
}

/// An answer that cannot be used. Stands after `conversion webhook for <kind> `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConversionError {
    /// The webhook understands no review that is known here.
    #[error("failed: no supported conversion review versions")]
    Versions,
    /// The answer is no review, or another's.
    #[error("failed: {0}")]
    Answer(String),
    /// The webhook says that it could not.
    #[error("failed: {0}")]
    Refused(String),
    /// Objects are missing, or there are more than were sent.
    #[error("returned {returned} objects, expected {sent}")]
    Count {
        /// How many came back.
        returned: usize,
        /// How many went.
        sent: usize,
    },
    /// An object is not the one that was sent.
    #[error("returned invalid converted object at index {index}: {why}")]
    Object {
        /// Which.
        index: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The metadata of an object is not such.
    #[error("returned invalid metadata in object at index {index}: {why}")]
    Metadata {
        /// Which.
        index: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl<'a> Review<'a> {
    /// Asks for `objects` in the version `desired` (`group/version`). `versions` is what the webhook understands.
    ///
    /// # Errors
    /// [`ConversionError::Versions`].
    pub fn new(
        objects: &'a [Value],
        desired: &'a str,
        uid: &'a str,
        versions: &Value,
    ) -> Result<Self, ConversionError> {
        let known = versions.as_array().into_iter().flatten().find_map(|version| match version.as_str() {
            Some("v1") => Some("v1"),
            Some("v1beta1") => Some("v1beta1"),
            _ => None,
        });
        let version = known.ok_or(ConversionError::Versions)?;
        Ok(Self { objects, desired, uid, version })
    }

    /// What is sent.
    pub fn body(&self) -> Value {
        json!({
            "kind": "ConversionReview",
            "apiVersion": format!("{GROUP}/{}", self.version),
            "request": {"uid": self.uid, "desiredAPIVersion": self.desired, "objects": self.objects},
        })
    }

    /// The converted objects of an answer, in the order in which they were sent.
    ///
    /// # Errors
    /// [`ConversionError`].
    pub fn read(&self, mut answer: Value) -> Result<Vec<Value>, ConversionError> {
        if self.version == "v1" {
            let text = |field: &str| answer[field].as_str().unwrap_or_default().to_string();
            let (api_version, kind) = (text("apiVersion"), text("kind"));
            if api_version != format!("{GROUP}/v1") || kind != "ConversionReview" {
                let words = |api_version: &str, kind: &str| format!("{api_version}, Kind={kind}");
                return Err(ConversionError::Answer(format!(
                    "expected webhook response of {}, got {}",
                    words(&format!("{GROUP}/v1"), "ConversionReview"),
                    words(&api_version, &kind)
                )));
            }
        }
        if !answer["response"].is_object() {
            return Err(ConversionError::Answer("no response provided".into()));
        }
        let response = answer["response"].take();
        let uid = response["uid"].as_str().unwrap_or_default();
        if self.version == "v1" && uid != self.uid {
            return Err(ConversionError::Answer(format!("expected response.uid={:?}, got {uid:?}", self.uid)));
        }
        let status = response["result"]["status"].as_str().unwrap_or_default();
        if status != "Success" {
            let message = response["result"]["message"].as_str().filter(|m| !m.is_empty());
            let otherwise = || format!("response.result.status was '{status}', not 'Success'");
            return Err(ConversionError::Refused(message.map_or_else(otherwise, str::to_string)));
        }
        let converted = match response {
            Value::Object(mut fields) => fields.shift_remove("convertedObjects").unwrap_or_default(),
            _ => Value::Null,
        };
        let Value::Array(converted) = converted else {
            return Err(ConversionError::Count { returned: 0, sent: self.objects.len() });
        };
        if converted.len() != self.objects.len() {
            return Err(ConversionError::Count { returned: converted.len(), sent: self.objects.len() });
        }
        let pairs = self.objects.iter().zip(converted).enumerate();
        pairs.map(|(index, (sent, got))| self.believe(index, sent, got)).collect()
    }

    fn believe(&self, index: usize, sent: &Value, mut got: Value) -> Result<Value, ConversionError> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let object = |why: String| ConversionError::Object { index, why };
        let received = text(&got["apiVersion"]);
        if received != self.desired {
            return Err(object(format!("invalid groupVersion (expected {}, received {received})", self.desired)));
        }
        if got["kind"] != sent["kind"] {
            let (expected, received) = (text(&sent["kind"]), text(&got["kind"]));
            return Err(object(format!("invalid kind (expected {expected}, received {received})")));
        }
        for (field, words) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
            let (before, after) = (text(&sent["metadata"][field]), text(&got["metadata"][field]));
            if before != after {
                return Err(object(format!("must have the same {words}: {before} != {after}")));
            }
        }
        let metadata =
            restored(&sent["metadata"], &got["metadata"]).map_err(|why| ConversionError::Metadata { index, why })?;
        got["metadata"] = metadata;
        Ok(got)
    }
}

/// The metadata that was sent, with the labels and annotations that came back.
fn restored(sent: &Value, got: &Value) -> Result<Value, String> {
    let Value::Object(got) = got else { return Err("missing metadata in converted object".into()) };
    let mut metadata = sent.as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match got.get(field) {
            None | Some(Value::Null) => drop(metadata.shift_remove(field)),
            Some(Value::Object(entries)) => {
                check_entries(field, entries)?;
                metadata.insert(field.into(), Value::Object(entries.clone()));
            }
            Some(_) => return Err(format!("invalid metadata.{field} in converted object")),
        }
    }
    Ok(Value::Object(metadata))
}

fn check_entries(field: &str, entries: &Map<String, Value>) -> Result<(), String> {
    if let Some((key, _)) = entries.iter().find(|(_, value)| !value.is_string()) {
        return Err(format!("metadata.{field}[{key}] must be a string, but is not in converted object"));
    }
    let (mut errors, at) = (Errors::default(), At::ROOT.field("metadata"));
    let (here, value) = (at.field(field), Value::Object(entries.clone()));
    match field {
        "labels" => metadata::labels(&value, &here, &mut errors),
        _ => metadata::annotations(&value, &here, &mut errors),
    }
    errors.0.first().map_or(Ok(()), |error| Err(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Review;

    fn object(version: &str, metadata: Value) -> Value {
        let mut metadata = metadata;
        metadata["name"] = json!("a");
        metadata["uid"] = json!("u");
        json!({"apiVersion": format!("g/{version}"), "kind": "K", "metadata": metadata})
    }

    fn answer(change: impl FnOnce(&mut Value)) -> Result<Value, String> {
        let sent = [object("v1", json!({"labels": {"a": "b"}, "generation": 2}))];
        let review = Review::new(&sent, "g/v2", "id", &json!(["v7", "v1"])).map_err(|e| e.to_string())?;
        let mut answer = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": {"uid": "id",
            "result": {"status": "Success"}, "convertedObjects": [object("v2", json!({"labels": {"c": "d"}, "generation": 9}))]}});
        change(&mut answer);
        review.read(answer).map(|mut o| o.remove(0)).map_err(|e| e.to_string())
    }

    /// What is done to a good answer, and the error.
    type Case = (fn(&mut Value), &'static str);

    #[test]
    fn only_labels_and_annotations_are_the_webhooks() {
        assert_eq!(
            answer(|_| {}),
            Ok(object("v2", json!({"labels": {"c": "d"}, "generation": 2}))).map(|mut o| {
                // The order of metadata is that of the original.
                o["metadata"] = json!({"labels": {"c": "d"}, "generation": 2, "name": "a", "uid": "u"});
                o
            })
        );
        let cases: &[Case] = &[
            (|a| a["response"]["uid"] = json!("x"), "failed: expected response.uid=\"id\", got \"x\""),
            (
                |a| a["kind"] = json!("X"),
                "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got apiextensions.k8s.io/v1, Kind=X",
            ),
            (|a| a["response"] = Value::Null, "failed: no response provided"),
            (|a| a["response"]["result"] = json!({"status": "Failed", "message": "no"}), "failed: no"),
            (|a| a["response"]["result"] = json!({}), "failed: response.result.status was '', not 'Success'"),
            (|a| a["response"]["convertedObjects"] = json!([]), "returned 0 objects, expected 1"),
            (
                |a| a["response"]["convertedObjects"][0]["apiVersion"] = json!("g/v3"),
                "returned invalid converted object at index 0: invalid groupVersion (expected g/v2, received g/v3)",
            ),
            (
                |a| a["response"]["convertedObjects"][0]["metadata"]["name"] = json!("b"),
                "returned invalid converted object at index 0: must have the same name: a != b",
            ),
            (
                |a| a["response"]["convertedObjects"][0]["metadata"]["labels"] = json!({"x": 1}),
                "returned invalid metadata in object at index 0: metadata.labels[x] must be a string, but is not in converted object",
            ),
        ];
        for (change, message) in cases {
            assert_eq!(answer(change), Err((*message).to_string()));
        }
        let none = Review::new(&[], "g/v2", "id", &json!(["v7"])).map(|_| ()).map_err(|e| e.to_string());
        assert_eq!(none, Err("failed: no supported conversion review versions".into()));
    }
}
