//! Event log, templates, tokens and blocks: one writer with group commit, many readers.
//!
//! [`Store`] is the contract, [`SqliteStore`] the backend that needs no set-up. A [`Batch`] holds
//! changes of state and the events that tell of them; it is written whole or not at all, and
//! acknowledged by a [`Commit`].

#[cfg(test)]
extern crate self as store;

mod accounting;
mod batch;
pub mod chain;
mod commit;
mod contract;
mod event;
mod flood;
pub mod limits;
mod query;
mod report;
mod settings;
mod sqlite;
mod types;
mod verdict;

pub use accounting::{
    Accounted, AccountingCursor, AccountingCursorError, AccountingEntry, AccountingInterval,
    AccountingPage, ShareOrigin,
};
pub use batch::{
    AcceptedTemplate, Batch, Change, HoldsJob, NewBlock, RejectedInputs, RejectedTemplate,
    SubmissionStep, Webhook,
};
pub use commit::{Commit, CommitError, Committed, Full, Refusal, Request};
pub use contract::Store;
pub use event::{
    BlockConfirmed, BlockFound, BlockOrphaned, BlockSubmitted, Event, EventData, EventFilter,
    EventKind, FilterError, FloodAggregate, JobNegotiated, MinerConnected, MinerDisconnected,
    NodeStatus, Protocol, Role, SCHEMA_VERSION, ServerStarted, ShareSubmitted, StoreRecovered,
    StreamEpochStarted, TemplateAccepted, TemplateInvalidated, TemplateProposed, TemplateRejected,
    TokenAllocated, UnknownEvent, schemas,
};
pub use flood::FloodGate;
pub use query::{
    Aggregate, BlockSummary, EventPage, Gone, MinerSummary, MinersPage, NodeSubmission, Page,
    PageRequest, ReadError, RecoverQuery, Recovered, RecoveredBlock, RecoveredTemplate,
    SharesQuery, SpentToken, TEMPLATE_CRAFTER_TEMPLATES, TemplateDetail, TemplateFilter,
    TemplateRef, TemplateSummary, TemplateTx,
};
pub use report::{Metrics, Sizes, Status, TableSize};
pub use settings::{
    ACCOUNTING_INTERVAL_MS_DEFAULT, Keep, Retention, STORE_STALL_MS_DEFAULT, Settings,
};
pub use sqlite::{EventLog, EventLogError, OpenError, STORE_VERSION, SqliteStore};
pub use types::{
    BlockState, Cursor, CursorError, Period, StreamEpoch, SubmissionState, TemplateSource,
    UnknownName, UserTag, ValidationResult,
};

pub use verdict::{NoInputs, StoredVerdict, VerdictLookup, VerdictRef};

#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod fixtures;
