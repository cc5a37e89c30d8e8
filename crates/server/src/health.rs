//! The checks behind `/healthz`, `/livez` and `/readyz` (api-facts §1.3).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use http::HeaderValue;

use crate::answer::Answer;
use crate::query::Query;

/// One named check that a part of the process sets.
#[derive(Debug)]
pub struct Check {
    name: &'static str,
    /// Failing makes the process dead rather than merely not ready.
    live: bool,
    ok: AtomicBool,
}

impl Check {
    /// Sets the outcome.
    pub fn set(&self, ok: bool) {
        self.ok.store(ok, Ordering::Relaxed);
    }
}

/// All checks.
#[derive(Debug, Default)]
pub struct Health {
    checks: RwLock<Vec<Arc<Check>>>,
}

impl Health {
    /// Adds a check that counts for `/readyz` only; it fails until it is set.
    pub fn ready_check(&self, name: &'static str) -> Arc<Check> {
        self.add(Check { name, live: false, ok: AtomicBool::new(false) })
    }

    /// Adds a check that counts for all three endpoints; it holds until it is unset.
    pub fn live_check(&self, name: &'static str) -> Arc<Check> {
        self.add(Check { name, live: true, ok: AtomicBool::new(true) })
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
        let checks: Vec<(&str, bool)> = {
            let checks = self.checks.read().unwrap_or_else(|poisoned| poisoned.into_inner());
            let counted = checks.iter().filter(|c| ready || c.live).map(|c| (c.name, c.ok.load(Ordering::Relaxed)));
            std::iter::once(("ping", true)).chain(counted).collect()
        };
        if !only.is_empty() {
            let (_, ok) = checks.iter().find(|(name, _)| *name == only)?;
            return Some(if *ok { plain(200, "ok") } else { plain(500, "internal server error: reason withheld\n") });
        }
        Some(report(endpoint, &checks, query))
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

    #[test]
    fn endpoints_say_which_check_fails() {
        let health = Health::default();
        let synced = health.ready_check("bootstrap");
        let store = health.live_check("store");
        let check = |path: &str, query: &str, code: u16, body: &str| {
            let answer = health.answer(path, &Query::parse(query)).unwrap();
            let Payload::Whole(Some(bytes)) = answer.payload else { panic!("no body") };
            assert_eq!((answer.code, std::str::from_utf8(&bytes).unwrap()), (code, body), "{path}?{query}");
        };
        check("/livez", "", 200, "ok");
        check(
            "/readyz",
            "",
            500,
            "[+]ping ok\n[-]bootstrap failed: reason withheld\n[+]store ok\nreadyz check failed\n",
        );
        check("/readyz", "exclude=bootstrap", 200, "ok");
        synced.set(true);
        check("/readyz", "verbose", 200, "[+]ping ok\n[+]bootstrap ok\n[+]store ok\nreadyz check passed\n");
        check("/readyz/store", "", 200, "ok");
        store.set(false);
        check("/livez", "", 500, "[+]ping ok\n[-]store failed: reason withheld\nlivez check failed\n");
        assert!(health.answer("/readyz/none", &Query::default()).is_none());
    }
}
