//! The tables of the accounting feed: intervals that are opened with the first share, counted into
//! while they are open, closed, and given out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::shared::now_ms;
use super::sizes::Table;
use super::state::{State, meta, set_meta};
use crate::accounting::{
    Accounted, AccountingCursor, AccountingEntry, AccountingInterval, AccountingPage, ShareOrigin,
};
use crate::batch::NewBlock;
use crate::event::ShareSubmitted;
use crate::limits::ACCOUNTING_ENTRIES_MAX;
use crate::query::ReadError;
use crate::types::TemplateSource;

/// Name of the last entry that is kept no more, in the table `meta`.
const FLOOR: &str = "accounting_floor";

/// The interval that is counted into.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenInterval {
    id: i64,
    opened: Instant,
}

impl OpenInterval {
    /// When it is to be closed.
    pub(super) fn ends(&self, length: Duration) -> Instant {
        self.opened + length
    }
}

/// What is told apart within an interval.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Account {
    user: String,
    source: TemplateSource,
    template_hash: String,
    pool_payout_sat: i64,
    claimable_sat: i64,
    origin: ShareOrigin,
}

#[derive(Debug, Clone, Copy, Default)]
struct Work {
    shares: u64,
    difficulty: f64,
    first_at: u64,
    last_at: u64,
}

impl Work {
    fn add(&mut self, other: &Self) {
        self.first_at =
            if self.shares == 0 { other.first_at } else { self.first_at.min(other.first_at) };
        self.last_at = self.last_at.max(other.last_at);
        self.shares += other.shares;
        self.difficulty += other.difficulty;
    }
}

#[derive(Debug)]
struct Found {
    user: String,
    source: TemplateSource,
    template_hash: String,
    block_hash: String,
    at_ms: u64,
}

/// Work and blocks of one transaction.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    work: HashMap<Account, Work>,
    blocks: Vec<Found>,
}

impl Accounts {
    /// Counts an accepted share.
    pub(super) fn share(&mut self, share: &ShareSubmitted, at_ms: u64) {
        let sat = |sat: Option<u64>| sat.and_then(|sat| i64::try_from(sat).ok()).unwrap_or(-1);
        let account = Account {
            user: share.user.clone(),
            source: share.template_source,
            template_hash: share.miner_template_hash.clone().unwrap_or_default(),
            pool_payout_sat: sat(share.pool_payout_sat),
            claimable_sat: sat(share.claimable_sat),
            origin: ShareOrigin::of(share),
        };
        let difficulty = share.difficulty;
        let work = Work { shares: 1, difficulty, first_at: at_ms, last_at: at_ms };
        self.work.entry(account).or_default().add(&work);
    }

    /// Counts a block that was not known.
    pub(super) fn block(&mut self, block: &NewBlock, at_ms: u64) {
        self.blocks.push(Found {
            user: block.user.to_string(),
            source: block.template_source,
            template_hash: block.template_hash.map(|hash| hash.to_string()).unwrap_or_default(),
            block_hash: block.block.hash.to_string(),
            at_ms,
        });
    }

    /// Takes over what was counted for a batch that is not refused.
    pub(super) fn merge(&mut self, batch: Self) {
        for (account, work) in batch.work {
            self.work.entry(account).or_default().add(&work);
        }
        self.blocks.extend(batch.blocks);
    }

    /// Writes everything into the open interval, which is opened if there is none. `before`: the last
    /// event before this transaction.
    pub(super) fn store(
        self,
        connection: &Connection,
        state: &mut State,
        before: u64,
    ) -> rusqlite::Result<()> {
        if self.work.is_empty() && self.blocks.is_empty() {
            return Ok(());
        }
        let interval = match state.interval {
            Some(interval) => interval.id,
            None => open(connection, state, before)?,
        };
        for (account, work) in &self.work {
            add_work(connection, state, interval, account, work)?;
        }
        for found in &self.blocks {
            connection
                .prepare_cached(
                    "INSERT INTO accounting (interval_id, user_id, template_source, template_hash,
                         first_at, last_at, block_hash) VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)",
                )?
                .execute(params![
                    interval,
                    found.user,
                    found.source.as_str(),
                    found.template_hash,
                    found.at_ms,
                    found.block_hash,
                ])?;
            state.sizes.added(Table::Accounting, found.user.len() as u64);
        }
        Ok(())
    }
}

fn open(connection: &Connection, state: &mut State, before: u64) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO accounting_intervals (opened_at, after_event) VALUES (?1, ?2)",
        )?
        .execute(params![now_ms(), before])?;
    let id = connection.last_insert_rowid();
    state.interval = Some(OpenInterval { id, opened: Instant::now() });
    Ok(id)
}

fn add_work(
    connection: &Connection,
    state: &mut State,
    interval: i64,
    account: &Account,
    work: &Work,
) -> rusqlite::Result<()> {
    let parameters = params![
        interval,
        account.user,
        account.source.as_str(),
        account.template_hash,
        account.pool_payout_sat,
        account.claimable_sat,
        work.shares,
        work.difficulty,
        work.first_at,
        work.last_at,
        account.origin.as_str(),
    ];
    let updated = connection
        .prepare_cached(
            "UPDATE accounting SET shares = shares + ?7, difficulty = difficulty + ?8,
                 first_at = min(first_at, ?9), last_at = max(last_at, ?10)
             WHERE interval_id = ?1 AND user_id = ?2 AND template_source = ?3
                 AND template_hash = ?4 AND pool_payout_sat = ?5 AND claimable_sat = ?6
                 AND origin = ?11 AND block_hash IS NULL",
        )?
        .execute(parameters)?;
    if updated > 0 {
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT INTO accounting (interval_id, user_id, template_source, template_hash,
                 pool_payout_sat, claimable_sat, shares, difficulty, first_at, last_at, origin)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(parameters)?;
    state.sizes.added(Table::Accounting, account.user.len() as u64);
    Ok(())
}

/// Closes whatever is open: nothing of it changes any more. The transaction has to be on the disk
/// itself before a reader sees it.
pub(super) fn close(connection: &Connection, state: &mut State) -> rusqlite::Result<()> {
    let tag: &[u8] = state.last_hash.first_chunk::<8>().map_or(&[], |tag| tag);
    connection
        .prepare_cached(
            "UPDATE accounting_intervals SET closed_at = ?1, last_event = ?2, tag = ?3
             WHERE closed_at IS NULL",
        )?
        .execute(params![now_ms(), state.next_event_id - 1, tag])?;
    state.interval = None;
    Ok(())
}

/// Whether an interval was left open by an earlier run.
pub(super) fn is_open(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM accounting_intervals WHERE closed_at IS NULL)";
    connection.query_row(sql, [], |row| row.get(0))
}

/// Notes that the entries up to this one are about to be deleted.
pub(super) fn raise_floor(connection: &Connection, last: u64) -> rusqlite::Result<()> {
    if let Some(tag) = tag_of(connection, last)? {
        let floor = AccountingCursor { entry: last, tag };
        set_meta(connection, FLOOR, &floor.to_string())?;
    }
    Ok(())
}

/// The tag of an entry that was given out.
fn tag_of(connection: &Connection, entry: u64) -> rusqlite::Result<Option<u64>> {
    let tag: Option<[u8; 8]> = connection
        .prepare_cached(
            "SELECT tag FROM accounting_intervals WHERE closed_at IS NOT NULL
                 AND id = (SELECT interval_id FROM accounting WHERE id = ?1)",
        )?
        .query_row([entry], |row| row.get(0))
        .optional()?;
    Ok(tag.map(u64::from_be_bytes))
}

/// Entries after a cursor.
pub(super) fn after(
    connection: &Connection,
    cursor: AccountingCursor,
    limit: usize,
) -> Result<AccountingPage, ReadError> {
    let snapshot = connection.unchecked_transaction()?;
    let floor: AccountingCursor = match meta(&snapshot, FLOOR)? {
        Some(text) => text.parse().map_err(|_| ReadError::Damaged(format!("{FLOOR} {text:?}")))?,
        None => AccountingCursor::START,
    };
    let known = cursor == AccountingCursor::START
        || cursor == floor
        || tag_of(&snapshot, cursor.entry)? == Some(cursor.tag);
    if !known {
        return Err(ReadError::AccountingGone { earliest: floor });
    }
    let limit = limit.clamp(1, ACCOUNTING_ENTRIES_MAX);
    let mut statement = snapshot.prepare_cached(
        "SELECT a.*, b.height, b.reward_sat FROM accounting AS a
             JOIN accounting_intervals AS i ON i.id = a.interval_id
             LEFT JOIN blocks AS b ON b.block_hash = a.block_hash
         WHERE a.id > ?1 AND i.closed_at IS NOT NULL ORDER BY a.id LIMIT ?2",
    )?;
    let rows = statement.query_map(params![cursor.entry, limit + 1], entry)?;
    let mut entries = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = match entries.last() {
        Some(last) => {
            let tag = tag_of(&snapshot, last.number)?;
            let tag = tag.ok_or_else(|| ReadError::Damaged("an interval without a tag".into()))?;
            AccountingCursor { entry: last.number, tag }
        }
        None => cursor,
    };
    let intervals = intervals(&snapshot, &entries)?;
    Ok(AccountingPage { entries, intervals, next, more })
}

fn intervals(
    snapshot: &Connection,
    entries: &[AccountingEntry],
) -> rusqlite::Result<Vec<AccountingInterval>> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Ok(Vec::new());
    };
    let mut statement = snapshot.prepare_cached(
        "SELECT id, opened_at, closed_at, after_event, last_event FROM accounting_intervals
         WHERE id BETWEEN ?1 AND ?2 AND closed_at IS NOT NULL ORDER BY id",
    )?;
    let rows = statement.query_map([first.interval, last.interval], |row| {
        Ok(AccountingInterval {
            number: row.get(0)?,
            opened_at: row.get(1)?,
            closed_at: row.get(2)?,
            after_event: row.get(3)?,
            last_event: row.get(4)?,
        })
    })?;
    rows.collect()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<AccountingEntry> {
    let sat = |name| row.get(name).map(|sat: i64| u64::try_from(sat).ok());
    let template_hash: String = row.get("template_hash")?;
    let source: String = row.get("template_source")?;
    let (first_at, last_at) = (row.get("first_at")?, row.get("last_at")?);
    let block_hash: Option<String> = row.get("block_hash")?;
    let origin: String = row.get("origin")?;
    let origins = [ShareOrigin::Port, ShareOrigin::Pool];
    let what = match block_hash {
        Some(block_hash) => Accounted::Block {
            block_hash,
            height: row.get("height")?,
            reward_sat: row.get("reward_sat")?,
            found_at: first_at,
        },
        None => Accounted::Work {
            origin: origins.into_iter().find(|one| one.as_str() == origin),
            shares: row.get("shares")?,
            work: row.get("difficulty")?,
            pool_payout_sat: sat("pool_payout_sat")?,
            claimable_sat: sat("claimable_sat")?,
            first_at,
            last_at,
        },
    };
    Ok(AccountingEntry {
        number: row.get("id")?,
        interval: row.get("interval_id")?,
        user: row.get("user_id")?,
        template_source: if source == "miner" {
            TemplateSource::Miner
        } else {
            TemplateSource::Pool
        },
        template_hash: Some(template_hash).filter(|hash| !hash.is_empty()),
        what,
    })
}
