//! From `PushSolution` to a block: try every job that it may belong to.

use std::sync::Arc;
use std::time::Instant;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use tracing::{error, warn};
use validation::block::{Solution, SolutionError, assemble};

use crate::jobs::Job;
use crate::server::Shared;
use crate::session::{OwnedSolution, Solve};
use crate::submit::{Found, Origin};

/// Finds the job that the solution makes a block of, and submits that block to every node.
pub(crate) async fn solve(shared: &Arc<Shared>, request: Solve, received: Instant) {
    let search = Arc::clone(shared);
    // A thread of its own: neither the reactor nor the validations are in front of it.
    let found = tokio::task::spawn_blocking(move || find(&search, &request));
    match found.await {
        Ok(Some((block, job))) => {
            let origin = Origin {
                user: job.user.name.clone(),
                template_hash: job.accepted.template_hash().to_string(),
                height: job.accepted.height(),
                received,
            };
            shared.submitter.submit(&block, &origin);
        }
        Ok(None) => {}
        Err(panic) => error!(%panic, "looking for the block of a solution ended abnormally"),
    }
}

fn find(shared: &Shared, request: &Solve) -> Option<(Found, Arc<Job>)> {
    let solution = &request.solution;
    let prev_hash = BlockHash::from_byte_array(solution.prev_hash);
    let parent = shared.nodes.tip_by_hash(&prev_hash);
    let tip = shared.nodes.tip();
    let ntime = solution.ntime;
    let solution = as_solution(solution, prev_hash);
    let mut tried = Tried::default();
    for job in candidates(shared, request) {
        // A job of another height can not be a block on this parent (BIP 34).
        if parent.is_some_and(|parent| parent.next_height() != job.accepted.height()) {
            tried.other_height += 1;
            continue;
        }
        // Our own word on the target, never the peer's: of this very parent, or of the tip that
        // the job was accepted on, or of the present tip, which differs from the parent's only
        // at the border of a difficulty period.
        let own = Some(*job.accepted.tip()).filter(|tip| tip.hash == prev_hash);
        let judged_by = parent.or(own).or(tip).unwrap_or(*job.accepted.tip());
        let bits = judged_by.next_bits.at(ntime);
        match assemble(&job.accepted, &job.body(), &solution, bits) {
            Ok(block) => {
                // Megabytes of digits: made here, off the reactor.
                let found = Found { hash: block.hash, hex: block.hex().into() };
                return Some((found, job));
            }
            Err(SolutionError::ExtranonceLength { .. }) => tried.other_extranonce += 1,
            Err(_) => tried.above_target += 1,
        }
    }
    warn!(
        %prev_hash,
        above_target = tried.above_target,
        other_extranonce_length = tried.other_extranonce,
        other_height = tried.other_height,
        "a solution makes a block of none of the jobs"
    );
    None
}

#[derive(Default)]
struct Tried {
    above_target: usize,
    other_extranonce: usize,
    other_height: usize,
}

/// Jobs of the connection first, newest first, then other jobs of its users.
fn candidates(shared: &Shared, request: &Solve) -> Vec<Arc<Job>> {
    let mut jobs = request.jobs.clone();
    for user in &request.users {
        for job in shared.jobs.of_user(&user.tag) {
            if !jobs.iter().any(|known| known.number == job.number) {
                jobs.push(job);
            }
        }
    }
    jobs
}

fn as_solution(solution: &OwnedSolution, prev_hash: BlockHash) -> Solution<'_> {
    Solution {
        extranonce: &solution.extranonce,
        prev_hash,
        nonce: solution.nonce,
        ntime: solution.ntime,
        version: solution.version,
    }
}
