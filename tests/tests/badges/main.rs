//! The guide's example of a badge engine, `guides/examples/badges.py`, against a real API and a
//! real store: whatever is killed, cut off, restarted or forgotten, each user gets each badge once,
//! and at the event that earned it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can not go on says where"
)]
#![expect(clippy::print_stdout, reason = "a failed test shows its seed")]

mod feed;
mod gaps;
mod kills;
mod link;
mod live;
mod mining;
mod reader;
mod site;

use std::collections::BTreeMap;

/// User and badge, and when it was earned, Unix milliseconds.
type Awards = BTreeMap<(String, String), u64>;

/// Templates that make a Template Crafter here: fewer than the real thing.
const THRESHOLD: u64 = 3;
