//! Accepted and rejected templates into the database.

use bitcoin::hashes::Hash;
use rusqlite::{Connection, OptionalExtension, params};
use validation::job::AcceptedJob;
use validation::tx::Tx;

use super::facts_json::Terms;
use super::fault::Fault;
use super::sizes::Table;
use super::state::State;
use super::{packed, write_inputs};
use crate::batch::{AcceptedTemplate, RejectedInputs, RejectedTemplate};
use crate::types::UserTag;

/// Writes an accepted template with its transactions, each of them once.
pub(super) fn accept(
    connection: &Connection,
    state: &mut State,
    template: &AcceptedTemplate,
    at_ms: u64,
    volatile: bool,
) -> Result<(), Fault> {
    let job = template.job.accepted_job();
    let template_hash = job.template_hash().to_string();
    let list_id = match known_list(connection, &template_hash)? {
        Some(list_id) => {
            tell_known(connection, state, job)?;
            list_id
        }
        None => write_list(connection, state, job, template.user_tag)?,
    };
    let (coinbase, tip, fees) = (job.coinbase(), job.tip(), job.fees());
    let rules = serde_json::to_string(&Terms::from(template.rules.as_ref()))
        .map_err(|error| Fault::refused(error.to_string()))?;
    let unvouched: Vec<u8> = job.unvouched().iter().flat_map(|at| at.to_le_bytes()).collect();
    let exception = tip.next_bits.min_difficulty;
    connection
        .prepare_cached(
            "INSERT INTO miner_templates (template_hash, user_id, user_tag, submitted_at,
                 validation_result, validation_ms, fetch_ms, txs_unknown, request_bytes, tx_count,
                 height, total_fees_sat, fees_verified, block_weight, sigop_cost_min,
                 pool_payout_sat, miner_payout_sat, claimable_sat, reward_sat, volatile, version,
                 prev_hash, tip_time, tip_median_time, tip_bits, tip_min_after, tip_min_bits,
                 extranonce_bytes, tx_list_id, coinbase_prefix, coinbase_suffix, rules, unvouched,
                 worker)
             VALUES (?1, ?2, ?3, ?4, 'accepted', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,
                 ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30,
                 ?31, ?32, ?33)",
        )?
        .execute(params![
            template_hash,
            &*template.user,
            template.user_tag.0,
            at_ms,
            template.validation_ms,
            template.fetch_ms,
            template.txs_unknown,
            template.request_bytes,
            job.tx_count(),
            job.height(),
            fees.known_sat,
            job.fees_verified(),
            job.weight_wu(),
            job.sigop_cost_min(),
            job.pool_payout_sat(),
            job.miner_payout_sat(),
            job.claimable_sat(),
            job.reward_sat(),
            volatile,
            job.version(),
            job.prev_hash().to_string(),
            tip.time,
            tip.median_time_past,
            tip.next_bits.regular.to_consensus(),
            exception.map(|exception| exception.after),
            exception.map(|exception| exception.bits.to_consensus()),
            coinbase.extranonce_len(),
            list_id,
            coinbase.prefix(),
            coinbase.suffix(),
            rules,
            unvouched,
            &*template.worker,
        ])?;
    let variable_bytes =
        coinbase.prefix().len() + coinbase.suffix().len() + rules.len() + unvouched.len();
    state.sizes.added(Table::Templates, variable_bytes as u64);
    Ok(())
}

/// Writes a rejected template.
pub(super) fn reject(
    connection: &Connection,
    state: &mut State,
    template: &RejectedTemplate,
    at_ms: u64,
) -> Result<(), Fault> {
    let fate = write_inputs::fate(&template.inputs);
    connection
        .prepare_cached(
            "INSERT INTO miner_templates (template_hash, user_id, user_tag, submitted_at,
                 validation_result, validation_ms, request_bytes, tx_count, height, error_code,
                 reason, offender_index, expected, actual, inputs, worker)
             VALUES (?1, ?2, ?3, ?4, 'rejected', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            template.template_hash.map(|hash| hash.to_string()),
            &*template.user,
            template.user_tag.0,
            at_ms,
            template.validation_ms,
            template.request_bytes,
            template.tx_count,
            template.height,
            template.error_code,
            template.reason,
            template.index,
            template.expected,
            template.actual,
            fate,
            &*template.worker,
        ])?;
    state.sizes.added(Table::Rejected, 0);
    if let (RejectedInputs::Kept(inputs), "kept") = (&template.inputs, fate) {
        let id = connection.last_insert_rowid();
        write_inputs::put(connection, state, id, template.user_tag, inputs)?;
    }
    Ok(())
}

/// The list of an earlier declaration of the same template: its transactions are the same.
fn known_list(connection: &Connection, template_hash: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT tx_list_id FROM miner_templates
             WHERE template_hash = ?1 AND tx_list_id IS NOT NULL LIMIT 1",
        )?
        .query_row([template_hash], |row| row.get(0))
        .optional()
}

/// Writes what nodes have told of the transactions of a list that is there.
fn tell_known(
    connection: &Connection,
    state: &mut State,
    job: &AcceptedJob,
) -> rusqlite::Result<()> {
    let known = state.tx_ids.get_all(job.txs().iter().map(|tx| tx.wtxid()));
    for (tx, id) in job.txs().iter().zip(known) {
        if let Some(id) = id.filter(|id| state.tx_ids.is_untold(*id)) {
            write_facts(connection, state, id, tx)?;
        }
    }
    Ok(())
}

fn write_list(
    connection: &Connection,
    state: &mut State,
    job: &AcceptedJob,
    user: UserTag,
) -> Result<i64, Fault> {
    let mut ids = Vec::with_capacity(job.txs().len());
    let known = state.tx_ids.get_all(job.txs().iter().map(|tx| tx.wtxid()));
    for (tx, known) in job.txs().iter().zip(known) {
        let id = match known {
            Some(id) => {
                if state.tx_ids.is_untold(id) {
                    write_facts(connection, state, id, tx)?;
                }
                id
            }
            None => write_tx(connection, state, tx)?,
        };
        ids.push(id);
        if let Some(named) = &mut state.named {
            named.insert(id);
        }
    }
    let mut base_id = None;
    let mut bytes = None;
    if let Some(base) = state.bases.take_turn(&user) {
        let changes = packed::pack_changes(&ids, &base.ids);
        // A quarter: then whole lists are rare, and changes stay small.
        if changes.len() <= 16 + ids.len() / 2 {
            base_id = Some(base.list_id);
            bytes = Some(changes);
        }
    }
    let bytes = bytes.unwrap_or_else(|| packed::pack(&ids));
    connection
        .prepare_cached("INSERT INTO tx_lists (base_id, tx_count, packed) VALUES (?1, ?2, ?3)")?
        .execute(params![base_id, ids.len(), bytes])?;
    let list_id = connection.last_insert_rowid();
    state.sizes.grew(Table::Templates, bytes.len() as u64);
    if base_id.is_none() {
        state.bases.insert(user, list_id, ids);
    }
    Ok(list_id)
}

/// Writes what a node has told of a transaction since it was written.
fn write_facts(
    connection: &Connection,
    state: &mut State,
    id: u32,
    tx: &Tx,
) -> rusqlite::Result<()> {
    let Some(facts) = tx.node_facts() else { return Ok(()) };
    connection
        .prepare_cached("UPDATE tx_ids SET sigop_cost = ?2 WHERE id = ?1")?
        .execute(params![id, facts.sigop_cost])?;
    connection
        .prepare_cached("UPDATE transactions SET fee_sat = ?2 WHERE id = ?1 AND fee_sat IS NULL")?
        .execute(params![id, facts.fee_sat])?;
    state.tx_ids.tell(id);
    Ok(())
}

/// Writes a transaction that is new.
fn write_tx(connection: &Connection, state: &mut State, tx: &Tx) -> Result<u32, Fault> {
    let wtxid = tx.wtxid().to_byte_array();
    let facts = tx.node_facts();
    connection
        .prepare_cached("INSERT INTO tx_ids (wtxid, sigop_cost) VALUES (?1, ?2)")?
        .execute(params![wtxid, facts.map(|facts| facts.sigop_cost)])?;
    let id = u32::try_from(connection.last_insert_rowid())
        .map_err(|_| Fault::refused("row ids of transactions are used up"))?;
    connection
        .prepare_cached(
            "INSERT INTO transactions (id, txid, weight_wu, fee_sat, raw)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            id,
            Some(tx.txid().to_byte_array()).filter(|txid| *txid != wtxid),
            tx.weight_wu(),
            facts.map(|facts| facts.fee_sat),
            tx.raw(),
        ])?;
    state.sizes.added(Table::Transactions, tx.raw().len() as u64);
    state.tx_ids.insert(&tx.wtxid(), id, facts.is_some());
    Ok(id)
}
