//! What every store promises, as tests over `dyn Store`. A new backend adds one `contract!`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(unreachable_pub, reason = "tests have no other users")]

#[path = "../common/mod.rs"]
mod common;
mod events;
mod pages;
mod state;
mod templates;

use std::path::Path;

use common::NOW_MS;
use store::{PageRequest, RecoverQuery, Settings, SqliteStore, Store};

/// Opens a store in a directory; dropping it closes it.
type Open = fn(&Path) -> Box<dyn Store>;

const RECOVER: RecoverQuery = RecoverQuery { now_ms: NOW_MS, ..RecoverQuery::ALL };
const ALL: PageRequest = PageRequest { after: None, limit: 0 };

/// Makes a test of each promise for one backend.
macro_rules! contract {
    ($backend:ident, $open:expr; $($module:ident::$promise:ident,)+) => {
        mod $backend {
            $(#[test]
            fn $promise() {
                let dir = tempfile::tempdir().unwrap();
                crate::$module::$promise($open, dir.path());
            })+
        }
    };
}

fn sqlite(dir: &Path) -> Box<dyn Store> {
    Box::new(SqliteStore::open(Settings::new(dir)).unwrap())
}

contract! {
    in_sqlite, super::sqlite;
    events::events_are_numbered_in_order_and_survive,
    events::pages_of_events_follow_the_cursor,
    events::a_refused_batch_leaves_no_trace,
    templates::accepted_templates_come_back,
    templates::many_similar_templates_come_back,
    state::counts_and_badges_are_given_by_the_store,
    state::aggregates_are_split_by_source,
    state::accepted_shares_of_the_newest_heights_come_back,
    state::an_announced_block_gets_its_bytes_and_keeps_its_user,
    state::a_found_block_is_followed_to_its_end,
    templates::declarations_are_listed_by_filter,
    state::webhooks_keep_their_cursor,
    pages::a_page_of_a_list_is_bounded,
    pages::a_page_of_events_is_bounded_by_count,
    events::commits_can_be_awaited,
    events::a_store_that_has_ended_is_read_and_takes_nothing,
}
