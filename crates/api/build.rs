//! Collects the descriptions of types and fields for `kubectl explain` out of the sources of `k8s-openapi`, which carry
//! them as doc comments. So none of that prose lies in this repository, and the crate's slow `schemars` feature is not
//! needed. Where the sources cannot be found, the OpenAPI documents have no descriptions, and that is all.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    let mut text = String::new();
    match sources() {
        Some(root) => collect(&root, &mut text),
        None => println!(
            "cargo::warning=the sources of k8s-openapi were not found: kubectl explain will show no descriptions"
        ),
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("descriptions.z");
    let file = std::fs::File::create(out).expect("OUT_DIR is writable");
    let mut encoder = flate2::write::DeflateEncoder::new(file, flate2::Compression::best());
    encoder.write_all(text.as_bytes()).expect("OUT_DIR is writable");
    encoder.finish().expect("OUT_DIR is writable");
}

/// `k8s-openapi`'s module of the version in use.
fn sources() -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO")?;
    let target = std::env::var_os("TARGET")?;
    // Without the filter cargo would want the dependencies of every platform.
    let filter = ["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform"];
    let output = Command::new(cargo).args(filter).arg(target).output().ok()?;
    let metadata = String::from_utf8(output.stdout).ok()?;
    // Each package is told with the path of its manifest; that of the one wanted is the only one to end so.
    let path = metadata.split("\"manifest_path\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let manifest = path.into_iter().find(|p| {
        let folder = Path::new(p).parent().and_then(Path::file_name).and_then(|f| f.to_str()).unwrap_or("");
        folder == "k8s-openapi"
            || folder.strip_prefix("k8s-openapi-").is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit()))
    })?;
    let module = Path::new(manifest).parent()?.join("src/v1_36");
    module.is_dir().then_some(module)
}

fn collect(folder: &Path, out: &mut String) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, out);
        } else if let Ok(source) = std::fs::read_to_string(&path) {
            describe(&source, out);
        }
    }
}

/// One line for a type (`=name<TAB>description`) and one for each field (`name<TAB>description`); `\x01` is a line break.
fn describe(source: &str, out: &mut String) {
    let Some(name) = source.lines().next().and_then(|l| l.strip_prefix("// Generated from definition ")) else {
        return;
    };
    let names: Vec<(&str, &str)> = source.lines().filter_map(json_name).collect();
    let mut lines = source.lines().skip(1).map(str::trim);
    let mut doc = String::new();
    let mut in_type = false;
    for line in &mut lines {
        if let Some(text) = line.strip_prefix("///") {
            if !doc.is_empty() {
                doc.push('\u{1}');
            }
            doc.push_str(text.trim());
        } else if line.starts_with("pub struct ") || line.starts_with("pub enum ") {
            let _ = writeln!(out, "={name}\t{}", std::mem::take(&mut doc));
            in_type = line.ends_with('{') && line.starts_with("pub struct ");
            if !in_type {
                return;
            }
        } else if let Some((field, _)) = line.strip_prefix("pub ").filter(|_| in_type).and_then(|l| l.split_once(':')) {
            let json = names.iter().find(|(rust, _)| *rust == field).map_or(field, |(_, json)| *json);
            let _ = writeln!(out, "{json}\t{}", std::mem::take(&mut doc));
        } else if in_type && line == "}" {
            return;
        }
    }
}

/// `"containerPort" => Field::Key_container_port,` says how a field is called in JSON.
fn json_name(line: &str) -> Option<(&str, &str)> {
    let (json, rust) = line.trim().split_once(" => Field::Key_")?;
    Some((rust.trim_end_matches(','), json.trim_matches('"')))
}
