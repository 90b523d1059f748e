//! What the server's store holds.

use bitcoin::BlockHash;
use signet::wait;
use store::{
    BlockSummary, Cursor, Event, EventData, EventFilter, EventKind, PageRequest, SpentToken,
    Status, Store, TemplateFilter, TemplateSummary,
};

use crate::PATIENCE;

/// All events; their ids must be 1, 2, 3 and so on.
#[track_caller]
pub fn events(store: &dyn Store) -> Vec<Event> {
    let mut events = Vec::new();
    let mut cursor = Cursor::START;
    loop {
        let page = store.events_after(cursor, &EventFilter::ALL, store::limits::PAGE_EVENTS_MAX);
        let page = page.expect("a page of events");
        events.extend(page.events);
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    let ids: Vec<u64> = events.iter().map(|event| event.id).collect();
    assert!(ids.iter().copied().eq(1..=ids.len() as u64), "ids have a gap or come twice: {ids:?}");
    events
}

/// The payloads of the events of one kind.
#[track_caller]
pub fn payloads(events: &[Event], kind: EventKind) -> Vec<EventData> {
    let of_kind = events.iter().filter(|event| event.event == kind);
    of_kind.map(|event| event.typed().expect("the payload of its kind")).collect()
}

/// Declarations of a user, newest first.
#[track_caller]
pub fn templates(store: &dyn Store, user: &str) -> Vec<TemplateSummary> {
    let filter = TemplateFilter { user: Some(user.to_owned()), ..TemplateFilter::default() };
    all_pages(|page| store.templates(&filter, page).map(|page| (page.items, page.next)))
}

/// Tokens that were used up, newest first.
#[track_caller]
pub fn spent_tokens(store: &dyn Store) -> Vec<SpentToken> {
    all_pages(|page| store.spent_tokens(page).map(|page| (page.items, page.next)))
}

/// Waits until the store has a block.
#[track_caller]
pub fn wait_block(store: &dyn Store, hash: BlockHash) -> BlockSummary {
    let what = format!("the store to have the block {hash}");
    wait::until(&what, PATIENCE, || store.block(&hash.to_string()).expect("an answer of the store"))
        .expect("the block in the store")
}

/// Waits until the store's state is as wanted.
#[track_caller]
pub fn wait_status(store: &dyn Store, what: &str, wanted: impl Fn(&Status) -> bool) {
    wait::until_true(what, PATIENCE, || wanted(&store.status()))
        .unwrap_or_else(|error| panic!("{error}; it is {:?}", store.status()));
}

#[track_caller]
fn all_pages<T>(
    read: impl Fn(PageRequest) -> Result<(Vec<T>, Option<u64>), store::ReadError>,
) -> Vec<T> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = PageRequest { after, limit: store::limits::PAGE_ITEMS_MAX };
        let (items, next) = read(page).expect("a page of the store");
        all.extend(items);
        after = next;
        if after.is_none() {
            return all;
        }
    }
}
