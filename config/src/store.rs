//! The `[store]` and `[events]` tables.

use std::time::Duration;

use crate::check::{BYTES_PER_MB, Context};
use crate::checked::{Events, StoreSettings};
use crate::error::Problem;
use crate::raw::{RawEvents, RawStore};

pub(crate) const SECONDS_PER_DAY: u64 = 86_400;

/// Longest source, characters: it goes into every event.
const SOURCE_CHARS_MAX: usize = 64;

pub(crate) fn check(
    context: &Context<'_>,
    raw: &RawStore,
    warnings: &mut Vec<String>,
) -> StoreSettings {
    let days = |days: u32| Duration::from_secs(u64::from(days) * SECONDS_PER_DAY);
    if raw.database_mb_max != 0 && raw.database_mb_max <= raw.transactions_mb {
        warnings.push(format!(
            "{} = {} is not more than `store.transactions_mb` = {}: before anything is cleared \
             away, the store counts as full and keeps nothing new",
            context.places.of("store.database_mb_max"),
            raw.database_mb_max,
            raw.transactions_mb
        ));
    }
    StoreSettings {
        stall_after: Duration::from_millis(raw.stall_ms.into()),
        database_bytes_max: u64::from(raw.database_mb_max) * BYTES_PER_MB,
        events_age: days(raw.events_days),
        templates_age: days(raw.templates_days),
        transactions_bytes: u64::from(raw.transactions_mb) * BYTES_PER_MB,
        shares_age: days(raw.shares_days),
    }
}

pub(crate) fn check_events(context: &Context<'_>, raw: RawEvents) -> Result<Events, Problem> {
    let count = raw.source.chars().count();
    let printable = !raw.source.chars().any(char::is_control);
    if count <= SOURCE_CHARS_MAX && printable {
        return Ok(Events { source: raw.source });
    }
    let found = if printable { format!("has {count}") } else { format!("is {:?}", raw.source) };
    let reason = format!("{found}; expected 1 to {SOURCE_CHARS_MAX} printable characters");
    Err(context.invalid("events.source", reason))
}
