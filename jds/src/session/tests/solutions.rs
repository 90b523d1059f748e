//! Which jobs a solution is tried on.

use super::*;
use crate::limits::{SOLUTION_KEPT, SOLUTIONS_KEPT_PER_CONNECTION_MAX};

#[test]
fn a_solution_is_passed_on_at_once_whatever_else_is_pending() {
    let mut peer = Peer::ready();
    let token = peer.allocate("alice");
    peer.declare(1, &token);
    match &peer.push(4)[..] {
        [Action::Solve(solve)] => {
            assert_eq!(solve.solution.prev_hash, [3; 32]);
            assert_eq!(solve.users.len(), 1);
        }
        other => panic!("{other:?}"),
    }
}

/// Nonces and jobs of the solutions to be tried.
fn solves(actions: &[Action]) -> Vec<(u32, Vec<u64>)> {
    let solve = |action: &Action| match action {
        Action::Solve(solve) => {
            Some((solve.solution.nonce, solve.jobs.iter().map(|job| job.number).collect()))
        }
        _ => None,
    };
    actions.iter().filter_map(solve).collect()
}

#[test]
fn a_solution_is_tried_on_the_jobs_of_the_connection_and_of_its_users_elsewhere() {
    let shared = deps(true, true);
    let mut before = Peer::new(Arc::clone(&shared));
    before.set_up(setup());
    let declaration = before.begin(1);
    let (elsewhere, _) = before.accept(declaration);
    drop(before);
    let mut peer = Peer::new(shared);
    peer.set_up(setup());
    let declaration = peer.begin(1);
    let (first, _) = peer.accept(declaration);
    let declaration = peer.begin(1);
    let (second, _) = peer.accept(declaration);
    let all = vec![second.number, first.number, elsewhere.number];
    assert_eq!(solves(&peer.push(4)), [(4, all)]);
}

#[test]
fn a_solution_that_is_faster_than_our_answer_is_tried_on_the_job_once_it_is_accepted() {
    let mut peer = Peer::ready();
    peer.push(1);
    peer.now.instant += Duration::from_millis(1);
    let (declaration, other) = (peer.begin(1), peer.begin(2));
    for nonce in 2..2 + SOLUTIONS_KEPT_PER_CONNECTION_MAX as u32 + 1 {
        assert_eq!(solves(&peer.push(nonce)), [(nonce, vec![])], "at once, and on no job yet");
    }
    peer.now.instant += SOLUTION_KEPT;
    let (job, actions) = peer.accept(declaration);
    let again: Vec<_> = (3..7).map(|nonce| (nonce, vec![job.number])).collect();
    assert_eq!(solves(&actions), again, "the last few that came after the declaration");
    for action in &actions {
        assert!(!matches!(action, Action::Solve(solve) if !solve.users.is_empty()), "no other job");
    }
    peer.now.instant += Duration::from_millis(1);
    let (_, actions) = peer.accept(other);
    assert_eq!(solves(&actions), [], "too long ago");
}

#[test]
fn solutions_are_kept_only_while_a_declaration_has_no_answer() {
    let mut peer = Peer::ready();
    peer.begin(1);
    peer.push(1);
    peer.input(Input::Validated { request_id: 1, outcome: no_tip() });
    let declaration = peer.begin(2);
    let (_, actions) = peer.accept(declaration);
    assert_eq!(solves(&actions), []);
}
