//! The line of checks, what is asked again, and nodes that do not answer.

use super::*;
use crate::jobs::tests::{HEIGHT, accepted};
use crate::jobs::{Declarer, Jobs, User};
use crate::limits::CHECK_BUDGET_PER_USER;

/// A job of the user with this number, to be put in line.
fn waiting(jobs: &Jobs, user: usize) -> (Waiting, oneshot::Receiver<Checked>) {
    let user = Arc::new(User::new(format!("user{user}").as_bytes()));
    let job = jobs.create(user, &Declarer::new(1, "peer"), accepted(HEIGHT, &[]));
    let (answer, checked) = oneshot::channel();
    (Waiting { job, answer, mode: CheckMode::After, again: false }, checked)
}

#[test]
fn a_full_line_judges_nobody_more_and_keeps_everybodys_place() {
    let (jobs, mut queue) = (Jobs::default(), Queue::default());
    let mut answers = Vec::new();
    for user in 0..CHECKS_QUEUED_MAX {
        let (waiting, checked) = waiting(&jobs, user);
        queue.push(waiting);
        answers.push(checked);
    }
    let (one_more, mut checked) = waiting(&jobs, CHECKS_QUEUED_MAX);
    queue.push(one_more);
    assert!(matches!(checked.try_recv(), Ok(Checked::NotJudged(_))), "it is told at once");
    assert_eq!(queue.waiting.len(), CHECKS_QUEUED_MAX);
    // A newer job of one who waits takes the place of the older one.
    let (newer, mut checked) = waiting(&jobs, 0);
    let number = newer.job.number;
    queue.push(newer);
    assert_eq!(answers[0].try_recv(), Ok(Checked::Superseded));
    assert!(checked.try_recv().is_err(), "it waits");
    assert_eq!(queue.pop().map(|first| first.job.number), Some(number), "in its old place");
    let (welcome, _checked) = waiting(&jobs, CHECKS_QUEUED_MAX);
    queue.push(welcome);
    assert_eq!(queue.waiting.len(), CHECKS_QUEUED_MAX, "there was room again");
    assert!(answers[1..].iter_mut().all(|answer| answer.try_recv().is_err()));
}

/// Sites of one user, on connections of their own.
#[test]
fn a_job_takes_the_place_of_an_older_one_of_its_connection_alone() {
    let (jobs, mut queue) = (Jobs::default(), Queue::default());
    let mut push = |identity: &str, connection| {
        let user = Arc::new(User::new(identity.as_bytes()));
        let job = jobs.create(user, &Declarer::new(connection, "peer"), accepted(HEIGHT, &[]));
        let (answer, checked) = oneshot::channel();
        queue.push(Waiting { job, answer, mode: CheckMode::Before, again: false });
        checked
    };
    let mut sites = [push("carol.site1", 1), push("carol.site2", 2), push("carol.site1", 3)];
    let mut newer = push("carol.site2", 2);
    assert_eq!(sites[1].try_recv(), Ok(Checked::Superseded));
    for waits in [0, 2] {
        assert!(sites[waits].try_recv().is_err(), "{waits} waits");
    }
    assert!(newer.try_recv().is_err(), "it waits");
    let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|next| next.line().1).collect();
    assert_eq!(order, [1, 2, 3]);
}

#[test]
fn so_many_jobs_are_asked_about_again_and_no_more() {
    let places = Arc::new(Semaphore::new(CHECKS_AGAIN_MAX));
    let young = Some(CHECK_TIP_SETTLED / 4);
    let mut held = Vec::new();
    for _ in 0..CHECKS_AGAIN_MAX {
        match Doubt::of(young, false, &places) {
            Doubt::Again(after, place) => {
                assert_eq!(after, CHECK_TIP_SETTLED * 3 / 4);
                held.push(place);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(Doubt::of(young, false, &places), Doubt::Dropped));
    assert!(matches!(Doubt::of(Some(CHECK_TIP_SETTLED), false, &places), Doubt::Settled));
    held.pop();
    assert!(matches!(Doubt::of(young, true, &places), Doubt::Dropped), "once is enough");
    assert!(matches!(Doubt::of(None, false, &places), Doubt::Dropped), "another tip");
    assert!(matches!(Doubt::of(young, false, &places), Doubt::Again(..)));
}

#[test]
fn a_node_that_did_not_answer_in_time_is_asked_once_it_answers_and_all_its_time_is_charged() {
    let alice = UserTag::of(b"alice");
    let mut worker = Worker {
        submissions: watch::Sender::new(0).subscribe(),
        spent: Budget::default(),
        overdue: HashMap::new(),
    };
    let (node_answers, answered) = oneshot::channel();
    let charged_to = Instant::now();
    worker.overdue.insert("slow".into(), Overdue { user: alice, charged_to, answered });
    assert!(worker.is_overdue("slow") && worker.is_overdue("slow"));
    assert!(!worker.is_overdue("other"), "another node is not");
    let at = charged_to + CHECK_BUDGET_PER_USER;
    node_answers.send(at).unwrap();
    assert!(!worker.is_overdue("slow") && !worker.is_overdue("slow"));
    assert!(worker.spent.allows(alice, at).is_err(), "the rest of its time counts");
    assert!(worker.spent.allows(UserTag::of(b"bob"), at).is_ok());
}

#[test]
fn reasons_of_the_chain_are_not_reasons_of_the_block() {
    for reason in ["bad-txns-inputs-missingorspent", "bad-txns-nonfinal", "time-too-old"] {
        assert!(depends_on_chain(reason), "{reason}");
    }
    for reason in
        ["block-script-verify-flag-failed", "bad-cb-amount", "bad-blk-sigops", "high-hash"]
    {
        assert!(!depends_on_chain(reason), "{reason}");
    }
}

#[test]
fn a_proposal_is_never_dated_before_the_median_of_the_chain() {
    assert_eq!(block_time_s(100, 99), 100);
    assert_eq!(block_time_s(100, 100), 101);
    assert_eq!(block_time_s(100, 5_000), 5_001);
}
