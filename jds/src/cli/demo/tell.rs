//! The story, line by line.

use std::time::Instant;

/// Tells numbered steps with their times.
pub(super) struct Teller {
    start: Instant,
    steps: u32,
}

impl Teller {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), steps: 0 }
    }

    /// Something that was done since `start`.
    pub(super) fn step(&mut self, start: Instant, what: impl AsRef<str>) {
        self.steps += 1;
        let seconds = start.elapsed().as_secs_f64();
        println!("{:>2}. [{seconds:>7.3} s] {}", self.steps, what.as_ref());
    }

    /// Something to know.
    pub(super) fn say(&self, what: impl AsRef<str>) {
        println!("    {}", what.as_ref());
    }

    /// The end.
    pub(super) fn end(&self, what: impl AsRef<str>) {
        println!("ok: {} ({:.1} s in all)", what.as_ref(), self.start.elapsed().as_secs_f64());
    }
}
