//! Numbered migrations, forward only.

use rusqlite::Connection;

/// Every migration in order; the version of a database is how many of them it has seen. Those
/// that were published never change: a change is a new one, and comes with a fixture
/// (`tests/upgrade`).
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_first.sql"),
    include_str!("../../migrations/0002_chain.sql"),
    include_str!("../../migrations/0003_verdicts.sql"),
    include_str!("../../migrations/0004_accounting.sql"),
    include_str!("../../migrations/0005_users.sql"),
    include_str!("../../migrations/0006_origin.sql"),
];

/// Version of the stores that this program makes: how many migrations there are.
pub const STORE_VERSION: u32 = MIGRATIONS.len() as u32;

/// Marks the file as ours ("JDSt").
pub(super) const APPLICATION_ID: i32 = 0x4a44_5374;

/// Why a database can not be brought up to date.
#[derive(Debug)]
pub(super) enum MigrateError {
    Foreign,
    TooNew { found: u32, known: u32 },
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for MigrateError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// The version of a database that can be brought to the newest one; 0 for an empty one.
pub(super) fn version(connection: &Connection, migrations: &[&str]) -> Result<u32, MigrateError> {
    let known = migrations.len() as u32;
    let application_id: i32 = pragma(connection, "application_id")?;
    let version: u32 = pragma(connection, "user_version")?;
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let empty = application_id == 0 && version == 0 && tables == 0;
    if !empty && application_id != APPLICATION_ID {
        return Err(MigrateError::Foreign);
    }
    if version > known {
        return Err(MigrateError::TooNew { found: version, known });
    }
    Ok(version)
}

/// Brings the database to the newest version: each migration whole, or not at all. Killed in the
/// middle, it leaves the version before.
pub(super) fn migrate(
    connection: &mut Connection,
    migrations: &[&str],
) -> Result<(), MigrateError> {
    let version = version(connection, migrations)?;
    for (number, migration) in (1_u32..).zip(migrations).skip(version as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
        tracing::info!(version = number, "database migrated");
    }
    Ok(())
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::super::connect;
    use super::*;
    use crate::fixtures::{NOW_MS, all_events, commit, numbered, wait_for};
    use crate::{Batch, Settings, SqliteStore, Store};

    /// Directory of the database that the child migrates; set in the child only.
    const CHILD: &str = "STORE_MIGRATE_CHILD";

    /// Writes more than the writer's cache holds, so that it gets to the disk, and then goes on for
    /// ever.
    const ENDLESS: &str = "
        CREATE TABLE two (x);
        ALTER TABLE events ADD COLUMN more TEXT;
        UPDATE events SET more = 'x';
        DELETE FROM tokens;
        WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 20000)
            INSERT INTO two SELECT randomblob(1500) FROM n;
        WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)
            INSERT INTO two SELECT count(*) FROM n;";

    /// Not a test by itself: the process that is killed while it migrates.
    #[test]
    fn child() {
        let Some(dir) = std::env::var_os(CHILD) else { return };
        let mut database = connect::writer(&Path::new(&dir).join("jds.sqlite")).unwrap();
        connect::set_up(&database).unwrap();
        let migrations: Vec<_> = MIGRATIONS.iter().copied().chain([ENDLESS]).collect();
        migrate(&mut database, &migrations).unwrap();
        unreachable!("it never ends");
    }

    #[test]
    fn a_migration_that_is_killed_leaves_the_version_before() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(Settings::new(dir.path())).unwrap();
        for number in 0..10 {
            let batch = Batch::new(NOW_MS).spend_token(number, NOW_MS * 2, "alice".into());
            commit(&store, batch.event(numbered(number)));
        }
        let (epoch, events) = (store.epoch(), all_events(&store));
        store.close();

        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::migrate::tests::child"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let wal = dir.path().join("jds.sqlite-wal");
        wait_for("the migration to reach the disk", || {
            assert!(child.try_wait().unwrap().is_none(), "the migration has ended");
            std::fs::metadata(&wal).is_ok_and(|wal| wal.len() > 1 << 20)
        });
        child.kill().unwrap();
        child.wait().unwrap();

        let store = SqliteStore::open(Settings::new(dir.path())).unwrap();
        assert_eq!(store.epoch(), epoch);
        assert_eq!(all_events(&store), events);
        assert_eq!(store.spent_tokens(Default::default()).unwrap().items.len(), 10);
        commit(&store, Batch::of_event(NOW_MS, numbered(11)));
        store.close();
        let database = Connection::open(dir.path().join("jds.sqlite")).unwrap();
        assert_eq!(pragma::<u32>(&database, "user_version").unwrap(), MIGRATIONS.len() as u32);
        assert!(schema(&database).iter().all(|(name, _)| name != "two"));
    }

    fn schema(connection: &Connection) -> Vec<(String, Option<String>)> {
        let mut rows =
            connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    #[test]
    fn every_earlier_version_becomes_the_newest() {
        let mut fresh = Connection::open_in_memory().unwrap();
        migrate(&mut fresh, MIGRATIONS).unwrap();
        assert_eq!(pragma::<u32>(&fresh, "user_version").unwrap(), MIGRATIONS.len() as u32);
        for version in 0..=MIGRATIONS.len() {
            let mut old = Connection::open_in_memory().unwrap();
            migrate(&mut old, &MIGRATIONS[..version]).unwrap();
            if version > 0 {
                old.execute("INSERT INTO meta VALUES ('witness', 'x')", []).unwrap();
            }
            migrate(&mut old, MIGRATIONS).unwrap();
            assert_eq!(schema(&old), schema(&fresh), "from version {version}");
            let kept: u32 = old
                .query_row("SELECT count(*) FROM meta WHERE name = 'witness'", [], |row| row.get(0))
                .unwrap();
            assert_eq!(kept, u32::from(version > 0), "from version {version}");
        }
    }

    #[test]
    fn a_failing_migration_leaves_the_version_before() {
        let good = "CREATE TABLE one (x); INSERT INTO one VALUES (1);";
        let mut database = Connection::open_in_memory().unwrap();
        migrate(&mut database, &[good]).unwrap();
        let before = schema(&database);
        let bad = "CREATE TABLE two (x); ALTER TABLE none RENAME TO other;";
        let error = migrate(&mut database, &[good, bad]).unwrap_err();
        assert!(matches!(error, MigrateError::Database(_)), "{error:?}");
        assert_eq!(schema(&database), before);
        assert_eq!(pragma::<u32>(&database, "user_version").unwrap(), 1);
        migrate(&mut database, &[good, "ALTER TABLE one ADD COLUMN y DEFAULT 7;"]).unwrap();
        let y: u32 = database.query_row("SELECT y FROM one", [], |row| row.get(0)).unwrap();
        assert_eq!(y, 7, "rows of before are kept");
    }

    #[test]
    fn newer_and_foreign_databases_are_refused() {
        let mut newer = Connection::open_in_memory().unwrap();
        migrate(&mut newer, &["CREATE TABLE one (x)", "CREATE TABLE two (x)"]).unwrap();
        let error = migrate(&mut newer, &["CREATE TABLE one (x)"]).unwrap_err();
        assert!(matches!(error, MigrateError::TooNew { found: 2, known: 1 }), "{error:?}");
        let mut foreign = Connection::open_in_memory().unwrap();
        foreign.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(matches!(migrate(&mut foreign, MIGRATIONS), Err(MigrateError::Foreign)));
    }
}
