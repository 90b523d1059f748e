//! Tips, new templates and age: which job is sent to whom, and which counts.

use std::time::Duration;

use bitcoin::CompactTarget;
use bitcoin::hashes::Hash;
use jds_wire::message::mining::{
    MiningClientMessage, MiningServerMessage as M, UpdateChannelOwned,
};
use mining::Input;
use mining::limits::{JOB_AGE_MAX, POOL_JOBS_PER_CHANNEL_MAX, STALE_JOB_KEPT};
use validation::tip::{ChainTip, MinDifficulty, NextBits};

use crate::support::{
    EASY, HARD, Miner, Rig, STANDARD_JOBS, START_S, WORK_SELECTION, block_hash, open_extended,
    open_standard, settings, share_code, tip, work,
};

#[test]
fn one_job_for_a_group_and_one_for_each_header_only_channel() {
    let mut rig = Rig::set_up(settings(), 0);
    let mut one = Miner::opened(&rig.send(&open_extended(1, "alice.1", 4)));
    let mut two = Miner::opened(&rig.send(&open_standard(2, "alice.2")));
    // The first work: a future job and the block, both to the group.
    let messages = rig.input(Input::Work(work(1, tip(1, HARD))));
    let [M::NewExtendedMiningJob(job), M::SetNewPrevHash(new)] = &messages[..] else {
        panic!("{messages:?}")
    };
    assert_eq!((job.channel_id, new.channel_id), (one.group_id, one.group_id));
    assert_eq!(job.min_ntime.clone().into_inner(), None);
    one.hear(&messages);
    two.hear(&messages);
    for miner in [&mut one, &mut two] {
        let share = miner.mine();
        assert_eq!(share_code(&rig.send(&miner.message(share))), None);
    }
    // More on the same block: at once.
    let messages = rig.input(Input::Work(work(2, tip(1, HARD))));
    let [M::NewExtendedMiningJob(job)] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(job.min_ntime.clone().into_inner(), Some(START_S - 60));
    // A block comes: again a future job first.
    let messages = rig.input(Input::Work(work(3, tip(2, HARD))));
    assert!(matches!(&messages[..], [M::NewExtendedMiningJob(_), M::SetNewPrevHash(_)]));

    let mut rig = Rig::set_up(settings(), STANDARD_JOBS);
    let ids = [1, 2].map(|id| Miner::opened(&rig.send(&open_standard(id, "alice"))).channel_id);
    let messages = rig.input(Input::Work(work(1, tip(1, HARD))));
    let to: Vec<(u32, bool)> = messages
        .iter()
        .map(|message| match message {
            M::NewMiningJob(job) => (job.channel_id, true),
            M::SetNewPrevHash(new) => (new.channel_id, false),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(to, [(ids[0], true), (ids[0], false), (ids[1], true), (ids[1], false)]);
}

#[test]
fn numbers_are_as_they_are_hashed() {
    let mut rig = Rig::set_up(settings(), STANDARD_JOBS);
    rig.send(&open_standard(1, "alice"));
    // The block that explorers call 000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f.
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin).header;
    let on_genesis = ChainTip { hash: genesis.block_hash(), ..tip(1, 0x1d00_ffff) };
    let messages = rig.input(Input::Work(work(1, on_genesis)));
    let Some(M::SetNewPrevHash(new)) = messages.last() else { panic!("{messages:?}") };
    let wire = [
        0x6f, 0xe2, 0x8c, 0x0a, 0xb6, 0xf1, 0xb3, 0x72, 0xc1, 0xa6, 0xa2, 0x46, 0xae, 0x63, 0xf7,
        0x4f, 0x93, 0x1e, 0x83, 0x65, 0xe1, 0x5a, 0x08, 0x9c, 0x68, 0xd6, 0x19, 0, 0, 0, 0, 0,
    ];
    assert_eq!(new.prev_hash.to_array(), wire);
    assert_eq!(new.nbits, 0x1d00_ffff);
    // A target is a number, least byte first: difficulty 1 ends in zeros.
    let settings =
        mining::Settings { shares_per_minute: 60.0, min_hashrate: 4_294_967_296.0, ..settings() };
    let target = Miner::opened(&Rig::set_up(settings, 0).send(&open_standard(1, "alice"))).target;
    let bytes = target.to_le_bytes();
    assert_eq!(&bytes[28..], &[0; 4]);
    // 2^256 / (2^32 + 1): 2^224, less a bit.
    assert_eq!(&bytes[20..28], &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn a_new_tip_makes_all_else_stale_with_or_without_work() {
    let mut rig = Rig::set_up(settings(), 0);
    rig.input(Input::Work(work(1, tip(1, HARD))));
    let mut miner = Miner::opened(&rig.send(&open_extended(1, "alice", 4)));
    let late = miner.mine();
    let later = miner.mine();
    assert!(rig.input(Input::Tip(tip(2, HARD))).is_empty());
    assert_eq!(share_code(&rig.send(&miner.message(late))), Some("stale-share".into()));
    // Work that was made before the block came is not given out.
    assert!(rig.input(Input::Work(work(2, tip(1, HARD)))).is_empty());
    let old = miner.clone();
    miner.hear(&rig.input(Input::Work(work(3, tip(2, HARD)))));
    assert_eq!(share_code(&rig.send(&old.message(later))), Some("stale-share".into()));
    let share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share))), None);
    // The chain goes back.
    assert!(rig.input(Input::Tip(tip(1, HARD))).is_empty());
    miner.hear(&rig.input(Input::Work(work(4, tip(1, HARD)))));
    let share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share))), None);
    // Older numbers are older work.
    assert!(rig.input(Input::Work(work(4, tip(1, HARD)))).is_empty());
    assert!(rig.input(Input::Work(work(2, tip(7, HARD)))).is_empty());
}

#[test]
fn work_that_waits_is_given_when_the_chain_goes_back_to_it() {
    let mut rig = Rig::set_up(settings(), 0);
    rig.input(Input::Work(work(1, tip(1, HARD))));
    let mut miner = Miner::opened(&rig.send(&open_extended(1, "alice", 4)));
    let first = miner.job().job_id;
    rig.input(Input::Tip(tip(2, HARD)));
    // Nobody is given what is not on the tip.
    let late = rig.send(&open_extended(2, "alice", 4));
    assert!(matches!(&late[..], [M::OpenExtendedMiningChannelSuccess(_)]), "{late:?}");
    let mut late = Miner::opened(&late);
    let messages = rig.input(Input::Tip(tip(1, HARD)));
    assert!(!messages.is_empty());
    miner.hear(&messages);
    late.hear(&messages);
    let share = late.mine();
    assert_eq!(share_code(&rig.send(&late.message(share))), None);
    assert_ne!(miner.job().job_id, first);
    let share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share))), None);
    // The same where the work came while the other block was the tip.
    rig.input(Input::Tip(tip(2, HARD)));
    assert!(rig.input(Input::Work(work(2, tip(1, HARD)))).is_empty());
    miner.hear(&rig.input(Input::Tip(tip(1, HARD))));
    let share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share))), None);
    assert!(rig.shares().iter().all(|share| share.error_code.is_none()));
}

#[test]
fn a_share_does_not_count_again_after_a_reorganisation() {
    let mut rig = Rig::set_up(settings(), 0);
    rig.input(Input::Work(work(1, tip(1, HARD))));
    let mut miner = Miner::opened(&rig.send(&open_extended(1, "alice", 4)));
    let mut share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share.clone()))), None);
    miner.hear(&rig.input(Input::Work(work(2, tip(2, HARD)))));
    // The same template on the same block under another number.
    let mut again = crate::support::work_of(1, tip(1, HARD));
    again.number = 3;
    miner.hear(&rig.input(Input::Work(again.into())));
    share.job_id = miner.job().job_id;
    assert_eq!(share_code(&rig.send(&miner.message(share))), Some("duplicate-share".into()));
}

#[test]
fn late_shares_on_the_same_block_count_and_jobs_are_bounded() {
    let mut rig = Rig::set_up(settings(), 0);
    rig.input(Input::Work(work(1, tip(1, HARD))));
    let first = Miner::opened(&rig.send(&open_extended(1, "alice", 4)));
    let mut newest = first.clone();
    let mut jobs = vec![first.clone()];
    for number in 2..=POOL_JOBS_PER_CHANNEL_MAX as u64 + 1 {
        newest.hear(&rig.input(Input::Work(work(number, tip(1, HARD)))));
        jobs.push(newest.clone());
    }
    for index in [0, 1, 2, jobs.len() / 2, jobs.len() - 1] {
        let miner = &mut jobs[index];
        miner.sequence = index as u32;
        let share = miner.mine();
        let expected = (index == 0).then(|| "invalid-job-id".to_owned());
        assert_eq!(share_code(&rig.send(&miner.message(share))), expected, "job {index}");
    }
}

#[test]
fn jobs_on_the_tip_outlast_miners_that_come_and_go_behind_a_proxy() {
    let mut rig = Rig::set_up(settings(), 0);
    rig.input(Input::Work(work(1, tip(1, EASY))));
    let mut first = Miner::opened(&rig.send(&open_extended(1, "alice", 4)));
    let mut newest = first.clone();
    for number in 1..=20_u8 {
        let update = MiningClientMessage::UpdateChannel(UpdateChannelOwned {
            channel_id: first.channel_id,
            nominal_hash_rate: 1_000.0 * f32::from(number),
            maximum_target: [0xff; 32].into(),
        });
        let answer = rig.send(&update);
        let [M::SetTarget(_), M::NewExtendedMiningJob(_)] = &answer[..] else {
            panic!("{answer:?}")
        };
        let before = newest.job().clone();
        newest.hear(&answer);
        assert_ne!(newest.job().job_id, before.job_id);
        assert!(newest.job().min_ntime > before.min_ntime, "other work");
    }
    for (blocks, miner) in [(1, &mut first), (2, &mut newest)] {
        let share = miner.mine();
        assert_eq!(share_code(&rig.send(&miner.message(share))), None);
        assert_eq!(rig.found().len(), blocks, "a block on each");
    }
}

#[test]
fn a_block_on_a_stale_job_is_found_while_it_is_kept() {
    let mut rig = Rig::set_up(settings(), 0);
    rig.input(Input::Work(work(1, tip(1, EASY))));
    let mut miner = Miner::opened(&rig.send(&open_extended(1, "alice", 4)));
    let (one, two) = (miner.mine(), miner.mine());
    let header = miner.header(&one);
    let old = miner.clone();
    rig.later(Duration::from_secs(5));
    miner.hear(&rig.input(Input::Work(work(2, tip(2, EASY)))));
    assert_eq!(share_code(&rig.send(&old.message(one.clone()))), Some("stale-share".into()));
    assert_eq!(rig.found().len(), 1);
    assert_eq!(rig.found()[0].header, header);
    assert_eq!(rig.shares()[0].error_code, Some("stale-share"));
    // Not twice.
    assert_eq!(share_code(&rig.send(&old.message(one))), Some("stale-share".into()));
    assert_eq!(rig.found().len(), 1);
    // Not for ever.
    rig.later(STALE_JOB_KEPT);
    rig.input(Input::Work(work(3, tip(2, EASY))));
    assert_eq!(share_code(&rig.send(&old.message(two))), Some("invalid-job-id".into()));
    assert_eq!(rig.found().len(), 1);
}

#[test]
fn jobs_are_given_anew_before_they_are_old() {
    let mut rig = Rig::set_up(settings(), 0);
    rig.input(Input::Work(work(1, tip(1, HARD))));
    let mut miner = Miner::opened(&rig.send(&open_extended(1, "alice", 4)));
    let first = miner.job().clone();
    let ends = rig.now.instant + JOB_AGE_MAX;
    let mut messages = Vec::new();
    while messages.is_empty() {
        let tick = rig.session.poll_timeout().expect("something to wait for");
        assert!(tick <= ends, "nothing came in time");
        let by = tick.saturating_duration_since(rig.now.instant);
        assert!(by > Duration::ZERO);
        rig.later(by);
        messages = rig.input(Input::Tick);
        messages.retain(|message| !matches!(message, M::SetTarget(_)));
    }
    let [M::NewExtendedMiningJob(job)] = &messages[..] else { panic!("{messages:?}") };
    assert_ne!(job.job_id, first.job_id);
    assert_eq!(job.min_ntime.clone().into_inner(), Some(rig.now.unix_s));
    miner.hear(&messages);
    let target = miner.target;
    let share = miner.draft();
    let share = miner.roll(share, |hash| hash <= target);
    assert_eq!(share_code(&rig.send(&miner.message(share))), None);
}

#[test]
fn other_bits_are_told_when_consensus_demands_them() {
    let mut rig = Rig::set_up(settings(), 0);
    let min_difficulty =
        MinDifficulty { after: START_S + 100, bits: CompactTarget::from_consensus(EASY) };
    let regular = CompactTarget::from_consensus(HARD);
    let next_bits = NextBits { regular, min_difficulty: Some(min_difficulty) };
    rig.input(Input::Work(work(1, ChainTip { next_bits, ..tip(1, HARD) })));
    let mut miner = Miner::opened(&rig.send(&open_extended(1, "alice", 4)));
    assert_eq!(miner.prev_hash, Some((block_hash(1).to_byte_array(), HARD)));
    // A share with the time of the exception and the nBits of before makes no block.
    let share = miner.draft();
    let share = mining_sv2::SubmitSharesExtendedOwned { ntime: START_S + 101, ..share };
    let share = miner.roll(share, |hash| hash <= miner.target);
    assert_eq!(share_code(&rig.send(&miner.message(share))), Some("invalid-share".into()));
    let old = miner.clone();
    rig.later(Duration::from_secs(101));
    let messages = rig.input(Input::Tick);
    let told = |m: &&M| matches!(m, M::NewExtendedMiningJob(_) | M::SetNewPrevHash(_));
    let told: Vec<M> = messages.iter().filter(told).cloned().collect();
    assert_eq!(told.len(), 2, "{messages:?}");
    miner.hear(&messages);
    assert_eq!(miner.prev_hash, Some((block_hash(1).to_byte_array(), EASY)));
    assert_eq!(miner.job().min_ntime, START_S + 101);
    let share = miner.draft();
    let easy = bitcoin::Target::from_compact(CompactTarget::from_consensus(EASY));
    let share = miner.roll(share, |hash| hash <= miner.target.min(easy));
    assert_eq!(share_code(&rig.send(&miner.message(share))), None);
    assert_eq!(rig.found().len(), 1);
    // The old job still counts, with times of before.
    let mut old = old;
    let share = old.mine();
    assert_eq!(share_code(&rig.send(&old.message(share))), None);
}

#[test]
fn a_connection_that_chooses_its_work_gets_none() {
    let mut rig = Rig::set_up(settings(), WORK_SELECTION);
    rig.input(Input::Work(work(1, tip(1, HARD))));
    let opened = rig.send(&open_extended(1, "alice", 10));
    assert!(matches!(&opened[..], [M::OpenExtendedMiningChannelSuccess(_)]), "{opened:?}");
    assert!(rig.input(Input::Work(work(2, tip(1, HARD)))).is_empty());
    assert!(rig.input(Input::Work(work(3, tip(2, HARD)))).is_empty());
    assert!(rig.input(Input::Tip(tip(3, HARD))).is_empty());
}

#[test]
fn a_template_that_no_coinbase_fits_makes_no_job_and_no_harm() {
    let mut rig = Rig::set_up(settings(), 0);
    rig.send(&open_extended(1, "alice", 24));
    let mut unusable = crate::support::work_of(1, tip(1, HARD));
    unusable.template.coinbase_prefix = vec![1; 90].try_into().unwrap();
    assert!(rig.input(Input::Work(unusable.into())).is_empty());
    assert_eq!(rig.input(Input::Work(work(2, tip(1, HARD)))).len(), 2);
}
