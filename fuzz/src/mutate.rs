//! New inputs from old ones.

use rand::Rng;
use rand::rngs::StdRng;

/// Longest input: what takes long for its size alone says nothing.
const LONGEST: usize = 16 << 10;

/// Pieces that decoders look for.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "false",
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "\\u0000",
    "\\ud800",
    "metadata",
    "name",
    "spec",
    "status",
    "labels",
    "annotations",
    "apiVersion",
    "kind",
    "v1",
    "$patch",
    "replace",
    "delete",
    "merge",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "$retainKeys",
    "containers",
    "image",
    "ports",
    "op",
    "add",
    "remove",
    "move",
    "copy",
    "test",
    "path",
    "from",
    "value",
    "/",
    "~0",
    "~1",
    "- ",
    "\n",
    "  ",
    "&a",
    "*a",
    "<<: *a",
    "!!binary ",
    "|",
    ">",
    "---",
    "0644",
    "1Gi",
    "100m",
    "1e3",
    " in (",
    " notin (",
    "!",
    "!=",
    "==",
    "=",
    "a.b/c",
    "self",
    "self.size()",
    ".map(x, ",
    ".all(x, ",
    ".exists(",
    "has(",
    "matches('",
    "'",
    " && ",
    " || ",
    "? ",
    "int(",
    "string(",
    "duration('1h')",
    "timestamp(",
    "openAPIV3Schema",
    "properties",
    "type",
    "object",
    "array",
    "items",
    "x-kubernetes-validations",
    "rule",
    "x-kubernetes-preserve-unknown-fields",
    "additionalProperties",
    "pattern",
    "default",
    "enum",
    "k8s\0",
];

/// An input made from `base`, and now and then from a part of `other`.
pub fn mutated(random: &mut StdRng, base: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = base.to_vec();
    for _ in 0..1 << random.random_range(0..4) {
        once(random, &mut out, other);
    }
    out.truncate(LONGEST);
    out
}

fn once(random: &mut StdRng, out: &mut Vec<u8>, other: &[u8]) {
    let at = random.random_range(0..=out.len());
    match random.random_range(0..9) {
        0 if at < out.len() => out[at] ^= 1 << random.random_range(0..8),
        1 if at < out.len() => out[at] = random.random(),
        2 => insert(out, at, &[random.random()]),
        3 => {
            let word = WORDS[random.random_range(0..WORDS.len())];
            insert(out, at, word.as_bytes());
        }
        4 => {
            let end = (at + random.random_range(1..=16)).min(out.len());
            out.drain(at..end);
        }
        5 => {
            let end = (at + random.random_range(1..=64)).min(out.len());
            let part = out[at..end].to_vec();
            let to = random.random_range(0..=out.len());
            insert(out, to, &part);
        }
        6 if !other.is_empty() => {
            let from = random.random_range(0..other.len());
            let end = (from + random.random_range(1..=256)).min(other.len());
            insert(out, at, &other[from..end]);
        }
        7 if !other.is_empty() => {
            out.truncate(at);
            out.extend_from_slice(&other[random.random_range(0..other.len())..]);
        }
        // Numbers of protobuf and the like: their ends.
        8 if at < out.len() => out[at] = [0x00, 0x01, 0x7f, 0x80, 0xff][random.random_range(0..5)],
        _ => {}
    }
}

fn insert(out: &mut Vec<u8>, at: usize, part: &[u8]) {
    out.splice(at..at, part.iter().copied());
}
