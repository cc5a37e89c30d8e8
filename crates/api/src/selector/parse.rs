//! The grammar of label selectors: tokens, then requirements separated by commas.

use super::{Operator, REQUIREMENTS_MAX, Requirement, SelectorError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Sign(&'a str),
    End,
}

struct Tokens<'a> {
    rest: &'a str,
}

const SIGNS: [&str; 8] = ["==", "!=", "=", "!", "<", ">", "(", ")"];

impl<'a> Tokens<'a> {
    fn peek(&self) -> Token<'a> {
        let text = self.rest.trim_start();
        if text.is_empty() {
            return Token::End;
        }
        if text.starts_with(',') {
            return Token::Sign(&text[..1]);
        }
        if let Some(sign) = SIGNS.iter().find(|s| text.starts_with(**s)) {
            return Token::Sign(&text[..sign.len()]);
        }
        let is_end = |c: char| c.is_whitespace() || matches!(c, ',' | '=' | '!' | '<' | '>' | '(' | ')');
        Token::Word(&text[..text.find(is_end).unwrap_or(text.len())])
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        if let Token::Word(text) | Token::Sign(text) = token {
            self.rest = &self.rest.trim_start()[text.len()..];
        }
        token
    }

    fn take(&mut self, sign: &str) -> bool {
        let here = self.peek() == Token::Sign(sign);
        if here {
            self.next();
        }
        here
    }
}

fn syntax(found: Token<'_>, expected: &'static str) -> SelectorError {
    let found = match found {
        Token::Word(text) | Token::Sign(text) => text.to_string(),
        Token::End => String::new(),
    };
    SelectorError::Syntax { found, expected }
}

pub(super) fn labels(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut tokens = Tokens { rest: text };
    let mut requirements = Vec::new();
    if tokens.peek() == Token::End {
        return Ok(requirements);
    }
    loop {
        if requirements.len() == REQUIREMENTS_MAX {
            return Err(SelectorError::TooMany { max: REQUIREMENTS_MAX });
        }
        requirements.push(requirement(&mut tokens)?);
        match tokens.next() {
            Token::End => return Ok(requirements),
            Token::Sign(",") if tokens.peek() != Token::End => {}
            Token::Sign(",") => return Err(syntax(Token::End, "identifier after ','")),
            other => return Err(syntax(other, "',' or 'end of string'")),
        }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Requirement, SelectorError> {
    let absent = tokens.take("!");
    let key = match tokens.next() {
        Token::Word(key) => key,
        other => return Err(syntax(other, "identifier")),
    };
    if absent {
        return Requirement::new(key, Operator::DoesNotExist, Vec::new());
    }
    let operator = match tokens.peek() {
        Token::End | Token::Sign(",") => return Requirement::new(key, Operator::Exists, Vec::new()),
        Token::Sign("=" | "==") | Token::Word("in") => Operator::In,
        Token::Sign("!=") | Token::Word("notin") => Operator::NotIn,
        Token::Sign(">") => Operator::GreaterThan,
        Token::Sign("<") => Operator::LessThan,
        other => return Err(syntax(other, "in, notin, =, ==, !=, gt, lt")),
    };
    let values = match tokens.next() {
        Token::Word(_) => list(tokens)?,
        _ => vec![single(tokens)],
    };
    Requirement::new(key, operator, values)
}

/// The value after `=`; none at all is the empty value.
fn single(tokens: &mut Tokens<'_>) -> String {
    match tokens.peek() {
        Token::Word(value) => {
            tokens.next();
            value.into()
        }
        _ => String::new(),
    }
}

/// The values after `in`: `(a,b)`, where an empty one counts.
fn list(tokens: &mut Tokens<'_>) -> Result<Vec<String>, SelectorError> {
    if !tokens.take("(") {
        return Err(syntax(tokens.peek(), "'('"));
    }
    if tokens.take(")") {
        return Ok(Vec::new());
    }
    let mut values = Vec::new();
    loop {
        values.push(single(tokens));
        match tokens.next() {
            Token::Sign(")") => return Ok(values),
            Token::Sign(",") => {}
            other => return Err(syntax(other, "',' or ')'")),
        }
    }
}
