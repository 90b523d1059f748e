//! What a starting server gets back.

use std::collections::HashMap;
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{BlockHash, CompactTarget};
use rusqlite::{Connection, Row, params};
use validation::block::FoundBlock;
use validation::coinbase::CoinbaseParts;
use validation::declared::TemplateHash;
use validation::job::{AcceptedJob, Fees, JobParts};
use validation::tip::{ChainTip, MinDifficulty, NextBits};
use validation::tx::Tx;

use super::read::{hex32, required, txid, wtxid};
use super::read_rest::{BLOCK_COLUMNS, block_row, live_tokens};
use super::read_templates::tx_ids;
use crate::query::{ReadError, RecoverQuery, Recovered, RecoveredBlock, RecoveredTemplate};
use crate::types::UserTag;

pub(super) fn recover(
    connection: &Connection,
    query: &RecoverQuery,
) -> Result<Recovered, ReadError> {
    let snapshot = connection.unchecked_transaction()?;
    let (spent_tokens, spent_floor) = live_tokens(&snapshot, query.now_ms, query.spent_tokens_max)?;
    let mut recovered = Recovered { spent_tokens, spent_floor, ..Recovered::default() };
    templates(&snapshot, query, &mut recovered)?;
    blocks(&snapshot, &mut recovered)?;
    Ok(recovered)
}

fn templates(
    connection: &Connection,
    query: &RecoverQuery,
    recovered: &mut Recovered,
) -> Result<(), ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM miner_templates WHERE id IN (
             SELECT id FROM (
                 SELECT id, row_number() OVER (PARTITION BY user_tag ORDER BY id DESC) AS turn
                 FROM miner_templates WHERE tx_list_id IS NOT NULL AND height >= ?1)
             WHERE turn <= ?2 ORDER BY turn, id DESC LIMIT ?3)
         ORDER BY id",
    )?;
    let parameters = params![query.min_height, query.user_templates_max, query.templates_max];
    let mut rows = statement.query(parameters)?;
    // Templates share most of their transactions: each is read and parsed once.
    let mut txs = HashMap::new();
    while let Some(row) = rows.next()? {
        match template(connection, row, &mut txs) {
            Ok(template) => recovered.templates.push(template),
            Err(error) => {
                let id: u64 = row.get("id")?;
                recovered.damaged.push(format!("template {id}: {error}"));
            }
        }
    }
    Ok(())
}

fn template(
    connection: &Connection,
    row: &Row<'_>,
    known: &mut HashMap<u32, Arc<Tx>>,
) -> Result<RecoveredTemplate, ReadError> {
    let ids = tx_ids(connection, required(row, "tx_list_id")?)?;
    let txs = ids.into_iter().map(|id| match known.get(&id) {
        Some(tx) => Ok(Arc::clone(tx)),
        None => {
            let tx = Arc::new(tx(connection, id)?);
            known.insert(id, Arc::clone(&tx));
            Ok(tx)
        }
    });
    let txs = txs.collect::<Result<_, ReadError>>()?;
    let (prefix, suffix): (Vec<u8>, Vec<u8>) =
        (required(row, "coinbase_prefix")?, required(row, "coinbase_suffix")?);
    let coinbase = CoinbaseParts::parse(&prefix, &suffix)
        .map_err(|rejection| ReadError::Damaged(format!("coinbase: {rejection}")))?;
    let known_sat: u64 = row.get("total_fees_sat")?;
    let verified: bool = row.get("fees_verified")?;
    let hash: String = required(row, "template_hash")?;
    let job = AcceptedJob::restore(JobParts {
        template_hash: TemplateHash::from_bytes(hex32(&hash)?),
        version: required(row, "version")?,
        tip: tip(row, coinbase.height())?,
        coinbase,
        txs,
        weight_wu: row.get("block_weight")?,
        sigop_cost_min: row.get("sigop_cost_min")?,
        fees: Fees { total_sat: verified.then_some(known_sat), known_sat },
        pool_payout_sat: row.get("pool_payout_sat")?,
        miner_payout_sat: row.get("miner_payout_sat")?,
        claimable_sat: row.get("claimable_sat")?,
    });
    let result: String = row.get("validation_result")?;
    let reason: Option<String> = row.get("reason")?;
    Ok(RecoveredTemplate {
        id: row.get("id")?,
        user: row.get("user_id")?,
        worker: row.get("worker")?,
        user_tag: UserTag(row.get("user_tag")?),
        submitted_at: row.get("submitted_at")?,
        job,
        withdrawn: (result == "invalidated").then(|| reason.unwrap_or_default()),
    })
}

fn tip(row: &Row<'_>, height: u32) -> Result<ChainTip, ReadError> {
    let after: Option<u32> = row.get("tip_min_after")?;
    let min_bits: Option<u32> = row.get("tip_min_bits")?;
    let min_difficulty = after
        .zip(min_bits)
        .map(|(after, bits)| MinDifficulty { after, bits: CompactTarget::from_consensus(bits) });
    Ok(ChainTip {
        hash: block_hash(&required::<String>(row, "prev_hash")?)?,
        height: height.saturating_sub(1),
        time: required(row, "tip_time")?,
        median_time_past: required(row, "tip_median_time")?,
        next_bits: NextBits {
            regular: CompactTarget::from_consensus(required(row, "tip_bits")?),
            min_difficulty,
        },
    })
}

/// One transaction, with proof that its bytes are those that were written.
fn tx(connection: &Connection, id: u32) -> Result<Tx, ReadError> {
    let damaged = |what: &str| ReadError::Damaged(format!("transaction {id} {what}"));
    let mut statement = connection.prepare_cached(
        "SELECT wtxid, raw FROM transactions JOIN tx_ids USING (id) WHERE id = ?1",
    )?;
    let mut rows = statement.query([id])?;
    let row = rows.next()?.ok_or_else(|| damaged("is missing"))?;
    let raw = row.get_ref(1)?.as_blob().map_err(|_| damaged("is not bytes"))?;
    let tx = Tx::parse(raw).map_err(|error| damaged(&error.to_string()))?;
    if tx.wtxid() != wtxid(row.get(0)?) {
        return Err(damaged("has another hash"));
    }
    Ok(tx)
}

fn blocks(connection: &Connection, recovered: &mut Recovered) -> Result<(), ReadError> {
    let sql = format!(
        "SELECT {BLOCK_COLUMNS}, coinbase_txid, header, raw FROM blocks
         WHERE state = 'found' ORDER BY id"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match block(connection, row) {
            Ok(block) => recovered.blocks.push(block),
            Err(error) => {
                let hash: String = row.get("block_hash")?;
                recovered.damaged.push(format!("block {hash}: {error}"));
            }
        }
    }
    Ok(())
}

fn block(connection: &Connection, row: &Row<'_>) -> Result<RecoveredBlock, ReadError> {
    let summary = block_row(connection, row)?;
    let hash = block_hash(&summary.block_hash)?;
    let header: Vec<u8> = row.get("header")?;
    let header: Header =
        deserialize(&header).map_err(|error| ReadError::Damaged(format!("header: {error}")))?;
    if header.block_hash() != hash {
        return Err(ReadError::Damaged("the header has another hash".to_owned()));
    }
    let mut coinbase = hex32(&row.get::<_, String>("coinbase_txid")?)?;
    coinbase.reverse();
    let block = FoundBlock {
        hash,
        header,
        raw: required(row, "raw")?,
        tx_count: summary.tx_count as usize,
        coinbase_txid: txid(coinbase),
    };
    Ok(RecoveredBlock { block_hash: hash, summary, block })
}

/// A block hash as it is usually printed: last byte first.
fn block_hash(hex: &str) -> Result<BlockHash, ReadError> {
    let mut bytes = hex32(hex)?;
    bytes.reverse();
    Ok(BlockHash::from_raw_hash(sha256d::Hash::from_byte_array(bytes)))
}
