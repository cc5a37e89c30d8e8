//! Which code an input reached.
//!
//! `cargo xtask fuzz` compiles everything with LLVM's inline 8-bit counters: each edge of each instrumented function adds
//! one to a byte of its own. Modules announce their counters at program start by calling the function below, whose name
//! LLVM gives. Without the instrumentation nobody calls it, and fuzzing goes on blindly.

use std::sync::Mutex;

/// Start and length of the counters of each module.
static MODULES: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// Called by each instrumented module before `main`.
///
/// # Safety
/// LLVM passes the bounds of an array of bytes that lives as long as the program.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    let (start, stop) = (start.addr(), stop.addr());
    let mut modules = MODULES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if stop > start && !modules.iter().any(|(known, _)| *known == start) {
        modules.push((start, stop - start));
    }
}

const BLOCK: usize = 256;
const ZEROES: [u8; BLOCK] = [0; BLOCK];

/// What has been reached by all inputs so far.
#[derive(Debug)]
pub struct Coverage {
    modules: Vec<(usize, usize)>,
    /// For each counter the classes of counts that were seen, one bit each.
    seen: Vec<u8>,
}

impl Coverage {
    /// Nothing yet.
    pub fn new() -> Self {
        let modules = MODULES.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let counters = modules.iter().map(|(_, length)| length).sum();
        Self { modules, seen: vec![0; counters] }
    }

    /// How many counters there are; none without instrumentation.
    pub fn counters(&self) -> usize {
        self.seen.len()
    }

    /// How many of them were ever reached.
    pub fn reached(&self) -> usize {
        self.seen.iter().filter(|classes| **classes != 0).count()
    }

    /// Forgets what the counters hold, before an input runs.
    pub fn reset(&self) {
        for (start, length) in &self.modules {
            // SAFETY: the bounds were announced by LLVM for memory that lives as long as the program, and nothing but the
            // instrumented code, which runs on this thread, writes it.
            let counters =
                unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut::<u8>(*start), *length) };
            counters.fill(0);
        }
    }

    /// Whether the input that just ran reached something new: an edge, or one a new number of times by order of magnitude.
    pub fn take(&mut self) -> bool {
        let mut new = false;
        let mut at = 0;
        for (start, length) in &self.modules {
            // SAFETY: as in `reset`.
            let counters =
                unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(*start), *length) };
            // Nearly all counters are 0 after an input: whole blocks of them are passed by at the speed of memory.
            for (counts, seen) in counters.chunks(BLOCK).zip(self.seen[at..at + length].chunks_mut(BLOCK)) {
                if *counts != ZEROES[..counts.len()] {
                    new |= note(counts, seen);
                }
            }
            at += length;
        }
        new
    }
}

/// Adds the classes of the counts to what was seen, and says whether one of them is new.
fn note(counts: &[u8], seen: &mut [u8]) -> bool {
    let mut new = false;
    for (count, seen) in counts.iter().zip(seen) {
        let class = class(*count);
        new |= *seen & class != class;
        *seen |= class;
    }
    new
}

/// One bit for 1, 2, 3, 4-7, 8-15, 16-31, 32-127 and more.
fn class(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        _ => 128,
    }
}
