//! Event log, templates, tokens and blocks: one writer with group commit, many readers.
//!
//! [`Store`] is the contract, [`SqliteStore`] the backend that needs no set-up. A [`Batch`] holds
//! changes of state and the events that tell of them; it is written whole or not at all, and
//! acknowledged by a [`Commit`].

mod batch;
mod commit;
mod event;
mod flood;
pub mod limits;
mod query;
mod settings;
mod sqlite;
mod store;
mod types;

pub use batch::{
    AcceptedTemplate, Batch, Change, HoldsJob, NewBlock, RejectedTemplate, SubmissionStep, Webhook,
};
pub use commit::{Commit, CommitError, Committed, Full, Request};
pub use event::{
    BlockConfirmed, BlockFound, BlockOrphaned, BlockSubmitted, Event, EventData, EventFilter,
    EventKind, FilterError, FloodAggregate, JobNegotiated, MinerConnected, MinerDisconnected,
    NodeStatus, Protocol, Role, SCHEMA_VERSION, ShareSubmitted, StoreRecovered, StreamEpochStarted,
    TemplateAccepted, TemplateInvalidated, TemplateProposed, TemplateRejected, TokenAllocated,
    UnknownEvent, schemas,
};
pub use flood::FloodGate;
pub use query::{
    Aggregate, BlockSummary, EventPage, Gone, Metrics, MinerSummary, NodeSubmission, Page,
    PageRequest, ReadError, RecoverQuery, Recovered, RecoveredBlock, RecoveredTemplate,
    SharesQuery, Sizes, SpentToken, Status, TEMPLATE_CRAFTER_TEMPLATES, TableSize, TemplateDetail,
    TemplateFilter, TemplateRef, TemplateSummary, TemplateTx,
};
pub use settings::{Keep, Retention, STORE_STALL_MS_DEFAULT, Settings};
pub use sqlite::{OpenError, SqliteStore};
pub use store::Store;
pub use types::{
    BlockState, Cursor, CursorError, Period, StreamEpoch, SubmissionState, TemplateSource,
    UnknownName, UserTag, ValidationResult,
};
