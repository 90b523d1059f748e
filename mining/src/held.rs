//! What the miners' own jobs take of memory, on all channels of the server together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::{CUSTOM_JOB_BYTES_ALLOWED, CUSTOM_JOB_BYTES_TOTAL_MAX};

/// Bytes of the custom jobs of all channels. Clones count together.
///
/// Where there is no room, no channel takes on a job above [`CUSTOM_JOB_BYTES_ALLOWED`]. Before that, once
/// three quarters are held, each channel that holds more than an equal part of them gives up its oldest
/// jobs at its next look at itself: nobody who holds little pays for those who hold much.
#[derive(Debug, Clone)]
pub struct JobBytes(Arc<Sum>);

#[derive(Debug)]
struct Sum {
    max: usize,
    bytes: AtomicUsize,
    /// Channels that hold some of them.
    channels: AtomicUsize,
}

impl Default for JobBytes {
    fn default() -> Self {
        Self::with_max(CUSTOM_JOB_BYTES_TOTAL_MAX)
    }
}

impl JobBytes {
    /// At most about so many bytes.
    pub fn with_max(max: usize) -> Self {
        Self(Arc::new(Sum { max, bytes: AtomicUsize::new(0), channels: AtomicUsize::new(0) }))
    }

    /// Bytes that are held now.
    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// A channel's part, which is nothing yet.
    pub(crate) fn part(&self) -> Held {
        Held { all: self.clone(), own: 0 }
    }

    /// Above this channels give up what is more than their part.
    fn most(&self) -> usize {
        self.0.max / 4 * 3
    }

    /// A channel's part of that, with one for whoever holds nothing yet.
    fn equal_part(&self) -> usize {
        let channels = self.0.channels.load(Ordering::Relaxed);
        CUSTOM_JOB_BYTES_ALLOWED.max(self.most() / (channels + 1))
    }
}

/// What one channel holds.
#[derive(Debug)]
pub(crate) struct Held {
    all: JobBytes,
    own: usize,
}

impl Held {
    /// True when a job of so many bytes has no place, even if the channel gives up all others. `beside`:
    /// bytes that other channels are about to take.
    pub(crate) fn has_no_room_for(&self, bytes: usize, beside: usize) -> bool {
        let others = self.all.bytes().saturating_sub(self.own) + beside;
        bytes > CUSTOM_JOB_BYTES_ALLOWED && others + bytes > self.all.0.max
    }

    /// True when the channel has to give something up.
    pub(crate) fn is_too_much(&self) -> bool {
        self.all.bytes() > self.all.most() && self.own > self.all.equal_part()
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.set(self.own + bytes);
    }

    pub(crate) fn remove(&mut self, bytes: usize) {
        self.set(self.own.saturating_sub(bytes));
    }

    fn set(&mut self, bytes: usize) {
        let Sum { bytes: sum, channels, .. } = &*self.all.0;
        // Wraps around for what shrinks, which is what a subtraction is.
        sum.fetch_add(bytes.wrapping_sub(self.own), Ordering::Relaxed);
        let (before, now) = (usize::from(self.own > 0), usize::from(bytes > 0));
        channels.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        self.own = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: usize = 4 * CUSTOM_JOB_BYTES_ALLOWED;

    #[test]
    fn who_holds_more_than_an_equal_part_gives_up_and_nobody_else() {
        let all = JobBytes::with_max(4 * PART);
        let [mut much, mut little, mut new] = [(); 3].map(|()| all.part());
        much.add(2 * PART + PART / 2);
        little.add(PART / 2);
        assert!(!much.is_too_much(), "three quarters");
        much.add(1);
        assert!(much.is_too_much() && !little.is_too_much());
        assert!(new.has_no_room_for(PART, 0) && !new.has_no_room_for(PART - 1, 0));
        assert!(new.has_no_room_for(PART - 1, 1) && !new.has_no_room_for(PART - 2, 1));
        new.add(CUSTOM_JOB_BYTES_ALLOWED);
        assert!(much.is_too_much() && !little.is_too_much() && !new.is_too_much());
        much.remove(2 * PART);
        assert!(!much.is_too_much() && !new.has_no_room_for(PART, 0));
        drop((much, little));
        assert_eq!(all.bytes(), CUSTOM_JOB_BYTES_ALLOWED);
        new.remove(CUSTOM_JOB_BYTES_ALLOWED);
        assert_eq!((all.bytes(), all.0.channels.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_small_job_has_its_place_however_many_there_are() {
        let all = JobBytes::with_max(PART);
        let crowd: Vec<Held> = (0..100)
            .map(|_| {
                let mut part = all.part();
                part.add(CUSTOM_JOB_BYTES_ALLOWED);
                part
            })
            .collect();
        assert!(crowd.iter().all(|part| !part.is_too_much()));
        assert!(!all.part().has_no_room_for(CUSTOM_JOB_BYTES_ALLOWED, PART));
        assert!(all.part().has_no_room_for(CUSTOM_JOB_BYTES_ALLOWED + 1, 0));
    }
}
