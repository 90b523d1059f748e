//! The keys of `[store]`, `[events]` and `[api]`: what is kept, and who reads it.

use super::{Key, Kind, MEGABYTES, Need, key};

/// Ten years, days.
const DAYS_MAX: i64 = 3_650;

/// Bound of `webhook_allow`, entries.
const WEBHOOK_ALLOW_MAX: usize = 64;

/// Bound of `hosts`, entries.
const HOSTS_MAX: usize = 16;

/// Keys whose receipts are honoured beside those of the present one.
const RETIRED_KEYS_MAX: usize = 16;

/// Bound of what is kept of one table, megabytes.
const KEPT_MB_MAX: i64 = 1_000_000;

pub(super) const STORE: &[Key] = &[
    key(
        "stall_ms",
        Kind::Integer { min: 100, max: 60_000 },
        Need::Default("2000"),
        "How long an answer waits for a disk that fails. Then it is given all the same and noted \
         as volatile: a crash before the disk is back would forget what it tells of.",
    )
    .unit("milliseconds"),
    key(
        "database_mb_max",
        Kind::Integer { min: 0, max: 1_000_000 },
        Need::Default("0"),
        "Bound of the database file; 0 for none. A fuse, no retention: above it the server behaves \
         as on a full disk.",
    )
    .unit(MEGABYTES),
    key(
        "events_days",
        Kind::Integer { min: 1, max: DAYS_MAX },
        Need::Default("30"),
        "How long events are kept. A reader that stays away for longer misses some, and is told.",
    )
    .unit("days"),
    key(
        "events_mb",
        Kind::Integer { min: 1, max: KEPT_MB_MAX },
        Need::Default("256"),
        "How much of events is kept, a few thousand to a megabyte.",
    )
    .unit(MEGABYTES),
    key(
        "templates_days",
        Kind::Integer { min: 1, max: DAYS_MAX },
        Need::Default("30"),
        "How long declared templates are kept, the accepted ones without their transactions. \
         Rejected ones go after 7 days at the latest, and above 32 megabytes.",
    )
    .unit("days"),
    key(
        "templates_mb",
        Kind::Integer { min: 1, max: KEPT_MB_MAX },
        Need::Default("64"),
        "How much of accepted templates is kept, without their transactions.",
    )
    .unit(MEGABYTES),
    key(
        "transactions_days",
        Kind::Integer { min: 1, max: DAYS_MAX },
        Need::Default("2"),
        "How long the transactions of an accepted template are kept. Mining needs them until the \
         next block only; no longer than templates_days in any case.",
    )
    .unit("days"),
    key(
        "transactions_mb",
        Kind::Integer { min: 1, max: KEPT_MB_MAX },
        Need::Default("512"),
        "How many transactions of accepted templates are kept, each once.",
    )
    .unit(MEGABYTES),
    key(
        "shares_days",
        Kind::Integer { min: 1, max: DAYS_MAX },
        Need::Default("7"),
        "How long shares are kept one by one.",
    )
    .unit("days"),
    key(
        "shares_mb",
        Kind::Integer { min: 1, max: KEPT_MB_MAX },
        Need::Default("256"),
        "How many shares are kept one by one, about 4,000 to a megabyte.",
    )
    .unit(MEGABYTES),
    key(
        "accounting_interval_seconds",
        Kind::Integer { min: 1, max: 3_600 },
        Need::Default("60"),
        "Accepted work is credited in intervals of this length at most; a pool reads an interval once \
         it is over.",
    )
    .unit("seconds"),
    key(
        "accounting_days",
        Kind::Integer { min: 1, max: DAYS_MAX },
        Need::Default("90"),
        "How long the intervals of the accounting feed are kept. A pool that does not read for longer \
         misses some, and is told.",
    )
    .unit("days"),
    key(
        "accounting_mb",
        Kind::Integer { min: 1, max: KEPT_MB_MAX },
        Need::Default("128"),
        "How much of the accounting feed is kept, about three thousand entries to a megabyte.",
    )
    .unit(MEGABYTES),
];

pub(super) const RECEIPTS: &[Key] = &[
    key(
        "key_file",
        Kind::Path,
        Need::Optional("the authority key signs"),
        "File with a secret key of its own for receipts, mode 600; `jds keygen --out FILE` makes \
         one. The authority key vouches for it.",
    )
    .example("\"receipts.key\""),
    key(
        "retired_keys",
        Kind::Texts { what: "public keys", max: RETIRED_KEYS_MAX },
        Need::Optional("only what the present key signed is honoured"),
        "Public keys, as `jds keygen` prints them, that signed before, or that other servers sign \
         with: receipts of theirs are honoured, and the keys published.",
    )
    .example("[\"9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72\"]"),
];

pub(super) const EVENTS: &[Key] = &[key(
    "source",
    Kind::Text,
    Need::Default("\"hosted\""),
    "What each event names as its source, so that a reader of several servers can tell them apart: \
     1 to 64 printable characters.",
)];

pub(super) const API: &[Key] = &[
    key(
        "listen",
        Kind::Text,
        Need::Default("\"127.0.0.1:9332\""),
        "IP address and TCP port to listen on. One that other machines can reach needs token_file.",
    ),
    key(
        "token_file",
        Kind::Path,
        Need::Optional("nothing can be changed through the API"),
        "File with the token that requests show (`Authorization: Bearer …`): 16 characters or more \
         on one line, in a file that not everybody can read.",
    )
    .example("\"api.token\""),
    key(
        "read_token_file",
        Kind::Path,
        Need::Optional("readers need the token of token_file"),
        "File with a token that may read and change nothing, for an API that other machines can \
         reach. On loopback reads need no token.",
    )
    .example("\"api-read.token\""),
    key(
        "open_reads",
        Kind::Bool,
        Need::Default("false"),
        "true: reads need no token on an address that other machines can reach either. Events name \
         users and their addresses.",
    ),
    key(
        "hosts",
        Kind::Texts { what: "host names", max: HOSTS_MAX },
        Need::Optional("only the names of loopback"),
        "Names under which an API on loopback may be asked besides localhost, 127.0.0.1 and [::1]: \
         what a reverse proxy in front of it hands on as Host, without a port.",
    )
    .example("[\"jds.example.org\"]"),
    key(
        "webhook_allow",
        Kind::Texts { what: "IP addresses or ranges", max: WEBHOOK_ALLOW_MAX },
        Need::Optional("webhooks reach public addresses only"),
        "Private addresses that webhooks may reach all the same. The nodes are never reached.",
    )
    .example("[\"192.168.1.10\", \"10.8.0.0/16\"]"),
];
