//! The keys of `[user_check]`.

use super::{Key, Kind, Need, key};

/// Bound of `users`, entries; more of them belong into a file.
const USERS_MAX: usize = 1_000;

pub(super) const USER_CHECK: &[Key] = &[
    key(
        "mode",
        Kind::Choice(&["allow-all", "list", "callback"]),
        Need::Default("\"allow-all\""),
        "allow-all asks nobody; list takes the users that are named here; callback asks url once for \
         each user and remembers the answer.",
    ),
    key(
        "users",
        Kind::Texts { what: "user names", max: USERS_MAX },
        Need::Optional("those of users_file alone"),
        "With list: who may mine and declare, each up to the first dot of what the miner sends.",
    )
    .example("[\"alice\", \"bob\"]"),
    key(
        "users_file",
        Kind::Path,
        Need::Optional("those of users alone"),
        "With list: a file with more of them, one a line; lines that begin with # are comments. It is \
         read at the start.",
    )
    .example("\"users.txt\""),
    key(
        "url",
        Kind::Text,
        Need::Optional("nobody is asked"),
        "With callback: where the question is posted, {\"user\": NAME}. The answer is 200 with \
         {\"allowed\": true} or {\"allowed\": false}; anything else counts as down.",
    )
    .example("\"http://127.0.0.1:8080/may-mine\""),
    key(
        "check_token_file",
        Kind::Path,
        Need::Optional("the question has no token"),
        "With callback: a file with the bearer token that is sent along, which not everybody can \
         read.",
    )
    .example("\"user-check.token\""),
    key(
        "timeout_ms",
        Kind::Integer { min: 50, max: 5_000 },
        Need::Default("2000"),
        "With callback: how long a user who is not known yet waits for the answer at most.",
    )
    .unit("milliseconds"),
    key(
        "cache_seconds",
        Kind::Integer { min: 1, max: 86_400 },
        Need::Default("300"),
        "With callback: how old an answer may be before it is asked for again. A user who was allowed \
         does not wait for that.",
    )
    .unit("seconds"),
    key(
        "when_down",
        Kind::Choice(&["allow", "deny"]),
        Need::Default("\"deny\""),
        "With callback: what counts for a user of whom no answer is known, not even an old one, while \
         url does not answer.",
    ),
];
