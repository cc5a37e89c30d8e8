//! Requests and watches, by verb and resource.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use mizzen_metrics::{Count, Gauge, Histogram, Kind, Table, Text};

use crate::request::RequestInfo;

/// Bounds of durations, in seconds: Kubernetes', with four below its first, for most answers take less than that.
const DURATIONS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];
/// The codes that are counted apart; the last stands for all others.
const CODES: [u16; 22] =
    [200, 201, 202, 101, 204, 304, 400, 401, 403, 404, 405, 406, 409, 410, 413, 415, 422, 429, 500, 503, 504, 0];
/// Series of requests that there is room for: some 80 resources, 8 verbs, 3 scopes, and definitions.
const SERIES: usize = 4096;

/// The counters of all requests.
pub(super) struct Requests {
    hasher: RandomState,
    series: Table<Key, Series>,
    watches: Table<Key, Arc<Watches>>,
    deprecated: Table<(Key, &'static str), ()>,
    reading: Gauge,
    writing: Gauge,
}

/// The labels of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    verb: &'static str,
    dry_run: &'static str,
    scope: &'static str,
    group: Box<str>,
    version: Box<str>,
    resource: Box<str>,
    subresource: Box<str>,
}

/// What is counted of requests that are alike.
#[derive(Debug)]
struct Series {
    codes: [Count; CODES.len()],
    durations: Histogram,
}

/// What is counted of watches that are alike.
#[derive(Debug, Default)]
struct Watches {
    open: Gauge,
    events: Count,
}

/// A watch that is open until this is dropped.
#[derive(Debug)]
pub(crate) struct Watching(Arc<Watches>);

impl Watching {
    /// Counts events sent.
    pub fn events(&self, sent: usize) {
        if sent > 0 {
            self.0.events.add(sent as u64);
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.open.add(-1);
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            series: Table::new(SERIES, Series::default()),
            watches: Table::new(SERIES / 4, Arc::default()),
            deprecated: Table::new(64, ()),
            reading: Gauge::default(),
            writing: Gauge::default(),
        }
    }
}

impl Default for Series {
    fn default() -> Self {
        Self { codes: Default::default(), durations: Histogram::new(DURATIONS) }
    }
}

/// The labels of a request, borrowed.
struct Labels<'a> {
    verb: &'static str,
    dry_run: &'static str,
    scope: &'static str,
    parts: [&'a str; 4],
}

impl<'a> Labels<'a> {
    fn of(info: &'a RequestInfo<'_>, dry_run: bool) -> Self {
        let verb = match info.verb {
            "list" => "LIST",
            "watch" => "WATCH",
            "create" | "post" => "POST",
            "update" | "put" => "PUT",
            "patch" => "PATCH",
            "delete" => "DELETE",
            "deletecollection" => "DELETECOLLECTION",
            "get" | "head" => "GET",
            _ => "other",
        };
        let verb = match &*info.subresource {
            "exec" | "attach" | "portforward" | "proxy" | "log" => "CONNECT",
            _ => verb,
        };
        let scope = if !info.name.is_empty() || info.verb == "create" {
            "resource"
        } else if !info.namespace.is_empty() {
            "namespace"
        } else if info.is_resource {
            "cluster"
        } else {
            ""
        };
        Self {
            verb,
            dry_run: if dry_run { "All" } else { "" },
            scope: if info.is_resource { scope } else { "" },
            parts: [&info.group, &info.version, &info.resource, &info.subresource],
        }
    }

    /// Of something that is not known to exist: names from outside do not become labels.
    fn unknown(verb: &'static str) -> Self {
        Self { verb, dry_run: "", scope: "", parts: [""; 4] }
    }

    fn hash(&self, hasher: &RandomState) -> u64 {
        let mut hash = hasher.build_hasher();
        for part in [self.verb, self.dry_run, self.scope].iter().chain(&self.parts) {
            hash.write(part.as_bytes());
            hash.write_u8(0xff);
        }
        hash.finish()
    }

    fn is(&self, key: &Key) -> bool {
        let parts = [&*key.resource, &*key.subresource, &*key.group, &*key.version];
        let [group, version, resource, subresource] = self.parts;
        self.verb == key.verb
            && self.scope == key.scope
            && self.dry_run == key.dry_run
            && parts == [resource, subresource, group, version]
    }

    fn key(&self) -> Key {
        let [group, version, resource, subresource] = self.parts.map(Box::from);
        Key { verb: self.verb, dry_run: self.dry_run, scope: self.scope, group, version, resource, subresource }
    }
}

impl Requests {
    pub fn inflight(&self, verb: &str) -> impl Drop + '_ {
        let reads = matches!(verb, "get" | "list" | "watch" | "head" | "options");
        if reads { self.reading.hold() } else { self.writing.hold() }
    }

    pub fn answered(&self, info: &RequestInfo<'_>, dry_run: bool, code: u16, took: Duration) {
        let mut labels = Labels::of(info, dry_run);
        if code >= 400 && !self.knows(&labels) {
            labels = Labels::unknown(labels.verb);
        }
        let series =
            self.series.find(labels.hash(&self.hasher), |key| labels.is(key), || (labels.key(), Series::default()));
        let at = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len() - 1);
        series.codes[at].one();
        if !matches!(labels.verb, "WATCH" | "CONNECT") {
            series.durations.observe(took);
        }
    }

    /// Whether such a request has been answered well before.
    fn knows(&self, labels: &Labels<'_>) -> bool {
        self.series.get(labels.hash(&self.hasher), |key| labels.is(key)).is_some()
    }

    pub fn deprecated(&self, info: &RequestInfo<'_>, removed: &'static str) {
        let labels = Labels { verb: "", dry_run: "", scope: "", ..Labels::of(info, false) };
        self.deprecated.find(labels.hash(&self.hasher), |(key, _)| labels.is(key), || ((labels.key(), removed), ()));
    }

    pub fn watching(&self, info: &RequestInfo<'_>) -> Watching {
        let labels = Labels::of(info, false);
        let watches =
            self.watches.find(labels.hash(&self.hasher), |key| labels.is(key), || (labels.key(), Arc::default()));
        watches.open.add(1);
        Watching(Arc::clone(watches))
    }

    pub fn write(&self, out: &mut Text) {
        out.family("apiserver_request_total", Kind::Counter, "Requests answered.");
        for (key, series) in self.series.iter() {
            for (code, count) in CODES.iter().zip(&series.codes).filter(|(_, count)| count.get() > 0) {
                let code = if *code == 0 { "other".to_string() } else { code.to_string() };
                let mut labels = key.labels().to_vec();
                labels.extend([("dry_run", key.dry_run), ("code", code.as_str())]);
                out.sample(&labels, count.get());
            }
        }
        out.family(
            "apiserver_request_duration_seconds",
            Kind::Histogram,
            "Time to answer requests that are no watches or streams.",
        );
        for (key, series) in self.series.iter().filter(|(key, _)| !matches!(key.verb, "WATCH" | "CONNECT")) {
            let mut labels = key.labels().to_vec();
            labels.push(("dry_run", key.dry_run));
            out.histogram(&labels, &series.durations);
        }
        out.family("apiserver_current_inflight_requests", Kind::Gauge, "Requests under way.");
        out.sample(&[("request_kind", "readOnly")], self.reading.get());
        out.sample(&[("request_kind", "mutating")], self.writing.get());
        out.family("apiserver_longrunning_requests", Kind::Gauge, "Watches that are open.");
        for (key, watches) in self.watches.iter() {
            out.sample(&key.labels(), watches.open.get());
        }
        out.family("apiserver_watch_events_total", Kind::Counter, "Watch events sent.");
        for (key, watches) in self.watches.iter() {
            out.sample(
                &[("group", &key.group), ("version", &key.version), ("resource", &key.resource), ("scope", key.scope)],
                watches.events.get(),
            );
        }
        out.family("apiserver_requested_deprecated_apis", Kind::Gauge, "Deprecated versions that were asked for.");
        for ((key, removed), ()) in self.deprecated.iter() {
            out.sample(
                &[
                    ("group", &key.group),
                    ("version", &key.version),
                    ("resource", &key.resource),
                    ("subresource", &key.subresource),
                    ("removed_release", removed),
                ],
                1,
            );
        }
    }
}

impl Key {
    fn labels(&self) -> [(&'static str, &str); 7] {
        [
            ("verb", self.verb),
            ("group", &self.group),
            ("version", &self.version),
            ("resource", &self.resource),
            ("subresource", &self.subresource),
            ("scope", self.scope),
            ("component", "apiserver"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::query::Query;

    #[test]
    fn requests_are_counted_by_what_they_asked_for() {
        let requests = Requests::default();
        let count = |method: Method, path: &str, query: &str, code: u16| {
            let query = Query::parse(query);
            let info = RequestInfo::parse(&method, path, &query);
            requests.answered(&info, query.has("dryRun"), code, Duration::from_micros(300));
        };
        count(Method::GET, "/api/v1/namespaces/a/pods/b", "", 200);
        count(Method::GET, "/api/v1/namespaces/c/pods/d", "", 200);
        count(Method::GET, "/api/v1/namespaces/c/pods/d", "", 404);
        count(Method::GET, "/api/v1/pods", "", 200);
        count(Method::POST, "/apis/apps/v1/namespaces/a/deployments", "dryRun=All", 201);
        count(Method::GET, "/healthz", "", 200);
        // Names that were never answered well are not told.
        count(Method::GET, "/api/v1/namespaces/a/nonsense/b", "", 404);
        count(Method::GET, "/api/v1/namespaces/a/rubbish/b", "", 418);
        let mut out = Text::new();
        requests.write(&mut out);
        let text = out.finish();
        let labels = |verb: &str, group: &str, resource: &str, scope: &str| {
            let version = if resource.is_empty() { "" } else { "v1" };
            format!(
                "{{verb=\"{verb}\",group=\"{group}\",version=\"{version}\",resource=\"{resource}\",subresource=\"\",\
                 scope=\"{scope}\",component=\"apiserver\""
            )
        };
        for expected in [
            format!("apiserver_request_total{},dry_run=\"\",code=\"200\"}} 2\n", labels("GET", "", "pods", "resource")),
            format!("apiserver_request_total{},dry_run=\"\",code=\"404\"}} 1\n", labels("GET", "", "pods", "resource")),
            format!("apiserver_request_total{},dry_run=\"\",code=\"200\"}} 1\n", labels("LIST", "", "pods", "cluster")),
            format!(
                "apiserver_request_total{},dry_run=\"All\",code=\"201\"}} 1\n",
                labels("POST", "apps", "deployments", "resource")
            ),
            format!("apiserver_request_total{},dry_run=\"\",code=\"404\"}} 1\n", labels("GET", "", "", "")),
            format!("apiserver_request_total{},dry_run=\"\",code=\"other\"}} 1\n", labels("GET", "", "", "")),
            format!(
                "apiserver_request_duration_seconds_bucket{},dry_run=\"\",le=\"0.0005\"}} 3\n",
                labels("GET", "", "pods", "resource")
            ),
        ] {
            assert!(text.contains(&expected), "{expected} in {text}");
        }
        assert!(!text.contains("nonsense") && !text.contains("rubbish"));
    }
}
