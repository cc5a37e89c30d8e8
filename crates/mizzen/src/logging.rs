//! Where log lines go: standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::error::{CommandError, Result};
use crate::settings::LogFormat;

/// Starts logging. Colours only on a terminal.
pub fn start(level: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_new(level).map_err(|e| CommandError::Setting { setting: "--log-level".into(), message: e.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call in one process (tests) keeps the first.
    let started = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.or(Ok(()))
}
