//! A full disk, a locked database, readers and webhooks that hang: mining goes on, what the guide
//! to operations says is what is seen meanwhile, and everything heals.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it expected"
)]

mod full_disk;
mod http;
mod locked;
mod outage;
mod readers;
mod small_disk;
mod streams;
mod webhooks;
