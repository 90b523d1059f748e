//! Configuration: TOML and environment to checked settings, with redacted secrets.

mod checked;
pub mod keys;
mod secret;

pub use checked::{
    Authority, Checked, ConsensusCheck, JobDeclaration, Log, LogFormat, LogLevel, Node, Payout,
    RpcAuth, RpcUrl, Source,
};
pub use keys::{PublicKey, SecretKey};
pub use secret::{REDACTED, Secret};
