//! The thread that keeps the node's template fresh.

mod from_ipc;
mod from_rpc;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::{BlockHash, Wtxid};
use serde::Deserialize;
use validation::tx::{NodeFacts, Tx};

use super::TxLookup;
use super::caller::Caller;
use super::shared::{Backoff, Shared, Wake};
use crate::error::{Fault, NodeError};
use crate::limits::{
    MEMPOOL_POLL_MS, TEMPLATE_AGE_MAX_MS, TEMPLATE_REFRESH_IPC_MS, TEMPLATE_REFRESH_MS,
};
use crate::rpc::NO_PARAMS;
use crate::source::Template;

/// Runs until stopped.
pub(super) fn run(shared: &Shared, lookup: &TxLookup, caller: Caller) {
    let mut keeper = TemplateKeeper {
        shared,
        lookup,
        pace: match caller {
            Caller::Rpc(_) => Pace::of_cached(Duration::from_millis(TEMPLATE_REFRESH_MS)),
            Caller::Ipc(_) => Pace::of_fresh(Duration::from_millis(TEMPLATE_REFRESH_IPC_MS)),
        },
        caller,
        longpollid: String::new(),
        session: 0,
        held: HashMap::new(),
        generation: 0,
        held_for: None,
    };
    let mut backoff = Backoff::new();
    let mut pause = Duration::ZERO;
    let mut seen = 0;
    let mut wanted = false;
    let mut failures = 0_u32;
    loop {
        match shared.signal.wait(&mut seen, pause) {
            Wake::Stop => return,
            Wake::Refresh => wanted = true,
            Wake::Timeout => {}
        }
        pause = Duration::from_millis(MEMPOOL_POLL_MS);
        // Without a connection there is nothing to say: the state says it, and its return to
        // Ready wakes us.
        if !shared.is_ready() {
            failures = 0;
            shared.forget_template_error();
            continue;
        }
        match keeper.tick(wanted) {
            Ok(()) => {
                wanted = false;
                failures = 0;
                backoff.reset();
                shared.set_template_error(None);
            }
            Err(error) => {
                wanted = true;
                pause = backoff.pause();
                failures = failures.saturating_add(1);
                // The first may be the node going away, which the state is about to say.
                if failures > 1 {
                    shared.set_template_error(Some(error));
                }
            }
        }
    }
}

struct TemplateKeeper<'a> {
    shared: &'a Shared,
    lookup: &'a TxLookup,
    caller: Caller,
    pace: Pace,
    /// The node's name for the state that the published template was built from: the tip and a
    /// count of the mempool's changes.
    longpollid: String,
    session: u64,
    /// The published template's transactions, so that those which stay are not parsed again.
    held: HashMap<Wtxid, Arc<Tx>>,
    generation: u64,
    /// The tip that others have had their time for.
    held_for: Option<BlockHash>,
}

/// What tells a changed mempool. Every addition, removal and replacement moves one of these.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct MempoolInfo {
    size: u64,
    bytes: u64,
    total_fee: Option<serde_json::Number>,
}

/// When to ask for a template on an unchanged tip.
#[derive(Debug)]
struct Pace {
    /// Least time between two questions.
    refresh: Duration,
    /// How old a template may be when the node gives it.
    cached: Duration,
    mempool: Option<MempoolInfo>,
    changed_at: Option<Instant>,
    fetched_at: Option<Instant>,
}

impl Pace {
    /// Of a node that hands out the same template for some time.
    fn of_cached(refresh: Duration) -> Self {
        Self { refresh, cached: refresh, mempool: None, changed_at: None, fetched_at: None }
    }

    /// Of a node that makes one whenever it is asked.
    fn of_fresh(refresh: Duration) -> Self {
        Self { cached: Duration::ZERO, ..Self::of_cached(refresh) }
    }

    /// Takes note of the mempool and tells whether a template should be fetched at `now`.
    ///
    /// A template fetched after a change need not show it: over RPC the node hands out the same
    /// one for five seconds, whoever had it built. One fetched [`TEMPLATE_REFRESH_MS`] after the
    /// change does show it.
    fn is_due(&mut self, mempool: MempoolInfo, now: Instant) -> bool {
        if self.mempool.as_ref() != Some(&mempool) {
            self.mempool = Some(mempool);
            self.changed_at = Some(now);
        }
        let Some(fetched_at) = self.fetched_at else { return true };
        let age = now.saturating_duration_since(fetched_at);
        let shows_all =
            self.changed_at.is_none_or(|changed_at| fetched_at >= changed_at + self.cached);
        age >= Duration::from_millis(TEMPLATE_AGE_MAX_MS) || (age >= self.refresh && !shows_all)
    }
}

/// A template that was fetched, before it is known whether it is another than the last.
struct Fetched {
    /// All but the generation.
    template: Template,
    /// The node's name for the state that it was built from, if it has one.
    longpollid: Option<String>,
}

impl TemplateKeeper<'_> {
    /// Fetches a template when it is `wanted` or due.
    fn tick(&mut self, wanted: bool) -> Result<(), NodeError> {
        if !wanted {
            let mempool = self.caller.ask("getmempoolinfo", NO_PARAMS)?;
            if !self.pace.is_due(mempool, Instant::now()) {
                return Ok(());
            }
        }
        self.hold();
        let session = self.shared.session();
        if self.session != session {
            // Another run of the node may count its mempool's changes to the same number.
            self.longpollid.clear();
            self.session = session;
        }
        let asked_at = Instant::now();
        let fetched = match &self.caller {
            Caller::Rpc(client) => from_rpc::fetch(self, client)?,
            Caller::Ipc(client) => from_ipc::fetch(self, client)?,
        };
        if let Some(template) = fetched {
            self.publish(template);
        }
        self.pace.fetched_at = Some(asked_at);
        Ok(())
    }

    /// Leaves the node to others for a moment, once on each tip.
    fn hold(&mut self) {
        let tip = self.shared.tip.borrow().as_deref().map(|state| state.tip.hash);
        if let (Some(hold), Some(tip)) = (self.shared.template_hold.get(), tip)
            && self.held_for.replace(tip) != Some(tip)
        {
            hold(&tip);
        }
    }

    /// Publishes a template that is not the published one.
    fn publish(&mut self, Fetched { mut template, longpollid }: Fetched) {
        self.held = template.txs.iter().map(|tx| (tx.wtxid(), tx.clone())).collect();
        self.longpollid = longpollid.unwrap_or_default();
        self.generation += 1;
        template.generation = self.generation;
        self.shared.check_bits(&template.prev_hash, template.curtime, template.bits);
        tracing::debug!(
            node = &*self.shared.node,
            height = template.height,
            txs = template.txs.len(),
            value_sat = template.coinbase_value_sat,
            "new template"
        );
        self.shared.template.send_replace(Some(Arc::new(template)));
    }

    /// The transaction with this id, if we hold it; or else what `parse` makes.
    fn transaction(
        &self,
        wtxid: &Wtxid,
        parse: impl FnOnce() -> Result<Tx, NodeError>,
    ) -> Result<Arc<Tx>, NodeError> {
        let known = (self.lookup)(wtxid).or_else(|| self.held.get(wtxid).cloned());
        known.map_or_else(|| parse().map(Arc::new), Ok)
    }
}

/// Notes what the node says of a transaction. Negative: it does not know.
fn learn(tx: &Tx, fee_sat: i64, sigop_cost: u32) {
    if let Ok(fee_sat) = u64::try_from(fee_sat) {
        tx.learn(NodeFacts { fee_sat, sigop_cost });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mempool(size: u64) -> MempoolInfo {
        MempoolInfo { size, bytes: size * 100, total_fee: None }
    }

    /// The seconds at which a keeper that looks every second fetches, and the mempool it sees.
    fn fetches(seconds: u64, mempool_at: impl Fn(u64) -> MempoolInfo) -> Vec<u64> {
        let start = Instant::now();
        let mut pace = Pace::of_cached(Duration::from_secs(6));
        (0..seconds)
            .filter(|second| {
                let now = start + Duration::from_secs(*second);
                let due = pace.is_due(mempool_at(*second), now);
                if due {
                    pace.fetched_at = Some(now);
                }
                due
            })
            .collect()
    }

    #[test]
    fn a_quiet_mempool_is_asked_until_the_nodes_own_copy_is_fresh_and_then_rarely() {
        assert_eq!(fetches(130, |_| mempool(1)), [0, 6, 66, 126]);
    }

    #[test]
    fn a_busy_mempool_is_asked_at_the_refresh_rate() {
        assert_eq!(fetches(20, mempool), [0, 6, 12, 18]);
    }

    #[test]
    fn a_change_just_before_a_fetch_is_fetched_again() {
        let found = fetches(40, |second| mempool(u64::from(second >= 17)));
        assert_eq!(found, [0, 6, 17, 23]);
    }
}
