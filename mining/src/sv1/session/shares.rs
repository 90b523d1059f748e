//! Shares of the miner.
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;

use serde_json::Value;

use super::Session;
use crate::channel::{Outcome, Reply};
use crate::share::Submission;
use crate::sv1::refusal::Refusal;
use crate::sv1::rpc::answer;
use crate::sv1::submit::Submit;
use crate::sv1::workers::Worker;
use crate::{Action, Now};

impl Session {
    /// A share. Answers it, unless it says nothing that could be judged.
    pub(super) fn submit(
        &mut self,
        params: &[Value],
        id: Option<&Value>,
        now: Now,
    ) -> Result<(), Refusal> {
        let submit = Submit::parse(params)?;
        if !self.subscribed {
            return Err(Refusal::not_subscribed());
        }
        let worker = self.workers.get(submit.worker).cloned();
        let Some(channel) = &mut self.channel else {
            return Err(Refusal::unauthorized("Unauthorized worker"));
        };
        let job = submit.job_id.and_then(|job_id| channel.job_of(job_id));
        let version = job.map_or(0, |job| submit.version(job));
        let outcome = channel.submit(
            &Submission {
                sequence_number: 0,
                job_id: submit.job_id.unwrap_or(0),
                extranonce: &submit.extranonce2,
                ntime: submit.ntime,
                nonce: submit.nonce,
                version,
                worker: None,
            },
            now,
        );
        self.report(outcome, worker.as_ref(), id, now);
        Ok(())
    }

    /// What follows from a share, a block first of all.
    pub(super) fn report(
        &mut self,
        outcome: Outcome,
        worker: Option<&Worker>,
        id: Option<&Value>,
        now: Now,
    ) {
        let Outcome { found, mut record, reply } = outcome;
        if let Some(worker) = worker {
            record.user = Arc::clone(&worker.identity.user);
            record.worker = Arc::clone(&worker.identity.worker);
            record.channel_id = worker.channel_id;
        }
        if let Some(mut found) = found {
            found.user = Arc::clone(&record.user);
            self.actions.push_back(Action::Found(found));
        }
        let outcome = match reply {
            _ if worker.is_none() => Err(Refusal::unauthorized("Unauthorized worker")),
            Reply::Accepted(_) => Ok(Value::Bool(true)),
            Reply::Refused(code) => Err(Refusal::of_share(code)),
            Reply::Exhausted => Err(Refusal::other("No room for more shares on this extranonce")),
        };
        let accepted = outcome.is_ok();
        // A share that was mined by nobody is nobody's.
        if worker.is_some() {
            self.actions.push_back(Action::Share(record));
        }
        if let Some(id) = id {
            let line = answer(id, outcome);
            self.actions.push_back(if accepted {
                Action::LineWhenDurable(line)
            } else {
                Action::Line(line)
            });
        }
        if reply == Reply::Exhausted {
            self.renew_extranonce(now);
        } else if worker.is_none() && self.faults.add(now.instant) {
            self.close("too many shares of unauthorized workers");
        } else {
            self.look_at_rate(now);
        }
    }
}
