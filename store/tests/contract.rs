//! What every store promises, as tests over `dyn Store`. A new backend adds one line at the end.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{
    NOW_MS, all_events, assert_gap_free, assert_same_job, block, commit, job, numbered, share,
    template, txs,
};
use store::{
    Batch, BlockConfirmed, BlockState, Change, CommitError, Cursor, Event, EventFilter, EventKind,
    MinerConnected, PageRequest, Period, ReadError, RecoverQuery, RejectedTemplate, Role, Settings,
    SharesQuery, SqliteStore, Status, Store, SubmissionState, SubmissionStep, TemplateFilter,
    TemplateRef, TemplateSource, UserTag, ValidationResult, Webhook,
};

/// Opens a store in a directory; dropping it closes it.
type Open = fn(&Path) -> Box<dyn Store>;

const RECOVER: RecoverQuery = RecoverQuery { now_ms: NOW_MS, min_height: 0, templates_max: 1_000 };
const ALL: PageRequest = PageRequest { after: None, limit: 0 };

fn events_are_numbered_in_order_and_survive(open: Open, dir: &Path) {
    let store = open(dir);
    let mut watch = store.watch();
    let first = commit(&*store, Batch::of_event(NOW_MS, numbered(1)).event(numbered(2)));
    assert_eq!((first.first_event_id, first.events, first.volatile), (Some(1), 2, false));
    let second = commit(&*store, Batch::of_event(NOW_MS + 1, numbered(3)));
    assert_eq!(second.first_event_id, Some(3));
    assert_eq!(store.last_event_id(), 3);
    assert_eq!(*watch.borrow_and_update(), 3);
    let nothing = commit(&*store, Batch::new(NOW_MS));
    assert_eq!((nothing.first_event_id, nothing.events), (None, 0));
    let (before, epoch) = (all_events(&*store), store.epoch());
    drop(store);

    let store = open(dir);
    assert_eq!(all_events(&*store), before);
    assert_eq!(store.epoch(), epoch, "a restart is no new epoch");
    assert_eq!(store.last_event_id(), 3);
    assert_eq!(commit(&*store, Batch::of_event(NOW_MS, numbered(4))).first_event_id, Some(4));
    let events = all_events(&*store);
    assert_gap_free(&events);
    assert_eq!(events[2].timestamp, NOW_MS + 1);
    assert_eq!(events[2].source, "hosted");
    assert_eq!(events[2].typed().unwrap(), numbered(3).into());
    let json = serde_json::to_value(&events[2]).unwrap();
    assert_eq!(json["event"], "node_status");
    assert_eq!(json["protocol"], "stratum_v2");
    assert_eq!(serde_json::from_value::<Event>(json).unwrap(), events[2]);
}

fn pages_of_events_follow_the_cursor(open: Open, dir: &Path) {
    let store = open(dir);
    for number in 0..10 {
        let confirmed = BlockConfirmed { block_hash: String::new(), confirmations: number };
        commit(&*store, Batch::of_event(NOW_MS, numbered(number.into())).event(confirmed));
    }
    let filter = EventFilter::parse("block_*").unwrap();
    let (mut cursor, mut ids) = (Cursor::START, Vec::new());
    loop {
        let page = store.events_after(cursor, &filter, 3).unwrap();
        assert!(page.events.len() <= 3);
        assert!(page.events.iter().all(|event| event.event == EventKind::BlockConfirmed));
        ids.extend(page.events.iter().map(|event| event.id));
        // As a reader would keep it.
        cursor = page.next.to_string().parse().unwrap();
        if !page.more {
            break;
        }
    }
    assert_eq!(ids, (1..=10).map(|number| 2 * number).collect::<Vec<_>>());
    assert_eq!(cursor, Cursor { epoch: Some(store.epoch()), id: 20 });
    let page = store.events_after(cursor, &filter, 3).unwrap();
    assert_eq!((page.events, page.next, page.more), (vec![], cursor, false));
    // A place that only unwanted events are behind moves on.
    let none = EventFilter::only(&[EventKind::BlockOrphaned]);
    assert_eq!(store.events_after(Cursor::START, &none, 3).unwrap().next.id, 20);

    for gone in [
        Cursor { epoch: Some(store.epoch()), id: 21 },
        Cursor { epoch: Some("0123456789abcdef".parse().unwrap()), id: 3 },
    ] {
        match store.events_after(gone, &filter, 3) {
            Err(ReadError::Gone(gone)) => {
                assert_eq!((gone.earliest, gone.epoch), (1, store.epoch()));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn a_refused_batch_leaves_no_trace(open: Open, dir: &Path) {
    let store = open(dir);
    let spend = |sequence| Batch::new(NOW_MS).spend_token(sequence, NOW_MS + 1, "alice".into());
    commit(&*store, spend(7).event(numbered(1)));
    // Together with others, so that they share a transaction.
    let batches = [
        Batch::of_event(NOW_MS, numbered(2)),
        spend(8).spend_token(7, NOW_MS + 1, "bob".into()).event(numbered(99)).share(share(
            "bob",
            1,
            TemplateSource::Pool,
        )),
        Batch::of_event(NOW_MS, numbered(3)),
    ];
    let outcomes: Vec<_> =
        batches.map(|batch| store.commit(batch)).map(|commit| commit.wait()).into();
    assert_eq!(outcomes[0].as_ref().unwrap().first_event_id, Some(2));
    assert!(matches!(outcomes[1], Err(CommitError::Refused(_))), "{:?}", outcomes[1]);
    assert_eq!(outcomes[2].as_ref().unwrap().first_event_id, Some(3));
    let tokens = store.spent_tokens(ALL).unwrap().items;
    assert_eq!(tokens.iter().map(|token| token.sequence).collect::<Vec<_>>(), [7]);
    assert_eq!(store.miner("bob").unwrap(), None);
    assert_eq!(all_events(&*store).len(), 3);
    assert_eq!(store.metrics().refused_total, 1);
}

fn accepted_templates_come_back(open: Open, dir: &Path) {
    let store = open(dir);
    let jobs = [
        job(200, 0, txs(0..50)),
        job(201, 1, txs(10..60)),
        job(201, 2, vec![]),
        job(150, 3, txs(0..5)),
    ];
    for (number, job) in (0..).zip(&jobs) {
        let template = template("alice", job.clone());
        let batch = Batch::new(NOW_MS).spend_token(number, NOW_MS + number, "alice".into());
        commit(&*store, batch.accept_template(template));
    }
    let invalid = jobs[1].template_hash();
    let reason = "bad-blk".to_owned();
    let invalidate = Change::InvalidateTemplate { template_hash: invalid, reason };
    commit(&*store, Batch::new(NOW_MS).change(invalidate));
    drop(store);

    let store = open(dir);
    let recovered = store.recover(&RecoverQuery { min_height: 200, ..RECOVER }).unwrap();
    assert_eq!(recovered.damaged, Vec::<String>::new());
    assert_eq!(recovered.templates.len(), 3, "those below the height are of no use");
    for (template, job) in recovered.templates.iter().zip(&jobs) {
        assert_same_job(&template.job, job);
        assert_eq!(template.user, "alice");
        assert_eq!(template.user_tag, UserTag(*b"alice\0\0\0\0\0\0\0\0\0\0\0"));
    }
    let withdrawn: Vec<_> =
        recovered.templates.iter().map(|template| template.withdrawn.as_deref()).collect();
    assert_eq!(withdrawn, [None, Some("bad-blk"), None]);
    let (one, other) = (recovered.templates[0].job.txs(), recovered.templates[1].job.txs());
    assert!(Arc::ptr_eq(&one[10], &other[0]), "transactions are shared");
    // Tokens that have expired are of no use either: 0 expires now.
    let sequences: Vec<_> = recovered.spent_tokens.iter().map(|token| token.sequence).collect();
    assert_eq!(sequences, [1, 2, 3]);
    let newest = store.recover(&RecoverQuery { templates_max: 1, ..RECOVER }).unwrap();
    assert_same_job(&newest.templates[0].job, &jobs[3]);

    let detail = store.template(TemplateRef::Hash(jobs[0].template_hash())).unwrap().unwrap();
    assert_eq!(detail.coinbase_prefix, jobs[0].coinbase().prefix());
    assert_eq!(detail.coinbase_suffix, jobs[0].coinbase().suffix());
    assert_eq!(usize::from(detail.extranonce_bytes), jobs[0].coinbase().extranonce_len());
    let listed = detail.txs.unwrap();
    assert_eq!(listed.len(), 50);
    for (listed, tx) in listed.iter().zip(jobs[0].txs()) {
        assert_eq!((listed.txid, listed.wtxid), (tx.txid(), tx.wtxid()));
        assert_eq!(listed.bytes as usize, tx.raw().len());
        assert_eq!(listed.weight_wu, tx.weight_wu());
    }
    let raw = store.template_transactions(TemplateRef::Id(detail.summary.id)).unwrap().unwrap();
    assert!(raw.iter().zip(jobs[0].txs()).all(|(raw, tx)| raw == tx.raw()));
    assert_eq!(store.template(TemplateRef::Id(99)).unwrap(), None);
}

/// Lists of transactions are written as changes to earlier ones; all of them come back whole.
fn many_similar_templates_come_back(open: Open, dir: &Path) {
    let store = open(dir);
    let pool = txs(0..400);
    let mut jobs = Vec::new();
    for turn in 0..200_usize {
        let mut txs = pool.clone();
        txs.rotate_left(turn * 7 % 400);
        txs.truncate(300);
        txs.swap(turn, (turn * 31) % 300);
        let job = job(300, turn as u32, txs);
        let user = ["alice", "bob"][turn % 2];
        let batch = Batch::new(NOW_MS).accept_template(template(user, job.clone()));
        jobs.push((job, store.commit(batch)));
    }
    let jobs: Vec<_> =
        jobs.into_iter().map(|(job, commit)| (job, commit.wait().unwrap())).collect();
    let check = |store: &dyn Store| {
        let recovered = store.recover(&RECOVER).unwrap();
        assert_eq!(recovered.damaged, Vec::<String>::new());
        assert_eq!(recovered.templates.len(), jobs.len());
        for (template, (job, _)) in recovered.templates.iter().zip(&jobs) {
            assert_same_job(&template.job, job);
        }
    };
    check(&*store);
    drop(store);
    let store = open(dir);
    check(&*store);
    let sizes = store.sizes().unwrap();
    let rows = |name| sizes.tables.iter().find(|table| table.table == name).unwrap().rows;
    assert_eq!(rows("transactions"), 400, "each transaction is there once");
    assert_eq!(rows("templates"), 200);
}

fn counts_and_badges_are_given_by_the_store(open: Open, dir: &Path) {
    let store = open(dir);
    for number in 0..3 {
        // The same template twice counts twice: two declarations were accepted.
        let template = template("alice", job(200, number / 2, txs(0..3)));
        commit(&*store, Batch::new(NOW_MS).accept_template(template));
    }
    let pool = share("alice", 1, TemplateSource::Pool);
    let refused = store::ShareSubmitted {
        accepted: false,
        error_code: Some("stale-share".into()),
        ..share("alice", 2, TemplateSource::Miner)
    };
    let with_event = |share: &store::ShareSubmitted| {
        Batch::new(NOW_MS).share(share.clone()).event(share.clone())
    };
    commit(&*store, with_event(&pool));
    commit(&*store, with_event(&refused));
    commit(&*store, with_event(&share("alice", 3, TemplateSource::Miner)));
    commit(&*store, with_event(&share("alice", 4, TemplateSource::Miner)));
    // Rows only: the first one gets its event all the same.
    let rows = Batch::new(NOW_MS + 5).share(share("bob", 5, TemplateSource::Miner));
    let rows = commit(&*store, rows.share(share("bob", 6, TemplateSource::Miner)));
    assert_eq!(rows.events, 1);
    // An event only.
    commit(&*store, Batch::of_event(NOW_MS, share("carol", 7, TemplateSource::Miner)));
    commit(&*store, Batch::of_event(NOW_MS, share("carol", 8, TemplateSource::Miner)));

    let events = all_events(&*store);
    let field = |kind, name: &str| {
        let events = events.iter().filter(|event| event.event == kind);
        events.map(|event| event.data[name].clone()).collect::<Vec<_>>()
    };
    let totals = field(EventKind::TemplateAccepted, "templates_accepted_total");
    assert_eq!(totals, [1, 2, 3]);
    let first = field(EventKind::ShareSubmitted, "first_for_user");
    let first: Vec<_> = first.iter().map(serde_json::Value::as_bool).collect();
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(first, [None, no, yes, no, yes, yes, no]);

    let connected = |user: &str, job_negotiation| MinerConnected {
        user: Some(user.to_owned()),
        connection_id: 1,
        remote: "127.0.0.1:1".to_owned(),
        role: Role::JobDeclaration,
        flags: 1,
        job_negotiation,
        reason: None,
    };
    commit(&*store, Batch::of_event(NOW_MS + 9, connected("alice", true)));
    commit(&*store, Batch::of_event(NOW_MS + 10, connected("alice", true)));
    commit(&*store, Batch::of_event(NOW_MS, connected("dave", false)));
    let alice = store.miner("alice").unwrap().unwrap();
    assert_eq!(alice.templates_accepted_total, 3);
    assert_eq!((alice.shares_accepted_miner, alice.shares_accepted_pool), (2, 1));
    assert_eq!(alice.shares_rejected, 1);
    assert_eq!(alice.sovereign_miner_at, Some(NOW_MS));
    assert_eq!(alice.node_runner_at, Some(NOW_MS + 9));
    assert_eq!(alice.template_crafter_at, None);
    assert_eq!(store.miner("bob").unwrap().unwrap().sovereign_miner_at, Some(NOW_MS + 5));
    assert_eq!(store.miner("dave").unwrap(), None);
}

fn aggregates_are_split_by_source(open: Open, dir: &Path) {
    let store = open(dir);
    let day = Period::Day.start_of(NOW_MS);
    for (hour, user, source) in [
        (0, "alice", TemplateSource::Miner),
        (0, "alice", TemplateSource::Pool),
        (1, "alice", TemplateSource::Miner),
        (1, "bob", TemplateSource::Miner),
    ] {
        let at_ms = day + Period::Hour.ms() * hour + 5;
        commit(&*store, Batch::new(at_ms).share(share(user, hour, source)));
    }
    let query = |user: Option<&str>, period| {
        let query =
            SharesQuery { user: user.map(str::to_owned), period, from_ms: 0, until_ms: u64::MAX };
        let aggregates = store.shares_summary(&query).unwrap();
        let facts = aggregates.iter().map(|aggregate| {
            let hour = (aggregate.start - day) / Period::Hour.ms();
            let source = aggregate.template_source.as_str();
            (hour, source, aggregate.shares_accepted, aggregate.difficulty)
        });
        facts.collect::<Vec<_>>()
    };
    let hours = [(0, "miner", 1, 2.0), (0, "pool", 1, 2.0), (1, "miner", 2, 4.0)];
    assert_eq!(query(None, Period::Hour), hours);
    assert_eq!(query(None, Period::Day), [(0, "miner", 3, 6.0), (0, "pool", 1, 2.0)]);
    assert_eq!(query(Some("bob"), Period::Hour), [(1, "miner", 1, 2.0)]);
    assert_eq!(query(Some("carol"), Period::Day), []);
}

fn a_found_block_is_followed_to_its_end(open: Open, dir: &Path) {
    let store = open(dir);
    let (found, other) = (block(1, 1_000_000), block(2, 500));
    let step = |node: &str, state| {
        Change::Submission(SubmissionStep {
            block_hash: found.block.hash,
            node: node.to_owned(),
            state,
            detail: (state == SubmissionState::Rejected).then(|| "high-hash".to_owned()),
            attempts: 1,
            latency_ms: (state != SubmissionState::Sent).then_some(4.5),
        })
    };
    let early = store.commit(Batch::new(NOW_MS).change(step("one", SubmissionState::Sent))).wait();
    assert!(matches!(early, Err(CommitError::Refused(_))), "a saga of no block: {early:?}");
    let find = || Batch::new(NOW_MS).change(Change::FindBlock(found.clone()));
    commit(&*store, find().change(step("one", SubmissionState::Sent)));
    commit(&*store, find());
    commit(&*store, Batch::new(NOW_MS).change(Change::FindBlock(other.clone())));
    commit(&*store, Batch::new(NOW_MS + 1).change(step("one", SubmissionState::Accepted)));
    commit(&*store, Batch::new(NOW_MS + 2).change(step("two", SubmissionState::Rejected)));
    drop(store);

    let store = open(dir);
    let blocks = store.recover(&RECOVER).unwrap().blocks;
    assert_eq!(blocks.len(), 2);
    assert_eq!(blocks[0].block, *found.block);
    assert_eq!(blocks[0].block_hash, found.block.hash);
    let states: Vec<_> = blocks[0]
        .summary
        .submissions
        .iter()
        .map(|node| (node.node.as_str(), node.state, node.detail.as_deref(), node.updated_at))
        .collect();
    assert_eq!(
        states,
        [
            ("one", SubmissionState::Accepted, None, NOW_MS + 1),
            ("two", SubmissionState::Rejected, Some("high-hash"), NOW_MS + 2),
        ]
    );
    let progress = |state, confirmations| Change::BlockProgress {
        block_hash: found.block.hash,
        state,
        confirmations,
    };
    commit(&*store, Batch::new(NOW_MS).change(progress(BlockState::Found, 3)));
    assert_eq!(store.recover(&RECOVER).unwrap().blocks.len(), 2, "not at its end yet");
    commit(&*store, Batch::new(NOW_MS).change(progress(BlockState::Confirmed, 100)));
    let open_blocks = store.recover(&RECOVER).unwrap().blocks;
    assert_eq!(open_blocks.len(), 1);
    assert_eq!(open_blocks[0].block, *other.block);
    let page = store.blocks(PageRequest { after: None, limit: 1 }).unwrap();
    assert_eq!(page.items[0].block_hash, other.block.hash.to_string());
    let page = store.blocks(PageRequest { after: page.next, limit: 1 }).unwrap();
    assert_eq!(page.next, None);
    let summary = store.block(&found.block.hash.to_string()).unwrap().unwrap();
    assert_eq!(page.items[0], summary);
    assert_eq!((summary.state, summary.confirmations), (BlockState::Confirmed, 100));
    assert_eq!(store.miner("alice").unwrap().unwrap().blocks_found, 2, "each block once");
}

fn declarations_are_listed_by_filter(open: Open, dir: &Path) {
    let store = open(dir);
    for number in 0..20_u64 {
        let user = ["alice", "bob"][number as usize % 2];
        let batch = Batch::new(NOW_MS + number);
        let batch = if number % 4 == 3 {
            batch.change(Change::RejectTemplate(RejectedTemplate {
                user: user.into(),
                user_tag: UserTag([1; 16]),
                template_hash: None,
                tx_count: 4,
                height: Some(7),
                error_code: "invalid-job".into(),
                reason: "weight".into(),
                index: Some(3),
                expected: Some("at-most-4000000".into()),
                actual: Some("4000001".into()),
                validation_ms: 0.5,
                request_bytes: 600,
            }))
        } else {
            batch.accept_template(template(user, job(200, number as u32, txs(0..2))))
        };
        commit(&*store, batch);
    }
    let list = |filter: &TemplateFilter| {
        let (mut after, mut times) = (None, Vec::new());
        loop {
            let page = store.templates(filter, PageRequest { after, limit: 3 }).unwrap();
            assert!(page.items.len() <= 3);
            times.extend(page.items.iter().map(|item| item.submitted_at - NOW_MS));
            after = page.next;
            if after.is_none() {
                return times;
            }
        }
    };
    let none = TemplateFilter::default();
    assert_eq!(list(&none), (0..20).rev().collect::<Vec<_>>());
    let bob = TemplateFilter { user: Some("bob".into()), ..none.clone() };
    assert_eq!(list(&bob), (0..20).rev().filter(|number| number % 2 == 1).collect::<Vec<_>>());
    let rejected = TemplateFilter { result: Some(ValidationResult::Rejected), ..bob };
    assert_eq!(list(&rejected), [19, 15, 11, 7, 3]);
    let range =
        TemplateFilter { from_ms: Some(NOW_MS + 4), until_ms: Some(NOW_MS + 6), ..none.clone() };
    assert_eq!(list(&range), [5, 4]);
    let hash = job(200, 8, txs(0..2)).template_hash();
    assert_eq!(list(&TemplateFilter { template_hash: Some(hash), ..none }), [8]);
    let last = store.templates(&rejected, PageRequest { after: None, limit: 1 }).unwrap();
    let last = &last.items[0];
    assert_eq!(last.error_code.as_deref(), Some("invalid-job"));
    assert_eq!((last.index, last.height), (Some(3), Some(7)));
    assert_eq!(store.template(TemplateRef::Id(last.id)).unwrap(), None, "nothing more is kept");
    let summary = store.template_summary(TemplateRef::Id(last.id)).unwrap();
    assert_eq!(summary.as_ref(), Some(last));
}

fn webhooks_keep_their_cursor(open: Open, dir: &Path) {
    let store = open(dir);
    let hook = Webhook {
        id: "a".into(),
        url: "https://example.org/".into(),
        secret: "s".into(),
        types: "template_*".into(),
        cursor: Cursor { epoch: Some(store.epoch()), id: 0 },
        paused: false,
        failures: 0,
        last_error: None,
        created_at: NOW_MS,
        delivered_at: None,
    };
    let other = Webhook { id: "b".into(), paused: true, ..hook.clone() };
    let put = |hook: &Webhook| Change::PutWebhook(hook.clone());
    commit(&*store, Batch::new(NOW_MS).change(put(&hook)).change(put(&other)));
    assert_eq!(store.webhooks().unwrap(), [hook.clone(), other.clone()]);
    let cursor = Cursor { epoch: Some(store.epoch()), id: 17 };
    let progress = |id: &str| Change::WebhookProgress {
        id: id.to_owned(),
        cursor,
        failures: 2,
        last_error: Some("503".into()),
        delivered_at: Some(NOW_MS + 1),
    };
    let delete = Change::DeleteWebhook { id: "b".into() };
    commit(&*store, Batch::new(NOW_MS).change(progress("a")).change(delete.clone()));
    commit(&*store, Batch::new(NOW_MS).change(progress("b")).change(delete));
    drop(store);
    let store = open(dir);
    let after = Webhook {
        cursor,
        failures: 2,
        last_error: Some("503".into()),
        delivered_at: Some(NOW_MS + 1),
        ..hook
    };
    assert_eq!(store.webhook("a").unwrap(), Some(after));
    assert_eq!(store.webhook("b").unwrap(), None);
    let mut many = Batch::new(NOW_MS);
    for number in 0..store::limits::WEBHOOKS_MAX {
        many = many.change(put(&Webhook { id: number.to_string(), ..other.clone() }));
    }
    let refused = store.commit(many).wait();
    assert!(matches!(refused, Err(CommitError::Refused(_))), "{refused:?}");
    assert_eq!(store.webhooks().unwrap().len(), 1);
}

fn commits_can_be_awaited(open: Open, dir: &Path) {
    let store = open(dir);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let count = 3 * store::limits::QUEUE_BATCHES_MAX as u64;
    let commits: Vec<_> =
        (0..count).map(|number| store.commit(Batch::of_event(NOW_MS, numbered(number)))).collect();
    let tasks: Vec<_> = commits.into_iter().map(|commit| runtime.spawn(commit)).collect();
    let mut ids: Vec<_> = tasks
        .into_iter()
        .map(|task| runtime.block_on(task).unwrap().unwrap().first_event_id.unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=count).collect::<Vec<_>>());
    assert_eq!(store.status(), Status::Healthy);
    let metrics = store.metrics();
    assert_eq!((metrics.events_total, metrics.queue_depth), (count, 0));
    assert_eq!(metrics.commit_seconds.iter().sum::<u64>(), metrics.commits_total);
}

/// Makes a test of each promise for one backend.
macro_rules! contract {
    ($backend:ident, $open:expr; $($promise:ident,)+) => {
        mod $backend {
            $(#[test]
            fn $promise() {
                let dir = tempfile::tempdir().unwrap();
                super::$promise($open, dir.path());
            })+
        }
    };
}

fn sqlite(dir: &Path) -> Box<dyn Store> {
    Box::new(SqliteStore::open(Settings::new(dir)).unwrap())
}

contract! {
    in_sqlite, super::sqlite;
    events_are_numbered_in_order_and_survive,
    pages_of_events_follow_the_cursor,
    a_refused_batch_leaves_no_trace,
    accepted_templates_come_back,
    many_similar_templates_come_back,
    counts_and_badges_are_given_by_the_store,
    aggregates_are_split_by_source,
    a_found_block_is_followed_to_its_end,
    declarations_are_listed_by_filter,
    webhooks_keep_their_cursor,
    commits_can_be_awaited,
}
