//! Which devices a container may use: rules, and for cgroup v2 the small eBPF program that carries them.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use crate::sys::check;

/// One allowed set of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// `c` or `b`; `a` for both.
    pub kind: char,
    /// Major number; `None` for any.
    pub major: Option<u32>,
    /// Minor number; `None` for any.
    pub minor: Option<u32>,
    /// Reading allowed.
    pub read: bool,
    /// Writing allowed.
    pub write: bool,
    /// Making nodes allowed.
    pub mknod: bool,
}

impl DeviceRule {
    /// Everything.
    pub const ALL: DeviceRule =
        DeviceRule { kind: 'a', major: None, minor: None, read: true, write: true, mknod: true };

    const fn new(kind: char, major: Option<u32>, minor: Option<u32>, read_write: bool) -> Self {
        DeviceRule { kind, major, minor, read: read_write, write: read_write, mknod: true }
    }

    /// What every container may use: making any node, and the usual pseudo devices.
    pub const USUAL: [DeviceRule; 10] = [
        DeviceRule::new('c', None, None, false),
        DeviceRule::new('b', None, None, false),
        DeviceRule::new('c', Some(1), Some(3), true), // null
        DeviceRule::new('c', Some(1), Some(5), true), // zero
        DeviceRule::new('c', Some(1), Some(7), true), // full
        DeviceRule::new('c', Some(1), Some(8), true), // random
        DeviceRule::new('c', Some(1), Some(9), true), // urandom
        DeviceRule::new('c', Some(5), Some(0), true), // tty
        DeviceRule::new('c', Some(5), Some(2), true), // ptmx
        DeviceRule::new('c', Some(136), None, true),  // pts/*
    ];
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        write!(f, "{} {}:{} ", self.kind, number(self.major), number(self.minor))?;
        for (letter, set) in [('r', self.read), ('w', self.write), ('m', self.mknod)] {
            if set {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
struct Insn {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn insn(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Insn {
    Insn { code, registers: dst | (src << 4), offset, immediate }
}

// Opcodes of eBPF (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61; // dst = *(u32 *)(src + offset)
const MOVE_IMM: u8 = 0xb7;
const MOVE_REG: u8 = 0xbf;
const AND_IMM: u8 = 0x57;
const SHIFT_RIGHT_IMM: u8 = 0x77;
const JUMP_NOT_EQUAL_IMM: u8 = 0x55;
const EXIT: u8 = 0x95;

/// The program: r2 type, r3 access wanted, r4 major, r5 minor; each rule skips to the next unless it fits.
fn program(rules: &[DeviceRule]) -> Vec<Insn> {
    let mut code = vec![
        insn(LOAD_WORD, 2, 1, 0, 0),
        insn(MOVE_REG, 3, 2, 0, 0),
        insn(AND_IMM, 2, 0, 0, 0xffff),
        insn(SHIFT_RIGHT_IMM, 3, 0, 0, 16),
        insn(LOAD_WORD, 4, 1, 4, 0),
        insn(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let mut tests: Vec<Vec<Insn>> = Vec::new();
        if rule.kind != 'a' {
            let kind = if rule.kind == 'b' { 1 } else { 2 }; // BPF_DEVCG_DEV_BLOCK, _CHAR
            tests.push(vec![insn(JUMP_NOT_EQUAL_IMM, 2, 0, 0, kind)]);
        }
        // Any wanted access that the rule lacks: mknod 1, read 2, write 4.
        let lacks = i32::from(!rule.mknod) | i32::from(!rule.read) << 1 | i32::from(!rule.write) << 2;
        if lacks != 0 {
            let probe =
                [insn(MOVE_REG, 6, 3, 0, 0), insn(AND_IMM, 6, 0, 0, lacks), insn(JUMP_NOT_EQUAL_IMM, 6, 0, 0, 0)];
            tests.push(probe.to_vec());
        }
        for (register, number) in [(4, rule.major), (5, rule.minor)] {
            if let Some(number) = number {
                tests.push(vec![insn(JUMP_NOT_EQUAL_IMM, register, 0, 0, number as i32)]);
            }
        }
        let mut block: Vec<Insn> = tests.concat();
        block.extend([insn(MOVE_IMM, 0, 0, 0, 1), insn(EXIT, 0, 0, 0, 0)]);
        let length = block.len();
        for (at, instruction) in block.iter_mut().enumerate() {
            if instruction.code == JUMP_NOT_EQUAL_IMM {
                instruction.offset = (length - at - 1) as i16; // At most 9 instructions a rule.
            }
        }
        let always = tests.is_empty();
        code.extend(block);
        if always {
            return code; // The kernel refuses programs with instructions that are never reached.
        }
    }
    code.extend([insn(MOVE_IMM, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
    code
}

/// The head of `union bpf_attr` for BPF_PROG_LOAD, zeros after it.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The head of `union bpf_attr` for BPF_PROG_ATTACH.
#[repr(C)]
struct AttachAttr {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

fn bpf<T>(command: i32, attr: &T) -> io::Result<i32> {
    // SAFETY: `attr` is the head of a bpf_attr of the size given, and what it points to outlives the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) } as i32)
}

/// Loads the program for `rules` and attaches it to a v2 group, in place of an earlier one.
pub(super) fn attach_program(directory: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    const PROG_LOAD: i32 = 5;
    const PROG_ATTACH: i32 = 8;
    const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    const CGROUP_DEVICE: u32 = 6;
    let code = program(rules);
    let load = LoadAttr {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttr::default()
    };
    let fd = bpf(PROG_LOAD, &load)?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    let loaded = unsafe { OwnedFd::from_raw_fd(fd) };
    let group = std::fs::File::open(directory)?;
    let attach = AttachAttr {
        target: group.as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        flags: 0,
    };
    bpf(PROG_ATTACH, &attach).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_in_the_kernel() {
        let lines: Vec<String> = DeviceRule::USUAL.iter().map(ToString::to_string).collect();
        assert_eq!(lines[0], "c *:* m");
        assert_eq!(lines[2], "c 1:3 rwm");
        assert_eq!(lines[9], "c 136:* rwm");
    }

    #[test]
    fn every_jump_of_a_rule_lands_on_the_next_rule() {
        let code = program(&DeviceRule::USUAL);
        for (at, instruction) in code.iter().enumerate() {
            if instruction.code == JUMP_NOT_EQUAL_IMM {
                let target = at + 1 + instruction.offset as usize;
                assert_eq!(code[target - 1].code, EXIT, "jump at {at} lands inside a rule");
            }
        }
    }
}
