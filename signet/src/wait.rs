//! Waiting on conditions: never a fixed sleep, always a deadline and a name for what is awaited.

use std::time::{Duration, Instant};

/// Pause between two looks at the condition.
pub const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The condition did not come true in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("waited {} ms for {what}: it did not happen", waited.as_millis())]
pub struct WaitError {
    /// What was waited for, as a phrase: "the node to answer".
    pub what: String,
    /// How long was waited.
    pub waited: Duration,
}

/// Asks `condition` until it yields a value, at most for `deadline`.
///
/// The condition is looked at once more after the deadline has passed, so that a slow machine
/// that was not scheduled in between does not fail.
///
/// # Errors
/// [`WaitError`] names `what`, and for how long it was waited for.
pub fn until<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T, WaitError> {
    let start = Instant::now();
    loop {
        let last_look = start.elapsed() >= deadline;
        if let Some(value) = condition() {
            return Ok(value);
        }
        if last_look {
            return Err(WaitError { what: what.to_owned(), waited: start.elapsed() });
        }
        std::thread::park_timeout(POLL_INTERVAL);
    }
}

/// [`until`] for a plain yes or no.
///
/// # Errors
/// As [`until`].
pub fn until_true(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<(), WaitError> {
    until(what, deadline, || condition().then_some(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yields_the_value_when_the_condition_comes_true() {
        let mut looks = 0;
        let value = until("three looks", Duration::from_secs(10), || {
            looks += 1;
            (looks == 3).then_some("seen")
        });
        assert_eq!(value, Ok("seen"));
        assert_eq!(looks, 3);
    }

    #[test]
    fn the_error_names_what_was_awaited_and_how_long() {
        let deadline = Duration::from_millis(20);
        let error = until_true("a flag that nobody sets", deadline, || false).unwrap_err();
        assert!(error.waited >= deadline, "{error:?}");
        let text = error.to_string();
        assert!(text.contains("a flag that nobody sets"), "{text}");
        assert!(text.contains(" ms "), "{text}");
    }
}
