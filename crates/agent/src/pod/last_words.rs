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
    let text = String::from_utf8_lossy(&bytes);
    // The first line of the window may be cut.
    let lines = text.lines().skip(usize::from(start > 0));
    let mut kept: Vec<&str> = Vec::new();
    let mut size = 0;
    for line in lines.collect::<Vec<_>>().into_iter().rev().take(MAX_LOG_LINES) {
        let content = line.splitn(4, ' ').nth(3).unwrap_or_default();
        size += content.len() as u64 + 1;
        if size > MAX_LOG {
            break;
        }
        kept.push(content);
    }
    kept.reverse();
    let mut text = kept.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}
