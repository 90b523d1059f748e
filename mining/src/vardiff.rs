//! The target of a channel follows its rate of hashes.

use std::time::{Duration, Instant};

use crate::target::HASHES_PER_DIFFICULTY;

/// Shares that say enough of a rate to act on at once, when it is much too high.
const SHARES_AT_ONCE: f64 = 20.0;
/// Too many by this factor is much too high.
const MUCH: f64 = 3.0;
/// So many standard deviations of luck make a rate wrong.
const SIGMAS: f64 = 3.5;
/// A window ends after this long. A rate that is wrong by [`WRONG`] then is corrected, though it
/// may have been luck.
const WINDOW_MAX: Duration = Duration::from_secs(600);
/// See [`WINDOW_MAX`].
const WRONG: f64 = 1.3;
/// One step changes the rate at most by this factor downwards.
const STEP_DOWN_MAX: f64 = 4.0;
/// And by this upwards.
const STEP_UP_MAX: f64 = 64.0;

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
        // Shares come by luck, which has a standard deviation of the root of their number.
        let unlikely = (self.shares - expected).abs() >= SIGMAS * expected.max(1.0).sqrt();
        let over = elapsed >= WINDOW_MAX.as_secs_f64();
        let wrong = ratio >= WRONG || ratio * WRONG <= 1.0;
        if !(wrong && (unlikely || over)) && !self.is_flooded(shares_per_minute, now) {
            if over {
                self.restart(self.hashrate, now);
            }
            return false;
        }
        let before = self.hashrate;
        let bounded = measured.clamp(before / STEP_DOWN_MAX, before * STEP_UP_MAX);
        self.restart(bounded, now);
        self.hashrate != before
    }

    fn elapsed(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.window_start).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::VARDIFF_INTERVAL;

    const SHARES_PER_MINUTE: f64 = 6.0;
    const FLOOR: f64 = 1e12;

    /// Numbers that look random and are the same each time.
    struct Dice(u64);

    impl Dice {
        /// Above 0, at most 1.
        fn roll(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            ((self.0 >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
        }
    }

    /// A miner of `actual` hashes per second that said `nominal`: how long until the rate is within
    /// a third of the truth for good, and how often it changes in the day after.
    fn simulate(actual: f64, nominal: f64, seed: u64) -> (Duration, u32) {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let start = Instant::now();
        let mut vardiff = Vardiff::new(nominal, FLOOR, start);
        let mut now = start;
        let (mut settled, mut changes) = (start, 0);
        let mut next_look = start + VARDIFF_INTERVAL;
        let day = Duration::from_secs(24 * 3_600);
        while now < start + day {
            // Luck has no memory.
            let difficulty = vardiff.hashrate() * 60.0 / SHARES_PER_MINUTE / HASHES_PER_DIFFICULTY;
            let mean_s = difficulty * HASHES_PER_DIFFICULTY / actual;
            let share = now + Duration::from_secs_f64((-dice.roll().ln() * mean_s).min(1e6));
            let before = vardiff.hashrate();
            if share < next_look {
                now = share;
                vardiff.accepted(difficulty);
                if vardiff.is_flooded(SHARES_PER_MINUTE, now) {
                    vardiff.look(SHARES_PER_MINUTE, now);
                }
            } else {
                now = next_look;
                next_look += VARDIFF_INTERVAL;
                vardiff.look(SHARES_PER_MINUTE, now);
            }
            changes += u32::from(vardiff.hashrate() != before);
            let ratio = vardiff.hashrate() / actual.max(FLOOR);
            if !(0.6..=1.67).contains(&ratio) && now < start + Duration::from_secs(3_600) {
                settled = now;
            }
        }
        (settled - start, changes)
    }

    #[test]
    fn it_comes_to_the_truth_soon_and_stays() {
        for (actual, nominal) in
            [(1e12, 1e12), (1e14, 0.0), (1e15, 1e12), (1e12, 1e15), (5e12, 1e14), (1e10, 1e12)]
        {
            for seed in 1..=5 {
                let (settled, changes) = simulate(actual, nominal, seed);
                let minutes = settled.as_secs() / 60;
                assert!(minutes <= 40, "{actual:e} after {nominal:e}: {minutes} minutes");
                assert!(changes <= 60, "{actual:e} after {nominal:e}: {changes} changes a day");
            }
        }
    }

    #[test]
    fn the_floor_holds_and_a_flood_is_answered_at_once() {
        let now = Instant::now();
        let mut vardiff = Vardiff::new(0.0, FLOOR, now);
        assert_eq!(vardiff.hashrate(), FLOOR);
        assert!(!vardiff.look(SHARES_PER_MINUTE, now + Duration::from_secs(3_600)));
        assert_eq!(vardiff.hashrate(), FLOOR);
        for _ in 0..20 {
            assert!(!vardiff.is_flooded(SHARES_PER_MINUTE, now));
            vardiff.accepted(2_328.0);
        }
        let soon = now + Duration::from_secs(3_601);
        let mut vardiff = Vardiff { window_start: soon, ..vardiff };
        assert!(vardiff.is_flooded(SHARES_PER_MINUTE, soon));
        assert!(vardiff.look(SHARES_PER_MINUTE, soon));
        assert!(vardiff.hashrate() > 10.0 * FLOOR);
    }
}
