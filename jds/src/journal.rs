//! What becomes durable, and the events that tell of it.
//!
//! Every change of state and its events go to the store in one batch. Where a promise hangs on it
//! (a verdict, a spent token), the caller waits for the commit before the peer gets its answer;
//! everything else is handed over without waiting, so that nothing here holds up a connection.

mod blocks;
mod case;
mod firsts;
mod inputs;
mod shares;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use store::{
    Batch, Change, Commit, CommitError, EventData, FloodGate, Full, JobNegotiated, Refusal,
    RejectedInputs, RejectedTemplate, Store, TemplateInvalidated, TemplateProposed,
    TemplateRejected,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tracing::{error, warn};
use validation::rejection::{Reason, Rejection};
use validation::replay::VerdictInputs;

pub use blocks::{Kept, Row};
pub use case::{Case, Named, Timing};
use firsts::Firsts;
use inputs::InputsGate;

use crate::clock;
use crate::jobs::{Job, User};
use crate::limits::{
    EVENTS_OVERFLOW_MAX, FLOOD_EVENTS_PER_INTERVAL, FLOOD_INTERVAL, TOKEN_LIFETIME,
};

/// Peer that events count for which come from nobody in particular.
const OURSELVES: &str = "server";

/// The way to the store.
pub struct Journal {
    store: Option<Arc<dyn Store>>,
    flood: Mutex<FloodGate>,
    inputs: Mutex<InputsGate>,
    negotiators: Mutex<Firsts>,
    /// Batches that nobody waits for, while the store's queue has no room: in order, each with its
    /// place.
    overflow: mpsc::UnboundedSender<(Batch, OwnedSemaphorePermit)>,
    places: Arc<Semaphore>,
}

/// A template on its way to the store, if there is one.
pub type Recording = Option<Commit>;

impl store::HoldsJob for Job {
    fn accepted_job(&self) -> &validation::job::AcceptedJob {
        &self.accepted
    }
}

impl Journal {
    /// Over this store. Without one nothing is kept: that is for measuring what keeping costs.
    ///
    /// `tasks` keep on what waits for room in the store's queue.
    pub fn new(store: Option<Arc<dyn Store>>, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let interval_ms = FLOOD_INTERVAL.as_millis() as u64;
        let (overflow, waiting) = mpsc::unbounded_channel();
        if let Some(store) = &store {
            tasks.spawn(hand_over_late(Arc::clone(store), waiting));
        }
        Arc::new(Self {
            store,
            flood: Mutex::new(FloodGate::new(FLOOD_EVENTS_PER_INTERVAL, interval_ms)),
            inputs: Mutex::default(),
            negotiators: Mutex::default(),
            overflow,
            places: Arc::new(Semaphore::new(EVENTS_OVERFLOW_MAX)),
        })
    }

    /// The store behind it.
    pub fn store(&self) -> Option<&Arc<dyn Store>> {
        self.store.as_ref()
    }

    /// Events that wait for room in the store's queue, at most [`EVENTS_OVERFLOW_MAX`].
    pub(crate) fn waiting(&self) -> usize {
        EVENTS_OVERFLOW_MAX.saturating_sub(self.places.available_permits())
    }

    /// Begins to record an accepted template, its token and its events; [`accepted`] waits for the
    /// end of that.
    pub fn accepting(&self, case: &Case, job: &Arc<Job>, timing: Timing) -> Recording {
        let store = self.store.as_ref()?;
        let accepted = &job.accepted;
        let named = Named { template_hash: accepted.template_hash(), height: accepted.height() };
        let template = store::AcceptedTemplate {
            user: name(&case.user),
            worker: case.user.worker.as_str().into(),
            user_tag: store::UserTag(case.user.tag.to_bytes()),
            job: Arc::clone(job) as Arc<dyn store::HoldsJob>,
            validation_ms: timing.verdict_ms(),
            fetch_ms: timing.fetch_ms(),
            txs_unknown: timing.missing as u32,
            request_bytes: case.bytes,
            rules: Arc::clone(&case.rules),
        };
        let batch = spending(case).event(proposed(case, named, timing)).accept_template(template);
        Some(store.commit(batch))
    }

    /// Records a rejected template, its token and its events; returns when they are durable. Of a
    /// peer that floods only the tokens are recorded, the rest is counted.
    pub async fn rejected(
        &self,
        case: &Case,
        named: Option<Named>,
        rejection: &Rejection,
        timing: Timing,
        inputs: Option<Arc<VerdictInputs>>,
    ) {
        let Some(store) = &self.store else { return };
        let told = self.admits(&case.peer, store::EventKind::TemplateRejected);
        let inputs = if told { self.kept(&case.peer, inputs) } else { RejectedInputs::None };
        let with = |mut batch: Batch| {
            if told {
                if let Some(named) = named {
                    batch = batch.event(proposed(case, named, timing));
                }
                let inputs = inputs.clone();
                let row =
                    RejectedTemplate { inputs, ..rejected_row(case, named, rejection, timing) };
                let event = rejected_event(Some(&*case.user), named, rejection, timing);
                batch = batch.change(Change::RejectTemplate(row)).event(event);
            }
            batch
        };
        let mut done = store.commit(with(spending(case))).await;
        // Of a token that was spent before, the rest is no less true.
        if let Err(CommitError::Refused(Refusal::TokenSpent { .. })) = done {
            done = store.commit(with(Batch::new(now_ms()))).await;
        }
        if let Err(error) = done {
            warn!(%error, user = case.user.name, "a rejection could not be recorded");
        }
    }

    /// Records that a token was used up without a declaration (coinbase-only mode); returns when
    /// that is durable.
    ///
    /// # Errors
    /// It was used up before, or the store is closed.
    pub async fn used_up(&self, token_sequence: u64, user: &User) -> Result<(), Rejection> {
        let batch = spend(Batch::new(now_ms()), token_sequence, user);
        let recording = self.store.as_ref().map(|store| store.commit(batch));
        durable(user, recording).await
    }

    /// Records a refusal that came before the rules were asked, and spent no token.
    pub fn refused(&self, peer: &str, user: Option<&User>, rejection: &Rejection) {
        self.of_peer(peer, rejected_event(user, None, rejection, Timing::default()));
    }

    /// Records that a node found an accepted template invalid.
    pub fn invalidated(&self, job: &Job, node: &str, reason: &str) {
        let template_hash = job.accepted.template_hash();
        let event = TemplateInvalidated {
            user: job.user.name.clone(),
            template_hash: template_hash.to_string(),
            node: node.to_owned(),
            reason: reason.to_owned(),
        };
        let change = Change::InvalidateTemplate { template_hash, reason: reason.to_owned() };
        self.hand_over(OURSELVES, Batch::new(now_ms()).change(change).event(event));
    }

    /// Records an event that no peer can cause at will.
    pub fn event(&self, data: impl Into<EventData>) {
        self.hand_over(OURSELVES, Batch::of_event(now_ms(), data));
    }

    /// Records an event that `peer` can cause at will; above its rate such events are counted.
    pub fn of_peer(&self, peer: &str, data: impl Into<EventData>) {
        let data = data.into();
        if self.admits(peer, data.kind()) {
            self.hand_over(peer, Batch::of_event(now_ms(), data));
        }
    }

    /// Records that a miner's job was set: the first of a user and day in any case, for who negotiates
    /// jobs is known by it; others as [`Self::of_peer`].
    pub fn negotiated(&self, peer: &str, event: JobNegotiated) {
        let now_ms = now_ms();
        let mut negotiators = self.negotiators.lock().unwrap_or_else(PoisonError::into_inner);
        if negotiators.is_first(&event.user, now_ms) {
            let user = event.user.clone();
            // One that there was no room for leaves the next one the first.
            if self.hand_over(peer, Batch::of_event(now_ms, event)) {
                negotiators.told(&user);
            }
            return;
        }
        drop(negotiators);
        self.of_peer(peer, event);
    }

    /// Writes what was counted instead of recorded, for as long as it is polled.
    pub async fn tell_of_floods(self: Arc<Self>) {
        let mut interval = tokio::time::interval(FLOOD_INTERVAL / 4);
        loop {
            interval.tick().await;
            self.flush_floods(now_ms());
        }
    }

    /// Ends the store, once everything that was handed over is written; waits no longer than
    /// `limit`. False when something that was acknowledged is lost.
    pub async fn finish(&self, limit: Duration) -> bool {
        // Also what is still being counted.
        self.flush_floods(u64::MAX);
        let Some(store) = self.store.clone() else { return true };
        let all = async {
            // All places free: nothing waits for room any more. The semaphore is never closed.
            let _ = self.places.acquire_many(EVENTS_OVERFLOW_MAX as u32).await;
            tokio::task::spawn_blocking(move || store.finish()).await
        };
        matches!(tokio::time::timeout(limit, all).await, Ok(Ok(0)))
    }

    fn flush_floods(&self, until_ms: u64) {
        let due = self.flood.lock().unwrap_or_else(PoisonError::into_inner).due(until_ms);
        for aggregate in due {
            self.event(aggregate);
        }
    }

    fn admits(&self, peer: &str, kind: store::EventKind) -> bool {
        self.flood.lock().unwrap_or_else(PoisonError::into_inner).admit(peer, kind, now_ms())
    }

    /// What of the inputs of a rejected declaration of that peer is kept.
    fn kept(&self, peer: &str, inputs: Option<Arc<VerdictInputs>>) -> RejectedInputs {
        let Some(inputs) = inputs else { return RejectedInputs::None };
        let mut gate = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        if gate.admits(peer, inputs::bytes_of(&inputs), now_ms()) {
            RejectedInputs::Kept(inputs)
        } else {
            RejectedInputs::TooMany
        }
    }

    /// With room in the queue the batch is the store's already; without, it waits in line. False when
    /// there is no place there, and it is lost.
    fn hand_over(&self, peer: &str, batch: Batch) -> bool {
        let Some(store) = &self.store else { return true };
        // What comes later must not pass what waits.
        let handed = if self.waiting() == 0 { store.try_commit(batch) } else { Err(Full(batch)) };
        let Err(Full(batch)) = handed.map(drop) else { return true };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            error!(
                peer,
                "the store has no room for an event, which is lost: its queue is full, and \
                 {EVENTS_OVERFLOW_MAX} more wait"
            );
            return false;
        };
        // The line ends with the server, and then nothing is recorded any more.
        let _ = self.overflow.send((batch, place));
        true
    }
}

/// Gives what waits to the store, one after the other.
async fn hand_over_late(
    store: Arc<dyn Store>,
    mut waiting: mpsc::UnboundedReceiver<(Batch, OwnedSemaphorePermit)>,
) {
    while let Some((batch, place)) = waiting.recv().await {
        if let Err(error) = store.commit(batch).await {
            warn!(%error, "an event could not be recorded");
        }
        drop(place);
    }
}

/// Returns when an accepted template is durable.
///
/// # Errors
/// The token was used up before, by another connection or before a restart; or the store is
/// closed. Nothing is recorded then.
pub async fn accepted(case: &Case, recording: Recording) -> Result<(), Rejection> {
    durable(&case.user, recording).await
}

async fn durable(user: &User, recording: Recording) -> Result<(), Rejection> {
    let Some(commit) = recording else { return Ok(()) };
    match commit.await {
        Ok(_) => Ok(()),
        Err(CommitError::Refused(Refusal::TokenSpent { .. })) => {
            Err(Rejection::new(Reason::TokenSpent))
        }
        Err(CommitError::Refused(why)) => {
            error!(user = user.name, %why, "the store refuses what a token is used up by");
            Err(Rejection::new(Reason::Internal).actual(why))
        }
        Err(error @ CommitError::Closed) => Err(Rejection::new(Reason::Internal).actual(error)),
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("keeps", &self.store.is_some()).finish_non_exhaustive()
    }
}

fn spending(case: &Case) -> Batch {
    spend(Batch::new(now_ms()), case.token_sequence, &case.user)
}

fn spend(batch: Batch, token_sequence: u64, user: &User) -> Batch {
    let expires_at_ms = token_sequence / 1_000 + TOKEN_LIFETIME.as_millis() as u64;
    batch.spend_token(token_sequence, expires_at_ms, name(user))
}

fn proposed(case: &Case, named: Named, timing: Timing) -> TemplateProposed {
    TemplateProposed {
        user: case.user.name.clone(),
        worker: worker(&case.user),
        template_hash: named.template_hash.to_string(),
        tx_count: case.tx_count,
        wtxids_unknown: timing.missing as u32,
        height: named.height,
        bytes: case.bytes,
    }
}

fn rejected_row(
    case: &Case,
    named: Option<Named>,
    rejection: &Rejection,
    timing: Timing,
) -> RejectedTemplate {
    RejectedTemplate {
        user: name(&case.user),
        worker: case.user.worker.as_str().into(),
        user_tag: store::UserTag(case.user.tag.to_bytes()),
        template_hash: named.map(|named| named.template_hash),
        tx_count: case.tx_count,
        height: named.map(|named| named.height),
        error_code: rejection.code.as_str().to_owned(),
        reason: rejection.reason.as_str().to_owned(),
        index: rejection.index.map(|index| index as u64),
        expected: rejection.expected.clone(),
        actual: rejection.actual.clone(),
        validation_ms: timing.verdict_ms(),
        request_bytes: case.bytes,
        inputs: RejectedInputs::None,
    }
}

fn rejected_event(
    user: Option<&User>,
    named: Option<Named>,
    rejection: &Rejection,
    timing: Timing,
) -> TemplateRejected {
    TemplateRejected {
        user: user.map(|user| user.name.clone()).unwrap_or_default(),
        worker: user.and_then(worker),
        template_hash: named.map(|named| named.template_hash.to_string()),
        error_code: rejection.code.as_str().to_owned(),
        reason: rejection.reason.as_str().to_owned(),
        index: rejection.index.map(|index| index as u64),
        expected: rejection.expected.clone(),
        actual: rejection.actual.clone(),
        validation_ms: timing.verdict_ms(),
        proof: rejection.proof.as_ref().map(|proof| proof.to_string()),
    }
}

fn name(user: &User) -> Arc<str> {
    user.name.as_str().into()
}

fn worker(user: &User) -> Option<String> {
    Some(user.worker.clone()).filter(|worker| !worker.is_empty())
}

fn now_ms() -> u64 {
    clock::unix_us() / 1_000
}
