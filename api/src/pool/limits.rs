//! Every bound of the pool interface, with its unit. What is not here is in [`crate::limits`].

use std::time::Duration;

/// Connections at a time, over all its listeners; one more is told to come back later.
pub const CONNECTIONS_MAX: usize = 64;

/// Body of a request that is not a stream, bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Requests at a time; one more is told to come back later.
pub const REQUESTS_MAX: usize = 32;

/// Readers of the stream of tips at a time.
pub const STREAM_CLIENTS_MAX: usize = 16;

/// Shares in one body of JSON.
pub const BATCH_SHARES_MAX: usize = 2_000;

/// Shares of a stream that are judged and recorded together.
pub const STREAM_BATCH_SHARES_MAX: usize = 2_000;

/// One line of a stream of shares, bytes.
pub const LINE_BYTES_MAX: usize = 4_096;

/// Room for what came of a stream and was not judged yet, bytes, beside the piece that came last.
pub const STREAM_PENDING_BYTES_MAX: usize = LINE_BYTES_MAX * 256;

/// How long a stream of shares may bring nothing.
pub const STREAM_IDLE_MAX: Duration = Duration::from_millis(300_000);

/// Streams of shares at a time.
pub const SHARE_STREAMS_MAX: usize = 16;

/// Bytes of a token (SV2 B0_255).
pub const TOKEN_BYTES_MAX: usize = 255;

/// Bytes of a full extranonce.
pub const EXTRANONCE_BYTES_MAX: usize = 32;

/// Bytes of the name of a connection, of a user and of a worker.
pub const NAME_BYTES_MAX: usize = 255;

/// Bytes of the beginning of a coinbase's script (SV2 B0_255).
pub const COINBASE_PREFIX_BYTES_MAX: usize = 255;

/// Bytes of a coinbase's outputs (SV2 B0_64K).
pub const COINBASE_OUTPUTS_BYTES_MAX: usize = 65_535;

/// Hashes of a merkle path (SV2 SEQ0_255).
pub const MERKLE_PATH_MAX: usize = 255;

/// Bytes of the name of a job.
pub const JOB_NAME_BYTES_MAX: usize = 128;

/// Answers that are kept for their `Idempotency-Key`.
pub const IDEMPOTENCY_KEYS_MAX: usize = 1_024;

/// Bytes of all those answers.
pub const IDEMPOTENCY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How long one is kept.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_millis(600_000);

/// Characters of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;

/// Entries of the accounting feed in an answer when nobody says how many.
pub const ACCOUNTING_ENTRIES_DEFAULT: usize = 1_000;
