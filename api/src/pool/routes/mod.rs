//! Handlers, by what they are about.

pub(crate) mod accounting;
pub(crate) mod docs;
pub(crate) mod tip;
