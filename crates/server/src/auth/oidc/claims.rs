//! The claims of a token whose signature was checked → the user, as the issuer's mappings and rules say. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mizzen_cel::{Activation, Budget, Program, RUNTIME_BUDGET, Slot, Value as CelValue};
use serde_json::{Value, json};

use super::super::{AUTHENTICATED, Identity};
use super::config::{ClaimRule, Issuer, Rule, Source};

/// What an issuer may give of each.
const VALUES_MAX: usize = 4096;

/// Who the claims are about, or why they are of nobody.
pub fn identity(issuer: &Issuer, claims: &Value, now: Timestamp) -> Result<Identity, String> {
    in_time(claims, now)?;
    let audiences = texts(&claims["aud"]).ok_or("the claim aud is no text")?;
    if !audiences.iter().any(|audience| issuer.audiences.contains(audience)) {
        return Err(format!("it is meant for {audiences:?}"));
    }
    for rule in &issuer.claim_rules {
        match rule {
            ClaimRule::Value(claim, wanted) if claims[claim].as_str() == Some(wanted) => {}
            ClaimRule::Value(claim, _) => return Err(format!("the claim {claim} has not the required value")),
            ClaimRule::Expression(rule) => holds(rule, claims)?,
        }
    }
    let user = one(&issuer.username, claims)?;
    if user.is_empty() {
        return Err("the user name is empty".into());
    }
    if let Source::Claim(claim, _) = &issuer.username
        && claim == "email"
        && claims.get("email_verified").is_some_and(|verified| *verified != json!(true))
    {
        return Err("the mail address is not verified".into());
    }
    let mut groups = issuer.groups.as_ref().map(|source| several(source, claims)).transpose()?.unwrap_or_default();
    let uid = issuer.uid.as_ref().map(|source| one(source, claims)).transpose()?.unwrap_or_default();
    let mut extra = BTreeMap::new();
    for (key, program) in &issuer.extra {
        let values = texts(&evaluated(program, claims)?).ok_or_else(|| format!("{key} is no text"))?;
        let values: Vec<String> = values.into_iter().filter(|value| !value.is_empty()).collect();
        if !values.is_empty() {
            extra.insert(key.clone(), values);
        }
    }
    let user = json!({"username": user, "uid": uid, "groups": groups, "extra": extra});
    for rule in &issuer.user_rules {
        holds(rule, &user)?;
    }
    if !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.into());
    }
    let user = user["username"].as_str().unwrap_or_default().to_string();
    Ok(Identity { user, uid, groups, extra })
}

/// `exp` must be there and ahead, `nbf` and behind if it is there.
fn in_time(claims: &Value, now: Timestamp) -> Result<(), String> {
    let seconds = |claim: &str| claims[claim].as_f64();
    let now = now.as_second() as f64;
    match seconds("exp") {
        Some(end) if end > now => {}
        _ => return Err("it has expired".into()),
    }
    // The clocks of issuers may be ahead a little.
    if seconds("nbf").is_some_and(|start| start > now + 300.0) {
        return Err("it is not valid yet".into());
    }
    Ok(())
}

fn evaluated(program: &Program, input: &Value) -> Result<Value, String> {
    let mut activation = Activation::new(vec![Slot::Value(CelValue::untyped(input))]);
    let value = program.eval(&mut activation, &mut Budget::new(RUNTIME_BUDGET)).map_err(|error| error.to_string())?;
    value.to_json().map_err(|_| "an expression gives what is no JSON".into())
}

fn holds(rule: &Rule, input: &Value) -> Result<(), String> {
    match evaluated(&rule.program, input)? {
        Value::Bool(true) => Ok(()),
        _ => Err(rule.message.clone()),
    }
}

/// A text from a claim or an expression.
fn one(source: &Source, claims: &Value) -> Result<String, String> {
    match source {
        Source::Claim(claim, prefix) => {
            let value = claims[claim].as_str().ok_or_else(|| format!("the claim {claim} is no text"))?;
            Ok(format!("{prefix}{value}"))
        }
        Source::Expression(program) => match evaluated(program, claims)? {
            Value::String(text) => Ok(text),
            _ => Err("an expression gives no text".into()),
        },
    }
}

/// Texts from a claim or an expression; a missing claim is none.
fn several(source: &Source, claims: &Value) -> Result<Vec<String>, String> {
    match source {
        Source::Claim(claim, prefix) => {
            let values = texts(&claims[claim]).ok_or_else(|| format!("the claim {claim} is neither text nor texts"))?;
            Ok(values.into_iter().map(|value| format!("{prefix}{value}")).collect())
        }
        Source::Expression(program) => {
            let values = texts(&evaluated(program, claims)?).ok_or("an expression gives neither text nor texts")?;
            Ok(values.into_iter().filter(|value| !value.is_empty()).collect())
        }
    }
}

/// A text, a list of texts, or nothing.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) if items.len() <= VALUES_MAX => {
            items.iter().map(|item| item.as_str().map(String::from)).collect()
        }
        _ => None,
    }
}
