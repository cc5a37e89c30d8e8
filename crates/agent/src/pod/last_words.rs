//! The termination message of a container: from its own file, else the end of its log if the pod says so.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use mizzen_runtime::driver::Container;

use super::{build, roles};
use crate::context::Context;

/// Most bytes of a message.
const MAX_MESSAGE: u64 = 4096;
/// Most bytes and lines taken from a log.
const MAX_LOG: u64 = 2048;
const MAX_LOG_LINES: usize = 80;
/// How much of a log's end is read to find those: each line carries a time and a stream name.
const LOG_WINDOW: u64 = 16 << 10;

/// The message of a container that ended with `code`.
pub fn read(ctx: &Context, pod: &Pod, container: &Container, code: i32) -> String {
    let meta = &pod.metadata;
    let uid = meta.uid.as_deref().unwrap_or_default();
    let file = build::termination_log(&ctx.config.pod_dir(uid), &container.spec.name);
    let message = read_start(&file);
    let spec = pod.spec.as_ref().and_then(|s| roles::find(s, &container.spec.name)).map(|(c, _)| c);
    let from_log = spec.is_some_and(|c| c.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"));
    if !message.is_empty() || !from_log || code == 0 {
        return message;
    }
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    log_end(&ctx.config.log_dir(namespace, name, uid).join(&container.spec.log_path))
}

fn read_start(path: &Path) -> String {
    let mut bytes = Vec::new();
    // A missing file is an empty message.
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(MAX_MESSAGE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn log_end(path: &Path) -> String {
    let Ok(mut file) = std::fs::File::open(path) else { return String::new() };
    let length = file.metadata().map_or(0, |m| m.len());
    let start = length.saturating_sub(LOG_WINDOW);
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(start)).is_err() || file.take(LOG_WINDOW).read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    last_lines(&String::from_utf8_lossy(&bytes), start > 0)
}

/// What the last entries of a log say, as the container wrote it. The first entry may be `cut`.
fn last_lines(log: &str, cut: bool) -> String {
    let mut kept = Vec::new();
    let mut size = 0;
    let entries: Vec<&str> = log.lines().skip(usize::from(cut)).collect();
    for entry in entries.into_iter().rev().take(MAX_LOG_LINES) {
        let mut parts = entry.splitn(4, ' ').skip(2);
        let (tag, content) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        // A part of a line (`P`) has no end of line yet.
        let end = if tag == "P" { "" } else { "\n" };
        size += (content.len() + end.len()) as u64;
        if size > MAX_LOG {
            break;
        }
        kept.extend([end, content]);
    }
    kept.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn the_end_of_a_log_is_what_the_container_wrote() {
        for (log, cut, words) in [
            ("", false, ""),
            ("t stdout F a b\nt stderr F c\n", false, "a b\nc\n"),
            ("t stdout F a\nt stdout P DO\nt stdout P NE\n", false, "a\nDONE"),
            ("rest of a line\nt stdout F \nt stdout F b\n", true, "\nb\n"),
        ] {
            assert_eq!(last_lines(log, cut), words, "{log}");
        }
        let long = format!("t stdout F {}\n", "x".repeat(1000)).repeat(3);
        assert_eq!(last_lines(&long, false).len(), 2002);
    }
}
