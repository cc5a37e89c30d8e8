//! Keeps log files small: at `containerLogMaxSize` a new one is begun; `containerLogMaxFiles` are kept, older ones compressed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mizzen_runtime::driver::{Container, ContainerState};
use tokio_util::sync::CancellationToken;

use super::files;
use crate::context::Context;

/// How often sizes are looked at (`containerLogMonitorInterval`).
const CHECK: Duration = Duration::from_secs(10);

/// Rotates logs of `pods` (uids and log directories) until `stop`.
pub async fn run(ctx: Arc<Context>, pods: impl Fn() -> Vec<(String, PathBuf)>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CHECK) => {}
            () = stop.cancelled() => return,
        }
        for (uid, directory) in pods() {
            // Only where a file is large is the runtime asked.
            if !has_large_file(&directory, ctx.config.log_max_size) {
                continue;
            }
            match ctx.driver.sandbox(&uid).await {
                Ok(sandbox) => {
                    for container in &sandbox.containers {
                        rotate(&ctx, &uid, &directory, container).await;
                    }
                }
                Err(error) => tracing::debug!(pod = uid, %error, "logs not rotated"),
            }
        }
    }
}

fn has_large_file(directory: &Path, max_size: u64) -> bool {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    entries(directory).any(|container| {
        entries(&container.path()).any(|file| {
            file.path().extension().is_some_and(|e| e == "log") && file.metadata().is_ok_and(|m| m.len() >= max_size)
        })
    })
}

async fn rotate(ctx: &Context, uid: &str, directory: &Path, container: &Container) {
    let path = directory.join(&container.spec.log_path);
    let running = matches!(container.state, ContainerState::Running { .. });
    if !running || !fs::metadata(&path).is_ok_and(|m| m.len() >= ctx.config.log_max_size) {
        return;
    }
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        tracing::warn!(path = %path.display(), %error, "log not rotated: {what}");
    };
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let rotated = path.with_extension(format!("log.{stamp}"));
    if let Err(error) = fs::rename(&path, &rotated) {
        return failed("rename", &error);
    }
    if let Err(error) = ctx.driver.reopen_log(uid, &container.spec.id).await {
        failed("reopen", &error);
        // The container still writes to the old file: it gets its name back.
        if let Err(error) = fs::rename(&rotated, &path) {
            failed("rename back", &error);
        }
        return;
    }
    let max_files = ctx.config.log_max_files;
    let folder = path.parent().unwrap_or(directory).to_path_buf();
    match tokio::task::spawn_blocking(move || tidy(&folder, max_files)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => failed("compress", &error),
        Err(error) => failed("compress", &error),
    }
}

/// Removes the oldest files and compresses all but the newest rotated one, which the runtime may still be closing.
fn tidy(folder: &Path, max_files: usize) -> io::Result<()> {
    let Some(files) = files::find(folder, false)? else { return Ok(()) };
    let surplus = (files.rotated.len() + 1).saturating_sub(max_files);
    let (old, kept) = files.rotated.split_at(surplus);
    for path in old {
        fs::remove_file(path)?;
    }
    let compressible = kept.len().saturating_sub(1);
    for path in kept.iter().take(compressible).filter(|p| p.extension().is_none_or(|e| e != "gz")) {
        compress(path)?;
    }
    Ok(())
}

fn compress(path: &Path) -> io::Result<()> {
    let (temporary, done) = (suffixed(path, ".tmp"), suffixed(path, ".gz"));
    let out = fs::File::create(&temporary)?;
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
    io::copy(&mut fs::File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(&temporary, &done)?;
    fs::remove_file(path)
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_five_and_compresses_old_ones() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("0.log"), "now").unwrap();
        for n in 1..=6 {
            fs::write(dir.path().join(format!("0.log.20260101-00000{n}")), format!("part {n}")).unwrap();
        }
        tidy(dir.path(), 5).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "0.log",
                "0.log.20260101-000003.gz",
                "0.log.20260101-000004.gz",
                "0.log.20260101-000005.gz",
                "0.log.20260101-000006"
            ]
        );
    }
}
