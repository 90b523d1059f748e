//! A node over its IPC: Cap'n Proto over a unix socket.
//!
//! What it is made of: [`Link`] owns the connection, on a thread of its own, because the client of
//! the protocol can not leave its thread. A [`Line`] is one caller's share of it, with a thread of
//! the node to itself, since calls that share one wait for each other there. [`Client`] has the calls.

mod calls;
mod calls30;
mod client;
mod connection;
mod link;
#[cfg(test)]
pub(crate) mod older;
#[cfg(test)]
mod older30;

pub(crate) use calls::RawBlockTemplate;
pub(crate) use client::Client;
pub(crate) use link::Link;
