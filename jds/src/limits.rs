//! Every bound of the server, each with its unit in its name.
//!
//! When a bound is reached the server stops reading that peer, refuses with a code, or drops the
//! oldest; nothing grows.

use std::time::Duration;

/// Time from accepting a socket to the end of the Noise handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(10_000);

/// Time from the end of the handshake to `SetupConnection`.
pub const SETUP_TIMEOUT: Duration = Duration::from_millis(10_000);

/// Time from `SetupConnection` to the first request: a peer that wants nothing gives its place to
/// another.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_millis(60_000);

/// Time from the header of a frame to its last byte, beside what [`FRAME_BYTES_PER_SECOND_MIN`]
/// gives for its size. Waiting for our own budget does not count.
pub const FRAME_TIMEOUT: Duration = Duration::from_millis(30_000);

/// Slowest line that a frame may come over, bytes per second.
pub const FRAME_BYTES_PER_SECOND_MIN: u64 = 64 * 1024;

/// Time for one frame of ours to leave for a peer that does not read.
pub const WRITE_TIMEOUT: Duration = Duration::from_millis(15_000);

/// Time for `ProvideMissingTransactions.Success` to come after we asked.
pub const MISSING_TXS_TIMEOUT: Duration = Duration::from_millis(60_000);

/// An answer that is late while the peer is sending is looked for again after this long, up to
/// [`FRAME_TIMEOUT`] and what [`FRAME_BYTES_PER_SECOND_MIN`] gives for the largest answer.
pub const MISSING_TXS_EXTENSION: Duration = Duration::from_millis(5_000);

/// Replies waiting to be written to one peer; a peer that lets more pile up is closed.
pub const REPLIES_QUEUED_PER_CONNECTION_MAX: usize = 64;

/// Declarations of one connection that are being validated or wait for something.
pub const DECLARATIONS_PENDING_PER_CONNECTION_MAX: usize = 8;

/// Solutions of one connection that are being looked at; more than that stops the reading.
pub const SOLUTIONS_PENDING_PER_CONNECTION_MAX: usize = 1;

/// Solutions of all connections that are being looked at or stand in line; one more waits with its
/// connection, so that nobody has more than one by connecting again and again.
pub const SOLUTIONS_QUEUED_MAX: usize = 256;

/// Solutions of one connection that may make no block before the next one has to wait.
pub const SOLUTIONS_WITHOUT_BLOCK_BURST: u32 = 16;

/// After that many, one more for each of these.
pub const SOLUTIONS_WITHOUT_BLOCK_INTERVAL: Duration = Duration::from_millis(500);

/// Threads that look at solutions, on a machine with few cores.
pub const SOLUTION_THREADS_MIN: usize = 2;

/// Threads that put the blocks of shares together.
pub const PROVEN_THREADS: usize = 2;

/// Solutions of one connection that are kept while declarations of it have no answer yet: they are
/// tried again on what is accepted then. The oldest goes first.
pub const SOLUTIONS_KEPT_PER_CONNECTION_MAX: usize = 4;

/// A solution is kept for that long.
pub const SOLUTION_KEPT: Duration = Duration::from_millis(60_000);

/// Accepted jobs kept of one connection; the oldest goes first.
pub const JOBS_PER_CONNECTION_MAX: usize = 64;

/// Accepted jobs kept in all; the connection with most of them loses its oldest.
pub const JOBS_TOTAL_MAX: usize = 16_384;

/// Memory that the jobs of one connection may take beside what our node vouches for, bytes; the
/// oldest goes first, the newest stays.
pub const JOB_BYTES_PER_CONNECTION_MAX: usize = 64 * 1024 * 1024;

/// The same for all jobs together, bytes; the connection with most of it loses its oldest.
pub const JOB_BYTES_TOTAL_MAX: usize = 512 * 1024 * 1024;

/// Jobs that one solution is tried on.
pub const SOLUTION_JOBS_MAX: usize = 128;

/// Jobs are kept while they build on the tip or one of this many blocks below it.
pub const JOB_DEPTH_KEPT_BLOCKS: u32 = 2;

/// Serialised block bodies kept ready, bytes: some 36 full blocks. Of other jobs the merkle path is
/// kept all the same, so that a solution waits for no more than the copying of its transactions.
pub const READY_BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Serialised block bodies kept ready.
pub const READY_BODIES_MAX: usize = 4_096;

/// Users that one connection may allocate tokens for; the least recent is forgotten.
pub const USERS_PER_CONNECTION_MAX: usize = 16;

/// Identities of a user on one connection whose earlier tokens and receipts, of the whole identity, are
/// known by them; the least recent is forgotten.
pub const IDENTITIES_PER_USER_MAX: usize = 16;

/// Unused tokens of one user on one connection; the oldest is recycled.
pub const TOKENS_PER_USER_MAX: usize = 64;

/// So long after an event the head of the event log is signed.
pub const HEAD_INTERVAL: Duration = Duration::from_secs(60);

/// Events after which the head of the event log is signed at once.
pub const HEAD_EVENTS: u64 = 1_000;

/// A token is good for this long after it was allocated.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Spent tokens remembered until they expire; beyond that the oldest tokens expire early.
pub const SPENT_TOKENS_MAX: usize = 1_000_000;

/// Custom jobs on a block that our node does not have yet which wait for it, of all connections. Each
/// holds its message, 75 kB at most; beyond that they are told to be stale.
pub const CUSTOM_JOBS_WAITING_MAX: usize = 1_024;

/// The same of one connection. When all places are taken, the connection with most of them loses one to
/// another.
pub const CUSTOM_JOBS_WAITING_PER_CONNECTION_MAX: usize = CUSTOM_JOBS_CHECKED_PER_CONNECTION_MAX;

/// Tokens that custom jobs came with, remembered with their mining connections; beyond that the
/// oldest are forgotten.
pub const BOUND_TOKENS_MAX: usize = 100_000;

/// Bytes of frames and pending declarations that one connection may make us hold whatever others
/// do: more than the declaration of 4,000 transactions.
pub const CONNECTION_BYTES_ALLOWED: usize = 160 * 1024;

/// Bytes of frames and pending declarations that all peers together may make us hold beyond that.
pub const PEER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Frames that may be read beyond that, at a time: where all wait for room with half a frame in their
/// hands, one goes on.
pub const FRAMES_BEYOND_BUDGET_MAX: usize = 1;

/// How long the reading of a frame waits for room at a time; then its connection ends, and others get
/// what it held. Longer than the largest frame may take: whoever is in front has come or gone by then.
pub const FRAME_ROOM_WAIT_MAX: Duration = Duration::from_millis(120_000);

/// Unit of the peer byte budget.
pub const PEER_BYTES_UNIT: usize = 1024;

/// Frames of so many bytes are read in turns: one reactor thread is always left for smaller ones.
pub const LARGE_FRAME_BYTES_MIN: usize = 16 * 1024;

/// Bytes of a frame that are read before they are counted.
pub const FRAME_BYTES_UNCOUNTED_MAX: usize = 4 * 1024;

/// Share of the places that connections from one address other than loopback may take: one in so
/// many.
pub const PLACES_PER_ADDRESS_DIVISOR: usize = 4;

/// File descriptors that are not for peers: nodes, files, the listener.
pub const DESCRIPTORS_RESERVED: u64 = 256;

/// A peer that does not answer on the TCP level is asked after this time of silence, then again
/// after this interval, and given up after so many questions.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// See [`KEEPALIVE_IDLE`].
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// See [`KEEPALIVE_IDLE`].
pub const KEEPALIVE_PROBES: u32 = 4;

/// Pause between two log lines that say that connections are refused.
pub const REFUSED_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Log lines waiting to be written; beyond that they are dropped and counted, so that a slow disk
/// or terminal never holds up the server.
pub const LOG_LINES_QUEUED_MAX: usize = 16_384;

/// Longest time an accept loop rests after the system refused a socket (out of descriptors).
pub const ACCEPT_BACKOFF_MAX: Duration = Duration::from_millis(1_000);

/// Consensus checks waiting; of a user only the newest job of each connection waits.
pub const CHECKS_QUEUED_MAX: usize = 1_024;

/// Time that the node may spend on checks of one user within [`CHECK_WINDOW`].
pub const CHECK_BUDGET_PER_USER: Duration = Duration::from_millis(3_000);

/// Time that the node may spend on checks in all within [`CHECK_WINDOW`].
pub const CHECK_BUDGET_TOTAL: Duration = Duration::from_millis(20_000);

/// Window of the check budgets.
pub const CHECK_WINDOW: Duration = Duration::from_secs(60);

/// Longest time that a check waits for the nodes' first answers to a found block.
pub const CHECK_PAUSE_MAX: Duration = Duration::from_millis(5_000);

/// A job that does not fit the chain is withdrawn when the tip has been the tip for this long:
/// before, the miner's node may have seen another block of the same height first.
pub const CHECK_TIP_SETTLED: Duration = Duration::from_millis(10_000);

/// Jobs that wait for their tip to settle and are then asked about again.
pub const CHECKS_AGAIN_MAX: usize = 256;

/// Pause between questions to a node that did not answer a check in time: first, longest.
pub const CHECK_PROBE_PAUSE_MIN: Duration = Duration::from_millis(1_000);
/// See [`CHECK_PROBE_PAUSE_MIN`].
pub const CHECK_PROBE_PAUSE_MAX: Duration = Duration::from_millis(60_000);

/// How long a job that was just accepted waits until its block is made ready and checked: that takes
/// milliseconds of two cores, which the client and others who declare meanwhile need more. A solution
/// that comes earlier makes its block ready by itself.
pub const AFTER_ANSWER_PAUSE: Duration = Duration::from_millis(10);

/// Least number of wtxids whose witness root is worth a second thread: fewer take less time than to
/// wake one up.
pub const BESIDE_WTXIDS_MIN: usize = 1_000;

/// With `consensus_check = "before-accept"`, longest wait for a verdict of the node.
pub const CHECK_WAIT_MAX: Duration = Duration::from_millis(10_000);

/// Pause between attempts to submit a found block to a node that could not take it: first, longest.
pub const SUBMIT_RETRY_MIN: Duration = Duration::from_millis(100);
/// See [`SUBMIT_RETRY_MIN`].
pub const SUBMIT_RETRY_MAX: Duration = Duration::from_millis(5_000);

/// A block that no node took within this time can no longer win.
pub const SUBMIT_GIVE_UP: Duration = Duration::from_secs(2 * 60 * 60);

/// Found blocks remembered, so that the same solution twice is one submission.
pub const FOUND_BLOCKS_REMEMBERED_MAX: usize = 1_024;

/// Found blocks that some node has not judged yet and that are kept on disk; each is up to 8 MB in
/// memory as well.
pub const FOUND_BLOCKS_OPEN_MAX: usize = 256;

/// A file of a found block, bytes: 4 MB as hex, and a line of facts.
pub const FOUND_FILE_BYTES_MAX: u64 = 2 * 4_000_000 + 64 * 1024;

/// A found block that the store has not written after this time goes to a file as well.
pub const FOUND_RECORD_LIMIT: Duration = Duration::from_millis(500);

/// A share that makes a block is acknowledged when the block is on the disk; after this time all the
/// same, for then neither store nor file can be written.
pub const FOUND_KEPT_LIMIT: Duration = Duration::from_secs(5);

/// What one submission tells while the store is slow: sent, unknown, and the answer or that there is
/// none.
pub const NOTES_PER_SUBMISSION_MAX: usize = 3;

/// How often the store is asked whether it has written a block that it only held in memory.
pub const RECORD_AGAIN_INTERVAL: Duration = Duration::from_secs(5);

/// How often a block is recorded anew after the store has lost it.
pub const RECORD_AGAIN_MAX: u32 = 10;

/// Blocks of the past that a start remembers, so that an old solution does not make them new.
pub const FINAL_BLOCKS_REMEMBERED_MAX: usize = FOUND_BLOCKS_REMEMBERED_MAX / 2;

/// Work for miners is given anew after this long on the same template: the time that it may be
/// mined with ends two hours after its first.
pub const WORK_REFRESH_INTERVAL: Duration = Duration::from_secs(30 * 60);

/// Longest script that an address stands for, bytes: a witness program of 40.
pub const PAYOUT_SCRIPT_BYTES_MAX: usize = 42;

/// Bytes that a miner may leave unread: beyond what is sent once for all channels, an answer for
/// each of them.
pub const MINING_UNREAD_BYTES_MAX: usize = 1024 * 1024;

/// Longest line of Stratum V1, bytes.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// Bytes that are read of lines at a time.
pub const READ_LINES_BYTES: usize = 1024;

/// Time from the first byte of a line to its end.
pub const LINE_TIMEOUT: Duration = FRAME_TIMEOUT;

/// Bytes of lines that a miner may leave unread.
pub const LINES_UNREAD_BYTES_MAX: usize = 64 * 1024;

/// Shares of one connection that are not durable yet, and answers that wait for them, together;
/// more than that stops the reading. One takes about 1 kB. A block may come behind them, so this is
/// longer than a disk stalls: minutes of a large farm behind one proxy.
pub const SHARES_HELD_PER_CONNECTION_MAX: usize = 32_768;

/// The same of all connections; beyond that only those are read that hold fewer than
/// [`SHARES_HELD_PER_CONNECTION_ALLOWED`].
pub const SHARES_HELD_MAX: u64 = 262_144;

/// See [`SHARES_HELD_MAX`].
pub const SHARES_HELD_PER_CONNECTION_ALLOWED: usize = 128;

/// Found blocks of one connection that are not on the disk yet and whose shares wait for that; more
/// than that stops the reading.
pub const FOUND_WAITED_FOR_PER_CONNECTION_MAX: usize = 64;

/// Custom jobs of one connection that are being checked; more than that stops the reading.
pub const CUSTOM_JOBS_CHECKED_PER_CONNECTION_MAX: usize = 8;

/// Blocks of one connection's shares that are being assembled; more than that stops the reading.
pub const FOUND_SHARES_PENDING_PER_CONNECTION_MAX: usize = 16;

/// At the end of the server a peer is read on until nothing came for so long: what it had sent by then may
/// be a block.
pub const SHUTDOWN_READ_QUIET: Duration = Duration::from_millis(100);

/// And no longer than this, whatever comes.
pub const SHUTDOWN_READ_LIMIT: Duration = Duration::from_millis(2_000);

/// And no more than so many bytes of what is judged: some ten thousand shares.
pub const SHUTDOWN_READ_BYTES_MAX: usize = 1024 * 1024;

/// Time for connections to end by themselves at shutdown.
pub const SHUTDOWN_GRACE: Duration = Duration::from_millis(5_000);

/// Events of one kind that one peer may cause in each [`FLOOD_INTERVAL`]; more are counted, and
/// told as one event.
pub const FLOOD_EVENTS_PER_INTERVAL: u32 = 600;

/// See [`FLOOD_EVENTS_PER_INTERVAL`].
pub const FLOOD_INTERVAL: Duration = Duration::from_secs(60);

/// Users whose first negotiated job of a day is told whatever the flood; of further ones it is counted as
/// any other.
pub const NEGOTIATORS_PER_DAY_MAX: usize = 100_000;

/// Inputs of rejected declarations of one peer that are kept in each [`INPUTS_INTERVAL`], bytes: some
/// blocks with all of their transactions.
pub const INPUTS_BYTES_PER_PEER_AND_INTERVAL: u64 = 8_000_000;

/// The same of all peers together, bytes.
pub const INPUTS_BYTES_PER_INTERVAL: u64 = 64_000_000;

/// See [`INPUTS_BYTES_PER_PEER_AND_INTERVAL`].
pub const INPUTS_INTERVAL: Duration = Duration::from_secs(60);

/// Events that wait for room in the store's queue while nobody waits for them.
pub const EVENTS_OVERFLOW_MAX: usize = 65_536;

/// Threads of the HTTP API that read the store; as many reads as [`api::limits`] lets run, and room
/// for a look-up of a name.
pub const API_BLOCKING_THREADS_MAX: usize = api::limits::STORE_READS_MAX + 2;

/// Threads of the pool interface.
pub const POOL_THREADS: usize = 2;

/// Jobs that are kept for a pool, beside what [`Jobs`](crate::jobs::Jobs) keeps of them.
pub const POOL_JOBS_MAX: usize = 4_096;

/// Bytes of these, about.
pub const POOL_JOB_BYTES_MAX: usize = 64 << 20;

/// Withdrawn jobs that are remembered for readers of the pool interface's stream; who missed more is
/// told so.
pub const POOL_WITHDRAWN_MAX: usize = 256;

/// How long requests of a pool wait for the first tip after a start.
pub const POOL_TIP_WAIT: Duration = Duration::from_secs(10);

/// Batches of shares that a pool has under way at a time, those included that go on when their client has
/// left; the next waits.
pub const POOL_WORK_MAX: usize =
    api::pool::limits::REQUESTS_MAX + api::pool::limits::SHARE_STREAMS_MAX;

/// Checks of a pool's jobs likewise, with places of their own.
pub const POOL_CHECKS_MAX: usize = api::pool::limits::REQUESTS_MAX;

/// Solutions of a pool likewise, with places of their own.
pub const POOL_SOLUTIONS_MAX: usize = api::pool::limits::REQUESTS_MAX;

/// Blocks from the newest accepted template down whose shares a start remembers: what builds on an
/// older one is stale.
pub const POOL_SHARES_HEIGHTS: u32 = 2;

/// Connections to the socket of the pool interface that wait to be taken in.
pub const POOL_SOCKET_BACKLOG: i32 = 128;

/// How long the end of the pool interface waits for reads that are under way, beside
/// [`api::limits::SHUTDOWN_WAIT`].
pub const POOL_SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// How long the end of the HTTP API waits for reads that are under way, beside
/// [`api::limits::SHUTDOWN_WAIT`].
pub const API_SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// How often the addresses of the nodes, which webhooks must not reach, are looked up again.
pub const NODE_LOOKUP_INTERVAL: Duration = Duration::from_secs(60);

/// How long such a look-up of one node may take.
pub const NODE_LOOKUP_TIMEOUT: Duration = Duration::from_millis(5_000);

/// Addresses that the name of one node may stand for.
pub const NODE_ADDRESSES_MAX: usize = 64;

/// How long unknown transactions of a declaration are looked up at our nodes before the peer is asked
/// for the rest: less than its answer would take over most lines.
pub const TX_LOOKUP_WAIT: Duration = Duration::from_millis(250);

/// How long a tip is kept whose only node is gone, until another node of ours has it.
pub const TIP_ORPHANED_MAX: Duration = Duration::from_millis(10_000);

/// A node is behind when another node of ours has had a higher tip for this long.
pub const NODE_BEHIND_AFTER: Duration = Duration::from_millis(30_000);

/// How often a node is looked at for having fallen behind.
pub const NODE_LOOK_INTERVAL: Duration = Duration::from_millis(5_000);

/// Confirmations after which a block of ours counts as buried.
pub const BURIED_CONFIRMATIONS: u32 = 6;

/// Depth of a rival below the tip at which a block of ours counts as orphaned although not every
/// node could be asked, or one still holds to it: that of a coinbase that may be spent.
pub const ORPHANED_UNSURE_CONFIRMATIONS: u32 = 100;

/// Blocks of ours that are followed at a time; the next start takes up the rest.
pub const FOLLOWED_BLOCKS_MAX: usize = 4_096;

/// How often the nodes are asked about blocks of ours while no new tip comes.
pub const FOLLOW_INTERVAL: Duration = Duration::from_secs(60);

/// The same while a node that is ready did not answer, or its tip moved meanwhile.
pub const FOLLOW_AGAIN_INTERVAL: Duration = Duration::from_secs(1);

/// Accepted templates that a start takes back from the store, the newest.
pub const RECOVERED_TEMPLATES_MAX: usize = JOBS_TOTAL_MAX / 4;

/// A template on a tip that is no longer the tip is kept for that long, for solutions and requests
/// that were under way.
pub const STALE_TEMPLATE_KEPT: Duration = Duration::from_millis(10_000);

/// How long the nodes' templates for a new tip wait for the clients of template distribution to hear of
/// it, at most.
pub const TIP_HOLD_MAX: Duration = Duration::from_millis(50);

/// Clients from which on they wait, count: fewer hear of it within a millisecond.
pub const TIP_HOLD_CLIENTS_MIN: usize = 32;

/// Templates of nodes that are kept for what comes back for them; the oldest goes first.
pub const TEMPLATE_VIEWS_KEPT_MAX: usize = 256;

/// Memory of transactions that those hold beside each other, bytes; the oldest goes first.
pub const TEMPLATE_VIEWS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Different cuts of one node's template, for clients that leave different room; beyond that a
/// client gets a smaller one that another has.
pub const TEMPLATE_BUILDS_MAX: usize = 32;

/// Requests of one template client that wait for its line; one more ends the connection.
pub const TEMPLATE_REQUESTS_QUEUED_MAX: usize = 16;

/// Messages for one template client that are encrypted together, bytes beyond which no other is
/// added.
pub const TEMPLATE_WRITE_BATCH_BYTES: usize = 16 * 1024;

/// How long a template provider is believed that knows a block which no node of ours has: a block
/// takes seconds to come round.
pub const PROVIDER_LEAD_MAX: Duration = Duration::from_millis(30_000);

/// How long a provider that our nodes did not confirm is no longer believed before them.
pub const PROVIDER_LEFT_FOR: Duration = Duration::from_millis(600_000);

/// How long after a solution was handed in at a template provider its tip may become that block.
pub const PROVIDER_VERDICT_MAX: Duration = Duration::from_millis(60_000);

/// How long the end of the server waits for a solution to have left for a template provider.
pub const PROVIDER_HANDOVER_MAX: Duration = Duration::from_millis(2_000);

/// Questions of the user check under way at once, each on a thread of its own.
pub const USER_CHECKS_AT_ONCE_MAX: usize = 16;

/// Users whose question waits or is under way; of further ones nobody knows.
pub const USER_CHECKS_WAITING_MAX: usize = 4_096;

/// Messages of one connection that wait for the user check; more than that stops the reading.
pub const USER_CHECKS_PER_CONNECTION_MAX: usize = 64;

/// Users of one connection who are remembered as allowed.
pub const USERS_WELCOME_PER_CONNECTION_MAX: usize = 1_024;

/// Answers of the user check that are kept of users who may.
pub const USERS_ALLOWED_KEPT_MAX: usize = 100_000;

/// Answers of the user check that are kept of others.
pub const USERS_DENIED_KEPT_MAX: usize = 10_000;

/// Largest answer to the user check, bytes; of its head the same.
pub const USER_CHECK_ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Longest file with the token of the user check, bytes.
pub const USER_CHECK_TOKEN_BYTES_MAX: u64 = 4 * 1024;
