//! Where log lines go: standard error, so that standard output is for results.

use std::io::{IsTerminal, Write};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use config::{Log, LogFormat};
use jds::limits::LOG_LINES_QUEUED_MAX;
use tracing::error;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// How often it is looked whether lines were lost.
const LOST_LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Starts logging as configured; `RUST_LOG` refines it. Lines are written by a thread of their own:
/// a terminal or pipe that nobody reads never holds up the server. What is still queued is written
/// when the guard goes; lines that found no place are counted, and that is said.
pub(super) fn start(log: &Log) -> anyhow::Result<WorkerGuard> {
    let (writer, guard) = lines_to(std::io::stderr());
    tell_of_lost(writer.error_counter())?;
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

/// Where lines wait to be written, and whoever writes them.
fn lines_to(out: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().buffered_lines_limit(LOG_LINES_QUEUED_MAX).lossy(true).finish(out)
}

/// Says from time to time how many lines were lost, until the process ends.
fn tell_of_lost(lost: ErrorCounter) -> anyhow::Result<()> {
    let watch = move || {
        let mut told = 0;
        loop {
            thread::sleep(LOST_LOOK_INTERVAL);
            told = tell(&lost, told);
        }
    };
    let started = thread::Builder::new().name("log-lost".to_owned()).spawn(watch);
    started.map(drop).context("no thread for the log")
}

/// Says how many lines were lost since `told` of them were; how many are told now. A word that is lost itself
/// counts for nothing: the next one tells all of it.
fn tell(lost: &ErrorCounter, told: usize) -> usize {
    let now = lost.dropped_lines();
    if now > told {
        error!(lines = now - told, "log lines are lost: they are not read fast enough");
    }
    if lost.dropped_lines() == now { now } else { told }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A terminal that nobody reads until it is let go; tells what is written then.
    struct Stuck(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Stuck {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // Let go, it waits no more.
            let _ = self.0.recv();
            let _ = self.1.send(line.to_vec());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_terminal_that_nobody_reads_holds_up_nothing_and_what_is_lost_is_counted() {
        const MORE: usize = 500;
        let (stuck, written) = (channel(), channel());
        let (mut lines, guard) = lines_to(Stuck(stuck.1, written.0));
        for _ in 0..LOG_LINES_QUEUED_MAX + MORE {
            lines.write_all(b"line").unwrap();
        }
        let lost = lines.error_counter();
        // One may be on its way to the terminal.
        assert!((MORE - 1..=MORE).contains(&lost.dropped_lines()), "{}", lost.dropped_lines());
        drop(stuck.0);
        let next = |_| written.1.recv_timeout(Duration::from_secs(30)).ok();
        let count = (0..LOG_LINES_QUEUED_MAX).map_while(next).count();
        assert_eq!(count, LOG_LINES_QUEUED_MAX, "what had a place is written");
        drop((lines, guard));
    }

    #[test]
    fn what_could_not_be_told_while_nobody_read_is_told_afterwards() {
        let (stuck, written) = (channel(), channel());
        let (mut lines, guard) = lines_to(Stuck(stuck.1, written.0));
        let lost = lines.error_counter();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            // One more than there is place for, and one that may be on its way to the terminal.
            for _ in 0..LOG_LINES_QUEUED_MAX + 2 {
                lines.write_all(b"line").unwrap();
            }
            let before = lost.dropped_lines();
            assert_eq!(tell(&lost, 0), 0, "its own word was lost");
            assert_eq!(lost.dropped_lines(), before + 1);
            drop(stuck.0);
            let told = || written.1.recv_timeout(Duration::from_secs(30)).expect("lines go on");
            assert_eq!(told(), b"line");
            assert_eq!(tell(&lost, 0), before + 1);
            let word = std::iter::repeat_with(told).find(|line| line != b"line").unwrap();
            let word = String::from_utf8_lossy(&word).into_owned();
            assert!(word.contains("log lines are lost"), "{word}");
            assert!(word.contains(&(before + 1).to_string()), "{word}");
        });
        drop((lines, guard));
    }
}
