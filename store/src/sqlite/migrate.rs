//! Numbered migrations, forward only.

use rusqlite::Connection;

/// Every migration in order; the version of a database is how many of them it has seen. Those
/// that were published never change: a change is a new one.
pub(super) const MIGRATIONS: &[&str] = &[include_str!("../../migrations/0001_first.sql")];

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

/// Brings the database to the newest version: each migration whole, or not at all.
pub(super) fn migrate(
    connection: &mut Connection,
    migrations: &[&str],
) -> Result<(), MigrateError> {
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
    use super::*;

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
