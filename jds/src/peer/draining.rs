//! What is still read of a peer when the server ends: a share or a solution that was sent before may be
//! a block.

use std::time::Instant;

use tokio::time::sleep;

use crate::limits::{SHUTDOWN_READ_BYTES_MAX, SHUTDOWN_READ_LIMIT, SHUTDOWN_READ_QUIET};

/// Reading goes on until nothing more comes, within bounds of time and bytes.
#[derive(Debug)]
pub(crate) struct Draining {
    until: Instant,
    bytes: usize,
}

impl Draining {
    /// From now on.
    pub(crate) fn begin(now: Instant) -> Self {
        Self { until: now + SHUTDOWN_READ_LIMIT, bytes: 0 }
    }

    /// Something came that is judged.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// When it is over in any case.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// True when it is over whatever may still come.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.until || self.bytes >= SHUTDOWN_READ_BYTES_MAX
    }
}

/// Returns when nothing whole has come: to be waited for beside the reading, and anew after whatever else
/// happens. Counted from here and not from what came last, so that a machine which is slow to get here
/// does not take what is in the socket for silence. It is silence only where the reader is between two
/// messages: a large one takes its time, and a solution may be behind it.
pub(crate) async fn nothing_comes() {
    sleep(SHUTDOWN_READ_QUIET).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_after_so_long_or_so_much() {
        let start = Instant::now();
        let mut draining = Draining::begin(start);
        assert!(!draining.is_over(start) && draining.is_over(draining.until()));
        draining.received(SHUTDOWN_READ_BYTES_MAX - 1);
        assert!(!draining.is_over(start));
        draining.received(1);
        assert!(draining.is_over(start));
    }
}
