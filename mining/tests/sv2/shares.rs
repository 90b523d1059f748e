//! What a share is worth, and what the miner is told of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bitcoin::consensus::deserialize;
use jds_wire::message::RequestExtensions;
use jds_wire::message::mining::{
    EXTENSION_TYPE_WORKER, ExtendedShare, MiningClientMessage, MiningServerMessage as M,
    SubmitSharesExtendedOwned,
};
use mining::limits::{
    ACKNOWLEDGE_AFTER, BLOCKS_FOUND_MAX, NTIME_AHEAD_MAX_S, SHARES_SEEN_MAX, VARDIFF_INTERVAL,
};
use mining::{Action, Input, JobSource, Settings};

use crate::support::{
    EASY, HARD, Miner, NoTransactions, Rig, STANDARD_JOBS, START_S, open_extended, open_standard,
    script, settings, share_code, tip, work, work_of,
};

type Change = fn(&mut SubmitSharesExtendedOwned);

fn mining(settings: Settings, bits: u32) -> (Rig, Miner) {
    let mut rig = Rig::set_up(settings, 0);
    rig.input(Input::Work(work(1, tip(1, bits))));
    let miner = Miner::opened(&rig.send(&open_extended(1, "alice.rig", 4)));
    (rig, miner)
}

#[test]
fn all_reasons_to_refuse_a_share() {
    let (mut rig, mut miner) = mining(settings(), HARD);
    let target = miner.target;
    let cases: [(Change, &str); 8] = [
        (|share| share.channel_id = 99, "invalid-channel-id"),
        (|share| share.job_id = 99, "invalid-job-id"),
        (|share| share.extranonce = vec![0; 5].try_into().unwrap(), "bad-extranonce-size"),
        (|share| share.extranonce = vec![].try_into().unwrap(), "bad-extranonce-size"),
        (|share| share.ntime -= 1, "invalid-share"),
        (|share| share.ntime = START_S + NTIME_AHEAD_MAX_S + 1, "invalid-share"),
        (|share| share.version ^= 1, "invalid-non-rollable-version-bit"),
        (|share| share.version ^= 1 << 29, "invalid-non-rollable-version-bit"),
    ];
    for (change, expected) in cases {
        let mut share = miner.draft();
        change(&mut share);
        if share.extranonce.len() == 4 {
            share = miner.roll(share, |hash| hash <= target);
        }
        let number = share.sequence_number;
        let answer = rig.send(&miner.message(share.clone()));
        assert_eq!(share_code(&answer).as_deref(), Some(expected));
        let [M::SubmitSharesError(error)] = &answer[..] else { unreachable!() };
        assert_eq!((error.channel_id, error.sequence_number), (share.channel_id, number));
    }
    let share = miner.draft();
    let share = miner.roll(share, |hash| hash > target);
    assert_eq!(share_code(&rig.send(&miner.message(share))).as_deref(), Some("difficulty-too-low"));
    let share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share.clone()))), None);
    assert_eq!(share_code(&rig.send(&miner.message(share))).as_deref(), Some("duplicate-share"));
    // A channel of the other kind.
    let standard = Miner::opened(&rig.send(&open_standard(2, "alice")));
    let share = miner.draft();
    let stranger = SubmitSharesExtendedOwned { channel_id: standard.channel_id, ..share };
    assert_eq!(
        share_code(&rig.send(&miner.message(stranger))).as_deref(),
        Some("invalid-channel-id")
    );
    assert_eq!(rig.close_reason(), None);
    // What the journal got: all but the shares of no channel, with what is known of them.
    let records: Vec<_> = rig.shares().into_iter().map(|share| share.error_code).collect();
    assert_eq!(records.len(), 10);
    assert_eq!(records[0], Some("invalid-job-id"));
    let unknown = rig.shares()[0];
    assert!(unknown.share_hash.is_none() && unknown.source.is_none());
    let good = rig.shares()[8];
    assert_eq!((&*good.user, &*good.worker, good.error_code), ("alice", "rig", None));
    assert!(matches!(good.source, Some(JobSource::Pool(_))) && good.share_hash.is_some());
    assert!((good.difficulty / target.difficulty_float() - 1.0).abs() < 1e-9);
}

#[test]
fn what_may_be_rolled_is_rolled() {
    let (mut rig, mut miner) = mining(settings(), HARD);
    for bit in 5..29 {
        let share = miner.draft();
        let share = SubmitSharesExtendedOwned {
            version: share.version ^ (1 << bit),
            ntime: START_S + NTIME_AHEAD_MAX_S,
            extranonce: vec![bit; 4].try_into().unwrap(),
            ..share
        };
        let share = miner.roll(share, |hash| hash <= miner.target);
        assert_eq!(share_code(&rig.send(&miner.message(share))), None, "bit {bit}");
    }
}

#[test]
fn a_block_is_found_whatever_is_wrong_with_the_share() {
    let changes: [(Change, &str); 3] = [
        (|share| share.version = 0x7fff_ffff, "invalid-non-rollable-version-bit"),
        (|share| share.ntime = START_S - 10_000, "invalid-share"),
        (|share| share.ntime = START_S + 10_000, "invalid-share"),
    ];
    for (change, expected) in changes {
        let (mut rig, mut miner) = mining(settings(), EASY);
        let mut share = miner.draft();
        change(&mut share);
        let share = miner.roll(share, |hash| hash <= miner.target);
        let header = miner.header(&share);
        assert_eq!(share_code(&rig.send(&miner.message(share))).as_deref(), Some(expected));
        assert_eq!(rig.found().len(), 1, "{expected}");
        assert_eq!(rig.found()[0].header, header);
        // In front of all else.
        assert!(matches!(
            rig.actions[rig.actions.len() - 2..],
            [Action::Found(_), Action::Share(_)]
        ));
    }
}

#[test]
fn so_many_blocks_of_a_channel_are_remembered_and_none_of_those_is_found_twice() {
    let (mut rig, mut miner) = mining(settings(), EASY);
    let mut shares = Vec::new();
    for _ in 0..=BLOCKS_FOUND_MAX {
        let share = miner.mine();
        rig.send(&miner.message(share.clone()));
        shares.push(share);
    }
    let all = shares.len();
    assert_eq!(rig.found().len(), all, "each share is a block");
    for share in &shares[1..] {
        rig.send(&miner.message(share.clone()));
    }
    assert_eq!(rig.found().len(), all, "one that is remembered was found again");
    // The oldest made room. It is handed over once more, to the server, which knows it.
    rig.send(&miner.message(shares[0].clone()));
    assert_eq!(rig.found().len(), all + 1);
}

#[test]
fn the_coinbase_of_a_block_is_whole_and_pays_the_user() {
    for standard in [false, true] {
        let mut rig = Rig::set_up(settings(), 0);
        rig.input(Input::Work(work(1, tip(1, EASY))));
        let open =
            if standard { open_standard(1, "alice.x") } else { open_extended(1, "alice.x", 4) };
        let mut miner = Miner::opened(&rig.send(&open));
        let share = miner.mine();
        let extranonce = [&miner.prefix, share.extranonce.as_bytes()].concat();
        rig.send(&miner.message(share.clone()));
        let found = rig.found()[0].clone();
        let tx: bitcoin::Transaction = deserialize(&found.coinbase).expect("a transaction");
        assert!(tx.is_coinbase());
        assert_eq!(&*found.user, "alice");
        assert_eq!((found.height, u64::from(found.height)), (102, tx_height(&tx)));
        assert_eq!(tx.input[0].witness.to_vec(), [[0; 32]]);
        assert_eq!(tx.output[0].script_pubkey, script("alice"));
        assert_eq!(tx.output[0].value.to_sat(), 5_000_000_001);
        assert_eq!(tx.output.len(), 2);
        let script_sig = tx.input[0].script_sig.as_bytes();
        assert!(script_sig.ends_with(&extranonce));
        assert!(script_sig.windows(10).any(|bytes| bytes == b"Sv2/test//"));
        // The header is the miner's own, and its merkle root is of this coinbase.
        assert_eq!(found.header, miner.header(&share));
        let JobSource::Pool(work) = &found.source else { panic!("{:?}", found.source) };
        assert_eq!(work.number, 1);
    }
}

fn tx_height(coinbase: &bitcoin::Transaction) -> u64 {
    let script = coinbase.input[0].script_sig.as_bytes();
    let len = usize::from(script[0]);
    script[1..=len].iter().rev().fold(0, |height, byte| height << 8 | u64::from(*byte))
}

#[test]
fn a_withdrawn_template_pays_nothing_but_still_makes_blocks() {
    let mut rig = Rig::set_up(settings(), 0);
    let source = Arc::new(NoTransactions::default());
    let mut template = work_of(1, tip(1, EASY));
    template.source = source.clone();
    rig.input(Input::Work(template.into()));
    let mut miner = Miner::opened(&rig.send(&open_extended(1, "alice", 4)));
    source.withdrawn.store(true, Ordering::Relaxed);
    let share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share))).as_deref(), Some("invalid-job-id"));
    assert_eq!(rig.found().len(), 1);
}

#[test]
fn shares_are_acknowledged_in_batches_and_in_time() {
    let (mut rig, mut miner) = mining(Settings { share_batch_size: 3, ..settings() }, HARD);
    let mut send = |rig: &mut Rig| {
        let share = miner.mine();
        let number = share.sequence_number;
        (rig.send(&miner.message(share)), number)
    };
    let count = |answer: &[M]| match answer {
        [] => 0,
        [M::SubmitSharesSuccess(success)] => success.new_submits_accepted_count,
        other => panic!("{other:?}"),
    };
    // The first alone: it tells the miner that all is well.
    let counts: Vec<u32> = (0..7).map(|_| count(&send(&mut rig).0)).collect();
    assert_eq!(counts, [1, 0, 0, 3, 0, 0, 3]);
    // One that no other follows.
    let (answer, number) = send(&mut rig);
    assert!(answer.is_empty());
    rig.later(ACKNOWLEDGE_AFTER);
    assert!(rig.session.poll_timeout().is_some_and(|at| at <= rig.now.instant));
    let answer = rig.input(Input::Tick);
    let success = answer.iter().find_map(|message| match message {
        M::SubmitSharesSuccess(success) => Some(success),
        _ => None,
    });
    let success = success.expect("an acknowledgement");
    assert_eq!((success.new_submits_accepted_count, success.last_sequence_number), (1, number));
    // And one at the end, before the request to come again.
    send(&mut rig);
    let answer = rig.input(Input::Shutdown);
    assert!(
        matches!(&answer[..], [M::SubmitSharesSuccess(_), M::Reconnect(again)] if again.new_port == 0),
        "{answer:?}"
    );
    assert!(matches!(rig.actions.last(), Some(Action::Close(_))));
}

#[test]
fn what_is_acknowledged_waits_for_the_disk_and_errors_do_not() {
    let (mut rig, mut miner) = mining(settings(), HARD);
    let share = miner.mine();
    for durable in [true, false] {
        let frame = crate::support::frame(miner.message(share.clone()).encode().unwrap());
        rig.session.handle(Input::Frame(&frame), rig.now);
        let first = rig.session.poll_action();
        assert!(matches!(first, Some(Action::Share(_))), "{first:?}");
        let messages = rig.drain();
        assert!(matches!(&messages[..], [(_, waits)] if *waits == durable), "{messages:?}");
    }
}

#[test]
fn the_target_follows_the_rate_and_old_jobs_keep_theirs() {
    let (mut rig, mut miner) = mining(settings(), HARD);
    let first = miner.target;
    let mut targets = Vec::new();
    // Far too many shares at once: a harder target without delay.
    for _ in 0..40 {
        let share = miner.mine();
        let answer = rig.send(&miner.message(share));
        for message in &answer {
            match message {
                M::SetTarget(_) => {
                    let mut told = miner.clone();
                    told.hear(&answer);
                    targets.push(told.target);
                }
                // A job for whoever takes the new target at once.
                M::SubmitSharesSuccess(_) | M::NewExtendedMiningJob(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(!targets.is_empty(), "40 shares in no time, where 6 a minute are asked for");
    assert!(targets[0] < first);
    assert!(targets.windows(2).all(|pair| pair[1] < pair[0]));
    // The job came before: its shares count as before.
    let share = miner.mine();
    assert_eq!(share_code(&rig.send(&miner.message(share))), None);
    // The next job is at the new target.
    let (old, new) = (miner.target, *targets.last().expect("a target"));
    miner.hear(&rig.input(Input::Work(work(2, tip(1, HARD)))));
    let share = miner.draft();
    let share = miner.roll(share, |hash| hash > new && hash <= old);
    assert_eq!(share_code(&rig.send(&miner.message(share))).as_deref(), Some("difficulty-too-low"));
    // Silence: step by step down to the floor, and no further.
    let mut easier = Vec::new();
    for _ in 0..200 {
        rig.later(VARDIFF_INTERVAL);
        let messages = rig.input(Input::Tick);
        for message in messages {
            if let M::SetTarget(set) = message {
                easier.push(bitcoin::Target::from_le_bytes(set.maximum_target.to_array()));
            }
        }
    }
    assert_eq!(easier.last(), Some(&first));
    assert!(easier.windows(2).all(|pair| pair[1] > pair[0]));
    // A job from before the target was eased is worth what it takes now.
    let share = miner.draft();
    let share = miner.roll(share, |hash| hash > new && hash <= first);
    assert_eq!(share_code(&rig.send(&miner.message(share))), None);
    let worth = rig.shares().last().expect("a share").difficulty;
    assert!((worth / first.difficulty_float() - 1.0).abs() < 1e-9);
}

#[test]
fn a_steady_miner_is_left_alone() {
    let (mut rig, mut miner) = mining(settings(), HARD);
    let mut changes = 0;
    for _ in 0..120 {
        rig.later(Duration::from_secs(10));
        let share = miner.mine();
        let messages = [rig.send(&miner.message(share)), rig.input(Input::Tick)].concat();
        changes += messages.iter().filter(|message| matches!(message, M::SetTarget(_))).count();
        miner.hear(&messages);
    }
    assert!(changes <= 1, "{changes} changes for a miner that does what is asked");
}

#[test]
fn workers_are_told_apart_where_that_was_agreed() {
    let (mut rig, mut miner) = mining(settings(), HARD);
    let mut worker_of = |rig: &mut Rig, name: Option<&[u8]>| {
        let share = miner.mine();
        let worker = name.map(<[u8]>::to_vec);
        rig.send(&MiningClientMessage::SubmitSharesExtended(ExtendedShare { share, worker }));
        let record = rig.shares().last().map(|share| share.worker.to_string());
        record.expect("a share")
    };
    assert_eq!(worker_of(&mut rig, Some(b"other")), "rig", "nobody agreed to it");
    let request = RequestExtensions { request_id: 1, requested: vec![EXTENSION_TYPE_WORKER] };
    rig.send(&MiningClientMessage::RequestExtensions(request));
    assert_eq!(worker_of(&mut rig, Some(b"other")), "other");
    assert_eq!(worker_of(&mut rig, Some(b"alice.third")), "third");
    assert_eq!(worker_of(&mut rig, Some(b"a\nb")), "a\\nb");
    assert_eq!(worker_of(&mut rig, None), "rig");
    for number in 0..600_u32 {
        assert_eq!(worker_of(&mut rig, Some(number.to_string().as_bytes())), number.to_string());
    }
}

/// What one user's share says is not what another's means by it.
#[test]
fn a_worker_is_named_by_the_user_of_its_channel() {
    let (mut rig, mut alice) = mining(settings(), HARD);
    let mut bob = Miner::opened(&rig.send(&open_extended(2, "bob.rig", 4)));
    let request = RequestExtensions { request_id: 1, requested: vec![EXTENSION_TYPE_WORKER] };
    rig.send(&MiningClientMessage::RequestExtensions(request));
    for _ in 0..2 {
        for (miner, expected) in [(&mut alice, "third"), (&mut bob, "alice.third")] {
            let (share, worker) = (miner.mine(), Some(b"alice.third".to_vec()));
            rig.send(&MiningClientMessage::SubmitSharesExtended(ExtendedShare { share, worker }));
            let shares = rig.shares();
            assert_eq!(shares.last().map(|share| &*share.worker), Some(expected));
        }
    }
}

#[test]
fn a_channel_that_has_used_up_its_memory_gets_another_extranonce() {
    let mut rig = Rig::set_up(Settings { share_batch_size: 1_000, ..settings() }, STANDARD_JOBS);
    rig.input(Input::Work(work(1, tip(1, HARD))));
    let mut miner = Miner::opened(&rig.send(&open_standard(1, "alice")));
    let first = miner.mine();
    rig.send(&miner.message(first.clone()));
    let before = miner.clone();
    let mut draft = SubmitSharesExtendedOwned { nonce: first.nonce, ..miner.draft() };
    for count in 2.. {
        draft.nonce += 1;
        draft = miner.roll(draft, |hash| hash <= before.target);
        let answer = rig.send(&miner.message(draft.clone()));
        miner.hear(&answer);
        let renewed = answer.iter().any(|message| matches!(message, M::SetExtranoncePrefix(_)));
        rig.actions.clear();
        if renewed {
            assert_eq!(count, SHARES_SEEN_MAX + 1);
            let kinds = answer.iter().filter(|message| !matches!(message, M::SetTarget(_)));
            let kinds: Vec<&M> = kinds.collect();
            assert!(
                matches!(
                    &kinds[..],
                    [
                        M::SubmitSharesError(_),
                        M::SubmitSharesSuccess(_),
                        M::SetExtranoncePrefix(_),
                        M::NewMiningJob(_)
                    ]
                ),
                "{kinds:?}"
            );
            break;
        }
    }
    assert_ne!(miner.prefix, before.prefix);
    // What was paid for is not paid for again, under no number.
    assert_eq!(
        share_code(&rig.send(&before.message(first.clone()))).as_deref(),
        Some("stale-share")
    );
    let again = SubmitSharesExtendedOwned { job_id: miner.job().job_id, ..first };
    assert!(share_code(&rig.send(&before.message(again))).is_some());
    let share = miner.draft();
    let share = miner.roll(share, |hash| hash <= miner.target);
    rig.send(&miner.message(share));
    assert_eq!(rig.shares().last().expect("a share").error_code, None);
}
