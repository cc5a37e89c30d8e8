//! From tokens to a tree, by recursive descent within a bound.

use super::ast::{Access, DEPTH_MAX, Element, Entry, Expr, FieldInit, Kind, Literal, op, too_deep};
use super::lexer::{Token, TokenKind, tokens};
use super::{literal, macros};
use crate::error::{CompileError, Problem};

/// Characters of an expression at most, as in Kubernetes' CEL.
const CHARS_MAX: usize = 100_000;
const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                       BYTES, IDENTIFIER}";

/// Words that are kept for the language's future.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// The tree of `source`.
pub(crate) fn parse(source: &str) -> Result<Expr, CompileError> {
    let fail = |problem| CompileError::new(source, vec![problem]);
    // Counting costs what it counts: the bytes bound the characters.
    if source.len() > CHARS_MAX {
        let size = source.chars().count();
        if size > CHARS_MAX {
            let message = format!("expression code point size exceeds limit: size: {size}, limit {CHARS_MAX}");
            // The text is not repeated.
            return Err(CompileError::new("", vec![Problem { at: 0, message }]));
        }
    }
    let tokens = tokens(source).map_err(fail)?;
    let mut parser = Parser { tokens, next: 0, depth: 0 };
    parser.whole().map_err(fail)
}

/// How tightly relations bind.
const RELATION: u8 = 2;

/// Operators between two operands: text, function, and how tightly they bind.
const OPERATORS: &[(&str, &str, u8)] = &[
    ("||", op::OR, 0),
    ("&&", op::AND, 1),
    ("<", op::LESS, RELATION),
    ("<=", op::LESS_EQUAL, RELATION),
    (">=", op::GREATER_EQUAL, RELATION),
    (">", op::GREATER, RELATION),
    ("==", op::EQUAL, RELATION),
    ("!=", op::NOT_EQUAL, RELATION),
    ("in", op::IN, RELATION),
    ("+", op::ADD, 3),
    ("-", op::SUBTRACT, 3),
    ("*", op::MULTIPLY, 4),
    ("/", op::DIVIDE, 4),
    ("%", op::MODULO, 4),
];

type Parsed<T> = Result<T, Problem>;

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
    /// Expressions around the one that is being parsed: what the parser itself recurses into.
    depth: u32,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &Token<'a> {
        // The last token is the end, which is never taken.
        &self.tokens[self.next]
    }

    fn at(&self, text: &str) -> bool {
        let token = self.peek();
        token.kind == TokenKind::Punct && token.text == text
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek().clone();
        if token.kind != TokenKind::End {
            self.next += 1;
        }
        token
    }

    /// Takes the token if it is this one; its place.
    fn accept(&mut self, text: &str) -> Option<u32> {
        self.at(text).then(|| self.take().at)
    }

    fn expect(&mut self, text: &str) -> Parsed<u32> {
        self.accept(text).ok_or_else(|| self.mismatch(&format!("'{text}'")))
    }

    fn mismatch(&self, expected: &str) -> Problem {
        let token = self.peek();
        let text = if token.kind == TokenKind::End { "<EOF>" } else { token.text };
        // One token too many at the end has words of its own.
        let last = self.tokens.get(self.next + 1).is_some_and(|next| next.kind == TokenKind::End);
        let what = if expected == "<EOF>" && last { "extraneous" } else { "mismatched" };
        Problem { at: token.at, message: format!("Syntax error: {what} input '{text}' expecting {expected}") }
    }

    fn whole(&mut self) -> Parsed<Expr> {
        let expr = self.expr()?;
        match self.peek().kind {
            TokenKind::End => Ok(expr),
            _ => Err(self.mismatch("<EOF>")),
        }
    }

    fn expr(&mut self) -> Parsed<Expr> {
        if self.depth == DEPTH_MAX {
            return Err(too_deep(self.peek().at));
        }
        self.depth += 1;
        let parsed = self.conditional();
        self.depth -= 1;
        parsed
    }

    fn conditional(&mut self) -> Parsed<Expr> {
        let condition = self.operators(0)?;
        let Some(at) = self.accept("?") else { return Ok(condition) };
        let yes = self.operators(0)?;
        self.expect(":")?;
        let no = self.expr()?;
        call(at, op::CONDITIONAL, vec![condition, yes, no])
    }

    /// Operands joined by operators that bind as tightly as `min` or tighter. All associate to the left.
    fn operators(&mut self, min: u8) -> Parsed<Expr> {
        let mut left = self.unary()?;
        while let Some((text, function, level)) = self.operator(min) {
            let at = self.take().at;
            let mut args = vec![left, self.operators(level + 1)?];
            // A chain of `||` or `&&` is one call with all operands, and not deep.
            while level < RELATION && self.accept(text).is_some() {
                args.push(self.operators(level + 1)?);
            }
            left = call(at, function, args)?;
        }
        Ok(left)
    }

    /// The operator that comes next, if it binds as tightly as `min`.
    fn operator(&self, min: u8) -> Option<(&'static str, &'static str, u8)> {
        let token = self.peek();
        let found = OPERATORS.iter().find(|(text, _, _)| token.kind == TokenKind::Punct && token.text == *text);
        found.copied().filter(|(_, _, level)| *level >= min)
    }

    fn unary(&mut self) -> Parsed<Expr> {
        for (text, function) in [("!", op::NOT), ("-", op::NEGATE)] {
            if !self.at(text) {
                continue;
            }
            let first = self.peek().at;
            let mut count = 0;
            // A minus right before a number belongs to it.
            while self.at(text) && !(text == "-" && self.number_follows()) {
                self.take();
                count += 1;
            }
            let operand = self.member()?;
            // Two of them cancel out.
            return if count % 2 == 1 { call(first, function, vec![operand]) } else { Ok(operand) };
        }
        self.member()
    }

    fn number_follows(&self) -> bool {
        self.tokens.get(self.next + 1).is_some_and(|next| matches!(next.kind, TokenKind::Int | TokenKind::Float))
    }

    fn member(&mut self) -> Parsed<Expr> {
        let mut expr = self.primary()?;
        loop {
            if let Some(at) = self.accept(".") {
                expr = self.select(at, expr)?;
            } else if let Some(at) = self.accept("[") {
                let function = if self.accept("?").is_some() { op::OPTIONAL_INDEX } else { op::INDEX };
                let index = self.expr()?;
                self.expect("]")?;
                expr = call(at, function, vec![expr, index])?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn select(&mut self, at: u32, operand: Expr) -> Parsed<Expr> {
        let access = if self.accept("?").is_some() { Access::Optional } else { Access::Plain };
        let token = self.take_if(&[TokenKind::Ident, TokenKind::EscapedIdent], "IDENTIFIER")?;
        if access == Access::Plain
            && token.kind == TokenKind::Ident
            && let Some(open) = self.accept("(")
        {
            let args = self.arguments()?;
            return macros::member(open, operand, token.text, args);
        }
        let field = token.text.trim_matches('`').to_owned();
        Expr::new(at, Kind::Select { operand: Box::new(operand), field, access })
    }

    fn take_if(&mut self, kinds: &[TokenKind], expected: &str) -> Parsed<Token<'a>> {
        if kinds.contains(&self.peek().kind) { Ok(self.take()) } else { Err(self.mismatch(expected)) }
    }

    fn arguments(&mut self) -> Parsed<Vec<Expr>> {
        let mut args = Vec::new();
        if self.accept(")").is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if self.accept(",").is_none() {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        if self.accept("(").is_some() {
            let expr = self.expr()?;
            self.expect(")")?;
            return Ok(expr);
        }
        if let Some(at) = self.accept("[") {
            return self.list(at);
        }
        if let Some(at) = self.accept("{") {
            return self.map(at);
        }
        if self.at(".") || self.peek().kind == TokenKind::Ident {
            return self.name();
        }
        self.literal()
    }

    fn literal(&mut self) -> Parsed<Expr> {
        let start = self.peek().clone();
        let negative = self.at("-") && self.number_follows();
        if negative {
            self.take();
        }
        let wrong = |message: &str| Problem { at: start.at, message: message.to_owned() };
        let token = self.peek().clone();
        let value = match (token.kind, token.text) {
            (TokenKind::Int, text) => {
                literal::int(text, negative).map(Literal::Int).ok_or(wrong("invalid int literal"))?
            }
            (TokenKind::Uint, text) => literal::uint(text).map(Literal::Uint).ok_or(wrong("invalid uint literal"))?,
            (TokenKind::Float, text) => {
                let value: f64 = text.parse().map_err(|_| wrong("invalid double literal"))?;
                if value.is_infinite() {
                    return Err(wrong("invalid double literal"));
                }
                Literal::Double(if negative { -value } else { value })
            }
            (TokenKind::String, text) => Literal::String(literal::string(text).map_err(wrong)?.into()),
            (TokenKind::Bytes, text) => Literal::Bytes(literal::bytes(text).map_err(wrong)?.into()),
            (TokenKind::Punct, "true") => Literal::Bool(true),
            (TokenKind::Punct, "false") => Literal::Bool(false),
            (TokenKind::Punct, "null") => Literal::Null,
            _ => return Err(self.mismatch(OPERAND)),
        };
        self.take();
        Expr::new(start.at, Kind::Literal(value))
    }

    /// A name, a call, or an object of a named type.
    fn name(&mut self) -> Parsed<Expr> {
        self.accept(".");
        let token = self.take_if(&[TokenKind::Ident], "IDENTIFIER")?;
        if let Some(open) = self.accept("(") {
            let args = self.arguments()?;
            return macros::global(open, token.text, args);
        }
        if let Some(name) = self.struct_name(token.text) {
            let at = self.expect("{")?;
            return self.fields(at, name);
        }
        if RESERVED.contains(&token.text) {
            return Err(Problem { at: token.at, message: format!("reserved identifier: {}", token.text) });
        }
        Expr::new(token.at, Kind::Ident(token.text.to_owned()))
    }

    /// `a.b.c` if that is what follows up to a `{`.
    fn struct_name(&mut self, first: &str) -> Option<String> {
        let mut name = first.to_owned();
        let mut at = self.next;
        let is = |token: &Token<'_>, text: &str| token.kind == TokenKind::Punct && token.text == text;
        while is(&self.tokens[at], ".") && self.tokens[at + 1].kind == TokenKind::Ident {
            name.push('.');
            name.push_str(self.tokens[at + 1].text);
            at += 2;
        }
        if !is(&self.tokens[at], "{") {
            return None;
        }
        self.next = at;
        Some(name)
    }

    fn list(&mut self, at: u32) -> Parsed<Expr> {
        let mut elements = Vec::new();
        self.sequence("]", |parser| {
            let optional = parser.accept("?").is_some();
            elements.push(Element { value: parser.expr()?, optional });
            Ok(())
        })?;
        Expr::new(at, Kind::List(elements))
    }

    fn map(&mut self, at: u32) -> Parsed<Expr> {
        let mut entries = Vec::new();
        self.sequence("}", |parser| {
            let optional = parser.accept("?").is_some();
            let key = parser.expr()?;
            parser.expect(":")?;
            entries.push(Entry { key, value: parser.expr()?, optional });
            Ok(())
        })?;
        Expr::new(at, Kind::Map(entries))
    }

    fn fields(&mut self, at: u32, name: String) -> Parsed<Expr> {
        let mut fields = Vec::new();
        self.sequence("}", |parser| {
            let optional = parser.accept("?").is_some();
            let field = parser.take_if(&[TokenKind::Ident, TokenKind::EscapedIdent], "IDENTIFIER")?;
            let at = parser.expect(":")?;
            let name = field.text.trim_matches('`').to_owned();
            fields.push(FieldInit { at, name, value: parser.expr()?, optional });
            Ok(())
        })?;
        Expr::new(at, Kind::Struct { name, fields })
    }

    /// Items between commas, one of which may trail.
    fn sequence(&mut self, close: &str, mut item: impl FnMut(&mut Self) -> Parsed<()>) -> Parsed<()> {
        loop {
            if self.accept(close).is_some() {
                return Ok(());
            }
            item(self)?;
            if self.accept(",").is_none() {
                self.expect(close)?;
                return Ok(());
            }
        }
    }
}

fn call(at: u32, function: &str, args: Vec<Expr>) -> Parsed<Expr> {
    Expr::new(at, Kind::Call { function: function.to_owned(), target: None, args })
}
