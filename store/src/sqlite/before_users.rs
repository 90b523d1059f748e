//! What precedes the one migration that can not be undone, `0005_users.sql`: a copy of the database beside
//! it, and a word on who becomes whom.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tracing::{info, warn};

use super::open::{OpenError, make_private};
use crate::limits::USERS_TOLD_MAX;

/// The version that knows users by what an identity has before its first dot.
const USERS: u32 = 5;

/// What the copy is called, beside the database's own name.
const COPY: &str = "before-5";

/// Whether any identity is to be cut, in any table that is.
const IS_ANY_CUT: &str = "
    SELECT EXISTS (SELECT 1 FROM users WHERE instr(user_id, '.') > 0)
        OR EXISTS (SELECT 1 FROM miner_templates WHERE instr(user_id, '.') > 0)
        OR EXISTS (SELECT 1 FROM blocks WHERE instr(user_id, '.') > 0)
        OR EXISTS (SELECT 1 FROM tokens WHERE instr(user_id, '.') > 0)
        OR EXISTS (SELECT 1 FROM aggregates WHERE instr(user_id, '.') > 0)";

/// Users with more identities than one, those with most first; beside each how many such users there are, and
/// how many identities they have together.
const MERGED: &str = "
    SELECT name, identities, count(*) OVER (), sum(identities) OVER ()
    FROM (SELECT substr(user_id, 1, instr(user_id || '.', '.') - 1) AS name, count(*) AS identities
        FROM users GROUP BY name HAVING identities > 1)
    ORDER BY identities DESC, name LIMIT ?1";

/// Copies the database beside it when migrating from `version` is about to bring users together, and tells
/// of them. Begun anew each time: killed in the middle, it leaves a part under another name.
pub(super) fn set_aside(
    connection: &Connection,
    path: &Path,
    version: u32,
) -> Result<(), OpenError> {
    let failed = |error| OpenError::Database { path: path.to_owned(), error };
    if !(1..USERS).contains(&version) {
        return Ok(());
    }
    if !connection.query_row(IS_ANY_CUT, [], |row| row.get(0)).map_err(failed)? {
        return Ok(());
    }
    let copy = beside(path, COPY);
    info!(copy = %copy.display(), "copying the database before its users are brought together");
    let part = beside(path, &format!("{COPY}.part"));
    copy_to(connection, &part).and_then(|()| rename_durably(&part, &copy)).map_err(|error| {
        // Half a copy would leave no room on a disk that was too small for it; SQLite has a journal beside it.
        for left in [part, beside(path, &format!("{COPY}.part-journal"))] {
            let _ = fs::remove_file(left);
        }
        OpenError::Copy { path: path.to_owned(), copy: copy.clone(), error }
    })?;
    let Merged { told, users, identities } = Merged::of(connection).map_err(failed)?;
    for (user, identities) in told {
        warn!(user, identities, "identities of before become one user");
    }
    warn!(
        users,
        identities,
        copy = %copy.display(),
        "a miner has one name from now on, without the worker: the copy is how it was before"
    );
    Ok(())
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

/// Into a file that only its owner can read, as the database is.
fn copy_to(connection: &Connection, to: &Path) -> io::Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => make_private(to)?,
    }
    let name = to.to_str().ok_or_else(|| io::Error::other("its path is no UTF-8"))?;
    connection.execute("VACUUM INTO ?1", [name]).map_err(io::Error::other)?;
    Ok(())
}

fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    fs::rename(from, to)?;
    match to.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

/// Who had several identities.
#[derive(Debug, Default)]
struct Merged {
    /// Names, and how many identities each has: at most [`USERS_TOLD_MAX`] of them.
    told: Vec<(String, u64)>,
    /// Of all of them.
    users: u64,
    identities: u64,
}

impl Merged {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let mut merged = Self::default();
        let mut statement = connection.prepare(MERGED)?;
        let mut rows = statement.query([USERS_TOLD_MAX])?;
        while let Some(row) = rows.next()? {
            merged.told.push((row.get(0)?, row.get(1)?));
            (merged.users, merged.identities) = (row.get(2)?, row.get(3)?);
        }
        Ok(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_users_are_told_by_name_and_all_are_counted() {
        let database = Connection::open_in_memory().unwrap();
        database.execute_batch("CREATE TABLE users (user_id TEXT)").unwrap();
        let add = |identity: &str| {
            database.execute("INSERT INTO users VALUES (?1)", [identity]).unwrap();
        };
        add("alone.1");
        for user in 0..=USERS_TOLD_MAX {
            add(&format!("user{user:02}"));
            add(&format!("user{user:02}.a.b"));
        }
        add("user05.c");
        let merged = Merged::of(&database).unwrap();
        assert_eq!(merged.told.len(), USERS_TOLD_MAX);
        assert_eq!(merged.told[..2], [("user05".into(), 3), ("user00".into(), 2)]);
        let users = USERS_TOLD_MAX as u64 + 1;
        assert_eq!((merged.users, merged.identities), (users, 2 * users + 1));
    }
}
