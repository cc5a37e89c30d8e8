use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Client, Options, Pki};

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn start() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.join("pki"),
        node_name: "n1".into(),
        service_address: "10.96.0.1".parse().unwrap(),
        addresses: vec!["192.0.2.7".parse().unwrap()],
        names: vec!["api.example.org".into()],
        cluster_domain: "cluster.local".into(),
    }
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir.join("pki"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_second_start_finds_everything_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::open(&options(dir.path()), start()).unwrap();
    let before = files(dir.path());
    let second = Pki::open(&options(dir.path()), start() + DAY).unwrap();
    assert_eq!(files(dir.path()), before);
    assert_eq!(first.ca_pem(), second.ca_pem());
    assert_eq!(before.len(), 10);
    for (name, _) in before {
        let mode = fs::metadata(dir.path().join("pki").join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn what_is_due_or_does_not_fit_is_issued_anew() {
    type Change = fn(&mut Options);
    let cases: [(&str, Change, i64, &[&str]); 6] = [
        ("fresh", |_| (), 200, &[]),
        (
            "after two thirds of a year",
            |_| (),
            250,
            &["admin", "api-server", "api-server-to-kubelet", "front-proxy-client", "kubelet", "node", "server"],
        ),
        ("another address", |o| o.addresses.push("192.0.2.8".parse().unwrap()), 1, &["api-server", "kubelet"]),
        ("another name", |o| o.names.clear(), 1, &["api-server"]),
        ("another node name", |o| o.node_name = "n2".into(), 1, &["api-server", "kubelet", "node", "server"]),
        (
            "after two thirds of the CA's life",
            |_| (),
            2500,
            &[
                "admin",
                "api-server",
                "api-server-to-kubelet",
                "ca",
                "front-proxy-ca",
                "front-proxy-client",
                "kubelet",
                "node",
                "server",
            ],
        ),
    ];
    for (case, change, days, renewed) in cases {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path());
        Pki::open(&options, start()).unwrap();
        let before = files(dir.path());
        change(&mut options);
        let later = (0..days).fold(start(), |time, _| time + DAY);
        Pki::open(&options, later).unwrap();
        let mut changed: Vec<String> = files(dir.path())
            .into_iter()
            .zip(before)
            .filter(|(new, old)| new != old)
            .map(|(new, _)| new.0.trim_end_matches(".pem").to_string())
            .collect();
        changed.sort();
        assert_eq!(changed, renewed, "{case}");
    }
}

#[test]
fn damaged_identity_stops_the_start_and_a_damaged_certificate_is_replaced() {
    for (file, content, error) in [
        ("ca.pem", "", Some("it holds no usable private key")),
        ("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n", Some("it holds no usable private key")),
        ("tokens.pem", "garbage", Some("it holds no private key")),
        ("node.pem", "garbage", None),
        ("api-server.pem", "", None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        Pki::open(&options(dir.path()), start()).unwrap();
        fs::write(dir.path().join("pki").join(file), content).unwrap();
        let opened = Pki::open(&options(dir.path()), start());
        let text = opened.err().map(|error| error.to_string());
        assert_eq!(
            text.as_deref().map(|t| error.is_some_and(|e| t.contains(e))),
            error.map(|_| true),
            "{file}: {text:?}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    Pki::open(&options(dir.path()), start()).unwrap();
    let other = tempfile::tempdir().unwrap();
    Pki::open(&options(other.path()), start()).unwrap();
    let (ca, _) = (fs::read_to_string(dir.path().join("pki/ca.pem")).unwrap(), ());
    let foreign = fs::read_to_string(other.path().join("pki/ca.pem")).unwrap();
    let (key, _) = ca.split_once("-----BEGIN CERT").unwrap();
    let (_, certificate) = foreign.split_once("-----BEGIN CERT").unwrap();
    fs::write(dir.path().join("pki/ca.pem"), format!("{key}-----BEGIN CERT{certificate}")).unwrap();
    let error = Pki::open(&options(dir.path()), start()).err().unwrap().to_string();
    assert!(error.contains("its key does not belong to its certificate"), "{error}");
}

/// A handshake over a socket; the name the server saw in the client's certificate.
fn handshake(server: Arc<rustls::ServerConfig>, client: Arc<rustls::ClientConfig>, host: &str) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let host = host.to_string().try_into().unwrap();
    let serving = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut tls = rustls::StreamOwned::new(rustls::ServerConnection::new(server).unwrap(), stream);
        let mut byte = [0];
        tls.read_exact(&mut byte).ok()?;
        let peer = tls.conn.peer_certificates().and_then(|chain| chain.first()).cloned();
        Some(peer.and_then(|der| crate::auth::certificate_identity(&der)).map_or(String::new(), |who| who.user.clone()))
    });
    let mut tls = rustls::StreamOwned::new(
        rustls::ClientConnection::new(client, host).unwrap(),
        TcpStream::connect(address).unwrap(),
    );
    let sent = tls.write_all(b"x").and_then(|()| tls.flush());
    drop(tls);
    let seen = serving.join().unwrap();
    sent.ok().and(seen)
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

fn anonymous(pki: &Pki) -> Arc<rustls::ClientConfig> {
    let mut config = (*pki.client_config(Client::Admin)).clone();
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    Arc::new(config)
}

#[test]
fn handshakes_show_who_is_who() {
    // The certificates must be valid at the time of the test: TLS reads the clock itself.
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(&options(dir.path()), Timestamp::now()).unwrap();
    let strangers = tempfile::tempdir().unwrap();
    let stranger = Pki::open(&options(strangers.path()), Timestamp::now()).unwrap();
    let admin = || pki.client_config(Client::Admin);
    for (case, server, client, host, seen) in [
        ("admin", pki.server_config(), admin(), "kubernetes.default.svc", Some("kubernetes-admin")),
        ("by service address", pki.server_config(), admin(), "10.96.0.1", Some("kubernetes-admin")),
        ("by extra name", pki.server_config(), admin(), "api.example.org", Some("kubernetes-admin")),
        ("node", pki.server_config(), pki.client_config(Client::Node), "localhost", Some("system:node:n1")),
        ("no certificate", pki.server_config(), anonymous(&pki), "127.0.0.1", Some("")),
        ("wrong host", pki.server_config(), admin(), "example.com", None),
        ("another CA", stranger.server_config(), admin(), "localhost", None),
        (
            "kubelet",
            pki.kubelet_server_config(),
            pki.client_config(Client::ApiServerToKubelet),
            "192.0.2.7",
            Some(super::KUBELET_CLIENT),
        ),
        ("kubelet without certificate", pki.kubelet_server_config(), anonymous(&pki), "n1", None),
    ] {
        assert_eq!(handshake(server, client, host).as_deref(), seen, "{case}");
    }
}

#[test]
fn a_renewed_certificate_is_served_by_the_same_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let long_ago = (0..250).fold(Timestamp::now(), |time, _| time - DAY);
    let pki = Pki::open(&options(dir.path()), long_ago).unwrap();
    let before = files(dir.path());
    let next = pki.renew_due(long_ago + DAY).unwrap();
    assert_eq!(files(dir.path()), before);
    let after = pki.renew_due(next).unwrap();
    assert!(after > next + DAY);
    let renewed = files(dir.path()).into_iter().zip(before).filter(|(new, old)| new != old).count();
    assert_eq!(renewed, 7);
    let seen = handshake(pki.server_config(), pki.client_config(Client::Admin), "localhost");
    assert_eq!(seen.as_deref(), Some("kubernetes-admin"));
}

#[test]
fn token_keys_sign_and_rotate() {
    let dir = tempfile::tempdir().unwrap();
    let keys = super::TokenKeys::open(dir.path()).unwrap();
    let signature = keys.sign(b"text").unwrap();
    let old = keys.signing_id().to_string();
    assert!(keys.verify(&old, b"text", &signature));
    assert!(!keys.verify(&old, b"texT", &signature));
    assert!(!keys.verify("other", b"text", &signature));
    // A second key put first signs from then on; the old one still verifies.
    let path = dir.path().join("tokens.pem");
    let fresh = rcgen::KeyPair::generate().unwrap().serialize_pem();
    fs::write(&path, format!("{fresh}{}", fs::read_to_string(&path).unwrap())).unwrap();
    let rotated = super::TokenKeys::open(dir.path()).unwrap();
    assert_ne!(rotated.signing_id(), old);
    assert!(rotated.verify(&old, b"text", &signature));
    assert_eq!(rotated.jwks()["keys"].as_array().unwrap().len(), 2);
}

#[test]
fn the_kubeconfig_embeds_what_kubectl_needs() {
    use base64::Engine;
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(&options(dir.path()), start()).unwrap();
    let text = pki.admin_kubeconfig("https://127.0.0.1:6443");
    assert!(text.contains("server: \"https://127.0.0.1:6443\""));
    for (field, starts) in [
        ("certificate-authority-data: ", "-----BEGIN CERTIFICATE"),
        ("client-certificate-data: ", "-----BEGIN CERTIFICATE"),
        ("client-key-data: ", "-----BEGIN PRIVATE KEY"),
    ] {
        let data = text.split_once(field).unwrap().1.lines().next().unwrap();
        let pem = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data).unwrap()).unwrap();
        assert!(pem.starts_with(starts), "{field}");
    }
}

#[test]
fn a_request_is_signed_as_it_asks() {
    use mizzen_api::signing_request::SigningRequest;
    use x509_parser::extensions::ParsedExtension;
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(&options(dir.path()), start()).unwrap();
    // What rcgen cannot write, two organizations, is tested with kubectl and openssl's requests.
    let mut params = rcgen::CertificateParams::new(vec!["a.example.org".into()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "ann");
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "dev");
    let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let request = SigningRequest::from_pem(pem.as_bytes()).unwrap();
    let usages = ["client auth".to_string(), "digital signature".to_string(), "key encipherment".to_string()];
    for (asked, days) in [(None, 365), (Some(DAY * 2), 2), (Some(DAY * 4000), 365)] {
        let signed = pki.sign(&request, &usages, asked, start()).unwrap();
        let (_, block) = x509_parser::pem::parse_x509_pem(signed.as_bytes()).unwrap();
        let certificate = block.parse_x509().unwrap();
        let (_, ca) = x509_parser::pem::parse_x509_pem(pki.ca_pem().as_bytes()).unwrap();
        certificate.verify_signature(Some(ca.parse_x509().unwrap().public_key())).unwrap();
        assert_eq!(certificate.subject().as_raw(), request.subject);
        assert_eq!(certificate.public_key().raw, request.public_key);
        let life = certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp();
        assert_eq!(life, days * 86_400, "{asked:?}");
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1);
        assert!(certificate.key_usage().unwrap().unwrap().value.key_encipherment());
        assert!(certificate.extended_key_usage().unwrap().unwrap().value.client_auth);
        assert!(!certificate.is_ca());
        let has_authority = |one: &x509_parser::extensions::X509Extension<'_>| {
            matches!(one.parsed_extension(), ParsedExtension::AuthorityKeyIdentifier(_))
        };
        assert!(certificate.extensions().iter().any(has_authority));
        let identity = crate::auth::certificate_identity(&block.contents).unwrap();
        assert_eq!((identity.user.as_str(), identity.is_in("dev")), ("ann", true));
    }
}
