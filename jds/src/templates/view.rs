//! One node's template, and how it is cut to what a client leaves room for.
#![deny(clippy::indexing_slicing)]

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::Network;
use tdp_client::{Provider, ProviderTemplate, Template};
use validation::tip::ChainTip;
use validation::tx::Tx;
use validation::{merkle, subsidy};

use super::built::{Built, Facts, Origin};
use super::room::Room;
use crate::limits::TEMPLATE_BUILDS_MAX;

/// Transactions to mine on a tip, and the templates made of them.
#[derive(Debug)]
pub struct View {
    /// What to build on.
    pub tip: ChainTip,
    /// Counts up with each view.
    pub number: u64,
    network: Network,
    version: u32,
    txs: Arc<[Arc<Tx>]>,
    /// What the first so many transactions take, from none to all.
    sums: Box<[Sums]>,
    fees_known: bool,
    /// What the coinbase may claim with all transactions, satoshi.
    value_sat: u64,
    /// Who gave it, if no node did.
    origin: Option<Origin>,
    /// Nobody but that provider could take a block of it: no transaction may be left out.
    only_whole: bool,
    /// Memory of transactions that the view before did not have, bytes.
    own_bytes: usize,
    /// By the number of transactions. The lock is held while one is made, so that those who want
    /// it at the same time share the work.
    builds: Mutex<BTreeMap<usize, Arc<Built>>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    weight_wu: u64,
    sigop_cost: u64,
    fees_sat: u64,
}

impl View {
    /// Nothing but the coinbase: all that a new tip has to be known for.
    pub fn empty(number: u64, network: Network, tip: ChainTip, version: u32) -> Self {
        let value_sat = subsidy(network, tip.next_height()).to_sat();
        Self::new(number, network, tip, version, Vec::new(), value_sat, None)
    }

    /// What the node would mine on this tip, which is the template's.
    pub fn of(
        number: u64,
        network: Network,
        tip: ChainTip,
        template: &Template,
        before: Option<&Self>,
    ) -> Self {
        let (version, value_sat) = (template.version as u32, template.coinbase_value_sat);
        Self::new(number, network, tip, version, template.txs.clone(), value_sat, before)
    }

    /// It came from this provider. `only_whole`: no node is there to take a block of another
    /// choice of its transactions.
    #[must_use]
    pub fn given_by(self, provider: Provider, template: &Template, only_whole: bool) -> Self {
        let origin = template.provider.map(|template| Origin { provider, template });
        let only_whole = only_whole && origin.is_some();
        Self { origin, only_whole, ..self }
    }

    fn new(
        number: u64,
        network: Network,
        tip: ChainTip,
        version: u32,
        txs: Vec<Arc<Tx>>,
        value_sat: u64,
        before: Option<&Self>,
    ) -> Self {
        let mut sum = Sums::default();
        let mut sums = Vec::with_capacity(txs.len() + 1);
        sums.push(sum);
        let mut fees_known = true;
        for tx in &txs {
            let facts = tx.node_facts();
            fees_known &= facts.is_some();
            sum.weight_wu += u64::from(tx.weight_wu());
            sum.sigop_cost +=
                u64::from(facts.map_or_else(|| tx.legacy_sigop_cost(), |facts| facts.sigop_cost));
            sum.fees_sat += facts.map_or(0, |facts| facts.fee_sat);
            sums.push(sum);
        }
        let known: HashSet<*const Tx> =
            before.map(|view| view.txs.iter().map(Arc::as_ptr).collect()).unwrap_or_default();
        let own = txs.iter().filter(|tx| !known.contains(&Arc::as_ptr(tx)));
        Self {
            tip,
            number,
            network,
            version,
            own_bytes: own.map(|tx| tx.memory_bytes()).sum(),
            txs: txs.into(),
            sums: sums.into(),
            fees_known,
            value_sat,
            origin: None,
            only_whole: false,
            builds: Mutex::default(),
        }
    }

    /// nVersion of the blocks.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the coinbase may claim with all transactions, satoshi.
    pub fn value_sat(&self) -> u64 {
        self.value_sat
    }

    /// Memory that this view holds beyond that of the one before, bytes.
    pub fn own_bytes(&self) -> usize {
        self.own_bytes + size_of_val(&*self.sums) + size_of_val(&*self.txs)
    }

    /// How many transactions fit, the last ones being left out: a node lists parents before
    /// children, so none is left out whose child stays.
    pub fn fitting(&self, room: &Room) -> usize {
        // What its transactions cost a provider does not tell, only what it left.
        let left = self.origin.as_ref().map(|origin| origin.template.sigops_left);
        if left.is_some_and(|left| room.additions().sigops > left) {
            return 0;
        }
        let fits =
            |sum: &Sums| sum.weight_wu <= room.weight_wu && sum.sigop_cost <= room.sigop_cost;
        // The sums only grow, and none at all always fit.
        self.sums.partition_point(fits).saturating_sub(1)
    }

    /// False where the room is too small for a template that has to stay whole: one that leaves
    /// more free is on its way.
    pub fn serves(&self, room: &Room) -> bool {
        !self.only_whole || self.fitting(room) == self.len()
    }

    /// What the provider that gave it knows it by, if no node gave it.
    pub fn provider_template(&self) -> Option<ProviderTemplate> {
        self.origin.as_ref().map(|origin| origin.template)
    }

    /// How many transactions there are.
    pub fn len(&self) -> usize {
        self.txs.len()
    }

    /// No transactions, only the coinbase.
    pub fn is_empty(&self) -> bool {
        self.txs.is_empty()
    }

    /// All templates made of it so far.
    pub fn builds(&self) -> Vec<Arc<Built>> {
        let builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        builds.values().cloned().collect()
    }

    /// The template for that room, if it was made before.
    pub fn ready(&self, room: &Room) -> Option<Arc<Built>> {
        self.builds.try_lock().ok()?.get(&self.fitting(room)).cloned()
    }

    /// The template for that room: made now, unless there is one. When very many different ones
    /// are wanted, the largest that there is and that fits. Takes a millisecond for each thousand
    /// transactions. `new_id` gives its id.
    pub fn build(&self, room: &Room, new_id: impl FnOnce() -> u64) -> (Arc<Built>, bool) {
        let mut builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = self.fitting(room);
        if !builds.contains_key(&count) && builds.len() >= TEMPLATE_BUILDS_MAX {
            // One without transactions comes on top of the bound, for there always is one then.
            count = builds.range(..count).next_back().map_or(0, |(smaller, _)| *smaller);
        }
        if let Some(built) = builds.get(&count) {
            return (Arc::clone(built), false);
        }
        let built = Arc::new(self.make(count, new_id()));
        builds.insert(count, Arc::clone(&built));
        (built, true)
    }

    fn make(&self, count: usize, id: u64) -> Built {
        let txs = self.txs.get(..count).unwrap_or_default();
        let wtxids: Vec<_> = txs.iter().map(|tx| tx.wtxid()).collect();
        Built::new(Facts {
            origin: self.origin.clone().filter(|_| count == self.txs.len()),
            id,
            view: self.number,
            tip: self.tip,
            version: self.version,
            value_sat: self.value_of(count),
            txs: Arc::clone(&self.txs),
            count,
            witness_root: merkle::witness_root(&wtxids),
            merkle_path: merkle::branch_of_first(txs.iter().map(|tx| *tx.txid().as_ref())).into(),
        })
    }

    /// Subsidy and the fees of the first `count` transactions, satoshi.
    fn value_of(&self, count: usize) -> u64 {
        let fees = |count: usize| self.sums.get(count).map_or(0, |sum| sum.fees_sat);
        let all = self.txs.len();
        if self.fees_known || count == all {
            return self.value_sat.saturating_sub(fees(all) - fees(count));
        }
        // What is not known is not claimed.
        subsidy(self.network, self.tip.next_height()).to_sat() + fees(count)
    }
}
