//! Blocks of which nobody here has the transactions, yet.

use std::sync::Arc;

use store::NewBlock;
use tracing::warn;

use super::known::Announced;
use super::{Submitter, Told, UnderWay, lock};
use crate::clock;

impl Submitter {
    /// Records a block of which nobody here has the transactions, and follows it: its miner's own
    /// node has to submit it. When the whole block comes after that, it is submitted like any
    /// other, in the name of this one's user. False when it is known already. `told` is dropped
    /// once it is on the disk, whoever announced it first.
    pub(crate) fn announce(self: &Arc<Self>, block: NewBlock, told: Option<Told>) -> bool {
        let (hash, height) = (block.block.hash, block.height);
        let announced = Announced::from(&block);
        let waiting = announced.waiting().clone();
        if !lock(&self.known).announce(announced) {
            self.tell_when_kept(&hash, told);
            return false;
        }
        waiting.add(told);
        warn!(
            block = %hash, height, user = &*block.user,
            "BLOCK FOUND in coinbase-only mode: its transactions are not here. Its miner's own node \
             can submit it, or the miner by a solution of a template that it got here"
        );
        let (submitter, recording) = (Arc::clone(self), UnderWay::begin(&self.keeping));
        let ends = waiting.ends();
        self.spawn(async move {
            let found_at_ms = clock::unix_us() / 1_000;
            submitter.journal.found(block, found_at_ms, Vec::new()).await;
            submitter.follower.add(hash, height, 0);
            drop((recording, ends));
        });
        true
    }
}
