//! Jobs that miners choose.

use std::sync::Arc;

use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use jds_wire::message::mining::{MiningClientMessage, MiningServerMessage as M};
use mining::limits::{CUSTOM_JOB_BYTES_ALLOWED, CUSTOM_JOBS_PER_CHANNEL_MAX, VARDIFF_INTERVAL};
use mining::{Action, CustomJob, CustomJobVerdict, Input, JobBytes, JobSource};
use mining_sv2::SetCustomMiningJobOwned;
use validation::tip::ChainTip;

use crate::support::{
    EASY, HARD, Miner, MinerJob, MinerWork, Rig, START_S, WORK_SELECTION, custom_halves, deps,
    open_extended, settings, setup, share_code, tip, work,
};

const PATH: [u8; 32] = [0x33; 32];
/// Bytes of the full extranonce of a client that asks for ten.
pub(crate) const FULL: usize = 8 + 10;

pub(crate) fn set(channel_id: u32, request_id: u32, on: &ChainTip) -> MiningClientMessage<'static> {
    MiningClientMessage::SetCustomMiningJob(SetCustomMiningJobOwned {
        channel_id,
        request_id,
        token: b"token".to_vec().try_into().unwrap(),
        version: 0x2000_0000,
        prev_hash: on.hash.to_byte_array().into(),
        min_ntime: START_S,
        nbits: on.next_bits.regular.to_consensus(),
        coinbase_tx_version: 2,
        coinbase_prefix: vec![1, 2].try_into().unwrap(),
        coinbase_tx_input_n_sequence: 0,
        coinbase_tx_outputs: vec![0].try_into().unwrap(),
        coinbase_tx_locktime: 0,
        merkle_path: vec![PATH.into()].try_into().unwrap(),
    })
}

/// What the server made of it. The reserved witness value is the miner's own.
pub(crate) fn custom(on: &ChainTip, extranonce_len: usize) -> CustomJob {
    let (prefix, suffix) = custom_halves(on, extranonce_len, 0x77);
    CustomJob {
        tip: *on,
        version: 0x2000_0000,
        min_ntime: START_S,
        merkle_path: Arc::new([PATH]),
        coinbase_prefix: prefix.into(),
        coinbase_suffix: suffix.into(),
        extranonce_len,
        pool_payout_sat: 0,
        claimable_sat: 0,
        declared: None,
    }
}

pub(crate) fn accepted(channel_id: u32, request_id: u32, job: CustomJob) -> Input<'static> {
    let verdict = CustomJobVerdict::Accepted(Arc::new(job));
    Input::CustomJob { request_id, channel_id, verdict }
}

/// The miner works on its own job, of which it knows all but the number.
pub(crate) fn works_on(miner: &mut Miner, on: &ChainTip, job_id: u32) {
    let (prefix, suffix) = custom_halves(on, miner.prefix.len() + miner.rolled_bytes, 0x77);
    let stripped = validation::CoinbaseParts::parse(&prefix, &suffix).unwrap();
    miner.job = Some(MinerJob {
        job_id,
        version: 0x2000_0000,
        min_ntime: START_S,
        work: MinerWork::Extended {
            prefix: stripped.stripped_prefix().to_vec(),
            suffix: stripped.stripped_suffix().concat(),
            path: vec![PATH],
        },
    });
    miner.prev_hash = Some((on.hash.to_byte_array(), on.next_bits.regular.to_consensus()));
}

pub(crate) fn connected() -> (Rig, Miner) {
    let mut rig = Rig::set_up(settings(), WORK_SELECTION);
    let miner = Miner::opened(&rig.send(&open_extended(1, "alice.jdc", 10)));
    (rig, miner)
}

pub(crate) fn success(answer: &[M]) -> (u32, u32, u32) {
    let [M::SetCustomMiningJobSuccess(success)] = answer else { panic!("{answer:?}") };
    (success.channel_id, success.request_id, success.job_id)
}

fn refusal(answer: &[M]) -> (u32, u32, String) {
    let [M::SetCustomMiningJobError(error)] = answer else { panic!("{answer:?}") };
    (error.channel_id, error.request_id, error.error_code.as_utf8_or_hex())
}

#[test]
fn a_job_is_checked_set_mined_and_a_block_of_it_is_as_declared() {
    let (mut rig, mut miner) = connected();
    let on = tip(1, EASY);
    assert!(rig.input(Input::Tip(on)).is_empty());
    assert!(rig.send(&set(miner.channel_id, 77, &on)).is_empty());
    let Some(Action::CheckCustomJob(request)) = rig.actions.last() else {
        panic!("{:?}", rig.actions)
    };
    assert_eq!((&*request.user_identity, request.channel_ok), ("alice.jdc", true));
    assert_eq!(request.extranonce_len, FULL);
    assert_eq!(request.job.token.as_bytes(), b"token");
    rig.session.handle(accepted(miner.channel_id, 77, custom(&on, FULL)), rig.now);
    let answer = rig.drain();
    assert!(matches!(&answer[..], [(_, true)]), "not before it is durable: {answer:?}");
    let (channel_id, request_id, job_id) = success(&[answer[0].0.clone()]);
    assert_eq!((channel_id, request_id), (miner.channel_id, 77));
    let Some(Action::Negotiated(negotiated)) = rig.actions.last() else { panic!() };
    assert_eq!((&*negotiated.user, negotiated.job_id), ("alice", job_id));
    works_on(&mut miner, &on, job_id);
    let share = miner.mine();
    let header = miner.header(&share);
    assert_eq!(share_code(&rig.send(&miner.message(share.clone()))), None);
    let found = rig.found()[0].clone();
    assert_eq!(found.header, header);
    assert!(matches!(found.source, JobSource::Miner(_)));
    let tx: bitcoin::Transaction = deserialize(&found.coinbase).expect("a transaction");
    // Not a rebuilt one: with the witness that was declared.
    assert_eq!(tx.input[0].witness.to_vec(), [[0x77; 32]]);
    let record = rig.shares()[0];
    assert!(matches!(record.source, Some(JobSource::Miner(_))) && record.error_code.is_none());
}

#[test]
fn refusals_are_passed_on_and_ids_echoed() {
    let (mut rig, miner) = connected();
    let on = tip(1, HARD);
    rig.send(&set(miner.channel_id, 5, &on));
    rig.send(&set(miner.channel_id, 6, &on));
    let verdict = || CustomJobVerdict::Refused {
        error_code: "invalid-merkle-path",
        detail: "two hashes, one expected".into(),
    };
    let channel_id = miner.channel_id;
    let answer = rig.input(Input::CustomJob { request_id: 6, channel_id, verdict: verdict() });
    assert_eq!(refusal(&answer), (channel_id, 6, "invalid-merkle-path".into()));
    success(&rig.input(accepted(channel_id, 5, custom(&on, FULL))));
    // Answers to questions that nobody asked.
    assert!(
        rig.input(Input::CustomJob { request_id: 6, channel_id, verdict: verdict() }).is_empty()
    );
    assert!(rig.input(accepted(9, 5, custom(&on, FULL))).is_empty());
    assert_eq!(rig.close_reason(), None);
}

#[test]
fn the_token_is_looked_at_before_the_channel() {
    let (mut rig, _) = connected();
    rig.send(&set(99, 5, &tip(1, HARD)));
    let Some(Action::CheckCustomJob(request)) = rig.actions.last() else { panic!() };
    assert!(!request.channel_ok);
    // Accepted all the same: there is no channel to set it on.
    let answer = rig.input(accepted(99, 5, custom(&tip(1, HARD), FULL)));
    assert_eq!(refusal(&answer), (99, 5, "invalid-channel-id".into()));
}

#[test]
fn a_tip_that_moves_meanwhile_is_told_as_that() {
    let (mut rig, mut miner) = connected();
    let (old, new) = (tip(1, HARD), tip(2, HARD));
    rig.input(Input::Tip(old));
    rig.send(&set(miner.channel_id, 5, &old));
    let (.., job_id) = success(&rig.input(accepted(miner.channel_id, 5, custom(&old, FULL))));
    works_on(&mut miner, &old, job_id);
    rig.send(&set(miner.channel_id, 6, &old));
    // The pool's work tells of the tip as well.
    assert!(rig.input(Input::Work(work(1, new))).is_empty());
    let answer = rig.input(accepted(miner.channel_id, 6, custom(&old, FULL)));
    assert_eq!(refusal(&answer), (miner.channel_id, 6, "stale-chain-tip".into()));
    // And the job of before is stale at once.
    let share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share))).as_deref(), Some("stale-share"));
}

#[test]
fn a_tip_that_a_job_is_the_first_to_tell_of_is_the_tip() {
    let (mut rig, mut miner) = connected();
    let (old, new) = (tip(1, HARD), tip(2, HARD));
    rig.input(Input::Tip(old));
    rig.send(&set(miner.channel_id, 5, &old));
    let (.., old_job) = success(&rig.input(accepted(miner.channel_id, 5, custom(&old, FULL))));
    rig.send(&set(miner.channel_id, 6, &new));
    let (.., job_id) = success(&rig.input(accepted(miner.channel_id, 6, custom(&new, FULL))));
    // It comes by its own way, too.
    assert!(rig.input(Input::Tip(new)).is_empty());
    works_on(&mut miner, &new, job_id);
    let share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share))), None);
    works_on(&mut miner, &old, old_job);
    let share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share))).as_deref(), Some("stale-share"));
}

#[test]
fn several_jobs_on_a_tip_count_beside_each_other() {
    let (mut rig, mut miner) = connected();
    let on = tip(1, HARD);
    let mut jobs = Vec::new();
    // The same for every miner behind the client, and then the next template.
    for (request_id, min_ntime) in [START_S, START_S, START_S, START_S - 1].into_iter().enumerate()
    {
        let request_id = request_id as u32;
        rig.send(&set(miner.channel_id, request_id, &on));
        let job = CustomJob { min_ntime, ..custom(&on, FULL) };
        let (.., job_id) = success(&rig.input(accepted(miner.channel_id, request_id, job)));
        works_on(&mut miner, &on, job_id);
        jobs.push(job_id);
        // Each under a number of its own, all good.
        let share = miner.mine();
        assert_eq!(share_code(&rig.send(&miner.message(share))), None);
    }
    jobs.dedup();
    assert_eq!(jobs.len(), 4);
    // One proof of work is paid for once, whichever job it names.
    works_on(&mut miner, &on, jobs[0]);
    let mut share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share.clone()))), None);
    share.job_id = jobs[1];
    assert_eq!(share_code(&rig.send(&miner.message(share))).as_deref(), Some("duplicate-share"));
}

#[test]
fn as_many_jobs_as_there_are_miners_and_not_for_ever() {
    let (mut rig, mut miner) = connected();
    let on = tip(1, HARD);
    let mut first = 0;
    for request_id in 0..=CUSTOM_JOBS_PER_CHANNEL_MAX as u32 {
        rig.send(&set(miner.channel_id, request_id, &on));
        rig.actions.clear();
        let job = custom(&on, FULL);
        let (.., job_id) = success(&rig.input(accepted(miner.channel_id, request_id, job)));
        if request_id == 0 {
            first = job_id;
        }
    }
    for (job_id, expected) in [(first, Some("invalid-job-id")), (first + 1, None)] {
        works_on(&mut miner, &on, job_id);
        let share = miner.mine();
        assert_eq!(share_code(&rig.send(&miner.message(share))).as_deref(), expected);
    }
}

/// A job with outputs of 60 kB, another with each number.
fn long(on: &ChainTip, number: u32) -> CustomJob {
    let (prefix, suffix) = custom_halves(on, FULL, 0x77);
    let outputs = [&suffix[..4], &[2], &suffix[5..48], &[0; 8], &[0xfd, 0x60, 0xea], &[0; 60_000]];
    CustomJob {
        min_ntime: START_S - number,
        coinbase_prefix: prefix.into(),
        coinbase_suffix: [&outputs.concat()[..], &suffix[48..]].concat().into(),
        ..custom(on, FULL)
    }
}

#[test]
fn jobs_with_long_coinbases_are_fewer() {
    let (mut rig, mut miner) = connected();
    let on = tip(1, HARD);
    for request_id in 0..200 {
        rig.send(&set(miner.channel_id, request_id, &on));
        rig.actions.clear();
        success(&rig.input(accepted(miner.channel_id, request_id, long(&on, request_id))));
    }
    works_on(&mut miner, &on, 1);
    let share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share))).as_deref(), Some("invalid-job-id"));
    let newest = rig.send(&miner.message(miner.clone().draft()));
    assert_eq!(share_code(&newest).as_deref(), Some("invalid-job-id"));
    works_on(&mut miner, &on, 200);
    let answer = rig.send(&miner.message(miner.clone().draft()));
    assert_ne!(share_code(&answer).as_deref(), Some("invalid-job-id"));
}

/// Who holds much gives it up for the others, and who holds little keeps what it has.
#[test]
fn jobs_of_all_connections_together_are_bounded_and_an_honest_one_is_served() {
    const MAX: usize = 2 << 20;
    const GREEDY: u32 = 8;
    let mut shared = Arc::into_inner(deps(settings())).expect("nobody else has it");
    shared.custom_job_bytes = JobBytes::with_max(MAX);
    let shared = Arc::new(shared);
    let connect = || {
        let mut rig = Rig::new(Arc::clone(&shared));
        rig.send(&setup(WORK_SELECTION));
        let miner = Miner::opened(&rig.send(&open_extended(1, "alice.jdc", 10)));
        (rig, miner)
    };
    let on = tip(1, HARD);
    let set_job = |rig: &mut Rig, miner: &Miner, request_id: u32, job: CustomJob| {
        rig.send(&set(miner.channel_id, request_id, &on));
        rig.actions.clear();
        rig.input(accepted(miner.channel_id, request_id, job))
    };
    let is_good = |rig: &mut Rig, miner: &mut Miner, job_id| {
        works_on(miner, &on, job_id);
        let share = miner.mine();
        share_code(&rig.send(&miner.message(share))).is_none()
    };
    let (mut honest, mut miner) = connect();
    let (.., first) = success(&set_job(&mut honest, &miner, 1, custom(&on, FULL)));
    let mut greedy: Vec<_> = (0..GREEDY).map(|_| connect()).collect();
    for round in 0..20 {
        for (rig, eve) in &mut greedy {
            success(&set_job(rig, eve, round, long(&on, round)));
            assert!(shared.custom_job_bytes.bytes() <= MAX);
        }
    }
    // Those who hold much look at themselves.
    for (rig, _) in &mut greedy {
        rig.later(VARDIFF_INTERVAL);
        rig.input(Input::Tick);
    }
    let (mut other, wide) = connect();
    success(&set_job(&mut other, &wide, 1, long(&on, 0)));
    // With a large job of each there is no room for another one, and still for a usual one.
    let refused = (0..).find_map(|_| {
        let (mut rig, eve) = connect();
        let answer = set_job(&mut rig, &eve, 1, long(&on, 0));
        greedy.push((rig, eve));
        (!matches!(answer[..], [M::SetCustomMiningJobSuccess(_)])).then(|| refusal(&answer).2)
    });
    assert_eq!(refused.as_deref(), Some("stale-chain-tip"));
    let (.., last) = success(&set_job(&mut honest, &miner, 2, custom(&on, FULL)));
    assert!(shared.custom_job_bytes.bytes() <= MAX + CUSTOM_JOB_BYTES_ALLOWED);
    for job_id in [first, last] {
        assert!(is_good(&mut honest, &mut miner, job_id), "job {job_id}");
    }
    drop((greedy, other, honest));
    assert_eq!(shared.custom_job_bytes.bytes(), 0, "held by nobody");
}

#[test]
fn a_job_for_a_group_is_set_on_its_channels() {
    let (mut rig, mut one) = connected();
    let mut two = Miner::opened(&rig.send(&open_extended(2, "alice.other", 10)));
    assert_eq!(one.group_id, two.group_id);
    let on = tip(1, HARD);
    rig.send(&set(one.group_id, 5, &on));
    let Some(Action::CheckCustomJob(request)) = rig.actions.last() else { panic!() };
    assert!(request.channel_ok);
    let (channel_id, _, job_id) = success(&rig.input(accepted(one.group_id, 5, custom(&on, FULL))));
    assert_eq!(channel_id, one.group_id);
    for miner in [&mut one, &mut two] {
        works_on(miner, &on, job_id);
        let share = miner.mine();
        assert_eq!(share_code(&rig.send(&miner.message(share))), None);
    }
}

/// All channels of a group get a job or none, and no number is given twice.
#[test]
fn a_job_that_one_channel_of_a_group_has_no_room_for_is_on_none_of_them() {
    let on = tip(1, HARD);
    let with_room_for = |bytes: usize| {
        let mut shared = Arc::into_inner(deps(settings())).expect("nobody else has it");
        shared.custom_job_bytes = JobBytes::with_max(bytes);
        let shared = Arc::new(shared);
        let mut rig = Rig::new(Arc::clone(&shared));
        rig.send(&setup(WORK_SELECTION));
        let miner = Miner::opened(&rig.send(&open_extended(1, "alice.jdc", 10)));
        (shared, rig, miner)
    };
    let (shared, mut rig, miner) = with_room_for(1 << 30);
    rig.send(&set(miner.channel_id, 1, &on));
    success(&rig.input(accepted(miner.channel_id, 1, long(&on, 0))));
    let one_job = shared.custom_job_bytes.bytes();

    let (shared, mut rig, mut one) = with_room_for(one_job + one_job / 2);
    let two = Miner::opened(&rig.send(&open_extended(2, "alice.other", 10)));
    assert_eq!(one.group_id, two.group_id);
    rig.send(&set(one.group_id, 5, &on));
    let answer = rig.input(accepted(one.group_id, 5, long(&on, 0)));
    assert_eq!(refusal(&answer), (one.group_id, 5, "stale-chain-tip".into()));
    assert_eq!(shared.custom_job_bytes.bytes(), 0, "no channel keeps what was refused");
    rig.send(&set(one.channel_id, 6, &on));
    let (.., first) = success(&rig.input(accepted(one.channel_id, 6, long(&on, 1))));
    rig.send(&set(one.channel_id, 7, &on));
    let (.., second) = success(&rig.input(accepted(one.channel_id, 7, custom(&on, FULL))));
    assert!(first < second);
    works_on(&mut one, &on, second);
    let share = one.mine();
    assert_eq!(share_code(&rig.send(&one.message(share))), None);
}

#[test]
fn what_does_not_fit_the_channel_is_refused_not_set() {
    let (mut rig, miner) = connected();
    let on = tip(1, HARD);
    for job in [
        custom(&on, 20),
        CustomJob { coinbase_prefix: Arc::new([]), ..custom(&on, FULL) },
        CustomJob { coinbase_suffix: Arc::new([1, 2, 3]), ..custom(&on, FULL) },
    ] {
        rig.send(&set(miner.channel_id, 5, &on));
        let answer = rig.input(accepted(miner.channel_id, 5, job));
        assert_eq!(refusal(&answer), (miner.channel_id, 5, "invalid-coinbase-tx".into()));
    }
    assert!(!rig.actions.iter().any(|action| matches!(action, Action::Negotiated(_))));
}

#[test]
fn who_did_not_say_so_sets_no_jobs() {
    let mut rig = Rig::set_up(settings(), 0);
    let miner = Miner::opened(&rig.send(&open_extended(1, "alice", 10)));
    let answer = rig.send(&set(miner.channel_id, 5, &tip(1, HARD)));
    assert_eq!(refusal(&answer), (miner.channel_id, 5, "jd-not-supported".into()));
}

/// With a script that goes on with these bytes before the extranonce.
fn after(on: &ChainTip, extranonce_len: usize, bytes: &[u8]) -> CustomJob {
    let job = custom(on, extranonce_len);
    let mut prefix = job.coinbase_prefix.to_vec();
    // After version, marker, flag, count and outpoint.
    prefix[4 + 2 + 1 + 36] += bytes.len() as u8;
    prefix.extend(bytes);
    CustomJob { coinbase_prefix: prefix.into(), ..job }
}

/// Else it would be one header on two channels: what one rolls is the other's own, and the other way
/// round.
#[test]
fn no_job_has_another_channels_extranonce_in_front_of_its_own() {
    let (mut rig, miner) = connected();
    let on = tip(1, HARD);
    rig.send(&set(miner.channel_id, 1, &on));
    let answer = rig.input(accepted(miner.channel_id, 1, after(&on, FULL, &[7; 8])));
    success(&answer);
    for (request_id, bytes) in [(2, &miner.prefix[..]), (3, &[&[9], &miner.prefix[..4]].concat())] {
        rig.send(&set(miner.channel_id, request_id, &on));
        let job = after(&on, FULL, bytes);
        let answer = rig.input(accepted(miner.channel_id, request_id, job));
        let code = "invalid-coinbase-prefix".to_owned();
        assert_eq!(refusal(&answer), (miner.channel_id, request_id, code));
    }
}
