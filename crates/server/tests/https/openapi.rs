//! The OpenAPI documents as clients ask for them.

use std::io::Read;

use crate::harness::World;

/// What client-go sends for the v2 document.
const ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

#[tokio::test]
async fn v2_comes_as_protobuf_compressed_and_with_its_tag() {
    let world = World::start().await;
    let whole = world.send("GET", "/openapi/v2", &[("accept", ASKED)], "").await;
    assert_eq!(whole.code, 200);
    assert_eq!(whole.headers["content-type"], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    assert_eq!(whole.body[..5], *b"\x0a\x032.0", "the first field is the version");
    let tag = whole.headers["etag"].to_str().unwrap();
    let again = world.send("GET", "/openapi/v2", &[("accept", ASKED), ("if-none-match", tag)], "").await;
    assert_eq!((again.code, again.body.len()), (304, 0));
    let packed = world.send("GET", "/openapi/v2", &[("accept", ASKED), ("accept-encoding", "gzip")], "").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, whole.body, "the same document each time");
    assert!(packed.body.len() * 2 < unpacked.len(), "{} of {} bytes", packed.body.len(), unpacked.len());
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_offered_is_refused() {
    let world = World::start().await;
    for (accept, code) in [("application/json", 200), ("*/*", 200), ("text/html", 406)] {
        assert_eq!(world.send("GET", "/openapi/v2", &[("accept", accept)], "").await.code, code, "{accept}");
    }
    world.stop().await;
}
