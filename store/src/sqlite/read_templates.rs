//! Declarations, and templates with their transactions.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::packed;
use super::read::{below, limit, page, parsed, required, txid, wtxid};
use crate::query::{
    Page, PageRequest, ReadError, TemplateDetail, TemplateFilter, TemplateRef, TemplateSummary,
    TemplateTx,
};

/// Declarations that match, newest first.
pub(super) fn list(
    connection: &Connection,
    filter: &TemplateFilter,
    request: PageRequest,
) -> Result<Page<TemplateSummary>, ReadError> {
    let (below, limit) = (below(request), limit(request) + 1);
    let hash = filter.template_hash.map(|hash| hash.to_string());
    let result = filter.result.map(|result| result.as_str());
    let conditions: [(&str, Option<&dyn ToSql>); 5] = [
        ("user_id =", filter.user.as_ref().map(|user| user as _)),
        ("template_hash =", hash.as_ref().map(|hash| hash as _)),
        ("validation_result =", result.as_ref().map(|result| result as _)),
        ("submitted_at >=", filter.from_ms.as_ref().map(|from| from as _)),
        ("submitted_at <", filter.until_ms.as_ref().map(|until| until as _)),
    ];
    let mut sql = "SELECT * FROM miner_templates WHERE id < ?1".to_owned();
    let mut parameters: Vec<&dyn ToSql> = vec![&below];
    for (condition, parameter) in conditions {
        if let Some(parameter) = parameter {
            parameters.push(parameter);
            sql.push_str(&format!(" AND {condition} ?{}", parameters.len()));
        }
    }
    parameters.push(&limit);
    sql.push_str(&format!(" ORDER BY id DESC LIMIT ?{}", parameters.len()));
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(&*parameters)?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(summary(row)?);
    }
    Ok(page(items, request, |item| item.id))
}

/// One row, whatever the verdict.
pub(super) fn one(
    connection: &Connection,
    which: TemplateRef,
) -> Result<Option<TemplateSummary>, ReadError> {
    with_row(connection, which, summary)
}

pub(super) fn with_row<T>(
    connection: &Connection,
    which: TemplateRef,
    read: impl FnOnce(&Row<'_>) -> Result<T, ReadError>,
) -> Result<Option<T>, ReadError> {
    let (sql, parameter): (&str, &dyn ToSql) = match &which {
        TemplateRef::Id(id) => ("SELECT * FROM miner_templates WHERE id = ?1", id),
        TemplateRef::Hash(hash) => (
            "SELECT * FROM miner_templates WHERE template_hash = ?1
             ORDER BY validation_result = 'rejected', tx_list_id IS NULL, id DESC LIMIT 1",
            &hash.to_string(),
        ),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([parameter])?;
    rows.next()?.map(read).transpose()
}

pub(super) fn summary(row: &Row<'_>) -> Result<TemplateSummary, ReadError> {
    Ok(TemplateSummary {
        id: row.get("id")?,
        template_hash: row.get("template_hash")?,
        user: row.get("user_id")?,
        worker: row.get("worker")?,
        submitted_at: row.get("submitted_at")?,
        result: parsed(row, "validation_result")?,
        tx_count: row.get("tx_count")?,
        total_fees_sat: row.get("total_fees_sat")?,
        fees_verified: row.get("fees_verified")?,
        block_weight: row.get("block_weight")?,
        height: row.get("height")?,
        prev_hash: row.get("prev_hash")?,
        validation_ms: row.get("validation_ms")?,
        fetch_ms: row.get("fetch_ms")?,
        txs_unknown: row.get("txs_unknown")?,
        request_bytes: row.get("request_bytes")?,
        pool_payout_sat: row.get("pool_payout_sat")?,
        miner_payout_sat: row.get("miner_payout_sat")?,
        claimable_sat: row.get("claimable_sat")?,
        reward_sat: row.get("reward_sat")?,
        error_code: row.get("error_code")?,
        reason: row.get("reason")?,
        index: row.get("offender_index")?,
        expected: row.get("expected")?,
        actual: row.get("actual")?,
        acknowledged_volatile: row.get("volatile")?,
    })
}

/// One accepted template with the ids of its transactions.
pub(super) fn detail(
    connection: &Connection,
    which: TemplateRef,
) -> Result<Option<TemplateDetail>, ReadError> {
    // One snapshot: retention may take the transactions away in between.
    let snapshot = connection.unchecked_transaction()?;
    let read = with_row(&snapshot, which, |row| {
        let version: Option<u32> = row.get("version")?;
        let Some(version) = version else { return Ok(None) };
        let detail = TemplateDetail {
            summary: summary(row)?,
            version,
            coinbase_prefix: required(row, "coinbase_prefix")?,
            coinbase_suffix: required(row, "coinbase_suffix")?,
            extranonce_bytes: required(row, "extranonce_bytes")?,
            sigop_cost_min: row.get("sigop_cost_min")?,
            txs: None,
        };
        Ok(Some((detail, row.get::<_, Option<i64>>("tx_list_id")?)))
    })?;
    let Some((mut detail, list_id)) = read.flatten() else { return Ok(None) };
    if let Some(list_id) = list_id {
        let ids = tx_ids(&snapshot, list_id)?;
        detail.txs = Some(ids.into_iter().map(|id| tx(&snapshot, id)).collect::<Result<_, _>>()?);
    }
    Ok(Some(detail))
}

/// The transactions of an accepted template in consensus encoding.
pub(super) fn raw(
    connection: &Connection,
    which: TemplateRef,
) -> Result<Option<Vec<Vec<u8>>>, ReadError> {
    let snapshot = connection.unchecked_transaction()?;
    let list_id = with_row(&snapshot, which, |row| Ok(row.get::<_, Option<i64>>("tx_list_id")?))?;
    let Some(list_id) = list_id.flatten() else { return Ok(None) };
    let ids = tx_ids(&snapshot, list_id)?;
    ids.into_iter().map(|id| raw_tx(&snapshot, id)).collect::<Result<_, _>>().map(Some)
}

/// Row ids of the transactions of a list, in block order.
pub(super) fn tx_ids(connection: &Connection, list_id: i64) -> Result<Vec<u32>, ReadError> {
    let (base_id, count, packed) = list_row(connection, list_id)?;
    let base = match base_id {
        None => Vec::new(),
        Some(base_id) => {
            let (none, count, packed) = list_row(connection, base_id)?;
            if none.is_some() {
                return Err(ReadError::Damaged(format!("list {base_id} is not whole")));
            }
            unpack(base_id, &packed, &[], count)?
        }
    };
    unpack(list_id, &packed, &base, count)
}

fn unpack(list_id: i64, bytes: &[u8], base: &[u32], count: usize) -> Result<Vec<u32>, ReadError> {
    packed::unpack(bytes, base, count)
        .map_err(|error| ReadError::Damaged(format!("list {list_id}: {error}")))
}

fn list_row(
    connection: &Connection,
    list_id: i64,
) -> Result<(Option<i64>, usize, Vec<u8>), ReadError> {
    connection
        .prepare_cached("SELECT base_id, tx_count, packed FROM tx_lists WHERE id = ?1")?
        .query_row([list_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?
        .ok_or_else(|| ReadError::Damaged(format!("list {list_id} is missing")))
}

fn tx(connection: &Connection, id: u32) -> Result<TemplateTx, ReadError> {
    connection
        .prepare_cached(
            "SELECT coalesce(txid, wtxid), wtxid, length(raw), weight_wu, fee_sat
             FROM transactions JOIN tx_ids USING (id) WHERE id = ?1",
        )?
        .query_row(params![id], |row| {
            Ok(TemplateTx {
                txid: txid(row.get(0)?),
                wtxid: wtxid(row.get(1)?),
                bytes: row.get(2)?,
                weight_wu: row.get(3)?,
                fee_sat: row.get(4)?,
            })
        })
        .optional()?
        .ok_or_else(|| missing(id))
}

/// The bytes of one transaction.
pub(super) fn raw_tx(connection: &Connection, id: u32) -> Result<Vec<u8>, ReadError> {
    connection
        .prepare_cached("SELECT raw FROM transactions WHERE id = ?1")?
        .query_row(params![id], |row| row.get(0))
        .optional()?
        .ok_or_else(|| missing(id))
}

fn missing(id: u32) -> ReadError {
    ReadError::Damaged(format!("transaction {id} is missing"))
}
