//! The embedded driver against the real kernel: needs root and Debian's busybox-static.
//!
//! This binary is also the shim of the pods it starts, so it has a `main` of its own. `cargo test -p mizzen-runtime --test
//! oci [WORD]` runs the tests whose name contains WORD. Each has its own run directory and cgroup, taken away at its end.

mod basics;
mod lifecycle;
mod limits;
mod mounts;
mod security;
mod streams;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|arg| arg == "shim") {
        return mizzen_runtime::shim::shim_main(args.skip(1));
    }
    let words: Vec<String> = args.filter_map(|a| a.into_string().ok()).filter(|a| !a.starts_with('-')).collect();
    if std::env::args().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    let groups = [
        ("basics", basics::TESTS),
        ("lifecycle", lifecycle::TESTS),
        ("limits", limits::TESTS),
        ("mounts", mounts::TESTS),
        ("security", security::TESTS),
        ("streams", streams::TESTS),
    ];
    world::run(&groups, &words)
}
