//! Tokens, blocks, aggregates, users, webhooks and sizes.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::read::{below, limit, page, parsed};
use super::read_events;
use super::sizes::{Table, TableSizes};
use super::state::spent_floor;
use crate::batch::Webhook;
use crate::limits::{AGGREGATES_MAX, PAGE_ITEMS_MAX};
use crate::query::{
    Aggregate, BlockSummary, MinerSummary, MinersPage, NodeSubmission, Page, PageRequest,
    ReadError, SharesQuery, SpentToken,
};
use crate::report::{Sizes, TableSize};

/// How much older than the share after it a share may seem, since the clock was set, milliseconds.
const CLOCK_SET_BACK_MS_MAX: i64 = 3_600_000;

pub(super) fn tokens(
    connection: &Connection,
    request: PageRequest,
) -> Result<Page<SpentToken>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM tokens WHERE sequence < ?1 ORDER BY sequence DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![below(request), limit(request) + 1], token)?;
    let items = rows.collect::<Result<_, _>>()?;
    Ok(page(items, request, |token: &SpentToken| token.sequence))
}

/// Sequences of tokens that expire after `now_ms`, newest first, at most `count`; and the highest
/// sequence that is not among them although it was spent once.
pub(super) fn live_tokens(
    connection: &Connection,
    now_ms: u64,
    count: usize,
) -> Result<(Vec<u64>, u64), ReadError> {
    let mut floor = spent_floor(connection)?;
    let expired: Option<u64> = connection
        .prepare_cached("SELECT max(sequence) FROM tokens WHERE expires_at <= ?1")?
        .query_row([now_ms], |row| row.get(0))?;
    floor = floor.max(expired.unwrap_or_default());
    let mut statement = connection.prepare_cached(
        "SELECT sequence FROM tokens WHERE expires_at > ?1 ORDER BY sequence DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![now_ms, count.saturating_add(1)], |row| row.get(0))?;
    let mut sequences: Vec<u64> = rows.collect::<Result<_, _>>()?;
    // One more was asked for than wanted: it says where the forgotten ones begin.
    if sequences.len() > count {
        floor = floor.max(sequences.pop().unwrap_or_default());
    }
    Ok((sequences, floor))
}

fn token(row: &Row<'_>) -> rusqlite::Result<SpentToken> {
    Ok(SpentToken {
        sequence: row.get("sequence")?,
        user: row.get("user_id")?,
        spent_at: row.get("spent_at")?,
        expires_at: row.get("expires_at")?,
    })
}

/// Columns of a block without its bytes.
pub(super) const BLOCK_COLUMNS: &str = "id, block_hash, height, user_id, found_at, template_source,
    miner_template_hash, tx_count, reward_sat, state, confirmations, volatile";

pub(super) fn blocks(
    connection: &Connection,
    request: PageRequest,
) -> Result<Page<BlockSummary>, ReadError> {
    let sql = format!("SELECT {BLOCK_COLUMNS} FROM blocks WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![below(request), limit(request) + 1])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(block_row(connection, row)?);
    }
    Ok(page(items, request, |block| block.id))
}

pub(super) fn block(
    connection: &Connection,
    block_hash: &str,
) -> Result<Option<BlockSummary>, ReadError> {
    let sql = format!("SELECT {BLOCK_COLUMNS} FROM blocks WHERE block_hash = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([block_hash])?;
    rows.next()?.map(|row| block_row(connection, row)).transpose()
}

/// A row with [`BLOCK_COLUMNS`], and what the nodes made of the block.
pub(super) fn block_row(connection: &Connection, row: &Row<'_>) -> Result<BlockSummary, ReadError> {
    let block_hash: String = row.get("block_hash")?;
    Ok(BlockSummary {
        id: row.get("id")?,
        height: row.get("height")?,
        user: row.get("user_id")?,
        found_at: row.get("found_at")?,
        template_source: parsed(row, "template_source")?,
        miner_template_hash: row.get("miner_template_hash")?,
        tx_count: row.get("tx_count")?,
        reward_sat: row.get("reward_sat")?,
        state: parsed(row, "state")?,
        confirmations: row.get("confirmations")?,
        acknowledged_volatile: row.get("volatile")?,
        submissions: submissions(connection, &block_hash)?,
        block_hash,
    })
}

fn submissions(
    connection: &Connection,
    block_hash: &str,
) -> Result<Vec<NodeSubmission>, ReadError> {
    let mut statement = connection
        .prepare_cached("SELECT * FROM submissions WHERE block_hash = ?1 ORDER BY node")?;
    let mut rows = statement.query([block_hash])?;
    let mut submissions = Vec::new();
    while let Some(row) = rows.next()? {
        submissions.push(NodeSubmission {
            node: row.get("node")?,
            state: parsed(row, "state")?,
            detail: row.get("detail")?,
            attempts: row.get("attempts")?,
            latency_ms: row.get("latency_ms")?,
            updated_at: row.get("updated_at")?,
        });
    }
    Ok(submissions)
}

pub(super) fn aggregates(
    connection: &Connection,
    query: &SharesQuery,
) -> Result<Vec<Aggregate>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM aggregates
         WHERE period = ?1 AND scope = ?2 AND user_id = ?3 AND start >= ?4 AND start < ?5
         ORDER BY start, template_source LIMIT ?6",
    )?;
    // Later than any time: SQLite counts with signs.
    let until_ms = query.until_ms.min(i64::MAX as u64);
    let mut rows = statement.query(params![
        query.period.as_str(),
        u8::from(query.user.is_some()),
        query.user.as_deref().unwrap_or_default(),
        query.from_ms.min(until_ms),
        until_ms,
        AGGREGATES_MAX,
    ])?;
    let mut aggregates = Vec::new();
    while let Some(row) = rows.next()? {
        aggregates.push(Aggregate {
            start: row.get("start")?,
            template_source: parsed(row, "template_source")?,
            shares_accepted: row.get("shares_accepted")?,
            shares_rejected: row.get("shares_rejected")?,
            difficulty: row.get("difficulty")?,
            templates_accepted: row.get("templates_accepted")?,
            templates_rejected: row.get("templates_rejected")?,
            blocks_found: row.get("blocks_found")?,
        });
    }
    Ok(aggregates)
}

/// See [`crate::Store::accepted_shares`]. There is no index: the newest shares are walked through, until
/// they are older than what is asked for.
pub(super) fn accepted_shares(
    connection: &Connection,
    heights: u32,
    max: usize,
) -> Result<Vec<String>, ReadError> {
    let from_ms: Option<i64> = connection
        .prepare_cached(
            "SELECT min(submitted_at) FROM miner_templates
             WHERE validation_result <> 'rejected' AND height > (
                 SELECT max(height) - ?1 FROM miner_templates
                 WHERE validation_result <> 'rejected')",
        )?
        .query_row([heights], |row| row.get(0))?;
    let Some(from_ms) = from_ms else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(
        "SELECT share_hash, submitted_at, accepted = 1 AND miner_template_hash IS NOT NULL
         FROM shares ORDER BY id DESC",
    )?;
    let mut rows = statement.query([])?;
    let mut hashes = Vec::new();
    while let Some(row) = rows.next()?.filter(|_| hashes.len() < max) {
        let submitted_ms: i64 = row.get(1)?;
        if submitted_ms < from_ms.saturating_sub(CLOCK_SET_BACK_MS_MAX) {
            break;
        }
        if submitted_ms >= from_ms && row.get(2)? {
            hashes.push(row.get(0)?);
        }
    }
    Ok(hashes)
}

pub(super) fn miner(
    connection: &Connection,
    user: &str,
) -> Result<Option<MinerSummary>, ReadError> {
    let summary = connection
        .prepare_cached("SELECT * FROM users WHERE user_id = ?1")?
        .query_row([user], miner_row)
        .optional()?;
    Ok(summary)
}

/// See [`crate::Store::miners`]. By name, for row ids may change when the file is packed.
pub(super) fn miners(
    connection: &Connection,
    after: Option<&str>,
    limit: usize,
) -> Result<MinersPage, ReadError> {
    let limit = limit.min(PAGE_ITEMS_MAX);
    let mut statement = connection.prepare_cached(
        "SELECT * FROM users WHERE ?1 IS NULL OR user_id > ?1 ORDER BY user_id LIMIT ?2",
    )?;
    let rows = statement.query_map(params![after, limit + 1], miner_row)?;
    let mut miners: Vec<MinerSummary> = rows.collect::<Result<_, _>>()?;
    let more = miners.len() > limit;
    miners.truncate(limit);
    let next = miners.last().filter(|_| more).map(|miner| miner.user.clone());
    Ok(MinersPage { miners, next })
}

fn miner_row(row: &Row<'_>) -> rusqlite::Result<MinerSummary> {
    Ok(MinerSummary {
        user: row.get("user_id")?,
        first_seen: row.get("first_seen")?,
        last_seen: row.get("last_seen")?,
        templates_accepted_total: row.get("templates_accepted_total")?,
        templates_rejected_total: row.get("templates_rejected_total")?,
        shares_accepted_miner: row.get("shares_accepted_miner")?,
        shares_accepted_pool: row.get("shares_accepted_pool")?,
        shares_rejected: row.get("shares_rejected")?,
        blocks_found: row.get("blocks_found")?,
        sovereign_miner_at: row.get("sovereign_miner_at")?,
        node_runner_at: row.get("node_runner_at")?,
        template_crafter_at: row.get("template_crafter_at")?,
    })
}

pub(super) fn webhooks(connection: &Connection) -> Result<Vec<Webhook>, ReadError> {
    let mut statement = connection.prepare_cached("SELECT * FROM webhooks ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut webhooks = Vec::new();
    while let Some(row) = rows.next()? {
        webhooks.push(Webhook {
            id: row.get("id")?,
            url: row.get("url")?,
            secret: row.get("secret")?,
            types: row.get("types")?,
            cursor: parsed(row, "cursor")?,
            paused: row.get("paused")?,
            failures: row.get("failures")?,
            last_error: row.get("last_error")?,
            created_at: row.get("created_at")?,
            delivered_at: row.get("delivered_at")?,
        });
    }
    Ok(webhooks)
}

pub(super) fn sizes(connection: &Connection, wal_bytes: u64) -> Result<Sizes, ReadError> {
    let sizes = TableSizes::load(connection)?;
    let tables = Table::ALL.map(|table| {
        let size = sizes.of(table);
        TableSize { table: table.name(), rows: size.rows, bytes: size.bytes }
    });
    let pages: u64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let page_bytes: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok(Sizes {
        tables: tables.into(),
        database_bytes: pages * page_bytes,
        wal_bytes,
        first_event_id: read_events::bounds(connection)?.0,
    })
}
