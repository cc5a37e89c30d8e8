//! Builds a JSON value from either parser, noting duplicate keys and minding the depth.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::{DecodeError, Decoded, Limits};
use crate::schema::At;

/// At most so many duplicate fields are named.
const DUPLICATES_MAX: usize = 100;
/// Most levels of YAML: its parser takes some 20 KiB of stack for each, and threads have 2 MiB.
const YAML_DEPTH_MAX: usize = 64;
/// Most nodes that aliases in YAML may repeat; a few lines could else stand for gigabytes.
const REPLAYS_MAX: usize = 100_000;
/// Marks the error that the depth check raises inside a parser.
const TOO_DEEP: &str = "nested too deeply";

pub(super) fn json(bytes: &[u8], limits: Limits) -> Result<Decoded, DecodeError> {
    let duplicates = RefCell::new(Vec::new());
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = Node { at: At::ROOT, depth_left: limits.depth_max, yaml: false, duplicates: &duplicates }
        .deserialize(&mut parser)
        .and_then(|value| parser.end().map(|()| value));
    match value {
        Ok(value) => Ok(Decoded { value, problems: duplicates.into_inner() }),
        Err(error) if error.to_string().starts_with(TOO_DEEP) => Err(DecodeError::TooDeep),
        Err(error) => Err(DecodeError::Json { message: error.to_string() }),
    }
}

pub(super) fn yaml(bytes: &[u8], limits: Limits) -> Result<Decoded, DecodeError> {
    let duplicates = RefCell::new(Vec::new());
    let options = yaml_options(limits);
    let value = serde_saphyr::with_deserializer_from_slice_with_options(bytes, options, |parser| {
        Node { at: At::ROOT, depth_left: limits.depth_max, yaml: true, duplicates: &duplicates }.deserialize(parser)
    });
    match value {
        Ok(value) => Ok(Decoded { value, problems: yaml_problems(&duplicates.into_inner()) }),
        Err(error) => {
            let message = error.to_string();
            if message.contains(TOO_DEEP) { Err(DecodeError::TooDeep) } else { Err(DecodeError::Yaml { message }) }
        }
    }
}

/// In YAML all duplicates are one problem, told by their lines.
fn yaml_problems(duplicates: &[String]) -> Vec<String> {
    if duplicates.is_empty() { Vec::new() } else { vec![format!("yaml: unmarshal errors:\n{}", duplicates.join("\n"))] }
}

fn yaml_options(limits: Limits) -> serde_saphyr::Options {
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = limits.depth_max.min(YAML_DEPTH_MAX);
    budget.flow_nesting_limit = budget.max_depth;
    let mut options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        with_snippet: false
    };
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = REPLAYS_MAX;
    options
}

fn duplicate(at: &At<'_>) -> String {
    format!("duplicate field \"{at}\"")
}

/// The field that such a message is about.
pub(super) fn duplicate_path(problem: &str) -> Option<&str> {
    problem.strip_prefix("duplicate field \"")?.strip_suffix('"')
}

#[derive(Clone, Copy)]
struct Node<'a> {
    at: At<'a>,
    depth_left: usize,
    /// In YAML `1e3` and `2.0` are whole numbers: it is turned into JSON text in Kubernetes, which writes them so.
    yaml: bool,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
        if self.yaml && value.fract() == 0.0 && value.abs() < EXACT {
            return Ok((value as i64).into());
        }
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| A::Error::custom(TOO_DEEP))?;
        let mut out = Vec::new();
        loop {
            let node = Node { at: self.at.index(out.len()), depth_left, ..self };
            match items.next_element_seed(node)? {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| A::Error::custom(TOO_DEEP))?;
        let mut out = Map::new();
        loop {
            let (key, line) = match self.yaml {
                true => match entries.next_key::<Spanned<String>>()? {
                    Some(key) => (key.value, key.referenced.line()),
                    None => break,
                },
                false => match entries.next_key::<String>()? {
                    Some(key) => (key, 0),
                    None => break,
                },
            };
            let at = self.at.name(&key);
            let value = entries.next_value_seed(Node { at, depth_left, ..self })?;
            if out.contains_key(&key) {
                let told = match self.yaml {
                    true => format!("  line {line}: key {key:?} already set in map"),
                    false => duplicate(&at),
                };
                let mut duplicates = self.duplicates.borrow_mut();
                if duplicates.len() < DUPLICATES_MAX {
                    duplicates.push(told);
                }
            }
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::decode::{Limits, yaml};

    #[test]
    fn yaml_means_what_kubernetes_manifests_mean() {
        for (text, expected) in [
            ("mode: 0644", json!({"mode": 420})),
            ("a: '0644'\nb: \"1\"", json!({"a": "0644", "b": "1"})),
            ("a: 1\nb: 1.5\nc: true\nd: ~\ne:", json!({"a": 1, "b": 1.5, "c": true, "d": null, "e": null})),
            ("a: |\n  x\n  y\n", json!({"a": "x\ny\n"})),
            ("a: &x {b: 1}\nc: *x", json!({"a": {"b": 1}, "c": {"b": 1}})),
            ("a: &x {b: 1}\nc:\n  <<: *x\n  d: 2", json!({"a": {"b": 1}, "c": {"b": 1, "d": 2}})),
            ("1: a\ntrue: b", json!({"1": "a", "true": "b"})),
            (
                "cpu: 500m\nv: 1e3\nw: 10\ny: yes\nn: 'no'",
                json!({"cpu": "500m", "v": 1000, "w": 10, "y": true, "n": "no"}),
            ),
            ("d: 2026-01-02\nt: 2026-01-02T03:04:05Z", json!({"d": "2026-01-02", "t": "2026-01-02T03:04:05Z"})),
            ("{\"a\": [1, 2]}", json!({"a": [1, 2]})),
        ] {
            assert_eq!(yaml(text.as_bytes(), Limits::default()).map(|d| d.value), Ok(expected), "{text}");
        }
        for bad in ["a: b: c", "a: [", "- a\nb: c", "a: *nothing"] {
            assert!(yaml(bad.as_bytes(), Limits::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_reads_back_as_it_is_written() {
        for text in ["1.1184844674400973e+49", "123456789.123456789e100", "0.1e-7", "5e-324"] {
            let value = crate::decode::json(text.as_bytes(), Limits::default()).expect("JSON").value;
            assert_eq!(value.as_f64(), text.parse().ok(), "{text} is the nearest number");
            let again = crate::decode::json(value.to_string().as_bytes(), Limits::default()).expect("JSON").value;
            assert_eq!(again, value, "{text}");
        }
    }

    #[test]
    fn yaml_has_limits() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(yaml(bomb.as_bytes(), Limits::default()).is_err());
        let nested = |levels: usize| (0..levels).map(|level| format!("{}a:\n", " ".repeat(level))).collect::<String>();
        assert!(yaml(nested(50).as_bytes(), Limits::default()).is_ok());
        assert!(yaml(nested(5000).as_bytes(), Limits::default()).is_err());
        assert!(yaml("[".repeat(100_000).as_bytes(), Limits::default()).is_err());
        let large = format!("data: {{a: {}}}", "x".repeat(2_000_000));
        assert!(yaml(large.as_bytes(), Limits::default()).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_answered(text in "[-a-c0-9:{}\\[\\]\"', \n*&<|>.~!#%@]{0,60}") {
            let _ = yaml(text.as_bytes(), Limits::default());
            let _ = crate::decode::json(text.as_bytes(), Limits::default());
        }
    }
}
