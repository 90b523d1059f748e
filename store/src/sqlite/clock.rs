//! The time by which retention counts ages: the system's clock, as long as it can be believed.

use std::time::Duration;

/// A step from which the clock is not believed, milliseconds.
const STEP_MS: u64 = 3_600_000;

/// How long it has to run evenly until it is believed again.
const SETTLE: Duration = Duration::from_secs(86_400);

/// What is deleted is gone for good, so a clock that steps forward must not make everything old at
/// once. When it steps by more than an hour against monotonic time, or is more than an hour ahead
/// of the newest event at the start (which is also so when the server was off), ages are counted by
/// monotonic time on from where they were, until the clock has run evenly for a day. A clock that
/// steps back only makes things younger. Bounds on bytes and rows hold all the same.
#[derive(Debug)]
pub(super) struct RetentionClock {
    /// Time that is believed, and when that was.
    now_ms: u64,
    at: Duration,
    /// The clock's time at the last look.
    wall_ms: u64,
    /// Since when the clock runs evenly but is not believed.
    uneven: Option<Duration>,
}

impl RetentionClock {
    /// `newest_ms` is the time of the newest event from before this start, `wall_ms` the clock's,
    /// `at` monotonic.
    pub(super) fn new(newest_ms: Option<u64>, wall_ms: u64, at: Duration) -> Self {
        let ahead = newest_ms.filter(|newest_ms| wall_ms > newest_ms.saturating_add(STEP_MS));
        Self { now_ms: ahead.unwrap_or(wall_ms), at, wall_ms, uneven: ahead.map(|_| at) }
    }

    /// The time to count ages by.
    pub(super) fn now_ms(&mut self, wall_ms: u64, at: Duration) -> u64 {
        let passed_ms = at.saturating_sub(self.at).as_millis() as u64;
        if wall_ms.abs_diff(self.wall_ms.saturating_add(passed_ms)) > STEP_MS {
            tracing::warn!(
                before_ms = self.wall_ms,
                now_ms = wall_ms,
                "the clock has stepped: retention counts ages without it until it has run evenly for a day"
            );
            self.uneven = Some(at);
        }
        if self.uneven.is_some_and(|since| at.saturating_sub(since) >= SETTLE) {
            self.uneven = None;
        }
        let even_ms = self.now_ms.saturating_add(passed_ms);
        self.now_ms = if self.uneven.is_some() { wall_ms.min(even_ms) } else { wall_ms };
        (self.at, self.wall_ms) = (at, wall_ms);
        self.now_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::NOW_MS;

    const MINUTE: Duration = Duration::from_secs(60);
    const MINUTE_MS: u64 = 60_000;
    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn an_even_clock_is_believed() {
        let mut clock = RetentionClock::new(Some(NOW_MS), NOW_MS + 1, Duration::ZERO);
        assert_eq!(clock.now_ms(NOW_MS + MINUTE_MS, MINUTE), NOW_MS + MINUTE_MS);
        // Corrected by half an hour.
        let corrected = NOW_MS + 32 * MINUTE_MS;
        assert_eq!(clock.now_ms(corrected, 2 * MINUTE), corrected);
    }

    #[test]
    fn a_step_forward_makes_nothing_old_until_it_has_lasted_a_day() {
        let mut clock = RetentionClock::new(None, NOW_MS, Duration::ZERO);
        let ahead = NOW_MS + 30 * DAY_MS;
        for minutes in 1..=1_440 {
            let minute_ms = u64::from(minutes) * MINUTE_MS;
            assert_eq!(clock.now_ms(ahead + minute_ms, minutes * MINUTE), NOW_MS + minute_ms);
        }
        let settled = ahead + 1_441 * MINUTE_MS;
        assert_eq!(clock.now_ms(settled, 1_441 * MINUTE), settled);
    }

    #[test]
    fn a_step_forward_and_back_has_deleted_nothing() {
        let mut clock = RetentionClock::new(None, NOW_MS, Duration::ZERO);
        assert_eq!(clock.now_ms(NOW_MS + 30 * DAY_MS, MINUTE), NOW_MS + MINUTE_MS);
        assert_eq!(clock.now_ms(NOW_MS + 2 * MINUTE_MS, 2 * MINUTE), NOW_MS + 2 * MINUTE_MS);
        // Back for good: what is younger is kept for longer.
        assert_eq!(clock.now_ms(NOW_MS - DAY_MS, 3 * MINUTE), NOW_MS - DAY_MS);
    }

    #[test]
    fn a_clock_far_ahead_of_the_newest_event_is_not_believed_at_once() {
        let mut clock = RetentionClock::new(Some(NOW_MS), NOW_MS + 10 * DAY_MS, Duration::ZERO);
        let later = NOW_MS + 10 * DAY_MS + MINUTE_MS;
        assert_eq!(clock.now_ms(later, MINUTE), NOW_MS + MINUTE_MS);
        assert_eq!(clock.now_ms(later + DAY_MS, 1_441 * MINUTE), later + DAY_MS);
    }
}
