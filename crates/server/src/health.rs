//! The checks behind `/healthz`, `/livez` and `/readyz` (api-facts §1.3).

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, RwLock};

use http::HeaderValue;

use crate::answer::Answer;
use crate::query::Query;

/// How far the server has come. Each stage holds from its beginning to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Nothing is there yet.
    New,
    /// What every cluster starts with is stored.
    Bootstrapped,
    /// Requests are served, and what goes on beside them runs.
    Serving,
}

/// Which endpoints a check counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// `/readyz` only: failing takes the server out of service.
    Ready,
    /// All three: failing means that only a new start helps.
    Live,
}

/// One named check that a part of the process sets.
#[derive(Debug)]
pub struct Check {
    name: &'static str,
    counts: Counts,
    ok: AtomicBool,
}

impl Check {
    /// Sets the outcome.
    pub fn set(&self, ok: bool) {
        if self.ok.load(Ordering::Relaxed) != ok {
            self.ok.store(ok, Ordering::Relaxed);
        }
    }
}

/// The steps of the start that Kubernetes names, with the stage in which each of them is done here: monitoring asks for
/// them by name.
const HOOKS: [(&str, Stage); 18] = [
    ("poststarthook/start-apiserver-admission-initializer", Stage::Bootstrapped),
    ("poststarthook/generic-apiserver-start-informers", Stage::Bootstrapped),
    ("poststarthook/priority-and-fairness-config-consumer", Stage::Serving),
    ("poststarthook/priority-and-fairness-config-producer", Stage::Bootstrapped),
    ("poststarthook/storage-readiness", Stage::Bootstrapped),
    ("poststarthook/start-apiextensions-informers", Stage::Bootstrapped),
    ("poststarthook/start-apiextensions-controllers", Stage::Serving),
    ("poststarthook/crd-informer-synced", Stage::Bootstrapped),
    ("poststarthook/bootstrap-controller", Stage::Bootstrapped),
    ("poststarthook/rbac/bootstrap-roles", Stage::Bootstrapped),
    ("poststarthook/scheduling/bootstrap-system-priority-classes", Stage::Bootstrapped),
    ("poststarthook/start-system-namespaces-controller", Stage::Bootstrapped),
    ("poststarthook/start-service-ip-repair-controllers", Stage::Bootstrapped),
    ("poststarthook/start-cluster-authentication-info-controller", Stage::Bootstrapped),
    ("poststarthook/start-kube-aggregator-informers", Stage::Bootstrapped),
    ("poststarthook/kube-apiserver-autoregistration", Stage::Serving),
    ("autoregister-completion", Stage::Serving),
    ("poststarthook/apiservice-openapi-controller", Stage::Serving),
];

/// More of them: the parts of aggregation.
const AGGREGATION: [&str; 4] = [
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-discovery-controller",
];

/// All checks.
#[derive(Debug)]
pub struct Health {
    stage: AtomicU8,
    checks: RwLock<Vec<Arc<Check>>>,
    /// The store answers: what Kubernetes calls `etcd`.
    pub(crate) store: Arc<Check>,
    /// The server is not about to end.
    pub(crate) open: Arc<Check>,
}

impl Default for Health {
    fn default() -> Self {
        let check = |name, counts| Arc::new(Check { name, counts, ok: AtomicBool::new(true) });
        let store = check("etcd", Counts::Live);
        let open = check("shutdown", Counts::Ready);
        let checks = vec![Arc::clone(&store), Arc::clone(&open)];
        Self { stage: AtomicU8::new(Stage::New as u8), checks: RwLock::new(checks), store, open }
    }
}

impl Health {
    /// Adds a check that counts for `/readyz` only; it fails until it is set.
    pub fn ready_check(&self, name: &'static str) -> Arc<Check> {
        self.add(Check { name, counts: Counts::Ready, ok: AtomicBool::new(false) })
    }

    /// Adds a check that counts for all three endpoints; it holds until it is unset.
    pub fn live_check(&self, name: &'static str) -> Arc<Check> {
        self.add(Check { name, counts: Counts::Live, ok: AtomicBool::new(true) })
    }

    /// The server has come so far.
    pub(crate) fn reached(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::Release);
    }

    fn add(&self, check: Check) -> Arc<Check> {
        let check = Arc::new(check);
        let mut checks = self.checks.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        checks.push(Arc::clone(&check));
        check
    }

    /// Answers one of the endpoints, or the single check below it.
    pub fn answer(&self, path: &str, query: &Query) -> Option<Answer> {
        let path = path.trim_matches('/');
        let (endpoint, only) = path.split_once('/').unwrap_or((path, ""));
        let ready = match endpoint {
            "readyz" => true,
            "livez" | "healthz" => false,
            _ => return None,
        };
        let checks = self.outcomes(ready);
        if !only.is_empty() {
            let (_, ok) = checks.iter().find(|(name, _)| *name == only)?;
            return Some(if *ok { plain(200, "ok") } else { plain(500, "internal server error: reason withheld\n") });
        }
        Some(report(endpoint, &checks, query))
    }

    /// The checks that count, with their outcome.
    fn outcomes(&self, ready: bool) -> Vec<(&'static str, bool)> {
        let stage = self.stage.load(Ordering::Acquire);
        let mut outcomes = vec![("ping", true), ("log", true)];
        {
            let checks = self.checks.read().unwrap_or_else(|poisoned| poisoned.into_inner());
            let counted = checks.iter().filter(|check| match check.counts {
                Counts::Ready => ready,
                Counts::Live => true,
            });
            outcomes.extend(counted.map(|check| (check.name, check.ok.load(Ordering::Relaxed))));
        }
        if ready {
            // Nothing is cached that would have to be filled: a snapshot is there as soon as the store is.
            outcomes.push(("informer-sync", stage >= Stage::Bootstrapped as u8));
        }
        outcomes.extend(HOOKS.iter().map(|(name, done)| (*name, stage >= *done as u8)));
        outcomes.extend(AGGREGATION.iter().map(|name| (*name, stage >= Stage::Serving as u8)));
        outcomes
    }
}

fn report(endpoint: &str, checks: &[(&str, bool)], query: &Query) -> Answer {
    let mut text = String::new();
    let mut failed = false;
    for (name, ok) in checks {
        if query.all("exclude").any(|excluded| excluded == *name) {
            text.push_str(&format!("[+]{name} excluded: ok\n"));
        } else if *ok {
            text.push_str(&format!("[+]{name} ok\n"));
        } else {
            failed = true;
            text.push_str(&format!("[-]{name} failed: reason withheld\n"));
        }
    }
    let unknown: Vec<&str> = query.all("exclude").filter(|e| !checks.iter().any(|(name, _)| name == e)).collect();
    if !unknown.is_empty() {
        let list = unknown.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(",");
        text.push_str(&format!("warn: some health checks cannot be excluded: no matches for {list}\n"));
    }
    if failed {
        text.push_str(&format!("{endpoint} check failed\n"));
        return plain(500, text);
    }
    if query.has("verbose") {
        text.push_str(&format!("{endpoint} check passed\n"));
        return plain(200, text);
    }
    plain(200, "ok")
}

fn plain(code: u16, text: impl Into<bytes::Bytes>) -> Answer {
    let mut answer = Answer::text(code, text);
    answer.headers.push((http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private")));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Payload;

    fn check(health: &Health, path: &str, query: &str) -> (u16, String) {
        let answer = health.answer(path, &Query::parse(query)).unwrap();
        let Payload::Whole(Some(bytes)) = answer.payload else { panic!("no body") };
        (answer.code, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn endpoints_say_which_check_fails() {
        let health = Health::default();
        let synced = health.ready_check("nodes");
        let (code, text) = check(&health, "/readyz", "");
        assert_eq!(code, 500);
        for line in [
            "[+]ping ok\n",
            "[-]nodes failed: reason withheld\n",
            "[-]informer-sync failed: reason withheld\n",
            "[-]poststarthook/bootstrap-controller failed: reason withheld\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(text.ends_with("readyz check failed\n"));
        health.reached(Stage::Serving);
        // A stage is never lost again.
        health.reached(Stage::Bootstrapped);
        assert_eq!(check(&health, "/readyz", "exclude=nodes"), (200, "ok".into()));
        synced.set(true);
        let (code, text) = check(&health, "/readyz", "verbose&exclude=none");
        assert_eq!(code, 200);
        assert!(text.contains("[+]informer-sync ok\n") && text.contains("[+]shutdown ok\n"), "{text}");
        assert!(text.ends_with("no matches for \"none\"\nreadyz check passed\n"), "{text}");
        assert_eq!(check(&health, "/readyz/etcd", ""), (200, "ok".into()));
        assert_eq!(check(&health, "/readyz/poststarthook/rbac/bootstrap-roles", ""), (200, "ok".into()));
        assert!(health.answer("/readyz/none", &Query::default()).is_none());
        assert!(health.answer("/livez/nodes", &Query::default()).is_none(), "it counts for readyz only");
    }

    #[test]
    fn a_lost_store_is_death_and_a_shutdown_is_not() {
        let health = Health::default();
        health.reached(Stage::Serving);
        health.open.set(false);
        assert_eq!((check(&health, "/livez", "").0, check(&health, "/readyz", "").0), (200, 500));
        health.store.set(false);
        let (code, text) = check(&health, "/livez", "");
        assert_eq!(code, 500);
        assert!(text.contains("[-]etcd failed: reason withheld\n") && text.ends_with("livez check failed\n"), "{text}");
        assert_eq!(check(&health, "/healthz/etcd", ""), (500, "internal server error: reason withheld\n".into()));
    }
}
