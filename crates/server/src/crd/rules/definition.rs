//! What is wrong with the rules of a definition when it is written: their form, their types, and what they could cost.

use std::sync::Arc;

use mizzen_api::field::FieldError;
use mizzen_cel::Decl;
use serde_json::Value;

use super::compile::Rule;
use super::field_path;

/// The estimated cost that one expression may have.
const EXPRESSION_COST_MAX: u64 = 10_000_000;
/// The estimated cost that all expressions of a version may have.
const TOTAL_COST_MAX: u64 = 100_000_000;
const REQUEST_BYTES_MAX: u64 = mizzen_cel::REQUEST_BYTES_MAX;
const DEPTH_MAX: usize = 100;

const REASONS: &[&str] = &["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"];

/// All that is wrong with the rules of a definition. What was wrong before an update is let pass.
pub(crate) fn check(definition: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let unchanged = old.is_some_and(|old| old["spec"]["versions"] == definition["spec"]["versions"]);
    if unchanged {
        return Vec::new();
    }
    let mut errors = versions(definition);
    if let (false, Some(old)) = (errors.is_empty(), old) {
        let before = versions(old);
        errors.retain(|error| !before.contains(error));
    }
    errors
}

fn versions(definition: &Value) -> Vec<FieldError> {
    let versions = definition["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let schema = |version: &'_ Value| version["schema"]["openAPIV3Schema"].clone();
    // Schemas that are the same in all versions are told of once, where they once were written.
    let same = versions.windows(2).all(|pair| schema(&pair[0]) == schema(&pair[1]));
    let mut errors = Vec::new();
    for (index, version) in versions.iter().enumerate().take(if same { 1 } else { versions.len() }) {
        let at = match same {
            true => "spec.validation.openAPIV3Schema".to_owned(),
            false => format!("spec.versions[{index}].schema.openAPIV3Schema"),
        };
        let mut check = Check { errors: Vec::new(), total: 0, expensive: Vec::new() };
        let here = Here { path: at.clone(), cardinality: Some(1), root: true, uncorrelated: None, depth: 0 };
        check.schema(&version["schema"]["openAPIV3Schema"], &here);
        check.total(&at);
        errors.append(&mut check.errors);
    }
    errors
}

/// A place in a schema.
struct Here {
    path: String,
    /// How many values there can be at most; none: no limit is declared.
    cardinality: Option<u64>,
    root: bool,
    /// The list or map above, whose parts cannot be found again in an old object.
    uncorrelated: Option<String>,
    depth: usize,
}

impl Here {
    fn below(&self, path: String, times: Option<u64>, schema: &Value, uncorrelated: bool) -> Self {
        let above = || uncorrelated.then(|| self.path.clone());
        Self {
            path,
            cardinality: self.cardinality.zip(times).map(|(here, times)| here.saturating_mul(times)),
            root: schema["x-kubernetes-embedded-resource"] == true,
            uncorrelated: self.uncorrelated.clone().or_else(above),
            depth: self.depth + 1,
        }
    }
}

struct Check {
    errors: Vec<FieldError>,
    total: u64,
    /// The expressions that cost most.
    expensive: Vec<(u64, String)>,
}

impl Check {
    fn schema(&mut self, schema: &Value, here: &Here) {
        if here.depth > DEPTH_MAX {
            return;
        }
        let path = &here.path;
        let count = |field: &str| schema[field].as_i64().map(|max| u64::try_from(max).unwrap_or(0));
        let additional = &schema["additionalProperties"];
        if additional.is_object() {
            self.schema(
                additional,
                &here.below(format!("{path}.additionalProperties"), count("maxProperties"), additional, false),
            );
        }
        let each = if additional.is_null() || additional == false { Some(1) } else { count("maxProperties") };
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            self.schema(property, &here.below(format!("{path}.properties[{name}]"), each, property, false));
        }
        let items = &schema["items"];
        if items.is_object() {
            let uncorrelated = schema["x-kubernetes-list-type"] != "map";
            self.schema(items, &here.below(format!("{path}.items"), count("maxItems"), items, uncorrelated));
        }
        let rules = schema["x-kubernetes-validations"].as_array().map(Vec::as_slice).unwrap_or_default();
        if rules.is_empty() {
            return;
        }
        let before = self.errors.len();
        for (index, rule) in rules.iter().enumerate() {
            self.form(rule, schema, &format!("{path}.x-kubernetes-validations[{index}]"));
        }
        // What is badly formed is told first: errors of types often follow from it.
        if self.errors.len() > before {
            return;
        }
        let Some(decl) = Decl::from_schema(schema, "selfType", here.root) else {
            let mut error = FieldError::invalid(
                format!("{path}.x-kubernetes-validations"),
                "",
                "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations",
            );
            error.problem = mizzen_api::field::Problem::Internal;
            error.value = None;
            self.errors.push(error);
            return;
        };
        for (index, source) in rules.iter().enumerate() {
            if let Some(rule) = Rule::read(source, Some(&decl), schema) {
                self.rule(&rule, source, &format!("{path}.x-kubernetes-validations[{index}]"), here, &decl);
            }
        }
    }

    fn form(&mut self, rule: &Value, schema: &Value, at: &str) {
        let text = |field: &str| rule[field].as_str().unwrap_or_default();
        let lines = |text: &str| text.contains(['\n', '\r']);
        let (source, message) = (text("rule").trim(), text("message").trim());
        let errors = &mut self.errors;
        if source.is_empty() {
            errors.push(FieldError::required(format!("{at}.rule"), "rule is not specified"));
        } else if !text("message").is_empty() && message.is_empty() {
            errors.push(FieldError::invalid(
                format!("{at}.message"),
                text("message"),
                "must be non-empty if specified",
            ));
        } else if lines(message) {
            errors.push(FieldError::invalid(format!("{at}.message"), text("message"), "must not contain line breaks"));
        } else if lines(source) && message.is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(format!("{at}.message"), detail));
        }
        if !text("messageExpression").is_empty() && text("messageExpression").trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(format!("{at}.messageExpression"), detail));
        }
        if let Some(reason) = rule["reason"].as_str().filter(|reason| !REASONS.contains(reason)) {
            errors.push(FieldError::not_supported(format!("{at}.reason"), reason, REASONS));
        }
        let field = text("fieldPath");
        if field.is_empty() {
            return;
        }
        let at = format!("{at}.fieldPath");
        if field.trim().is_empty() {
            errors.push(FieldError::invalid(&*at, field, "must be non-empty if specified"));
        }
        if lines(field) {
            errors.push(FieldError::invalid(&*at, field, "must not contain line breaks"));
        }
        if field_path::normalized(field, schema).is_err() {
            errors.push(FieldError::invalid(at, field, "must be a valid path"));
        }
    }

    fn rule(&mut self, rule: &Rule, source: &Value, at: &str, here: &Here, decl: &Arc<Decl>) {
        let cardinality = here.cardinality.unwrap_or(REQUEST_BYTES_MAX / (decl.min_bytes + 1));
        match &rule.condition {
            Ok(program) => {
                let cost = program.cost().max.saturating_mul(cardinality);
                self.cost(cost, "estimated rule cost", format!("{at}.rule"));
            }
            Err(why) => self.errors.push(FieldError::invalid(format!("{at}.rule"), source, why)),
        }
        match &rule.message_expression {
            Some(Ok(program)) => {
                let at = format!("{at}.messageExpression");
                self.cost(program.cost().max, "estimated messageExpression cost", at);
            }
            Some(Err(why)) => {
                self.errors.push(FieldError::invalid(format!("{at}.messageExpression"), source, why));
            }
            None => {}
        }
        if let (true, Some(above)) = (rule.uses_old, &here.uncorrelated) {
            let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {above}");
            self.errors.push(FieldError::invalid(format!("{at}.rule"), &source["rule"], detail));
        }
        if !rule.uses_old && source["optionalOldSelf"].is_boolean() {
            let at = format!("{at}.optionalOldSelf");
            let detail = "may not be set if oldSelf is not used in rule";
            self.errors.push(FieldError::invalid(at, &source["optionalOldSelf"], detail));
        }
    }

    fn cost(&mut self, cost: u64, what: &str, at: String) {
        if cost > EXPRESSION_COST_MAX {
            self.errors.push(FieldError::forbidden(&*at, over(what, cost, EXPRESSION_COST_MAX)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= TOTAL_COST_MAX / 100 {
            self.expensive.push((cost, at));
        }
    }

    fn total(&mut self, at: &str) {
        if self.total <= TOTAL_COST_MAX {
            return;
        }
        self.expensive.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, at) in self.expensive.iter().take(4) {
            let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            self.errors.push(FieldError::forbidden(&**at, detail));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        self.errors.push(FieldError::forbidden(at, over(what, self.total, TOTAL_COST_MAX)));
    }
}

fn over(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::check;

    fn definition(spec: Value) -> Value {
        json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema":
            {"type": "object", "properties": {"spec": spec}}}}]}})
    }

    fn errors(spec: Value) -> Vec<String> {
        check(&definition(spec), None).iter().map(ToString::to_string).collect()
    }

    const AT: &str = "spec.validation.openAPIV3Schema.properties[spec]";

    #[test]
    fn rules_are_well_formed_and_typed() {
        let with = |rule: Value| json!({"type": "object", "properties": {"n": {"type": "integer"}}, "x-kubernetes-validations": [rule]});
        assert!(errors(with(json!({"rule": "self.n > 1", "fieldPath": ".n"}))).is_empty());
        for (rule, error) in [
            (json!({"rule": " "}), ".rule: Required value: rule is not specified"),
            (
                json!({"rule": "true\n"  , "message": " "}),
                ".message: Invalid value: \" \": must be non-empty if specified",
            ),
            (
                json!({"rule": "true &&\n true"}),
                ".message: Required value: message must be specified if rule contains line breaks",
            ),
            (json!({"rule": "true", "reason": "X"}), ".reason: Unsupported value: \"X\""),
            (json!({"rule": "true", "fieldPath": ".x"}), ".fieldPath: Invalid value: \".x\": must be a valid path"),
            (json!({"rule": "self.n"}), "cel expression must evaluate to a bool"),
            (
                json!({"rule": "self.x == 1"}),
                "compilation failed: ERROR: <input>:1:5: undefined field 'x'\n | self.x == 1\n | ....^",
            ),
            (json!({"rule": "true", "messageExpression": "1"}), "messageExpression must evaluate to a string"),
            (
                json!({"rule": "true", "optionalOldSelf": true}),
                ".optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
            ),
        ] {
            let found = errors(with(rule.clone()));
            assert_eq!(found.len(), 1, "{rule} {found:?}");
            assert!(found[0].starts_with(AT) && found[0].contains(error), "{rule} {found:?}");
        }
    }

    #[test]
    fn rules_may_not_cost_too_much() {
        let list = |max: Value| {
            let mut list = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [
                {"rule": "self.all(x, self.exists_one(y, x == y))"}]});
            if max.is_number() {
                list["maxItems"] = max;
                list["items"]["maxLength"] = json!(10);
            }
            list
        };
        assert!(errors(list(json!(10))).is_empty());
        let found = errors(list(Value::Null));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with(&format!("{AT}.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try")));
        assert!(found[2].starts_with("spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget"));
        // What costs little is often there: the number of times counts.
        let deep = json!({"type": "array", "items": {"type": "object", "properties": {"s": {"type": "string", "x-kubernetes-validations": [
            {"rule": "self.contains('x')"}]}}}});
        assert!(errors(deep)[0].contains("estimated rule cost exceeds budget"), "unbounded lists of unbounded strings");
    }

    #[test]
    fn the_old_value_has_to_be_found_again() {
        let list = |kind: &str| {
            json!({"type": "array", "maxItems": 5, "x-kubernetes-list-type": kind, "x-kubernetes-list-map-keys": ["k"], "items":
                {"type": "object", "properties": {"k": {"type": "string", "maxLength": 5, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}})
        };
        assert!(errors(list("map")).is_empty());
        let found = errors(list("atomic"));
        assert!(
            found[0]
                .ends_with(&format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {AT}")),
            "{found:?}"
        );
    }

    #[test]
    fn what_was_wrong_before_stays_possible() {
        let bad = definition(json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.x"}]}));
        let mut newer = bad.clone();
        newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"] = json!({"type": "object"});
        assert!(check(&newer, Some(&bad)).is_empty());
        assert_eq!(check(&newer, None).len(), 1);
    }
}
