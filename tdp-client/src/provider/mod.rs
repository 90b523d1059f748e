//! A template provider (SV2 7) that is followed and given solutions, over Noise.
//!
//! What a provider does not tell, and what is made of that:
//!
//! - Headers. Its tip is a hash, an nBits and a time to begin with; the height comes from its
//!   template (BIP 34). Time and median time past are bounds that follow from these. Nothing of it
//!   is proven: whoever has a node believes that one.
//! - Fees of single transactions, and their sigops: they stay unknown. The sum of fees is what the
//!   template claims.
//! - It judges no block of others and takes none: only a solution of a template that it gave.

mod bounds;
mod link;
mod offer;
mod probe;
mod run;
mod session;

use std::sync::Arc;
use std::thread;

use bitcoin::Network;
use jds_wire::Secp256k1PublicKey;
use tokio::runtime::Builder;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

pub use self::link::{Link, LinkError};
pub use self::probe::{ProviderFacts, probe_provider};
use crate::error::{Fault, NodeError};
use crate::followed::{Followed, SourceKind};
use crate::limits::{
    PROVIDER_COINBASE_BYTES, PROVIDER_COINBASE_BYTES_MAX, PROVIDER_COINBASE_SIGOPS,
    PROVIDER_COINBASE_SIGOPS_MAX, PROVIDER_SOLUTIONS_QUEUED_MAX,
};
use crate::node::{Shared, TxLookup};

/// Where a template provider is, and who it has to be.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// The operator's name for it, used in logs and errors.
    pub name: String,
    /// `HOST:PORT`.
    pub address: String,
    /// Who signs its certificates. Without it, whoever answers at the address is believed.
    pub public_key: Option<Secp256k1PublicKey>,
    /// The chain that it is believed to be on: the protocol does not tell.
    pub network: Network,
}

/// What has to be left free in a provider's templates (SV2 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constraints {
    /// For outputs of the coinbase, bytes.
    pub size: u32,
    /// Their sigop cost.
    pub sigops: u16,
}

impl Constraints {
    /// Enough for both.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { size: self.size.max(other.size), sigops: self.sigops.max(other.sigops) }
    }
}

impl Default for Constraints {
    fn default() -> Self {
        Self { size: PROVIDER_COINBASE_BYTES, sigops: PROVIDER_COINBASE_SIGOPS }
    }
}

/// A block that was found on a provider's template (SV2 7.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderSolution {
    /// The template's id at the provider.
    pub template_id: u64,
    /// nVersion of the header.
    pub version: u32,
    /// nTime of the header, Unix seconds.
    pub ntime: u32,
    /// nNonce of the header.
    pub nonce: u32,
    /// The whole coinbase transaction.
    pub coinbase: Arc<[u8]>,
}

/// A template provider that is followed and given solutions. Cheap to clone.
///
/// A thread of its own keeps in touch with it, as [`crate::Node`]'s do. It ends when the last
/// clone is dropped.
#[derive(Clone)]
pub struct Provider {
    followed: Followed,
    solutions: mpsc::Sender<ProviderSolution>,
    constraints: watch::Sender<Constraints>,
}

impl Provider {
    /// Starts to follow a provider. Returns at once, whether it is up or not.
    ///
    /// # Errors
    /// No thread can be started. Everything else is a [`crate::NodeState`].
    pub fn spawn(settings: ProviderSettings, lookup: TxLookup) -> Result<Self, NodeError> {
        let name: Arc<str> = settings.name.as_str().into();
        let (place, network) = (settings.address.as_str().into(), settings.network);
        let shared =
            Arc::new(Shared::new(Arc::clone(&name), SourceKind::TemplateProvider, place, network));
        let (solutions, waiting) = mpsc::channel(PROVIDER_SOLUTIONS_QUEUED_MAX);
        let (constraints, wanted) = watch::channel(Constraints::default());
        let gone = |error: std::io::Error| {
            NodeError::new(&name, Fault::Worker { reason: error.to_string() })
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(gone)?;
        let follower = run::Follower::new(Arc::clone(&shared), settings, lookup, waiting, wanted);
        thread::Builder::new()
            .name("provider".into())
            .spawn(move || runtime.block_on(follower.run()))
            .map_err(gone)?;
        Ok(Self { followed: Followed(shared), solutions, constraints })
    }

    /// The operator's name for it.
    pub fn name(&self) -> &str {
        self.followed.name()
    }

    /// Its tip and template, in the shape that every source has.
    pub fn followed(&self) -> &Followed {
        &self.followed
    }

    /// Hands in a block that was found on one of its templates. Sent at once, or when there is a
    /// connection again; the protocol has no answer.
    ///
    /// # Errors
    /// [`PROVIDER_SOLUTIONS_QUEUED_MAX`] wait already.
    pub fn submit(&self, solution: ProviderSolution) -> Result<(), NodeError> {
        self.solutions.try_send(solution).map_err(|error| {
            let fault = match error {
                TrySendError::Full(_) => Fault::Overloaded {
                    method: "SubmitSolution",
                    waiting: PROVIDER_SOLUTIONS_QUEUED_MAX,
                },
                TrySendError::Closed(_) => {
                    Fault::Worker { reason: "its thread has ended".to_owned() }
                }
            };
            NodeError::new(&self.followed.0.node, fault)
        })
    }

    /// Has its templates leave at least so much free from now on, within
    /// [`PROVIDER_COINBASE_BYTES_MAX`] and [`PROVIDER_COINBASE_SIGOPS_MAX`]; never less than before.
    /// More means a new connection: on an old one nobody could tell which templates leave it.
    pub fn leave_free(&self, wanted: Constraints) {
        self.constraints.send_if_modified(|now| {
            let more = now.max(Constraints {
                size: wanted.size.min(PROVIDER_COINBASE_BYTES_MAX),
                sigops: wanted.sigops.min(PROVIDER_COINBASE_SIGOPS_MAX),
            });
            std::mem::replace(now, more) != more
        });
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("name", &self.name()).finish_non_exhaustive()
    }
}
