//! What the rules looked at of a declaration, for whoever wants a verdict once more.

use validation::job::AcceptedJob;
use validation::rejection::Rejection;
use validation::replay::{NodeWord, SecondLook, VerdictInputs, WtxidList};
use validation::tip::ChainTip;
use validation::verdict::TxSlots;

use super::declaration::Declaration;
use super::pass::provable;
use crate::journal::Case;

/// What the rules looked at beside the declaration itself.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) tip: Option<ChainTip>,
    pub(super) second: Option<SecondLook>,
    pub(super) txs: TxSlots,
    pub(super) unvouched: Vec<u16>,
}

impl Seen {
    /// On this tip, and no transactions yet.
    pub(super) fn on(tip: ChainTip) -> Self {
        Self { tip: Some(tip), ..Self::default() }
    }

    /// What a refusal was given on.
    pub(super) fn inputs(self, declaration: &Declaration, rejection: &Rejection) -> VerdictInputs {
        // A second look has read the list, whatever came of it.
        let read = self.second.is_some() || provable(rejection);
        let wtxids = if read {
            WtxidList::Listed(declaration.wtxids.as_slice().into())
        } else {
            WtxidList::Counted(declaration.wtxids.len())
        };
        VerdictInputs {
            version: declaration.version,
            coinbase_prefix: declaration.coinbase_prefix.clone(),
            coinbase_suffix: declaration.coinbase_suffix.clone(),
            wtxids,
            rules: declaration.rules.clone(),
            tip: self.tip,
            second: self.second,
            txs: self.txs,
            unvouched: self.unvouched,
            node: None,
        }
    }
}

/// What the refusal of a job was given on that kept every rule, but not the node's.
pub(super) fn by_node(case: &Case, job: &AcceptedJob, word: NodeWord) -> VerdictInputs {
    VerdictInputs {
        version: job.version(),
        coinbase_prefix: job.coinbase().prefix().to_vec(),
        coinbase_suffix: job.coinbase().suffix().to_vec(),
        wtxids: WtxidList::Listed(job.txs().iter().map(|tx| tx.wtxid()).collect()),
        rules: case.rules.clone(),
        tip: Some(*job.tip()),
        second: None,
        txs: job.txs().iter().cloned().map(Some).collect(),
        unvouched: job.unvouched().to_vec(),
        node: Some(word),
    }
}
