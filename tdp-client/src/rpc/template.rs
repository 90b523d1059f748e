//! The thread that keeps the node's template fresh.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::hex::FromHex as _;
use bitcoin::{BlockHash, CompactTarget, ScriptBuf, Wtxid};
use serde::Deserialize;
use serde_json::value::RawValue;
use validation::tx::{NodeFacts, Tx};

use super::client::{Client, NO_PARAMS};
use super::shared::{Backoff, Shared, Wake};
use super::{TxLookup, rules};
use crate::error::{Fault, NodeError};
use crate::limits::{
    MEMPOOL_POLL_MS, TEMPLATE_AGE_MAX_MS, TEMPLATE_REFRESH_MS, TEMPLATE_TIMEOUT_MS,
};
use crate::source::Template;

const METHOD: &str = "getblocktemplate";

/// Runs until stopped.
pub(super) fn run(shared: &Shared, lookup: &TxLookup) {
    let mut keeper = TemplateKeeper {
        shared,
        lookup,
        client: Client::new(shared.endpoint.clone()),
        pace: Pace::default(),
        longpollid: String::new(),
        session: 0,
        held: HashMap::new(),
        generation: 0,
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
    client: Client,
    pace: Pace,
    /// The node's name for the state that the published template was built from: the tip and a
    /// count of the mempool's changes.
    longpollid: String,
    session: u64,
    /// The published template's transactions, so that those which stay are not parsed again.
    held: HashMap<Wtxid, Arc<Tx>>,
    generation: u64,
}

/// What tells a changed mempool. Every addition, removal and replacement moves one of these.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct MempoolInfo {
    size: u64,
    bytes: u64,
    total_fee: Option<serde_json::Number>,
}

/// When to ask for a template on an unchanged tip.
#[derive(Debug, Default)]
struct Pace {
    mempool: Option<MempoolInfo>,
    changed_at: Option<Instant>,
    fetched_at: Option<Instant>,
}

impl Pace {
    /// Takes note of the mempool and tells whether a template should be fetched at `now`.
    ///
    /// A template fetched after a change need not show it: the node hands out the same one for
    /// five seconds, whoever had it built. One fetched [`TEMPLATE_REFRESH_MS`] after the change
    /// does show it.
    fn is_due(&mut self, mempool: MempoolInfo, now: Instant) -> bool {
        if self.mempool.as_ref() != Some(&mempool) {
            self.mempool = Some(mempool);
            self.changed_at = Some(now);
        }
        let Some(fetched_at) = self.fetched_at else { return true };
        let refresh = Duration::from_millis(TEMPLATE_REFRESH_MS);
        let age = now.saturating_duration_since(fetched_at);
        let shows_all = self.changed_at.is_none_or(|changed_at| fetched_at >= changed_at + refresh);
        age >= Duration::from_millis(TEMPLATE_AGE_MAX_MS) || (age >= refresh && !shows_all)
    }
}

#[derive(Deserialize)]
struct RawTemplate {
    version: i32,
    previousblockhash: BlockHash,
    transactions: Vec<RawTx>,
    coinbasevalue: u64,
    longpollid: String,
    mintime: u32,
    curtime: u32,
    bits: String,
    height: u32,
    /// Present when segwit is active.
    weightlimit: Option<u64>,
    default_witness_commitment: Option<String>,
}

#[derive(Deserialize)]
struct RawTx {
    data: String,
    /// The wtxid, in spite of its name.
    hash: Wtxid,
    /// Absent or negative when the node does not know.
    fee: Option<i64>,
    sigops: Option<u32>,
}

impl TemplateKeeper<'_> {
    /// Fetches a template when it is `wanted` or due.
    fn tick(&mut self, wanted: bool) -> Result<(), NodeError> {
        if !wanted {
            let mempool = self.client.ask("getmempoolinfo", NO_PARAMS)?;
            if !self.pace.is_due(mempool, Instant::now()) {
                return Ok(());
            }
        }
        let session = self.shared.session();
        if self.session != session {
            // Another run of the node may count its mempool's changes to the same number.
            self.longpollid.clear();
            self.session = session;
        }
        let asked_at = Instant::now();
        let rules = rules(self.shared.network);
        let params = RawValue::from_string(format!(r#"[{{"rules":{rules}}}]"#));
        let timeout = Duration::from_millis(TEMPLATE_TIMEOUT_MS);
        let raw = self.client.call(METHOD, params, timeout)?;
        self.publish(raw)?;
        self.pace.fetched_at = Some(asked_at);
        Ok(())
    }

    /// Publishes the template unless it is the published one.
    fn publish(&mut self, raw: RawTemplate) -> Result<(), NodeError> {
        if raw.longpollid == self.longpollid {
            return Ok(());
        }
        let bits = u32::from_str_radix(&raw.bits, 16)
            .map_err(|_| self.malformed("\"bits\" is not eight hex digits".into()))?;
        let witness_commitment = raw
            .default_witness_commitment
            .as_deref()
            .map(ScriptBuf::from_hex)
            .transpose()
            .map_err(|error| self.malformed(format!("default_witness_commitment: {error}")))?;
        // Before segwit the node counts sigops, with it their cost.
        let sigop_scale = if raw.weightlimit.is_some() { 1 } else { 4 };
        let mut txs = Vec::with_capacity(raw.transactions.len());
        for entry in &raw.transactions {
            txs.push(self.transaction(entry, sigop_scale)?);
        }
        self.held = txs.iter().map(|tx| (tx.wtxid(), tx.clone())).collect();
        self.longpollid = raw.longpollid;
        self.generation += 1;
        let bits = CompactTarget::from_consensus(bits);
        self.shared.check_bits(&raw.previousblockhash, raw.curtime, bits);
        tracing::debug!(
            node = &*self.shared.endpoint.node,
            height = raw.height,
            txs = txs.len(),
            value_sat = raw.coinbasevalue,
            "new template"
        );
        self.shared.template.send_replace(Some(Arc::new(Template {
            generation: self.generation,
            prev_hash: raw.previousblockhash,
            height: raw.height,
            txs,
            coinbase_value_sat: raw.coinbasevalue,
            version: raw.version,
            curtime: raw.curtime,
            mintime: raw.mintime,
            bits,
            witness_commitment,
            fetched_at: Instant::now(),
        })));
        Ok(())
    }

    /// Finds or parses one transaction and notes what the node says of it.
    fn transaction(&self, entry: &RawTx, sigop_scale: u32) -> Result<Arc<Tx>, NodeError> {
        let known = (self.lookup)(&entry.hash).or_else(|| self.held.get(&entry.hash).cloned());
        let tx = match known {
            Some(tx) => tx,
            None => Arc::new(self.parse(entry)?),
        };
        if let (Some(Ok(fee_sat)), Some(sigops)) = (entry.fee.map(u64::try_from), entry.sigops) {
            tx.learn(NodeFacts { fee_sat, sigop_cost: sigops.saturating_mul(sigop_scale) });
        }
        Ok(tx)
    }

    fn parse(&self, entry: &RawTx) -> Result<Tx, NodeError> {
        let wtxid = entry.hash;
        let raw = Vec::<u8>::from_hex(&entry.data)
            .map_err(|error| self.malformed(format!("transaction {wtxid}: {error}")))?;
        let tx = Tx::parse(&raw)
            .map_err(|error| self.malformed(format!("transaction {wtxid}: {error}")))?;
        if tx.wtxid() != wtxid {
            let actual = tx.wtxid();
            return Err(self.malformed(format!("transaction {wtxid} hashes to {actual}")));
        }
        Ok(tx)
    }

    fn malformed(&self, reason: String) -> NodeError {
        self.client.error(Fault::Malformed { method: METHOD, reason })
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
        let mut pace = Pace::default();
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
