//! `fuzz`: every decoder of bytes from outside, guided by coverage, on a stable compiler (docs/decisions/0010).

use std::process::Command;

use crate::run::{Result, root};

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// LLVM's counters of edges, one byte each, inline. They are an option of the code generator and need no nightly compiler.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters";

/// Builds with coverage counters, and runs each target from its corpus.
pub fn fuzz(seconds: u64, inputs: Option<u64>, keep: bool, target: Option<&str>) -> Result {
    let directory = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| root().join("target"), Into::into).join("fuzz");
    println!("building the fuzz targets in {}", directory.display());
    let build = Command::new("cargo")
        .args(["build", "--release", "--package", "mizzen-fuzz", "--target", TRIPLE])
        .current_dir(root())
        .env("CARGO_TARGET_DIR", &directory)
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true")
        .status();
    match build {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("the fuzz targets cannot be built: {status}")),
        Err(error) => return Err(format!("cargo cannot be run: {error}")),
    }
    let program = directory.join(TRIPLE).join("release/mizzen-fuzz");
    let corpora = root().join("fuzz/corpus");
    let listed = std::fs::read_dir(&corpora).map_err(|e| format!("{}: {e}", corpora.display()))?;
    let mut names: Vec<String> = listed.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| target.is_none_or(|only| only == name));
    names.sort();
    for name in names {
        let mut run = Command::new(&program);
        run.arg(&name).arg(corpora.join(&name)).args(["--seconds", &seconds.to_string()]);
        if let Some(inputs) = inputs {
            run.args(["--inputs", &inputs.to_string()]);
        }
        if keep {
            run.arg("--keep");
        }
        match run.status() {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(format!("{name}: {status}")),
            Err(error) => return Err(format!("{}: {error}", program.display())),
        }
    }
    Ok(())
}
