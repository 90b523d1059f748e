//! Blocks that were found lately, so that none is submitted or told twice.

use std::collections::VecDeque;
use std::sync::Arc;

use bitcoin::BlockHash;
use store::{NewBlock, TemplateSource};
use validation::declared::TemplateHash;

use super::told::{Told, Waiting};
use crate::limits::FOUND_BLOCKS_REMEMBERED_MAX;

/// Both bounded by [`FOUND_BLOCKS_REMEMBERED_MAX`], the oldest goes first.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// On their way to the nodes, or past that.
    submitted: VecDeque<BlockHash>,
    /// Told of without their transactions, which may come yet.
    announced: VecDeque<Announced>,
}

/// In whose name a block is recorded that was told of without its transactions.
#[derive(Debug)]
pub(super) struct Announced {
    hash: BlockHash,
    user: Arc<str>,
    template_source: TemplateSource,
    template_hash: Option<TemplateHash>,
    waiting: Waiting,
}

impl Announced {
    /// One that is on the disk.
    pub(super) fn new(hash: BlockHash, user: Arc<str>, template_source: TemplateSource) -> Self {
        Self { hash, user, template_source, template_hash: None, waiting: Waiting::over() }
    }

    /// Who waits until it is on the disk.
    pub(super) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// The whole block, in the name of who found it: whoever hands it in may be anybody.
    pub(super) fn completed_by(self, whole: NewBlock) -> NewBlock {
        let Self { user, template_source, template_hash, .. } = self;
        NewBlock { user, template_source, template_hash, ..whole }
    }
}

/// One that is not on the disk yet.
impl From<&NewBlock> for Announced {
    fn from(block: &NewBlock) -> Self {
        let template_hash = block.template_hash;
        let (hash, user) = (block.block.hash, Arc::clone(&block.user));
        let waiting = Waiting::begin();
        Self { template_hash, waiting, ..Self::new(hash, user, block.template_source) }
    }
}

impl Known {
    /// A block whose bytes are there. None when it was submitted before; otherwise the announcement
    /// that it completes, if there was one.
    pub(super) fn submit(&mut self, hash: BlockHash) -> Option<Option<Announced>> {
        if self.is_submitted(&hash) {
            return None;
        }
        push(&mut self.submitted, hash);
        let place = self.announced.iter().position(|announced| announced.hash == hash);
        Some(place.and_then(|place| self.announced.remove(place)))
    }

    /// A block without its bytes. False when it is known already.
    pub(super) fn announce(&mut self, new: Announced) -> bool {
        let known = self.is_submitted(&new.hash)
            || self.announced.iter().any(|announced| announced.hash == new.hash);
        if !known {
            push(&mut self.announced, new);
        }
        !known
    }

    /// Keeps `told` until an announced block is on the disk.
    pub(super) fn tell_when_kept(&self, hash: &BlockHash, told: Option<Told>) {
        if let Some(announced) = self.announced.iter().find(|announced| announced.hash == *hash) {
            announced.waiting.add(told);
        }
    }

    pub(super) fn is_submitted(&self, hash: &BlockHash) -> bool {
        self.submitted.contains(hash)
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    queue.push_back(item);
    if queue.len() > FOUND_BLOCKS_REMEMBERED_MAX {
        queue.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    fn hash(number: usize) -> BlockHash {
        BlockHash::hash(&number.to_le_bytes())
    }

    #[test]
    fn so_many_blocks_are_remembered_and_the_oldest_goes_first() {
        let mut known = Known::default();
        for number in 0..=FOUND_BLOCKS_REMEMBERED_MAX {
            assert!(known.submit(hash(number)).is_some());
            let user = Arc::from("alice");
            let announced = Announced::new(hash(number + 10_000), user, TemplateSource::Miner);
            assert!(known.announce(announced));
        }
        assert_eq!(known.submitted.len(), FOUND_BLOCKS_REMEMBERED_MAX);
        assert_eq!(known.announced.len(), FOUND_BLOCKS_REMEMBERED_MAX);
        assert!(!known.is_submitted(&hash(0)), "the oldest made room");
        for number in 1..=FOUND_BLOCKS_REMEMBERED_MAX {
            assert!(known.submit(hash(number)).is_none(), "block {number} is submitted twice");
        }
        let completes = |number| known.announced.iter().any(|one| one.hash == hash(number));
        assert!(!completes(10_000) && completes(10_001));
    }
}
