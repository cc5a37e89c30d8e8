//! Content negotiation: in which encoding and shape an answer is wanted, and in which a body came (api-facts §2).
//!
//! Pure: header texts in, a [`Format`] out. Clauses are tried by quality, then in the order sent; a clause that names
//! an unknown type or shape is skipped, and only when none is left the answer is 406.

use mizzen_api::protobuf;
use mizzen_api::status::ApiError;

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// What is written of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All of it.
    Full,
    /// A table of columns and rows.
    Table(MetaVersion),
    /// Its metadata only (`PartialObjectMetadata`, or the list of these).
    Metadata(MetaVersion),
}

/// The version of `meta.k8s.io` asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaVersion {
    /// `meta.k8s.io/v1`.
    V1,
    /// `meta.k8s.io/v1beta1`.
    V1beta1,
}

impl MetaVersion {
    /// The `apiVersion` of the answer.
    pub fn api_version(self) -> &'static str {
        match self {
            MetaVersion::V1 => "meta.k8s.io/v1",
            MetaVersion::V1beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// How an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// See [`Encoding`].
    pub encoding: Encoding,
    /// See [`Shape`].
    pub shape: Shape,
    /// Indented for people.
    pub pretty: bool,
}

impl Format {
    /// Compact JSON of the whole object: what most programs ask for.
    pub const JSON: Format = Format { encoding: Encoding::Json, shape: Shape::Full, pretty: false };

    /// The `Content-Type` of an answer; shapes do not show in it.
    pub fn content_type(self) -> &'static str {
        match self.encoding {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => protobuf::CONTENT_TYPE,
        }
    }

    /// The `Content-Type` of a watch.
    pub fn stream_content_type(self) -> &'static str {
        match self.encoding {
            Encoding::Protobuf => protobuf::WATCH_CONTENT_TYPE,
            Encoding::Json | Encoding::Yaml => self.content_type(),
        }
    }
}

/// What an endpoint can answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offer {
    /// A stream of events: no YAML.
    pub stream: bool,
    /// Several objects: `PartialObjectMetadataList` rather than `PartialObjectMetadata`.
    pub list: bool,
    /// Tables and metadata can be made of it; not so of reviews and the like.
    pub shapes: bool,
    /// A custom resource, which has no protobuf form.
    pub custom: bool,
}

/// Chooses the format for an `Accept` header.
pub fn accept(header: Option<&str>, offer: Offer) -> Result<Format, ApiError> {
    let header = header.map(str::trim).unwrap_or_default();
    if header.is_empty() || header == "application/json" || header == "*/*" {
        return Ok(Format::JSON);
    }
    let mut clauses: Vec<Clause<'_>> = header.split(',').map(Clause::parse).filter(|c| c.quality > 0.0).collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses.iter().find_map(|clause| clause.format(offer)).ok_or_else(|| not_acceptable(offer))
}

fn not_acceptable(offer: Offer) -> ApiError {
    let types = if offer.custom {
        "application/json, application/yaml"
    } else if offer.stream {
        "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
    } else {
        "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    };
    ApiError::plain(406, "NotAcceptable", format!("only the following media types are accepted: {types}"))
}

/// One media range of an `Accept` header.
struct Clause<'a> {
    media: &'a str,
    quality: f32,
    kind: Option<&'a str>,
    group: Option<&'a str>,
    version: Option<&'a str>,
    pretty: bool,
    unknown_stream: bool,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let mut clause =
            Self { media, quality: 1.0, kind: None, group: None, version: None, pretty: false, unknown_stream: false };
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim_matches('"');
            match key {
                "q" => clause.quality = value.parse().unwrap_or(0.0),
                "as" => clause.kind = Some(value),
                "g" => clause.group = Some(value),
                "v" => clause.version = Some(value),
                "pretty" => clause.pretty = value == "1",
                "stream" => clause.unknown_stream = value != "watch",
                _ => {}
            }
        }
        clause
    }

    fn format(&self, offer: Offer) -> Option<Format> {
        let encoding = match self.media {
            "application/json" | "*/*" | "application/*" => Encoding::Json,
            "application/yaml" if !offer.stream => Encoding::Yaml,
            protobuf::CONTENT_TYPE => Encoding::Protobuf,
            _ => return None,
        };
        if self.unknown_stream {
            return None;
        }
        let shape = match self.kind {
            None => Shape::Full,
            Some(kind) => self.shape(kind, offer)?,
        };
        if encoding == Encoding::Protobuf && (shape != Shape::Full || offer.custom) {
            return None; // Tables have no protobuf form, and clients that ask for metadata go on to JSON.
        }
        Some(Format { encoding, shape, pretty: self.pretty })
    }

    fn shape(&self, kind: &str, offer: Offer) -> Option<Shape> {
        if !offer.shapes || self.group != Some("meta.k8s.io") {
            return None;
        }
        let version = match self.version? {
            "v1" => MetaVersion::V1,
            "v1beta1" => MetaVersion::V1beta1,
            _ => return None,
        };
        match kind {
            "Table" => Some(Shape::Table(version)),
            "PartialObjectMetadata" if !offer.list || offer.stream => Some(Shape::Metadata(version)),
            "PartialObjectMetadataList" if offer.list && !offer.stream => Some(Shape::Metadata(version)),
            _ => None,
        }
    }
}

/// Whether the client wants indented output (api-facts §2.3).
pub fn wants_pretty(parameter: Option<&str>, user_agent: &str, asked: bool) -> bool {
    match parameter {
        Some(text) => text != "0" && !text.eq_ignore_ascii_case("false"),
        None => asked || ["curl", "Wget", "Mozilla/5.0"].iter().any(|prefix| user_agent.starts_with(prefix)),
    }
}

/// The encoding of a request body; nothing sent means JSON.
pub fn body_encoding(content_type: Option<&str>) -> Result<Encoding, ApiError> {
    match media(content_type) {
        "" | "application/json" => Ok(Encoding::Json),
        "application/yaml" => Ok(Encoding::Yaml),
        protobuf::CONTENT_TYPE => Ok(Encoding::Protobuf),
        _ => Err(unsupported(&["application/json", "application/yaml", protobuf::CONTENT_TYPE])),
    }
}

/// A media type without its parameters.
pub fn media(content_type: Option<&str>) -> &str {
    content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

/// 415, with what would do.
pub fn unsupported(types: &[&str]) -> ApiError {
    let types = types.join(", ");
    let message = format!("the body of the request was in an unknown format - accepted media types include: {types}");
    ApiError::plain(415, "UnsupportedMediaType", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECTL_GET: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

    #[test]
    fn accept_headers() {
        let one = Offer { shapes: true, ..Offer::default() };
        let list = Offer { shapes: true, list: true, ..Offer::default() };
        let watch = Offer { shapes: true, list: true, stream: true, custom: false };
        let virtual_kind = Offer::default();
        let custom = Offer { shapes: true, custom: true, ..Offer::default() };
        let json = Some((Encoding::Json, Shape::Full));
        for (header, offer, expected) in [
            ("", one, json),
            ("application/json", one, json),
            ("text/html, */*;q=0.1", one, json),
            ("application/vnd.kubernetes.protobuf,application/json", one, Some((Encoding::Protobuf, Shape::Full))),
            ("application/vnd.kubernetes.protobuf,application/json", custom, json),
            ("application/vnd.kubernetes.protobuf", custom, None),
            ("application/vnd.unknown", one, None),
            ("application/yaml", one, Some((Encoding::Yaml, Shape::Full))),
            ("application/yaml", watch, None),
            ("application/json;q=0.1,application/yaml;q=0.9", one, Some((Encoding::Yaml, Shape::Full))),
            (KUBECTL_GET, list, Some((Encoding::Json, Shape::Table(MetaVersion::V1)))),
            (KUBECTL_GET, virtual_kind, json),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
                one,
                Some((Encoding::Json, Shape::Table(MetaVersion::V1beta1))),
            ),
            ("application/json;as=Table;v=v1;g=meta.k8s.io", virtual_kind, None),
            (
                "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
                list,
                Some((Encoding::Json, Shape::Metadata(MetaVersion::V1))),
            ),
            ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", one, None),
            (
                "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
                watch,
                Some((Encoding::Json, Shape::Metadata(MetaVersion::V1))),
            ),
            ("application/json;as=Other;v=v1;g=meta.k8s.io,application/json", list, json),
            ("application/json;stream=watch", watch, json),
        ] {
            let got = accept(Some(header), offer);
            if let Err(error) = &got {
                assert_eq!((error.code, error.reason.as_ref()), (406, "NotAcceptable"));
            }
            assert_eq!(got.ok().map(|f| (f.encoding, f.shape)), expected, "{header}");
        }
    }

    #[test]
    fn people_get_indented_output() {
        assert!(wants_pretty(None, "curl/8", false));
        assert!(!wants_pretty(Some("false"), "curl/8", false));
        assert!(wants_pretty(Some("true"), "kubectl", false));
        assert!(!wants_pretty(None, "kubectl", false));
    }
}
