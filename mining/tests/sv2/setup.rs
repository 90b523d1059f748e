//! SetupConnection, its flags both ways, extensions, order.

use std::time::Duration;

use jds_wire::message::mining::{
    EXTENSION_TYPE_WORKER, MiningClientMessage, MiningServerMessage as M,
};
use jds_wire::message::{EncodedMessage, RequestExtensions, SetupConnection, SetupConnectionError};
use mining::limits::{FIRST_CHANNEL_TIMEOUT, SETUP_TIMEOUT};
use mining::{Input, Settings};

use crate::support::{
    HARD, Rig, STANDARD_JOBS, VERSION_ROLLING, WORK_SELECTION, deps, frame, open_extended,
    open_standard, settings, setup, tip, work,
};

fn answer(settings: Settings, flags: u32) -> Result<u32, (String, u32)> {
    let mut rig = Rig::new(deps(settings));
    let answer = rig.send(&setup(flags));
    match &answer[..] {
        [M::SetupConnectionSuccess(success)] => {
            assert_eq!(success.used_version, 2);
            assert_eq!(rig.close_reason(), None);
            Ok(success.flags)
        }
        [M::SetupConnectionError(SetupConnectionError { flags, error_code })] => {
            assert!(rig.close_reason().is_some(), "a refused connection stays open");
            Err((error_code.to_string(), *flags))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn flags_that_can_be_served() {
    const EXTENDED_CHANNELS: u32 = 2;
    assert_eq!(answer(settings(), 0), Ok(0));
    assert_eq!(answer(settings(), STANDARD_JOBS), Ok(0));
    assert_eq!(answer(settings(), STANDARD_JOBS | VERSION_ROLLING), Ok(0));
    // What the reference client asks for.
    assert_eq!(answer(settings(), WORK_SELECTION | VERSION_ROLLING), Ok(EXTENDED_CHANNELS));
}

#[test]
fn flags_that_can_not() {
    let refused = |flags| Err(("unsupported-feature-flags".to_owned(), flags));
    let both = STANDARD_JOBS | WORK_SELECTION;
    assert_eq!(answer(settings(), both | VERSION_ROLLING), refused(both));
    assert_eq!(answer(settings(), VERSION_ROLLING | 0b1010_0000), refused(0b1010_0000));
    let own = Settings { custom_jobs: false, ..settings() };
    assert_eq!(answer(own, WORK_SELECTION | VERSION_ROLLING), refused(WORK_SELECTION));
}

fn refusal(protocol: u8, versions: (u16, u16)) -> String {
    let MiningClientMessage::SetupConnection(setup) = setup(0) else { unreachable!() };
    let (min_version, max_version) = versions;
    let setup = SetupConnection { protocol, min_version, max_version, ..setup };
    let mut rig = Rig::new(deps(settings()));
    let answer = rig.send(&MiningClientMessage::SetupConnection(setup));
    let [M::SetupConnectionError(error)] = &answer[..] else { panic!("{answer:?}") };
    assert!(rig.close_reason().is_some());
    error.error_code.to_string()
}

#[test]
fn another_protocol_or_version() {
    assert_eq!(refusal(1, (2, 2)), "unsupported-protocol");
    assert_eq!(refusal(77, (9, 9)), "unsupported-protocol");
    assert_eq!(refusal(0, (3, 7)), "protocol-version-mismatch");
    assert_eq!(refusal(0, (0, 1)), "protocol-version-mismatch");
    assert_eq!(refusal(0, (7, 2)), "protocol-version-mismatch");
}

#[test]
fn the_order_of_the_beginning() {
    let mut rig = Rig::new(deps(settings()));
    assert!(!rig.session.is_set_up());
    assert!(rig.send(&open_standard(1, "alice")).is_empty());
    assert_eq!(rig.close_reason(), Some("message type 0x10 before SetupConnection"));
    assert_eq!(rig.session.poll_timeout(), None);

    let mut rig = Rig::set_up(settings(), 0);
    assert!(rig.session.is_set_up());
    assert!(rig.send(&setup(0)).is_empty());
    assert_eq!(rig.close_reason(), Some("a second SetupConnection"));
    // A closed session is deaf.
    assert!(rig.send(&open_standard(1, "alice")).is_empty());
    assert!(rig.input(Input::Work(work(1, tip(1, HARD)))).is_empty());
}

#[test]
fn time_runs_out() {
    let mut rig = Rig::new(deps(settings()));
    assert_eq!(rig.session.poll_timeout(), Some(rig.now.instant + SETUP_TIMEOUT));
    rig.later(SETUP_TIMEOUT - Duration::from_millis(1));
    rig.input(Input::Tick);
    assert_eq!(rig.close_reason(), None);
    rig.later(Duration::from_millis(1));
    rig.input(Input::Tick);
    assert_eq!(rig.close_reason(), Some("no SetupConnection within 10000 ms"));

    let mut rig = Rig::set_up(settings(), 0);
    assert_eq!(rig.session.poll_timeout(), Some(rig.now.instant + FIRST_CHANNEL_TIMEOUT));
    rig.later(FIRST_CHANNEL_TIMEOUT);
    rig.input(Input::Tick);
    assert!(rig.close_reason().is_some());

    // A channel is what was waited for.
    let mut rig = Rig::set_up(settings(), 0);
    rig.send(&open_extended(1, "alice", 4));
    rig.later(FIRST_CHANNEL_TIMEOUT);
    rig.input(Input::Tick);
    assert_eq!(rig.close_reason(), None);
}

fn extensions(requested: &[u16]) -> Vec<M> {
    let request = RequestExtensions { request_id: 9, requested: requested.to_vec() };
    Rig::set_up(settings(), 0).send(&MiningClientMessage::RequestExtensions(request))
}

#[test]
fn extensions_are_negotiated() {
    let answer = extensions(&[7, EXTENSION_TYPE_WORKER, 8]);
    let [M::RequestExtensionsSuccess(success)] = &answer[..] else { panic!("{answer:?}") };
    assert_eq!((success.request_id, &success.supported[..]), (9, &[EXTENSION_TYPE_WORKER][..]));
    let answer = extensions(&[7, 8]);
    let [M::RequestExtensionsError(error)] = &answer[..] else { panic!("{answer:?}") };
    assert_eq!((error.request_id, &error.unsupported[..]), (9, &[7, 8][..]));
    assert!(error.required.is_empty());
}

fn raw(extension_type: u16, msg_type: u8, payload: &[u8]) -> Rig {
    let mut rig = Rig::set_up(settings(), 0);
    let payload = payload.to_vec();
    let message = EncodedMessage { extension_type, channel_msg: false, msg_type, payload };
    assert!(rig.input(Input::Frame(&frame(message))).is_empty());
    rig
}

#[test]
fn what_is_no_message() {
    // Of an extension that nobody negotiated: ignored.
    assert_eq!(raw(0x4321, 0x10, b"anything").close_reason(), None);
    // ChannelEndpointChanged, which is for those.
    assert_eq!(raw(0, 0x03, &[1, 0, 0, 0]).close_reason(), None);
    // Of the protocol itself, but the server's, unknown, cut off, or too long.
    assert!(raw(0, 0x1c, &[0; 20]).close_reason().is_some());
    assert!(raw(0, 0xee, &[]).close_reason().is_some());
    assert!(raw(0, 0x1a, &[0; 23]).close_reason().is_some());
    assert!(raw(0, 0x1a, &[0; 25]).close_reason().is_some());
}
