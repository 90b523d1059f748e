//! A number of the moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The sum of all its parts. Clones are the same gauge.
#[derive(Debug, Clone, Default)]
pub struct Gauge {
    sum: Arc<AtomicU64>,
}

/// What one owner adds to a gauge; nothing any more when it is dropped.
#[derive(Debug)]
pub struct Part {
    sum: Arc<AtomicU64>,
    amount: u64,
}

impl Gauge {
    /// The sum.
    pub fn get(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// A part of this amount.
    pub fn part(&self, amount: u64) -> Part {
        self.sum.fetch_add(amount, Ordering::Relaxed);
        Part { sum: Arc::clone(&self.sum), amount }
    }
}

impl Part {
    /// Makes it another amount.
    pub fn set(&mut self, amount: u64) {
        // Wraps around for a part that shrinks, which is what a subtraction is.
        self.sum.fetch_add(amount.wrapping_sub(self.amount), Ordering::Relaxed);
        self.amount = amount;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_the_sum_of_the_parts_that_live() {
        let gauge = Gauge::default();
        let one = gauge.part(1);
        let mut other = gauge.clone().part(5);
        assert_eq!(gauge.get(), 6);
        other.set(2);
        assert_eq!(gauge.get(), 3);
        other.set(4);
        drop(one);
        assert_eq!(gauge.get(), 4);
        drop(other);
        assert_eq!(gauge.get(), 0);
    }
}
