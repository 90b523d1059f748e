//! Found blocks and their saga into the database.

use bitcoin::consensus::serialize;
use rusqlite::{Connection, OptionalExtension, params};

use super::fault::Fault;
use super::sizes::Table;
use super::state::State;
use crate::batch::{NewBlock, SubmissionStep};
use crate::types::BlockState;

/// Writes a found block; false when it is known already: the same solution may come twice. One that
/// was known without its transactions gets them, and keeps its user and template source.
pub(super) fn find(
    connection: &Connection,
    state: &mut State,
    new: &NewBlock,
    at_ms: u64,
    volatile: bool,
) -> Result<bool, Fault> {
    let block = &new.block;
    let rows = connection
        .prepare_cached(
            "INSERT INTO blocks (block_hash, height, user_id, found_at, template_source,
                 miner_template_hash, tx_count, reward_sat, coinbase_txid, header, state,
                 volatile, raw)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'found', ?11, ?12)
             ON CONFLICT (block_hash) DO NOTHING",
        )?
        .execute(params![
            block.hash.to_string(),
            new.height,
            &*new.user,
            at_ms,
            new.template_source.as_str(),
            new.template_hash.map(|hash| hash.to_string()),
            block.tx_count,
            new.reward_sat,
            block.coinbase_txid.to_string(),
            serialize(&block.header),
            volatile,
            block.raw,
        ])?;
    if rows > 0 {
        state.sizes.added(Table::Blocks, block.raw.len() as u64);
    } else if new.is_assembled() {
        complete(connection, state, new)?;
    }
    Ok(rows > 0)
}

/// Fills in the transactions of a block that was announced without them, as long as they are of use.
fn complete(connection: &Connection, state: &mut State, new: &NewBlock) -> Result<(), Fault> {
    let block = &new.block;
    let rows = connection
        .prepare_cached(
            "UPDATE blocks SET raw = ?2, tx_count = ?3
             WHERE block_hash = ?1 AND state = 'found' AND coalesce(length(raw), 0) = 0",
        )?
        .execute(params![block.hash.to_string(), block.raw, block.tx_count])?;
    if rows > 0 {
        state.sizes.grew(Table::Blocks, block.raw.len() as u64);
    }
    Ok(())
}

/// Writes where the saga of a block at a node stands.
pub(super) fn step(
    connection: &Connection,
    step: &SubmissionStep,
    at_ms: u64,
) -> Result<(), Fault> {
    let block_hash = step.block_hash.to_string();
    connection
        .prepare_cached(
            "INSERT INTO submissions (block_hash, node, state, detail, attempts, latency_ms,
                 updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (block_hash, node) DO UPDATE SET state = ?3, detail = ?4, attempts = ?5,
                 latency_ms = coalesce(?6, latency_ms), updated_at = ?7",
        )?
        .execute(params![
            block_hash,
            step.node,
            step.state.as_str(),
            step.detail,
            step.attempts,
            step.latency_ms,
            at_ms,
        ])?;
    Ok(())
}

/// Writes where a block stands in the chain. When that is final, its bytes are of no more use: the
/// nodes have them.
pub(super) fn progress(
    connection: &Connection,
    memory: &mut State,
    block_hash: &str,
    state: BlockState,
    confirmations: u32,
) -> Result<(), Fault> {
    let raw_bytes: Option<u64> = connection
        .prepare_cached("SELECT coalesce(length(raw), 0) FROM blocks WHERE block_hash = ?1")?
        .query_row([block_hash], |row| row.get(0))
        .optional()?;
    let Some(raw_bytes) = raw_bytes else {
        return Err(Fault::refused(format!("block {block_hash} is not known")));
    };
    connection
        .prepare_cached("UPDATE blocks SET state = ?2, confirmations = ?3 WHERE block_hash = ?1")?
        .execute(params![block_hash, state.as_str(), confirmations])?;
    if state != BlockState::Found && raw_bytes > 0 {
        connection
            .prepare_cached("UPDATE blocks SET raw = NULL WHERE block_hash = ?1")?
            .execute([block_hash])?;
        memory.sizes.shrank(Table::Blocks, raw_bytes);
    }
    Ok(())
}
