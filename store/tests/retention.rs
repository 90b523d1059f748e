//! What is too old or too much goes, and nothing else: lists and transactions that a kept template
//! needs stay, and the counted sizes are those of the tables.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::path::Path;

use common::{
    KEEP_ALL, NOW_MS, all_events, assert_counted, assert_same_job, block, commit, job, numbered,
    rejected, share, size, template, txs,
};
use rusqlite::{Connection, params};
use store::limits::{USER_TEMPLATES_SAFE, USERS_MAX};
use store::{
    Batch, BlockState, Change, Cursor, EventFilter, Keep, MinerConnected, NewBlock, Period,
    ReadError, RecoverQuery, Retention, Role, Settings, SharesQuery, SqliteStore, Store,
    TemplateFilter, TemplateRef, TemplateSource,
};
use validation::job::AcceptedJob;

const DAY_MS: u64 = 86_400_000;
const RECOVER: RecoverQuery = RecoverQuery::ALL;

fn open(dir: &Path, retention: Retention) -> SqliteStore {
    SqliteStore::open(Settings { retention, ..Settings::new(dir) }).unwrap()
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
    // Also a reader that came when there was nothing yet: it has missed something.
    for gone in [0, 1_499] {
        match store.events_after(cursor(gone), &EventFilter::ALL, 1) {
            Err(ReadError::Gone(gone)) => assert_eq!(gone.earliest, 1_501),
            other => panic!("{other:?}"),
        }
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

/// Whoever declares under ever new names can not fill the disk with statistics.
#[test]
fn statistics_of_single_users_are_bounded_and_those_of_all_stay() {
    let dir = tempfile::tempdir().unwrap();
    // A bit more than the days of so many users take.
    let bytes = 300_000;
    let store = open(dir.path(), Retention { aggregates_bytes: bytes, ..KEEP_ALL });
    let accepted = job(200, 1, txs(0..3));
    let hour_ms = 3_600_000;
    for number in 0..1_500_u64 {
        let template = template(&format!("user-{number}"), job(200, 1, txs(0..3)));
        let at_ms = NOW_MS + number / 500 * hour_ms;
        let _written = store.commit(Batch::new(at_ms).accept_template(template));
    }
    commit(&store, Batch::new(NOW_MS));
    let before = store.sizes().unwrap();
    assert_counted(dir.path(), &before);
    assert!(size(&before, "aggregates").1 > 3 * bytes / 2);
    store.retain(NOW_MS + 3 * hour_ms).unwrap();
    let sizes = store.sizes().unwrap();
    assert_counted(dir.path(), &sizes);
    let (rows, kept) = size(&sizes, "aggregates");
    assert!(kept <= bytes && rows > 0, "{rows} rows, {kept} bytes");
    let of = |user: Option<&str>, period| {
        let user = user.map(str::to_owned);
        let query = SharesQuery { user, period, from_ms: 0, until_ms: u64::MAX >> 1 };
        let counts = store.shares_summary(&query).unwrap();
        counts.iter().map(|count| count.templates_accepted).sum::<u64>()
    };
    assert_eq!((of(None, Period::Hour), of(None, Period::Day)), (1_500, 1_500));
    assert_eq!(of(Some("user-0"), Period::Hour), 0, "the oldest hour went first");
    assert_eq!(of(Some("user-0"), Period::Day), 1, "hours go before days");
    assert_eq!(of(Some("user-1499"), Period::Day), 1);
    assert_eq!(store.miner("user-0").unwrap().unwrap().templates_accepted_total, 1);
    let found = store.template(TemplateRef::Hash(accepted.template_hash())).unwrap();
    assert!(found.is_some(), "nothing else goes");
    drop(store);
    // Less than the days take: then those go as well, but never those of all together.
    let store = open(dir.path(), Retention { aggregates_bytes: 10_000, ..KEEP_ALL });
    store.retain(NOW_MS + 3 * hour_ms).unwrap();
    let sizes = store.sizes().unwrap();
    assert_counted(dir.path(), &sizes);
    assert!(size(&sizes, "aggregates").1 <= 10_000);
    let query =
        SharesQuery { user: None, period: Period::Day, from_ms: 0, until_ms: u64::MAX >> 1 };
    let days = store.shares_summary(&query).unwrap();
    assert_eq!(days.iter().map(|day| day.templates_accepted).sum::<u64>(), 1_500);
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

/// Whoever spends tokens on rubbish can fill neither the disk nor the memory of the next start.
#[test]
fn too_many_spent_tokens_go_and_stay_spent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Retention { spent_tokens_max: 100, ..KEEP_ALL });
    // More than one step of retention deletes.
    for sequence in 1..=1_300 {
        let batch = Batch::new(NOW_MS).spend_token(sequence, NOW_MS + DAY_MS, "mallory".into());
        let _written = store.commit(batch);
    }
    commit(&store, Batch::new(NOW_MS));
    store.retain(NOW_MS).unwrap();
    let sizes = store.sizes().unwrap();
    assert_eq!(size(&sizes, "tokens").0, 100);
    assert_counted(dir.path(), &sizes);
    drop(store);
    let store = open(dir.path(), KEEP_ALL);
    let recovered = store.recover(&RecoverQuery { now_ms: NOW_MS, ..RECOVER }).unwrap();
    assert_eq!(recovered.spent_tokens, (1_201..=1_300).rev().collect::<Vec<_>>());
    assert_eq!(recovered.spent_floor, 1_200, "what went counts as spent");
    store.retain(NOW_MS + DAY_MS + 1).unwrap();
    let recovered = store.recover(&RecoverQuery { now_ms: NOW_MS, ..RECOVER }).unwrap();
    assert_eq!((recovered.spent_tokens, recovered.spent_floor), (vec![], 1_300));
}

/// Whoever declares much, or much that is made up, displaces nobody's live templates.
#[test]
fn a_busy_peer_displaces_only_its_own_templates() {
    let dir = tempfile::tempdir().unwrap();
    let few = |number: u64| txs(number * 3..number * 3 + 3);
    let honest: Vec<_> =
        (0..3).map(|turn| job(200 + turn, turn, few(1_000_000 + u64::from(turn)))).collect();
    // As many bytes of rows as some 150 templates take, and of transactions as some 100 do.
    let templates = Keep { age_ms: u64::MAX, bytes: 120_000 };
    let transactions = Keep { age_ms: u64::MAX, bytes: 100_000 };
    let store = open(dir.path(), Retention { templates, transactions, ..KEEP_ALL });
    for old in 0..50 {
        // A block lower than those that a block may still come of.
        let job = job(199, old, few(2_000_000 + u64::from(old)));
        commit(&store, Batch::new(NOW_MS).accept_template(template("alice", job)));
    }
    for job in &honest {
        commit(&store, Batch::new(NOW_MS).accept_template(template("alice", job.clone())));
    }
    for number in 0..400_u64 {
        let job = job(202, number as u32, few(number));
        let _written = store.commit(Batch::new(NOW_MS).accept_template(template("mallory", job)));
    }
    commit(&store, Batch::new(NOW_MS));
    let fair = RecoverQuery { templates_max: 5, ..RECOVER };
    let of_alice = |query: &RecoverQuery| {
        let recovered = store.recover(query).unwrap();
        assert_eq!(recovered.damaged, Vec::<String>::new());
        let (alice, others): (Vec<_>, Vec<_>) =
            recovered.templates.into_iter().partition(|template| template.user == "alice");
        (alice, others.len())
    };
    let (alice, others) = of_alice(&fair);
    assert_eq!((alice.len(), others), (2, 3), "users take turns");
    assert_same_job(&alice[1].job, &honest[2]);
    let (alice, others) = of_alice(&RecoverQuery { user_templates_max: 10, ..RECOVER });
    assert_eq!((alice.len(), others), (10, 10));

    store.retain(NOW_MS).unwrap();
    let sizes = store.sizes().unwrap();
    assert!(size(&sizes, "templates").1 <= templates.bytes, "{sizes:?}");
    assert!(size(&sizes, "transactions").1 <= transactions.bytes, "{sizes:?}");
    assert_counted(dir.path(), &sizes);
    let (alice, others) = of_alice(&RECOVER);
    assert_eq!(alice.len(), 3, "old heights go first, live ones stay");
    for (template, job) in alice.iter().zip(&honest) {
        assert_same_job(&template.job, job);
    }
    assert!(others >= USER_TEMPLATES_SAFE, "{others}: everybody keeps as many");
}

/// Names are free: a stranger who brings ever new ones erases nobody who has done something.
#[test]
fn too_many_users_go_without_those_who_earned_something() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), KEEP_ALL);
    let accept = |user: &str, at_ms| {
        Batch::new(at_ms).accept_template(template(user, job(200, 1, txs(0..1))))
    };
    let connected = |user: &str| MinerConnected {
        user: Some(user.to_owned()),
        connection_id: 1,
        remote: "127.0.0.1:1".to_owned(),
        role: Role::JobDeclaration,
        flags: 1,
        job_negotiation: true,
        reason: None,
    };
    commit(&store, Batch::of_event(NOW_MS, connected("alice")));
    commit(&store, accept("alice", NOW_MS));
    commit(&store, Batch::new(NOW_MS).share(share("bob", 1, TemplateSource::Pool)));
    commit(
        &store,
        Batch::new(NOW_MS)
            .change(Change::FindBlock(NewBlock { user: "carol".into(), ..block(1, 100) })),
    );
    drop(store);
    // Later than everybody else: names alone, and many that have one template each.
    let database = Connection::open(dir.path().join("jds.sqlite")).unwrap();
    let fill = |name: &str, count: usize, templates: u32| {
        let sql = "INSERT INTO users (user_id, first_seen, last_seen, templates_accepted_total)
             SELECT format('%s-%06d', ?1, value), ?2, ?2 + value, ?3
             FROM (WITH RECURSIVE n (value) AS
                 (SELECT 0 UNION ALL SELECT value + 1 FROM n LIMIT ?4) SELECT value FROM n)";
        database.execute(sql, params![name, NOW_MS + 1, templates, count]).unwrap();
        let sql = "UPDATE table_sizes SET (rows, bytes) = (SELECT count(*),
                 sum(octet_length(user_id)) + 150 * count(*) FROM users) WHERE name = 'users'";
        database.execute(sql, []).unwrap();
    };
    fill("idle", USERS_MAX, 0);
    let store = open(dir.path(), KEEP_ALL);
    store.retain(NOW_MS).unwrap();
    let sizes = store.sizes().unwrap();
    assert_eq!(size(&sizes, "users").0, USERS_MAX as u64);
    assert_counted(dir.path(), &sizes);
    let alice = store.miner("alice").unwrap().expect("she has an accepted template");
    assert_eq!((alice.templates_accepted_total, alice.node_runner_at), (1, Some(NOW_MS)));
    assert!(store.miner("bob").unwrap().is_some() && store.miner("carol").unwrap().is_some());
    assert_eq!(store.miner("idle-000002").unwrap(), None, "the longest unseen");

    // Full: a name alone gets no place, whoever declares gets one at once.
    commit(&store, Batch::of_event(NOW_MS, connected("dave")));
    assert_eq!(store.miner("dave").unwrap(), None);
    commit(&store, accept("dave", NOW_MS + 2));
    let dave = store.miner("dave").unwrap().unwrap();
    assert_eq!((dave.templates_accepted_total, dave.node_runner_at), (1, Some(NOW_MS + 2)));
    drop(store);

    // Names with a template each take the place of other such, the longest unseen first, and
    // never that of somebody with shares or blocks.
    database.execute("DELETE FROM users WHERE user_id LIKE 'idle-%'", []).unwrap();
    fill("cheap", USERS_MAX, 1);
    let store = open(dir.path(), KEEP_ALL);
    store.retain(NOW_MS).unwrap();
    assert_eq!(size(&store.sizes().unwrap(), "users").0, USERS_MAX as u64);
    assert_eq!(store.miner("alice").unwrap(), None);
    assert!(store.miner("bob").unwrap().is_some() && store.miner("carol").unwrap().is_some());
    assert_counted(dir.path(), &store.sizes().unwrap());
}

/// Transactions are deleted while new templates name the very same ones.
#[test]
fn retention_takes_nothing_that_a_new_template_names_meanwhile() {
    const ROUNDS: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let transactions = Keep { age_ms: 10, bytes: u64::MAX };
    let store = open(dir.path(), Retention { transactions, ..KEEP_ALL });
    // Templates take turns, so that the transactions of each are given up and named again.
    let jobs: Vec<_> = (0..40)
        .map(|turn| job(200, turn, txs(u64::from(turn) * 10..u64::from(turn) * 10 + 10)))
        .collect();
    std::thread::scope(|scope| {
        let commits = scope.spawn(|| {
            for round in 0..ROUNDS {
                let template = template("alice", jobs[round as usize % jobs.len()].clone());
                commit(&store, Batch::new(NOW_MS + round).accept_template(template));
            }
        });
        while !commits.is_finished() {
            let templates = store.recover(&RecoverQuery { templates_max: 1, ..RECOVER }).unwrap();
            let newest = templates.templates.last().map_or(NOW_MS, |newest| newest.submitted_at);
            store.retain(newest).unwrap();
            let recovered = store.recover(&RECOVER).unwrap();
            assert_eq!(recovered.damaged, Vec::<String>::new());
        }
    });
    let recovered = store.recover(&RECOVER).unwrap();
    assert_eq!(recovered.damaged, Vec::<String>::new());
    for template in recovered.templates.iter().rev() {
        let round = template.submitted_at - NOW_MS;
        assert_same_job(&template.job, &jobs[round as usize % jobs.len()]);
    }
    assert_counted(dir.path(), &store.sizes().unwrap());
}

/// A list that is gone can not be what the next list of its user is written as changes to.
#[test]
fn lists_that_went_are_not_built_upon() {
    let dir = tempfile::tempdir().unwrap();
    let transactions = Keep { age_ms: DAY_MS, bytes: u64::MAX };
    let store = open(dir.path(), Retention { transactions, ..KEEP_ALL });
    let same = || txs(0..50);
    commit(&store, Batch::new(NOW_MS).accept_template(template("alice", job(200, 0, same()))));
    // The transactions stay, with their row ids: somebody else's template names them.
    let later = NOW_MS + DAY_MS;
    commit(&store, Batch::new(later).accept_template(template("bob", job(200, 1, same()))));
    store.retain(later + 1).unwrap();
    let next = job(200, 2, same());
    commit(&store, Batch::new(later).accept_template(template("alice", next.clone())));
    let recovered = store.recover(&RECOVER).unwrap();
    assert_eq!(recovered.damaged, Vec::<String>::new());
    assert_eq!(recovered.templates.len(), 2);
    assert_same_job(&recovered.templates[1].job, &next);
    assert_counted(dir.path(), &store.sizes().unwrap());
}
