//! Found blocks, followed until they are buried or another block took their place.
//!
//! Only what is final is told as an event. Until then a reorganisation may turn everything round.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::BlockHash;
use store::BlockState;
use tdp_client::{BlockStatus, Node};
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::journal::Journal;
use crate::limits::{
    BURIED_CONFIRMATIONS, FOLLOW_AGAIN_INTERVAL, FOLLOW_INTERVAL, FOLLOWED_BLOCKS_MAX,
    ORPHANED_UNSURE_CONFIRMATIONS,
};
use crate::nodes::Nodes;

/// Asks the nodes about our blocks at every new tip.
#[derive(Debug)]
pub struct Follower {
    nodes: Arc<Nodes>,
    journal: Arc<Journal>,
    blocks: Mutex<HashMap<BlockHash, Followed>>,
    /// The tip may have become what a new block made it before the block was added here.
    added: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Followed {
    height: u32,
    /// As recorded; 0 while it is in no chain.
    confirmations: u32,
}

/// What one node says of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct View {
    tip_height: u32,
    /// 0 when it is not in the node's chain.
    confirmations: u32,
}

/// What follows from where a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nobody can say.
    Unclear,
    /// With so many confirmations at present.
    Open(u32),
    Confirmed(u32),
    Orphaned,
}

impl Follower {
    /// For these nodes.
    pub fn new(nodes: Arc<Nodes>, journal: Arc<Journal>) -> Arc<Self> {
        Arc::new(Self { nodes, journal, blocks: Mutex::default(), added: Notify::new() })
    }

    /// Follows a block from now on. `confirmations` are those that are recorded, 0 for a new one.
    pub fn add(&self, hash: BlockHash, height: u32, confirmations: u32) {
        let mut blocks = self.lock();
        if blocks.len() >= FOLLOWED_BLOCKS_MAX && !blocks.contains_key(&hash) {
            error!(block = %hash, max = FOLLOWED_BLOCKS_MAX,
                "too many blocks without an end: the next start follows this one");
            return;
        }
        blocks.entry(hash).or_insert(Followed { height, confirmations });
        self.added.notify_one();
    }

    /// Follows a block no more.
    pub fn forget(&self, hash: &BlockHash) {
        self.lock().remove(hash);
    }

    /// How many blocks are followed.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Follows blocks for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let mut tips = self.nodes.watch_tip();
        loop {
            let blocks: Vec<_> = self.lock().iter().map(|(hash, block)| (*hash, *block)).collect();
            let mut pause = FOLLOW_INTERVAL;
            for (hash, block) in blocks {
                if !self.look(hash, block).await {
                    pause = FOLLOW_AGAIN_INTERVAL;
                }
            }
            tokio::select! {
                changed = tips.changed() => if changed.is_err() { return },
                () = self.added.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Whether every node that is ready has answered.
    async fn look(&self, hash: BlockHash, block: Followed) -> bool {
        let mut views = Vec::new();
        let mut ready = 0;
        for node in self.nodes.all() {
            if node.state().borrow().is_ready() {
                ready += 1;
                views.extend(view(node, hash).await);
            }
        }
        let all_asked = views.len() == self.nodes.all().len();
        match fate(&views, all_asked, block.height) {
            Fate::Unclear => {}
            Fate::Open(confirmations) if confirmations == block.confirmations => {}
            Fate::Open(confirmations) => {
                let (height, before) = (block.height, block.confirmations);
                info!(block = %hash, height, confirmations, before, "confirmations of a block");
                if let Some(block) = self.lock().get_mut(&hash) {
                    block.confirmations = confirmations;
                }
                self.journal.progress(hash, BlockState::Found, confirmations).await;
            }
            Fate::Confirmed(confirmations) => {
                info!(block = %hash, height = block.height, confirmations, "block buried: it stays");
                self.end(hash, BlockState::Confirmed, confirmations).await;
            }
            Fate::Orphaned => {
                warn!(block = %hash, height = block.height,
                    "block ORPHANED: another took its place");
                self.end(hash, BlockState::Orphaned, 0).await;
            }
        }
        views.len() == ready
    }

    async fn end(&self, hash: BlockHash, state: BlockState, confirmations: u32) {
        // Whoever forgot it meanwhile has told its end.
        if self.lock().remove(&hash).is_some() {
            self.journal.progress(hash, state, confirmations).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BlockHash, Followed>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` when the node does not answer, or its tip moved meanwhile.
async fn view(node: &Node, hash: BlockHash) -> Option<View> {
    let tip = || node.tip().borrow().as_deref().map(|state| state.tip);
    let before = tip()?;
    let confirmations = match node.block_status(hash).await.ok()? {
        BlockStatus::InChain { confirmations, .. } => confirmations,
        BlockStatus::Known { .. } | BlockStatus::Unknown => 0,
    };
    let same = tip().is_some_and(|after| after.hash == before.hash);
    same.then_some(View { tip_height: before.height, confirmations })
}

/// The longest chain decides. Where nodes contradict each other, or one that can not be asked
/// might, a block counts as orphaned only when its rival is deeper than any known reorganisation.
fn fate(views: &[View], all_asked: bool, height: u32) -> Fate {
    let Some(best) = views.iter().map(|view| view.tip_height).max() else { return Fate::Unclear };
    let at_best = || views.iter().filter(|view| view.tip_height == best);
    if at_best().all(|view| view.confirmations > 0) {
        let confirmations = at_best().map(|view| view.confirmations).min().unwrap_or(0);
        return if confirmations >= BURIED_CONFIRMATIONS {
            Fate::Confirmed(confirmations)
        } else {
            Fate::Open(confirmations)
        };
    }
    let in_a_chain = views.iter().any(|view| view.confirmations > 0);
    let depth = (best + 1).saturating_sub(height);
    let enough =
        if in_a_chain || !all_asked { ORPHANED_UNSURE_CONFIRMATIONS } else { BURIED_CONFIRMATIONS };
    if at_best().any(|view| view.confirmations > 0) {
        Fate::Unclear
    } else if depth >= enough {
        Fate::Orphaned
    } else if in_a_chain || !all_asked {
        Fate::Unclear
    } else {
        Fate::Open(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEIGHT: u32 = 1_000;
    const BURIED: u32 = BURIED_CONFIRMATIONS;

    /// A node with so many blocks from that height on, and so many of them on ours.
    fn view(depth: u32, confirmations: u32) -> View {
        View { tip_height: HEIGHT + depth - 1, confirmations }
    }

    fn of(views: &[View]) -> Fate {
        fate(views, true, HEIGHT)
    }

    #[test]
    fn a_block_is_final_when_it_or_its_rival_is_buried() {
        assert_eq!(of(&[view(BURIED - 1, BURIED - 1)]), Fate::Open(BURIED - 1));
        assert_eq!(of(&[view(BURIED, BURIED)]), Fate::Confirmed(BURIED));
        assert_eq!(of(&[view(0, 0)]), Fate::Open(0), "not there yet");
        assert_eq!(of(&[view(BURIED - 1, 0)]), Fate::Open(0));
        assert_eq!(of(&[view(BURIED, 0)]), Fate::Orphaned);
        assert_eq!(of(&[]), Fate::Unclear, "nobody could be asked");
    }

    #[test]
    fn the_longest_chain_decides() {
        // A node that is behind knows less.
        assert_eq!(of(&[view(0, 0), view(BURIED, BURIED)]), Fate::Confirmed(BURIED));
        assert_eq!(of(&[view(3, 0), view(4, 4)]), Fate::Open(4));
        // A longer chain without it may win.
        assert_eq!(of(&[view(BURIED, BURIED), view(BURIED + 1, 0)]), Fate::Unclear);
        assert_eq!(of(&[view(BURIED, BURIED), view(BURIED, 0)]), Fate::Unclear);
    }

    #[tokio::test]
    async fn so_many_blocks_are_followed_and_those_that_are_stay() {
        use bitcoin::hashes::Hash;

        let journal = Journal::new(None, &mut tokio::task::JoinSet::new());
        let follower = Follower::new(Nodes::none(), journal);
        let hash = |number: usize| BlockHash::hash(&number.to_le_bytes());
        for number in 0..=FOLLOWED_BLOCKS_MAX {
            follower.add(hash(number), HEIGHT, 0);
        }
        assert_eq!(follower.count(), FOLLOWED_BLOCKS_MAX);
        let is_followed = |number| follower.lock().contains_key(&hash(number));
        assert!(is_followed(0) && !is_followed(FOLLOWED_BLOCKS_MAX));
        // When one has its end there is room.
        follower.forget(&hash(0));
        follower.add(hash(FOLLOWED_BLOCKS_MAX), HEIGHT, 0);
        assert!(is_followed(FOLLOWED_BLOCKS_MAX) && is_followed(1));
    }

    #[test]
    fn a_rival_has_to_be_deep_where_a_node_is_silent_or_objects() {
        let deep = ORPHANED_UNSURE_CONFIRMATIONS;
        for depth in [BURIED, deep - 1] {
            assert_eq!(fate(&[view(depth, 0)], false, HEIGHT), Fate::Unclear);
            assert_eq!(of(&[view(depth, 0), view(2, 2)]), Fate::Unclear);
        }
        assert_eq!(fate(&[view(deep, 0)], false, HEIGHT), Fate::Orphaned);
        assert_eq!(of(&[view(deep, 0), view(2, 2)]), Fate::Orphaned);
        assert_eq!(fate(&[view(BURIED, BURIED)], false, HEIGHT), Fate::Confirmed(BURIED));
    }
}
