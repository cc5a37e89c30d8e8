//! From characters to tokens.

use crate::error::Problem;

/// A token and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token<'a> {
    pub at: u32,
    pub kind: TokenKind,
    pub text: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Ident,
    EscapedIdent,
    Int,
    Uint,
    Float,
    String,
    Bytes,
    /// An operator, a bracket, or a word of the language: its text says which.
    Punct,
    End,
}

/// Operators, longest first.
const PUNCT: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*",
    "/", "%",
];

/// All tokens, the last one being the end; or what is no token.
pub(super) fn tokens(source: &str) -> Result<Vec<Token<'_>>, Problem> {
    let mut lexer = Lexer { source, at: 0, chars: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let end = token.kind == TokenKind::End;
        tokens.push(token);
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    /// In bytes.
    at: usize,
    /// In characters.
    chars: u32,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// The next `width` bytes as a token.
    fn take(&mut self, width: usize, kind: TokenKind) -> Token<'a> {
        let text = &self.rest()[..width];
        let token = Token { at: self.chars, kind, text };
        self.skip(width);
        token
    }

    fn skip(&mut self, width: usize) {
        self.chars += self.rest()[..width].chars().count() as u32;
        self.at += width;
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches(['\t', ' ', '\r', '\n', '\u{c}']).len();
            self.skip(blank);
            if blank == 0 && !self.rest().starts_with("//") {
                return;
            }
            if self.rest().starts_with("//") {
                self.skip(self.rest().find('\n').unwrap_or(self.rest().len()));
            }
        }
    }

    fn next(&mut self) -> Result<Token<'a>, Problem> {
        self.skip_blank();
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(self.take(0, TokenKind::End)) };
        if let Some((width, kind)) = string_width(rest) {
            return match width {
                Some(width) => Ok(self.take(width, kind)),
                None => Err(self.unrecognized(rest.lines().next().unwrap_or(rest))),
            };
        }
        if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|next: char| next.is_ascii_digit())) {
            let (width, kind) = number_width(rest);
            return Ok(self.take(width, kind));
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let width = span(rest, |char| char.is_ascii_alphanumeric() || char == '_');
            let word = matches!(&rest[..width], "in" | "true" | "false" | "null");
            return Ok(self.take(width, if word { TokenKind::Punct } else { TokenKind::Ident }));
        }
        if first == '`' {
            let width = span(&rest[1..], |char| char.is_ascii_alphanumeric() || "_.-/ ".contains(char));
            if width > 0 && rest[1 + width..].starts_with('`') {
                return Ok(self.take(width + 2, TokenKind::EscapedIdent));
            }
        }
        match PUNCT.iter().find(|punct| rest.starts_with(**punct)) {
            Some(punct) => Ok(self.take(punct.len(), TokenKind::Punct)),
            None => Err(self.unrecognized(&rest[..first.len_utf8()])),
        }
    }

    fn unrecognized(&self, text: &str) -> Problem {
        Problem { at: self.chars, message: format!("Syntax error: token recognition error at: '{text}'") }
    }
}

fn span(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|char| !is(char)).unwrap_or(text.len())
}

fn number_width(text: &str) -> (usize, TokenKind) {
    let unsigned = |width: usize| {
        if text[width..].starts_with(['u', 'U']) { (width + 1, TokenKind::Uint) } else { (width, TokenKind::Int) }
    };
    if let Some(hex) = text.strip_prefix("0x") {
        let digits = span(hex, |char| char.is_ascii_hexdigit());
        if digits > 0 {
            return unsigned(2 + digits);
        }
    }
    let digits = |at: usize| span(&text[at..], |char| char.is_ascii_digit());
    let mut width = digits(0);
    let mut float = false;
    if text[width..].starts_with('.') && digits(width + 1) > 0 {
        width += 1 + digits(width + 1);
        float = true;
    }
    if text[width..].starts_with(['e', 'E']) {
        let sign = usize::from(text[width + 1..].starts_with(['+', '-']));
        let exponent = digits(width + 1 + sign);
        if exponent > 0 {
            width += 1 + sign + exponent;
            float = true;
        }
    }
    if float { (width, TokenKind::Float) } else { unsigned(width) }
}

/// The width of the string literal that `text` starts with, if it does; no width: it does not end.
fn string_width(text: &str) -> Option<(Option<usize>, TokenKind)> {
    let mut rest = text;
    let mut kind = TokenKind::String;
    let mut raw = false;
    if let Some(after) = rest.strip_prefix(['b', 'B']) {
        (rest, kind) = (after, TokenKind::Bytes);
    }
    if let Some(after) = rest.strip_prefix(['r', 'R']) {
        (rest, raw) = (after, true);
    }
    let quote = rest.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let prefix = text.len() - rest.len();
    let triple = [quote; 3].iter().collect::<String>();
    let (open, close, lines) = match rest.starts_with(&triple) {
        true => (3, triple, true),
        false => (1, quote.to_string(), false),
    };
    let body = &rest[open..];
    let mut at = 0;
    while at < body.len() {
        if body[at..].starts_with(&close) {
            return Some((Some(prefix + open + at + close.len()), kind));
        }
        let char = body[at..].chars().next().unwrap_or_default();
        if !lines && matches!(char, '\n' | '\r') {
            break;
        }
        at += char.len_utf8();
        if char == '\\' && !raw {
            at += body[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    Some((None, kind))
}
