//! Whatever comes in whatever order: no panic, bounded output, and the same each time.

use std::time::{Duration, Instant};

use jds_wire::message::EncodedMessage;
use jds_wire::message::mining::{
    CloseChannelOwned, ExtendedShare, MiningClientMessage, OpenExtendedMiningChannelOwned,
    OpenStandardMiningChannelOwned, SubmitSharesExtendedOwned, SubmitSharesStandardOwned,
    UpdateChannelOwned,
};
use mining::sv2::Session;
use mining::{Action, CustomJobVerdict, Input, Now};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::custom::{accepted, custom, set};
use crate::support::{EASY, START_S, WORK_SELECTION, deps, frame, settings, setup, tip, work};

#[derive(Debug, Clone)]
enum Step {
    Raw { extension_type: u16, msg_type: u8, payload: Vec<u8> },
    Setup(u32),
    OpenStandard(f32, [u8; 32], Vec<u8>),
    OpenExtended(f32, [u8; 32], Vec<u8>, u16),
    Update(u32, f32, [u8; 32]),
    Close(u32),
    Standard { channel_id: u32, job_id: u32, nonce: u32, ntime: u32, version: u32 },
    Extended { channel_id: u32, job_id: u32, nonce: u32, extranonce: Vec<u8>, worker: Vec<u8> },
    Custom { channel_id: u32, request_id: u32 },
    Verdict { channel_id: u32, request_id: u32, on: u32, extranonce_len: usize },
    Refusal { channel_id: u32, request_id: u32 },
    Work(u64, u32),
    Tip(u32),
    Later(u64),
    Tick,
    Shutdown,
}

fn step() -> impl Strategy<Value = Step> {
    // Small numbers, so that they meet.
    let small = || prop_oneof![30 => 0_u32..6, 1 => any::<u32>()];
    let rate = || prop_oneof![8 => 0.0_f32..1e6, 1 => any::<f32>()];
    let target = || prop_oneof![4 => Just([0xff; 32]), 1 => any::<[u8; 32]>(), 1 => Just([0; 32])];
    let name =
        || prop_oneof![Just(b"alice.1".to_vec()), Just(b"bob".to_vec()), vec(any::<u8>(), 0..255)];
    let ntime = prop_oneof![8 => Just(START_S), 1 => any::<u32>()];
    let version = prop_oneof![8 => Just(0x2000_0000), 1 => any::<u32>()];
    // What ends a connection is rare, so that most come far.
    prop_oneof![
        2 => (prop_oneof![Just(0), Just(2), any::<u16>()], prop_oneof![0x0f_u8..0x27, any::<u8>()], vec(any::<u8>(), 0..200))
            .prop_map(|(extension_type, msg_type, payload)| Step::Raw {
                extension_type: extension_type & 0x7fff, msg_type, payload }),
        1 => (0_u32..9).prop_map(Step::Setup),
        48 => (rate(), target(), name()).prop_map(|(r, t, n)| Step::OpenStandard(r, t, n)),
        48 => (rate(), target(), name(), prop_oneof![20 => Just(16_u16), 1 => 0_u16..32, 1 => any::<u16>()])
            .prop_map(|(r, t, n, size)| Step::OpenExtended(r, t, n, size)),
        24 => (small(), rate(), target()).prop_map(|(c, r, t)| Step::Update(c, r, t)),
        1 => small().prop_map(Step::Close),
        96 => (small(), small(), any::<u32>(), ntime, version).prop_map(
            |(channel_id, job_id, nonce, ntime, version)| Step::Standard {
                channel_id, job_id, nonce, ntime, version }),
        96 => (small(), small(), any::<u32>(), prop_oneof![8 => Just(vec![0; 16]), 1 => vec(any::<u8>(), 0..32)], vec(any::<u8>(), 0..32))
            .prop_map(|(channel_id, job_id, nonce, extranonce, worker)| Step::Extended {
                channel_id, job_id, nonce, extranonce, worker }),
        48 => (small(), 0_u32..3)
            .prop_map(|(channel_id, request_id)| Step::Custom { channel_id, request_id }),
        48 => (small(), 0_u32..3, 0_u32..4, prop_oneof![8 => Just(24), 1 => 1_usize..32]).prop_map(
            |(channel_id, request_id, on, extranonce_len)| Step::Verdict {
                channel_id, request_id, on, extranonce_len }),
        12 => (small(), small())
            .prop_map(|(channel_id, request_id)| Step::Refusal { channel_id, request_id }),
        48 => (0_u64..40, 0_u32..3).prop_map(|(number, on)| Step::Work(number, on)),
        8 => (0_u32..3).prop_map(Step::Tip),
        36 => (0_u64..600).prop_map(Step::Later),
        24 => Just(Step::Tick),
    ]
}

fn message(step: &Step) -> Option<MiningClientMessage<'static>> {
    Some(match step.clone() {
        Step::Setup(flags) => setup(flags),
        Step::OpenStandard(nominal_hash_rate, max_target, identity) => {
            MiningClientMessage::OpenStandardMiningChannel(OpenStandardMiningChannelOwned {
                request_id: 1,
                user_identity: identity.try_into().unwrap(),
                nominal_hash_rate,
                max_target: max_target.into(),
            })
        }
        Step::OpenExtended(nominal_hash_rate, max_target, identity, min_extranonce_size) => {
            MiningClientMessage::OpenExtendedMiningChannel(OpenExtendedMiningChannelOwned {
                request_id: 1,
                user_identity: identity.try_into().unwrap(),
                nominal_hash_rate,
                max_target: max_target.into(),
                min_extranonce_size,
            })
        }
        Step::Update(channel_id, nominal_hash_rate, maximum_target) => {
            let maximum_target = maximum_target.into();
            MiningClientMessage::UpdateChannel(UpdateChannelOwned {
                channel_id,
                nominal_hash_rate,
                maximum_target,
            })
        }
        Step::Close(channel_id) => {
            let reason_code = "".try_into().unwrap();
            MiningClientMessage::CloseChannel(CloseChannelOwned { channel_id, reason_code })
        }
        Step::Standard { channel_id, job_id, nonce, ntime, version } => {
            MiningClientMessage::SubmitSharesStandard(SubmitSharesStandardOwned {
                channel_id,
                sequence_number: nonce,
                job_id,
                nonce,
                ntime,
                version,
            })
        }
        Step::Extended { channel_id, job_id, nonce, extranonce, worker } => {
            MiningClientMessage::SubmitSharesExtended(ExtendedShare {
                share: SubmitSharesExtendedOwned {
                    channel_id,
                    sequence_number: nonce,
                    job_id,
                    nonce,
                    ntime: START_S,
                    version: 0x2000_0000,
                    extranonce: extranonce.try_into().unwrap(),
                },
                worker: Some(worker),
            })
        }
        Step::Custom { channel_id, request_id } => set(channel_id, request_id, &tip(1, EASY)),
        _ => return None,
    })
}

/// What came of the steps, as text; how much came of one step at most.
fn run(steps: &[Step], flags: u32, start: Instant) -> (String, usize) {
    let mut now = Now { instant: start, unix_s: START_S };
    let mut session = Session::new(deps(settings()), now);
    let (mut log, mut most) = (String::new(), 0);
    let first = [Step::Setup(flags)];
    for step in first.iter().chain(steps) {
        match step {
            Step::Raw { extension_type, msg_type, payload } => {
                let frame = frame(EncodedMessage {
                    extension_type: *extension_type,
                    channel_msg: false,
                    msg_type: *msg_type,
                    payload: payload.clone(),
                });
                session.handle(Input::Frame(&frame), now);
            }
            Step::Work(number, on) => {
                session.handle(Input::Work(work(*number, tip(*on, EASY))), now)
            }
            Step::Verdict { channel_id, request_id, on, extranonce_len } => {
                let job = custom(&tip(*on, EASY), *extranonce_len);
                session.handle(accepted(*channel_id, *request_id, job), now);
            }
            Step::Refusal { channel_id, request_id } => {
                let verdict = CustomJobVerdict::Refused {
                    error_code: "invalid-nbits",
                    detail: String::new(),
                };
                let (channel_id, request_id) = (*channel_id, *request_id);
                session.handle(Input::CustomJob { request_id, channel_id, verdict }, now);
            }
            Step::Tip(on) => session.handle(Input::Tip(tip(*on, EASY)), now),
            Step::Later(seconds) => {
                now.instant += Duration::from_secs(*seconds);
                now.unix_s += *seconds as u32;
            }
            Step::Tick => session.handle(Input::Tick, now),
            Step::Shutdown => session.handle(Input::Shutdown, now),
            _ => {
                let frame = frame(message(step).expect("a message").encode().unwrap());
                session.handle(Input::Frame(&frame), now);
            }
        }
        let mut count = 0;
        while let Some(action) = session.poll_action() {
            count += 1;
            log += &format!("{action:?}\n");
        }
        most = most.max(count);
        log += &format!("{:?}\n", session.poll_timeout().map(|at| at - start));
    }
    (log, most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn anything_in_any_order(steps in vec(step(), 0..120), flags in 0_u32..8, end in any::<bool>()) {
        let mut steps = steps;
        steps.extend(end.then_some(Step::Shutdown));
        let start = Instant::now();
        let (log, most) = run(&steps, flags, start);
        // Eight channels: for each two messages of a job, a target, an acknowledgement, its end.
        prop_assert!(most <= 8 * 5 + 4, "{most} actions of one step");
        prop_assert_eq!(log, run(&steps, flags, start).0, "not the same twice");
    }
}

#[test]
fn the_steps_get_somewhere() {
    // The property above says little about sessions that never come to mining.
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = [
        ("Found", 0),
        ("Share(", 0),
        ("Opened", 0),
        ("Close(", 0),
        ("stale-share", 0),
        ("Negotiated", 0),
        ("Miner(", 0),
        ("error_code: None", 0),
    ];
    for seed in 0..100 {
        let steps = vec(step(), 60..120).new_tree(&mut runner).expect("steps").current();
        let flags = if seed % 2 == 0 { 0 } else { WORK_SELECTION };
        let (log, _) = run(&steps, flags, Instant::now());
        for (what, count) in &mut seen {
            *count += usize::from(log.contains(*what));
        }
    }
    assert!(seen.iter().all(|(_, count)| *count > 0), "{seen:?}");
}

#[test]
fn unfinished_actions_are_none_after_the_end() {
    let now = Now { instant: Instant::now(), unix_s: START_S };
    let mut session = Session::new(deps(settings()), now);
    session.handle(Input::Shutdown, now);
    assert!(matches!(session.poll_action(), Some(Action::Close(_))));
    assert!(session.poll_action().is_none());
}
