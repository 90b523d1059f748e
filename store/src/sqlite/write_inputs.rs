//! Inputs of rejected declarations into the database, within a bound that all users share fairly.

use std::collections::BTreeSet;

use bitcoin::hashes::Hash;
use rusqlite::{Connection, params};
use validation::replay::{VerdictInputs, WtxidList};
use validation::tx::{NodeFacts, Tx};

use super::facts_json::{Facts, Second};
use super::fault::Fault;
use super::sizes::Table;
use super::state::State;
use crate::batch::RejectedInputs;
use crate::limits::{
    VERDICT_INPUTS_BYTES_MAX, VERDICT_INPUTS_EVICTED_BYTES, VERDICT_INPUTS_ROW_BYTES_MAX,
};
use crate::types::UserTag;

/// First byte of a transaction as it was judged: in the store, and known to a node.
pub(super) const STORED_TOLD: u8 = 0;
/// In the store; no node had told of it.
pub(super) const STORED: u8 = 1;
/// Here: fee (8 bytes) and sigop cost (4) as a node told, length (4), bytes. Little endian.
pub(super) const HERE_TOLD: u8 = 2;
/// Here: length (4), bytes. No node had told of it.
pub(super) const HERE: u8 = 3;
/// Was not there.
pub(super) const ABSENT: u8 = 4;

/// What the column `inputs` says of a declaration.
pub(super) fn fate(inputs: &RejectedInputs) -> &'static str {
    match inputs {
        RejectedInputs::Kept(inputs) if bytes_max(inputs) > VERDICT_INPUTS_ROW_BYTES_MAX => {
            "too_large"
        }
        RejectedInputs::Kept(_) => "kept",
        RejectedInputs::None => "none",
        RejectedInputs::TooMany => "too_many",
        RejectedInputs::Stalled => "stalled",
    }
}

/// Bytes that inputs may take at most.
fn bytes_max(inputs: &VerdictInputs) -> u64 {
    let wtxids = match &inputs.wtxids {
        WtxidList::Listed(wtxids) => 32 * wtxids.len(),
        WtxidList::Counted(_) => 0,
    };
    let answer = inputs.second.iter().flat_map(|second| &second.answer);
    let answer: usize = answer.map(|raw| 4 + raw.len()).sum();
    let txs: usize = inputs.txs.iter().flatten().map(|tx| 17 + tx.raw().len()).sum();
    let coinbase = inputs.coinbase_prefix.len() + inputs.coinbase_suffix.len();
    (coinbase + wtxids + answer + txs) as u64
}

/// Writes the inputs of the declaration with that row id.
pub(super) fn put(
    connection: &Connection,
    state: &mut State,
    template_id: i64,
    user: UserTag,
    inputs: &VerdictInputs,
) -> Result<(), Fault> {
    let facts = Facts {
        version: inputs.version,
        wtxid_count: inputs.wtxids.count(),
        rules: inputs.rules.as_ref().into(),
        tip: inputs.tip.as_ref().map(Into::into),
        second: inputs.second.as_ref().map(|second| Second {
            tip: second.tip.as_ref().map(Into::into),
            asked: second.asked.clone(),
        }),
        node: inputs.node.as_ref().map(Into::into),
    };
    let facts = serde_json::to_string(&facts).map_err(|error| Fault::refused(error.to_string()))?;
    let wtxids: Option<Vec<u8>> = match &inputs.wtxids {
        WtxidList::Listed(wtxids) => {
            Some(wtxids.iter().flat_map(|wtxid| wtxid.to_byte_array()).collect())
        }
        WtxidList::Counted(_) => None,
    };
    let answer = inputs.second.as_ref().map(|second| answer(&second.answer));
    let txs = (!inputs.txs.is_empty()).then(|| txs(state, inputs));
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let coinbase = inputs.coinbase_prefix.len() + inputs.coinbase_suffix.len();
    let bytes = facts.len() + coinbase + length(&wtxids) + length(&answer) + length(&txs);
    connection
        .prepare_cached(
            "INSERT INTO verdict_inputs (template_id, user_tag, bytes, facts, coinbase_prefix,
                 coinbase_suffix, wtxids, answer, txs)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            template_id,
            user.0,
            bytes,
            facts,
            inputs.coinbase_prefix,
            inputs.coinbase_suffix,
            wtxids,
            answer,
            txs,
        ])?;
    state.sizes.added(Table::Inputs, bytes as u64);
    if state.sizes.of(Table::Inputs).bytes > VERDICT_INPUTS_BYTES_MAX {
        make_room(connection, state)?;
    }
    Ok(())
}

fn answer(raw: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(raw.iter().map(|raw| 4 + raw.len()).sum());
    raw.iter().for_each(|raw| put_raw(&mut bytes, raw));
    bytes
}

fn put_raw(bytes: &mut Vec<u8>, raw: &[u8]) {
    // A frame has fewer bytes than 2^24, a transaction fewer than 2^22.
    bytes.extend((raw.len() as u32).to_le_bytes());
    bytes.extend(raw);
}

/// The transactions as they were judged. What an accepted template brought to the disk is not
/// written again: should it go before these inputs, the verdict can not be had again.
fn txs(state: &State, inputs: &VerdictInputs) -> Vec<u8> {
    let mut bytes = Vec::new();
    let known = state.tx_ids.get_all(inputs.txs.iter().flatten().map(|tx| tx.wtxid()));
    let mut known = known.into_iter();
    for (at, slot) in inputs.txs.iter().enumerate() {
        let Some(tx) = slot else {
            bytes.push(ABSENT);
            continue;
        };
        let untold = u16::try_from(at).is_ok_and(|at| inputs.unvouched.binary_search(&at).is_ok());
        let told = (!untold).then(|| tx.node_facts()).flatten();
        match (known.next().flatten(), told) {
            (Some(_), None) => bytes.push(STORED),
            (Some(id), Some(_)) if !state.tx_ids.is_untold(id) => bytes.push(STORED_TOLD),
            (_, told) => put_here(&mut bytes, tx, told),
        }
    }
    bytes
}

fn put_here(bytes: &mut Vec<u8>, tx: &Tx, told: Option<NodeFacts>) {
    match told {
        Some(NodeFacts { fee_sat, sigop_cost }) => {
            bytes.push(HERE_TOLD);
            bytes.extend(fee_sat.to_le_bytes());
            bytes.extend(sigop_cost.to_le_bytes());
        }
        None => bytes.push(HERE),
    }
    put_raw(bytes, tx.raw());
}

/// Deletes inputs until there is room: always the oldest of who has most, so that whoever is refused
/// much displaces inputs of their own.
fn make_room(connection: &Connection, state: &mut State) -> Result<(), Fault> {
    let goal = VERDICT_INPUTS_BYTES_MAX - VERDICT_INPUTS_EVICTED_BYTES;
    let mut users = BTreeSet::new();
    {
        let mut shares = connection.prepare_cached(
            "SELECT sum(bytes + ?1), user_tag FROM verdict_inputs GROUP BY user_tag",
        )?;
        let mut shares = shares.query([Table::Inputs.row_bytes()])?;
        while let Some(row) = shares.next()? {
            users.insert((row.get::<_, u64>(0)?, row.get::<_, Vec<u8>>(1)?));
        }
    }
    while state.sizes.of(Table::Inputs).bytes > goal
        && let Some((share, user)) = users.pop_last()
    {
        let gone: (i64, u64) = connection
            .prepare_cached(
                "SELECT template_id, bytes FROM verdict_inputs WHERE user_tag = ?1
                 ORDER BY template_id LIMIT 1",
            )?
            .query_row([&user], |row| Ok((row.get(0)?, row.get(1)?)))?;
        delete(connection, state, gone.0)?;
        let rest = share.saturating_sub(gone.1 + Table::Inputs.row_bytes());
        if rest > 0 {
            users.insert((rest, user));
        }
    }
    Ok(())
}

/// Deletes the inputs of a declaration, if they are there.
pub(super) fn delete(
    connection: &Connection,
    state: &mut State,
    template_id: i64,
) -> rusqlite::Result<()> {
    let mut gone = connection
        .prepare_cached("DELETE FROM verdict_inputs WHERE template_id = ?1 RETURNING bytes")?;
    let mut gone = gone.query([template_id])?;
    while let Some(row) = gone.next()? {
        state.sizes.removed(Table::Inputs, 1, row.get(0)?);
    }
    Ok(())
}
