//! The session alone: inputs and a clock go in, actions come out.

mod bounds;
mod declarations;
mod solutions;
mod tokens;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bitcoin::{Network, ScriptBuf};
use jds_wire::message::{
    self, AllocateMiningJobToken, DeclareMiningJob, PushSolution, RequestExtensions,
    SetupConnection,
};
use validation::rejection::{Reason, Rejection};

use super::*;
use crate::jobs::Job;
use crate::jobs::tests::{HEIGHT, accepted, coinbase, tip_below};
use crate::token::TokenError;
use crate::validator::{Declaration, Outcome, draft};

/// What the validator gives a job.
const RECEIPT: &[u8] = b"receipt";

const SPENT_MAX: usize = 1_000;

/// Number of the next connection.
static CONNECTION: AtomicU64 = AtomicU64::new(1);

struct Peer {
    session: Session,
    now: Now,
}

fn deps(full_template: bool, coinbase_only: bool) -> Arc<SessionDeps> {
    let lifetime = Duration::from_secs(3_600);
    let script = ScriptBuf::from_bytes(vec![0x51]);
    Arc::new(SessionDeps {
        mint: TokenMint::new(&[1; 32], lifetime),
        spent: SpentTokens::new(SPENT_MAX, lifetime),
        payout: PayoutTerms::new(
            Network::Regtest,
            config::Payout::Pool { script, min_share_bp: 10_000 },
        ),
        jobs: Arc::default(),
        full_template,
        coinbase_only,
    })
}

impl Peer {
    fn new(deps: Arc<SessionDeps>) -> Self {
        let now = Now { instant: Instant::now(), unix_us: 1_700_000_000_000_000 };
        Self {
            session: Session::new(
                deps,
                Declarer::new(CONNECTION.fetch_add(1, Ordering::Relaxed), "peer"),
                now.instant,
            ),
            now,
        }
    }

    /// Full-template connection that is set up.
    fn ready() -> Self {
        let mut peer = Self::new(deps(true, true));
        peer.set_up(setup());
        peer
    }

    fn says(&mut self, message: &ClientMessage<'_>) -> Vec<Action> {
        let encoded = message.encode().unwrap();
        self.says_raw(encoded.extension_type, encoded.msg_type, encoded.payload)
    }

    fn says_raw(&mut self, extension_type: u16, msg_type: u8, payload: Vec<u8>) -> Vec<Action> {
        let header = FrameHeader {
            extension_type,
            channel_msg: false,
            msg_type,
            payload_bytes: payload.len(),
        };
        let frame = Frame { header, payload };
        self.input(Input::Frame(&frame, Permit::default()))
    }

    fn input(&mut self, input: Input<'_>) -> Vec<Action> {
        self.session.handle(input, self.now);
        std::iter::from_fn(|| self.session.poll_action()).collect()
    }

    fn set_up(&mut self, setup: SetupConnection<'_>) -> Vec<Action> {
        self.says(&ClientMessage::SetupConnection(setup))
    }

    fn allocate(&mut self, user: &str) -> Vec<u8> {
        self.now.unix_us += 1;
        let allocate = AllocateMiningJobToken { user_identifier: user.as_bytes(), request_id: 9 };
        let actions = self.says(&ClientMessage::AllocateMiningJobToken(allocate));
        match actions.first() {
            Some(Action::Send(ServerMessage::AllocateMiningJobTokenSuccess(success))) => {
                assert_eq!(success.request_id, 9);
                success.mining_job_token.clone()
            }
            other => panic!("no token: {other:?}"),
        }
    }

    fn declare(&mut self, request_id: u32, token: &[u8]) -> Vec<Action> {
        let (prefix, suffix) = coinbase(HEIGHT);
        self.says(&ClientMessage::DeclareMiningJob(DeclareMiningJob {
            request_id,
            mining_job_token: token,
            version: 0x2000_0000,
            coinbase_tx_prefix: &prefix,
            coinbase_tx_suffix: &suffix,
            wtxids: &[[1; 32]],
            excess_data: b"",
        }))
    }

    /// Declares a job whose one transaction is then asked for.
    fn declare_unknown(&mut self, request_id: u32) {
        let declaration = self.begin(request_id);
        let outcome = Box::new(Outcome::NeedTxs(draft(declaration, &tip_below(HEIGHT))));
        let actions = self.input(Input::Validated { request_id, outcome });
        assert!(matches!(
            actions[..],
            [Action::Send(ServerMessage::ProvideMissingTransactions(_)), Action::Record(_)]
        ));
    }

    /// Plays the validator for a declaration that is given up.
    fn given_up(&mut self, mut actions: Vec<Action>) -> Vec<Action> {
        let (Some(Action::GiveUp(draft, rejection)), []) = (actions.pop(), &actions[..]) else {
            panic!("not given up");
        };
        let outcome = Box::new(Outcome::Rejected(rejection));
        self.input(Input::Validated { request_id: draft.request_id(), outcome })
    }

    fn push(&mut self, nonce: u32) -> Vec<Action> {
        self.says(&ClientMessage::PushSolution(PushSolution {
            extranonce: &[1, 2],
            prev_hash: [3; 32],
            nonce,
            ntime: 5,
            nbits: 6,
            version: 7,
        }))
    }

    /// A declaration under way; what becomes of it is up to the test.
    fn begin(&mut self, request_id: u32) -> Declaration {
        let token = self.allocate("alice");
        match self.declare(request_id, &token).pop() {
            Some(Action::Validate(declaration)) => *declaration,
            other => panic!("{other:?}"),
        }
    }

    /// The declaration is accepted and kept.
    fn accept(&mut self, declaration: Declaration) -> (Arc<Job>, Vec<Action>) {
        let Declaration { request_id, user, declarer, .. } = declaration;
        let jobs = Arc::clone(&self.session.deps.jobs);
        let job = jobs.create(user, &declarer, accepted(HEIGHT, &[]));
        jobs.keep(&job);
        let outcome = Outcome::Accepted {
            job: Arc::clone(&job),
            receipt: RECEIPT.to_vec(),
            missing: 0,
            checked: None,
        };
        (job, self.input(Input::Validated { request_id, outcome: Box::new(outcome) }))
    }

    fn after(&mut self, time: Duration) -> Vec<Action> {
        self.tick(time, false)
    }

    fn tick(&mut self, time: Duration, receiving: bool) -> Vec<Action> {
        self.now.instant += time;
        self.input(Input::Tick { receiving })
    }
}

fn setup() -> SetupConnection<'static> {
    SetupConnection {
        protocol: c::SV2_JOB_DECLARATION_PROTOCOL_DISCRIMINANT,
        min_version: 2,
        max_version: 2,
        flags: message::FLAG_DECLARE_TX_DATA,
        endpoint_host: b"localhost",
        endpoint_port: 1,
        vendor: b"test",
        hardware_version: b"",
        firmware: b"",
        device_id: b"",
    }
}

fn error_of(actions: &[Action]) -> (u32, String, String) {
    actions
        .iter()
        .find_map(|action| match action {
            Action::Send(ServerMessage::DeclareMiningJobError(error)) => {
                Some((error.request_id, error.error_code.to_string(), error.error_details.clone()))
            }
            _ => None,
        })
        .unwrap_or_else(|| panic!("no error: {actions:?}"))
}

fn token_error(actions: &[Action]) -> String {
    let (_, code, details) = error_of(actions);
    assert_eq!(code, c::ERROR_CODE_DECLARE_MINING_JOB_INVALID_MINING_JOB_TOKEN);
    details
}

fn details(error: TokenError) -> String {
    format!("reason={}", Reason::from(error))
}

fn no_tip() -> Box<Outcome> {
    Box::new(Outcome::Rejected(Rejection::new(Reason::NoTip)))
}

#[test]
fn set_up_answers_success_for_both_modes() {
    for flags in [0, message::FLAG_DECLARE_TX_DATA] {
        let mut peer = Peer::new(deps(true, true));
        let actions = peer.set_up(SetupConnection { flags, ..setup() });
        assert!(matches!(
            actions.first(),
            Some(Action::Send(ServerMessage::SetupConnectionSuccess(success)))
                if success.used_version == 2 && success.flags == 0
        ));
    }
}

#[test]
fn set_up_refuses_with_the_specifications_codes_and_closes() {
    let full = deps(true, false);
    let only_coinbase = deps(false, true);
    let cases = [
        (&full, SetupConnection { protocol: 0, ..setup() }, "unsupported-protocol", 0),
        (&full, SetupConnection { protocol: 77, ..setup() }, "unsupported-protocol", 0),
        (
            &full,
            SetupConnection { min_version: 3, max_version: 9, ..setup() },
            "protocol-version-mismatch",
            0,
        ),
        (
            &full,
            SetupConnection { min_version: 3, max_version: 1, ..setup() },
            "protocol-version-mismatch",
            0,
        ),
        (&full, SetupConnection { flags: 0b101, ..setup() }, "unsupported-feature-flags", 0b100),
        (&full, SetupConnection { flags: 0, ..setup() }, "missing-declare-tx-data-flag", 0),
        (&only_coinbase, setup(), "unsupported-feature-flags", 1),
    ];
    for (deps, setup, code, flags) in cases {
        let mut peer = Peer::new(Arc::clone(deps));
        match &peer.set_up(setup)[..] {
            [
                Action::Send(ServerMessage::SetupConnectionError(error)),
                Action::Close(CloseReason::SetupRefused(reason)),
            ] => assert_eq!((&*error.error_code, error.flags, *reason), (code, flags, code)),
            other => panic!("{code}: {other:?}"),
        }
        assert!(peer.says(&ClientMessage::SetupConnection(self::setup())).is_empty(), "closed");
    }
}

#[test]
fn anything_before_set_up_and_a_second_set_up_close() {
    let mut peer = Peer::new(deps(true, true));
    let allocate = AllocateMiningJobToken { user_identifier: b"a", request_id: 1 };
    let actions = peer.says(&ClientMessage::AllocateMiningJobToken(allocate));
    assert!(matches!(
        actions[..],
        [Action::Close(CloseReason::Violation(Violation::BeforeSetup(0x50)))]
    ));
    let mut peer = Peer::ready();
    let actions = peer.set_up(setup());
    assert!(matches!(actions[..], [Action::Close(CloseReason::Violation(Violation::SecondSetup))]));
}

#[test]
fn silence_closes_in_each_phase_and_work_keeps_open() {
    let mut peer = Peer::new(deps(true, true));
    assert!(peer.after(SETUP_TIMEOUT - Duration::from_millis(1)).is_empty());
    let actions = peer.after(Duration::from_millis(1));
    assert!(matches!(
        actions[..],
        [Action::Close(CloseReason::Violation(Violation::SetupTimeout(_)))]
    ));
    let mut peer = Peer::ready();
    assert_eq!(peer.session.poll_timeout(), Some(peer.now.instant + FIRST_REQUEST_TIMEOUT));
    let actions = peer.after(FIRST_REQUEST_TIMEOUT);
    assert!(matches!(
        actions[..],
        [Action::Close(CloseReason::Violation(Violation::FirstRequestTimeout(_)))]
    ));
    let mut peer = Peer::ready();
    peer.allocate("alice");
    assert_eq!(peer.session.poll_timeout(), None);
    assert!(peer.after(Duration::from_secs(86_400)).is_empty());
}

#[test]
fn extensions_are_refused_politely() {
    let mut peer = Peer::ready();
    let request = RequestExtensions { request_id: 3, requested: vec![2, 5] };
    let actions = peer.says(&ClientMessage::RequestExtensions(request));
    match &actions[..] {
        [Action::Send(ServerMessage::RequestExtensionsError(error))] => {
            assert_eq!((error.request_id, &error.unsupported[..]), (3, &[2, 5][..]));
        }
        other => panic!("{other:?}"),
    }
    let actions = peer.says_raw(0x0777, 1, vec![]);
    assert!(matches!(actions[..], [Action::Record(Record::Ignored(_))]));
}
