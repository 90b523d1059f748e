//! Handlers, by what they are about.

pub(crate) mod accounting;
pub(crate) mod blocks;
pub(crate) mod custom_jobs;
pub(crate) mod docs;
pub(crate) mod shares;
pub(crate) mod stream;
pub(crate) mod tip;
