//! Blocks that shares make: the work is checked already, only the block is to be put together.
#![deny(clippy::indexing_slicing)]

use std::any::Any;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{Transaction, Txid};
use mining::{FoundShare, JobSource};
use store::{NewBlock, TemplateSource};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::{Span, error};
use validation::block::FoundBlock;

use super::{End, Request, Solvers, Task, Tried};
use crate::limits::FOUND_SHARES_PENDING_PER_CONNECTION_MAX;
use crate::server::Shared;
use crate::submit::Handover;
use crate::templates::Built;

/// How many blocks of one connection's shares are put together at a time. There is a proof of
/// work behind each, so nothing else holds them up.
#[derive(Debug)]
pub(crate) struct FoundTurns(Arc<Semaphore>);

impl FoundTurns {
    /// Waits while so many are put together that another has to wait.
    async fn take(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

impl Default for FoundTurns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(FOUND_SHARES_PENDING_PER_CONNECTION_MAX)))
    }
}

impl Solvers {
    /// Takes a share in that makes a block, and returns when it is in line. What is given back ends
    /// when the block is on the disk: before that the share is not acknowledged, for its miner would
    /// not send it again.
    pub(crate) async fn found(
        shared: &Arc<Shared>,
        turns: &FoundTurns,
        share: Box<FoundShare>,
        received: Instant,
    ) -> oneshot::Receiver<Infallible> {
        let turn = turns.take().await;
        let (answer, _nobody_waits) = oneshot::channel();
        let (told, kept) = oneshot::channel();
        let task = Task {
            request: Request::Mined(share, told),
            received,
            shared: Arc::clone(shared),
            span: Span::current(),
            _solving: shared.submitter.solving(),
            _turn: turn,
            answer,
        };
        if shared.solvers.proven.send(task).is_err() {
            error!("the threads that look at solutions have ended");
        }
        kept
    }
}

/// The block of a share.
pub(super) fn block(shared: &Shared, share: &FoundShare) -> End {
    let hash = share.header.block_hash();
    if shared.submitter.knows(&hash) {
        return End::Known(hash);
    }
    let coinbase = Coinbase::of(&share.coinbase);
    let new = |block, template_source, template_hash| NewBlock {
        user: Arc::clone(&share.user),
        height: share.height,
        template_source,
        template_hash,
        reward_sat: coinbase.reward_sat,
        block: Arc::new(block),
    };
    let (source, template_hash, template_source) = match &share.source {
        JobSource::Pool(work) => (&work.source, None, TemplateSource::Pool),
        JobSource::Miner(job) => match &job.declared {
            Some(declared) => {
                (&declared.source, Some(declared.template_hash), TemplateSource::Miner)
            }
            None => {
                let announced = FoundBlock {
                    hash,
                    header: share.header,
                    raw: Vec::new(),
                    tx_count: 0,
                    coinbase_txid: coinbase.txid,
                };
                return End::Announced(new(announced, TemplateSource::Miner, None));
            }
        },
    };
    let Some(block) = source.block(&share.header, &share.coinbase) else {
        error!(block = %hash, "BLOCK FOUND on a job whose transactions are gone");
        return End::None(Tried::default());
    };
    let handover = match &share.source {
        JobSource::Pool(work) => (&*work.source as &dyn Any).downcast_ref::<Built>(),
        JobSource::Miner(_) => None,
    };
    let handover = handover.and_then(|built| built.handover(&share.header, &share.coinbase));
    End::Block(new(block, template_source, template_hash), handover.map(Handover::from))
}

/// What is told of a coinbase.
struct Coinbase {
    txid: Txid,
    reward_sat: u64,
}

impl Coinbase {
    fn of(bytes: &[u8]) -> Self {
        // What does not decode goes to the nodes all the same.
        let Ok(coinbase) = deserialize::<Transaction>(bytes) else {
            return Self { txid: Txid::all_zeros(), reward_sat: 0 };
        };
        let values = coinbase.output.iter().map(|output| output.value.to_sat());
        Self { txid: coinbase.compute_txid(), reward_sat: values.fold(0, u64::saturating_add) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn so_many_blocks_of_a_connection_are_put_together_and_the_next_waits_for_one() {
        let turns = FoundTurns::default();
        let mut held = Vec::new();
        for _ in 0..FOUND_SHARES_PENDING_PER_CONNECTION_MAX {
            held.push(timeout(Duration::from_secs(10), turns.take()).await.expect("a turn"));
        }
        assert!(timeout(Duration::ZERO, turns.take()).await.is_err(), "it waits");
        assert!(timeout(Duration::ZERO, FoundTurns::default().take()).await.is_ok(), "another's");
        held.pop();
        let next = timeout(Duration::from_secs(10), turns.take()).await;
        assert!(next.expect("the turn of one that ended").is_some());
    }
}
