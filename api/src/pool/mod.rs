//! The pool interface: what a pool with a stratum server of its own asks of this one, over HTTP on
//! this machine.
//!
//! [`serve`] runs it on its listeners, apart from the API: another socket, another token, and a
//! description of its own under `/v1/openapi.json` there. What it asks of the server is the
//! [`PoolBackend`]; what is stored it reads from the store.

mod app;
mod backend;
mod fields;
mod guard;
mod idempotency;
pub mod limits;
mod router;
mod routes;
mod serve;

pub use backend::{
    Answer, CustomJob, FoundBlock, JobData, JobFields, JobName, Judged, NotFound, NotJudged, OnJob,
    PoolBackend, Refused, Share, TemplateData, Untold, Withdrawn,
};
pub use serve::{Listeners, serve};
