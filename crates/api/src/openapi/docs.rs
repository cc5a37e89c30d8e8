//! The descriptions of types and fields, collected by the build script. Unpacked for the time that a document is made.

use std::collections::HashMap;
use std::io::Read as _;

/// Descriptions by full name of the type.
#[derive(Debug, Default)]
pub(super) struct Docs {
    types: HashMap<String, TypeDocs>,
}

#[derive(Debug, Default)]
struct TypeDocs {
    text: String,
    fields: HashMap<String, String>,
}

impl Docs {
    pub fn load() -> Self {
        let packed: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.z"));
        let mut text = String::new();
        // What the build script wrote unpacks; if it did not, there would be no descriptions.
        if flate2::read::DeflateDecoder::new(packed).read_to_string(&mut text).is_err() {
            return Self::default();
        }
        let mut docs = Self::default();
        let mut here = String::new();
        for line in text.lines() {
            let Some((name, words)) = line.split_once('\t') else {
                continue;
            };
            let words = words.replace('\u{1}', "\n");
            if let Some(name) = name.strip_prefix('=') {
                name.clone_into(&mut here);
                docs.types.entry(here.clone()).or_default().text = words;
            } else if let Some(there) = docs.types.get_mut(&here) {
                there.fields.insert(name.into(), words);
            }
        }
        docs
    }

    /// What a type is.
    pub fn of_type(&self, name: &str) -> Option<&str> {
        self.types.get(name).map(|t| t.text.as_str()).filter(|t| !t.is_empty())
    }

    /// What a field is for.
    pub fn of_field(&self, name: &str, field: &str) -> Option<&str> {
        let found = self.types.get(name).and_then(|t| t.fields.get(field)).map(String::as_str);
        // The two fields that every object has are no fields in Rust.
        let common = match field {
            "apiVersion" => Some("Group and version of the schema that this object follows, as in apps/v1."),
            "kind" => Some("Name of the kind of this object, in CamelCase."),
            _ => None,
        };
        found.filter(|t| !t.is_empty()).or(common)
    }
}
