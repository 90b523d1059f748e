//! Who declares and mines: a user, and one of its workers. The one place that takes an identity apart,
//! so that what is declared, mined, recorded and paid is about the same user.
//!
//! An identity is what a client sends as `user_identifier`, `user_identity`, or user name of Stratum V1:
//! `USER` or `USER.WORKER`. The first dot divides; a worker may have further ones. Where there is nothing
//! before it the user is [`ANONYMOUS`].

use std::sync::Arc;

/// The user in an identity that names none (empty, or `.WORKER`). In a pool such a
/// miner mines all the same, as elsewhere: all of them are one user. Where the user has to be an address,
/// this is none.
pub const ANONYMOUS: &str = "anonymous";

/// An identity taken apart, printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Up to the first dot; [`ANONYMOUS`] when there is nothing.
    pub user: Arc<str>,
    /// After it; empty when there is none.
    pub worker: Arc<str>,
}

impl Identity {
    /// Takes an identity apart.
    pub fn of(identity: &str) -> Self {
        let (_, worker) = identity.split_once('.').unwrap_or((identity, ""));
        Self { user: printable(user_of(identity)), worker: printable(worker) }
    }

    /// As [`Self::of`], of bytes that need not be text.
    pub fn of_bytes(identity: &[u8]) -> Self {
        // What is no text does not take a dot with it, and becomes none.
        Self::of(&String::from_utf8_lossy(identity))
    }
}

/// The user in an identity, as it was sent; [`ANONYMOUS`] when it names none.
pub fn user_of(identity: &str) -> &str {
    match identity.split('.').next() {
        None | Some("") => ANONYMOUS,
        Some(user) => user,
    }
}

/// As [`user_of`], of bytes that need not be text.
pub fn user_of_bytes(identity: &[u8]) -> &[u8] {
    match identity.split(|byte| *byte == b'.').next() {
        None | Some(b"") => ANONYMOUS.as_bytes(),
        Some(user) => user,
    }
}

/// As text without control characters; different text stays different.
pub fn printable(text: &str) -> Arc<str> {
    text.escape_debug().to_string().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_dot_divides() {
        let parts = |identity| {
            let Identity { user, worker } = Identity::of(identity);
            (user.to_string(), worker.to_string())
        };
        assert_eq!(parts("alice.rig.1"), ("alice".into(), "rig.1".into()));
        assert_eq!(parts("alice"), ("alice".into(), String::new()));
        assert_eq!(parts("alice."), ("alice".into(), String::new()));
    }

    #[test]
    fn who_names_no_user_is_anonymous() {
        for (identity, worker) in
            [("", ""), (".", ""), (".rig", "rig"), ("..", "."), ("..rig", ".rig")]
        {
            let Identity { user, worker: named } = Identity::of(identity);
            assert_eq!((&*user, &*named), (ANONYMOUS, worker), "{identity:?}");
            assert_eq!(
                (user_of(identity), Identity::of_bytes(identity.as_bytes()).user),
                (ANONYMOUS, user)
            );
        }
        assert_eq!(&*Identity::of(" ").user, " ", "a blank is a name");
    }

    #[test]
    fn what_does_not_print_is_written_out() {
        assert_eq!(&*printable("a\nb\\\u{e9}"), "a\\nb\\\\\u{e9}");
        assert_ne!(printable("\\n"), printable("\n"));
    }

    proptest! {
        /// However an identity comes, its user is the same.
        #[test]
        fn all_ways_give_the_same_user(bytes in proptest::collection::vec(
            prop_oneof![Just(b'.'), Just(b'\n'), Just(0xc3), Just(0xff), any::<u8>()], 0..20))
        {
            let user = user_of_bytes(&bytes);
            let identity = Identity::of_bytes(&bytes);
            prop_assert_eq!(&identity.user, &Identity::of_bytes(user).user);
            prop_assert_eq!(&*Identity::of_bytes(user).worker, "");
            if let Ok(text) = std::str::from_utf8(&bytes) {
                prop_assert_eq!(user_of(text).as_bytes(), user);
                // What is printed is taken apart as what was sent.
                let printed = printable(text);
                prop_assert_eq!(user_of(&printed), &*identity.user);
            }
        }
    }
}
