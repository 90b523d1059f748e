//! Who mines: a user, and one of its workers.

use std::sync::Arc;

/// A user identity taken apart (`USER[.WORKER]`), printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Up to the first dot.
    pub user: Arc<str>,
    /// After it; empty when there is none.
    pub worker: Arc<str>,
}

impl Identity {
    /// Takes an identity apart.
    pub fn of(identity: &str) -> Self {
        let (user, worker) = identity.split_once('.').unwrap_or((identity, ""));
        Self { user: printable(user), worker: printable(worker) }
    }
}

/// As text without control characters; different text stays different.
pub fn printable(text: &str) -> Arc<str> {
    text.escape_debug().to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_dot_divides() {
        let parts = |identity| {
            let Identity { user, worker } = Identity::of(identity);
            (user.to_string(), worker.to_string())
        };
        assert_eq!(parts("alice.rig.1"), ("alice".into(), "rig.1".into()));
        assert_eq!(parts("alice"), ("alice".into(), String::new()));
        assert_eq!(parts(""), (String::new(), String::new()));
    }

    #[test]
    fn what_does_not_print_is_written_out() {
        assert_eq!(&*printable("a\nb\\\u{e9}"), "a\\nb\\\\\u{e9}");
        assert_ne!(printable("\\n"), printable("\n"));
    }
}
