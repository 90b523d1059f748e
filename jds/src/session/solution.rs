//! Solutions: passed on at once, and again when they were faster than our answer.

#![deny(clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Instant;

use jds_wire::message;

use super::{Action, OwnedSolution, Session, Solve};
use crate::jobs::Job;
use crate::limits::{SOLUTION_JOBS_MAX, SOLUTION_KEPT, SOLUTIONS_KEPT_PER_CONNECTION_MAX};

impl Session {
    pub(super) fn on_solution(&mut self, solution: &message::PushSolution<'_>, now: Instant) {
        let solution = OwnedSolution {
            extranonce: solution.extranonce.to_vec(),
            prev_hash: solution.prev_hash,
            nonce: solution.nonce,
            ntime: solution.ntime,
            version: solution.version,
        };
        // A miner need not wait for our answer to begin.
        if !self.pending.is_empty() {
            if self.early.len() >= SOLUTIONS_KEPT_PER_CONNECTION_MAX {
                self.early.pop_front();
            }
            self.early.push_back((now, solution.clone()));
        }
        self.actions.push_back(Action::Solve(Solve {
            solution,
            jobs: self.deps.jobs.candidates(
                &self.declarer,
                self.users.all().flat_map(|user| user.tags()),
                SOLUTION_JOBS_MAX,
            ),
            users: self.users.all().cloned().collect(),
        }));
    }

    /// Tries the solutions on a job that was declared before they came and accepted after.
    pub(super) fn solve_early(&mut self, job: &Arc<Job>, declared: Instant, now: Instant) {
        self.early.retain(|(came, _)| now.saturating_duration_since(*came) <= SOLUTION_KEPT);
        for (_, solution) in self.early.iter().filter(|(came, _)| *came >= declared) {
            self.actions.push_back(Action::Solve(Solve {
                solution: solution.clone(),
                jobs: vec![Arc::clone(job)],
                users: Vec::new(),
            }));
        }
        if self.pending.is_empty() {
            self.early.clear();
        }
    }
}
