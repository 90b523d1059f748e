//! What a verdict was given on, out of the database.

use std::collections::HashMap;
use std::sync::Arc;

use bitcoin::Wtxid;
use rusqlite::{Connection, OptionalExtension, Row, params};
use validation::identity::user_of;
use validation::replay::{SecondLook, VerdictInputs, WtxidList};
use validation::tip::{ChainTip, MinDifficulty, NextBits};
use validation::tx::{NodeFacts, Tx};
use validation::verdict::TxSlots;

use super::facts_json::{Facts, Terms, Tip};
use super::read::{parsed, required, wtxid};
use super::read_templates::{summary, tx_ids, with_row};
use super::write_inputs::{ABSENT, HERE, HERE_TOLD, STORED, STORED_TOLD};
use crate::event::{EventKind, TemplateAccepted, TemplateRejected};
use crate::query::{ReadError, TemplateRef};
use crate::types::ValidationResult;
use crate::verdict::{NoInputs, StoredVerdict, VerdictLookup, VerdictRef};

/// The verdict with its inputs. Within a transaction.
pub(super) fn look_up(
    snapshot: &Connection,
    which: VerdictRef,
) -> Result<VerdictLookup, ReadError> {
    let which = match which {
        VerdictRef::Template(which) => which,
        VerdictRef::Event(id) => match of_event(snapshot, id)? {
            Ok(row) => TemplateRef::Id(row),
            Err(answer) => return Ok(*answer),
        },
    };
    let found = with_row(snapshot, which, |row| verdict(snapshot, row))?;
    Ok(found.map_or(VerdictLookup::Absent, |verdict| VerdictLookup::Found(Box::new(verdict))))
}

fn verdict(snapshot: &Connection, row: &Row<'_>) -> Result<StoredVerdict, ReadError> {
    let summary = summary(row)?;
    let inputs = match summary.result {
        ValidationResult::Rejected => of_rejected(snapshot, row),
        ValidationResult::Accepted | ValidationResult::Invalidated => of_accepted(snapshot, row),
    };
    let inputs = inputs.or_else(|error| match error {
        Trouble::Read(ReadError::Damaged(what)) => Ok(Err(NoInputs::Damaged(what))),
        Trouble::Read(error) => Err(error),
        Trouble::Not(why) => Ok(Err(why)),
    })?;
    Ok(StoredVerdict { summary, sigop_cost_min: row.get("sigop_cost_min")?, inputs })
}

/// Why there are no inputs.
enum Trouble {
    Read(ReadError),
    Not(NoInputs),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(error.into())
    }
}

impl From<NoInputs> for Trouble {
    fn from(why: NoInputs) -> Self {
        Self::Not(why)
    }
}

fn damaged(what: impl ToString) -> Trouble {
    NoInputs::Damaged(what.to_string()).into()
}

type Inputs = Result<Result<VerdictInputs, NoInputs>, Trouble>;

fn of_accepted(snapshot: &Connection, row: &Row<'_>) -> Inputs {
    let rules: Option<String> = row.get("rules")?;
    let Some(rules) = rules else { return Err(NoInputs::OlderVersion.into()) };
    let rules: Terms = serde_json::from_str(&rules).map_err(damaged)?;
    let list: Option<i64> = row.get("tx_list_id")?;
    let count = row.get::<_, usize>("tx_count")?.saturating_sub(1);
    let Some(list) = list else {
        return Err(NoInputs::TransactionsGone { gone: count, of: count }.into());
    };
    let unvouched: Vec<u8> = row.get::<_, Option<Vec<u8>>>("unvouched")?.unwrap_or_default();
    let unvouched: Vec<u16> =
        unvouched.as_chunks::<2>().0.iter().map(|at| u16::from_le_bytes(*at)).collect();
    let mut txs = TxSlots::new();
    for (at, id) in (0_usize..).zip(tx_ids(snapshot, list)?) {
        let tx =
            stored(snapshot, id)?.ok_or_else(|| damaged(format!("transaction {id} is gone")))?;
        let untold = u16::try_from(at).is_ok_and(|at| unvouched.binary_search(&at).is_ok());
        txs.push(Some(tx.with_facts(!untold, at)?));
    }
    let wtxids = txs.iter().flatten().map(|tx| tx.wtxid()).collect();
    Ok(Ok(VerdictInputs {
        version: required(row, "version")?,
        coinbase_prefix: required(row, "coinbase_prefix")?,
        coinbase_suffix: required(row, "coinbase_suffix")?,
        wtxids: WtxidList::Listed(wtxids),
        rules: Arc::new(rules.rules().map_err(damaged)?),
        tip: Some(tip_of_row(row)?),
        second: None,
        txs,
        unvouched,
        node: None,
    }))
}

/// Of an accepted row: it is for the block after its tip.
fn tip_of_row(row: &Row<'_>) -> Result<ChainTip, Trouble> {
    let height: u32 = required(row, "height")?;
    let after: Option<u32> = row.get("tip_min_after")?;
    let bits: Option<u32> = row.get("tip_min_bits")?;
    let compact = bitcoin::CompactTarget::from_consensus;
    Ok(ChainTip {
        hash: parsed(row, "prev_hash")?,
        height: height.saturating_sub(1),
        time: required(row, "tip_time")?,
        median_time_past: required(row, "tip_median_time")?,
        next_bits: NextBits {
            regular: compact(required(row, "tip_bits")?),
            min_difficulty: after
                .zip(bits)
                .map(|(after, bits)| MinDifficulty { after, bits: compact(bits) }),
        },
    })
}

fn of_rejected(snapshot: &Connection, row: &Row<'_>) -> Inputs {
    let fate: Option<String> = row.get("inputs")?;
    match fate.as_deref() {
        Some("kept") => {}
        None => return Err(NoInputs::OlderVersion.into()),
        Some("none") => return Err(NoInputs::NoFunction.into()),
        Some("too_many") => return Err(NoInputs::TooMany.into()),
        Some("too_large") => return Err(NoInputs::TooLarge.into()),
        Some("stalled") => return Err(NoInputs::Stalled.into()),
        Some(other) => return Err(damaged(format!("inputs: {other:?}"))),
    }
    let mut statement =
        snapshot.prepare_cached("SELECT * FROM verdict_inputs WHERE template_id = ?1")?;
    let mut rows = statement.query([row.get::<_, u64>("id")?])?;
    let Some(row) = rows.next()? else { return Err(NoInputs::Displaced.into()) };
    let facts: String = row.get("facts")?;
    let facts: Facts = serde_json::from_str(&facts).map_err(damaged)?;
    let tip = |tip: Option<Tip>| tip.map(|tip| tip.tip().map_err(damaged)).transpose();
    let wtxids: Option<Vec<u8>> = row.get("wtxids")?;
    let wtxids = match wtxids {
        Some(bytes) => WtxidList::Listed(bytes.as_chunks().0.iter().map(|id| wtxid(*id)).collect()),
        None => WtxidList::Counted(facts.wtxid_count),
    };
    if wtxids.count() != facts.wtxid_count {
        return Err(damaged("the list of transactions has another length"));
    }
    let second = match facts.second {
        None => None,
        Some(second) => {
            let answer: Vec<u8> = required(row, "answer")?;
            let answer = Reader(&answer).all()?;
            Some(SecondLook { tip: tip(second.tip)?, asked: second.asked, answer })
        }
    };
    let txs: Option<Vec<u8>> = row.get("txs")?;
    let (txs, unvouched) = match (&txs, &wtxids) {
        (None, _) => Default::default(),
        (Some(txs), WtxidList::Listed(wtxids)) => rejected_txs(snapshot, txs, wtxids)?,
        (Some(_), WtxidList::Counted(_)) => return Err(damaged("transactions without a list")),
    };
    Ok(Ok(VerdictInputs {
        version: facts.version,
        coinbase_prefix: row.get("coinbase_prefix")?,
        coinbase_suffix: row.get("coinbase_suffix")?,
        wtxids,
        rules: Arc::new(facts.rules.rules().map_err(damaged)?),
        tip: tip(facts.tip)?,
        second,
        txs,
        unvouched,
        node: facts.node.map(Into::into),
    }))
}

/// The transactions as they were judged, and the positions of those that no node had told of.
fn rejected_txs(
    snapshot: &Connection,
    bytes: &[u8],
    wtxids: &[Wtxid],
) -> Result<(TxSlots, Vec<u16>), Trouble> {
    let (mut reader, mut txs, mut unvouched) = (Reader(bytes), TxSlots::new(), Vec::new());
    let mut elsewhere: HashMap<Wtxid, (usize, bool)> = HashMap::new();
    for (at, wtxid) in wtxids.iter().enumerate() {
        let tag = reader.take::<1>()?[0];
        let slot = match tag {
            STORED | STORED_TOLD => {
                elsewhere.insert(*wtxid, (at, tag == STORED_TOLD));
                None
            }
            HERE_TOLD => {
                let fee_sat = u64::from_le_bytes(reader.take()?);
                let sigop_cost = u32::from_le_bytes(reader.take()?);
                let tx = parse(reader.raw()?)?;
                tx.learn(NodeFacts { fee_sat, sigop_cost });
                Some(tx)
            }
            HERE => Some(parse(reader.raw()?)?),
            ABSENT => None,
            tag => return Err(damaged(format!("transaction {at} begins with {tag}"))),
        };
        if matches!(tag, STORED | HERE) {
            unvouched.extend(u16::try_from(at));
        }
        txs.push(slot);
    }
    let of = elsewhere.len();
    fetch(snapshot, &mut elsewhere, &mut txs)?;
    if elsewhere.is_empty() {
        return Ok((txs, unvouched));
    }
    Err(NoInputs::TransactionsGone { gone: elsewhere.len(), of }.into())
}

/// Puts in what accepted templates brought to the disk. There is no index: all ids are looked at.
fn fetch(
    snapshot: &Connection,
    elsewhere: &mut HashMap<Wtxid, (usize, bool)>,
    txs: &mut TxSlots,
) -> Result<(), Trouble> {
    if elsewhere.is_empty() {
        return Ok(());
    }
    let mut ids = snapshot.prepare("SELECT id, wtxid FROM tx_ids")?;
    let mut ids = ids.query([])?;
    while let Some(row) = ids.next()? {
        let Some((at, told)) = elsewhere.remove(&wtxid(row.get(1)?)) else { continue };
        let tx = stored(snapshot, row.get(0)?)?.ok_or_else(|| damaged("a transaction is gone"))?;
        if let Some(slot) = txs.get_mut(at) {
            *slot = Some(tx.with_facts(told, at)?);
        }
    }
    Ok(())
}

fn parse(raw: &[u8]) -> Result<Arc<Tx>, Trouble> {
    Tx::parse(raw).map(Arc::new).map_err(damaged)
}

/// A transaction of the store.
struct Stored {
    tx: Arc<Tx>,
    facts: Option<NodeFacts>,
}

impl Stored {
    fn with_facts(self, told: bool, at: usize) -> Result<Arc<Tx>, Trouble> {
        if told {
            self.tx.learn(self.facts.ok_or(NoInputs::FactsGone { at })?);
        }
        Ok(self.tx)
    }
}

fn stored(snapshot: &Connection, id: u32) -> Result<Option<Stored>, Trouble> {
    let found: Option<(Vec<u8>, Option<u64>, Option<u32>)> = snapshot
        .prepare_cached(
            "SELECT raw, fee_sat, sigop_cost FROM transactions JOIN tx_ids USING (id) WHERE id = ?1",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((raw, fee_sat, sigop_cost)) = found else { return Ok(None) };
    let facts =
        fee_sat.zip(sigop_cost).map(|(fee_sat, sigop_cost)| NodeFacts { fee_sat, sigop_cost });
    Ok(Some(Stored { tx: parse(&raw)?, facts }))
}

/// Bytes that another version may have written.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Trouble> {
        let (head, rest) =
            self.0.split_first_chunk().ok_or_else(|| damaged("bytes are missing"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn raw(&mut self) -> Result<&'a [u8], Trouble> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        let (head, rest) =
            self.0.split_at_checked(length).ok_or_else(|| damaged("bytes are missing"))?;
        self.0 = rest;
        Ok(head)
    }

    fn all(&mut self) -> Result<Vec<Vec<u8>>, Trouble> {
        let mut all = Vec::new();
        while !self.0.is_empty() {
            all.push(self.raw()?.to_vec());
        }
        Ok(all)
    }
}

/// The row of the declaration that an event tells of. Both were written at once, so they have the
/// same time; two of one user in one millisecond differ by what they took.
fn of_event(snapshot: &Connection, id: u64) -> Result<Result<u64, Box<VerdictLookup>>, ReadError> {
    let event: Option<(String, u64, String)> = snapshot
        .prepare_cached("SELECT kind, timestamp, data FROM events WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((kind, at_ms, data)) = event else {
        return Ok(Err(Box::new(VerdictLookup::EventGone)));
    };
    let broken = |error| ReadError::Damaged(format!("event {id}: {error}"));
    let kind: EventKind = kind.parse().map_err(|_| ReadError::Damaged(format!("event {id}")))?;
    let (user, hash, validation_ms, rejected) = match kind {
        EventKind::TemplateAccepted => {
            let data: TemplateAccepted = serde_json::from_str(&data).map_err(broken)?;
            (data.user, Some(data.template_hash), data.validation_ms, None)
        }
        EventKind::TemplateRejected => {
            let data: TemplateRejected = serde_json::from_str(&data).map_err(broken)?;
            let (user, hash) = (data.user.clone(), data.template_hash.clone());
            (user, hash, data.validation_ms, Some(Box::new(data)))
        }
        other => return Ok(Err(Box::new(VerdictLookup::OtherEvent(other)))),
    };
    // Earlier events have user and worker as one, which rows tell apart.
    let user = user_of(&user);
    let row: Option<u64> = snapshot
        .prepare_cached(
            "SELECT id FROM miner_templates INDEXED BY miner_templates_user
             WHERE user_id = ?1 AND submitted_at = ?2 AND validation_ms = ?3
                 AND template_hash IS ?4 AND (validation_result = 'rejected') = ?5
             ORDER BY id LIMIT 1",
        )?
        .query_row(params![user, at_ms, validation_ms, hash, rejected.is_some()], |row| row.get(0))
        .optional()?;
    Ok(row.ok_or_else(|| match rejected {
        Some(event) => Box::new(VerdictLookup::WithoutRow(event)),
        None => Box::new(VerdictLookup::Absent),
    }))
}
