//! Expressions, what they evaluate to, and what is wrong with them: through the crate's own door.

use mizzen_cel::{
    Activation, Authorizer, Budget, Check, Decision, Decl, Env, RUNTIME_BUDGET, Slot, Type, Value, compile,
};
use serde_json::{Value as Json, json};

fn schema() -> Json {
    json!({"type": "object", "properties": {
        "replicas": {"type": "integer"},
        "ratio": {"type": "number"},
        "name": {"type": "string", "maxLength": 20},
        "color": {"type": "string", "enum": ["red", "green"]},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "numbers": {"type": "array", "maxItems": 10, "items": {"type": "integer"}},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items":
            {"type": "object", "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "port": {"x-kubernetes-int-or-string": true},
        "since": {"type": "string", "format": "date-time"},
        "wait": {"type": "string", "format": "duration"},
        "data": {"type": "string", "format": "byte"},
        "namespace": {"type": "string"},
        "gone": {"type": "string", "nullable": true},
    }})
}

fn object() -> Json {
    json!({
        "replicas": 3, "ratio": 2, "name": "web", "color": "red", "tags": ["a", "b"], "numbers": [3, 1, 2],
        "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}], "labels": {"app": "web", "tier": "1"},
        "port": "80%", "since": "2026-01-02T03:04:05Z", "wait": "90s", "data": "aGk=", "namespace": "default",
        "gone": null,
    })
}

struct Allows;

impl Authorizer for Allows {
    fn check(&self, check: &Check) -> Decision {
        let allowed = match check {
            Check::Path { path, verb, .. } => path == "/healthz" && verb == "get",
            Check::Resource { resource, verb, service_account } => {
                resource.resource == "pods" && verb == "create" && service_account.is_none()
            }
        };
        Decision { allowed, reason: "because".into(), error: String::new() }
    }
}

/// The value as text: JSON where there is one, else how it is shown.
fn run(source: &str) -> Result<String, String> {
    let decl = Decl::from_schema(&schema(), "selfType", false).unwrap();
    let env = Env::new()
        .with("self", decl.clone())
        .with("any", Decl::of(Type::Dyn))
        .with("authorizer", Decl::of(Type::authorizer()));
    let program = compile(source, &env).map_err(|error| error.to_string())?;
    let object = object();
    let value = Value::from_json(&object, Some(&decl)).unwrap();
    let slots = [value, Value::untyped(&object), Value::authorizer(&Allows)].map(Slot::Value);
    let mut activation = Activation::new(slots.into());
    let value = program.eval(&mut activation, &mut Budget::new(RUNTIME_BUDGET)).map_err(|error| error.to_string())?;
    Ok(value.to_json().map_or_else(|_| format!("{value:?}"), |json| json.to_string()))
}

fn check(cases: &[(&str, &str)]) {
    for (source, expected) in cases {
        assert_eq!(run(source).unwrap_or_else(|error| error), *expected, "{source}");
    }
}

#[test]
fn literals_and_operators() {
    check(&[
        ("1 + 2 * 3 - 4 / 2 % 3", "5"),
        ("-7 / 2", "-3"),
        ("-7 % 2", "-1"),
        ("0x10 + 1", "17"),
        ("1u + 2u", "3"),
        ("1.5 * 2.0", "3.0"),
        ("'a' + \"b\" + r'\\n' + '''c'''", r#""ab\\nc""#),
        (r"'\x41\u00e9\101\n'", "\"AéA\\n\""),
        (r"b'\xff' == b'\377'", "true"),
        ("!false && (true || false)", "true"),
        ("!!true", "true"),
        ("1 < 2 ? 'yes' : 'no'", r#""yes""#),
        ("[1, 2] + [3]", "[1,2,3]"),
        ("{'a': 1, 'b': 2}['b']", "2"),
        ("{'a': 1}.a", "1"),
        ("2 in [1, 2]", "true"),
        ("'a' in {'a': 1}", "true"),
        ("dyn(1) == 1.0", "true"),
        ("dyn(1u) == 1", "true"),
        ("1 < 1.5", "true"),
        ("9223372036854775807 < 9223372036854775808.0", "true"),
        ("null == null", "true"),
        ("[1, 2][1]", "2"),
        ("type(1) == int && type('a') == string && type([1]) == list", "true"),
        ("type(1) == type(2)", "true"),
        ("// a remark\n 1", "1"),
    ]);
}

#[test]
fn evaluation_fails_in_the_words_of_cel() {
    check(&[
        ("1 / 0", "division by zero"),
        ("1 % 0", "modulus by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("0u - 1u", "unsigned integer overflow"),
        ("{'a': 1}['b']", "no such key: b"),
        ("[1][2]", "index out of bounds: 2"),
        ("[1][-1]", "index out of bounds: -1"),
        ("any.nothing", "no such key: nothing"),
        ("any.name.more", "no such overload"),
        ("any.name + 1 == 2", "no such overload"),
        ("any.name && true", "no such overload"),
        ("int('x')", "type conversion error from 'string' to 'int'"),
        ("optional.none().value()", "optional.none() dereference"),
        ("self.numbers.filter(x, x > 9).min()", "min called on empty list"),
    ]);
}

#[test]
fn an_operand_that_decides_makes_up_for_one_that_fails() {
    check(&[
        ("1 / 0 == 1 || true", "true"),
        ("true || 1 / 0 == 1", "true"),
        ("false && 1 / 0 == 1", "false"),
        ("1 / 0 == 1 && false", "false"),
        ("1 / 0 == 1 || false", "division by zero"),
        ("[1, 0].exists(x, 1 / x == 1)", "true"),
        ("[0, 1].exists(x, 1 / x == 1)", "true"),
        ("[0, 1].all(x, 1 / x == 2)", "false"),
        ("[0, 1].all(x, 1 / x == 1)", "division by zero"),
    ]);
}

#[test]
fn fields_follow_their_schema() {
    check(&[
        ("self.replicas", "3"),
        ("self.ratio", "2.0"),
        ("self.__namespace__", r#""default""#),
        ("type(self.port) == string", "true"),
        ("self.since.getFullYear()", "2026"),
        ("self.since + self.wait", r#""2026-01-02T03:05:35Z""#),
        ("self.wait == duration('1m30s')", "true"),
        ("string(self.data)", r#""hi""#),
        ("has(self.gone)", "false"),
        ("has(self.name) && has(self.labels.app) && !has(self.labels.x)", "true"),
        ("self.tags == ['b', 'a']", "true"),
        ("self.tags + ['b', 'c']", r#"["a","b","c"]"#),
        ("self.tags == ['b', 'b']", "true"),
        ("self.ports.exists(p, p.name == 'http' && p.port == 80)", "true"),
        ("self.labels.all(k, self.labels[k] != '')", "true"),
        ("self.labels['app']", r#""web""#),
        ("any.replicas + 1", "4"),
    ]);
}

#[test]
fn macros() {
    check(&[
        ("[1, 2, 3].all(x, x > 0)", "true"),
        ("[1, 2, 3].exists(x, x > 2)", "true"),
        ("[1, 2, 3].exists_one(x, x > 2)", "true"),
        ("[1, 2, 3].existsOne(x, x > 1)", "false"),
        ("[1, 2, 3].map(x, x * 2)", "[2,4,6]"),
        ("[1, 2, 3].map(x, x > 1, x * 2)", "[4,6]"),
        ("[1, 2, 3].filter(x, x > 1)", "[2,3]"),
        ("{'a': 1, 'b': 2}.map(k, k)", r#"["a","b"]"#),
        ("[1, 2].all(i, v, v == i + 1)", "true"),
        ("{'a': 1}.exists(k, v, k == 'a' && v == 1)", "true"),
        ("[10, 20].transformList(i, v, i + v)", "[10,21]"),
        ("[10, 20].transformList(i, v, i > 0, v)", "[20]"),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v * 10)", r#"{"a":10,"b":20}"#),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 10)", r#"{"b":20}"#),
        ("{'a': 'x', 'b': 'y'}.transformMapEntry(k, v, {v: k})", r#"{"x":"a","y":"b"}"#),
        ("[[1, 2], [3]].map(x, x.map(y, y + 1))", "[[2,3],[4]]"),
        ("['bb', 'a', 'ccc'].sortBy(s, s.size())", r#"["a","bb","ccc"]"#),
        ("[1].map(x, [2].map(x, x + 1)[0] + x)", "[4]"),
    ]);
}

#[test]
fn optionals() {
    check(&[
        ("self.?name.orValue('none')", r#""web""#),
        ("any.?nothing.?more.orValue(5)", "5"),
        ("any.?nothing.hasValue()", "false"),
        ("self.labels[?'x'].orValue('none')", r#""none""#),
        ("[1, 2][?5].orValue(0)", "0"),
        ("optional.of(1).or(optional.of(2)).value()", "1"),
        ("optional.none().or(optional.of(2)).value()", "2"),
        ("optional.ofNonZeroValue('').hasValue()", "false"),
        ("optional.of(2).optMap(x, x * 2).value()", "4"),
        ("optional.of([1]).optFlatMap(x, x[?0]).value()", "1"),
        ("{?'a': any.?nothing, 'b': 1}", r#"{"b":1}"#),
        ("[?any.?nothing, 1]", "[1]"),
        ("has(any.?labels.app)", "true"),
        ("[1, 2].first().value() + [1, 2].last().value()", "3"),
        ("[optional.of(1), optional.none()].unwrapOpt()", "[1]"),
        ("optional.of(1) == optional.of(1)", "true"),
    ]);
}

#[test]
fn strings_and_patterns() {
    check(&[
        ("'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')", "true"),
        ("'héllo'.size()", "5"),
        ("'héllo'.charAt(1)", r#""é""#),
        ("'hello'.indexOf('l') + 'hello'.lastIndexOf('l')", "5"),
        ("'hello'.indexOf('l', 3)", "3"),
        ("'Ab'.lowerAscii() + 'Ab'.upperAscii()", r#""abAB""#),
        ("'a-b-c'.replace('-', '+', 1)", r#""a+b-c""#),
        ("'a,b,c'.split(',')", r#"["a","b","c"]"#),
        ("'a,b,c'.split(',', 2)", r#"["a","b,c"]"#),
        ("'abc'.split('')", r#"["a","b","c"]"#),
        ("'abcd'.substring(1, 3)", r#""bc""#),
        ("'abcd'.substring(3, 1)", "invalid substring range. start: 3, end: 1"),
        ("'abcd'.charAt(9)", "index out of range: 9"),
        ("'  a '.trim()", r#""a""#),
        ("['a', 'b'].join('-')", r#""a-b""#),
        ("strings.quote('a\"b')", r#""\"a\\\"b\"""#),
        ("'%s is %d, %.2f %x %b'.format([dyn('a'), dyn(3), dyn(1.5), dyn(255), dyn(5)])", r#""a is 3, 1.50 ff 101""#),
        ("'%s'.format([[dyn(1), dyn('a')]])", r#""[1, \"a\"]""#),
        ("'abc'.matches('^[a-c]+$') && matches('x1', r'\\d')", "true"),
        ("'abc 123'.find('[0-9]+')", r#""123""#),
        ("'1 2 3'.findAll('[0-9]', 2)", r#"["1","2"]"#),
        ("string(1) + string(1.5) + string(true) + string(duration('1s'))", r#""11.5true1s""#),
    ]);
}

#[test]
fn libraries_of_kubernetes() {
    check(&[
        ("self.numbers.isSorted()", "false"),
        ("self.numbers.sum() + self.numbers.min() + self.numbers.max()", "10"),
        ("[1, 2, 1].indexOf(1) + [1, 2, 1].lastIndexOf(1)", "2"),
        ("self.numbers.sort()", "[1,2,3]"),
        ("[1, 1, 2].distinct()", "[1,2]"),
        ("[1, 2, 3].slice(1, 3).reverse()", "[3,2]"),
        ("[[1], [2, 3]].flatten()", "[1,2,3]"),
        ("lists.range(3)", "[0,1,2]"),
        ("sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])", "true"),
        ("url('https://a.b:80/p%20q?x=1&x=2').getHostname()", r#""a.b""#),
        ("url('https://a.b:80/p%20q?x=1&x=2').getPort()", r#""80""#),
        ("url('https://a.b:80/p%20q?x=1&x=2').getEscapedPath()", r#""/p%20q""#),
        ("url('https://a.b:80/p?x=1&x=2').getQuery()['x']", r#"["1","2"]"#),
        ("isURL('/a/b') && !isURL('a b')", "true"),
        ("quantity('1500m').isGreaterThan(quantity('1')) && quantity('1Ki').asInteger() == 1024", "true"),
        ("quantity('1').add(2).sub(quantity('500m'))", r#""2500m""#),
        ("isQuantity('1x')", "false"),
        ("quantity('50k') == quantity('50000')", "true"),
        ("ip('10.0.0.1').family() == 4 && ip('::1').isLoopback() && ip.isCanonical('::1')", "true"),
        ("isIP('10.0.0.300')", "false"),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))", "true"),
        ("string(cidr('10.1.2.3/8').masked())", r#""10.0.0.0/8""#),
        ("format.dns1123Label().validate('my-name').hasValue()", "false"),
        ("format.named('dns1123Label').value().validate('A').value().size()", "1"),
        ("format.uuid().validate('x').value()[0]", r#""does not match the UUID format""#),
        ("semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('v1.0', true) && !isSemver('v1.0')", "true"),
        ("semver('1.0.0-alpha.2').compareTo(semver('1.0.0-alpha.10')) + semver('1.2.3').minor()", "1"),
        ("jsonpatch.escapeKey('a/b~c')", r#""a~1b~0c""#),
        ("authorizer.path('/healthz').check('get').allowed()", "true"),
        ("authorizer.group('').resource('pods').namespace('x').check('create').allowed()", "true"),
        ("authorizer.serviceAccount('x', 'y').group('').resource('pods').check('create').allowed()", "false"),
        ("authorizer.group('').resource('pods').check('create').reason()", r#""because""#),
    ]);
}

#[test]
fn times() {
    check(&[
        ("timestamp('2026-03-01T00:00:00Z') - timestamp('2026-02-28T00:00:00Z') == duration('24h')", "true"),
        ("timestamp('2026-03-01T10:20:30.5Z').getMilliseconds()", "500"),
        ("timestamp('2026-03-01T23:00:00Z').getHours('+02:00')", "1"),
        ("timestamp('2026-03-01T10:20:30Z').getDayOfWeek()", "0"),
        ("timestamp('2026-03-01T10:20:30Z').getDayOfYear()", "59"),
        ("duration('90m').getHours()", "1"),
        ("timestamp(0)", r#""1970-01-01T00:00:00Z""#),
        ("timestamp('9999-12-30T21:00:00Z') + duration('100h')", "timestamp overflow"),
        ("string(timestamp('2026-03-01T10:20:30Z'))", r#""2026-03-01T10:20:30Z""#),
        ("int(timestamp('1970-01-01T00:00:10Z'))", "10"),
    ]);
}

#[test]
fn what_cannot_be_compiled_is_told_with_its_place() {
    let message = |text: &str, source: &str, column: usize| {
        format!("ERROR: <input>:1:{}: {text}\n | {source}\n | {}^", column + 1, ".".repeat(column))
    };
    for (source, column, text) in [
        ("self.replicas > x", 16, "undeclared reference to 'x' (in container '')"),
        ("self.nothing", 4, "undefined field 'nothing'"),
        ("self.replicas == 'a'", 14, "found no matching overload for '_==_' applied to '(int, string)'"),
        ("1 == 1.0", 2, "found no matching overload for '_==_' applied to '(int, double)'"),
        ("self.name.foo()", 13, "undeclared reference to 'foo' (in container '')"),
        ("self.name.contains(1)", 18, "found no matching overload for 'contains' applied to 'string.(int)'"),
        ("self.replicas && true", 5 - 1, "expected type 'bool' but found 'int'"),
        ("self.replicas.x", 13, "type 'int' does not support field selection"),
        ("[1, 'a']", 4, "expected type 'int' but found 'string'"),
        ("true ? 1 : 'a'", 5, "found no matching overload for '_?_:_' applied to '(bool, int, string)'"),
        (
            "self.replicas.all(x, x)",
            4,
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        (
            "self.name.map(x, x)",
            4,
            "expression of type 'string' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("[1].all(1, true)", 8, "argument must be a simple name"),
        ("has(self)", 4, "invalid argument to has() macro"),
        ("duration('x')", 9, "invalid duration argument"),
        ("self.name.matches('(')", 18, "invalid matches argument"),
        ("if", 0, "reserved identifier: if"),
        (
            "1 +",
            3,
            "Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
        ),
        ("1 2", 2, "Syntax error: extraneous input '2' expecting <EOF>"),
        ("1 # 2", 2, "Syntax error: token recognition error at: '#'"),
        ("Object{}", 6, "undeclared reference to 'Object' (in container '')"),
    ] {
        assert_eq!(run(source).unwrap_err(), message(text, source, column), "{source}");
    }
    let two = run("x + y").unwrap_err();
    assert_eq!(two.matches("ERROR: <input>").count(), 2, "{two}");
    assert!(run("1\n + x").unwrap_err().starts_with("ERROR: <input>:2:4: undeclared reference to 'x'"));
}

#[test]
fn cost_is_counted_as_kubernetes_does() {
    let decl = Decl::from_schema(&schema(), "selfType", false).unwrap();
    let env = Env::new().with("self", decl.clone());
    let object = object();
    // Expression, estimate, what it cost.
    for (source, estimate, actual) in [
        ("true", 0, 0),
        ("self.replicas", 2, 2),
        ("self.replicas < 5", 3, 3),
        ("has(self.name)", 1, 1),
        ("self.name == 'web'", 3, 3),
        ("self.name.contains('e')", 10, 3),
        ("self.name.startsWith('w')", 3, 3),
        ("self.name.matches('^[a-z]+$')", 20, 4),
        ("self.numbers.all(x, x > 0)", 2 + 1 + 10 * (3 + 2), 2 + 1 + 3 * (3 + 2)),
        ("self.numbers.exists(x, x == 9)", 2 + 1 + 10 * (4 + 1), 2 + 1 + 3 * (4 + 2)),
        ("self.numbers.map(x, x)", 2 + 11 + 10 * 13, 2 + 1 + 3 * 13),
        ("self.numbers.filter(x, x > 1)", 2 + 11 + 10 * (2 + 13), 2 + 1 + 2 * (2 + 13) + 2 + 1),
        ("self.numbers.sum() == 6", 2 + 10 + 1, 2 + 3 + 1),
        ("1 in self.numbers", 2 + 10, 2 + 3),
        ("self.numbers[0] == 3", 3, 4),
        ("quantity('1Ki').isLessThan(quantity('2Ki'))", 3, 3),
    ] {
        let program = compile(source, &env).unwrap();
        let slot = Slot::Value(Value::from_json(&object, Some(&decl)).unwrap());
        let mut budget = Budget::new(RUNTIME_BUDGET);
        program.eval(&mut Activation::new(vec![slot]), &mut budget).unwrap();
        assert_eq!((program.cost().max, RUNTIME_BUDGET - budget.left()), (estimate, actual), "{source}");
    }
}

#[test]
fn what_costs_too_much_is_stopped() {
    let env = Env::new().with("any", Decl::of(Type::Dyn));
    let long = json!({"list": (0..2000).collect::<Vec<_>>(), "text": "a".repeat(100_000)});
    for source in [
        "any.list.all(x, any.list.all(y, x + y >= 0))",
        "any.text.matches('(a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p)*' + any.text)",
        "lists.range(1000000000).size() > 0",
        "lists.range(4000000).size() > 0",
        "[any.list].map(a, [a, a, a, a, a, a, a, a]).map(a, a + a + a + a + a + a + a + a).all(a, (a + a + a + a + a + a + a + a + a + a + a + a + a + a + a + a).flatten().size() > 0)",
        "[0].map(a, [any.list, any.list]).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a)
            .map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a)
            .map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a)
            .exists(a, [a] == [a])",
        "any.text.replace('', any.text).size() > 0",
        "true || any.list.all(x, any.list.all(y, x + y >= 0)) ? any.list.all(x, any.list.all(y, true)) : true",
    ] {
        let program = compile(source, &env).unwrap();
        let mut budget = Budget::new(RUNTIME_BUDGET);
        let result = program.eval(&mut Activation::new(vec![Slot::Value(Value::untyped(&long))]), &mut budget);
        let error = result.expect_err(source).to_string();
        assert_eq!(error, "operation cancelled: actual cost limit exceeded", "{source}");
    }
}

#[test]
fn variables_are_evaluated_when_they_are_asked_for_and_once() {
    let mut env = Env::new().with("any", Decl::of(Type::Dyn));
    let one = compile("any.list.map(x, x * 2)", &env).unwrap();
    env.declare("variables.doubled", Decl::of(one.ty().clone()));
    let two = compile("variables.doubled.size() / 0", &env).unwrap();
    env.declare("variables.bad", Decl::of(two.ty().clone()));
    let object = json!({"list": [1, 2, 3]});
    for (source, expected, cost) in [
        ("variables.doubled[0] == variables.doubled[0]", Ok(true), 50),
        ("has(variables.doubled)", Ok(true), 0),
        ("variables.bad == 1", Err("composited variable \"bad\" fails to evaluate: division by zero"), 49),
        ("true || variables.bad == 1", Ok(true), 0),
    ] {
        let program = compile(source, &env).unwrap();
        let slots = vec![
            Slot::Value(Value::untyped(&object)),
            Slot::Lazy { program: &one, name: "doubled" },
            Slot::Lazy { program: &two, name: "bad" },
        ];
        let mut budget = Budget::new(RUNTIME_BUDGET);
        let value = program.eval(&mut Activation::new(slots), &mut budget);
        let value = value.map(|value| value.as_bool().unwrap()).map_err(|error| error.to_string());
        assert_eq!(value.as_ref().map_err(String::as_str), expected.as_ref().map_err(|error| *error), "{source}");
        assert_eq!(RUNTIME_BUDGET - budget.left(), cost, "{source}");
    }
    let error = compile("variables.nothing", &env).unwrap_err().to_string();
    assert!(error.contains("undefined field 'nothing'"), "{error}");
}

#[test]
fn depth_and_length_are_bounded() {
    let env = Env::new();
    for source in [
        format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("1{}", " + 1".repeat(20_000)),
        format!("{}true", "!(".repeat(5_000)),
        format!("[1]{}", "[0]".repeat(5_000)),
        format!("a{}", ".a".repeat(5_000)),
        format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000)),
        "'".repeat(200_000),
        format!("{}1", "true ? 1 : ".repeat(5_000)),
        format!("{}1{}", "(1 + (1 + 1) * ".repeat(400), ")".repeat(400)),
    ] {
        let error = compile(&source, &env).unwrap_err().to_string();
        assert!(error.contains("limit") || error.contains("Syntax error"), "{error:.200}");
    }
    let fine = format!("true{}", " && true".repeat(5_000));
    assert!(compile(&fine, &env).is_ok(), "a chain is not deep");
    let deep = format!("{}1{}", "[".repeat(150), "]".repeat(150));
    assert!(compile(&deep, &env).is_ok());
}
