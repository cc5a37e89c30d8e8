//! When single results of a probe become a verdict. Pure.

use k8s_openapi::api::core::v1::Probe;

/// What a probe decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The container has started; the others wait for it.
    Startup,
    /// It may receive traffic.
    Readiness,
    /// It need not be restarted.
    Liveness,
}

impl Kind {
    /// As events word it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Readiness => "Readiness",
            Kind::Liveness => "Liveness",
        }
    }

    /// The container's probe of this kind.
    pub fn of(self, container: &k8s_openapi::api::core::v1::Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// Counts equal results in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threshold {
    success: u32,
    failure: u32,
    last: Option<bool>,
    run: u32,
    verdict: Option<bool>,
}

impl Threshold {
    /// With the thresholds of a probe.
    pub fn new(probe: &Probe) -> Self {
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        Self {
            success: count(probe.success_threshold, 1),
            failure: count(probe.failure_threshold, 3),
            last: None,
            run: 0,
            verdict: None,
        }
    }

    /// Takes in a result; the verdict, if it changed.
    pub fn add(&mut self, ok: bool) -> Option<bool> {
        self.run = if self.last == Some(ok) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(ok);
        let needed = if ok { self.success } else { self.failure };
        if self.run < needed || self.verdict == Some(ok) {
            return None;
        }
        self.verdict = Some(ok);
        Some(ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_change_after_enough_equal_results() {
        for (success, failure, results, want) in [
            (1, 3, "+", "+"),
            (1, 3, "--", "  "),
            (1, 3, "---", "  -"),
            (1, 3, "--+--", "  +  "),
            (2, 1, "+-++", " - +"),
            (1, 1, "++--++", "+ - + "),
        ] {
            let probe =
                Probe { success_threshold: Some(success), failure_threshold: Some(failure), ..Probe::default() };
            let mut threshold = Threshold::new(&probe);
            let got: String = results
                .chars()
                .map(|c| match threshold.add(c == '+') {
                    Some(true) => '+',
                    Some(false) => '-',
                    None => ' ',
                })
                .collect();
            assert_eq!(got, want, "{success}/{failure} {results}");
        }
    }
}
