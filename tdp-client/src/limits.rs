//! Every bound of this crate, with its unit.

/// Former tips whose rules are kept for solutions that arrive late, count.
pub const TIPS_KEPT_MAX: usize = 64;

/// How long one server-side wait for a new block lasts at most, milliseconds.
///
/// The node ends the wait itself, also for a caller that went away, so abandoned waits occupy at
/// most one of its RPC workers for this long.
pub const TIP_LONG_POLL_MS: u64 = 5_000;

/// The same for nodes that can not be told which tip we know (before Core 30), milliseconds.
/// Shorter, because a block between two waits is then noticed only at the end of the second.
pub const TIP_LONG_POLL_BLIND_MS: u64 = 1_000;

/// Pause between two looks at the tip where the node refuses server-side waits, milliseconds.
pub const TIP_POLL_MS: u64 = 500;

/// Pause between two looks at a node that still syncs, milliseconds.
pub const SYNC_POLL_MS: u64 = 1_000;

/// How often the pace of a download is noted down, milliseconds; before the second note there is
/// no estimate.
pub const SYNC_PACE_SAMPLE_MS: u64 = 10_000;

/// Such notes that are kept, count: those of ten minutes.
pub const SYNC_PACE_SAMPLES_MAX: usize = 60;

/// How often the progress of a download is logged at least, milliseconds.
pub const SYNC_LOG_MS: u64 = 300_000;

/// Pause between two looks whether the mempool changed, milliseconds.
pub const MEMPOOL_POLL_MS: u64 = 1_000;

/// Least time between two templates on the same tip, milliseconds.
///
/// The node itself builds a new one for RPC only when the last is more than five full seconds
/// old, so asking more often brings the same template again.
pub const TEMPLATE_REFRESH_MS: u64 = 6_000;

/// The same over IPC, where the node builds a new one whenever it is asked, milliseconds.
pub const TEMPLATE_REFRESH_IPC_MS: u64 = 2_000;

/// How long a node that has left us, and still runs, is not connected to again, milliseconds. It is
/// about to end, and a connection that it takes while ending can keep it from that.
pub const IPC_LEFT_PAUSE_MS: u64 = 60_000;

/// The same where the system does not tell which process it is, milliseconds.
pub const IPC_LEFT_BLIND_PAUSE_MS: u64 = 5_000;

/// Calls over the IPC of one node that wait to be sent, count. Each caller has one at most.
pub const IPC_CALLS_MAX: usize = 16;

/// A template older than this is fetched again even if the mempool looks unchanged, milliseconds:
/// priorities that the operator gives by hand change the template only.
pub const TEMPLATE_AGE_MAX_MS: u64 = 60_000;

/// Time-out of opening a connection, milliseconds.
pub const CONNECT_TIMEOUT_MS: u64 = 5_000;

/// Time-out of ordinary calls, milliseconds.
pub const CALL_TIMEOUT_MS: u64 = 10_000;

/// Time-out of a single question of [`crate::Probe`], milliseconds: somebody waits for it.
pub const PROBE_TIMEOUT_MS: u64 = 5_000;

/// The same for a template, which takes small machines seconds, milliseconds.
pub const PROBE_TEMPLATE_TIMEOUT_MS: u64 = 15_000;

/// Time-out of `getblocktemplate`, milliseconds: small machines need seconds for a full block.
pub const TEMPLATE_TIMEOUT_MS: u64 = 30_000;

/// Time-out of a block proposal, milliseconds.
pub const PROPOSAL_TIMEOUT_MS: u64 = 60_000;

/// Time-out of a block submission, milliseconds.
pub const SUBMIT_TIMEOUT_MS: u64 = 60_000;

/// First pause before connecting again, milliseconds; it doubles up to the next constant.
pub const BACKOFF_MIN_MS: u64 = 50;

/// Longest pause before connecting again, milliseconds.
pub const BACKOFF_MAX_MS: u64 = 5_000;

/// Pause before asking again a node that is starting, milliseconds: it says so in no time, and
/// being there when it is done matters.
pub const STARTING_POLL_MS: u64 = 250;

/// Threads that submit blocks, each on a connection of its own, count.
pub const SUBMIT_THREADS: usize = 2;

/// Submissions that may wait for one of those threads, count.
pub const SUBMIT_QUEUE_MAX: usize = 16;

/// Proposals that may wait for the one that runs, count.
pub const PROPOSAL_QUEUE_MAX: usize = 16;

/// Questions about blocks that may wait, count.
pub const ASK_QUEUE_MAX: usize = 64;

/// Questions for transactions that may wait for the one that runs, count.
pub const LOOKUP_QUEUE_MAX: usize = 4;

/// Transactions that one such question asks for, count.
pub const LOOKUP_TXS_MAX: usize = 1_024;

/// Those that one call asks for, count: the answer stays below the 64 MB that the client of Cap'n Proto
/// takes, however large they are.
pub const LOOKUP_BATCH_TXS: usize = 15;

/// Bytes after which no more are asked for: no block holds as much.
pub const LOOKUP_BYTES_MAX: usize = 4_000_000;

/// Head of an HTTP answer, bytes.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Body of an HTTP answer, bytes. A template of 16,000 tiny transactions stays below 16 MB.
pub const HTTP_BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A cookie file, bytes.
pub const COOKIE_BYTES_MAX: u64 = 4 * 1024;

/// Error text from a node that we keep, bytes.
pub const NODE_TEXT_BYTES_MAX: usize = 512;

/// Future templates of a provider that wait for their block, count; the oldest goes.
pub const PROVIDER_FUTURES_MAX: usize = 8;

/// Hashes beside the coinbase's path in the tree of a block, count: 2^15 leaves are more than the
/// 16,665 transactions that a block has room for.
pub const PROVIDER_MERKLE_PATH_MAX: usize = 15;

/// Outputs that a provider adds to the coinbase, count. Bitcoin Core adds one.
pub const PROVIDER_OUTPUTS_MAX: usize = 64;

/// How far a provider's clock may be ahead of ours, seconds: what consensus allows a block, and some
/// minutes.
pub const PROVIDER_CLOCK_AHEAD_SECS: u32 = 2 * 3_600 + 600;

/// Room in the coinbase that a provider is asked for as long as nobody needs more, bytes: what the
/// least reservation of Bitcoin Core has room for anyway.
pub const PROVIDER_COINBASE_BYTES: u32 = 208;

/// The same in sigop cost: a block has room for 80,000, which transactions that pay never fill.
pub const PROVIDER_COINBASE_SIGOPS: u16 = 1_000;

/// The most that a provider is asked to leave in the coinbase, bytes: about 300 outputs, a hundredth
/// of the block. One client that wants more must not empty the templates of all.
pub const PROVIDER_COINBASE_BYTES_MAX: u32 = 10_000;

/// The same in sigop cost.
pub const PROVIDER_COINBASE_SIGOPS_MAX: u16 = 4_000;

/// Time-out of connecting to a provider, of the handshake, of set-up and of each write,
/// milliseconds.
pub const PROVIDER_ANSWER_TIMEOUT_MS: u64 = 5_000;

/// A provider that has said nothing for so long is asked for a sign of life, milliseconds.
pub const PROVIDER_SILENCE_MS: u64 = 10_000;

/// How long the sign of life, or the next bytes of transactions that are on their way, may take,
/// milliseconds.
pub const PROVIDER_SIGN_OF_LIFE_MS: u64 = 10_000;

/// How long the transactions of a template, or a sign of life that drips, may take in all,
/// milliseconds.
pub const PROVIDER_DATA_TIMEOUT_MS: u64 = 60_000;

/// How long a provider that is connected may have no template before that is called its state,
/// milliseconds.
pub const PROVIDER_FIRST_TEMPLATE_MS: u64 = 5_000;

/// Solutions that may wait for the connection to a provider, count.
pub const PROVIDER_SOLUTIONS_QUEUED_MAX: usize = 16;

/// How long a solution is sent again on each new connection, milliseconds: nobody tells whether it
/// arrived.
pub const PROVIDER_SOLUTION_KEPT_MS: u64 = 120_000;

/// A connection to a provider that lasted so long counts as a good one: the pause before the next
/// is short again, milliseconds.
pub const PROVIDER_LASTING_MS: u64 = 10_000;

/// Tips that a provider may tell within [`PROVIDER_TIPS_MS`], count. Only private chains come near.
pub const PROVIDER_TIPS_MAX: usize = 200;

/// See [`PROVIDER_TIPS_MAX`], milliseconds.
pub const PROVIDER_TIPS_MS: u64 = 10_000;
