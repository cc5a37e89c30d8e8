//! What calls cost at most.

use super::Range;
use crate::charge::{NEW_LIST, PER_CHAR, PER_PATTERN_CHAR, selector};
use crate::library::{Cost, Overload};
use crate::types::Type;

/// What is known of an argument; the receiver is the first.
pub(super) struct Argument {
    pub ty: Type,
    pub size: Range,
    /// Type and size of the elements of a list.
    pub element: Option<(Type, Range)>,
    /// The number that is written there.
    pub number: Option<u64>,
}

/// Bytes of an IP address.
const ADDRESS: Range = Range::of(4, 16);
/// Length of a pattern that a format may have.
const FORMAT_PATTERN: f64 = 128.0;

/// The cost of the call alone, and the size of its result where that follows from its arguments.
pub(super) fn cost(function: &str, overload: &Overload, args: &[Argument]) -> (Range, Option<Range>) {
    let size = |index: usize| args.get(index).map_or(Range::UNKNOWN, |arg| arg.size);
    let text = |index: usize| size(index).scaled(PER_CHAR);
    match overload.cost {
        Cost::One => (Range::fixed(1), None),
        Cost::Fixed(cost) => (Range::fixed(cost), None),
        Cost::Smaller => (smaller(args), None),
        Cost::Affix => (text(1), None),
        Cost::Scan { times, keeps } => (size(0).scaled(times * PER_CHAR), keeps.then(|| size(0))),
        Cost::Encode => (text(0), Some(Range::of(size(0).min, size(0).max.saturating_mul(4)))),
        Cost::Decode => (text(0), Some(Range::of(size(0).min / 4, size(0).max))),
        Cost::Quote => {
            let result = Range::of(size(0).min.saturating_add(2), size(0).max.saturating_mul(2).saturating_add(2));
            (text(0), Some(result))
        }
        Cost::Traverse => (traverse(args), None),
        Cost::Replace => (size(0).scaled(2.0 * PER_CHAR), Some(replaced(size(0), size(1), size(2)))),
        Cost::Split => {
            let most = args.get(2).and_then(|limit| limit.number).unwrap_or(size(0).max);
            (size(0).scaled(2.0 * PER_CHAR), Some(Range::of(0, most)))
        }
        Cost::Join => join(args),
        Cost::Matches { finds } => {
            let pattern = size(1).scaled(PER_PATTERN_CHAR);
            let cost = size(0).plus(Range::fixed(1)).scaled(PER_CHAR).times(pattern);
            (cost, finds.then(|| Range::of(0, size(0).max)))
        }
        Cost::Contains => (text(0).times(text(1)), None),
        Cost::InList => (size(1), None),
        Cost::AddText => {
            let sum = size(0).plus(size(1));
            (sum.scaled(PER_CHAR), Some(sum))
        }
        Cost::AddList => (Range::fixed(1), Some(size(0).plus(size(1)))),
        Cost::ContainsIp { parses } => {
            let base = ADDRESS.plus(ADDRESS).scaled(PER_CHAR);
            (if parses { base.plus(text(1)) } else { base }, None)
        }
        Cost::ContainsCidr { parses } => {
            let base = ADDRESS.plus(ADDRESS).scaled(PER_CHAR).plus(ADDRESS.scaled(PER_CHAR)).plus(Range::fixed(1));
            (if parses { base.plus(text(1)) } else { base }, None)
        }
        Cost::Validate => (text(1).scaled(FORMAT_PATTERN * PER_PATTERN_CHAR), None),
        Cost::Selector => (Range::of(selector(size(1).min), selector(size(1).max)), None),
        Cost::NewList => new_list(new_size(function, args), 1.0),
        Cost::Flatten => {
            let depth = if args.len() > 1 { args[1].number.unwrap_or(u64::MAX) } else { 1 };
            new_list(size(0), depth as f64)
        }
        Cost::Quadratic => {
            let letters =
                matches!(overload.params.first(), Some(Type::List(of)) if matches!(**of, Type::String | Type::Bytes));
            new_list(size(0).times(size(0)), if letters { 2.0 + PER_CHAR } else { 2.0 })
        }
        Cost::Product(factor) => (size(0).times(size(1)).scaled(factor).plus(Range::fixed(1)), None),
    }
}

fn smaller(args: &[Argument]) -> Range {
    let [one, other] = args else { return Range::fixed(1) };
    let of_library = |arg: &Argument| matches!(arg.ty, Type::Opaque(name) if name != crate::library::name::URL);
    if of_library(one) && of_library(other) {
        return Range::fixed(1);
    }
    let most = one.size.max.min(other.size.max);
    Range::of(u64::from(most > 0), most).scaled(PER_CHAR)
}

fn traverse(args: &[Argument]) -> Range {
    let Some(first) = args.first() else { return Range::fixed(1) };
    match &first.element {
        Some((Type::String | Type::Bytes, size)) => first.size.times(Range::fixed(1).plus(size.scaled(PER_CHAR))),
        Some(_) => first.size,
        None => first.size.scaled(PER_CHAR),
    }
}

/// The size of a text in which something is replaced.
fn replaced(text: Range, from: Range, to: Range) -> Range {
    let parts = |length: u64, part: u64| (length as f64 / part as f64).ceil() as u64;
    // The longest: the smallest parts replaced by the largest text, or the text around every character.
    let (count_max, kept_max) = if from.min == 0 {
        (text.max.saturating_add(1), text.max)
    } else if to.max <= from.min {
        (0, text.max)
    } else {
        (parts(text.max, from.min), 0)
    };
    let (count_min, kept_min) = if from.max == 0 {
        (text.min.saturating_add(1), text.min)
    } else if from.max <= to.min {
        (0, text.min)
    } else {
        (parts(text.min, from.max), 0)
    };
    Range::of(count_min, count_max).times(to).plus(Range::of(kept_min, kept_max))
}

fn join(args: &[Argument]) -> (Range, Option<Range>) {
    let Some(first) = args.first() else { return (Range::fixed(1), None) };
    let element = first.element.as_ref().map_or(Range::UNKNOWN, |(_, size)| *size);
    let mut size = first.size.times(element);
    if let Some(by) = args.get(1) {
        let gaps = Range::of(first.size.min.saturating_sub(1), first.size.max.saturating_sub(1));
        size = size.plus(by.size.times(gaps));
    }
    (size.scaled(PER_CHAR), Some(size))
}

/// The length of the list that `reverse`, `slice` and `range` make.
fn new_size(function: &str, args: &[Argument]) -> Range {
    let number = |index: usize, default: u64| args.get(index).and_then(|arg| arg.number).unwrap_or(default);
    let size = args.first().map_or(Range::UNKNOWN, |first| first.size);
    match function {
        "lists.range" => Range::fixed(number(0, u64::MAX)),
        "slice" => Range::fixed(number(2, size.max).saturating_sub(number(1, 0))),
        _ => size,
    }
}

fn new_list(size: Range, factor: f64) -> (Range, Option<Range>) {
    (size.scaled(factor).plus(Range::fixed(1 + NEW_LIST)), Some(size))
}
