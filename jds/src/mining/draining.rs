//! What is still read of a miner when the server ends: a share that was sent before may be a block.

use std::time::Instant;

use crate::limits::{SHUTDOWN_READ_BYTES_MAX, SHUTDOWN_READ_LIMIT, SHUTDOWN_READ_QUIET};

/// Reading goes on until nothing more comes, within bounds of time and bytes.
#[derive(Debug)]
pub(super) struct Draining {
    until: Instant,
    quiet: Instant,
    bytes: usize,
}

impl Draining {
    /// From now on.
    pub(super) fn begin(now: Instant) -> Self {
        Self { until: now + SHUTDOWN_READ_LIMIT, quiet: now + SHUTDOWN_READ_QUIET, bytes: 0 }
    }

    /// Something came.
    pub(super) fn received(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes;
        self.quiet = now + SHUTDOWN_READ_QUIET;
    }

    /// When it is over if nothing comes. `reads`: false while the peer is not read, which is no silence
    /// of the peer.
    pub(super) fn ends(&self, reads: bool) -> Instant {
        if reads { self.until.min(self.quiet) } else { self.until }
    }

    /// True when it is over, whatever there may be still to read.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until || self.bytes >= SHUTDOWN_READ_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_nothing_comes_and_in_any_case() {
        let start = Instant::now();
        let mut draining = Draining::begin(start);
        assert_eq!(draining.ends(true), start + SHUTDOWN_READ_QUIET);
        assert_eq!(draining.ends(false), start + SHUTDOWN_READ_LIMIT, "not the peer's silence");
        let later = start + SHUTDOWN_READ_QUIET / 2;
        draining.received(1, later);
        assert_eq!(draining.ends(true), later + SHUTDOWN_READ_QUIET);
        let last = start + SHUTDOWN_READ_LIMIT;
        draining.received(1, last);
        assert_eq!(draining.ends(true), last);
        assert!(draining.is_over(last) && !draining.is_over(later));
        draining.received(SHUTDOWN_READ_BYTES_MAX - 2, later);
        assert!(draining.is_over(later), "so many bytes");
    }
}
