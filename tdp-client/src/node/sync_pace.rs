//! How long a node will go on downloading the chain, by how fast it was lately.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::{SYNC_PACE_SAMPLE_MS, SYNC_PACE_SAMPLES_MAX};
use crate::source::TimeLeft;

/// Progress that is lost only by a node that begins anew.
const SETBACK: f64 = 0.01;

/// What was seen of a download, oldest first.
#[derive(Debug, Default)]
pub(super) struct SyncPace(VecDeque<(Instant, f64)>);

impl SyncPace {
    /// Takes note of the progress (0 to 1) and estimates the rest. `None` until it has been looked at
    /// for a while, and where there is no progress.
    pub(super) fn left(&mut self, progress: f64, now: Instant) -> Option<TimeLeft> {
        // A node may begin anew. It may also fall back by a hair, for the chain grows meanwhile.
        if self.0.back().is_some_and(|(_, last)| progress < last - SETBACK) {
            self.0.clear();
        }
        let sample = Duration::from_millis(SYNC_PACE_SAMPLE_MS);
        if self.0.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= sample) {
            if self.0.len() == SYNC_PACE_SAMPLES_MAX {
                self.0.pop_front();
            }
            self.0.push_back((now, progress));
        }
        let (since, before) = self.0.front()?;
        let seen = now.saturating_duration_since(*since);
        if seen < sample { None } else { TimeLeft::by_pace(*before, progress, seen) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The estimates of looks at one second and the next, in seconds.
    fn estimates(progress: impl IntoIterator<Item = f64>) -> Vec<Option<u64>> {
        let (start, mut pace) = (Instant::now(), SyncPace::default());
        let look = |(second, progress)| {
            let left = pace.left(progress, start + Duration::from_secs(second));
            left.map(|left| left.as_duration().as_secs())
        };
        (0..).zip(progress).map(look).collect()
    }

    #[test]
    fn the_rest_follows_from_what_was_seen() {
        let steady = estimates((0..1_000_i32).map(|second| f64::from(second) / 1_000.0));
        let sample_s = SYNC_PACE_SAMPLE_MS / 1_000;
        for (second, left) in (0..).zip(steady) {
            let expected = (second >= sample_s).then_some(1_000 - second);
            let far = left.zip(expected).map(|(left, expected)| left.abs_diff(expected));
            assert_eq!(left.is_some(), expected.is_some(), "in second {second}");
            assert!(far.is_none_or(|far| far <= 1), "in second {second}: {left:?}");
        }
    }

    #[test]
    fn only_the_recent_past_counts() {
        // An hour at full speed, then at a tenth of it.
        let quick = (0..3_600_i32).map(|second| f64::from(second) / 10_000.0);
        let slow = (0..3_600_i32).map(|second| 0.36 + f64::from(second) / 100_000.0);
        let last = estimates(quick.chain(slow)).pop().unwrap().unwrap();
        let expected = ((1.0 - 0.395_99) * 100_000.0) as u64;
        assert!(last.abs_diff(expected) < 100, "{last} {expected}");
    }

    #[test]
    fn no_progress_is_no_estimate() {
        assert!(estimates([0.5; 1_000]).iter().all(Option::is_none));
    }

    #[test]
    fn a_node_that_falls_back_by_a_hair_is_not_forgotten() {
        let seen = (0..200_i32).map(|second| {
            let hair = if second % 3 == 0 { 0.000_01 } else { 0.0 };
            f64::from(second) / 1_000.0 - hair
        });
        assert!(estimates(seen).pop().unwrap().is_some());
    }

    #[test]
    fn a_node_that_begins_anew_is_looked_at_anew() {
        let seen = (0..200).map(|_| 0.9).chain((0..5).map(|_| 0.1));
        assert!(estimates(seen).pop().unwrap().is_none());
    }
}
