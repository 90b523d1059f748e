//! Databases of every released version, opened by this one.
//!
//! `tests/fixtures/version-NNNN.sql` is a database of that version with something in every table,
//! written as SQL by the program of its time. It never changes after a release; a new migration
//! comes with a new fixture:
//!
//! ```sh
//! MAKE_FIXTURE=1 cargo test -p jds-store --test upgrade
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]
#![allow(unreachable_pub, reason = "tests have no other users")]

#[path = "../common/mod.rs"]
mod common;
mod dump;
mod history;
mod view;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::{
    KEEP_ALL, NOW_MS, all_events, assert_counted, assert_gap_free, commit, job, numbered, template,
};
use rusqlite::Connection;
use store::{
    Batch, Cursor, EventFilter, OpenError, PageRequest, RecoverQuery, Settings, SqliteStore, Store,
    TemplateFilter,
};

/// Set to write the fixture of the present version, when it is not there.
const MAKE: &str = "MAKE_FIXTURE";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(Settings { retention: KEEP_ALL, ..Settings::new(dir) }).unwrap()
}

/// The migrations as files, in order.
fn migrations() -> Vec<String> {
    let entries = fs::read_dir(root().join("migrations")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for (number, path) in (1..).zip(&paths) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with(&format!("{number:04}_")), "{name} is not number {number}");
    }
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn fixture(version: usize) -> PathBuf {
    root().join(format!("tests/fixtures/version-{version:04}.sql"))
}

/// A data directory with the database of a fixture, closed in order by the server of that version.
fn installed(version: usize) -> tempfile::TempDir {
    let path = fixture(version);
    let sql = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; make it with {MAKE}=1", path.display()));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jds.sqlite");
    let database = Connection::open(&file).unwrap();
    database.execute_batch(&sql).unwrap();
    let (epoch, last_id): (String, u64) = database
        .query_row(
            "SELECT (SELECT value FROM meta WHERE name = 'stream_epoch'), max(id) FROM events",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    let inode = fs::metadata(&file).unwrap().ino();
    let stream = format!(
        "jds-stream 1 epoch={epoch} last={last_id:020} inode={inode:020} clean=1 boot={:<40}\n",
        "-"
    );
    fs::write(dir.path().join("jds.stream"), stream).unwrap();
    dir
}

fn version_of(dir: &Path) -> usize {
    let database = Connection::open(dir.join("jds.sqlite")).unwrap();
    database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[test]
fn every_version_has_a_fixture_and_the_migrations_of_its_time() {
    let migrations = migrations();
    if std::env::var_os(MAKE).is_some() && !fixture(migrations.len()).exists() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        history::write(&store);
        store.close();
        assert_eq!(version_of(dir.path()), migrations.len(), "a migration the store does not know");
        fs::write(fixture(migrations.len()), dump::dump(&dir.path().join("jds.sqlite"))).unwrap();
    }
    let fixtures = fs::read_dir(root().join("tests/fixtures")).unwrap().count();
    assert_eq!(
        fixtures,
        migrations.len(),
        "one fixture for each migration: {MAKE}=1 makes the last"
    );
    for version in 1..=migrations.len() {
        let dir = installed(version);
        assert_eq!(version_of(dir.path()), version);
        let made = Connection::open_in_memory().unwrap();
        migrations[..version].iter().for_each(|migration| made.execute_batch(migration).unwrap());
        let then = Connection::open(dir.path().join("jds.sqlite")).unwrap();
        assert_eq!(
            dump::schema(&then),
            dump::schema(&made),
            "a migration up to {version} is not what it was when it was published"
        );
    }
}

#[test]
fn a_fresh_install_has_the_newest_version_and_answers_every_query() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let empty = view::of(&store);
    assert_eq!(store.last_event_id(), 0);
    store.close();
    assert_eq!(version_of(dir.path()), migrations().len());
    let store = open(dir.path());
    assert_eq!(view::of(&store), empty, "opened again");
    commit(&store, Batch::of_event(NOW_MS, numbered(1)));
}

/// What a server of this version finds is what it would have written itself.
#[test]
fn every_earlier_version_is_brought_up_to_date_with_all_that_is_in_it() {
    let fresh = tempfile::tempdir().unwrap();
    let written = open(fresh.path());
    history::write(&written);
    let expected = view::of(&written);
    view::assert_nothing_empty(&written);
    for version in 1..=migrations().len() {
        let dir = installed(version);
        let store = open(dir.path());
        assert_eq!(version_of(dir.path()), migrations().len());
        let found = view::of(&store);
        for (query, expected) in &expected {
            assert_eq!(&found[query], expected, "{query}, from version {version}");
        }
        view::assert_same_jobs(&store, &written);
        assert_counted(dir.path(), &store.sizes().unwrap());

        // The stream goes on: no new epoch, and a reader's place is where it was.
        let before = all_events(&store);
        let last = before.last().unwrap().id;
        let cursor = Cursor { epoch: Some(store.epoch()), id: last };
        let text = fs::read_to_string(dir.path().join("jds.stream")).unwrap();
        assert!(text.contains(&format!("epoch={}", store.epoch())), "{text}");
        history::go_on(&store);
        let page = store.events_after(cursor, &EventFilter::ALL, 10).unwrap();
        assert_eq!(page.events[0].id, last + 1);
        assert_gap_free(&all_events(&store));
        store.retain(NOW_MS).unwrap();
        assert_counted(dir.path(), &store.sizes().unwrap());
        store.close();
        open(dir.path());
    }
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_stays_as_it_is() {
    let dir = installed(migrations().len());
    let path = dir.path().join("jds.sqlite");
    let newer = migrations().len() + 1;
    let database = Connection::open(&path).unwrap();
    database.pragma_update(None, "user_version", newer).unwrap();
    drop(database);
    let before = fs::read(&path).unwrap();
    let error = SqliteStore::open(Settings::new(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::TooNew { .. }), "{error}");
    let message = error.to_string();
    for part in [&path.display().to_string(), &format!("version {newer}"), "newer program"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert!(fs::read(&path).unwrap() == before, "the file changed");
}

/// Declarations were recorded by the whole identity once, shares by its user.
#[test]
fn what_a_user_did_under_any_identity_comes_together() {
    let before_users = 4;
    let dir = installed(before_users);
    let database = Connection::open(dir.path().join("jds.sqlite")).unwrap();
    let rename = |table: &str, which: &str, name: &str| {
        let sql = format!("UPDATE {table} SET user_id = '{name}' WHERE {which}");
        assert!(database.execute(&sql, []).unwrap() > 0, "{sql}");
    };
    rename("miner_templates", "user_id = 'alice' AND height = 201", "alice.farm");
    rename("miner_templates", "user_id = 'bob'", "alice.farm.2");
    rename("users", "user_id = 'bob'", "alice.farm.2");
    rename("aggregates", "user_id = 'bob'", "alice.farm.2");
    rename("blocks", "height = (SELECT min(height) FROM blocks)", "alice.farm");
    let run = |sql: &str| assert!(database.execute(sql, []).unwrap() > 0, "{sql}");
    // Together 1,000 templates, and none had them alone.
    run("UPDATE users SET templates_accepted_total = 600 WHERE user_id LIKE 'alice%'");
    for (identity, reached) in [("dora", "NULL"), ("dora.1", "77"), ("dora.2", "99")] {
        run(&format!(
            "INSERT INTO users (user_id, first_seen, last_seen, templates_accepted_total,
                 template_crafter_at) VALUES ('{identity}', 1, {NOW_MS}, 1000, {reached})"
        ));
    }
    // A block in the interval that is open, and one in an interval that was given out.
    run("UPDATE accounting SET user_id = 'alice.farm' WHERE id = 5");
    run("INSERT INTO accounting_intervals VALUES (0, 1, 2, 0, 0, NULL)");
    run("INSERT INTO accounting VALUES
             (99, 0, 'alice.farm', 'miner', '', -1, -1, 0, 0, 1, 1, 'a block of before')");
    let sum = |column: &str| -> u64 {
        let sql = format!("SELECT sum({column}) FROM users WHERE user_id LIKE 'alice%'");
        database.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    let totals = ["templates_accepted_total", "shares_accepted_miner", "blocks_found"];
    let expected = totals.map(sum);
    let of_all = "SELECT total(difficulty) FROM aggregates WHERE scope = 1 AND period = 'day'";
    let difficulty = |database: &Connection| -> f64 {
        database.query_row(of_all, [], |row| row.get(0)).unwrap()
    };
    let difficulty_before = difficulty(&database);
    drop(database);
    // A copy that was begun once and not ended.
    fs::write(dir.path().join("jds.sqlite.before-5.part"), "begun").unwrap();

    let store = open(dir.path());
    // A block whose end is not known yet goes on under the user's name.
    let recovered = store.recover(&RecoverQuery { now_ms: NOW_MS, ..RecoverQuery::ALL }).unwrap();
    let open_blocks = recovered.blocks.iter().map(|block| &*block.summary.user);
    assert_eq!(open_blocks.collect::<Vec<_>>(), ["alice"]);
    let alice = store.miner("alice").unwrap().unwrap();
    assert_eq!(alice.template_crafter_at, None, "nobody had reached it");
    let dora = store.miner("dora").unwrap().unwrap();
    assert_eq!((dora.templates_accepted_total, dora.template_crafter_at), (3_000, Some(77)));
    assert_eq!(
        [alice.templates_accepted_total, alice.shares_accepted_miner, alice.blocks_found],
        expected
    );
    assert!(store.miner("alice.farm.2").unwrap().is_none());
    let filter = TemplateFilter { user: Some("alice".to_owned()), ..TemplateFilter::default() };
    let page = PageRequest { after: None, limit: 100 };
    let mut workers: Vec<_> = store.templates(&filter, page).unwrap().items;
    workers.sort_by_key(|template| template.id);
    let workers: Vec<_> = workers.iter().map(|template| &*template.worker).collect();
    assert!(workers.contains(&"farm") && workers.contains(&"farm.2") && workers.contains(&""));
    assert_counted(dir.path(), &store.sizes().unwrap());
    commit(&store, Batch::new(NOW_MS).accept_template(template("alice", job(400, 77, Vec::new()))));
    let alice = store.miner("alice").unwrap().unwrap();
    assert_eq!(alice.template_crafter_at, Some(NOW_MS), "told with the next one");
    commit(&store, Batch::new(NOW_MS + 9).accept_template(template("alice", job(401, 78, vec![]))));
    assert_eq!(store.miner("alice").unwrap().unwrap().template_crafter_at, Some(NOW_MS));
    store.close();
    let database = Connection::open(dir.path().join("jds.sqlite")).unwrap();
    assert_eq!(difficulty(&database), difficulty_before);
    let blocks = |interval: u32| -> Vec<String> {
        let sql = "SELECT DISTINCT user_id FROM accounting
                   WHERE interval_id = ?1 AND block_hash IS NOT NULL";
        let mut users = database.prepare(sql).unwrap();
        users.query_map([interval], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!((blocks(0), blocks(1)), (vec!["alice.farm".into()], vec!["alice".to_owned()]));
    for table in ["miner_templates", "users", "aggregates", "blocks", "tokens"] {
        let sql = format!("SELECT count(*) FROM {table} WHERE instr(user_id, '.') > 0");
        let dotted: u64 = database.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(dotted, 0, "{table}");
    }
    assert_is_as_before(dir.path(), before_users);
}

/// What was brought together is beside it as it was, for its owner alone, and is a database.
fn assert_is_as_before(dir: &Path, version: usize) {
    let copy = dir.join("jds.sqlite.before-5");
    let mode = fs::metadata(&copy).unwrap().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}: it holds the secrets of webhooks");
    let database = Connection::open(&copy).unwrap();
    let found: usize = database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(found, version);
    let whole: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
    let identities = "SELECT count(*) FROM users WHERE instr(user_id, '.') > 0";
    let identities: u64 = database.query_row(identities, [], |row| row.get(0)).unwrap();
    assert_eq!(identities, 3);
    drop(database);
    assert!(!dir.join("jds.sqlite.before-5.part").exists());
    // Once: the next start has nothing to bring together.
    let before = fs::read(&copy).unwrap();
    open(dir);
    assert!(fs::read(&copy).unwrap() == before);
}

#[test]
fn where_nobody_has_two_names_nothing_is_copied() {
    let dir = installed(4);
    open(dir.path());
    assert!(!dir.path().join("jds.sqlite.before-5").exists());
}

#[test]
fn users_are_not_brought_together_without_a_copy() {
    let dir = installed(4);
    let database = Connection::open(dir.path().join("jds.sqlite")).unwrap();
    database.execute("UPDATE users SET user_id = 'bob.1' WHERE user_id = 'bob'", []).unwrap();
    drop(database);
    // What is there can not be replaced.
    fs::create_dir_all(dir.path().join("jds.sqlite.before-5/x")).unwrap();
    let error = SqliteStore::open(Settings::new(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::Copy { .. }), "{error}");
    assert_eq!(version_of(dir.path()), 4);
    let part = dir.path().join("jds.sqlite.before-5.part");
    assert!(!part.exists(), "half a copy takes the room of a disk that is too small");
    fs::remove_dir_all(dir.path().join("jds.sqlite.before-5")).unwrap();
    open(dir.path());
    assert_eq!(version_of(dir.path()), migrations().len());
}
