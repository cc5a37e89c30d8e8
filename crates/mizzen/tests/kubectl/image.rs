//! A busybox image as an OCI layout, made of Debian's busybox-static, with curl: the static busybox cannot resolve names.

use std::path::{Path, PathBuf};
use std::process::Command;

use mizzen_runtime::image::digest::Digest;
use serde_json::{Value, json};

/// Writes the layout of the busybox image, named `name`, to `layout`.
pub fn busybox(layout: &Path, name: &str) {
    write(layout, name, &busybox_layer());
}

/// Writes the layout of an image that holds one static program and nothing else.
pub fn of_program(layout: &Path, name: &str, path: &str, program: &Path) {
    let bytes = std::fs::read(program).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header(tar::EntryType::Regular, 0o755, bytes.len()), path, bytes.as_slice()).unwrap();
    write(layout, name, &builder.into_inner().unwrap());
}

fn write(layout: &Path, name: &str, layer: &[u8]) {
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| -> Value {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({"digest": digest.to_string(), "size": bytes.len()})
    };
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer).to_string()]}});
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(config.to_string().as_bytes()), "layers": [put(layer)]});
    let mut entry = put(manifest.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    std::fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string()).unwrap();
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn busybox_layer() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for directory in ["bin", "etc", "tmp", "www"] {
        let mode = if directory == "tmp" { 0o1777 } else { 0o755 };
        builder.append_data(&mut header(tar::EntryType::Directory, mode, 0), directory, &[][..]).unwrap();
    }
    let busybox = std::fs::read("/bin/busybox").unwrap();
    builder
        .append_data(&mut header(tar::EntryType::Regular, 0o755, busybox.len()), "bin/busybox", busybox.as_slice())
        .unwrap();
    for applet in [
        "sh", "cat", "echo", "hostname", "httpd", "ls", "nslookup", "sleep", "tar", "touch", "true", "false", "id",
        "kill", "test",
    ] {
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        builder.append_link(&mut link, format!("bin/{applet}"), "busybox").unwrap();
    }
    for (path, file) in curl() {
        let bytes = std::fs::read(&file).unwrap();
        builder.append_data(&mut header(tar::EntryType::Regular, 0o755, bytes.len()), path, bytes.as_slice()).unwrap();
    }
    let passwd = b"root:x:0:0:root:/:/bin/sh\n";
    builder.append_data(&mut header(tar::EntryType::Regular, 0o644, passwd.len()), "etc/passwd", &passwd[..]).unwrap();
    builder.into_inner().unwrap()
}

/// curl and the libraries it is linked with, as (path in the image, file).
fn curl() -> Vec<(String, PathBuf)> {
    let program = ["/usr/bin/curl", "/bin/curl"].map(PathBuf::from).into_iter().find(|p| p.exists()).expect("curl");
    let listed = Command::new("ldd").arg(&program).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    let mut files: Vec<(String, PathBuf)> =
        libraries.map(|l| (l.trim_start_matches('/').to_string(), PathBuf::from(l))).collect();
    files.push(("bin/curl".into(), program));
    files
}
