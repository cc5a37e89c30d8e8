//! Label selectors: requirements on the labels of an object, all of which must hold.

use std::fmt;

use serde_json::Value;

use super::SelectorError;
use crate::names;

/// What a requirement asks of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Its value is one of those given.
    In,
    /// Its value is none of those given, or it is absent.
    NotIn,
    /// It is present.
    Exists,
    /// It is absent.
    DoesNotExist,
    /// Its value is a number greater than that given.
    GreaterThan,
    /// Its value is a number less than that given.
    LessThan,
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What is asked of it.
    pub operator: Operator,
    /// With what.
    pub values: Vec<String>,
}

/// Requirements that must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Requirement {
    /// A requirement that is checked for what labels can be.
    ///
    /// # Errors
    /// [`SelectorError`] for bad keys, values, or numbers of values.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, SelectorError> {
        if let Some(problem) = names::qualified_name(key).into_iter().next() {
            return Err(SelectorError::Key { key: key.into(), problem });
        }
        let problem = match (operator, values.len()) {
            (Operator::In | Operator::NotIn, 0) => Some("for 'in', 'notin' operators, values set can't be empty"),
            (Operator::Exists | Operator::DoesNotExist, 1..) => {
                Some("values set must be empty for exists and does not exist")
            }
            (Operator::GreaterThan | Operator::LessThan, 0 | 2..) => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            (Operator::GreaterThan | Operator::LessThan, 1) if values[0].parse::<i64>().is_err() => {
                Some("for 'Gt', 'Lt' operators, the value must be an integer")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(SelectorError::Count { count: values.len(), problem });
        }
        for (index, value) in values.iter().enumerate() {
            if let Some(problem) = names::label_value(value).into_iter().next() {
                return Err(SelectorError::Value { key: key.into(), index, value: value.clone(), problem });
            }
        }
        Ok(Self { key: key.into(), operator, values })
    }

    /// Whether it demands that label to have this very value.
    pub fn demands(&self, key: &str, value: &str) -> bool {
        self.key == key
            && self.operator == Operator::In
            && self.values.len() == 1
            && self.values.iter().any(|v| v == value)
    }

    /// Whether it holds for a label with this value, or for its absence.
    pub fn matches(&self, label: Option<&str>) -> bool {
        match (self.operator, label) {
            (Operator::Exists, label) => label.is_some(),
            (Operator::DoesNotExist, label) => label.is_none(),
            (Operator::In, Some(label)) => self.values.iter().any(|v| v == label),
            (Operator::NotIn, Some(label)) => self.values.iter().all(|v| v != label),
            (Operator::NotIn, None) => true,
            (Operator::GreaterThan, Some(label)) => {
                self.number().zip(label.parse().ok()).is_some_and(|(n, l): (i64, i64)| l > n)
            }
            (Operator::LessThan, Some(label)) => {
                self.number().zip(label.parse().ok()).is_some_and(|(n, l): (i64, i64)| l < n)
            }
            (Operator::In | Operator::GreaterThan | Operator::LessThan, None) => false,
        }
    }

    fn number(&self) -> Option<i64> {
        self.values.first()?.parse().ok()
    }
}

impl LabelSelector {
    /// Every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// No object at all: an absent selector in a spec.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// From requirements.
    pub fn all_of(requirements: Vec<Requirement>) -> Self {
        Self { requirements, nothing: false }
    }

    /// Objects with exactly these labels among theirs: the selectors of Services and ReplicationControllers.
    pub fn of_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let is = |(key, value): (&str, &str)| Requirement {
            key: key.into(),
            operator: Operator::In,
            values: vec![value.into()],
        };
        Self::all_of(labels.into_iter().map(is).collect())
    }

    /// From text such as `app=web,tier in (a,b),!old`; empty text selects everything.
    ///
    /// # Errors
    /// [`SelectorError`] with the words Kubernetes uses.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        super::parse::labels(text).map(Self::all_of)
    }

    /// From the object in a spec (`meta/v1 LabelSelector`): `null` selects nothing, `{}` everything.
    ///
    /// # Errors
    /// [`SelectorError`] for what is not a label selector.
    pub fn from_object(object: &Value) -> Result<Self, SelectorError> {
        let map = match object {
            Value::Null => return Ok(Self::nothing()),
            Value::Object(map) => map,
            _ => return Err(SelectorError::Shape),
        };
        let mut requirements = Vec::new();
        match map.get("matchLabels") {
            None | Some(Value::Null) => {}
            Some(Value::Object(labels)) => {
                for (key, value) in labels {
                    let value = value.as_str().ok_or(SelectorError::Shape)?;
                    requirements.push(Requirement::new(key, Operator::In, vec![value.into()])?);
                }
            }
            Some(_) => return Err(SelectorError::Shape),
        }
        match map.get("matchExpressions") {
            None | Some(Value::Null) => {}
            Some(Value::Array(expressions)) => {
                for expression in expressions {
                    requirements.push(from_expression(expression)?);
                }
            }
            Some(_) => return Err(SelectorError::Shape),
        }
        Ok(Self::all_of(requirements))
    }

    /// From the typed object in a spec; `None` selects nothing.
    ///
    /// # Errors
    /// [`SelectorError`] for bad keys, operators or values.
    pub fn from_typed(
        selector: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>,
    ) -> Result<Self, SelectorError> {
        let Some(selector) = selector else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::In, vec![value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator(&expression.operator)?, values)?);
        }
        Ok(Self::all_of(requirements))
    }

    /// Whether an object with these labels is selected. `label` looks one up.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(label(&r.key)))
    }

    /// Whether an object with `metadata.labels` is selected.
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.matches(|key| labels.get(key).and_then(Value::as_str))
    }

    /// Whether a map of labels is selected.
    pub fn matches_labels(&self, labels: Option<&std::collections::BTreeMap<String, String>>) -> bool {
        self.matches(|key| labels.and_then(|l| l.get(key)).map(String::as_str))
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Its requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

fn from_expression(expression: &Value) -> Result<Requirement, SelectorError> {
    let text = |field: &str| expression.get(field).and_then(Value::as_str).ok_or(SelectorError::Shape);
    let values = match expression.get("values") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => {
            let texts: Option<Vec<String>> = values.iter().map(|v| v.as_str().map(String::from)).collect();
            texts.ok_or(SelectorError::Shape)?
        }
        Some(_) => return Err(SelectorError::Shape),
    };
    Requirement::new(text("key")?, operator(text("operator")?)?, values)
}

fn operator(text: &str) -> Result<Operator, SelectorError> {
    match text {
        "In" => Ok(Operator::In),
        "NotIn" => Ok(Operator::NotIn),
        "Exists" => Ok(Operator::Exists),
        "DoesNotExist" => Ok(Operator::DoesNotExist),
        other => Err(SelectorError::Operator { operator: other.into() }),
    }
}

/// The text of a selector, as in `status.selector` of a Scale: requirements sorted by key.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&Requirement> = self.requirements.iter().collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        for (index, requirement) in sorted.into_iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.values.clone();
        values.sort();
        let list = values.join(",");
        let key = &self.key;
        match self.operator {
            Operator::In if values.len() == 1 => write!(f, "{key}={list}"),
            Operator::In => write!(f, "{key} in ({list})"),
            Operator::NotIn if values.len() == 1 => write!(f, "{key}!={list}"),
            Operator::NotIn => write!(f, "{key} notin ({list})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{list}"),
            Operator::LessThan => write!(f, "{key}<{list}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::LabelSelector;

    #[test]
    fn text_selects() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "a", "empty": "", "n": "5"}}});
        for (text, selected) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web , tier=a", true),
            ("app=db", false),
            ("app!=db", true),
            ("nope!=x", true),
            ("nope=x", false),
            ("app", true),
            ("!app", false),
            ("!nope", true),
            ("tier in (a,b)", true),
            ("tier in ( b , c )", false),
            ("tier notin (b)", true),
            ("nope notin (b)", true),
            ("empty=", true),
            ("empty in (,x)", true),
            ("n>4", true),
            ("n<5", false),
            ("app in (web),tier,!nope,n>1", true),
            ("in=x", false),
            ("notin in (notin)", false),
        ] {
            let selector = LabelSelector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(selector.matches_object(&object), selected, "{text}");
            assert_eq!(LabelSelector::parse(&selector.to_string()).map(|s| s.to_string()), Ok(selector.to_string()));
        }
        for bad in [
            "=",
            "a=b,",
            ",",
            "a in",
            "a in ()",
            "a in (b",
            "a b",
            "a=b=c",
            "!",
            "a>x",
            "a in (b))",
            "-a",
            "a=-b",
            "a,,b",
        ] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn objects_select() {
        let object = json!({"metadata": {"labels": {"app": "web"}}});
        for (selector, selected) in [
            (Value::Null, false),
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "web"]}]}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}), false),
        ] {
            let parsed = LabelSelector::from_object(&selector).unwrap_or_else(|e| panic!("{selector}: {e}"));
            assert_eq!(parsed.matches_object(&object), selected, "{selector}");
        }
        for bad in [
            json!([]),
            json!({"matchLabels": []}),
            json!({"matchLabels": {"a b": "c"}}),
            json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}),
            json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
            json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}),
        ] {
            assert!(LabelSelector::from_object(&bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_answered(text in "[a-c!=<>(), inot.]{0,40}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                proptest::prop_assert!(LabelSelector::parse(&selector.to_string()).is_ok());
            }
        }
    }
}
