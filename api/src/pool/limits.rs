//! Every bound of the pool interface, with its unit. What is not here is in [`crate::limits`].

/// Connections at a time, over all its listeners; one more is told to come back later.
pub const CONNECTIONS_MAX: usize = 64;

/// Body of a request that is not a stream, bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Requests at a time; one more is told to come back later.
pub const REQUESTS_MAX: usize = 32;

/// Readers of the stream of tips at a time.
pub const STREAM_CLIENTS_MAX: usize = 16;

/// Entries of the accounting feed in an answer when nobody says how many.
pub const ACCOUNTING_ENTRIES_DEFAULT: usize = 1_000;
