//! Every bound of the HTTP API, with its unit.

use std::time::Duration;

/// Connections at a time; one more is told to come back later.
pub const CONNECTIONS_MAX: usize = 256;

/// Readers of the event stream (SSE) at a time, and as many long polls.
pub const STREAM_CLIENTS_MAX: usize = 64;

/// Share of the connections, and of the readers of the stream, that one peer other than this machine
/// may have ([`crate::PeerKey`]): one in so many.
pub const PLACES_PER_PEER_DIVISOR: usize = 4;

/// Reads of the store at a time: as many as it has readers. More wait.
pub const STORE_READS_MAX: usize = 4;

/// How long a request waits for its turn to read the store.
pub const STORE_READ_WAIT: Duration = Duration::from_millis(5_000);

/// How long a write waits for the store to acknowledge it.
pub const STORE_WRITE_WAIT: Duration = Duration::from_millis(5_000);

/// Time for the head of a request to come, also on a connection that is kept open.
pub const HEAD_TIMEOUT: Duration = Duration::from_millis(15_000);

/// Head of a request, and buffer of a connection, bytes.
pub const CONNECTION_BUFFER_BYTES: usize = 64 * 1024;

/// Body of a request, bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// From the head of a request to the head of its answer. Longer than the longest long poll.
pub const REQUEST_TIMEOUT: Duration = Duration::from_millis(45_000);

/// How long a client may take no byte of its answer before it is closed.
pub const WRITE_TIMEOUT: Duration = Duration::from_millis(30_000);

/// How long open requests get to end when the server stops.
pub const SHUTDOWN_WAIT: Duration = Duration::from_millis(3_000);

/// Longest long poll, milliseconds.
pub const LONG_POLL_MS_MAX: u64 = 30_000;

/// Events in one answer.
pub const EVENTS_PER_PAGE_MAX: usize = 1_000;

/// Events in one answer when nobody says how many.
pub const EVENTS_PER_PAGE_DEFAULT: usize = 100;

/// Events that the stream reads from the log at a time.
pub const EVENTS_PER_STREAM_READ: usize = 200;

/// Reads of one reader are at least so far apart while events keep coming.
pub const EVENT_READ_PAUSE: Duration = Duration::from_millis(50);

/// Pause after which a silent stream says that it is alive.
pub const HEARTBEAT: Duration = Duration::from_millis(15_000);

/// Longest user identity in a query or path, bytes: of the protocol's 255 each may stand as six characters,
/// as in `\u{7f}`.
pub const USER_BYTES_MAX: usize = 6 * 256;

/// Differences between a template and our node's that are listed, each way.
pub const DIFFERENCE_TXS_MAX: usize = 10_000;

/// Shortest token, characters.
pub const TOKEN_CHARS_MIN: usize = 16;

/// Largest token file, bytes.
pub const TOKEN_FILE_BYTES_MAX: u64 = 4_096;

/// Address of a webhook, bytes.
pub const WEBHOOK_URL_BYTES_MAX: usize = 2_048;

/// Secret of a webhook, bytes.
pub const WEBHOOK_SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=256;

/// Name of a webhook, bytes.
pub const WEBHOOK_ID_BYTES_MAX: usize = 64;

/// Events in one delivery.
pub const WEBHOOK_EVENTS_PER_DELIVERY: usize = 100;

/// Deliveries under way at a time; each holds a thread.
pub const WEBHOOK_DELIVERIES_MAX: usize = 16;

/// Time for one delivery, from the look-up of the name to the head of the answer.
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_millis(10_000);

/// Head of a webhook's answer, bytes. Its body is not read.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Pause after the first delivery that failed; it doubles with each.
pub const WEBHOOK_RETRY_MIN: Duration = Duration::from_millis(1_000);

/// Longest pause between deliveries that fail.
pub const WEBHOOK_RETRY_MAX: Duration = Duration::from_millis(600_000);

/// Failures in a row from which a webhook counts as dead. It is still tried, at the longest pause.
pub const WEBHOOK_DEAD_FAILURES: u32 = 15;

/// Pause between looks at whether the store holds other webhooks than those that run.
pub const WEBHOOK_TAKE_UP_PAUSE: Duration = Duration::from_millis(60_000);

/// Events that a webhook does not want may pass before its cursor is written down.
pub const WEBHOOK_SKIPPED_EVENTS_MAX: u64 = 10_000;

/// Once in this time the cursor of a webhook that waits for events is written down, when it has
/// passed some that the webhook does not want.
pub const WEBHOOK_REST_WRITE_PAUSE: Duration = Duration::from_millis(60_000);

/// What is kept of an error of a webhook, characters.
pub const WEBHOOK_ERROR_CHARS_MAX: usize = 300;
