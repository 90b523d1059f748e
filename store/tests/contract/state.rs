//! Counts, aggregates, blocks and webhooks.

use std::path::Path;
use std::sync::Arc;

use store::{
    Batch, BlockFound, BlockState, Change, CommitError, Cursor, EventFilter, EventKind,
    MinerConnected, NewBlock, PageRequest, Period, Refusal, RejectedTemplate, Role, SharesQuery,
    Store, SubmissionState, SubmissionStep, TemplateSource, Webhook,
};
use validation::block::FoundBlock;

use crate::common::{NOW_MS, all_events, block, commit, job, rejected, share, template, txs};
use crate::{Open, RECOVER};

pub fn counts_and_badges_are_given_by_the_store(open: Open, dir: &Path) {
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
    let names = |page: &store::MinersPage| -> Vec<String> {
        page.miners.iter().map(|miner| miner.user.clone()).collect()
    };
    let all = store.miners(None, 1_000).unwrap();
    assert_eq!(all.miners.iter().find(|miner| miner.user == "alice"), Some(&alice));
    assert!(names(&all).is_sorted() && all.next.is_none() && all.miners.len() >= 2, "{all:?}");
    let mut one_by_one = Vec::new();
    let mut page = store.miners(None, 1).unwrap();
    loop {
        one_by_one.extend(names(&page));
        assert_eq!(page.miners.len(), 1);
        let Some(next) = page.next else { break };
        page = store.miners(Some(&next), 1).unwrap();
    }
    assert_eq!(one_by_one, names(&all));
}

pub fn aggregates_are_split_by_source(open: Open, dir: &Path) {
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

/// What is remembered of shares over a restart: those that could come again, and nothing in their
/// place.
pub fn accepted_shares_of_the_newest_heights_come_back(open: Open, dir: &Path) {
    let store = open(dir);
    let hashes = |heights, max| store.accepted_shares(heights, max).unwrap();
    let mined = |number, after_ms| {
        let batch = Batch::new(NOW_MS + after_ms);
        commit(&*store, batch.share(share("alice", number, TemplateSource::Miner)));
    };
    let accept = |height, tag, after_ms| {
        let template = template("alice", job(height, tag, txs(0..2)));
        commit(&*store, Batch::new(NOW_MS + after_ms).accept_template(template));
    };
    mined(0, 0);
    assert_eq!(hashes(9, 9), [""; 0], "there is no template");
    accept(200, 1, 100);
    mined(1, 500);
    accept(201, 2, 1_000);
    // As old as the oldest template of its height.
    mined(2, 1_000);
    accept(201, 3, 1_500);
    let refused = store::ShareSubmitted {
        accepted: false,
        error_code: Some("stale-share".into()),
        ..share("alice", 3, TemplateSource::Miner)
    };
    commit(&*store, Batch::new(NOW_MS + 1_600).share(refused));
    let pool = share("alice", 4, TemplateSource::Pool);
    commit(&*store, Batch::new(NOW_MS + 1_700).share(pool));
    accept(202, 4, 2_000);
    mined(5, 2_100);
    // What was rejected is no height of the chain.
    let above = RejectedTemplate { height: Some(300), ..rejected(1) };
    commit(&*store, Batch::new(NOW_MS + 2_500).change(Change::RejectTemplate(above)));

    let of =
        |numbers: &[u64]| numbers.iter().map(|number| format!("{number:064x}")).collect::<Vec<_>>();
    assert_eq!(hashes(1, 9), of(&[5]));
    assert_eq!(hashes(2, 9), of(&[5, 2]));
    assert_eq!(hashes(3, 9), of(&[5, 2, 1]));
    assert_eq!(hashes(u32::MAX, 9), of(&[5, 2, 1]), "nothing is older than the first template");
    assert_eq!(hashes(0, 9), of(&[]));
    // What is refused and what is the pool's own take nobody's place.
    assert_eq!(hashes(3, 2), of(&[5, 2]));
    assert_eq!(hashes(3, 1), of(&[5]));
    assert_eq!(hashes(3, 0), of(&[]));
    assert_eq!(hashes(3, usize::MAX), of(&[5, 2, 1]));

    // A template that was withdrawn is of its height all the same.
    let reason = "bad-blk".to_owned();
    let template_hash = job(202, 4, txs(0..2)).template_hash();
    let withdraw = Change::InvalidateTemplate { template_hash, reason };
    commit(&*store, Batch::new(NOW_MS + 3_000).change(withdraw));
    assert_eq!(hashes(1, 9), of(&[5]));
    drop(store);
    assert_eq!(open(dir).accepted_shares(2, 9).unwrap(), of(&[5, 2]));
}

pub fn an_announced_block_gets_its_bytes_and_keeps_its_user(open: Open, dir: &Path) {
    let store = open(dir);
    let whole = NewBlock {
        user: "somebody".into(),
        template_source: TemplateSource::Pool,
        ..block(1, 100_000)
    };
    let bare = FoundBlock { raw: Vec::new(), tx_count: 0, ..FoundBlock::clone(&whole.block) };
    let announced = NewBlock { block: Arc::new(bare), ..block(1, 100) };
    let find = |new: &NewBlock| {
        Batch::new(NOW_MS).change(Change::FindBlock(new.clone())).event(BlockFound {
            user: new.user.to_string(),
            block_hash: new.block.hash.to_string(),
            height: new.height,
            template_source: new.template_source,
            miner_template_hash: None,
            tx_count: new.block.tx_count as u32,
            reward_sat: new.reward_sat,
            assembled: new.is_assembled(),
        })
    };
    let bytes = |store: &dyn Store| {
        let tables = store.sizes().unwrap().tables;
        tables.iter().find(|table| table.table == "blocks").unwrap().bytes
    };
    for new in [&announced, &announced] {
        commit(&*store, find(new));
    }
    let before = bytes(&*store);
    for new in [&whole, &whole, &announced] {
        commit(&*store, find(new));
    }
    assert_eq!(bytes(&*store) - before, 100_000, "counted once");
    drop(store);
    let store = open(dir);
    let blocks = store.recover(&RECOVER).unwrap().blocks;
    assert_eq!(blocks.len(), 1);
    assert_eq!(blocks[0].block, *whole.block);
    let summary = &blocks[0].summary;
    assert_eq!((&*summary.user, summary.tx_count), ("alice", 3));
    assert_eq!(summary.template_source, TemplateSource::Miner);
    let told = store.events_after(Cursor::START, &EventFilter::default(), 100).unwrap().events;
    let told = told.iter().filter(|event| event.event == EventKind::BlockFound);
    assert_eq!(told.count(), 1);
    // Once its end is known nobody needs the bytes.
    let hash = whole.block.hash;
    let end =
        Change::BlockProgress { block_hash: hash, state: BlockState::Orphaned, confirmations: 0 };
    commit(&*store, Batch::new(NOW_MS).change(end));
    let after = bytes(&*store);
    commit(&*store, find(&whole));
    assert_eq!(bytes(&*store), after);
}

pub fn a_found_block_is_followed_to_its_end(open: Open, dir: &Path) {
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
    let told = BlockFound {
        user: found.user.to_string(),
        block_hash: found.block.hash.to_string(),
        height: found.height,
        template_source: found.template_source,
        miner_template_hash: None,
        tx_count: 3,
        reward_sat: found.reward_sat,
        assembled: found.is_assembled(),
    };
    let find = || Batch::new(NOW_MS).change(Change::FindBlock(found.clone())).event(told.clone());
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
    let events = all_events(&*store);
    let told = events.iter().filter(|event| event.event == EventKind::BlockFound);
    assert_eq!(told.count(), 1, "each block is told of once");
    assert_eq!(store.miner("alice").unwrap().unwrap().blocks_found, 2, "each block once");
}

pub fn webhooks_keep_their_cursor(open: Open, dir: &Path) {
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
    assert!(matches!(refused, Err(CommitError::Refused(Refusal::Other(_)))), "{refused:?}");
    assert_eq!(store.webhooks().unwrap().len(), 1);
}
