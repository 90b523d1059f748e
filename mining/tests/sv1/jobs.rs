//! Which jobs a miner gets, when, and at which difficulty.

use std::time::Duration;

use mining::limits::{JOB_AGE_MAX, SV1_SUGGEST_INTERVAL};
use mining::{Action, Input, Settings};
use serde_json::json;

use crate::miner::settings;
use crate::miner::{Line, Rig, difficulty_of};
use crate::support::{EASY, HARD, START_S, tip};

fn methods(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(Line::method).collect()
}

#[test]
fn only_a_new_tip_makes_older_work_worthless() {
    let mut rig = Rig::easy();
    let first = rig.job_id();
    assert_eq!(methods(&rig.work(2, 1, HARD)), ["mining.notify"]);
    let second = rig.job.clone().unwrap();
    assert!(!second.clean_jobs);
    assert_ne!(second.job_id, first);
    rig.work(3, 2, HARD);
    let third = rig.job.clone().unwrap();
    assert!(third.clean_jobs);
    assert_ne!(third.prev_hash, second.prev_hash);
    assert_eq!(rig.work(3, 2, HARD), [], "work that it has is not given again");
    assert_eq!(rig.work(2, 1, HARD), [], "nor older work");
}

#[test]
fn a_tip_alone_makes_shares_stale_at_once() {
    let mut rig = Rig::easy();
    let (rolled, _) = rig.share(0);
    let fields = rig.fields("alice.one", &rolled);
    rig.input(Input::Tip(tip(1, HARD)));
    assert_eq!(rig.submit(fields.clone()), Ok(json!(true)), "the tip is the same");
    let (rolled, _) = rig.share(rolled.nonce + 1);
    let fields = rig.fields("alice.one", &rolled);
    assert_eq!(rig.input(Input::Tip(tip(2, HARD))), []);
    assert_eq!(rig.submit(fields), Err((21, "Stale share".into())));
    // The rate is looked at while there is no work for the tip: nothing old is given out.
    rig.later(Duration::from_secs(20));
    assert_eq!(rig.input(Input::Tick), []);
    rig.work(2, 2, HARD);
    assert!(rig.job.as_ref().unwrap().clean_jobs);
}

#[test]
fn a_chain_that_comes_back_gives_its_work_again() {
    let mut rig = Rig::easy();
    let first = rig.job.clone().unwrap();
    rig.input(Input::Tip(tip(2, HARD)));
    assert_eq!(methods(&rig.input(Input::Tip(tip(1, HARD)))), ["mining.notify"]);
    let again = rig.job.clone().unwrap();
    assert_eq!(again.prev_hash, first.prev_hash);
    assert!(again.clean_jobs, "its first job was dropped with the tip");
    assert_ne!(again.time, first.time, "the same header is not mined twice");
    let (rolled, _) = rig.share(0);
    let fields = rig.fields("alice.one", &rolled);
    assert_eq!(rig.submit(fields), Ok(json!(true)));
}

#[test]
fn an_old_job_is_given_anew_with_the_time() {
    let mut rig = Rig::easy();
    assert_eq!(rig.job.as_ref().unwrap().time.0, START_S);
    rig.later(JOB_AGE_MAX);
    assert!(rig.session.poll_timeout().unwrap() <= rig.now.instant);
    assert_eq!(*methods(&rig.input(Input::Tick)).last().unwrap(), "mining.notify");
    let job = rig.job.clone().unwrap();
    assert_eq!(job.time.0, START_S + JOB_AGE_MAX.as_secs() as u32);
    assert!(!job.clean_jobs);
}

#[test]
fn a_suggested_difficulty_is_for_the_job_after_it() {
    let mut rig = Rig::easy();
    let before = rig.difficulty.unwrap();
    assert_eq!(rig.job.as_ref().unwrap().time.0, START_S);
    let (answer, after) = rig.ask("mining.suggest_difficulty", json!([2_000]));
    assert_eq!(answer, Ok(json!(true)));
    assert_eq!(methods(&after), ["mining.set_difficulty", "mining.notify"]);
    assert_eq!(after[0].value["params"].to_string(), "[2000]");
    assert!(before < 1e-6, "{before}");
    let job = rig.job.as_ref().unwrap();
    assert!(!job.clean_jobs);
    assert_eq!(job.time.0, START_S + 1, "in the same second, and not the same work");

    let (answer, after) = rig.ask("mining.suggest_difficulty", json!([1]));
    assert_eq!((answer.unwrap_err().0, after), (20, vec![]), "not twice in a moment");
    rig.later(SV1_SUGGEST_INTERVAL);
    let target = "00000000001fffe0000000000000000000000000000000000000000000000000";
    let (answer, after) = rig.ask("mining.suggest_target", json!([target]));
    assert_eq!(answer, Ok(json!(true)));
    assert_eq!(after[0].value["params"].to_string(), "[2048]");
    for bad in [json!([]), json!(["x"]), json!([0]), json!([-3]), json!(["00".repeat(31)])] {
        rig.later(SV1_SUGGEST_INTERVAL);
        assert!(rig.ask("mining.suggest_target", bad.clone()).0.is_err(), "{bad}");
    }
}

#[test]
fn nobody_gets_a_difficulty_below_the_floor() {
    let floor = Settings { min_hashrate: 1e12, ..settings() };
    let mut rig = Rig::new(crate::support::deps(floor));
    rig.work(1, 1, HARD);
    rig.subscribe();
    rig.ask("mining.suggest_difficulty", json!([0.001])).0.unwrap();
    let (_, after) = rig.ask("mining.authorize", json!(["alice", ""]));
    // 1 TH/s and a share in 10 s: 10^13 hashes, by 2^48 / 65535 for each difficulty.
    assert_eq!(after[0].value["params"].to_string(), "[2328]");
    // A suggestion beyond every number is one that is far too high, and nothing worse.
    rig.later(SV1_SUGGEST_INTERVAL);
    assert!(rig.ask("mining.suggest_difficulty", json!([1e300])).0.is_ok());
    assert!(rig.difficulty.unwrap() <= 9_007_199_254_740_992.0);
}

#[test]
fn the_start_rate_is_what_the_operator_says() {
    let start = Settings { min_hashrate: 1e9, sv1_start_hashrate: 1e14, ..settings() };
    let rig = Rig::mining(start, HARD);
    assert_eq!(rig.difficulty, Some(232_827.0));
}

#[test]
fn a_miner_names_the_least_difficulty_that_it_takes() {
    let mut rig = Rig::new(crate::support::deps(settings()));
    rig.work(1, 1, HARD);
    let asked = json!([["minimum-difficulty"], {"minimum-difficulty.value": 512.5}]);
    let answer = rig.ask("mining.configure", asked).0.unwrap();
    assert_eq!(answer["minimum-difficulty"], true);
    rig.subscribe();
    rig.ask("mining.authorize", json!(["alice", ""])).0.unwrap();
    assert_eq!(rig.difficulty, Some(513.0));
}

#[test]
fn more_shares_raise_the_difficulty_and_old_jobs_keep_theirs() {
    let mut rig = Rig::easy();
    let before = rig.difficulty.unwrap();
    let mut nonce = 0;
    // Shares of the old job, found before the change and sent after it, at the old difficulty.
    let mut old = Vec::new();
    while old.len() < 3 {
        let (rolled, header) = rig.share(nonce);
        nonce = rolled.nonce + 1;
        if difficulty_of(&header) < before * 1.5 {
            old.push(rig.fields("alice.one", &rolled));
        }
    }
    let first_job = rig.job_id();
    let mut lines = Vec::new();
    for sent in 0.. {
        assert!(sent < 500, "so many shares in a second, and the same difficulty");
        let (rolled, _) = rig.share(nonce);
        nonce = rolled.nonce + 1;
        let (answer, after) = rig.ask("mining.submit", rig.fields("alice.one", &rolled).into());
        assert_eq!(answer, Ok(json!(true)));
        if !after.is_empty() {
            lines = after;
            break;
        }
    }
    assert_eq!(methods(&lines), ["mining.set_difficulty", "mining.notify"]);
    assert!(rig.difficulty.unwrap() > 1.5 * before, "{before} to {:?}", rig.difficulty);
    assert_ne!(rig.job_id(), first_job);
    rig.take_actions();
    for fields in old {
        assert_eq!(rig.submit(fields), Ok(json!(true)));
    }
    let actions = rig.take_actions();
    for action in &actions {
        let Action::Share(share) = action else { panic!("{action:?}") };
        assert!((share.difficulty / before - 1.0).abs() < 1e-9, "{share:?}");
    }
    assert_eq!(actions.len(), 3);
}

#[test]
fn an_idle_miner_gets_it_easier_and_may_use_that_on_its_old_job() {
    let start = Settings { sv1_start_hashrate: 1e6, ..settings() };
    let mut rig = Rig::mining(start, HARD);
    let (before, old) = (rig.difficulty.unwrap(), rig.job.clone());
    for _ in 0..40 {
        rig.later(Duration::from_secs(15));
        rig.input(Input::Tick);
    }
    let now = rig.difficulty.unwrap();
    assert!(now < before / 2.0, "{before} to {now}");
    // Many miners use a new difficulty for the job that they are on.
    rig.job = old;
    let version = rig.job.as_ref().unwrap().version.0;
    let (rolled, _) =
        rig.mine_from(0, version, |header| (now..before).contains(&difficulty_of(header)));
    let fields = rig.fields("alice.one", &rolled);
    rig.take_actions();
    assert_eq!(rig.submit(fields), Ok(json!(true)));
    let actions = rig.take_actions();
    let [Action::Share(share)] = &actions[..] else { panic!("{actions:?}") };
    assert!((share.difficulty / now - 1.0).abs() < 1e-9, "paid for what it is: {share:?}");
}

/// A miner can ask for a target harder than the network's. A block is then worth the network's.
#[test]
fn a_block_is_worth_no_more_than_its_work() {
    let mut rig = Rig::mining(settings(), EASY);
    rig.ask("mining.suggest_difficulty", json!([1_000_000])).0.unwrap();
    rig.take_actions();
    let version = rig.job.as_ref().unwrap().version.0;
    let (rolled, header) =
        rig.mine_from(0, version, |header| header.target().is_met_by(header.block_hash()));
    let fields = rig.fields("alice.one", &rolled);
    assert_eq!(rig.submit(fields), Ok(json!(true)));
    let actions = rig.take_actions();
    let [Action::Found(_), Action::Share(share)] = &actions[..] else { panic!("{actions:?}") };
    assert!((share.difficulty / header.target().difficulty_float() - 1.0).abs() < 1e-9);
}
