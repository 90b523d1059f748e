//! The server side of mining: the Mining Protocol of Stratum V2 (SV2 5), and Stratum V1 beside it,
//! as state machines without sockets, clocks or threads.
//!
//! A session takes [`Input`]s and the time, and gives [`Action`]s. Both kinds of session stand on
//! the same channels and ask the same function about each share, so a share counts the same
//! whoever chose the transactions and whichever protocol brought it.

pub mod acknowledge;
pub mod action;
pub mod channel;
pub mod coinbase;
pub mod deps;
pub mod held;
pub mod input;
pub mod job;
pub mod limits;
pub mod outside;
pub mod record;
mod seen;
pub mod share;
mod slots;
pub mod sv1;
pub mod sv2;
pub mod target;
mod vardiff;
pub mod work;

pub use action::{Action, CustomJobRequest};
pub use deps::{Deps, Extranonces, Settings, Terms};
pub use held::JobBytes;
pub use input::{CustomJobVerdict, Input, Now};
pub use record::{
    ChannelClosed, ChannelKind, ChannelOpened, ChannelTarget, FoundShare, NegotiatedJob,
    ShareRecord,
};
pub use validation::identity;
pub use work::{CustomJob, Declared, JobSource, PoolWork, Source};
