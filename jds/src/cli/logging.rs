//! Where log lines go: standard error, so that standard output is for results.

use std::io::IsTerminal;

use anyhow::Context;
use config::{Log, LogFormat};
use jds::limits::LOG_LINES_QUEUED_MAX;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Starts logging as configured; `RUST_LOG` refines it. Lines are written by a thread of their own:
/// a terminal or pipe that nobody reads never holds up the server. What is still queued is written
/// when the guard goes.
pub(super) fn start(log: &Log) -> anyhow::Result<WorkerGuard> {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES_QUEUED_MAX)
        .lossy(true)
        .finish(std::io::stderr());
    let filter = EnvFilter::builder()
        .with_default_directive(log.level.as_str().parse().context("log.level")?)
        .from_env()
        .context("RUST_LOG")?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let started = match log.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging does not start: {error}"))?;
    Ok(guard)
}
