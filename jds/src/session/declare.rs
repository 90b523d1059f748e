//! From tokens to answered declarations.

#![deny(clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Instant;

use bitcoin::Wtxid;
use bitcoin::hashes::Hash;
use jds_wire::ServerMessage;
use jds_wire::message;
use validation::rejection::{Reason, Rejection};

use super::{
    Action, Awaiting, Declared, DeclaredResult, Now, Pending, Record, Session, SessionDeps,
    Violation, answer_time_max,
};
use crate::budget::Permit;
use crate::jobs::{Job, User};
use crate::limits::{DECLARATIONS_PENDING_PER_CONNECTION_MAX, MISSING_TXS_TIMEOUT};
use crate::validator::{Declaration, Draft, Outcome};

impl Session {
    pub(super) fn on_allocate(
        &mut self,
        allocate: &message::AllocateMiningJobToken<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        let SessionDeps { mint, payout, spent, .. } = &*self.deps;
        let (unused, held) = (mint.unused(), spent.held());
        let (holder, first) = self.users.hold(allocate.user_identifier, payout, unused, held)?;
        let (sequence, token) = mint.allocate(holder.user.tag, now.unix_us);
        holder.gave(sequence);
        let user = Arc::clone(&holder.user);
        let success = message::AllocateMiningJobTokenSuccess {
            request_id: allocate.request_id,
            mining_job_token: token,
            coinbase_outputs: holder.terms.coinbase_outputs.clone(),
        };
        self.send(ServerMessage::AllocateMiningJobTokenSuccess(success));
        self.record(Record::TokenAllocated { user, first, sequence });
        Ok(())
    }

    pub(super) fn on_declare(
        &mut self,
        declare: &message::DeclareMiningJob<'_>,
        full_template: bool,
        (bytes, permit): (u64, Permit),
        now: Now,
    ) {
        let request_id = declare.request_id;
        let refusal = if !full_template {
            Some(Rejection::new(Reason::CoinbaseOnlyConnection))
        } else if self.pending.contains_key(&request_id) {
            Some(Rejection::new(Reason::RequestIdInUse))
        } else if self.pending.len() >= DECLARATIONS_PENDING_PER_CONNECTION_MAX {
            let max = DECLARATIONS_PENDING_PER_CONNECTION_MAX;
            Some(Rejection::new(Reason::TooManyPending).expected(format_args!("at-most-{max}")))
        } else {
            None
        };
        if let Some(rejection) = refusal {
            self.refuse(request_id, None, now.instant, rejection);
            return;
        }
        let opened = self.deps.mint.open(declare.mining_job_token).and_then(|token| {
            let holder = self.users.owner(token)?;
            if holder.take_unused(token.sequence) {
                // However old: a client may keep the tokens of its start for days.
                self.deps.spent.spend_own(token.sequence, now.unix_us)?;
            } else {
                self.deps.mint.check_age(token, now.unix_us)?;
                self.deps.spent.spend(token.sequence, now.unix_us)?;
            }
            Ok((token.sequence, Arc::clone(&holder.user), Arc::clone(&holder.terms.rules)))
        });
        let (token_sequence, user, rules) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let rejection = Rejection::new(Reason::from(error));
                self.refuse(request_id, None, now.instant, rejection);
                return;
            }
        };
        let pending = Pending { user: Arc::clone(&user), received: now.instant, awaiting: None };
        self.pending.insert(request_id, pending);
        self.actions.push_back(Action::Validate(Box::new(Declaration {
            request_id,
            user,
            declarer: self.declarer.clone(),
            token_sequence,
            bytes,
            rules,
            version: declare.version,
            coinbase_prefix: declare.coinbase_tx_prefix.to_vec(),
            coinbase_suffix: declare.coinbase_tx_suffix.to_vec(),
            wtxids: declare.wtxids.iter().map(|id| Wtxid::from_byte_array(*id)).collect(),
            received: now.instant,
            permit,
        })));
    }

    pub(super) fn on_supplied(
        &mut self,
        supplied: &message::ProvideMissingTransactionsSuccess<'_>,
        permit: Permit,
    ) {
        let pending = self.pending.get_mut(&supplied.request_id);
        match pending.and_then(|pending| pending.awaiting.take()) {
            None => self.record(Record::Ignored("transactions that were not asked for")),
            Some(Awaiting { mut draft, .. }) => {
                // The transactions are held until they are judged, and so is their permit.
                draft.hold(permit);
                let answer = supplied.transactions.iter().map(|tx| tx.to_vec());
                self.actions.push_back(Action::Complete(draft, answer.collect()));
            }
        }
    }

    pub(super) fn on_outcome(&mut self, request_id: u32, outcome: Outcome, now: Now) {
        match outcome {
            Outcome::NeedTxs(draft) => self.ask(request_id, draft, now.instant),
            Outcome::Accepted { job, receipt, missing, checked } => {
                self.on_accepted(request_id, (job, receipt), missing, checked, now);
            }
            Outcome::Rejected(rejection) => self.refuse_pending(request_id, rejection),
        }
    }

    pub(super) fn ask(&mut self, request_id: u32, draft: Box<Draft>, now: Instant) {
        let Some(pending) = self.pending.get_mut(&request_id) else { return };
        let unknown_tx_positions = draft.asked.clone();
        let count = unknown_tx_positions.len();
        let deadline = now + MISSING_TXS_TIMEOUT;
        let deadline_last = deadline + answer_time_max();
        pending.awaiting = Some(Awaiting { draft, deadline, deadline_last });
        let ask = message::ProvideMissingTransactions { request_id, unknown_tx_positions };
        self.send(ServerMessage::ProvideMissingTransactions(ask));
        self.record(Record::TxsAsked { request_id, count });
    }

    pub(super) fn on_accepted(
        &mut self,
        request_id: u32,
        (job, new_mining_job_token): (Arc<Job>, Vec<u8>),
        missing: usize,
        checked: Option<crate::check::Checked>,
        now: Now,
    ) {
        let Some(pending) = self.pending.remove(&request_id) else { return };
        self.solve_early(&job, pending.received, now.instant);
        let success = message::DeclareMiningJobSuccess { request_id, new_mining_job_token };
        self.send(ServerMessage::DeclareMiningJobSuccess(success));
        self.record(Record::Declared(Declared {
            request_id,
            user: Some(pending.user),
            received: pending.received,
            result: DeclaredResult::Accepted { job, missing, checked },
        }));
    }

    /// Ends a declaration that waits for transactions. Its answer comes when that is recorded.
    pub(super) fn give_up(&mut self, request_id: u32, rejection: Rejection) {
        let pending = self.pending.get_mut(&request_id);
        if let Some(awaiting) = pending.and_then(|pending| pending.awaiting.take()) {
            self.actions.push_back(Action::GiveUp(awaiting.draft, rejection));
        }
    }

    pub(super) fn refuse_pending(&mut self, request_id: u32, rejection: Rejection) {
        let Some(pending) = self.pending.remove(&request_id) else { return };
        if self.pending.is_empty() {
            self.early.clear();
        }
        self.refuse(request_id, Some(pending.user), pending.received, rejection);
    }

    /// The one place where a declaration is answered with an error.
    pub(super) fn refuse(
        &mut self,
        request_id: u32,
        user: Option<Arc<User>>,
        received: Instant,
        rejection: Rejection,
    ) {
        let error = message::DeclareMiningJobError {
            request_id,
            error_code: rejection.code.as_str().into(),
            error_details: rejection.details(),
        };
        self.send(ServerMessage::DeclareMiningJobError(error));
        let result = DeclaredResult::Rejected(rejection);
        self.record(Record::Declared(Declared { request_id, user, received, result }));
    }
}
