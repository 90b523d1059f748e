//! Every bound of a mining session, with its unit.

use std::time::Duration;

/// A connection has this long for SetupConnection (SV2 3.6.1) or `mining.subscribe` and
/// `mining.authorize`.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection has this long from there to its first channel (SV2 5.3.2). Long: a proxy and the
/// reference client connect when they start, and open a channel when their first miner comes; once
/// cut off, the latter does not come back.
pub const FIRST_CHANNEL_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes of a full extranonce at most (SV2 5.1.2.1).
pub const EXTRANONCE_BYTES_MAX: usize = 32;

/// Bytes of the extranonce that no two channels share: four of the server's start and four of the
/// channel.
pub const EXTRANONCE_PREFIX_BYTES: usize = 8;

/// Bytes that an extended channel rolls at least; it gets what it asks for beyond that, and no more,
/// for each of its shares carries all of them. Who divides them among others asks for that: the
/// reference client for 10. Four last a device that rolls nothing else for 10^19 hashes.
pub const EXTRANONCE_ROLLED_BYTES_MIN: usize = 4;

/// Bytes that an extended channel may ask for.
pub const EXTRANONCE_ROLLED_BYTES_MAX: usize = EXTRANONCE_BYTES_MAX - EXTRANONCE_PREFIX_BYTES;

/// Bytes of a user identity (STR0_255).
pub const USER_IDENTITY_BYTES_MAX: usize = 255;

/// Jobs of the pool that a channel keeps; stale ones go first. A proxy's channel gets one with each
/// miner that comes or goes, and a share or a block on any of them is on its way. Jobs on the same
/// template share its coinbase: each takes less than 1 kB.
pub const POOL_JOBS_PER_CHANNEL_MAX: usize = 128;

/// Jobs that a miner chose and a channel keeps, stale ones included. The reference client sets each of
/// its jobs anew for every miner behind it.
pub const CUSTOM_JOBS_PER_CHANNEL_MAX: usize = 4_096;

/// Bytes that the jobs of a channel may hold. A job that is set again takes less than one of them.
pub const JOB_BYTES_PER_CHANNEL_MAX: usize = 4 << 20;

/// Bytes that the jobs which miners chose may hold on all channels together, beside
/// [`CUSTOM_JOB_BYTES_ALLOWED`] of each; from three quarters on those channels that hold more than an equal
/// part give up their oldest.
pub const CUSTOM_JOB_BYTES_TOTAL_MAX: usize = 256 << 20;

/// Bytes of such jobs that a channel may hold whatever others do: some jobs of a usual coinbase.
pub const CUSTOM_JOB_BYTES_ALLOWED: usize = 16 << 10;

/// Channels of a connection that chooses its work. The reference client has one.
pub const CUSTOM_CHANNELS_PER_CONNECTION_MAX: usize = 8;

/// A stale job is kept this long: a block on it may still come in.
pub const STALE_JOB_KEPT: Duration = Duration::from_secs(120);

/// Hashes of accepted shares kept of a channel and a tip. At six shares a minute they last for two
/// weeks on one block.
pub const SHARES_SEEN_MAX: usize = 1 << 17;

/// Tips of which accepted shares are remembered: chains come back.
pub const SHARES_SEEN_TIPS_MAX: usize = 3;

/// Hashes of accepted shares on jobs that are mined elsewhere, kept of a tip: about 75 MB. At a block
/// every ten minutes that is 6,000 shares a second.
pub const OUTSIDE_SHARES_SEEN_MAX: usize = 3_600_000;

/// Hashes of blocks kept of a channel, so that none is found twice.
pub const BLOCKS_FOUND_MAX: usize = 256;

/// A share's nTime may be this many seconds ahead of our clock (consensus).
pub const NTIME_AHEAD_MAX_S: u32 = channels_sv2::MAX_FUTURE_BLOCK_TIME;

/// An accepted share is acknowledged after this long, full batch or not.
pub const ACKNOWLEDGE_AFTER: Duration = Duration::from_secs(60);

/// A job is given anew after this long: others count its age from `min_ntime`.
pub const JOB_AGE_MAX: Duration = Duration::from_secs(50 * 60);

/// Time between two looks at a channel's rate of shares.
pub const VARDIFF_INTERVAL: Duration = Duration::from_secs(15);

/// Worker names of one connection that are kept ready (extension 0x0002).
pub const WORKERS_PER_CONNECTION_MAX: usize = 256;

/// Names that one Stratum V1 connection may authorize.
pub const SV1_WORKERS_MAX: usize = 256;

/// Bytes of the extranonce that a Stratum V1 miner rolls. Hardware and proxies know 4 to 8.
pub const SV1_EXTRANONCE2_BYTES: usize = 8;

/// Requests without use (unknown methods, wrong fields, refused names) that a Stratum V1 client may
/// send in [`SV1_FAULTS_WINDOW`]. Refused shares do not count.
pub const SV1_FAULTS_MAX: u32 = 64;

/// See [`SV1_FAULTS_MAX`].
pub const SV1_FAULTS_WINDOW: Duration = Duration::from_secs(60);

/// A Stratum V1 miner may suggest another difficulty after this long.
pub const SV1_SUGGEST_INTERVAL: Duration = Duration::from_secs(60);
