use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mizzen_store::{Seal, SealError};

use super::kms::wire;
use super::{Envelope, Keepers, KeyFile, Kms, KmsOptions, Resources};

fn secrets() -> Resources {
    Resources::parse(["secrets"]).unwrap()
}

fn envelope(path: &Path) -> Envelope {
    Envelope::new(secrets(), Keepers::file(KeyFile::open(path).unwrap())).unwrap()
}

const PLACE: &str = "core/secrets/a/b";

#[test]
fn a_value_opens_where_it_was_sealed_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys/secrets");
    let first = envelope(&path);
    assert!(first.seals(PLACE) && !first.seals("core/configmaps/a/b"));
    let sealed = first.seal(PLACE, b"hunter2").unwrap();
    assert_ne!(sealed, first.seal(PLACE, b"hunter2").unwrap(), "salt is fresh");
    assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
    // Another start has another seed and the same key.
    let second = envelope(&path);
    assert_eq!(second.open(PLACE, &sealed).unwrap(), b"hunter2");
    assert_eq!(second.open("core/secrets/a/c", &sealed), Err(SealError::Broken));
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(second.open(PLACE, &changed).is_err(), "byte {at}");
        assert!(second.open(PLACE, &sealed[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn keys_rotate_and_stay_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys/secrets");
    let sealed = envelope(&path).seal(PLACE, b"x").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let mut file = KeyFile::open(&path).unwrap();
    let before = file.current().to_string();
    file.add().unwrap();
    assert_ne!(file.current(), before);
    let both = envelope(&path);
    assert_eq!(both.open(PLACE, &sealed).unwrap(), b"x");
    let anew = both.seal(PLACE, b"x").unwrap();
    assert_eq!(KeyFile::open(&path).unwrap().drop_old().unwrap(), 1);
    let after = envelope(&path);
    assert_eq!(after.open(PLACE, &anew).unwrap(), b"x");
    assert_eq!(after.open(PLACE, &sealed), Err(SealError::UnknownKey(before)));
    for bad in ["", "x", "12345678 AAAA\n", "1 AAAA\n"] {
        std::fs::write(&path, bad).unwrap();
        assert!(KeyFile::open(&path).is_err(), "{bad:?}");
    }
}

/// A plugin that turns bytes around; what it is asked is noted.
#[derive(Default)]
struct Plugin {
    key: Mutex<String>,
    asked: Mutex<Vec<String>>,
    down: std::sync::atomic::AtomicBool,
}

impl Plugin {
    fn answer(&self, method: &str, message: &[u8]) -> Result<Vec<u8>, &'static str> {
        self.asked.lock().unwrap().push(method.to_string());
        if self.down.load(std::sync::atomic::Ordering::SeqCst) {
            return Err("14");
        }
        let fields = wire::fields(message).unwrap();
        let field =
            |number: u64| fields.iter().find(|(n, _)| *n == number).map(|(_, v)| v.to_vec()).unwrap_or_default();
        let around = |bytes: Vec<u8>| bytes.into_iter().map(|byte| byte ^ 0x77).collect::<Vec<u8>>();
        let key = self.key.lock().unwrap().clone();
        let mut out = Vec::new();
        match method {
            "Status" => {
                wire::put(&mut out, 1, b"v2");
                wire::put(&mut out, 2, b"ok");
                wire::put(&mut out, 3, key.as_bytes());
            }
            "Encrypt" => {
                wire::put(&mut out, 1, &around(field(1)));
                wire::put(&mut out, 2, key.as_bytes());
            }
            "Decrypt" if field(3) != key.as_bytes() => return Err("5"),
            _ => wire::put(&mut out, 1, &around(field(1))),
        }
        Ok(out)
    }

    async fn serve(self: Arc<Self>, listener: tokio::net::UnixListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let plugin = Arc::clone(&self);
            let service = service_fn(move |request: Request<Incoming>| {
                let plugin = Arc::clone(&plugin);
                async move {
                    let method = request.uri().path().rsplit('/').next().unwrap().to_string();
                    assert!(request.uri().path().starts_with("/v2.KeyManagementService/"));
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let (message, status) = match plugin.answer(&method, &body[5..]) {
                        Ok(message) => (message, "0"),
                        Err(status) => (Vec::new(), status),
                    };
                    let mut framed = vec![0];
                    framed.extend((message.len() as u32).to_be_bytes());
                    framed.extend(message);
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static(status));
                    let frames = [Frame::data(Bytes::from(framed)), Frame::trailers(trailers)];
                    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, Infallible>)));
                    Ok::<_, Infallible>(
                        Response::builder().header("content-type", "application/grpc").body(body).unwrap(),
                    )
                }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_keeps_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kms.sock");
    let plugin = Arc::new(Plugin::default());
    *plugin.key.lock().unwrap() = "one".into();
    let serving = tokio::spawn(Arc::clone(&plugin).serve(tokio::net::UnixListener::bind(&socket).unwrap()));
    let file = dir.path().join("keys/secrets");
    let by_file = envelope(&file).seal(PLACE, b"of the file").unwrap();
    let options = KmsOptions { name: "test".into(), socket, timeout: Duration::from_secs(5) };
    let open = || {
        let kms = Arc::new(Kms::new(options.clone()).unwrap());
        let keys = KeyFile::read(&file).unwrap();
        (Envelope::new(secrets(), Keepers::kms(Arc::clone(&kms), keys)), kms)
    };
    let (first, kms) = open();
    let first = first.unwrap();
    assert_eq!(kms.status().await.unwrap().key_id, "one");
    assert_eq!(first.open(PLACE, &by_file).unwrap(), b"of the file");
    let sealed = first.seal(PLACE, b"hunter2").unwrap();
    assert_eq!(first.open(PLACE, &sealed).unwrap(), b"hunter2");
    let (second, _kms) = open();
    let second = second.unwrap();
    for _ in 0..3 {
        assert_eq!(second.open(PLACE, &sealed).unwrap(), b"hunter2");
    }
    let asked = std::mem::take(&mut *plugin.asked.lock().unwrap());
    assert_eq!(asked, ["Encrypt", "Status", "Encrypt", "Decrypt"], "values never reach it, and seeds once");
    // Another key: values of the old seed still open, new ones have another.
    *plugin.key.lock().unwrap() = "two".into();
    second.renew().unwrap();
    let anew = second.seal(PLACE, b"y").unwrap();
    assert_eq!(
        (second.open(PLACE, &sealed).unwrap(), second.open(PLACE, &anew).unwrap()),
        (b"hunter2".into(), b"y".into())
    );
    plugin.down.store(true, std::sync::atomic::Ordering::SeqCst);
    let error = open().0.err().unwrap().to_string();
    assert!(error.contains("test") && error.contains("status 14"), "{error}");
    serving.abort();
}
