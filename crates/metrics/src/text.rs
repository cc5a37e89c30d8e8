//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write};

use crate::Histogram;

/// What kind of number a family holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bounds.
    Histogram,
}

/// A text under way. Samples follow the head of their family.
#[derive(Debug, Default)]
pub struct Text {
    out: String,
    family: &'static str,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    /// An empty text.
    pub fn new() -> Self {
        Self { out: String::with_capacity(32 << 10), family: "" }
    }

    /// Begins a family.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        self.family = name;
    }

    /// A sample of the family.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    /// A histogram of the family.
    pub fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let mut all = 0;
        for (bound, count) in histogram.cumulative() {
            let bound = bound.map_or("+Inf".to_string(), |bound| bound.to_string());
            self.line("_bucket", labels, Some(&bound), count);
            all = count;
        }
        self.line("_sum", labels, None, histogram.sum());
        self.line("_count", labels, None, all);
    }

    /// What is written so far, for those who write families in their own way.
    pub fn written(&mut self) -> &mut String {
        &mut self.out
    }

    /// The text.
    pub fn finish(self) -> String {
        self.out
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        let family = self.family;
        self.put(format_args!("{family}{suffix}"));
        let bound = bound.map(|bound| ("le", bound));
        let mut open = '{';
        for (name, text) in labels.iter().copied().chain(bound) {
            self.out.push(open);
            self.out.push_str(name);
            self.out.push_str("=\"");
            self.escaped(text);
            self.out.push('"');
            open = ',';
        }
        if open == ',' {
            self.out.push('}');
        }
        self.put(format_args!(" {value}\n"));
    }

    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                c => self.out.push(c),
            }
        }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.out.write_fmt(text);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut text = Text::new();
        text.family("a_total", Kind::Counter, "What.");
        text.sample(&[("verb", "GET"), ("odd", "a\"b\\c\nd")], 3);
        text.single("b", Kind::Gauge, "Else.", 0.5);
        let histogram = Histogram::new(&[0.005, 1.0]);
        histogram.observe(Duration::from_millis(500));
        text.family("c_seconds", Kind::Histogram, "Time.");
        text.histogram(&[("x", "y")], &histogram);
        let expected = "# HELP a_total What.\n# TYPE a_total counter\na_total{verb=\"GET\",odd=\"a\\\"b\\\\c\\nd\"} 3\n\
                        # HELP b Else.\n# TYPE b gauge\nb 0.5\n\
                        # HELP c_seconds Time.\n# TYPE c_seconds histogram\nc_seconds_bucket{x=\"y\",le=\"0.005\"} 0\n\
                        c_seconds_bucket{x=\"y\",le=\"1\"} 1\nc_seconds_bucket{x=\"y\",le=\"+Inf\"} 1\n\
                        c_seconds_sum{x=\"y\"} 0.5\nc_seconds_count{x=\"y\"} 1\n";
        assert_eq!(text.finish(), expected);
    }
}
