//! The API over a real socket and a real store: what a reader sees, what a stranger does not, and
//! what a receiver of webhooks gets. Requests are written by hand, so that they can be wrong.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expected")]

mod bounds;
mod client;
mod events;
mod guard;
mod openapi;
mod reads;
mod receiver;
mod samples;
mod stream;
mod webhooks;
mod world;
