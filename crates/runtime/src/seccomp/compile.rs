//! Rules to classic BPF.

use std::collections::BTreeMap;
use std::io;

use crate::sys::check;

/// What the kernel does with a system call: one of its `SECCOMP_RET_*` values, with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Action(pub(super) u32);

impl Action {
    pub(super) const ALLOW: Action = Action(libc::SECCOMP_RET_ALLOW);
    pub(super) const fn errno(errno: i32) -> Action {
        Action(libc::SECCOMP_RET_ERRNO | (errno as u32 & 0xffff))
    }
}

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) test: Test,
}

/// How.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Test {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    /// Masked with the first, equal to the second.
    MaskedEqual(u64, u64),
}

/// An action for one system call, if all conditions hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub(super) number: u32,
    pub(super) action: Action,
    pub(super) conditions: Vec<Condition>,
}

/// A whole profile. For a call, conditional rules are tried in order, then its unconditional one, then the default.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rules {
    pub(super) default: Action,
    /// For numbers above every one known here: programs try new calls and expect `ENOSYS`.
    pub(super) newer: Action,
    pub(super) list: Vec<Rule>,
}

/// A compiled filter.
#[derive(Debug, Clone)]
pub(crate) struct Filter(Vec<libc::sock_filter>);

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

const LOAD: u16 = 0x20; // ld [k]
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;
const OFFSET_NUMBER: u32 = 0; // of struct seccomp_data
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// What happens with a range of numbers.
#[derive(Debug, Clone, PartialEq)]
enum Leaf {
    Plain(Action),
    Conditional(Vec<Rule>, Action),
}

impl Filter {
    pub(super) fn compile(rules: &Rules) -> Self {
        let mut code = vec![
            op(LOAD, 0, 0, OFFSET_ARCH),
            op(JUMP_EQUAL, 1, 0, AUDIT_ARCH),
            // Another ABI (32 bit) has other numbers; it is refused as a whole, not killed.
            op(RETURN, 0, 0, Action::errno(libc::EPERM).0),
            op(LOAD, 0, 0, OFFSET_NUMBER),
        ];
        search(&leaves(rules), &mut code);
        Filter(code)
    }

    /// Filters this thread and everything it becomes, for good.
    pub(crate) fn install(&self) -> io::Result<()> {
        let program = libc::sock_fprog { len: self.0.len() as u16, filter: self.0.as_ptr().cast_mut() };
        let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, 0);
        // SAFETY: the program and its instructions outlive the call; the kernel copies them and does not write.
        check(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) } as i32).map(drop)
    }
}

/// Ranges by their first number, ascending, covering everything.
fn leaves(rules: &Rules) -> Vec<(u32, Leaf)> {
    let mut by_number: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &rules.list {
        by_number.entry(rule.number).or_default().push(rule);
    }
    let last_known =
        super::numbers::NUMBERS.iter().map(|(_, n)| *n).chain(by_number.keys().copied()).max().unwrap_or(0);
    let mut ranges: Vec<(u32, Leaf)> = Vec::new();
    let mut add = |number: u32, leaf: Leaf| {
        if ranges.last().is_none_or(|(_, previous)| *previous != leaf) {
            ranges.push((number, leaf));
        }
    };
    for number in 0..=last_known {
        let list = by_number.get(&number).map(Vec::as_slice).unwrap_or_default();
        let plain = list.iter().rfind(|r| r.conditions.is_empty()).map_or(rules.default, |r| r.action);
        let conditional: Vec<Rule> =
            list.iter().filter(|r| !r.conditions.is_empty() && r.action != plain).map(|r| (*r).clone()).collect();
        add(number, if conditional.is_empty() { Leaf::Plain(plain) } else { Leaf::Conditional(conditional, plain) });
    }
    add(last_known + 1, Leaf::Plain(rules.newer));
    // The x32 ABI of x86-64 has this bit set: to be refused, not to look new.
    add(0x4000_0000, Leaf::Plain(rules.default));
    ranges
}

/// A search tree over the ranges; the number is in the accumulator.
fn search(ranges: &[(u32, Leaf)], code: &mut Vec<libc::sock_filter>) {
    if let [(_, leaf)] = ranges {
        emit(leaf, code);
        return;
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    code.push(op(JUMP_GREATER_EQUAL, 0, 1, right[0].0));
    let jump = code.len();
    code.push(op(JUMP, 0, 0, 0));
    search(left, code);
    code[jump].k = (code.len() - jump - 1) as u32;
    search(right, code);
}

fn emit(leaf: &Leaf, code: &mut Vec<libc::sock_filter>) {
    let (rules, otherwise) = match leaf {
        Leaf::Plain(action) => (&[][..], action),
        Leaf::Conditional(rules, otherwise) => (rules.as_slice(), otherwise),
    };
    for rule in rules {
        let mut block = Vec::new();
        for condition in &rule.conditions {
            compare(condition, &mut block);
        }
        block.push(op(RETURN, 0, 0, rule.action.0));
        let length = block.len();
        for (at, instruction) in block.iter_mut().enumerate() {
            // At most 16 conditions of 6 instructions: the distance fits.
            let fail = (length - at - 1) as u8;
            if instruction.jt == FAIL {
                instruction.jt = fail;
            }
            if instruction.jf == FAIL {
                instruction.jf = fail;
            }
        }
        code.extend(block);
    }
    code.push(op(RETURN, 0, 0, otherwise.0));
}

/// Most conditions of one rule; six arguments, each compared from both sides, are 12.
pub(super) const CONDITIONS_MAX: usize = 16;

/// Stands for "to the end of this rule" until its length is known.
const FAIL: u8 = 255;

/// Falls through if the condition holds, else jumps to `FAIL`.
fn compare(condition: &Condition, code: &mut Vec<libc::sock_filter>) {
    let low = OFFSET_ARGUMENTS + 8 * u32::from(condition.argument);
    let (load_low, load_high) = (op(LOAD, 0, 0, low), op(LOAD, 0, 0, low + 4)); // Both architectures are little endian.
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    // Ordered: if the high halves differ they decide, else the low ones.
    let ordered = |value: u64, low_test: u16, wanted: bool| {
        let (high, low) = halves(value);
        let (yes, no) = (if wanted { 3 } else { FAIL }, if wanted { FAIL } else { 2 });
        let (low_yes, low_no) = if wanted { (0, FAIL) } else { (FAIL, 0) };
        [
            load_high,
            op(JUMP_GREATER, yes, 0, high),
            op(JUMP_EQUAL, 0, no, high),
            load_low,
            op(low_test, low_yes, low_no, low),
        ]
    };
    match condition.test {
        Test::Equal(value) => {
            let (high, low) = halves(value);
            code.extend([load_high, op(JUMP_EQUAL, 0, FAIL, high), load_low, op(JUMP_EQUAL, 0, FAIL, low)]);
        }
        Test::NotEqual(value) => {
            let (high, low) = halves(value);
            code.extend([load_high, op(JUMP_EQUAL, 0, 2, high), load_low, op(JUMP_EQUAL, FAIL, 0, low)]);
        }
        Test::MaskedEqual(mask, value) => {
            let ((mask_high, mask_low), (high, low)) = (halves(mask), halves(value));
            code.extend([load_high, op(AND, 0, 0, mask_high), op(JUMP_EQUAL, 0, FAIL, high)]);
            code.extend([load_low, op(AND, 0, 0, mask_low), op(JUMP_EQUAL, 0, FAIL, low)]);
        }
        Test::Greater(value) => code.extend(ordered(value, JUMP_GREATER, true)),
        Test::GreaterOrEqual(value) => code.extend(ordered(value, JUMP_GREATER_EQUAL, true)),
        Test::Less(value) => code.extend(ordered(value, JUMP_GREATER_EQUAL, false)),
        Test::LessOrEqual(value) => code.extend(ordered(value, JUMP_GREATER, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter on a system call as the kernel would.
    fn run(filter: &Filter, arch: u32, number: u32, arguments: [u64; 6]) -> Action {
        let (mut at, mut accumulator) = (0, 0_u32);
        loop {
            let i = &filter.0[at];
            at += 1;
            let taken = match i.code {
                LOAD => {
                    accumulator = match i.k {
                        OFFSET_NUMBER => number,
                        OFFSET_ARCH => arch,
                        k => {
                            let word = (k - OFFSET_ARGUMENTS) / 4;
                            (arguments[(word / 2) as usize] >> (32 * (word % 2))) as u32
                        }
                    };
                    continue;
                }
                AND => {
                    accumulator &= i.k;
                    continue;
                }
                JUMP => {
                    at += i.k as usize;
                    continue;
                }
                RETURN => return Action(i.k),
                JUMP_EQUAL => accumulator == i.k,
                JUMP_GREATER => accumulator > i.k,
                JUMP_GREATER_EQUAL => accumulator >= i.k,
                other => panic!("unknown instruction {other:#x}"),
            };
            at += usize::from(if taken { i.jt } else { i.jf });
        }
    }

    #[test]
    fn comparisons_hold_for_64_bits() {
        let values = [0, 1, 40, u64::from(u32::MAX), 1 << 32, (1 << 32) + 1, (7 << 32) + 40, u64::MAX];
        let deny = Action::errno(1);
        for v in values {
            type Truth = fn(u64, u64) -> bool;
            let tests: [(Test, Truth); 7] = [
                (Test::Equal(v), |a, v| a == v),
                (Test::NotEqual(v), |a, v| a != v),
                (Test::Less(v), |a, v| a < v),
                (Test::LessOrEqual(v), |a, v| a <= v),
                (Test::Greater(v), |a, v| a > v),
                (Test::GreaterOrEqual(v), |a, v| a >= v),
                (Test::MaskedEqual(v, 0), |a, v| a & v == 0),
            ];
            for (test, truth) in tests {
                let conditions = vec![Condition { argument: 2, test }, Condition { argument: 0, test: Test::Equal(9) }];
                let rule = Rule { number: 5, action: Action::ALLOW, conditions };
                let filter = Filter::compile(&Rules { default: deny, newer: deny, list: vec![rule] });
                for a in values {
                    let allowed = run(&filter, AUDIT_ARCH, 5, [9, 0, a, 0, 0, 0]) == Action::ALLOW;
                    assert_eq!(allowed, truth(a, v), "{test:?} of {a:#x}");
                    assert_eq!(run(&filter, AUDIT_ARCH, 5, [8, 0, a, 0, 0, 0]), deny);
                }
            }
        }
    }

    #[test]
    fn the_default_profile_answers_as_documented() {
        let plain = super::super::default_filter(|_| false);
        let admin = super::super::default_filter(|c| c == "SYS_ADMIN");
        let number = |name: &str| super::super::numbers::NUMBERS.iter().find(|(n, _)| *n == name).unwrap().1;
        let call =
            |filter: &Filter, name: &str, first: u64| run(filter, AUDIT_ARCH, number(name), [first, 0, 0, 0, 0, 0]);
        let (allow, eperm, enosys) = (Action::ALLOW, Action::errno(libc::EPERM), Action::errno(libc::ENOSYS));
        for (name, first, without, with) in [
            ("read", 0, allow, allow),
            ("execve", 0, allow, allow),
            ("mount", 0, eperm, allow),
            ("unshare", 0, eperm, allow),
            ("keyctl", 0, eperm, eperm),
            ("io_uring_setup", 0, eperm, eperm),
            ("clone3", 0, enosys, allow),
            ("clone", libc::SIGCHLD as u64, allow, allow),
            ("clone", libc::CLONE_NEWUSER as u64, eperm, allow),
            ("clone", libc::CLONE_NEWCGROUP as u64 | 17, eperm, allow),
            ("socket", libc::AF_INET as u64, allow, allow),
            ("socket", 40, eperm, eperm),
            ("socket", 1 << 32 | 40, eperm, eperm),
            ("personality", 0, allow, allow),
            ("personality", 0x0004_0000, eperm, eperm),
            ("reboot", 0, eperm, eperm),
        ] {
            assert_eq!(call(&plain, name, first), without, "{name} {first:#x}");
            assert_eq!(call(&admin, name, first), with, "{name} {first:#x} with SYS_ADMIN");
        }
        assert_eq!(run(&plain, AUDIT_ARCH, 1000, [0; 6]), enosys, "a call newer than us");
        assert_eq!(run(&plain, AUDIT_ARCH, 0x4000_0000, [0; 6]), eperm, "x32");
        assert_eq!(run(&plain, 0x4000_0003, 1, [0; 6]), eperm, "32 bit");
        assert!(plain.0.len() < 500, "{} instructions", plain.0.len());
    }
}
