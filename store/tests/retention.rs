//! What is too old or too much goes, and nothing else: lists and transactions that a kept template
//! needs stay, and the counted sizes are those of the tables.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::path::Path;

use common::{
    NOW_MS, all_events, assert_gap_free, assert_same_job, block, commit, job, numbered, share,
    template, txs,
};
use proptest::prelude::*;
use rusqlite::Connection;
use store::{
    Batch, BlockState, Change, Cursor, EventFilter, Keep, Period, ReadError, RecoverQuery,
    RejectedTemplate, Retention, Settings, SharesQuery, Sizes, SqliteStore, Store, TemplateFilter,
    TemplateRef, TemplateSource, UserTag, ValidationResult,
};
use validation::job::AcceptedJob;

const DAY_MS: u64 = 86_400_000;
const FOREVER: Keep = Keep { age_ms: u64::MAX, bytes: u64::MAX };
const KEEP_ALL: Retention = Retention {
    events: FOREVER,
    templates: FOREVER,
    transactions: FOREVER,
    rejected: FOREVER,
    shares: FOREVER,
    hourly_age_ms: u64::MAX,
    user_daily_age_ms: u64::MAX,
};
const RECOVER: RecoverQuery = RecoverQuery { now_ms: 0, min_height: 0, templates_max: 10_000 };

fn open(dir: &Path, retention: Retention) -> SqliteStore {
    SqliteStore::open(Settings { retention, ..Settings::new(dir) }).unwrap()
}

fn rejected(number: u64) -> RejectedTemplate {
    RejectedTemplate {
        user: "mallory".into(),
        user_tag: UserTag([1; 16]),
        template_hash: None,
        tx_count: 4,
        height: None,
        error_code: "invalid-job".into(),
        reason: "weight".into(),
        index: None,
        expected: None,
        actual: Some(number.to_string()),
        validation_ms: 0.5,
        request_bytes: 600,
    }
}

fn size(sizes: &Sizes, table: &str) -> (u64, u64) {
    let size = sizes.tables.iter().find(|size| size.table == table).unwrap();
    (size.rows, size.bytes)
}

/// The sizes that the store counts are those that a look at all rows gives.
fn assert_counted(dir: &Path, sizes: &Sizes) {
    let database = Connection::open(dir.join("jds.sqlite")).unwrap();
    for (table, variable) in [
        ("events", "SELECT count(*), sum(octet_length(data)), 70 FROM events"),
        ("tokens", "SELECT count(*), 0, 60 FROM tokens"),
        ("shares", "SELECT count(*), 0, 260 FROM shares"),
        ("transactions", "SELECT count(*), sum(length(raw)), 130 FROM transactions"),
        ("blocks", "SELECT count(*), sum(length(raw)), 600 FROM blocks"),
        ("users", "SELECT count(*), sum(octet_length(user_id)), 150 FROM users"),
        (
            "rejected",
            "SELECT count(*), 0, 400 FROM miner_templates WHERE validation_result = 'rejected'",
        ),
        (
            "templates",
            "SELECT count(*), sum(length(coinbase_prefix) + length(coinbase_suffix))
                 + (SELECT coalesce(sum(length(packed)), 0) FROM tx_lists), 500
             FROM miner_templates WHERE validation_result <> 'rejected'",
        ),
    ] {
        let (rows, bytes, each): (u64, Option<u64>, u64) = database
            .query_row(variable, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap();
        let lists: u64 =
            database.query_row("SELECT count(*) FROM tx_lists", [], |row| row.get(0)).unwrap();
        let expected = (rows, bytes.unwrap_or_default() + rows * each);
        if !(table == "templates" && rows == 0) {
            assert_eq!(size(sizes, table), expected, "{table}, with {lists} lists");
        }
    }
    let broken: u32 = database
        .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(broken, 0, "rows that name rows that are not there");
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[test]
fn old_events_go_and_their_readers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let keep = Keep { age_ms: DAY_MS, bytes: u64::MAX };
    let store = open(dir.path(), Retention { events: keep, ..KEEP_ALL });
    for number in 0..2_000 {
        let at_ms = NOW_MS + number * 100;
        let _written = store.commit(Batch::of_event(at_ms, numbered(number)));
    }
    commit(&store, Batch::new(NOW_MS));
    let cursor = |id| Cursor { epoch: Some(store.epoch()), id };
    store.retain(NOW_MS + DAY_MS + 150_000).unwrap();
    let events = all_events(&store);
    assert_eq!(events[0].id, 1_501);
    assert_eq!(events.len(), 500);
    match store.events_after(cursor(1_499), &EventFilter::ALL, 1) {
        Err(ReadError::Gone(gone)) => assert_eq!(gone.earliest, 1_501),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        store.events_after(cursor(1_500), &EventFilter::ALL, 1).unwrap().events[0].id,
        1_501
    );
    assert_eq!(store.sizes().unwrap().first_event_id, Some(1_501));
    // However old, the newest stays: numbers go on behind it.
    store.retain(NOW_MS * 2).unwrap();
    assert_eq!(all_events(&store)[0].id, 2_000);
    drop(store);
    let store = open(dir.path(), KEEP_ALL);
    assert_eq!(commit(&store, Batch::of_event(NOW_MS, numbered(0))).first_event_id, Some(2_001));
    assert_counted(dir.path(), &store.sizes().unwrap());
}

#[test]
fn too_many_rows_go_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    let keep = Keep { age_ms: u64::MAX, bytes: 100_000 };
    let retention = Retention { events: keep, shares: keep, rejected: keep, ..KEEP_ALL };
    let store = open(dir.path(), retention);
    for number in 0..1_000 {
        let share = share("alice", number, TemplateSource::Miner);
        let batch = Batch::of_event(NOW_MS + number, numbered(number)).share(share);
        let _written = store.commit(batch.change(Change::RejectTemplate(rejected(number))));
    }
    commit(&store, Batch::new(NOW_MS));
    store.retain(NOW_MS).unwrap();
    let sizes = store.sizes().unwrap();
    assert_counted(dir.path(), &sizes);
    for table in ["events", "shares", "rejected"] {
        let (rows, bytes) = size(&sizes, table);
        assert!((90_000..=100_000).contains(&bytes), "{table}: {rows} rows, {bytes} bytes");
    }
    assert_eq!(all_events(&store).last().unwrap().data["detail"], "999");
    let newest = store.templates(&TemplateFilter::default(), Default::default()).unwrap();
    assert_eq!(newest.items[0].actual.as_deref(), Some("999"));
    // What was counted by hour and day has not changed.
    let query = SharesQuery { user: None, period: Period::Day, from_ms: 0, until_ms: u64::MAX };
    let shares: u64 =
        store.shares_summary(&query).unwrap().iter().map(|day| day.shares_accepted).sum();
    assert_eq!(shares, 1_000);
    assert_eq!(store.miner("alice").unwrap().unwrap().shares_accepted_miner, 1_000);
}

/// Templates of an hour each, every one of them a change of the one before.
fn write_templates(store: &SqliteStore, count: u64) -> Vec<AcceptedJob> {
    let jobs: Vec<_> =
        (0..count).map(|turn| job(200, turn as u32, txs(turn * 5..turn * 5 + 60))).collect();
    for (turn, job) in (0..).zip(&jobs) {
        let at_ms = NOW_MS + turn * Period::Hour.ms();
        commit(store, Batch::new(at_ms).accept_template(template("alice", job.clone())));
    }
    jobs
}

#[test]
fn transactions_go_before_templates_and_no_sooner_than_the_last_that_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    let transactions = Keep { age_ms: DAY_MS, bytes: u64::MAX };
    let templates = Keep { age_ms: 2 * DAY_MS, bytes: u64::MAX };
    let store = open(dir.path(), Retention { transactions, templates, ..KEEP_ALL });
    let jobs = write_templates(&store, 40);
    let now_ms = NOW_MS + 39 * Period::Hour.ms();
    store.retain(now_ms).unwrap();
    let recovered = store.recover(&RECOVER).unwrap();
    assert_eq!(recovered.damaged, Vec::<String>::new());
    assert_eq!(recovered.templates.len(), 25, "those of a day and the youngest");
    for (template, job) in recovered.templates.iter().zip(&jobs[15..]) {
        assert_same_job(&template.job, job);
    }
    let sizes = store.sizes().unwrap();
    assert_eq!(size(&sizes, "transactions").0, 24 * 5 + 60);
    assert_eq!(size(&sizes, "templates").0, 40);
    assert_counted(dir.path(), &sizes);
    let oldest = TemplateRef::Hash(jobs[0].template_hash());
    assert_eq!(store.template(oldest).unwrap().unwrap().txs, None);
    assert_eq!(store.template_transactions(oldest).unwrap(), None);

    // The writer knows what went: the same transactions are written again.
    let again = template("alice", jobs[0].clone());
    commit(&store, Batch::new(now_ms).accept_template(again));
    let recovered = store.recover(&RECOVER).unwrap();
    assert_same_job(&recovered.templates.last().unwrap().job, &jobs[0]);

    store.retain(now_ms + 2 * DAY_MS + 1).unwrap();
    let sizes = store.sizes().unwrap();
    for table in ["templates", "transactions"] {
        assert_eq!(size(&sizes, table), (0, 0), "{table}");
    }
    assert_eq!(store.miner("alice").unwrap().unwrap().templates_accepted_total, 41);
}

#[test]
fn too_many_bytes_of_transactions_make_the_oldest_templates_give_theirs_up() {
    let dir = tempfile::tempdir().unwrap();
    let transactions = Keep { age_ms: u64::MAX, bytes: 30_000 };
    let store = open(dir.path(), Retention { transactions, ..KEEP_ALL });
    let jobs = write_templates(&store, 40);
    assert!(size(&store.sizes().unwrap(), "transactions").1 > 40_000);
    store.retain(NOW_MS).unwrap();
    let sizes = store.sizes().unwrap();
    let (_, bytes) = size(&sizes, "transactions");
    assert!((15_000..=30_000).contains(&bytes), "{bytes} bytes");
    assert_counted(dir.path(), &sizes);
    let recovered = store.recover(&RECOVER).unwrap();
    assert_eq!(recovered.damaged, Vec::<String>::new());
    assert!(recovered.templates.len() >= 5, "{}", recovered.templates.len());
    for (template, job) in recovered.templates.iter().rev().zip(jobs.iter().rev()) {
        assert_same_job(&template.job, job);
    }
}

#[test]
fn blocks_are_kept_for_ever_and_tokens_until_they_expire() {
    let dir = tempfile::tempdir().unwrap();
    let none = Keep { age_ms: 0, bytes: 0 };
    let retention = Retention { events: none, shares: none, templates: none, ..KEEP_ALL };
    let store = open(dir.path(), Retention { transactions: none, rejected: none, ..retention });
    let (done, open_block) = (block(1, 3_000), block(2, 3_000));
    for block in [&done, &open_block] {
        commit(&store, Batch::new(NOW_MS).change(Change::FindBlock(block.clone())));
    }
    let (state, block_hash) = (BlockState::Confirmed, done.block.hash);
    let confirmed = Change::BlockProgress { block_hash, state, confirmations: 100 };
    commit(&store, Batch::new(NOW_MS).change(confirmed));
    for sequence in 0..10 {
        let expires_at_ms = NOW_MS + sequence;
        commit(&store, Batch::new(NOW_MS).spend_token(sequence, expires_at_ms, "alice".into()));
    }
    store.retain(NOW_MS + 4).unwrap();
    assert_eq!(store.spent_tokens(Default::default()).unwrap().items.len(), 6);
    store.retain(NOW_MS + 1_000 * DAY_MS).unwrap();
    assert_eq!(store.blocks(Default::default()).unwrap().items.len(), 2);
    assert_eq!(*store.recover(&RECOVER).unwrap().blocks[0].block.raw, *open_block.block.raw);
    assert_counted(dir.path(), &store.sizes().unwrap());
}

/// What a random history is made of.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Part>),
    Retain,
    /// A restart, in order or as by a kill.
    Restart {
        orderly: bool,
    },
}

#[derive(Debug, Clone)]
enum Part {
    Event,
    Token(u64),
    Template { user: u8, first: u64, count: u64 },
    Reject,
    Share { accepted: bool, miner: bool },
    Block(u32),
    Settle(u32),
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        3 => Just(Part::Event),
        2 => (0_u64..60).prop_map(Part::Token),
        4 => (0_u8..3, 0_u64..40, 0_u64..30)
            .prop_map(|(user, first, count)| Part::Template { user, first, count }),
        1 => Just(Part::Reject),
        2 => any::<(bool, bool)>().prop_map(|(accepted, miner)| Part::Share { accepted, miner }),
        1 => (0_u32..5).prop_map(Part::Block),
        1 => (0_u32..5).prop_map(Part::Settle),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(part(), 1..4).prop_map(Step::Commit),
        1 => Just(Step::Retain),
        1 => any::<bool>().prop_map(|orderly| Step::Restart { orderly }),
    ]
}

/// A batch, its jobs, and the number of its events.
fn batch_of(parts: &[Part], now_ms: u64) -> (Batch, Vec<AcceptedJob>) {
    let mut batch = Batch::new(now_ms);
    let mut jobs = Vec::new();
    for part in parts {
        batch = match part {
            Part::Event => batch.event(numbered(now_ms)),
            Part::Token(sequence) => batch.spend_token(*sequence, now_ms + DAY_MS, "alice".into()),
            Part::Template { user, first, count } => {
                let job = job(200, *first as u32, txs(*first..first + count));
                jobs.push(job.clone());
                batch.accept_template(template(&format!("user-{user}"), job))
            }
            Part::Reject => batch.change(Change::RejectTemplate(rejected(1))),
            Part::Share { accepted, miner } => {
                let source = [TemplateSource::Pool, TemplateSource::Miner][usize::from(*miner)];
                let share = share("alice", now_ms, source);
                batch.share(store::ShareSubmitted { accepted: *accepted, ..share })
            }
            Part::Block(number) => batch.change(Change::FindBlock(block(*number, 300))),
            Part::Settle(number) => batch.change(Change::BlockProgress {
                block_hash: block(*number, 300).block.hash,
                state: BlockState::Orphaned,
                confirmations: 0,
            }),
        };
    }
    (batch, jobs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happens: ids have no gap, what is acknowledged stays until retention takes it,
    /// what is kept is whole, and the counted sizes are right.
    #[test]
    fn any_history_leaves_a_sound_store(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let retention = Retention {
            events: Keep { age_ms: u64::MAX, bytes: 4_000 },
            transactions: Keep { age_ms: 20 * 1_000, bytes: 8_000 },
            templates: Keep { age_ms: 30 * 1_000, bytes: u64::MAX },
            ..KEEP_ALL
        };
        let mut store = open(dir.path(), retention);
        let (mut now_ms, mut last_id, mut accepted) = (NOW_MS, 0, Vec::new());
        for step in &steps {
            now_ms += 1_000;
            match step {
                Step::Commit(parts) => {
                    let (batch, jobs) = batch_of(parts, now_ms);
                    // Spent twice, or no such block: then nothing of it is there.
                    if let Ok(committed) = store.commit(batch).wait() {
                        if let Some(first) = committed.first_event_id {
                            prop_assert_eq!(first, last_id + 1);
                        }
                        last_id += u64::from(committed.events);
                        accepted.extend(jobs);
                    }
                }
                Step::Retain => store.retain(now_ms).unwrap(),
                Step::Restart { orderly } => {
                    if *orderly { store.close() } else { store.abandon() }
                    store = open(dir.path(), retention);
                }
            }
        }
        let events = all_events(&store);
        assert_gap_free(&events);
        prop_assert_eq!(store.last_event_id(), last_id);
        prop_assert_eq!(events.last().map_or(0, |event| event.id), last_id);
        let recovered = store.recover(&RECOVER).unwrap();
        prop_assert_eq!(recovered.damaged, Vec::<String>::new());
        for (template, job) in recovered.templates.iter().rev().zip(accepted.iter().rev()) {
            assert_same_job(&template.job, job);
        }
        let retained = steps.iter().any(|step| matches!(step, Step::Retain));
        if !retained {
            prop_assert_eq!(recovered.templates.len(), accepted.len());
            prop_assert_eq!(events.len() as u64, last_id);
        }
        let filter = TemplateFilter { result: Some(ValidationResult::Accepted), ..Default::default() };
        let listed = store.templates(&filter, store::PageRequest { after: None, limit: 1_000 });
        prop_assert!(listed.unwrap().items.len() >= recovered.templates.len());
        assert_counted(dir.path(), &store.sizes().unwrap());
    }
}
