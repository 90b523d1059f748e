//! Handlers, by what they are about.

pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod page;
pub(crate) mod reads;
pub(crate) mod receipts;
pub(crate) mod schemas;
pub(crate) mod stream;
pub(crate) mod templates;
pub(crate) mod webhooks;

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::Deserialize;
use store::PageRequest;
use utoipa::IntoParams;
use validation::identity::user_of;

use crate::limits;
use crate::problem::Problem;

/// The value, if it is within bounds.
pub(crate) fn within<T: PartialOrd + Display>(
    name: &str,
    value: T,
    bounds: RangeInclusive<T>,
) -> Result<T, Problem> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    let detail = format!("{value} is not within {} to {}", bounds.start(), bounds.end());
    Err(Problem::parameter(name, detail))
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// `next` of the part before; nothing for the newest.
    after: Option<u64>,
    /// Most items in the answer.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Which part of a list, checked.
pub(crate) fn page_request(
    after: Option<u64>,
    limit: Option<usize>,
) -> Result<PageRequest, Problem> {
    let limit = limit.unwrap_or(store::limits::PAGE_ITEMS_DEFAULT);
    let limit = within("limit", limit, 1..=store::limits::PAGE_ITEMS_MAX)?;
    // The database counts with a sign.
    let after = after.map(|after| within("after", after, 0..=i64::MAX as u64)).transpose()?;
    Ok(PageRequest { after, limit })
}

/// The user of an identity, checked.
pub(crate) fn user(identity: String) -> Result<String, Problem> {
    within("length of user, bytes", identity.len(), 1..=limits::USER_BYTES_MAX)?;
    Ok(user_of(&identity).to_owned())
}

/// A moment, Unix milliseconds, checked.
pub(crate) fn moment(name: &str, at_ms: u64) -> Result<u64, Problem> {
    within(name, at_ms, 0..=i64::MAX as u64)
}
