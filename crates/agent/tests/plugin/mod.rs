//! A device plugin for `example.com/light`, over its own reading of the protocol.

use std::convert::Infallible;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

type Devices = Vec<(String, bool)>;
type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

/// A running plugin; it ends when it is dropped.
pub struct Plugin {
    devices: watch::Sender<Devices>,
    _server: JoinSet<()>,
}

fn owned(devices: &[(&str, bool)]) -> Devices {
    devices.iter().map(|(id, healthy)| (id.to_string(), *healthy)).collect()
}

/// A field that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
    out.extend_from_slice(bytes);
    out
}

fn framed(message: &[u8]) -> Bytes {
    let mut out = vec![0];
    out.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    out.extend_from_slice(message);
    out.into()
}

impl Plugin {
    /// Serves its devices, and registers.
    pub async fn start(directory: &Path, devices: &[(&str, bool)]) -> Self {
        let (sender, receiver) = watch::channel(owned(devices));
        let listener = UnixListener::bind(directory.join("light.sock")).unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let devices = receiver.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(devices.clone(), request));
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        register(&directory.join("kubelet.sock")).await;
        Self { devices: sender, _server: server }
    }

    /// Lists other devices from now on.
    pub fn say(&self, devices: &[(&str, bool)]) {
        self.devices.send(owned(devices)).unwrap();
    }
}

async fn register(socket: &Path) {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let options = [0x10, 1]; // get_preferred_allocation_available
    let message =
        [field(1, b"v1beta1"), field(2, b"light.sock"), field(3, b"example.com/light"), field(4, &options)].concat();
    let request = Request::post("http://x/v1beta1.Registration/Register").header("content-type", "application/grpc");
    let answer = sender.send_request(request.body(Full::new(framed(&message))).unwrap()).await.unwrap();
    let body = answer.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0", "{:?}", body.trailers());
    connection.abort();
}

async fn answer(devices: watch::Receiver<Devices>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let method = request.uri().path().to_string();
    let asked = request.into_body().collect().await.unwrap().to_bytes();
    let one = |message: Vec<u8>| {
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from(0))]);
        Full::new(framed(&message)).with_trailers(async move { Some(Ok(trailers)) }).boxed_unsync()
    };
    let body = match method.as_str() {
        "/v1beta1.DevicePlugin/ListAndWatch" => {
            let changes = futures_util::stream::unfold((devices, true), |(mut devices, first)| async move {
                if !first && devices.changed().await.is_err() {
                    return None;
                }
                let list = devices.borrow_and_update().clone();
                let list: Vec<u8> = list
                    .iter()
                    .flat_map(|(id, healthy)| {
                        let health: &[u8] = if *healthy { b"Healthy" } else { b"Unhealthy" };
                        field(1, &[field(1, id.as_bytes()), field(2, health)].concat())
                    })
                    .collect();
                Some((Ok(Frame::data(framed(&list))), (devices, false)))
            });
            BodyExt::boxed_unsync(StreamBody::new(changes))
        }
        // It likes the last ones best.
        "/v1beta1.DevicePlugin/GetPreferredAllocation" => one(field(1, &field(1, b"b"))),
        "/v1beta1.DevicePlugin/Allocate" => {
            // Message 1 in message 1: ids of one letter, each with its tag and length.
            let ids: Vec<String> =
                asked[7..].chunks(3).map(|id| String::from_utf8_lossy(&id[2..]).into_owned()).collect();
            let env = field(1, &[field(1, b"LIGHT"), field(2, ids.join(",").as_bytes())].concat());
            let mount = field(2, &[field(1, b"/light"), field(2, b"/etc"), vec![0x18, 1]].concat());
            let device = field(3, &[field(1, b"/dev/light"), field(2, b"/dev/null"), field(3, b"rw")].concat());
            one(field(1, &[env, mount, device].concat()))
        }
        other => panic!("{other}"),
    };
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}
