//! `jds run`.

use std::time::Duration;

use anyhow::{Context, ensure};
use jds::server::Server;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::logging;

/// How long the start waits for a node before it says so and goes on without.
const FIRST_TIP_WAIT: Duration = Duration::from_millis(5_000);

/// Serves until the process is told to stop.
pub(super) fn run(config: &config::Checked) -> anyhow::Result<()> {
    let _log = logging::start(&config.log)?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: &config::Checked) -> anyhow::Result<()> {
    // Before the server starts: a signal in between must not kill it half way.
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can not be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can not be handled")?;
    let server = Server::start(config).await?;
    let tip = server.wait_for_tip(FIRST_TIP_WAIT);
    tokio::select! {
        ready = tip => if !ready {
            warn!("no node has told us a tip yet: miners are served, declarations are answered as \
                   stale until one does");
        },
        _ = terminate.recv() => return stop(server, "SIGTERM").await,
        _ = interrupt.recv() => return stop(server, "SIGINT").await,
    }
    tokio::select! {
        _ = terminate.recv() => stop(server, "SIGTERM").await,
        _ = interrupt.recv() => stop(server, "SIGINT").await,
    }
}

async fn stop(server: Server, signal: &str) -> anyhow::Result<()> {
    info!(signal, "stopping");
    let written = server.shutdown().await;
    ensure!(written, "something that was acknowledged could not be written: see the log");
    Ok(())
}
