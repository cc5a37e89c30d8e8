//! Paths that are no resources: health, version, discovery, OpenAPI, metrics.

use http::Method;
use mizzen_metrics::Text;
use serde_json::json;

use crate::answer::Answer;
use crate::dispatch::Head;
use crate::documents;
use crate::server::Core;

/// Answers an authorized request to a non-resource path.
pub(crate) fn answer(core: &Core, head: &Head<'_>) -> Answer {
    if !matches!(*head.method, Method::GET | Method::HEAD) {
        return not_found();
    }
    let path = head.path.trim_end_matches('/');
    if let Some(answer) = core.health.answer(path, head.query) {
        return answer;
    }
    match path {
        "/version" => Answer::json(200, &version()),
        "/metrics" => {
            let mut text = Text::new();
            core.metrics.write(&mut text, &core.store.snapshot());
            core.flow.write(&mut text);
            core.webhooks.render(text.written());
            Answer::bytes(200, "text/plain; version=0.0.4; charset=utf-8", text.finish())
        }
        "/.well-known/openid-configuration" => {
            let uri = format!("https://{}:{}/openid/v1/jwks", core.config.advertise, core.config.port);
            Answer::json(200, &core.issuer.openid_configuration(&uri))
        }
        "/openid/v1/jwks" => Answer::bytes(200, "application/jwk-set+json", core.issuer.jwks().to_string()),
        _ => documents::answer(core, head, path).unwrap_or_else(not_found),
    }
}

/// A path that nothing is served at.
pub(crate) fn not_found() -> Answer {
    Answer::text(404, "404 page not found\n")
}

/// The Kubernetes version whose API is served.
const MINOR: &str = "36";

fn version() -> serde_json::Value {
    json!({
        "major": "1",
        "minor": MINOR,
        "gitVersion": concat!("v1.36.2+mizzen-", env!("CARGO_PKG_VERSION")),
        "gitCommit": option_env!("MIZZEN_COMMIT").unwrap_or("0000000000000000000000000000000000000000"),
        "gitTreeState": "clean",
        "buildDate": option_env!("MIZZEN_BUILD_DATE").unwrap_or("1970-01-01T00:00:00Z"),
        "goVersion": "go1.26",
        "compiler": "rustc",
        "platform": concat!("linux/", "amd64"),
        "emulationMajor": "1",
        "emulationMinor": MINOR,
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
    })
}
