//! What a person sees while Bitcoin Core is fetched or built.

use std::io::Write;
use std::time::{Duration, Instant};

/// Time between two figures, or two lines, of the same work.
const INTERVAL: Duration = Duration::from_secs(2);

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

/// Lets figures and lines through at a bounded rate, and always the last figure.
pub(super) struct Paced<'a> {
    to: &'a mut dyn Progress,
    started: Instant,
    last: Option<Instant>,
}

impl<'a> Paced<'a> {
    pub(super) fn new(to: &'a mut dyn Progress) -> Self {
        Self { to, started: Instant::now(), last: None }
    }

    fn is_due(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= INTERVAL)
    }

    pub(super) fn figure(&mut self, done: u64, total: u64, unit: &str) {
        if self.is_due() || done == total {
            self.last = Some(Instant::now());
            self.to.figure(done, total, unit);
        }
    }

    /// A line of a program at work, with the time since it began.
    pub(super) fn line(&mut self, line: &str) {
        if self.is_due() {
            self.last = Some(Instant::now());
            self.say(line);
        }
    }

    /// The same for a line that is always shown.
    pub(super) fn say(&mut self, line: &str) {
        self.to.say(&format!("  {:>3} s  {line}", self.started.elapsed().as_secs()));
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
