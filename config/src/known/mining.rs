//! The keys of `[mining]`.

use super::{Key, Kind, Need, key};

pub(super) const MINING: &[Key] = &[
    key(
        "listen",
        Kind::Text,
        Need::Default("\"0.0.0.0:3334\""),
        "IP address and TCP port for Stratum V2 miners, encrypted; off for none.",
    ),
    key(
        "sv1_listen",
        Kind::Text,
        Need::Default("\"0.0.0.0:3333\""),
        "IP address and TCP port for Stratum V1 miners, which is plain text; off for none.",
    ),
    key(
        "shares_per_minute",
        Kind::Number { min: 0.1, max: 600.0 },
        Need::Default("6.0"),
        "Shares that each channel is to send: its difficulty follows its hashrate.",
    )
    .unit("shares per minute"),
    key(
        "share_batch_size",
        Kind::Integer { min: 1, max: 1_000 },
        Need::Default("10"),
        "Accepted shares that one SubmitShares.Success acknowledges together at most. Stratum V1 \
         answers each.",
    )
    .unit("shares"),
    key(
        "min_hashrate_ths",
        Kind::Number { min: 0.000_000_000_000_001, max: 1_000_000.0 },
        Need::Default("1.0"),
        "No channel gets a lower difficulty than a miner of this hashrate would: what is slower \
         sends fewer shares. 1 suits a home miner; a miner on a processor needs 0.000001.",
    )
    .unit("terahashes per second"),
    key(
        "sv1_start_hashrate_ths",
        Kind::Number { min: 0.000_000_000_000_001, max: 1_000_000.0 },
        Need::Default("1.0"),
        "What a Stratum V1 miner is taken for until its shares tell its hashrate: that protocol \
         does not say it.",
    )
    .unit("terahashes per second"),
    key(
        "pool_tag",
        Kind::Text,
        Need::Default("\"jds\""),
        "Text in the coinbase of the pool's own jobs, 0 to 16 printable ASCII characters without /.",
    ),
    key(
        "fee_threshold_sat",
        Kind::Integer { min: 1, max: 100_000_000 },
        Need::Default("10000"),
        "On an unchanged tip miners get a new job when its fees are higher by this much than those \
         of the last one.",
    )
    .unit("satoshi"),
    key(
        "min_interval_ms",
        Kind::Integer { min: 100, max: 600_000 },
        Need::Default("30000"),
        "And not more often than this. A new tip is always told at once.",
    )
    .unit("milliseconds"),
    key(
        "max_connections",
        Kind::Integer { min: 1, max: 100_000 },
        Need::Default("10000"),
        "Connections at once on each of the two ports; a further one is refused. Each needs a file \
         descriptor, as those of job_declaration do.",
    )
    .unit("connections"),
    key(
        "max_channels_per_connection",
        Kind::Integer { min: 1, max: 65_535 },
        Need::Default("1024"),
        "Channels on one Stratum V2 connection: a proxy may have one for each of its miners.",
    )
    .unit("channels"),
];
