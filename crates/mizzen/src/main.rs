//! The mizzen binary: command line and composition of the parts.
//!
//! Floor 4. It has no logic of its own: it reads flags, opens the parts in order, connects them, and stops them.

mod access;
mod cli;
mod completions;
mod demo;
mod down;
mod error;
mod image;
mod instance;
mod logging;
mod secrets;
mod settings;
mod up;
mod web;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The shim comes before anything else: it must stay small and single-threaded.
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|command| command == "shim") {
        return mizzen_runtime::shim::shim_main(args);
    }
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mizzen: {}", error::one_line(&*error));
            ExitCode::FAILURE
        }
    }
}
