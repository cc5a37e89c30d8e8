//! Whatever is given, compiling and evaluating ends without a panic and within its budget.

use mizzen_cel::{Activation, Budget, Decl, Env, Slot, Type, Value, compile};
use proptest::prelude::*;
use serde_json::json;

/// Pieces from which most of what is put together is nearly an expression.
const PIECES: &[&str] = &[
    "self",
    ".list",
    ".map",
    ".text",
    ".n",
    "[0]",
    "['a']",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ", ",
    " + ",
    " - ",
    " * ",
    " / ",
    " % ",
    " == ",
    " != ",
    " < ",
    " && ",
    " || ",
    "!",
    "-",
    " ? ",
    " : ",
    " in ",
    "1",
    "0",
    "1u",
    "1.5",
    "'a'",
    "''",
    "b'a'",
    "true",
    "null",
    "x",
    ".all(x, ",
    ".exists(x, ",
    ".map(x, ",
    ".filter(x, ",
    ".size()",
    ".contains('a')",
    ".matches('a*')",
    ".split('')",
    ".replace('a', 'bb')",
    ".join()",
    "has(self.n)",
    ".?n",
    ".orValue(1)",
    "optional.of(",
    "duration('1s')",
    "timestamp(0)",
    "type(",
    "string(",
    "int(",
    "quantity('1')",
    "ip('::1')",
    ".sum()",
    ".sort()",
    ".flatten()",
    "dyn(",
    ".transformMap(x, y, ",
    "Object{",
    "JSONPatch{",
    "'%s'.format([",
    "lists.range(9)",
    ".reverse()",
    ".distinct()",
];

fn survives(source: &str) {
    let env = Env::new().with("self", Decl::of(Type::Dyn)).making(mizzen_cel::Objects::Mutation);
    let Ok(program) = compile(source, &env) else { return };
    let object = json!({"list": [1, 2, 3, "a", null, [1]], "map": {"a": 1, "b": {"n": 2}}, "text": "abc", "n": 1});
    let mut budget = Budget::new(100_000);
    let mut activation = Activation::new(vec![Slot::Value(Value::untyped(&object))]);
    if let Ok(value) = program.eval(&mut activation, &mut budget) {
        // It may have no form in JSON, but asking is safe.
        drop(value.to_json());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text(source in "\\PC{0,60}") {
        survives(&source);
    }

    #[test]
    fn nearly_expressions(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 1..25)) {
        survives(&pieces.concat());
    }

    #[test]
    fn patterns(pattern in "[\\[\\]\\\\()a-c^$*+?{}|:&~dwsbQE,0-9-]{0,20}") {
        survives(&format!("self.text.matches(r\"{pattern}\")"));
    }

    #[test]
    fn names(name in "\\PC{0,20}") {
        if let Some(escaped) = mizzen_cel::escape(&name) {
            let source = format!("self.{escaped}");
            prop_assert!(compile(&source, &Env::new().with("self", Decl::of(Type::Dyn))).is_ok(), "{}", source);
        }
    }
}
