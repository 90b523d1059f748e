//! What is too old or too much goes, oldest first, in steps that hold the writer for milliseconds.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Params, params};

use super::group::Pen;
use super::sizes::Table;
use super::state::{State, raise_spent_floor};
use super::{accounts, read_chain, write_inputs};
use crate::limits::{LIVE_DEPTH_BLOCKS, RETENTION_STEP_ROWS, USER_TEMPLATES_SAFE, USERS_MAX};
use crate::settings::{Keep, Retention};
use crate::types::Period;

/// One step: gives up the transactions of the templates that are named, or deletes what is to go
/// anyway. True when there may be more to do.
pub(super) fn step(
    pen: &mut Pen,
    retention: &Retention,
    now_ms: u64,
    evict: &[u64],
) -> rusqlite::Result<bool> {
    pen.transaction(false, |pen| {
        let (connection, state) = (&pen.connection, &mut pen.state);
        if !evict.is_empty() {
            return detach(connection, state, evict).map(|()| true);
        }
        let before = |age_ms: u64| now_ms.saturating_sub(age_ms);
        let mut rows = tokens(connection, state, retention.spent_tokens_max, now_ms)?;
        rows += events(connection, state, &retention.events, now_ms)?;
        for (result, keep) in [
            ("rejected", &retention.rejected),
            ("accepted", &retention.templates),
            ("invalidated", &retention.templates),
        ] {
            rows += templates(connection, state, result, keep, now_ms)?;
        }
        let age_ms = retention.transactions.age_ms;
        rows += detach_before(connection, state, before(age_ms))?;
        rows += shares(connection, state, &retention.shares, now_ms)?;
        rows += accounting(connection, state, &retention.accounting, now_ms)?;
        rows += all_aggregates(connection, state, retention, now_ms)?;
        rows += users(connection, state)?;
        Ok(rows > 0)
    })
}

/// Row id, time and variable bytes.
type Row = (u64, u64, u64);

/// The oldest rows that are too old or too many. `sql` gives the oldest rows in order.
fn excess(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    keep: &Keep,
    now_ms: u64,
    (mut bytes, row_bytes): (u64, u64),
) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut excess = Vec::new();
    let before = now_ms.saturating_sub(keep.age_ms);
    while let Some(row) = rows.next()? {
        let (id, at_ms, variable): Row = (row.get(0)?, row.get(1)?, row.get(2)?);
        if at_ms >= before && bytes <= keep.bytes {
            break;
        }
        bytes = bytes.saturating_sub(row_bytes + variable);
        excess.push((id, at_ms, variable));
    }
    Ok(excess)
}

/// Bytes of a table, and of a row in it.
fn weights(state: &State, table: Table) -> (u64, u64) {
    (state.sizes.of(table).bytes, table.row_bytes())
}

/// Tokens that expired, and the oldest of too many. What went is noted as a floor, so that none of
/// them is ever good again: neither a full table nor a clock that steps back may do that.
fn tokens(
    connection: &Connection,
    state: &mut State,
    keep: u64,
    now_ms: u64,
) -> rusqlite::Result<usize> {
    let step = RETENTION_STEP_ROWS as u64;
    let expired = "DELETE FROM tokens WHERE sequence IN
             (SELECT sequence FROM tokens WHERE expires_at < ?1 LIMIT ?2) RETURNING sequence";
    let mut gone = sequences(connection, expired, params![now_ms, step])?;
    let kept = state.sizes.of(Table::Tokens).rows.saturating_sub(gone.len() as u64);
    let excess = kept.saturating_sub(keep).min(step);
    if excess > 0 {
        let oldest = "DELETE FROM tokens WHERE sequence IN
                 (SELECT sequence FROM tokens ORDER BY sequence LIMIT ?1) RETURNING sequence";
        gone.extend(sequences(connection, oldest, [excess])?);
    }
    if let Some(highest) = gone.iter().max() {
        raise_spent_floor(connection, *highest)?;
    }
    state.sizes.removed(Table::Tokens, gone.len() as u64, 0);
    Ok(gone.len())
}

fn sequences(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> rusqlite::Result<Vec<u64>> {
    connection.prepare_cached(sql)?.query_map(parameters, |row| row.get(0))?.collect()
}

fn events(
    connection: &Connection,
    state: &mut State,
    keep: &Keep,
    now_ms: u64,
) -> rusqlite::Result<usize> {
    // The newest one stays: it is where the numbers go on.
    let sql = "SELECT id, timestamp, octet_length(data) FROM events
               WHERE id < (SELECT max(id) FROM events) ORDER BY id LIMIT ?1";
    let weights = weights(state, Table::Events);
    let excess = excess(connection, sql, [RETENTION_STEP_ROWS], keep, now_ms, weights)?;
    let Some((last, _, _)) = excess.last() else { return Ok(0) };
    read_chain::drop_anchor(connection, *last)?;
    connection.prepare_cached("DELETE FROM events WHERE id <= ?1")?.execute([last])?;
    state.sizes.removed(Table::Events, excess.len() as u64, variable_bytes(&excess));
    Ok(excess.len())
}

fn shares(
    connection: &Connection,
    state: &mut State,
    keep: &Keep,
    now_ms: u64,
) -> rusqlite::Result<usize> {
    let sql = "SELECT id, submitted_at, 0 FROM shares ORDER BY id LIMIT ?1";
    let weights = weights(state, Table::Shares);
    let excess = excess(connection, sql, [RETENTION_STEP_ROWS], keep, now_ms, weights)?;
    let Some((last, _, _)) = excess.last() else { return Ok(0) };
    connection.prepare_cached("DELETE FROM shares WHERE id <= ?1")?.execute([last])?;
    state.sizes.removed(Table::Shares, excess.len() as u64, 0);
    Ok(excess.len())
}

/// Entries of closed intervals. Where the rest begins is noted, so that a reader who misses some is
/// told.
fn accounting(
    connection: &Connection,
    state: &mut State,
    keep: &Keep,
    now_ms: u64,
) -> rusqlite::Result<usize> {
    let sql = "SELECT a.id, i.closed_at, octet_length(a.user_id) FROM accounting AS a
                   JOIN accounting_intervals AS i ON i.id = a.interval_id
               WHERE i.closed_at IS NOT NULL ORDER BY a.id LIMIT ?1";
    let weights = weights(state, Table::Accounting);
    let excess = excess(connection, sql, [RETENTION_STEP_ROWS], keep, now_ms, weights)?;
    let Some((last, _, _)) = excess.last() else { return Ok(0) };
    accounts::raise_floor(connection, *last)?;
    connection.prepare_cached("DELETE FROM accounting WHERE id <= ?1")?.execute([last])?;
    connection
        .prepare_cached(
            "DELETE FROM accounting_intervals WHERE closed_at IS NOT NULL
                 AND id < (SELECT coalesce(min(interval_id), 9223372036854775807) FROM accounting)",
        )?
        .execute([])?;
    state.sizes.removed(Table::Accounting, excess.len() as u64, variable_bytes(&excess));
    Ok(excess.len())
}

/// Of a block that may still come: nobody displaces it by declaring much. ?3 is [`live_height`],
/// ?4 [`USER_TEMPLATES_SAFE`].
const NOT_LIVE: &str = "NOT (tx_list_id IS NOT NULL AND height >= ?3 AND ?4 > (
    SELECT count(*) FROM (
        SELECT 1 FROM miner_templates AS newer INDEXED BY miner_templates_user
        WHERE newer.user_id = template.user_id AND newer.id > template.id
            AND newer.tx_list_id IS NOT NULL LIMIT ?4)))";

/// Height from which a block may still come of a template.
pub(super) fn live_height(connection: &Connection) -> rusqlite::Result<u32> {
    let newest: Option<u32> = connection
        .prepare_cached(
            "SELECT height FROM miner_templates WHERE tx_list_id IS NOT NULL
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(newest.unwrap_or_default().saturating_sub(LIVE_DEPTH_BLOCKS))
}

/// What is too old, then what is too much: first what no block can come of any more.
fn templates(
    connection: &Connection,
    state: &mut State,
    result: &str,
    keep: &Keep,
    now_ms: u64,
) -> rusqlite::Result<usize> {
    let table = if result == "rejected" { Table::Rejected } else { Table::Templates };
    let height = live_height(connection)?;
    let by_age = Keep { bytes: u64::MAX, ..*keep };
    let by_bytes = Keep { age_ms: u64::MAX, ..*keep };
    let mut excess = Vec::new();
    for (filter, keep) in [("TRUE", &by_age), (NOT_LIVE, &by_bytes), ("TRUE", &by_bytes)] {
        let sql = format!(
            "SELECT id, submitted_at,
                 coalesce(length(coinbase_prefix), 0) + coalesce(length(coinbase_suffix), 0)
                     + coalesce(octet_length(rules), 0) + coalesce(length(unvouched), 0)
             FROM miner_templates AS template
             WHERE validation_result = ?1 AND ?3 + ?4 IS NOT NULL AND {filter}
             ORDER BY id LIMIT ?2"
        );
        let parameters = params![result, RETENTION_STEP_ROWS, height, USER_TEMPLATES_SAFE];
        excess = self::excess(connection, &sql, parameters, keep, now_ms, weights(state, table))?;
        if !excess.is_empty() {
            break;
        }
    }
    let mut lists = Vec::new();
    for (id, _, _) in &excess {
        write_inputs::delete(connection, state, *id as i64)?;
        let list: Option<i64> = connection
            .prepare_cached("DELETE FROM miner_templates WHERE id = ?1 RETURNING tx_list_id")?
            .query_row([id], |row| row.get(0))?;
        lists.extend(list);
    }
    state.sizes.removed(table, excess.len() as u64, variable_bytes(&excess));
    drop_lists(connection, state, lists)?;
    Ok(excess.len())
}

fn variable_bytes(rows: &[Row]) -> u64 {
    rows.iter().map(|(_, _, bytes)| bytes).sum()
}

/// Gives up the transactions of the oldest templates, but not the templates.
fn detach_before(
    connection: &Connection,
    state: &mut State,
    before_ms: u64,
) -> rusqlite::Result<usize> {
    let mut statement = connection.prepare_cached(
        "SELECT id, submitted_at FROM miner_templates
         WHERE tx_list_id IS NOT NULL ORDER BY id LIMIT ?1",
    )?;
    let rows = statement.query_map([RETENTION_STEP_ROWS], |row| {
        Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?))
    })?;
    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
    let old = rows.iter().take_while(|(_, at_ms)| *at_ms < before_ms);
    let ids: Vec<_> = old.map(|(id, _)| *id).collect();
    detach(connection, state, &ids)?;
    Ok(ids.len())
}

/// Gives up the transactions of these templates.
fn detach(connection: &Connection, state: &mut State, ids: &[u64]) -> rusqlite::Result<()> {
    let mut lists = Vec::new();
    for id in ids {
        let list: Option<Option<i64>> = connection
            .prepare_cached("SELECT tx_list_id FROM miner_templates WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        if let Some(list) = list.flatten() {
            connection
                .prepare_cached("UPDATE miner_templates SET tx_list_id = NULL WHERE id = ?1")?
                .execute([id])?;
            lists.push(list);
        }
    }
    drop_lists(connection, state, lists)
}

/// Deletes lists that no template and no other list needs, and then what they alone needed.
fn drop_lists(
    connection: &Connection,
    state: &mut State,
    mut lists: Vec<i64>,
) -> rusqlite::Result<()> {
    let mut dropped = HashSet::new();
    while let Some(list) = lists.pop() {
        let gone: Option<(Option<i64>, u64)> = connection
            .prepare_cached(
                "DELETE FROM tx_lists WHERE id = ?1
                     AND NOT EXISTS (SELECT 1 FROM miner_templates WHERE tx_list_id = ?1)
                     AND NOT EXISTS (SELECT 1 FROM tx_lists WHERE base_id = ?1)
                 RETURNING base_id, length(packed)",
            )?
            .query_row([list], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((base, bytes)) = gone {
            state.sizes.shrank(Table::Templates, bytes);
            dropped.insert(list);
            lists.extend(base);
        }
    }
    if !dropped.is_empty() {
        state.bases.forget(&dropped);
    }
    Ok(())
}

/// Of all users together.
const EVERYBODY: u8 = 0;
/// Of single users.
const EACH: u8 = 1;

fn all_aggregates(
    connection: &Connection,
    state: &mut State,
    retention: &Retention,
    now_ms: u64,
) -> rusqlite::Result<usize> {
    let hourly_before = now_ms.saturating_sub(retention.hourly_age_ms);
    let daily_before = now_ms.saturating_sub(retention.user_daily_age_ms);
    let mut rows = 0;
    for (period, scope, before_ms) in [
        (Period::Hour, EVERYBODY, hourly_before),
        (Period::Hour, EACH, hourly_before),
        (Period::Day, EACH, daily_before),
    ] {
        rows += aggregates(connection, state, period, scope, before_ms, RETENTION_STEP_ROWS)?;
    }
    // Names are free and so are accepted templates, nearly: too many rows of single users go as
    // well, the hours before the days.
    for period in [Period::Hour, Period::Day] {
        let over = state.sizes.of(Table::Aggregates).bytes.checked_sub(retention.aggregates_bytes);
        if rows == 0
            && let Some(over) = over.filter(|bytes| *bytes > 0)
        {
            let enough = over.div_ceil(Table::Aggregates.row_bytes());
            let count = enough.min(RETENTION_STEP_ROWS as u64) as usize;
            rows += aggregates(connection, state, period, EACH, u64::MAX, count)?;
        }
    }
    Ok(rows)
}

/// Deletes the oldest before a time, so many at most.
fn aggregates(
    connection: &Connection,
    state: &mut State,
    period: Period,
    scope: u8,
    before_ms: u64,
    count: usize,
) -> rusqlite::Result<usize> {
    let before_ms = i64::try_from(before_ms).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "DELETE FROM aggregates WHERE (period, scope, user_id, start, template_source) IN
             (SELECT period, scope, user_id, start, template_source FROM aggregates
              WHERE period = ?1 AND scope = ?2 AND start < ?3 ORDER BY start LIMIT ?4)
         RETURNING octet_length(user_id)",
    )?;
    let parameters = params![period.as_str(), scope, before_ms, count];
    let bytes = statement.query_map(parameters, |row| row.get::<_, u64>(0))?;
    let bytes: Vec<_> = bytes.collect::<Result<_, _>>()?;
    state.sizes.removed(Table::Aggregates, bytes.len() as u64, bytes.iter().sum());
    Ok(bytes.len())
}

/// Names are free: those who have nothing else go first, then those with accepted templates alone,
/// the longest unseen of each. Shares and blocks cost work, and are never forgotten.
fn users(connection: &Connection, state: &mut State) -> rusqlite::Result<usize> {
    let mut deleted = 0;
    for earned in ["templates_accepted_total = 0", "templates_accepted_total > 0"] {
        let users = state.sizes.of(Table::Users).rows;
        let step = (RETENTION_STEP_ROWS - deleted) as u64;
        let excess = users.saturating_sub(USERS_MAX as u64).min(step);
        if excess == 0 {
            break;
        }
        let mut statement = connection.prepare_cached(&format!(
            "DELETE FROM users WHERE user_id IN (SELECT user_id FROM users
                 WHERE shares_accepted_miner + shares_accepted_pool = 0 AND blocks_found = 0
                     AND {earned} ORDER BY last_seen LIMIT ?1)
             RETURNING octet_length(user_id)"
        ))?;
        let bytes = statement.query_map([excess], |row| row.get::<_, u64>(0))?;
        let bytes: Vec<_> = bytes.collect::<Result<_, _>>()?;
        state.sizes.removed(Table::Users, bytes.len() as u64, bytes.iter().sum());
        deleted += bytes.len();
    }
    Ok(deleted)
}

/// Deletes transactions that nothing named when they were looked for, and nothing has since.
pub(super) fn delete_transactions(pen: &mut Pen, ids: &[u32]) -> rusqlite::Result<()> {
    pen.transaction(false, |pen| {
        let Some(named) = pen.state.named.take() else { return Ok(()) };
        let result = ids.iter().filter(|id| !named.contains(**id)).try_for_each(|id| {
            let bytes: Option<u64> = pen
                .connection
                .prepare_cached("DELETE FROM transactions WHERE id = ?1 RETURNING length(raw)")?
                .query_row([id], |row| row.get(0))
                .optional()?;
            if let Some(bytes) = bytes {
                let wtxid = pen
                    .connection
                    .prepare_cached("DELETE FROM tx_ids WHERE id = ?1 RETURNING wtxid")?
                    .query_row([id], |row| row.get(0))?;
                pen.state.tx_ids.remove(&super::read::wtxid(wtxid));
                pen.state.sizes.removed(Table::Transactions, 1, bytes);
            }
            Ok(())
        });
        pen.state.named = Some(named);
        result
    })
}
