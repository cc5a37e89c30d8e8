//! Field selectors: `metadata.name=a,status.phase!=Running`, on the fields that a kind declares.

use std::borrow::Cow;

use serde_json::Value;

use super::{REQUIREMENTS_MAX, SelectorError};
use crate::kind::SelectableField;

/// One term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    /// `status.phase`.
    pub field: String,
    /// The field must equal `value`; else it must differ.
    pub equals: bool,
    /// The value.
    pub value: String,
}

/// Terms that must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// From text; empty text selects everything. `\,`, `\=` and `\\` stand for the signs themselves.
    ///
    /// # Errors
    /// [`SelectorError`] with the words Kubernetes uses.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for term in split_terms(text).into_iter().filter(|t| !t.is_empty()) {
            if requirements.len() == REQUIREMENTS_MAX {
                return Err(SelectorError::TooMany { max: REQUIREMENTS_MAX });
            }
            let (field, equals, value) = split_term(term)
                .ok_or_else(|| SelectorError::FieldTerm { selector: text.into(), term: term.into() })?;
            requirements.push(FieldRequirement { field: field.into(), equals, value: unescape(value)? });
        }
        Ok(Self { requirements })
    }

    /// The same terms on fields of other names: one version's labels in another's.
    pub fn renamed(mut self, name: impl Fn(&str) -> Cow<'_, str>) -> Self {
        for requirement in &mut self.requirements {
            requirement.field = name(&requirement.field).into_owned();
        }
        self
    }

    /// Checks that the kind has the fields: beside name and namespace those of which `selectable` says so.
    ///
    /// # Errors
    /// [`SelectorError::FieldNotSupported`] for the first it has not.
    pub fn check(&self, selectable: impl Fn(&str) -> bool) -> Result<(), SelectorError> {
        let known = |field: &str| field == "metadata.name" || field == "metadata.namespace" || selectable(field);
        match self.requirements.iter().find(|r| !known(&r.field)) {
            Some(unknown) => Err(SelectorError::FieldNotSupported { label: unknown.field.clone() }),
            None => Ok(()),
        }
    }

    /// The value that a field must equal, if one is asked for.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equals && r.field == field).map(|r| r.value.as_str())
    }

    /// Whether an object is selected. `value` tells a field; one that is unset is empty.
    pub fn matches(&self, value: impl Fn(&str) -> String) -> bool {
        self.requirements.iter().all(|r| (value(&r.field) == r.value) == r.equals)
    }

    /// Whether an object of a kind with these selectable fields is selected.
    pub fn matches_object(&self, object: &Value, selectable: &[SelectableField]) -> bool {
        self.matches(|field| {
            let metadata = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_string();
            match field {
                "metadata.name" => metadata("name"),
                "metadata.namespace" => metadata("namespace"),
                other => selectable.iter().find(|s| s.label == other).map_or_else(String::new, |s| (s.value)(object)),
            }
        })
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Its terms.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }
}

/// At commas that no backslash precedes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// At the first operator: field, whether it must equal, value.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (at, _) in term.char_indices() {
        for (sign, equals) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = term[at..].strip_prefix(sign) {
                return Some((&term[..at], equals, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let bad = || SelectorError::Escape { term: value.into() };
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(sign @ ('\\' | ',' | '=')) => out.push(sign),
                _ => return Err(bad()),
            },
            ',' | '=' => return Err(bad()),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::FieldSelector;
    use crate::kind::SelectableField;

    #[test]
    fn fields_select() {
        let selectable = [SelectableField {
            label: "status.phase",
            value: |o| o["status"]["phase"].as_str().unwrap_or_default().into(),
        }];
        let object = json!({"metadata": {"name": "a,b", "namespace": "d"}, "status": {"phase": "Running"}});
        for (text, selected) in [
            ("", true),
            ("metadata.namespace=d", true),
            ("metadata.namespace==d,status.phase!=Failed", true),
            ("status.phase=", false),
            ("status.phase!=", true),
            ("metadata.name=a\\,b", true),
        ] {
            let selector = FieldSelector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(selector.check(|f| selectable[0].label == f), Ok(()), "{text}");
            assert_eq!(selector.matches_object(&object, &selectable), selected, "{text}");
        }
        let unknown = FieldSelector::parse("spec.foo=1")
            .expect("readable")
            .check(|f| selectable[0].label == f)
            .expect_err("unknown");
        assert_eq!(unknown.to_string(), "field label not supported: spec.foo");
        for bad in ["a", "a=b=c", "a=\\x", "a=b\\"] {
            assert!(FieldSelector::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(FieldSelector::parse("metadata.name=x").expect("readable").required("metadata.name"), Some("x"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_answered(text in "[a-c=!,\\\\.é]{0,30}") {
            let _ = FieldSelector::parse(&text);
        }
    }
}
