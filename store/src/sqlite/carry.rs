//! Webhooks at the beginning of a new stream epoch.

use rusqlite::{Connection, params};

use crate::types::{Cursor, StreamEpoch};

/// From one epoch of the log in this database to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passage {
    /// The epoch that ends.
    pub(super) from: StreamEpoch,
    /// The epoch that begins.
    pub(super) to: StreamEpoch,
    /// Last event of the old epoch that is in the database.
    pub(super) kept_last_id: u64,
    /// First event of the new one. Between the two there is none.
    pub(super) first_id: u64,
}

impl Passage {
    /// Where a reader goes on in the new epoch: what it has not read of the old one is still there,
    /// under the same ids. `None` when its place stays as it is.
    fn place(&self, cursor: Cursor) -> Option<Cursor> {
        let other = cursor.epoch.is_some_and(|epoch| epoch != self.from);
        if cursor == Cursor::START || other {
            return None;
        }
        // Whoever has read all of the old epoch stands right before the new one: the ids between
        // were never given in it, and retention must not take them for events that it deleted.
        let id = if cursor.id < self.kept_last_id { cursor.id } else { self.first_id - 1 };
        Some(Cursor { epoch: Some(self.to), id })
    }

    /// Takes all webhooks along. Those of earlier epochs were taken along into `from` before.
    ///
    /// # Errors
    /// Nothing can be written.
    pub(super) fn carry_webhooks(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare("SELECT id, cursor FROM webhooks")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let hooks: Vec<(String, String)> = rows.collect::<Result<_, _>>()?;
        for (id, cursor) in hooks {
            // One that can not be read shows when the webhooks are.
            if let Some(place) = cursor.parse().ok().and_then(|cursor| self.place(cursor)) {
                connection
                    .prepare_cached("UPDATE webhooks SET cursor = ?2 WHERE id = ?1")?
                    .execute(params![id, place.to_string()])?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_go_on_where_they_were() {
        let (from, to) = (StreamEpoch(1), StreamEpoch(2));
        let passage = Passage { from, to, kept_last_id: 100, first_id: 151 };
        for (cursor, place) in [
            ((Some(from), 0), Some(0)),
            ((Some(from), 99), Some(99)),
            ((None, 99), Some(99)),
            ((Some(from), 100), Some(150)),
            // Ahead of what was kept: what it had read is lost.
            ((Some(from), 130), Some(150)),
            ((None, 0), None),
            ((Some(StreamEpoch(7)), 99), None),
        ] {
            let place = place.map(|id| Cursor { epoch: Some(to), id });
            let (epoch, id) = cursor;
            assert_eq!(passage.place(Cursor { epoch, id }), place, "{cursor:?}");
        }
        let nothing_kept = Passage { kept_last_id: 0, first_id: 7, ..passage };
        let place = nothing_kept.place(Cursor { epoch: Some(from), id: 0 });
        assert_eq!(place, Some(Cursor { epoch: Some(to), id: 6 }));
    }
}
