//! The image store against archives and a real registry (Debian's docker-registry), with broken and hostile content.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mizzen_runtime::image::digest::Digest;
use mizzen_runtime::image::{ImageStore, RegistryConfig};
use mizzen_runtime::images::{Credential, ImageErrorReason, ImageService, PullPolicy};
use serde_json::{Value, json};

/// A gzip'd layer with one file.
fn layer(path: &str, content: &str) -> (Vec<u8>, Digest) {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    builder.append(&header, content.as_bytes()).unwrap();
    let plain = builder.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    (gzip.finish().unwrap(), Digest::of(&plain))
}

struct Layout {
    dir: tempfile::TempDir,
    manifest: Value,
}

/// An OCI layout of one image named `name` with one layer.
fn layout(name: &str, path: &str, content: &str) -> Layout {
    layered(name, &[(path, content)])
}

/// An OCI layout of one image named `name` with a layer for each file.
fn layered(name: &str, files: &[(&str, &str)]) -> Layout {
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({"digest": digest.to_string(), "size": bytes.len()})
    };
    let layers: Vec<(Vec<u8>, Digest)> = files.iter().map(|(path, content)| layer(path, content)).collect();
    let diff_ids: Vec<String> = layers.iter().map(|(_, diff_id)| diff_id.to_string()).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/hello"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(config.to_string().as_bytes()),
        "layers": layers.iter().map(|(blob, _)| put(blob)).collect::<Vec<_>>()});
    let mut entry = put(manifest.to_string().as_bytes());
    entry["mediaType"] = "application/vnd.oci.image.manifest.v1+json".into();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    std::fs::write(dir.path().join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string())
        .unwrap();
    std::fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    Layout { dir, manifest }
}

fn store() -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path(), RegistryConfig::default()).unwrap();
    (dir, store)
}

#[tokio::test]
async fn loads_layouts_and_forgets_them() {
    let (dir, store) = store();
    let layout = layout("hello:1", "hello", "hi");
    let loaded = store.load(layout.dir.path()).unwrap();
    assert_eq!(loaded[0].tags, ["docker.io/library/hello:1"]);
    assert!(loaded[0].pinned, "no registry need have what was loaded by hand");
    // A second store in the same directory (the command line while the server runs) sees it.
    let second = ImageStore::open(dir.path(), RegistryConfig::default()).unwrap();
    let image = second.ensure("hello:1", PullPolicy::IfNotPresent, &[]).await.unwrap();
    assert!(!image.pulled && image.image.config.cmd == ["/hello"]);
    let lower = store.layers(&image.image.id).unwrap();
    assert_eq!(std::fs::read_to_string(lower[0].join("hello")).unwrap(), "hi");
    second.remove(&image.image.id).await.unwrap();
    assert!(!lower[0].exists());
    let error = store.ensure("hello:1", PullPolicy::Never, &[]).await.unwrap_err();
    assert_eq!(error.reason, ImageErrorReason::ErrImageNeverPull);
}

#[test]
fn broken_layouts_are_refused_and_leave_nothing() {
    for (case, spoil) in [
        ("missing layer", (|l: &Layout| std::fs::remove_file(blob(l, 0)).unwrap()) as fn(&Layout)),
        ("wrong digest", |l| std::fs::write(blob(l, 0), layer("hello", "other").0).unwrap()),
        ("no index", |l| std::fs::remove_file(l.dir.path().join("index.json")).unwrap()),
    ] {
        let (dir, store) = store();
        let layout = layout("hello:1", "hello", "hi");
        spoil(&layout);
        assert!(store.load(layout.dir.path()).is_err(), "{case}");
        assert_eq!(std::fs::read_dir(dir.path().join("layers")).unwrap().count(), 0, "{case}");
        assert_eq!(std::fs::read_dir(dir.path().join("scratch")).unwrap().count(), 0, "{case}");
    }
    let (_dir, store) = store();
    let error = store.load(layout("hello:1", "../../evil", "x").dir.path()).unwrap_err().to_string();
    assert!(error.contains("../../evil"), "{error}");
}

fn blob(layout: &Layout, layer: usize) -> PathBuf {
    let digest = layout.manifest["layers"][layer]["digest"].as_str().unwrap();
    layout.dir.path().join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
}

/// A registry process on a free loopback port.
struct Registry {
    child: Child,
    host: String,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Ending a process that has ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(name: &str) -> bool {
    let found = std::env::var("PATH").unwrap_or_default().split(':').any(|d| Path::new(d).join(name).exists());
    if !found {
        println!("skipped: {name} is not installed (apt-get install {name})");
    }
    found
}

async fn registry(password: bool) -> Registry {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut auth = String::new();
    if password {
        // bcrypt of "secret", made once with htpasswd -B.
        let line = "user:$2y$05$ggECH8Bh2AwCzHRWtQ9LzOkl21SW/gKRWG7uMZpkV4xF3ZMHg8h6K\n";
        std::fs::write(dir.path().join("htpasswd"), line).unwrap();
        auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}/htpasswd\n", dir.path().display());
    }
    let config = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{auth}",
        dir.path().display()
    );
    std::fs::write(dir.path().join("config.yml"), config).unwrap();
    let child = Command::new("docker-registry")
        .args(["serve".as_ref(), dir.path().join("config.yml").as_os_str()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let registry = Registry { child, host: format!("127.0.0.1:{port}"), _dir: dir };
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(&registry.host).await.is_ok() {
            return registry;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the registry did not start");
}

fn push(layout: &Path, target: &str, credentials: &[&str]) {
    let status = Command::new("skopeo")
        .args(["copy", "--quiet", "--dest-tls-verify=false"])
        .args(credentials)
        .arg(format!("oci:{}", layout.display()))
        .arg(format!("docker://{target}"))
        .status()
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn pulls_from_a_registry() {
    if !program("docker-registry") || !program("skopeo") {
        return;
    }
    let registry = registry(false).await;
    let (_dir, store) = store();
    let layout = layout("x", "hello", "hi");
    let name = format!("{}/team/hello:v1", registry.host);
    push(layout.dir.path(), &name, &[]);
    let pulled = store.ensure(&name, PullPolicy::IfNotPresent, &[]).await.unwrap();
    assert!(pulled.pulled && pulled.image.digests[0].contains("/team/hello@sha256:"));
    assert!(!pulled.image.pinned, "what was pulled can be pulled again");
    assert!(!store.ensure(&name, PullPolicy::IfNotPresent, &[]).await.unwrap().pulled);
    assert!(store.ensure(&name, PullPolicy::Always, &[]).await.unwrap().pulled);
    let pinned = pulled.image.digests[0].clone();
    assert!(!store.ensure(&pinned, PullPolicy::IfNotPresent, &[]).await.unwrap().pulled);
    let error = store.ensure(&format!("{}/team/none:v1", registry.host), PullPolicy::Always, &[]).await.unwrap_err();
    assert!(error.reason == ImageErrorReason::ErrImagePull && error.message.contains("404"), "{error}");
}

#[tokio::test]
async fn signs_in_with_a_pull_secret() {
    if !program("docker-registry") || !program("skopeo") || !program("htpasswd") {
        return;
    }
    let registry = registry(true).await;
    let (_dir, store) = store();
    let layout = layout("x", "hello", "hi");
    let name = format!("{}/team/hello:v1", registry.host);
    push(layout.dir.path(), &name, &["--dest-creds=user:secret"]);
    let credential = |password: &str| Credential {
        registry: registry.host.clone(),
        username: "user".into(),
        password: password.into(),
        identity_token: None,
    };
    for wrong in [vec![], vec![credential("wrong")]] {
        let error = store.ensure(&name, PullPolicy::Always, &wrong).await.unwrap_err();
        assert!(error.message.contains("401"), "{error}");
    }
    assert!(store.ensure(&name, PullPolicy::Always, &[credential("secret")]).await.unwrap().pulled);
}

#[tokio::test]
async fn an_unreachable_registry_is_named() {
    let (_dir, store) = store();
    let error = store.ensure("127.0.0.1:1/a:b", PullPolicy::Always, &[]).await.unwrap_err();
    assert!(error.reason == ImageErrorReason::ErrImagePull && error.message.contains("127.0.0.1:1"), "{error}");
    assert_eq!(
        store.ensure("No Name", PullPolicy::Always, &[]).await.unwrap_err().reason,
        ImageErrorReason::InvalidImageName
    );
}

/// A registry on loopback that breaks off in the middle of every layer asked for from its beginning.
struct Breaking {
    host: String,
    /// `Range` headers of the requests for layers.
    ranges: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

fn breaking(layout: &Layout) -> Breaking {
    use std::io::{BufRead, BufReader};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let ranges = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (root, manifest, seen) =
        (layout.dir.path().to_path_buf(), layout.manifest.to_string(), std::sync::Arc::clone(&ranges));
    let layer = layout.manifest["layers"][0]["digest"].as_str().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let lines: Vec<String> =
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
            let Some(path) = lines.first().and_then(|l| l.split(' ').nth(1)) else { continue };
            let name = path.rsplit('/').next().unwrap_or_default();
            let body = match path.contains("/manifests/") {
                true => manifest.clone().into_bytes(),
                false => std::fs::read(root.join("blobs").join(name.replace(':', "/"))).unwrap(),
            };
            let range =
                lines.iter().find_map(|l| l.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_string));
            let from: usize = range.as_deref().and_then(|r| r.trim_end_matches('-').parse().ok()).unwrap_or(0);
            let cut = if name == layer && from == 0 { body.len() / 2 } else { body.len() };
            if name == layer {
                seen.lock().unwrap().push(range.unwrap_or_default());
            }
            let status = if from > 0 {
                format!("206 Partial Content\r\nContent-Range: bytes {from}-/*")
            } else {
                "200 OK".into()
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len() - from);
            // A client that has gone away is none of the test's business.
            let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&body[from..cut]));
        }
    });
    Breaking { host, ranges }
}

#[tokio::test]
async fn a_download_that_breaks_off_is_resumed() {
    let noise: String =
        (0..200_000_u32).map(|i| char::from(b'a' + (i.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
    let layout = layout("x", "hello", &noise);
    let registry = breaking(&layout);
    let (_dir, store) = store();
    let pulled = store.ensure(&format!("{}/team/hello:v1", registry.host), PullPolicy::Always, &[]).await.unwrap();
    let lower = store.layers(&pulled.image.id).unwrap();
    assert_eq!(std::fs::read_to_string(lower[0].join("hello")).unwrap(), noise);
    let ranges = registry.ranges.lock().unwrap().clone();
    assert!(ranges.len() == 2 && ranges[0].is_empty() && !ranges[1].is_empty(), "{ranges:?}");
}

/// A registry on loopback that answers no request for a layer until `together` of them wait at once, or patience ends.
/// The most that ever waited.
fn gathering(layout: &Layout, together: usize) -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::io::{BufRead, BufReader};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Condvar, Mutex};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let most = Arc::new(AtomicUsize::new(0));
    let (root, manifest, counted) = (layout.dir.path().to_path_buf(), layout.manifest.to_string(), Arc::clone(&most));
    let layers: Vec<String> =
        layout.manifest["layers"].as_array().unwrap().iter().map(|l| l["digest"].as_str().unwrap().into()).collect();
    let gate = Arc::new((Mutex::new((0, 0)), Condvar::new()));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (root, manifest, layers, most, gate) =
                (root.clone(), manifest.clone(), layers.clone(), Arc::clone(&counted), Arc::clone(&gate));
            std::thread::spawn(move || {
                let lines: Vec<String> =
                    BufReader::new(&stream).lines().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
                let Some(path) = lines.first().and_then(|l| l.split(' ').nth(1)) else { return };
                let name = path.rsplit('/').next().unwrap_or_default().to_string();
                let body = match path.contains("/manifests/") {
                    true => manifest.into_bytes(),
                    false => std::fs::read(root.join("blobs").join(name.replace(':', "/"))).unwrap(),
                };
                if layers.contains(&name) {
                    // Who comes first waits for the others; later groups are of those that are left.
                    let mut state = gate.0.lock().unwrap();
                    state.0 += 1;
                    most.fetch_max(state.0, Ordering::Relaxed);
                    state.1 += 1;
                    gate.1.notify_all();
                    let enough = |s: &mut (usize, usize)| s.1 < together;
                    let waited = gate.1.wait_timeout_while(state, std::time::Duration::from_secs(5), enough).unwrap();
                    state = waited.0;
                    state.0 -= 1;
                }
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                // A client that has gone away is none of the test's business.
                let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&body));
            });
        }
    });
    (host, most)
}

#[tokio::test]
async fn layers_are_fetched_at_the_same_time() {
    let files: Vec<(String, String)> = (0..6).map(|n| (format!("file{n}"), format!("content {n}"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
    let layout = layered("x", &files);
    let (host, most) = gathering(&layout, 4);
    let (_dir, store) = store();
    let pulled = store.ensure(&format!("{host}/team/hello:v1"), PullPolicy::Always, &[]).await.unwrap();
    assert_eq!(store.layers(&pulled.image.id).unwrap().len(), files.len());
    assert_eq!(most.load(std::sync::atomic::Ordering::Relaxed), 4, "as many as are allowed at a time, and no more");
}
