//! Pages: no larger than is said, whatever is asked for, and all of them together are everything.

use std::path::Path;

use store::limits::{PAGE_EVENTS_MAX, PAGE_ITEMS_MAX};
use store::{Batch, Cursor, EventFilter, PageRequest};

use crate::Open;
use crate::common::{NOW_MS, assert_gap_free, commit, numbered};

pub fn a_page_of_a_list_is_bounded(open: Open, dir: &Path) {
    let store = open(dir);
    let count = PAGE_ITEMS_MAX as u64 + 1;
    let spend = |batch: Batch, sequence| batch.spend_token(sequence, NOW_MS * 2, "alice".into());
    commit(&*store, (1..=count).fold(Batch::new(NOW_MS), spend));
    for limit in [PAGE_ITEMS_MAX, PAGE_ITEMS_MAX + 1, usize::MAX] {
        let page = store.spent_tokens(PageRequest { after: None, limit }).unwrap();
        assert_eq!((page.items.len(), page.next), (PAGE_ITEMS_MAX, Some(2)), "{limit}");
        let rest = store.spent_tokens(PageRequest { after: page.next, limit }).unwrap();
        assert_eq!((rest.items.len(), rest.next), (1, None), "{limit}");
    }
}

pub fn a_page_of_events_is_bounded_by_count(open: Open, dir: &Path) {
    let store = open(dir);
    let count = PAGE_EVENTS_MAX as u64 + 1;
    let event = |batch: Batch, number| batch.event(numbered(number));
    commit(&*store, (1..=count).fold(Batch::new(NOW_MS), event));
    let page = store.events_after(Cursor::START, &EventFilter::ALL, usize::MAX).unwrap();
    assert_eq!((page.events.len(), page.more), (PAGE_EVENTS_MAX, true));
    assert_gap_free(&page.events);
    let rest = store.events_after(page.next, &EventFilter::ALL, usize::MAX).unwrap();
    assert_eq!((rest.events.len(), rest.more), (1, false));
    assert_eq!(rest.events[0].id, count);
}
