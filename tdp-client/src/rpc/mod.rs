//! Calls over plain JSON-RPC.

mod client;
mod http;

pub(crate) use client::{Client, NO_PARAMS, excerpt, fault};
