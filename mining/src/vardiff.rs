//! The target of a channel follows its rate of hashes.

use std::time::{Duration, Instant};

use crate::target::HASHES_PER_DIFFICULTY;

/// Shares that say enough of a rate to act on at once, when it is much too high.
const SHARES_AT_ONCE: f64 = 20.0;
/// Too many by this factor is much too high.
const MUCH: f64 = 3.0;
/// A rate that is wrong by a factor is corrected after a window of this length: the longer we look,
/// the surer we are. Factors are taken both ways.
const STEPS: [(Duration, f64); 4] = [
    (Duration::from_secs(60), 2.0),
    (Duration::from_secs(120), 1.6),
    (Duration::from_secs(240), 1.35),
    (Duration::from_secs(480), 1.2),
];
/// A window ends after this long, whatever it says.
const WINDOW_MAX: Duration = Duration::from_secs(600);
/// Fewest shares that a window must have had to be, if the rate were right, to say that it is not.
const SHARES_EXPECTED_MIN: f64 = 3.0;
/// One step changes the rate at most by this factor downwards, and by its square upwards.
const STEP_MAX: f64 = 8.0;

/// What is known of the rate of a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vardiff {
    /// The rate that the target is made for, hashes per second.
    hashrate: f64,
    /// No rate below this is believed, hashes per second.
    floor: f64,
    window_start: Instant,
    /// Accepted shares since then.
    shares: f64,
    /// Their difficulty.
    difficulty: f64,
}

impl Vardiff {
    /// `nominal`: what the miner says, hashes per second; `floor` likewise.
    pub(crate) fn new(nominal: f64, floor: f64, now: Instant) -> Self {
        let hashrate = nominal.max(floor);
        Self { hashrate, floor, window_start: now, shares: 0.0, difficulty: 0.0 }
    }

    /// The rate that the target is made for, hashes per second.
    pub(crate) fn hashrate(&self) -> f64 {
        self.hashrate
    }

    /// The miner says that its rate changed.
    pub(crate) fn restart(&mut self, nominal: f64, now: Instant) {
        *self = Self::new(nominal, self.floor, now);
    }

    /// A share was accepted.
    pub(crate) fn accepted(&mut self, difficulty: f64) {
        self.shares += 1.0;
        self.difficulty += difficulty;
    }

    /// True when there have been so many shares that the next look should be now.
    pub(crate) fn is_flooded(&self, shares_per_minute: f64, now: Instant) -> bool {
        let expected = self.elapsed(now) / 60.0 * shares_per_minute;
        self.shares >= SHARES_AT_ONCE && self.shares > MUCH * expected
    }

    /// Looks at the window. True when the rate changed, and the target with it.
    pub(crate) fn look(&mut self, shares_per_minute: f64, now: Instant) -> bool {
        let elapsed = self.elapsed(now);
        let expected = elapsed / 60.0 * shares_per_minute;
        let measured = self.difficulty * HASHES_PER_DIFFICULTY / elapsed.max(1.0);
        let ratio = measured / self.hashrate;
        let passed = STEPS.iter().rev().find(|(length, _)| elapsed >= length.as_secs_f64());
        let wrong = passed.is_some_and(|(_, factor)| ratio >= *factor || ratio * factor <= 1.0)
            && (expected >= SHARES_EXPECTED_MIN || ratio > 1.0);
        if !wrong && !self.is_flooded(shares_per_minute, now) {
            if elapsed >= WINDOW_MAX.as_secs_f64() {
                self.restart(self.hashrate, now);
            }
            return false;
        }
        let before = self.hashrate;
        let bounded = measured.clamp(before / STEP_MAX, before * STEP_MAX * STEP_MAX);
        self.restart(bounded, now);
        self.hashrate != before
    }

    fn elapsed(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.window_start).as_secs_f64()
    }
}
