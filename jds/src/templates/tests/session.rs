//! The session: frames in, messages and actions out.

use jds_wire::message::template::{
    CoinbaseOutputConstraints, RequestTransactionData, SubmitSolution, TemplateClientMessage,
};
use jds_wire::message::{SetupConnection, constants as c};
use jds_wire::{Frame, FrameHeader};

use super::super::session::{Action, Input, TemplateSession};
use super::super::{Built, Room};
use super::*;
use crate::limits::{FIRST_REQUEST_TIMEOUT, SETUP_TIMEOUT, TEMPLATE_REQUESTS_QUEUED_MAX};
use crate::session::{CloseReason, Violation};

struct World {
    templates: Arc<Templates>,
    session: TemplateSession,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let (templates, now) = (templates(), Instant::now());
        let session = TemplateSession::new(Arc::clone(&templates), now);
        Self { templates, session, now }
    }

    /// Set up, with work on this view.
    fn open(view: &Arc<View>) -> Self {
        let mut world = Self::new();
        world.set_up();
        assert_eq!(world.sent(), [c::MESSAGE_TYPE_SETUP_CONNECTION_SUCCESS]);
        world.constrain();
        world.work(view);
        world
    }

    fn frame(&mut self, message: &TemplateClientMessage<'_>) {
        let encoded = message.encode().unwrap();
        let header = FrameHeader {
            extension_type: encoded.extension_type,
            channel_msg: false,
            msg_type: encoded.msg_type,
            payload_bytes: encoded.payload.len(),
        };
        let frame = Frame { header, payload: encoded.payload };
        self.session.handle(Input::Frame(&frame), self.now);
    }

    fn set_up(&mut self) {
        self.frame(&TemplateClientMessage::SetupConnection(SetupConnection {
            protocol: c::SV2_TEMPLATE_DISTRIBUTION_PROTOCOL_DISCRIMINANT,
            min_version: 2,
            max_version: 2,
            flags: 0,
            endpoint_host: b"",
            endpoint_port: 0,
            vendor: b"",
            hardware_version: b"",
            firmware: b"",
            device_id: b"",
        }));
    }

    fn constrain(&mut self) -> Room {
        let none = CoinbaseOutputConstraints { max_additional_size: 0, max_additional_sigops: 0 };
        self.frame(&TemplateClientMessage::CoinbaseOutputConstraints(none));
        match self.session.poll_action() {
            Some(Action::Constrain(room)) => room,
            other => panic!("{other:?}"),
        }
    }

    fn work(&mut self, view: &Arc<View>) -> Arc<Built> {
        super::super::lock(&self.templates.book).open(view, self.now);
        let room = Room { weight_wu: 1_000_000, sigop_cost: 80_000 };
        let built = self.templates.build(view, &room);
        self.session.handle(Input::Work(Arc::clone(&built)), self.now);
        built
    }

    fn request(&mut self, template_id: u64) {
        let request = RequestTransactionData { template_id };
        self.frame(&TemplateClientMessage::RequestTransactionData(request));
    }

    /// Types of all that it has to say.
    fn sent(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.session.next_message(1))
            .map(|message| message.msg_type)
            .collect()
    }

    #[track_caller]
    fn closed(&mut self) -> CloseReason {
        match self.session.poll_action() {
            Some(Action::Close(reason)) => reason,
            other => panic!("expected the end, got {other:?}"),
        }
    }
}

fn on(number: u8, txs: usize) -> Arc<View> {
    let txs = (0..txs as u64).map(|salt| tx(salt, None, 10, None)).collect();
    Arc::new(view(u64::from(number) * 100 + 1, tip(100, number), txs))
}

const NOTHING: [u8; 0] = [];
const TEMPLATE: u8 = c::MESSAGE_TYPE_NEW_TEMPLATE;
const PREV_HASH: u8 = c::MESSAGE_TYPE_SET_NEW_PREV_HASH;

#[test]
fn work_comes_with_its_tip_first_and_alone_from_then_on() {
    let mut world = World::open(&on(1, 0));
    assert_eq!(world.sent(), [TEMPLATE, PREV_HASH]);
    assert_eq!(world.sent(), NOTHING, "once");
    let txs = vec![tx(1, None, 10, None)];
    let better = Arc::new(view(102, tip(100, 1), txs));
    let built = world.work(&better);
    let message = world.session.next_message(1).unwrap();
    assert_eq!(message.msg_type, TEMPLATE);
    assert!(Arc::ptr_eq(&message.payload, &built.message(false)), "shared, not a future one");
    assert_eq!(world.sent(), NOTHING);
    world.work(&on(2, 0));
    assert_eq!(world.sent(), [TEMPLATE, PREV_HASH]);
}

#[test]
fn what_was_not_sent_in_time_is_never_sent() {
    let mut world = World::open(&on(1, 0));
    for number in 2..50 {
        world.work(&on(number, 0));
    }
    let last = world.work(&on(50, 1));
    let message = world.session.next_message(1).unwrap();
    assert!(Arc::ptr_eq(&message.payload, &last.message(true)));
    assert_eq!(world.sent(), [PREV_HASH]);
}

#[test]
fn constraints_again_are_answered_as_the_first() {
    let mut world = World::open(&on(1, 0));
    assert_eq!(world.sent(), [TEMPLATE, PREV_HASH]);
    world.constrain();
    assert_eq!(world.sent(), NOTHING, "nothing of the old room");
    world.work(&on(1, 0));
    assert_eq!(world.sent(), [TEMPLATE, PREV_HASH]);
}

#[test]
fn work_goes_before_transactions_and_no_more_requests_wait_than_may() {
    let mut world = World::open(&on(1, 1));
    let built = world.work(&on(2, 1));
    world.request(built.id());
    world.request(3);
    world.now += Duration::from_secs(1);
    assert_eq!(
        world.sent(),
        [
            TEMPLATE,
            PREV_HASH,
            c::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS,
            c::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_ERROR,
        ]
    );
    for _ in 0..TEMPLATE_REQUESTS_QUEUED_MAX {
        world.request(built.id());
    }
    assert!(world.session.poll_action().is_none());
    world.request(built.id());
    assert_eq!(world.closed(), Violation::RequestsUnread(TEMPLATE_REQUESTS_QUEUED_MAX).into());
    assert_eq!(world.sent(), NOTHING, "nothing after the end");
}

#[test]
fn a_solution_goes_to_the_template_that_it_names() {
    let mut world = World::open(&on(1, 0));
    let built = world.work(&on(2, 1));
    let solution = |template_id| {
        TemplateClientMessage::SubmitSolution(SubmitSolution {
            template_id,
            version: 2,
            header_timestamp: 3,
            header_nonce: 4,
            coinbase_tx: b"coinbase",
        })
    };
    world.frame(&solution(built.id()));
    match world.session.poll_action() {
        Some(Action::Solve(template, solution)) => {
            assert_eq!(template.id(), built.id());
            assert_eq!((solution.version, solution.ntime, solution.nonce), (2, 3, 4));
            assert_eq!(solution.coinbase, b"coinbase");
        }
        other => panic!("{other:?}"),
    }
    world.frame(&solution(12));
    assert!(world.session.poll_action().is_none(), "no template, no answer, no end");
}

#[test]
fn whoever_says_nothing_gives_the_place_to_another() {
    let mut world = World::new();
    assert_eq!(world.session.poll_timeout(), Some(world.now + SETUP_TIMEOUT));
    world.session.handle(Input::Tick, world.now + SETUP_TIMEOUT - Duration::from_millis(1));
    assert!(world.session.poll_action().is_none());
    world.session.handle(Input::Tick, world.now + SETUP_TIMEOUT);
    let expected = Violation::SetupTimeout(SETUP_TIMEOUT.as_millis());
    assert_eq!(world.closed(), expected.into());

    let mut world = World::new();
    world.set_up();
    world.session.handle(Input::Tick, world.now + FIRST_REQUEST_TIMEOUT);
    let expected = Violation::FirstRequestTimeout(FIRST_REQUEST_TIMEOUT.as_millis());
    assert_eq!(world.closed(), expected.into());

    let mut world = World::open(&on(1, 0));
    assert_eq!(world.session.poll_timeout(), None, "a client may listen for ever");
    world.session.handle(Input::Tick, world.now + FIRST_REQUEST_TIMEOUT * 2);
    assert!(world.session.poll_action().is_none());
}
