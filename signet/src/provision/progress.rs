//! What a person sees while Bitcoin Core is fetched or built.

use std::io::Write;
use std::time::{Duration, Instant};

/// Time between two figures of the same work.
const FIGURE_INTERVAL: Duration = Duration::from_secs(2);

/// Told what happens. Called from the installing thread, rarely enough to print every call.
pub trait Progress {
    /// A step begins, or has something to say: one line.
    fn say(&mut self, line: &str);

    /// `done` of `total` of something, named by `unit` ("MB", "steps").
    fn figure(&mut self, done: u64, total: u64, unit: &str);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn say(&mut self, _line: &str) {}
    fn figure(&mut self, _done: u64, _total: u64, _unit: &str) {}
}

/// Writes one line for everything, such as to standard error.
#[derive(Debug)]
pub struct Lines<W>(pub W);

impl<W: Write> Progress for Lines<W> {
    fn say(&mut self, line: &str) {
        let _ = writeln!(self.0, "{line}");
    }

    fn figure(&mut self, done: u64, total: u64, unit: &str) {
        let percent = (done * 100).checked_div(total).unwrap_or(0);
        let _ = writeln!(self.0, "  {done} of {total} {unit} ({percent} %)");
    }
}

/// Lets figures through at a bounded rate, and always the last.
pub(super) struct Paced<'a> {
    to: &'a mut dyn Progress,
    last: Option<Instant>,
}

impl<'a> Paced<'a> {
    pub(super) fn new(to: &'a mut dyn Progress) -> Self {
        Self { to, last: None }
    }

    pub(super) fn figure(&mut self, done: u64, total: u64, unit: &str) {
        let due = self.last.is_none_or(|last| last.elapsed() >= FIGURE_INTERVAL);
        if due || done == total {
            self.last = Some(Instant::now());
            self.to.figure(done, total, unit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_first_last_and_not_in_between() {
        let mut out = Lines(Vec::new());
        let mut paced = Paced::new(&mut out);
        for done in 1..=1_000 {
            paced.figure(done, 1_000, "steps");
        }
        let text = String::from_utf8(out.0).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines, ["  1 of 1000 steps (0 %)", "  1000 of 1000 steps (100 %)"]);
    }
}
