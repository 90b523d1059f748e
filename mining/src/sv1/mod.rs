//! One Stratum V1 mining connection: JSON-RPC, one message a line.
//!
//! Nobody wrote Stratum V1 down as a standard. What is here is what miners do: the method names and
//! answers of the first server, BIP 310 (`mining.configure`), BIP 323 (which bits of nVersion are
//! free), and the extension for changing extranonces.
//!
//! The messages of the crate `sv1_api` are not used to read: its ids are numbers only, it drops what
//! `mining.suggest_difficulty` says, and it refuses forms that miners send. Its error codes are used,
//! and the tests read what we write with it.

mod configure;
mod difficulty;
mod fields;
mod notify;
mod refusal;
mod rpc;
mod session;
mod submit;
mod workers;

pub use notify::params as notify_params;
pub use session::{Session, asks_for};
