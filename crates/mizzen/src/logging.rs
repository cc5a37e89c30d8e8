//! Where log lines go: standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::error::{CommandError, Result};
use crate::settings::LogFormat;

/// Libraries that say more than anyone needs at the same level as mizzen itself.
const QUIET: &str = "openraft=warn,hyper=warn,rustls=warn,h2=warn";

/// Starts logging. Colours only on a terminal.
pub fn start(level: &str, format: LogFormat) -> Result<()> {
    let wrong = |message: String| CommandError::Setting { setting: "--log-level".into(), message };
    let filter = if level.contains(['=', ',']) { level.to_string() } else { format!("{level},{QUIET}") };
    let filter = EnvFilter::try_new(filter).map_err(|e| wrong(format!("{level:?}: {e}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|e| wrong(e.to_string()))?;
    Ok(())
}
