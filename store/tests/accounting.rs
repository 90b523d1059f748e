//! The accounting feed: each accepted share in exactly one entry, of closed intervals alone, whatever
//! happens to the store and its reader.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{KEEP_ALL, NOW_MS, all_events, block as found_block, commit, share, wait_for};
use rusqlite::Connection;
use store::{
    Accounted, AccountingCursor, AccountingEntry, AccountingPage, Batch, Change, EventData, Keep,
    ReadError, Retention, Settings, ShareOrigin, ShareSubmitted, SqliteStore, Store,
    TemplateSource,
};

/// Every batch in an interval of its own.
const SHORT: Duration = Duration::ZERO;
/// No interval ends by itself.
const ENDLESS: Duration = Duration::from_secs(1 << 30);

fn settings(dir: &Path, interval: Duration) -> Settings {
    Settings { retention: KEEP_ALL, accounting_interval: interval, ..Settings::new(dir) }
}

fn open(dir: &Path, interval: Duration) -> SqliteStore {
    SqliteStore::open(settings(dir, interval)).unwrap()
}

/// A share as the server records it: with its event.
fn of(user: &str, number: u64, source: TemplateSource) -> ShareSubmitted {
    let share = share(user, number, source);
    ShareSubmitted { difficulty: 1.0 + (number % 1_000) as f64 / 8.0, ..share }
}

fn batch(shares: &[ShareSubmitted]) -> Batch {
    shares
        .iter()
        .fold(Batch::new(NOW_MS), |batch, share| batch.share(share.clone()).event(share.clone()))
}

/// Everything after a cursor, in pages of this size.
fn read(store: &dyn Store, mut cursor: AccountingCursor, limit: usize) -> Vec<AccountingEntry> {
    let mut entries = Vec::new();
    loop {
        let AccountingPage { entries: page, next, more, intervals } =
            store.accounting_after(cursor, limit).unwrap();
        for entry in &page {
            assert!(intervals.iter().any(|interval| interval.number == entry.interval));
        }
        entries.extend(page);
        cursor = next;
        if !more {
            return entries;
        }
    }
}

/// Shares and work by user, source and template.
type Totals = BTreeMap<(String, &'static str, Option<String>), (u64, f64)>;

fn totals<'a>(entries: impl IntoIterator<Item = &'a AccountingEntry>) -> Totals {
    let mut totals = Totals::new();
    for entry in entries {
        let Accounted::Work { shares, work, .. } = entry.what else { continue };
        let key = (entry.user.clone(), entry.template_source.as_str(), entry.template_hash.clone());
        let total = totals.entry(key).or_default();
        *total = (total.0 + shares, total.1 + work);
    }
    totals
}

/// What the table of shares says. Difficulties here are eighths: their sums are exact.
fn table(dir: &Path) -> Totals {
    let database = Connection::open(dir.join("jds.sqlite")).unwrap();
    let sql = "SELECT user_id, template_source, miner_template_hash, count(*), sum(difficulty)
               FROM shares WHERE accepted GROUP BY 1, 2, 3";
    let mut rows = database.prepare(sql).unwrap();
    let rows = rows.query_map([], |row| {
        let source: String = row.get(1)?;
        let source = if source == "miner" { "miner" } else { "pool" };
        Ok(((row.get(0)?, source, row.get(2)?), (row.get(3)?, row.get(4)?)))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// Numbers follow each other.
fn assert_gap_free(entries: &[AccountingEntry]) {
    for pair in entries.windows(2) {
        assert_eq!(pair[1].number, pair[0].number + 1);
        assert!(pair[1].interval >= pair[0].interval);
    }
}

#[test]
fn an_interval_is_given_out_when_it_can_not_change_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), ENDLESS);
    let good = of("alice", 1, TemplateSource::Miner);
    let bad = ShareSubmitted { accepted: false, ..of("alice", 9, TemplateSource::Miner) };
    commit(&store, batch(&[good.clone(), bad, of("alice", 2, TemplateSource::Pool)]));
    commit(&store, batch(std::slice::from_ref(&good)));
    let page = store.accounting_after(AccountingCursor::START, 10).unwrap();
    assert_eq!((page.entries.len(), page.next), (0, AccountingCursor::START), "it is open");
    store.close();

    let store = open(dir.path(), ENDLESS);
    let page = store.accounting_after(AccountingCursor::START, 10).unwrap();
    let [interval] = page.intervals.as_slice() else { panic!("{page:?}") };
    assert_eq!((interval.after_event, interval.last_event), (0, 4));
    let works: Vec<_> =
        page.entries.iter().filter(|e| e.template_source == TemplateSource::Miner).collect();
    let [entry] = works.as_slice() else { panic!("{page:?}") };
    assert_eq!(entry.template_hash, good.miner_template_hash);
    let Accounted::Work { shares, work, pool_payout_sat, claimable_sat, .. } = entry.what else {
        panic!("{entry:?}")
    };
    assert_eq!((shares, work), (2, 2.0 * good.difficulty));
    assert_eq!((pool_payout_sat, claimable_sat), (good.pool_payout_sat, good.claimable_sat));
    assert_eq!(totals(&page.entries), table(dir.path()));
    // Later shares are later entries, also of the same template.
    let next = page.next;
    commit(&store, batch(&[good]));
    assert!(read(&store, next, 10).is_empty());
    store.close();
    let store = open(dir.path(), ENDLESS);
    let all = read(&store, AccountingCursor::START, 1);
    assert_gap_free(&all);
    assert_eq!(all[..2], page.entries[..], "what was given out stays as it was");
    assert_eq!(totals(&all), table(dir.path()));
}

#[test]
fn shares_that_a_pool_handed_in_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), ENDLESS);
    let port = of("alice", 1, TemplateSource::Miner);
    let pool = ShareSubmitted { channel_id: ShareOrigin::POOL_CHANNEL, ..port.clone() };
    commit(&store, batch(&[port.clone(), pool.clone()]));
    commit(&store, batch(&[pool.clone(), port, pool]));
    store.close();
    let store = open(dir.path(), ENDLESS);
    let entries = read(&store, AccountingCursor::START, 10);
    let mut counted: Vec<_> = entries
        .iter()
        .map(|entry| match entry.what {
            Accounted::Work { origin, shares, .. } => (origin.map(ShareOrigin::as_str), shares),
            Accounted::Block { .. } => panic!("{entry:?}"),
        })
        .collect();
    counted.sort_unstable();
    assert_eq!(counted, [(Some("pool"), 3), (Some("port"), 2)]);
}

#[test]
fn entries_of_before_do_not_say_how_their_shares_came() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), ENDLESS);
    commit(&store, batch(&[of("alice", 1, TemplateSource::Miner)]));
    store.close();
    let database = Connection::open(dir.path().join("jds.sqlite")).unwrap();
    database.execute("UPDATE accounting SET origin = ''", []).unwrap();
    drop(database);
    let entries = read(&open(dir.path(), ENDLESS), AccountingCursor::START, 10);
    assert!(matches!(entries[0].what, Accounted::Work { origin: None, shares: 1, .. }));
}

#[test]
fn the_shares_of_an_interval_are_those_of_its_events() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SHORT);
    for number in 0..40 {
        let user = ["alice", "bob"][number as usize % 2];
        commit(&store, batch(&[of(user, number, TemplateSource::Miner)]));
    }
    store.close();
    let store = open(dir.path(), SHORT);
    let page = store.accounting_after(AccountingCursor::START, 1_000).unwrap();
    assert!(page.intervals.len() > 10, "{} intervals", page.intervals.len());
    let events = all_events(&store);
    for interval in &page.intervals {
        let told = events.iter().filter(|event| {
            let within = event.id > interval.after_event && event.id <= interval.last_event;
            within && matches!(event.typed().unwrap(), EventData::ShareSubmitted(share) if share.accepted)
        });
        let entries = page.entries.iter().filter(|entry| entry.interval == interval.number);
        let counted: u64 = totals(entries).values().map(|(shares, _)| shares).sum();
        assert_eq!(counted, told.count() as u64, "{interval:?}");
    }
}

#[test]
fn an_interval_without_further_shares_is_closed_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SHORT);
    commit(&store, batch(&[of("alice", 1, TemplateSource::Pool)]));
    wait_for("the interval to be closed", || !read(&store, AccountingCursor::START, 10).is_empty());
}

#[test]
fn a_block_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), ENDLESS);
    let block = found_block(1, 100);
    for _ in 0..3 {
        commit(&store, Batch::new(NOW_MS).change(Change::FindBlock(block.clone())));
    }
    store.close();
    let store = open(dir.path(), ENDLESS);
    let entries = read(&store, AccountingCursor::START, 10);
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    let Accounted::Block { block_hash, height, reward_sat, found_at } = &entry.what else {
        panic!("{entry:?}")
    };
    assert_eq!(*block_hash, block.block.hash.to_string());
    assert_eq!((*height, *reward_sat, *found_at), (block.height, block.reward_sat, NOW_MS));
}

#[test]
fn a_batch_that_is_refused_is_not_credited() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), ENDLESS);
    let token = |batch: Batch| batch.spend_token(7, NOW_MS * 2, "alice".into());
    commit(&store, token(Batch::new(NOW_MS)));
    let refused = token(batch(&[of("alice", 1, TemplateSource::Pool)]));
    assert!(store.commit(refused).wait().is_err());
    commit(&store, batch(&[of("alice", 2, TemplateSource::Pool)]));
    store.close();
    let store = open(dir.path(), ENDLESS);
    assert_eq!(totals(&read(&store, AccountingCursor::START, 10)), table(dir.path()));
    assert_eq!(table(dir.path()).values().map(|(shares, _)| shares).sum::<u64>(), 1);
}

#[test]
fn retention_tells_a_reader_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SHORT);
    for number in 0..20 {
        commit(&store, batch(&[of("alice", number, TemplateSource::Miner)]));
    }
    wait_for("all intervals to be closed", || {
        totals(&read(&store, AccountingCursor::START, 100)) == table(dir.path())
    });
    let first = store.accounting_after(AccountingCursor::START, 1).unwrap();
    let rest = read(&store, first.next, 100);
    store.close();
    let retention = Retention { accounting: Keep { age_ms: u64::MAX, bytes: 1_000 }, ..KEEP_ALL };
    let store = SqliteStore::open(Settings { retention, ..settings(dir.path(), SHORT) }).unwrap();
    store.retain(NOW_MS).unwrap();
    common::assert_counted(dir.path(), &store.sizes().unwrap());
    let error = store.accounting_after(first.next, 100).unwrap_err();
    let ReadError::AccountingGone { earliest } = error else { panic!("{error}") };
    let kept = read(&store, earliest, 100);
    assert!(!kept.is_empty() && kept.len() < 5, "{kept:?}");
    assert!(rest.ends_with(&kept), "the newest stay");
    assert_eq!(read(&store, AccountingCursor::START, 100), kept);
}

/// A backup that is put back: a reader of what was lost is told, others go on.
#[test]
fn a_cursor_of_a_lost_history_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let backup = tempfile::tempdir().unwrap();
    let (live, saved) = (dir.path().join("jds.sqlite"), backup.path().join("jds.sqlite"));
    let store = open(dir.path(), ENDLESS);
    commit(&store, batch(&[of("alice", 1, TemplateSource::Miner)]));
    store.close();
    let store = open(dir.path(), ENDLESS);
    let before = store.accounting_after(AccountingCursor::START, 10).unwrap().next;
    store.close();
    std::fs::copy(&live, &saved).unwrap();
    let store = open(dir.path(), ENDLESS);
    commit(&store, batch(&[of("alice", 2, TemplateSource::Miner)]));
    store.close();
    let store = open(dir.path(), ENDLESS);
    let lost = store.accounting_after(before, 10).unwrap().next;
    store.close();
    std::fs::copy(&saved, &live).unwrap();
    let store = open(dir.path(), ENDLESS);
    commit(&store, batch(&[of("bob", 3, TemplateSource::Miner)]));
    store.close();
    let store = open(dir.path(), ENDLESS);
    assert_eq!(read(&store, before, 10).len(), 1);
    let error = store.accounting_after(lost, 10).unwrap_err();
    assert!(matches!(error, ReadError::AccountingGone { .. }), "{error}");
}

/// Directory of the child's store; set in the child only.
const CHILD: &str = "STORE_ACCOUNTING_CHILD";
/// Kills.
const ROUNDS: usize = 10;
/// Shares that the child says were acknowledged before it is killed.
const ACKNOWLEDGED: usize = 25;

/// Not a test by itself: the process that is killed while it writes.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let store = open(Path::new(&dir), Duration::from_millis(20));
    let mut out = std::io::stdout();
    let intervals =
        || store.accounting_after(AccountingCursor::START, 10_000).unwrap().intervals.len();
    let before = intervals();
    for number in 0.. {
        let user = ["alice", "bob", "carol"][number as usize % 3];
        let source = if number % 2 == 0 { TemplateSource::Miner } else { TemplateSource::Pool };
        let share = ShareSubmitted {
            miner_template_hash: (number % 2 == 0).then(|| format!("{:064x}", number / 40)),
            ..of(user, number, source)
        };
        commit(&store, batch(&[share]));
        writeln!(out, "acknowledged {number}").unwrap();
        if intervals() > before {
            writeln!(out, "closed").unwrap();
        }
    }
}

fn spawn(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A reader follows the file of a writer that is killed again and again, and dies itself with each:
/// what it goes on with is the cursor that it kept. In the end the sums are those of the shares.
#[test]
fn every_share_is_credited_once_over_kills_of_writer_and_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (mut cursor, mut credited) = (AccountingCursor::START, Vec::new());
    for round in 0..ROUNDS {
        let mut child = spawn(dir.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Until an interval was closed under load, however fast the shares are written.
        let (mut acknowledged, mut closed) = (0, false);
        while acknowledged < ACKNOWLEDGED + round || !closed {
            let line = lines.next().expect("the child ended by itself").unwrap();
            acknowledged += usize::from(line.contains("acknowledged"));
            closed |= line.contains("closed");
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let store = open(dir.path(), ENDLESS);
        // Two pages; the reader dies before it has kept the second.
        for kept in [true, false] {
            let page = store.accounting_after(cursor, 3).unwrap();
            if kept {
                credited.extend(page.entries);
                cursor = page.next;
            }
        }
        store.close();
    }
    let store = open(dir.path(), ENDLESS);
    let intervals =
        store.accounting_after(AccountingCursor::START, 10_000).unwrap().intervals.len();
    assert!(intervals > ROUNDS, "{intervals} intervals: none was closed under load");
    credited.extend(read(&store, cursor, 7));
    assert_gap_free(&credited);
    assert_eq!(credited, read(&store, AccountingCursor::START, 10_000));
    assert_eq!(totals(&credited), table(dir.path()));
}
