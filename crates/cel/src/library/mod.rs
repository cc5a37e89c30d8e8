//! The functions: what they take and give, what they cost, and what they do.

mod arithmetic;
mod authorizer;
mod convert;
mod format;
mod format_string;
mod ip;
mod jsonpatch;
mod lists;
mod optional;
mod quantity;
pub(crate) mod regexes;
mod semver;
mod sets;
mod strings;
mod time;
mod url;

use std::collections::HashMap;
use std::sync::LazyLock;

use mizzen_api::quantity::Quantity;
use regex::Regex;

pub use authorizer::{Authorizer, Authorizing, Check, Decision, ResourceCheck};
pub(crate) use lists::sort_by_keys;

use crate::error::EvalError;
use crate::meter::Meter;
use crate::types::Type;
use crate::value::Value;

/// A value of a library's own type.
#[derive(Debug, Clone)]
pub enum Opaque<'a> {
    /// An IP address.
    Ip(std::net::IpAddr),
    /// A network.
    Cidr(ip::Cidr),
    /// A URL.
    Url(std::sync::Arc<url::Url>),
    /// A quantity.
    Quantity(Quantity),
    /// A semantic version.
    Semver(std::sync::Arc<semver::Semver>),
    /// A named format.
    Format(&'static format::Format),
    /// The authorizer and what is being asked of it.
    Authorizing(Authorizing<'a>),
}

/// Names of the types of libraries, as expressions and messages spell them.
pub(crate) mod name {
    pub const IP: &str = "net.IP";
    pub const CIDR: &str = "net.CIDR";
    pub const URL: &str = "kubernetes.URL";
    pub const QUANTITY: &str = "kubernetes.Quantity";
    pub const SEMVER: &str = "kubernetes.Semver";
    pub const FORMAT: &str = "kubernetes.NamedFormat";
    pub const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
    pub const PATH_CHECK: &str = "kubernetes.authorization.PathCheck";
    pub const GROUP_CHECK: &str = "kubernetes.authorization.GroupCheck";
    pub const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
    pub const DECISION: &str = "kubernetes.authorization.Decision";

    /// All of them.
    pub const ALL: &[&str] =
        &[IP, CIDR, URL, QUANTITY, SEMVER, FORMAT, AUTHORIZER, PATH_CHECK, GROUP_CHECK, RESOURCE_CHECK, DECISION];
}

impl Opaque<'_> {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Ip(_) => name::IP,
            Self::Cidr(_) => name::CIDR,
            Self::Url(_) => name::URL,
            Self::Quantity(_) => name::QUANTITY,
            Self::Semver(_) => name::SEMVER,
            Self::Format(_) => name::FORMAT,
            Self::Authorizing(asked) => asked.type_name(),
        }
    }

    /// The size that cost counts by: bytes of addresses.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Ip(ip) => ip::bytes(ip),
            Self::Cidr(cidr) => u64::from(cidr.prefix).div_ceil(8),
            _ => 1,
        }
    }
}

impl PartialEq for Opaque<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a == b,
            (Self::Format(a), Self::Format(b)) => a.name == b.name,
            (Self::Authorizing(a), Self::Authorizing(b)) => a == b,
            _ => false,
        }
    }
}

/// What a function is called with beside its arguments.
pub(crate) struct Call<'m> {
    pub meter: &'m mut Meter,
    /// The pattern, where it is written out and so was compiled with the expression.
    pub regex: Option<&'m Regex>,
}

pub(crate) type Result<T> = std::result::Result<T, EvalError>;

/// What a function does.
pub(crate) type Eval = for<'a> fn(&mut Call<'_>, &[Value<'a>]) -> Result<Value<'a>>;

/// How the cost of a call follows from the sizes of its arguments; `crate::cost` reckons with them before, and
/// `crate::charge` while an expression is evaluated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cost {
    /// One.
    One,
    /// A fixed cost.
    Fixed(u64),
    /// A walk over the smaller of two texts.
    Smaller,
    /// `startsWith`, `endsWith`.
    Affix,
    /// So many walks over the first text; `keeps`: the result is as long.
    Scan {
        times: f64,
        keeps: bool,
    },
    /// `bytes(string)`
    Encode,
    /// `string(bytes)`
    Decode,
    /// `strings.quote`
    Quote,
    /// A walk over all that is in a list, or a text.
    Traverse,
    Replace,
    Split,
    Join,
    /// A pattern over a text; `finds`: with what it found as result.
    Matches {
        finds: bool,
    },
    /// A text in a text.
    Contains,
    /// A value in a list.
    InList,
    /// Two texts into one.
    AddText,
    /// Two lists into one.
    AddList,
    /// An address in a network; `parses`: from text.
    ContainsIp {
        parses: bool,
    },
    ContainsCidr {
        parses: bool,
    },
    /// `validate` of a format.
    Validate,
    /// A selector that is parsed.
    Selector,
    /// A new list as long as the result.
    NewList,
    /// `flatten`
    Flatten,
    /// Everything in a list with everything else.
    Quadratic,
    /// Everything in one list with everything in another, so often.
    Product(f64),
}

/// One way to call a function.
pub(crate) struct Overload {
    /// It is called on its first argument.
    pub member: bool,
    /// Types of the arguments, with parameters counted from 0.
    pub params: Vec<Type>,
    pub result: Type,
    /// How many type parameters there are.
    pub generics: u32,
    pub cost: Cost,
    pub eval: Eval,
}

/// A function: all ways to call it.
pub(crate) struct Function {
    pub name: String,
    pub overloads: Vec<Overload>,
}

/// How a library declares: `name(types) -> type` for a function, `.name(receiver, types) -> type` for a method.
pub(crate) struct Declarations(HashMap<String, Function>);

impl Declarations {
    fn add(&mut self, signature: &str, cost: Cost, eval: Eval) {
        let (name, overload) = signature::parse(signature, cost, eval);
        let function = self.0.entry(name.clone()).or_insert_with(|| Function { name, overloads: Vec::new() });
        function.overloads.push(overload);
    }
}

static TABLE: LazyLock<HashMap<String, Function>> = LazyLock::new(|| {
    let mut table = Declarations(HashMap::new());
    for declare in [
        arithmetic::declare,
        convert::declare,
        strings::declare,
        format_string::declare,
        regexes::declare,
        time::declare,
        lists::declare,
        sets::declare,
        optional::declare,
        url::declare,
        quantity::declare,
        ip::declare,
        format::declare,
        semver::declare,
        jsonpatch::declare,
        authorizer::declare,
    ] {
        declare(&mut table);
    }
    table.0
});

/// The function of this name.
pub(crate) fn function(name: &str) -> Option<&'static Function> {
    TABLE.get(name)
}

mod signature {
    //! Signatures as the tables of the libraries write them.

    use super::{Cost, Eval, Overload, name};
    use crate::types::Type;

    pub fn parse(signature: &str, cost: Cost, eval: Eval) -> (String, Overload) {
        let (head, result) = signature.rsplit_once(" -> ").unwrap_or((signature, "dyn"));
        let (name, args) = head.split_once('(').unwrap_or((head, ")"));
        let member = name.starts_with('.');
        let params = split(args.trim_end_matches(')')).into_iter().map(ty).collect::<Vec<_>>();
        let generics = ["A", "B"].iter().filter(|name| uses(head, name)).count() as u32;
        let overload = Overload { member, params, result: ty(result), generics, cost, eval };
        (name.trim_start_matches('.').to_owned(), overload)
    }

    fn uses(head: &str, name: &str) -> bool {
        head.split(|char: char| !char.is_ascii_alphanumeric()).any(|word| word == name)
    }

    /// What stands between the commas outside of brackets.
    fn split(args: &str) -> Vec<&str> {
        let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
        for (at, char) in args.char_indices() {
            match char {
                '<' => depth += 1,
                '>' => depth -= 1,
                ',' if depth == 0 => {
                    parts.push(args[start..at].trim());
                    start = at + 1;
                }
                _ => {}
            }
        }
        parts.push(args[start..].trim());
        parts.retain(|part| !part.is_empty());
        parts
    }

    fn ty(text: &str) -> Type {
        if let Some((outer, inner)) = text.split_once('<') {
            let parts = split(inner.strip_suffix('>').unwrap_or(inner)).into_iter().map(ty).collect::<Vec<_>>();
            return match (outer, &parts[..]) {
                ("list", [of]) => Type::list(of.clone()),
                ("optional", [of]) => Type::optional(of.clone()),
                ("type", [of]) => Type::Type(std::sync::Arc::new(of.clone())),
                ("map", [key, value]) => Type::map(key.clone(), value.clone()),
                _ => unreachable!("a signature names the type {text}"),
            };
        }
        match text {
            "dyn" => Type::Dyn,
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "duration" => Type::Duration,
            "timestamp" => Type::Timestamp,
            "A" => Type::Param(0),
            "B" => Type::Param(1),
            other => match name::ALL.iter().find(|name| name.rsplit('.').next() == Some(other)) {
                Some(name) => Type::Opaque(name),
                None => unreachable!("a signature names the type {text}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_signatures_can_be_read() {
        assert!(super::TABLE.len() > 100, "{}", super::TABLE.len());
        let size = super::function("size").unwrap();
        assert_eq!(size.overloads.len(), 8);
        assert_eq!(super::function("_[_]").unwrap().overloads[1].generics, 2);
    }
}
