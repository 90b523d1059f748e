//! What answers look like: the contract with readers, apart from what the store happens to hold.

pub(crate) mod chain;
pub(crate) mod channel;
pub(crate) mod coinbase;
pub(crate) mod difference;
pub(crate) mod miner;
pub(crate) mod names;
pub(crate) mod receipt;
pub(crate) mod template;

use serde::Serialize;
use utoipa::ToSchema;

/// Part of a list, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// The items.
    pub(crate) items: Vec<T>,
    /// Cursor of the next part, to be given as `after`; null at the end.
    pub(crate) next: Option<u64>,
}

impl<T> Page<T> {
    pub(crate) fn of<S>(page: store::Page<S>, view: impl FnMut(S) -> T) -> Self {
        Self { items: page.items.into_iter().map(view).collect(), next: page.next }
    }
}
