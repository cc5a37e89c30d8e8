//! Golden bytes: a few of our own, and Kubernetes' own objects where they lie beside the checkout.

use std::io::Read as _;

use serde_json::{Value, json};

use super::{ProtobufError, decode, encode, open, watch_frame};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex")).collect()
}

#[test]
fn a_config_map_is_what_go_makes_of_it() {
    // Envelope, metadata{name: "a"}, data{"k": "v"}.
    let golden = bytes("6b387300 0a0f 0a027631 1209 436f6e6669674d6170 120d 0a03 0a0161 1206 0a016b 120176 1a00 2200");
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    assert_eq!(encode(&object), Some(golden.clone()));
    assert_eq!(decode(&golden, ("", "")), Ok(object));
    assert_eq!(open(&golden).map(|e| (e.api_version, e.kind)), Ok(("v1", "ConfigMap")));
}

#[test]
fn values_survive_the_way_there_and_back() {
    let object = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "creationTimestamp": "2026-01-02T03:04:05Z", "generation": 2, "labels": {"a": "", "b": "c"},
            "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}]},
        "spec": {"containers": [{"name": "c", "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 3},
                "resources": {"limits": {"cpu": "500m"}}}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "hostPath": {"path": "/x"}}],
            "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "priority": -5}});
    assert_eq!(decode(&encode(&object).expect("Pod"), ("", "")), Ok(object));
}

#[test]
fn zeroes_that_go_always_sends_are_left_out() {
    // Pod with spec{nodeName: "", hostNetwork: false, priority: 0 (a pointer)} and an empty status.
    let raw = bytes("0a00 120a 5200 5800 c80100 8a0100 1a00");
    let mut message = bytes("6b387300 0a09 0a027631 1203 506f64 12");
    message.push(u8::try_from(raw.len()).expect("short"));
    message.extend(raw);
    let decoded = decode(&message, ("", "")).expect("Pod");
    assert_eq!(decoded["spec"].get("nodeName"), None);
    assert_eq!(decoded["spec"]["priority"], 0);
    assert_eq!(decoded.get("status"), None);
}

#[test]
fn bad_bytes_are_refused() {
    for (bytes_of, error) in [
        (bytes("7b7d"), ProtobufError::NoMagic),
        (bytes("6b387300 0aff"), ProtobufError::Truncated),
        (bytes("6b387300 0a05 0a027631"), ProtobufError::Truncated),
        (bytes("6b387300 0801"), ProtobufError::WireType { wire_type: 0 }),
        (
            bytes("6b387300 0a06 0a0131 120158"),
            ProtobufError::UnknownKind { api_version: "1".into(), kind: "X".into() },
        ),
    ] {
        assert_eq!(decode(&bytes_of, ("", "")), Err(error));
    }
}

#[test]
fn a_watch_frame_tells_its_length() {
    assert_eq!(watch_frame("ADDED", b"x"), bytes("0000000c 0a05 4144444544 1203 0a0178"));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_answered(tail in proptest::collection::vec(0u8..=255, 0..200)) {
        let mut message = bytes("6b387300 0a09 0a027631 1203 506f64 12");
        message.push(u8::try_from(tail.len() % 128).expect("short"));
        message.extend(tail);
        let _ = decode(&message, ("", ""));
    }
}

/// Every built-in object with all its fields: JSON and protobuf must be the same object, both ways.
#[test]
fn golden_objects_of_kubernetes_agree() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/reference/golden-objects-v1.36.tar.gz");
    let Ok(file) = std::fs::read(path) else {
        eprintln!("skipped: {path} is not here");
        return;
    };
    let mut archive = Vec::new();
    flate2::read::GzDecoder::new(file.as_slice()).read_to_end(&mut archive).expect("gzip");
    let files = untar(&archive);
    let mut compared = 0;
    for (name, content) in files.iter().filter(|(name, _)| name.ends_with(".pb")) {
        let envelope = open(content).expect(name);
        if super::type_of(envelope.api_version, envelope.kind).is_none() {
            continue; // Not a served kind.
        }
        let json_name = name.replace(".pb", ".json");
        let (_, text) = files.iter().find(|(n, _)| *n == json_name).expect("JSON beside");
        let mut golden: Value = serde_json::from_slice(text).expect("JSON");
        if let Some(ty) = super::type_of(envelope.api_version, envelope.kind) {
            crate::schema::admit(&mut golden, ty).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        let decoded = decode(content, ("", "")).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(decoded, golden, "{name}");
        let again = decode(&encode(&golden).expect("known"), ("", "")).expect(name);
        assert_eq!(again, golden, "{name}");
        compared += 1;
    }
    assert!(compared > 60, "{compared}");
}

/// The plain files of a tar archive.
fn untar(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut files, mut at) = (Vec::new(), 0);
    while archive.len() >= at + 512 && archive[at] != 0 {
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&archive[at + range.start..at + range.end]).trim_matches(['\0', ' ']).to_string()
        };
        let size = usize::from_str_radix(&text(124..136), 8).expect("size");
        files.push((text(0..100), archive[at + 512..at + 512 + size].to_vec()));
        at += 512 + size.div_ceil(512) * 512;
    }
    files
}
