//! Events: numbers, pages, all or nothing.

use std::path::Path;

use store::{
    Batch, BlockConfirmed, CommitError, Cursor, Event, EventFilter, EventKind, ReadError, Refusal,
    Status, TemplateSource,
};

use crate::common::{NOW_MS, all_events, assert_gap_free, commit, numbered, share};
use crate::{ALL, Open};

pub fn events_are_numbered_in_order_and_survive(open: Open, dir: &Path) {
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

pub fn pages_of_events_follow_the_cursor(open: Open, dir: &Path) {
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

pub fn a_refused_batch_leaves_no_trace(open: Open, dir: &Path) {
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
    let spent = Refusal::TokenSpent { sequence: 7 };
    assert_eq!(outcomes[1], Err(CommitError::Refused(spent)));
    assert_eq!(outcomes[2].as_ref().unwrap().first_event_id, Some(3));
    let tokens = store.spent_tokens(ALL).unwrap().items;
    assert_eq!(tokens.iter().map(|token| token.sequence).collect::<Vec<_>>(), [7]);
    assert_eq!(store.miner("bob").unwrap(), None);
    assert_eq!(all_events(&*store).len(), 3);
    assert_eq!(store.metrics().refused_total, 1);
}

pub fn commits_can_be_awaited(open: Open, dir: &Path) {
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

pub fn a_store_that_has_ended_is_read_and_takes_nothing(open: Open, dir: &Path) {
    let store = open(dir);
    let queued: Vec<_> =
        (0..100).map(|number| store.commit(Batch::of_event(NOW_MS, numbered(number)))).collect();
    assert_eq!(store.finish(), 0, "everything is on the disk");
    assert!(queued.into_iter().all(|commit| commit.wait().is_ok_and(|done| !done.volatile)));
    assert_eq!(store.status(), Status::Closed);
    let late = store.commit(Batch::of_event(NOW_MS, numbered(100))).wait();
    assert_eq!(late, Err(CommitError::Closed));
    assert_eq!(all_events(&*store).len(), 100);
    assert_eq!(store.finish(), 0);
    drop(store);
    assert_eq!(all_events(&*open(dir)).len(), 100);
}
