//! Totals of users and aggregates by hour and day: counted while a transaction is put together,
//! written once at its end.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::accounts::Accounts;
use super::sizes::Table;
use super::state::State;
use crate::limits::USERS_MAX;
use crate::types::{Period, TemplateSource};

/// What happened, as the columns of `aggregates` count it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Count {
    pub(super) shares_accepted: u64,
    pub(super) shares_rejected: u64,
    pub(super) difficulty: f64,
    pub(super) templates_accepted: u64,
    pub(super) templates_rejected: u64,
    pub(super) blocks_found: u64,
}

impl Count {
    fn add(&mut self, other: &Self) {
        self.shares_accepted += other.shares_accepted;
        self.shares_rejected += other.shares_rejected;
        self.difficulty += other.difficulty;
        self.templates_accepted += other.templates_accepted;
        self.templates_rejected += other.templates_rejected;
        self.blocks_found += other.blocks_found;
    }

    /// Whether it has anything that costs a stranger work, and so deserves a row of its own.
    fn is_earned(&self) -> bool {
        self.shares_accepted + self.templates_accepted + self.blocks_found > 0
    }
}

type Key = (String, TemplateSource, u64);

/// Counts of one transaction.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// By user, source and hour.
    counts: HashMap<Key, (Count, u64)>,
    /// What a pool credits.
    pub(super) accounts: Accounts,
}

impl Tally {
    /// Counts something of a user that happened at `at_ms`.
    pub(super) fn add(&mut self, user: &str, source: TemplateSource, at_ms: u64, count: Count) {
        let key = (user.to_owned(), source, Period::Hour.start_of(at_ms));
        let (total, last_ms) = self.counts.entry(key).or_default();
        total.add(&count);
        *last_ms = at_ms.max(*last_ms);
    }

    /// Takes over what was counted for a batch that is not refused.
    pub(super) fn merge(&mut self, batch: Self) {
        self.accounts.merge(batch.accounts);
        for (key, (count, last_ms)) in batch.counts {
            let (total, last) = self.counts.entry(key).or_default();
            total.add(&count);
            *last = last_ms.max(*last);
        }
    }

    /// Writes everything. `before`: the last event before the transaction.
    pub(super) fn store(
        self,
        connection: &Connection,
        state: &mut State,
        before: u64,
    ) -> rusqlite::Result<()> {
        self.accounts.store(connection, state, before)?;
        let mut all = HashMap::<(TemplateSource, u64), Count>::new();
        for ((user, source, hour), (count, last_ms)) in &self.counts {
            all.entry((*source, *hour)).or_default().add(count);
            store_user(connection, state, user, *source, count, *last_ms)?;
            for period in Period::ALL {
                let start = period.start_of(*hour);
                store_aggregate(connection, state, *period, Some(user), start, *source, count)?;
            }
        }
        for ((source, hour), count) in &all {
            for period in Period::ALL {
                let start = period.start_of(*hour);
                store_aggregate(connection, state, *period, None, start, *source, count)?;
            }
        }
        Ok(())
    }
}

fn store_aggregate(
    connection: &Connection,
    state: &mut State,
    period: Period,
    user: Option<&str>,
    start: u64,
    source: TemplateSource,
    count: &Count,
) -> rusqlite::Result<()> {
    let parameters = params![
        period.as_str(),
        u8::from(user.is_some()),
        user.unwrap_or_default(),
        start,
        source.as_str(),
        count.shares_accepted,
        count.shares_rejected,
        count.difficulty,
        count.templates_accepted,
        count.templates_rejected,
        count.blocks_found,
    ];
    let updated = connection
        .prepare_cached(
            "UPDATE aggregates SET shares_accepted = shares_accepted + ?6,
                 shares_rejected = shares_rejected + ?7, difficulty = difficulty + ?8,
                 templates_accepted = templates_accepted + ?9,
                 templates_rejected = templates_rejected + ?10, blocks_found = blocks_found + ?11
             WHERE period = ?1 AND scope = ?2 AND user_id = ?3 AND start = ?4
                 AND template_source = ?5",
        )?
        .execute(parameters)?;
    // Whoever had nothing accepted in this period gets no row: names are free.
    if updated > 0 || (user.is_some() && !count.is_earned()) {
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT INTO aggregates (period, scope, user_id, start, template_source,
                 shares_accepted, shares_rejected, difficulty, templates_accepted,
                 templates_rejected, blocks_found)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(parameters)?;
    state.sizes.added(Table::Aggregates, user.unwrap_or_default().len() as u64);
    Ok(())
}

fn store_user(
    connection: &Connection,
    state: &mut State,
    user: &str,
    source: TemplateSource,
    count: &Count,
    last_ms: u64,
) -> rusqlite::Result<()> {
    if count.is_earned() {
        touch_user(connection, state, user, last_ms)?;
    }
    let (miner, pool) = match source {
        TemplateSource::Miner => (count.shares_accepted, 0),
        TemplateSource::Pool => (0, count.shares_accepted),
    };
    connection
        .prepare_cached(
            "UPDATE users SET last_seen = max(last_seen, ?2),
                 shares_accepted_miner = shares_accepted_miner + ?3,
                 shares_accepted_pool = shares_accepted_pool + ?4,
                 shares_rejected = shares_rejected + ?5,
                 templates_rejected_total = templates_rejected_total + ?6,
                 blocks_found = blocks_found + ?7
             WHERE user_id = ?1",
        )?
        .execute(params![
            user,
            last_ms,
            miner,
            pool,
            count.shares_rejected,
            count.templates_rejected,
            count.blocks_found,
        ])?;
    Ok(())
}

/// Whether there is no room for users who have nothing but a name.
pub(super) fn users_full(state: &State) -> bool {
    state.sizes.of(Table::Users).rows >= USERS_MAX as u64
}

/// Makes sure that the user has a row.
pub(super) fn touch_user(
    connection: &Connection,
    state: &mut State,
    user: &str,
    at_ms: u64,
) -> rusqlite::Result<()> {
    let new = connection
        .prepare_cached(
            "INSERT INTO users (user_id, first_seen, last_seen) VALUES (?1, ?2, ?2)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![user, at_ms])?;
    if new > 0 {
        state.sizes.added(Table::Users, user.len() as u64);
    }
    Ok(())
}
