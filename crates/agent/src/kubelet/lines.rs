//! Lines of a log file in CRI form, and which of them a reader wants. Pure.
//!
//! A line is `<RFC 3339 time> <stdout|stderr> <F|P> <text>`; `P` means that the text goes on in the next line.

use jiff::Timestamp;

/// What a reader wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Goes on as the log grows.
    pub follow: bool,
    /// Of the run before the present one.
    pub previous: bool,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// Only this many of the last lines.
    pub tail: Option<usize>,
    /// At most this many bytes.
    pub limit_bytes: Option<u64>,
    /// Only this stream: `stdout` or `stderr`.
    pub stream: Option<String>,
}

/// A query cannot be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {value:?} of {name}")]
pub struct BadOption {
    /// The parameter.
    pub name: &'static str,
    /// Its value.
    pub value: String,
}

impl Options {
    /// Reads a query string.
    pub fn parse(query: &str, now: Timestamp) -> Result<Self, BadOption> {
        let mut options = Self::default();
        for (name, value) in pairs(query) {
            let truth = || matches!(value.as_str(), "true" | "1" | "True");
            let bad = |name| BadOption { name, value: value.clone() };
            match name.as_str() {
                "follow" => options.follow = truth(),
                "previous" => options.previous = truth(),
                "timestamps" => options.timestamps = truth(),
                "sinceSeconds" => {
                    let seconds: i64 = value.parse().map_err(|_| bad("sinceSeconds"))?;
                    options.since = Some(crate::pod::backoff::later(now, seconds.saturating_neg()));
                }
                "sinceTime" => options.since = Some(value.parse().map_err(|_| bad("sinceTime"))?),
                "tailLines" => options.tail = Some(value.parse().map_err(|_| bad("tailLines"))?),
                "limitBytes" => options.limit_bytes = Some(value.parse().map_err(|_| bad("limitBytes"))?),
                "stream" => match value.as_str() {
                    "Stdout" => options.stream = Some("stdout".into()),
                    "Stderr" => options.stream = Some("stderr".into()),
                    "All" | "" => {}
                    _ => return Err(bad("stream")),
                },
                _ => {}
            }
        }
        Ok(options)
    }
}

/// Name and value of each parameter of a query.
pub fn pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(name), unescape(value))
        })
        .collect()
}

fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let escaped =
            tail.get(..2).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 16).ok());
        match (byte, escaped) {
            (b'+', _) => out.push(b' '),
            (b'%', Some(value)) => {
                out.push(value);
                rest = &tail[2..];
            }
            _ => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Turns raw lines into what the reader sees.
#[derive(Debug)]
pub struct Filter {
    options: Options,
    left: Option<u64>,
    /// The line before this one was not its end.
    within: bool,
}

impl Filter {
    /// For these wishes.
    pub fn new(options: Options) -> Self {
        Self { left: options.limit_bytes, options, within: false }
    }

    /// Adds what the reader sees of a raw line (without its newline); `false` when nothing more is wanted.
    pub fn line(&mut self, raw: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(line) = Line::parse(raw) else { return true };
        let other = self.options.stream.as_ref().is_some_and(|s| s.as_bytes() != line.stream);
        let early = self.options.since.is_some_and(|since| line.time().is_some_and(|t| t < since));
        if other || early {
            return true;
        }
        let start = out.len();
        if self.options.timestamps && !self.within {
            out.extend_from_slice(line.stamp);
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        self.within = line.partial;
        if let Some(left) = &mut self.left {
            let added = (out.len() - start) as u64;
            if added >= *left {
                out.truncate(start + usize::try_from(*left).unwrap_or(0));
                *left = 0;
                return false;
            }
            *left -= added;
        }
        true
    }
}

struct Line<'a> {
    stamp: &'a [u8],
    stream: &'a [u8],
    partial: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(raw: &'a [u8]) -> Option<Self> {
        let mut parts = raw.splitn(4, |b| *b == b' ');
        let (stamp, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
        let text = parts.next().unwrap_or_default();
        Some(Self { stamp, stream, partial: tag.first() == Some(&b'P'), text })
    }

    fn time(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.stamp).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr P tw\n\
                       2026-01-01T00:00:02.5Z stderr F o\n2026-01-01T00:00:03Z stdout F \nbroken\n";

    #[test]
    fn what_readers_see() {
        for (query, want) in [
            ("", "one\ntwo\n\n"),
            ("timestamps=true", "2026-01-01T00:00:01Z one\n2026-01-01T00:00:02Z two\n2026-01-01T00:00:03Z \n"),
            ("sinceTime=2026-01-01T00%3A00%3A02Z", "two\n\n"),
            ("sinceSeconds=8", "two\n\n"),
            ("limitBytes=5", "one\nt"),
            ("limitBytes=4", "one\n"),
            ("stream=Stdout", "one\n\n"),
        ] {
            let now = "2026-01-01T00:00:10Z".parse().unwrap();
            let mut filter = Filter::new(Options::parse(query, now).unwrap());
            let mut out = Vec::new();
            for line in LOG.lines() {
                if !filter.line(line.as_bytes(), &mut out) {
                    break;
                }
            }
            assert_eq!(String::from_utf8(out).unwrap(), want, "{query}");
        }
    }

    #[test]
    fn bad_options_are_named() {
        let now = Timestamp::UNIX_EPOCH;
        for (query, name) in [("tailLines=x", "tailLines"), ("sinceTime=now", "sinceTime"), ("stream=Std", "stream")] {
            assert_eq!(Options::parse(query, now).unwrap_err().name, name);
        }
        assert_eq!(
            pairs("a=b%20c&d=e+f&g"),
            [("a".into(), "b c".into()), ("d".into(), "e f".into()), ("g".into(), String::new())]
        );
    }
}
