//! Job Declaration Server for sovereign Bitcoin miners.
//!
//! A miner who runs a node of their own chooses the transactions; this server gives out tokens,
//! checks each declared template for structure and consensus (never for what its transactions
//! are), keeps accepted ones, and turns solutions into blocks that go to every node.

mod accept;
pub mod budget;
mod channels;
pub mod check;
pub mod client;
mod clock;
mod connection;
pub mod counts;
pub mod follow;
pub mod found;
mod heads;
pub mod http;
pub mod jobs;
pub mod journal;
pub mod limits;
pub mod mining;
pub mod node_settings;
pub mod nodes;
pub mod payout;
mod peer;
pub mod pool;
mod ports;
mod presence;
pub mod receipts;
mod recover;
mod report;
pub mod server;
pub mod session;
mod solve;
pub mod spent;
mod store_settings;
pub mod submit;
pub mod templates;
pub mod token;
pub mod tx_cache;
pub mod user_check;
pub mod validator;

pub use tdp_client::noise_io;
