//! A long course of mixed load, with everything that comes in the life of a server: new blocks,
//! miners that come and go, restarts of the node. What the server takes has to stay flat.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use jds_tests::bench::ProcessReader;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::board::Board;
use crate::chain::OwnNode;

/// Parts of the course that are compared.
const WINDOWS: u32 = 12;
/// Of those, the beginning: caches and what is kept fill up.
const WINDOWS_FILLING: usize = 6;
/// The end, compared with what lies between.
const WINDOWS_LAST: usize = 3;
/// Growth of memory that counts as noise: so many hundredths, and so many kilobytes.
const MEMORY_NOISE_PERCENT: u64 = 10;
const MEMORY_NOISE_KB: u64 = 16 * 1024;
/// Descriptors that come and go.
const DESCRIPTORS_NOISE: usize = 16;
/// A median latency that grows to less than so many times is noise of the machine.
const LATENCY_NOISE_FACTOR: f64 = 3.0;
/// And one that is less than this, milliseconds.
const LATENCY_NOISE_MS: f64 = 20.0;

/// One part of the course.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    pub(crate) pss_kb: u64,
    pub(crate) descriptors: usize,
    pub(crate) declaration_p50_ms: f64,
    pub(crate) declaration_p99_ms: f64,
}

/// Looks at the server's process at the end of each part.
pub(crate) struct Sampler {
    stop: watch::Sender<bool>,
    sampling: JoinHandle<anyhow::Result<Vec<Window>>>,
}

impl Sampler {
    /// Over a course of that length.
    pub(crate) fn start(process: &ProcessReader, board: &Arc<Board>, length: Duration) -> Self {
        let (stop, process, board) =
            (watch::Sender::new(false), process.clone(), Arc::clone(board));
        let mut stopped = stop.subscribe();
        let sampling = tokio::spawn(async move {
            let mut windows = Vec::new();
            let mut next = Instant::now() + length / WINDOWS;
            loop {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => return Ok(windows),
                    () = tokio::time::sleep_until(next.into()) => {}
                }
                next += length / WINDOWS;
                windows.push(Window {
                    pss_kb: process.memory()?.pss_kb,
                    descriptors: process.descriptors()?,
                    declaration_p50_ms: board.window.percentile_ms(50.0),
                    declaration_p99_ms: board.window.percentile_ms(99.0),
                });
                board.window.clear();
            }
        });
        Self { stop, sampling }
    }

    /// What it saw.
    pub(crate) async fn stop(self) -> anyhow::Result<Vec<Window>> {
        self.stop.send_replace(true);
        self.sampling.await?
    }
}

/// Restarts the node at an interval, until told to stop.
pub(crate) struct Restarts {
    stop: watch::Sender<bool>,
    restarting: JoinHandle<anyhow::Result<u32>>,
}

impl Restarts {
    pub(crate) fn start(node: &OwnNode, every: Duration) -> Self {
        let (stop, node) = (watch::Sender::new(false), node.clone());
        let mut stopped = stop.subscribe();
        let restarting = tokio::spawn(async move {
            let mut count = 0;
            loop {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => return Ok(count),
                    () = tokio::time::sleep(every) => {}
                }
                let node = node.clone();
                let restarted = tokio::task::spawn_blocking(move || node.restart()).await?;
                restarted.context("the node again")?;
                count += 1;
            }
        });
        Self { stop, restarting }
    }

    /// How often it restarted.
    pub(crate) async fn stop(self) -> anyhow::Result<u32> {
        self.stop.send_replace(true);
        self.restarting.await?
    }
}

/// Fails when something grows.
pub(crate) fn judge(windows: &[Window]) -> anyhow::Result<()> {
    let filled = windows.get(WINDOWS_FILLING..).unwrap_or_default();
    let Some((middle, last)) = filled.split_at_checked(filled.len().saturating_sub(WINDOWS_LAST))
    else {
        return Ok(());
    };
    if middle.is_empty() {
        bail!("the course ended before anything could be compared: {} parts", windows.len());
    }
    let grown = |what: &str, before: f64, after: f64| {
        bail!("not flat: {what} grew from {before} to {after}; {windows:#?}")
    };
    let most = |of: &[Window], value: fn(&Window) -> u64| of.iter().map(value).max().unwrap_or(0);
    let (before, after) = (most(middle, |w| w.pss_kb), most(last, |w| w.pss_kb));
    if after > before + before * MEMORY_NOISE_PERCENT / 100 + MEMORY_NOISE_KB {
        return grown("memory (kB)", before as f64, after as f64);
    }
    let descriptors = |w: &Window| w.descriptors as u64;
    let (before, after) = (most(middle, descriptors), most(last, descriptors));
    if after > before + DESCRIPTORS_NOISE as u64 {
        return grown("descriptors", before as f64, after as f64);
    }
    let worst = |of: &[Window]| of.iter().map(|w| w.declaration_p50_ms).fold(0.0, f64::max);
    let (before, after) = (worst(middle), worst(last));
    if after > (before * LATENCY_NOISE_FACTOR).max(LATENCY_NOISE_MS) {
        return grown("the median latency of declarations (ms)", before, after);
    }
    Ok(())
}

pub(crate) fn to_json(windows: &[Window]) -> Value {
    let one = |window: &Window| {
        json!({
            "pss_kb": window.pss_kb,
            "descriptors": window.descriptors,
            "declaration_p50_ms": window.declaration_p50_ms,
            "declaration_p99_ms": window.declaration_p99_ms,
        })
    };
    windows.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(change: impl Fn(usize, &mut Window)) -> Vec<Window> {
        (0..WINDOWS as usize)
            .map(|number| {
                let mut window = Window {
                    // It fills up, and stays.
                    pss_kb: 100_000 * (1 + number.min(WINDOWS_FILLING - 1) as u64),
                    descriptors: 100,
                    declaration_p50_ms: 8.0,
                    declaration_p99_ms: 20.0,
                };
                change(number, &mut window);
                window
            })
            .collect()
    }

    #[test]
    fn what_fills_up_and_stays_is_flat_and_what_grows_is_not() {
        judge(&windows(|_, _| ())).unwrap();
        let grows: [fn(usize, &mut Window); 3] = [
            |number, window| window.pss_kb += 50_000 * number as u64,
            |number, window| window.descriptors += 10 * number,
            |number, window| window.declaration_p50_ms *= f64::powi(2.0, number as i32),
        ];
        for (index, grow) in grows.into_iter().enumerate() {
            assert!(judge(&windows(grow)).is_err(), "growth number {index} was not seen");
        }
        assert!(judge(&windows(|_, _| ())[..3]).is_err(), "too little was seen to judge");
    }
}
