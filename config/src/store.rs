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
    let bytes = |megabytes: u32| u64::from(megabytes) * BYTES_PER_MB;
    let tables =
        [raw.events_mb, raw.templates_mb, raw.transactions_mb, raw.shares_mb, raw.accounting_mb];
    let sum_mb: u64 = tables.map(u64::from).iter().sum();
    if raw.database_mb_max != 0 && u64::from(raw.database_mb_max) <= sum_mb {
        warnings.push(format!(
            "{} = {} is not more than {sum_mb}, the sum of `events_mb`, `templates_mb`, \
             `transactions_mb`, `shares_mb` and `accounting_mb`: before anything is cleared away, the store may count \
             as full and keep nothing new",
            context.places.of("store.database_mb_max"),
            raw.database_mb_max,
        ));
    }
    StoreSettings {
        stall_after: Duration::from_millis(raw.stall_ms.into()),
        database_bytes_max: bytes(raw.database_mb_max),
        events_age: days(raw.events_days),
        events_bytes: bytes(raw.events_mb),
        templates_age: days(raw.templates_days),
        templates_bytes: bytes(raw.templates_mb),
        transactions_age: days(raw.transactions_days),
        transactions_bytes: bytes(raw.transactions_mb),
        shares_age: days(raw.shares_days),
        shares_bytes: bytes(raw.shares_mb),
        accounting_interval: Duration::from_secs(raw.accounting_interval_seconds.into()),
        accounting_age: days(raw.accounting_days),
        accounting_bytes: bytes(raw.accounting_mb),
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
