//! What the programs that measure share: what there is to declare, the servers that it is declared
//! to, and what the system says of a process.

mod material;
mod process;
mod reference;

use std::net::{SocketAddr, TcpListener};

use jds_wire::Secp256k1PublicKey;

pub use material::{Login, Material};
pub use process::{Memory, ProcessReader};
pub use reference::Reference;

/// A server to declare to.
#[derive(Debug, Clone)]
pub struct Target {
    /// For the results.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its authority key; without one, any is believed.
    pub key: Option<Secp256k1PublicKey>,
}

/// An address of this machine that nothing listens on just now.
///
/// # Errors
/// The system has no port left.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
