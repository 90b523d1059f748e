//! What is written together: changes of state, and the events that tell of them.

use std::fmt;
use std::sync::Arc;

use bitcoin::BlockHash;
use validation::block::FoundBlock;
use validation::declared::TemplateHash;
use validation::job::AcceptedJob;
use validation::replay::VerdictInputs;
use validation::rules::Rules;

use crate::chain::SignedHead;
use crate::event::{EventData, Protocol, ShareSubmitted, TemplateAccepted};
use crate::types::{BlockState, Cursor, SubmissionState, TemplateSource, UserTag};

/// Something that owns an accepted job. The writer reads it through the owner, so that handing a
/// job over copies nothing.
pub trait HoldsJob: Send + Sync + 'static {
    /// The job.
    fn accepted_job(&self) -> &AcceptedJob;
}

impl HoldsJob for AcceptedJob {
    fn accepted_job(&self) -> &AcceptedJob {
        self
    }
}

/// An accepted template, to be kept with all of its transactions.
#[derive(Clone)]
pub struct AcceptedTemplate {
    /// User, printable.
    pub user: Arc<str>,
    /// The worker that declared it, printable; empty when none was named.
    pub worker: Arc<str>,
    /// What stands for the user in tokens.
    pub user_tag: UserTag,
    /// The job.
    pub job: Arc<dyn HoldsJob>,
    /// Time that the verdict took, milliseconds.
    pub validation_ms: f64,
    /// Time from our question for transactions to the answer, milliseconds, if there was one.
    pub fetch_ms: Option<f64>,
    /// Transactions that we had to ask for.
    pub txs_unknown: u32,
    /// Size of the declaration, bytes.
    pub request_bytes: u64,
    /// The terms that it was judged by.
    pub rules: Arc<Rules>,
}

impl AcceptedTemplate {
    /// The event that goes with it. The store fills in `templates_accepted_total`.
    pub fn event(&self) -> TemplateAccepted {
        let job = self.job.accepted_job();
        TemplateAccepted {
            user: self.user.to_string(),
            worker: Some(self.worker.to_string()).filter(|worker| !worker.is_empty()),
            template_hash: job.template_hash().to_string(),
            tx_count: job.tx_count() as u32,
            total_fees_sat: job.fees().known_sat,
            fees_verified: job.fees_verified(),
            block_weight: job.weight_wu(),
            height: job.height(),
            prev_hash: job.prev_hash().to_string(),
            validation_ms: self.validation_ms,
            templates_accepted_total: 0,
        }
    }
}

impl fmt::Debug for AcceptedTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptedTemplate")
            .field("user", &self.user)
            .field("template_hash", &self.job.accepted_job().template_hash())
            .finish_non_exhaustive()
    }
}

/// A template that broke a rule.
#[derive(Debug, Clone)]
pub struct RejectedTemplate {
    /// User, printable.
    pub user: Arc<str>,
    /// The worker that declared it, printable; empty when none was named.
    pub worker: Arc<str>,
    /// What stands for the user in tokens.
    pub user_tag: UserTag,
    /// Names the template, when it came so far.
    pub template_hash: Option<TemplateHash>,
    /// Transactions in the block, the coinbase included.
    pub tx_count: u32,
    /// Height that it declares, when it came so far.
    pub height: Option<u32>,
    /// Code that the client was told.
    pub error_code: String,
    /// Stable name of the rule.
    pub reason: String,
    /// Position of the offender, 0-based.
    pub index: Option<u64>,
    /// What the rule demands.
    pub expected: Option<String>,
    /// What was found.
    pub actual: Option<String>,
    /// Time that the verdict took, milliseconds.
    pub validation_ms: f64,
    /// Size of the declaration, bytes.
    pub request_bytes: u64,
    /// What the verdict was given on.
    pub inputs: RejectedInputs,
}

/// What the verdict on a rejected declaration was given on.
#[derive(Debug, Clone)]
pub enum RejectedInputs {
    /// To be kept, within [`crate::limits::VERDICT_INPUTS_BYTES_MAX`].
    Kept(Arc<VerdictInputs>),
    /// The verdict is no function of anything that could be kept.
    None,
    /// More was refused to that peer than is kept in so short a time.
    TooMany,
    /// They were given up while the store could not write.
    Stalled,
}

/// A found block. Its bytes are kept until its end is known, the rest for ever.
#[derive(Debug, Clone)]
pub struct NewBlock {
    /// The block.
    pub block: Arc<FoundBlock>,
    /// User, printable.
    pub user: Arc<str>,
    /// Its height.
    pub height: u32,
    /// Whose template it was mined on.
    pub template_source: TemplateSource,
    /// The miner's template.
    pub template_hash: Option<TemplateHash>,
    /// What its coinbase takes, satoshi.
    pub reward_sat: u64,
}

impl NewBlock {
    /// The whole block is there. Of a block that was only announced its header and coinbase are
    /// known, and [`validation::block::FoundBlock::raw`] is empty.
    pub fn is_assembled(&self) -> bool {
        !self.block.raw.is_empty()
    }
}

/// A step of a block's saga at one node.
#[derive(Debug, Clone, PartialEq)]
pub struct SubmissionStep {
    /// The block; must have been found before, or in the same batch.
    pub block_hash: BlockHash,
    /// Name of the node.
    pub node: String,
    /// Where the saga stands now.
    pub state: SubmissionState,
    /// The node's words, where it has any.
    pub detail: Option<String>,
    /// Attempts made so far.
    pub attempts: u32,
    /// From the solution to the answer, milliseconds.
    pub latency_ms: Option<f64>,
}

/// A subscription that is delivered by HTTP POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Chosen by the caller.
    pub id: String,
    /// Where to.
    pub url: String,
    /// Key of the signatures. A secret: never show or log it.
    pub secret: String,
    /// Types of events, as [`crate::EventFilter::parse`] reads them.
    pub types: String,
    /// Delivered up to here. Give it the epoch, see [`crate::Store::epoch`]: the store takes it along
    /// into a new one, where it goes on after the last event that it has and that is still there.
    pub cursor: Cursor,
    /// True while nothing is to be delivered.
    pub paused: bool,
    /// Deliveries that failed since the last that did not.
    pub failures: u32,
    /// What the last failure was.
    pub last_error: Option<String>,
    /// When it was created, Unix milliseconds.
    pub created_at: u64,
    /// When something was last delivered, Unix milliseconds.
    pub delivered_at: Option<u64>,
}

/// A change of state.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// A token was used up.
    SpendToken {
        /// Unique number of the token.
        sequence: u64,
        /// When it would have expired, Unix milliseconds.
        expires_at_ms: u64,
        /// User, printable.
        user: Arc<str>,
    },
    /// A template was accepted. Raises the user's count.
    AcceptTemplate(AcceptedTemplate),
    /// A template was rejected.
    RejectTemplate(RejectedTemplate),
    /// An accepted template was withdrawn.
    InvalidateTemplate {
        /// The template; every acceptance of it is marked.
        template_hash: TemplateHash,
        /// The node's reason.
        reason: String,
    },
    /// A share came.
    Share(ShareSubmitted),
    /// A block was found.
    FindBlock(NewBlock),
    /// A node's part in a block's saga went on.
    Submission(SubmissionStep),
    /// Where a block stands in the chain.
    BlockProgress {
        /// The block.
        block_hash: BlockHash,
        /// Its state; one that is final frees its bytes.
        state: BlockState,
        /// Blocks from it to the tip, itself included.
        confirmations: u32,
    },
    /// Creates a webhook, or replaces the one with that id. Refused above
    /// [`crate::limits::WEBHOOKS_MAX`].
    PutWebhook(Webhook),
    /// A webhook's delivery went on. Ignored when there is no such webhook any more.
    WebhookProgress {
        /// Which one.
        id: String,
        /// Delivered up to here.
        cursor: Cursor,
        /// Deliveries that failed since the last that did not.
        failures: u32,
        /// What the last failure was.
        last_error: Option<String>,
        /// When something was last delivered, Unix milliseconds.
        delivered_at: Option<u64>,
    },
    /// The head of the event log was signed.
    SignHead(SignedHead),
    /// Removes a webhook, if it is there.
    DeleteWebhook {
        /// Which one.
        id: String,
    },
}

/// An event to be written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewEvent {
    pub(crate) protocol: Protocol,
    pub(crate) data: EventData,
}

/// Changes and events that become durable together, or not at all. Changes are applied in order,
/// then the events get their ids in order.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) at_ms: u64,
    pub(crate) sync: bool,
    pub(crate) changes: Vec<Change>,
    pub(crate) events: Vec<NewEvent>,
}

impl Batch {
    /// An empty batch. `now_ms` (Unix milliseconds) is the time of all that is in it.
    pub fn new(now_ms: u64) -> Self {
        Self { at_ms: now_ms, sync: false, changes: Vec::new(), events: Vec::new() }
    }

    /// A batch with one event and nothing else.
    pub fn of_event(now_ms: u64, data: impl Into<EventData>) -> Self {
        Self::new(now_ms).event(data)
    }

    /// Adds a change. One that is about a found block makes the batch [`Self::synced`].
    #[must_use]
    pub fn change(mut self, change: Change) -> Self {
        self.sync |= matches!(
            change,
            Change::FindBlock(_) | Change::Submission(_) | Change::BlockProgress { .. }
        );
        self.changes.push(change);
        self
    }

    /// Adds [`Change::SpendToken`].
    #[must_use]
    pub fn spend_token(self, sequence: u64, expires_at_ms: u64, user: Arc<str>) -> Self {
        self.change(Change::SpendToken { sequence, expires_at_ms, user })
    }

    /// Adds [`Change::AcceptTemplate`] and its event.
    #[must_use]
    pub fn accept_template(self, template: AcceptedTemplate) -> Self {
        let event = template.event();
        self.change(Change::AcceptTemplate(template)).event(event)
    }

    /// Adds [`Change::Share`] without an event. Should it be the user's first accepted share on a
    /// miner's template, the store writes the event all the same.
    #[must_use]
    pub fn share(self, share: ShareSubmitted) -> Self {
        self.change(Change::Share(share))
    }

    /// Adds an event about a miner on Stratum V2, or about no miner.
    #[must_use]
    pub fn event(self, data: impl Into<EventData>) -> Self {
        self.event_of(Protocol::StratumV2, data)
    }

    /// Adds an event about a miner on that protocol.
    #[must_use]
    pub fn event_of(mut self, protocol: Protocol, data: impl Into<EventData>) -> Self {
        self.events.push(NewEvent { protocol, data: data.into() });
        self
    }

    /// The batch is on the disk itself, not only with the operating system, before it is
    /// acknowledged: it survives a loss of power.
    #[must_use]
    pub fn synced(mut self) -> Self {
        self.sync = true;
        self
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.events.is_empty()
    }
}
