//! Channels and groups: opening, refusing, updating, closing.

use bitcoin::Target;
use jds_wire::message::mining::{
    CloseChannelOwned, MiningClientMessage, MiningServerMessage as M,
    OpenStandardMiningChannelOwned, UpdateChannelOwned,
};
use mining::limits::CUSTOM_CHANNELS_PER_CONNECTION_MAX;
use mining::{Action, Input, Settings};

use crate::support::{
    HARD, Miner, Rig, STANDARD_JOBS, START_S, WORK_SELECTION, open_extended, open_standard,
    settings, tip, work,
};

fn refusal(answer: &[M]) -> (u32, String) {
    let [M::OpenMiningChannelError(error)] = answer else { panic!("{answer:?}") };
    (error.request_id, error.error_code.as_utf8_or_hex())
}

fn opened(rig: &Rig) -> Vec<(u32, String, String, bool)> {
    let opened = rig.actions.iter().filter_map(|action| match action {
        Action::Opened(opened) => Some(opened),
        _ => None,
    });
    let fields =
        opened.map(|o| (o.channel_id, o.user.to_string(), o.worker.to_string(), o.work_selection));
    fields.collect()
}

fn closed(rig: &Rig) -> Vec<u32> {
    let closed = rig.actions.iter().filter_map(|action| match action {
        Action::Closed(closed) => Some(closed.channel_id),
        _ => None,
    });
    closed.collect()
}

#[test]
fn all_reasons_to_open_no_channel() {
    let code = |flags, message: &MiningClientMessage<'_>| {
        let mut rig = Rig::set_up(settings(), flags);
        let answer = refusal(&rig.send(message));
        assert_eq!(rig.close_reason(), None);
        assert!(opened(&rig).is_empty());
        answer
    };
    let known = |code: &str| (5, code.to_owned());
    assert_eq!(
        code(WORK_SELECTION, &open_standard(5, "alice")),
        known("standard-channels-not-supported-for-custom-work")
    );
    assert_eq!(
        code(STANDARD_JOBS, &open_extended(5, "alice", 4)),
        known("extended-channels-not-supported-for-standard-jobs")
    );
    assert_eq!(code(0, &open_extended(5, "alice", 25)), known("min-extranonce-size-too-large"));
    assert_eq!(
        code(0, &open_extended(5, "alice", u16::MAX)),
        known("min-extranonce-size-too-large")
    );
    assert_eq!(code(0, &open_standard(5, "nobody.rig")), known("invalid-user-identity"));
    let open = |nominal_hash_rate, max_target: [u8; 32], identity: Vec<u8>| {
        MiningClientMessage::OpenStandardMiningChannel(OpenStandardMiningChannelOwned {
            request_id: 5,
            user_identity: identity.try_into().unwrap(),
            nominal_hash_rate,
            max_target: max_target.into(),
        })
    };
    let alice = || b"alice".to_vec();
    for rate in [-1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(code(0, &open(rate, [0xff; 32], alice())), known("invalid-nominal-hashrate"));
    }
    assert_eq!(code(0, &open(1.0, [0; 32], alice())), known("max-target-out-of-range"));
    assert_eq!(code(0, &open(1.0, [1; 32], vec![0xff])), known("invalid-user-identity"));
}

#[test]
fn a_connection_has_so_many_channels_and_no_more() {
    let mut rig = Rig::set_up(Settings { channels_per_connection_max: 2, ..settings() }, 0);
    let first = Miner::opened(&rig.send(&open_standard(1, "alice")));
    Miner::opened(&rig.send(&open_extended(2, "alice", 4)));
    let full = (3, "channel-capacity-exhausted".to_owned());
    assert_eq!(refusal(&rig.send(&open_standard(3, "alice"))), full);
    rig.send(&close(first.channel_id));
    Miner::opened(&rig.send(&open_standard(4, "alice")));
}

/// Each of them may hold megabytes of jobs.
#[test]
fn who_chooses_the_work_has_fewer_channels() {
    let roomy = Settings { channels_per_connection_max: 1_000, ..settings() };
    let mut rig = Rig::set_up(roomy, WORK_SELECTION);
    let most = u32::try_from(CUSTOM_CHANNELS_PER_CONNECTION_MAX).unwrap();
    for request_id in 1..=most {
        Miner::opened(&rig.send(&open_extended(request_id, "alice", 10)));
    }
    let full = (most + 1, "channel-capacity-exhausted".to_owned());
    assert_eq!(refusal(&rig.send(&open_extended(most + 1, "alice", 10))), full);
}

#[test]
fn extranonces_are_as_long_as_was_asked_for_and_of_one_channel_only() {
    let mut rig = Rig::set_up(settings(), 0);
    let mut prefixes = Vec::new();
    for (request_id, asked, rolled) in
        [(1, 0, 4), (2, 4, 4), (3, 5, 5), (4, 10, 10), (5, 16, 16), (6, 17, 17), (7, 24, 24)]
    {
        let miner = Miner::opened(&rig.send(&open_extended(request_id, "alice", asked)));
        assert_eq!(miner.rolled_bytes, rolled);
        assert!(miner.prefix.len() + miner.rolled_bytes <= 32);
        prefixes.push(miner.prefix[..8].to_vec());
    }
    let standard = Miner::opened(&rig.send(&open_standard(8, "alice")));
    assert_eq!(standard.prefix.len(), 12);
    prefixes.push(standard.prefix[..8].to_vec());
    // One that was closed is not given out again either.
    rig.send(&close(standard.channel_id));
    prefixes.push(Miner::opened(&rig.send(&open_standard(9, "alice"))).prefix[..8].to_vec());
    let count = prefixes.len();
    prefixes.sort();
    prefixes.dedup();
    assert_eq!(prefixes.len(), count);
}

#[test]
fn groups_are_of_who_is_paid_and_of_length() {
    let mut rig = Rig::set_up(settings(), 0);
    let mut open = |message: &MiningClientMessage<'_>| Miner::opened(&rig.send(message));
    let alice = open(&open_extended(1, "alice.a", 4));
    let alice_standard = open(&open_standard(2, "alice.b"));
    let alice_long = open(&open_extended(3, "alice.c", 20));
    let bob = open(&open_extended(4, "bob", 4));
    assert_eq!(alice.group_id, alice_standard.group_id);
    let groups = [alice.group_id, alice_long.group_id, bob.group_id];
    let channels = [&alice, &alice_standard, &alice_long, &bob].map(|miner| miner.channel_id);
    let mut ids = [&groups[..], &channels[..]].concat();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 7, "groups and channels share numbers");
    assert_eq!(opened(&rig)[1], (alice_standard.channel_id, "alice".into(), "b".into(), false));
}

fn close(channel_id: u32) -> MiningClientMessage<'static> {
    let reason_code = "bye\n".try_into().unwrap();
    MiningClientMessage::CloseChannel(CloseChannelOwned { channel_id, reason_code })
}

#[test]
fn closing_a_channel_a_group_and_what_is_not_there() {
    let mut rig = Rig::set_up(settings(), 0);
    rig.input(Input::Work(work(1, tip(1, HARD))));
    let one = Miner::opened(&rig.send(&open_standard(1, "alice")));
    let two = Miner::opened(&rig.send(&open_standard(2, "alice")));
    let bob = Miner::opened(&rig.send(&open_standard(3, "bob")));
    assert!(rig.send(&close(999)).is_empty());
    assert!(closed(&rig).is_empty());
    assert!(rig.send(&close(one.channel_id)).is_empty());
    assert_eq!(closed(&rig), [one.channel_id]);
    assert!(rig.send(&close(two.group_id)).is_empty());
    assert_eq!(closed(&rig), [one.channel_id, two.channel_id]);
    // Nothing is sent for those any more.
    let jobs = rig.input(Input::Work(work(2, tip(1, HARD))));
    let [M::NewExtendedMiningJob(job)] = &jobs[..] else { panic!("{jobs:?}") };
    assert_eq!(job.channel_id, bob.group_id);
    rig.input(Input::Disconnected);
    assert_eq!(closed(&rig), [one.channel_id, two.channel_id, bob.channel_id]);
    assert_eq!(rig.close_reason(), None);
}

#[test]
fn shares_of_an_open_batch_are_acknowledged_when_their_channel_is_closed() {
    let mut rig = Rig::set_up(Settings { share_batch_size: 10, ..settings() }, 0);
    rig.input(Input::Work(work(1, tip(1, HARD))));
    let mut miner = Miner::opened(&rig.send(&open_standard(1, "alice")));
    for _ in 0..3 {
        let share = miner.mine();
        rig.send(&miner.message(share));
    }
    let answer = rig.send(&close(miner.channel_id));
    let [M::SubmitSharesSuccess(success)] = &answer[..] else { panic!("{answer:?}") };
    assert_eq!(success.new_submits_accepted_count, 2, "the first was acknowledged at once");
    assert_eq!(closed(&rig), [miner.channel_id]);
}

#[test]
fn an_update_moves_the_target_and_says_so() {
    let mut rig = Rig::set_up(settings(), 0);
    let mut miner = Miner::opened(&rig.send(&open_standard(1, "alice")));
    let before = miner.target;
    let update = |channel_id, nominal_hash_rate, maximum_target: Target| {
        MiningClientMessage::UpdateChannel(UpdateChannelOwned {
            channel_id,
            nominal_hash_rate,
            maximum_target: maximum_target.to_le_bytes().into(),
        })
    };
    // Harder at once where the device asks for it.
    let max = Target::from_le_bytes([0x11; 32]);
    let answer = rig.send(&update(miner.channel_id, 1.0, max));
    miner.hear(&answer);
    assert_eq!((answer.len(), miner.target), (1, max));
    // A hundred times the rate, a hundredth of the target, about.
    miner.hear(&rig.send(&update(miner.channel_id, 100.0, Target::MAX_ATTAINABLE_REGTEST)));
    let ratio = before.difficulty_float() / miner.target.difficulty_float();
    assert!((0.009..0.012).contains(&ratio), "{ratio}");
    // A job keeps the target that it came with: there is one for the new target.
    rig.input(Input::Work(work(1, tip(1, HARD))));
    let answer = rig.send(&update(miner.channel_id, 200.0, Target::MAX_ATTAINABLE_REGTEST));
    assert!(matches!(&answer[..], [M::SetTarget(_), M::NewMiningJob(_)]), "{answer:?}");
    // From another time on: miners begin anew with each job.
    let first = START_S - 60;
    miner.hear(&answer);
    let second = miner.job().min_ntime;
    miner.hear(&rig.send(&update(miner.channel_id, 100.0, Target::MAX_ATTAINABLE_REGTEST)));
    let third = miner.job().min_ntime;
    assert!(first < second && second < third && third <= START_S + 7_200);
    rig.send(&update(miner.channel_id, 200.0, Target::MAX_ATTAINABLE_REGTEST));
    // Told again, nothing is new.
    assert!(rig.send(&update(miner.channel_id, 200.0, Target::MAX_ATTAINABLE_REGTEST)).is_empty());
    let code = |answer: &[M]| {
        let [M::UpdateChannelError(error)] = answer else { panic!("{answer:?}") };
        (error.channel_id, error.error_code.as_utf8_or_hex())
    };
    let id = miner.channel_id;
    assert_eq!(code(&rig.send(&update(99, 1.0, max))), (99, "invalid-channel-id".into()));
    assert_eq!(
        code(&rig.send(&update(id, f32::NAN, max))),
        (id, "invalid-nominal-hashrate".into())
    );
    assert_eq!(
        code(&rig.send(&update(id, 1.0, Target::ZERO))),
        (id, "max-target-out-of-range".into())
    );
    let told: Vec<_> = rig
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Opened(opened) => Some((Some(opened.channel_id), opened.target)),
            Action::Target(told) => Some((told.channel_id, Some(told.target))),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 6, "at first, and when it changed: {told:?}");
    assert!(told.iter().all(|(channel_id, _)| *channel_id == Some(id)));
    assert_eq!(told.first(), Some(&(Some(id), Some(before))));
    assert_eq!(told.get(1), Some(&(Some(id), Some(Target::from_le_bytes([0x11; 32])))));
}

#[test]
fn a_rate_of_nothing_is_the_floor_and_the_device_may_ask_for_less() {
    let floor = Settings { min_hashrate: 1e12, ..settings() };
    let open = |nominal_hash_rate, max_target| {
        let mut rig = Rig::set_up(floor.clone(), 0);
        let message =
            MiningClientMessage::OpenStandardMiningChannel(OpenStandardMiningChannelOwned {
                request_id: 1,
                user_identity: "alice".try_into().unwrap(),
                nominal_hash_rate,
                max_target,
            });
        Miner::opened(&rig.send(&message)).target
    };
    // 10^12 hashes in each of ten seconds.
    let easiest = open(0.0, [0xff; 32].into());
    let expected = 1e13 / 4_294_967_296.0;
    assert!((easiest.difficulty_float() / expected - 1.0).abs() < 0.01);
    assert_eq!(open(1.0, [0xff; 32].into()), easiest);
    assert!(open(1e14, [0xff; 32].into()) < easiest);
    let hard = [[0xff; 20], [0; 20]].concat()[..32].to_vec();
    let hard: [u8; 32] = hard.try_into().unwrap();
    assert_eq!(open(0.0, hard.into()), Target::from_le_bytes(hard).min(easiest));
}
