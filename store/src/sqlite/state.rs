//! What the writer knows by heart. Everything here can be read back from the database.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::accounts::OpenInterval;
use super::read_chain;
use super::sizes::TableSizes;
use super::tx_ids::TxIds;
use crate::limits::{LIST_DELTAS_MAX, LISTS_CACHED_MAX, USERS_MAX};
use crate::types::UserTag;

/// The writer's memory.
#[derive(Debug)]
pub(super) struct State {
    /// Id of the next event.
    pub(super) next_event_id: u64,
    /// Hash of the newest event.
    pub(super) last_hash: [u8; 32],
    pub(super) sizes: TableSizes,
    pub(super) tx_ids: TxIds,
    pub(super) bases: Bases,
    /// Users who have had their first accepted share on a template of their own.
    pub(super) sovereign: HashSet<Box<str>>,
    /// While transactions that nothing names are looked for: those that were named meanwhile.
    pub(super) named: Option<IdSet>,
    /// `source` of the events.
    pub(super) source: String,
    /// Where accepted work is counted, if there is any yet.
    pub(super) interval: Option<OpenInterval>,
}

/// What a batch that is refused must leave as it was.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    next_event_id: u64,
    last_hash: [u8; 32],
    sizes: TableSizes,
    tx_ids: usize,
    interval: Option<OpenInterval>,
}

impl State {
    pub(super) fn load(
        connection: &Connection,
        next_event_id: u64,
        source: String,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            next_event_id,
            last_hash: read_chain::last(connection)?.hash,
            sizes: TableSizes::load(connection)?,
            tx_ids: TxIds::load(connection)?,
            bases: Bases::default(),
            sovereign: HashSet::new(),
            named: None,
            source,
            interval: None,
        })
    }

    pub(super) fn mark(&self) -> Mark {
        let tx_ids = self.tx_ids.mark();
        Mark {
            next_event_id: self.next_event_id,
            last_hash: self.last_hash,
            sizes: self.sizes.clone(),
            tx_ids,
            interval: self.interval,
        }
    }

    /// Goes back to a mark after a rollback: the caches may know rows that are no more.
    pub(super) fn reset(&mut self, mark: Mark) {
        self.next_event_id = mark.next_event_id;
        self.last_hash = mark.last_hash;
        self.sizes = mark.sizes;
        self.tx_ids.undo(mark.tx_ids);
        self.interval = mark.interval;
        self.bases.clear();
        self.sovereign.clear();
    }

    /// Notes a user as [`Self::sovereign`].
    pub(super) fn note_sovereign(&mut self, user: &str) {
        if self.sovereign.len() >= USERS_MAX {
            self.sovereign.clear();
        }
        self.sovereign.insert(user.into());
    }
}

/// The last whole list of each user, to write the next ones as changes to it.
#[derive(Debug, Default)]
pub(super) struct Bases {
    by_user: HashMap<UserTag, Base>,
}

#[derive(Debug, Clone)]
pub(super) struct Base {
    /// Row id in `tx_lists`.
    pub(super) list_id: i64,
    pub(super) ids: Arc<[u32]>,
    uses: u32,
}

impl Bases {
    /// The list to write changes to, unless it is time for a whole one.
    pub(super) fn take_turn(&mut self, user: &UserTag) -> Option<Base> {
        let base = self.by_user.get_mut(user)?;
        base.uses += 1;
        (base.uses <= LIST_DELTAS_MAX).then(|| base.clone())
    }

    pub(super) fn insert(&mut self, user: UserTag, list_id: i64, ids: Vec<u32>) {
        if self.by_user.len() >= LISTS_CACHED_MAX
            && let Some(any) = self.by_user.keys().next().copied()
        {
            self.by_user.remove(&any);
        }
        self.by_user.insert(user, Base { list_id, ids: ids.into(), uses: 0 });
    }

    /// Lists that were deleted can not be the base of others.
    pub(super) fn forget(&mut self, list_ids: &HashSet<i64>) {
        self.by_user.retain(|_, base| !list_ids.contains(&base.list_id));
    }

    fn clear(&mut self) {
        self.by_user.clear();
    }
}

/// A set of row ids, a bit each.
#[derive(Debug, Default)]
pub(super) struct IdSet {
    words: Vec<u64>,
}

impl IdSet {
    pub(super) fn insert(&mut self, id: u32) {
        let word = id as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (id % 64);
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.words.get(id as usize / 64).is_some_and(|word| word & 1 << (id % 64) != 0)
    }
}

/// Name of the highest sequence of a spent token that was deleted, in the table `meta`.
const SPENT_FLOOR: &str = "spent_floor";

/// The highest sequence of a spent token that was deleted; 0 for none.
pub(super) fn spent_floor(connection: &Connection) -> rusqlite::Result<u64> {
    let floor = meta(connection, SPENT_FLOOR)?;
    Ok(floor.and_then(|floor| floor.parse().ok()).unwrap_or_default())
}

/// Notes that tokens up to this one were deleted.
pub(super) fn raise_spent_floor(connection: &Connection, to: u64) -> rusqlite::Result<()> {
    if to > spent_floor(connection)? {
        set_meta(connection, SPENT_FLOOR, &to.to_string())?;
    }
    Ok(())
}

/// Reads one entry of `meta`.
pub(super) fn meta(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Writes one entry of `meta`.
pub(super) fn set_meta(connection: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO meta (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = ?2",
        )?
        .execute([name, value])?;
    Ok(())
}
