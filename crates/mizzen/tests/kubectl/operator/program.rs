//! An operator as people write them: it keeps a ConfigMap for every Site, and serves the webhooks of its own kind.
//!
//! It is this test program again, started in a pod with `MIZZEN_TEST_OPERATOR` set, and it knows the cluster only by what
//! every pod is given.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ConfigMap;
use mizzen_client::{Api, Client, ClientError, HttpsApi, HttpsConfig, Patch};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const SITES: &str = "/apis/example.com/v2/sites";
const FINALIZER: &str = "example.com/farewell";

/// Runs until it is killed.
pub fn run() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8443)).await.expect("a port");
        tokio::join!(serve(listener), reconcile_all());
    });
}

async fn serve(listener: TcpListener) {
    let chain = vec![CertificateDer::from_pem_file("/tls/tls.crt").expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file("/tls/tls.key").expect("its key");
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let tls = tls.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(tls.with_single_cert(chain, key).expect("they belong together")));
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let served = hyper::server::conn::http1::Builder::new();
            // A client that goes away breaks the connection.
            let _ = served.serve_connection(TokioIo::new(stream), service_fn(respond)).await;
        });
    }
}

async fn respond(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let review: Value = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap_or_default();
    let asked = &review["request"];
    let mut answer = match parts.uri.path() {
        "/convert" => convert(asked),
        "/validate" => validate(asked),
        "/mutate" => mutate(asked),
        _ => json!({}),
    };
    answer["uid"] = asked["uid"].clone();
    let body = json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": answer});
    Ok(Response::new(Full::new(body.to_string().into())))
}

/// `host` and `port` of v1 are `address` in v2.
fn convert(asked: &Value) -> Value {
    let version = asked["desiredAPIVersion"].as_str().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let converted = asked["objects"].as_array().cloned().unwrap_or_default().into_iter().map(|mut object| {
        let spec = &mut object["spec"];
        *spec = if version.ends_with("/v2") {
            json!({"address": format!("{}:{}", text(&spec["host"]), text(&spec["port"]))})
        } else {
            let address = text(&spec["address"]);
            let (host, port) = address.split_once(':').unwrap_or((&address, ""));
            json!({"host": host, "port": port})
        };
        object["apiVersion"] = version.into();
        object
    });
    let converted: Vec<Value> = converted.collect();
    json!({"convertedObjects": converted, "result": {"status": "Success"}})
}

fn validate(asked: &Value) -> Value {
    match asked["object"]["spec"]["address"].as_str() {
        Some(address) if address.starts_with("forbidden:") => {
            json!({"allowed": false, "status": {"message": "this host is taken", "code": 403}})
        }
        _ => json!({"allowed": true}),
    }
}

fn mutate(asked: &Value) -> Value {
    let mut patch = Vec::new();
    if asked["object"]["metadata"]["labels"].is_null() {
        patch.push(json!({"op": "add", "path": "/metadata/labels", "value": {}}));
    }
    patch.push(json!({"op": "add", "path": "/metadata/labels/seen", "value": "yes"}));
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(json!(patch).to_string())})
}

fn in_cluster() -> Arc<dyn Api> {
    let account = std::path::Path::new("/var/run/secrets/kubernetes.io/serviceaccount");
    let variable = |name: &str| std::env::var(name).expect("every pod is told");
    let config = HttpsConfig {
        server: format!("https://{}:{}", variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT")),
        ca_pem: std::fs::read(account.join("ca.crt")).expect("the cluster's CA"),
        client_pem: None,
        token: Some(std::fs::read_to_string(account.join("token")).expect("a token")),
        user_agent: "operator".into(),
    };
    Arc::new(HttpsApi::new(&config).expect("a client"))
}

/// Looks at all sites, then again whenever one changes.
async fn reconcile_all() {
    let api = in_cluster();
    let client = Client::new(Arc::clone(&api));
    loop {
        if let Err(error) = until_changed(&client, &api).await {
            println!("{error}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn until_changed(client: &Client, api: &Arc<dyn Api>) -> Result<(), ClientError> {
    let answer = client.call(Method::GET, SITES, &[], None).await?;
    let list: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    for site in list["items"].as_array().into_iter().flatten() {
        reconcile(client, site).await?;
    }
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let query = vec![("watch".to_owned(), "true".to_owned()), ("resourceVersion".to_owned(), version)];
    let (path, body) = (SITES.to_owned(), Bytes::new());
    let request = mizzen_client::Request { method: Method::GET, path, query, content_type: "", body };
    let mut events = api.watch(request).await?;
    events.next().await.transpose().map(drop)
}

async fn reconcile(client: &Client, site: &Value) -> Result<(), ClientError> {
    let meta = &site["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text(&meta["namespace"]), text(&meta["name"]));
    let path = format!("/apis/example.com/v2/namespaces/{namespace}/sites/{name}");
    let merge = [("fieldManager", "operator")];
    let patch = async |path: &str, body: Value| {
        let request = mizzen_client::Request {
            method: Method::PATCH,
            path: path.to_owned(),
            query: merge.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            content_type: "application/merge-patch+json",
            body: body.to_string().into(),
        };
        client.api().send(request).await.map(drop)
    };
    if !meta["deletionTimestamp"].is_null() {
        let farewell =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "farewell"}, "data": {"last": name}});
        apply(client, &namespace, "farewell", farewell).await?;
        return patch(&path, json!({"metadata": {"finalizers": null}})).await;
    }
    if meta["finalizers"].is_null() {
        patch(&path, json!({"metadata": {"finalizers": [FINALIZER]}})).await?;
    }
    let owner = json!({"apiVersion": site["apiVersion"], "kind": site["kind"], "name": name, "uid": meta["uid"], "controller": true});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": [owner]},
        "data": {"address": site["spec"]["address"]}});
    apply(client, &namespace, &name, map).await?;
    if site["status"]["address"] != site["spec"]["address"] {
        patch(&format!("{path}/status"), json!({"status": {"address": site["spec"]["address"]}})).await?;
    }
    Ok(())
}

async fn apply(client: &Client, namespace: &str, name: &str, object: Value) -> Result<(), ClientError> {
    let patch = Patch::Apply { object, manager: "operator".into(), force: true };
    client.patch::<ConfigMap>(namespace, name, "", &patch).await.map(drop)
}
