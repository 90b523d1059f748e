//! Configuration: TOML and environment to checked settings, with redacted secrets.
//!
//! [`load`] goes through these steps, each in a module of its own: TOML text, names and types
//! checked against the one table of keys (`document`, `known`), environment (`env`), values and
//! defaults (`document`), typed form (`raw`), cross checks (`check`, `node`, `provider`,
//! `payout`, `store`, `api`, `mining`), and the result (`checked`). [`reference()`] is printed from
//! the same table of keys.

mod api;
mod check;
mod checked;
mod document;
mod env;
mod error;
pub mod keys;
mod known;
mod load;
mod mining;
mod node;
mod payout;
mod pool;
mod provider;
mod raw;
mod redacted;
mod reference;
mod secret;
mod store;
mod user_check;

pub use checked::{
    Api, Authority, Checked, ConsensusCheck, Events, JobDeclaration, Log, LogFormat, LogLevel,
    Mining, Node, Payout, PoolInterface, ProviderAddress, Receipts, RpcAuth, RpcUrl, Source,
    StoreSettings, TemplateDistribution, TemplateProvider, UserCallback, UserCheck, UserList,
};
pub use error::{ConfigError, Place, Problem};
pub use keys::{PublicKey, SecretKey};
pub use known::NODE_DOWNLOAD_URL_VARIABLE;
pub use load::{load, load_here, parse};
pub use payout::{ScriptError, network_name, script as payout_script};
pub use reference::{reference, reference_markdown};
pub use secret::{REDACTED, Secret};

#[cfg(test)]
mod drift;
#[cfg(test)]
mod leaks;
