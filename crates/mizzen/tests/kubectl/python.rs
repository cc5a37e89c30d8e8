//! A second client library: Kubernetes' own for Python.

use std::path::{Path, PathBuf};

use super::cluster::{Cluster, text};

#[test]
fn the_python_client_does_its_work() {
    let Some(packages) =
        std::env::var_os("MIZZEN_TEST_PYTHON").map(PathBuf::from).filter(|p| p.join("kubernetes").is_dir())
    else {
        println!("skipped: the Python package kubernetes is not installed (cargo xtask test installs it)");
        return;
    };
    let Some(cluster) = Cluster::start() else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python_client.py");
    let output = cluster.command(Path::new("python3")).arg(script).env("PYTHONPATH", packages).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}
