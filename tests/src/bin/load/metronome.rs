//! Says when things are due, to the microsecond and whatever has become of those before.
//!
//! The timers of the runtime count in milliseconds, which would show in latencies of one or two; so a
//! thread of its own sleeps, which the system lets it do more exactly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::mpsc;

/// How often a long pause is looked at for the end.
const STEP: Duration = Duration::from_millis(200);

/// Moments, as seen from a start.
pub(crate) enum Pace {
    /// So many a second, evenly.
    Even(f64),
    /// So many a second on average, each independent of the others.
    Random(f64),
}

impl Pace {
    /// From one to the next.
    fn pause(&self) -> Duration {
        match self {
            Self::Even(rate) => Duration::from_secs_f64(1.0 / rate),
            Self::Random(rate) => {
                let even: f64 = rand::thread_rng().gen_range(f64::MIN_POSITIVE..1.0);
                Duration::from_secs_f64(-even.ln() / rate)
            }
        }
    }
}

/// A thread that tells its hearers in turns when something is due; ends when dropped, or at the end.
#[derive(Debug)]
pub(crate) struct Metronome {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Metronome {
    /// From `start` until `end`, if there is one. The hearers' channels close behind it.
    pub(crate) fn start(
        pace: Pace,
        start: Instant,
        end: Option<Instant>,
        hearers: Vec<mpsc::UnboundedSender<Instant>>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut due = start;
            for hearer in hearers.iter().cycle() {
                if end.is_some_and(|end| due >= end) || !sleep_until(due, &stopped) {
                    return;
                }
                // One that is gone had its reasons.
                let _ = hearer.send(due);
                due += pace.pause();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic.
            let _ = thread.join();
        }
    }
}

/// False when it is time to stop.
fn sleep_until(due: Instant, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(STEP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hearers_take_turns_and_nobody_is_waited_for() {
        let (first, mut of_first) = mpsc::unbounded_channel();
        let (second, mut of_second) = mpsc::unbounded_channel();
        let start = Instant::now();
        let end = start + Duration::from_millis(100);
        let metronome = Metronome::start(Pace::Even(100.0), start, Some(end), vec![first, second]);
        let mut heard = Vec::new();
        while let Some(due) = of_first.blocking_recv() {
            heard.push((due - start).as_millis());
        }
        assert_eq!(heard, [0, 20, 40, 60, 80]);
        assert_eq!(std::iter::from_fn(|| of_second.blocking_recv()).count(), 5);
        drop(metronome);
    }

    #[test]
    fn random_pauses_have_the_rate_that_was_asked_for() {
        let total: Duration = (0..20_000).map(|_| Pace::Random(1_000.0).pause()).sum();
        assert!((18.0..22.0).contains(&total.as_secs_f64()), "{total:?}");
    }
}
