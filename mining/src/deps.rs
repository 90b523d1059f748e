//! What all mining sessions of a server share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bitcoin::Network;
use validation::rules::Rules;

use crate::held::JobBytes;
use crate::job::Job;
use crate::limits::EXTRANONCE_PREFIX_BYTES;

/// Says by which rules the coinbase of a user identity is made, or why there are none: then it is
/// `invalid-user-identity`.
pub type Terms = Box<dyn Fn(&str) -> Result<Arc<Rules>, String> + Send + Sync>;

/// What all sessions share.
pub struct Deps {
    /// The network that is mined on.
    pub network: Network,
    /// What the operator chose.
    pub settings: Settings,
    /// Gives every channel its part of the search space.
    pub extranonces: Extranonces,
    /// Who is paid.
    pub terms: Terms,
    /// What the miners' own jobs take.
    pub custom_job_bytes: JobBytes,
}

impl fmt::Debug for Deps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deps")
            .field("network", &self.network)
            .field("settings", &self.settings)
            .field("extranonces", &self.extranonces)
            .field("custom_job_bytes", &self.custom_job_bytes)
            .finish_non_exhaustive()
    }
}

/// What the operator chose.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Shares that a channel is to send, per minute; above 0.
    pub shares_per_minute: f32,
    /// Accepted shares that one SubmitShares.Success acknowledges; at least 1.
    pub share_batch_size: u32,
    /// No channel's target is easier than this rate needs, hashes per second; above 0.
    pub min_hashrate: f32,
    /// What a Stratum V1 miner is taken for until it says or shows more, hashes per second.
    pub sv1_start_hashrate: f32,
    /// Stands in the coinbase of the pool's jobs. There are none where the coinbase's script has no
    /// room for it ([`crate::coinbase::CoinbaseError::ScriptSig`]); the configuration sees to that.
    pub pool_tag: String,
    /// Channels that one connection may open.
    pub channels_per_connection_max: usize,
    /// Miners may choose their transactions. Otherwise a client that wants to is refused.
    pub custom_jobs: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            shares_per_minute: 6.0,
            share_batch_size: 10,
            min_hashrate: 1e12,
            sv1_start_hashrate: 1e12,
            pool_tag: String::new(),
            channels_per_connection_max: 1_024,
            custom_jobs: true,
        }
    }
}

/// Where a coinbase's script begins, without a witness: version, count of inputs, outpoint, length.
const SCRIPT_AT: usize = 4 + 1 + 36 + 1;

/// Gives out the beginnings of extranonces.
///
/// None comes twice while the server runs, and hardly ever after a restart: were one used again on
/// the same template, shares that were paid for would be good a second time. That is why they are
/// counted, and not taken from a set of free ones.
#[derive(Debug)]
pub struct Extranonces {
    start: [u8; 4],
    next: AtomicU32,
}

impl Extranonces {
    /// `start`: random, new with each start of the server; its first byte is none of the others, so
    /// that no two of what is given out overlap.
    pub const fn new(start: [u8; 4]) -> Self {
        Self { start, next: AtomicU32::new(1) }
    }

    /// One that nobody else has.
    pub fn next(&self) -> [u8; EXTRANONCE_PREFIX_BYTES] {
        let count = self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut prefix = [0; EXTRANONCE_PREFIX_BYTES];
        let bytes = self.start.into_iter().chain(count);
        prefix.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        prefix
    }

    /// Some of what is given out may stand in these bytes. In front of a channel's own part of the
    /// coinbase that would be another channel's: the same header would count on both.
    fn are_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(self.start.len()).any(|window| window == self.start)
    }

    /// Whether a job has another channel's extranonce in front of where its own goes.
    pub fn are_in_front_of(&self, job: &Job) -> bool {
        // The coinbase before the script has a known length, and nothing of the miner's choice.
        self.are_in(job.coinbase().stripped_prefix().get(SCRIPT_AT..).unwrap_or_default())
    }
}
