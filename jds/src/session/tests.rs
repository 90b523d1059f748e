//! The session alone: inputs and a clock go in, actions come out.

mod bounds;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bitcoin::{Network, ScriptBuf};
use jds_wire::message::{
    self, AllocateMiningJobToken, DeclareMiningJob, ProvideMissingTransactionsSuccess,
    PushSolution, RequestExtensions, SetupConnection,
};
use validation::rejection::{Reason, Rejection};

use super::*;
use crate::budget::{ByteBudget, ConnectionBudget};
use crate::jobs::Job;
use crate::jobs::tests::{HEIGHT, accepted, coinbase, tip_below};
use crate::limits::{
    CONNECTION_BYTES_ALLOWED, DECLARATIONS_PENDING_PER_CONNECTION_MAX, IDENTITIES_PER_USER_MAX,
    SOLUTION_KEPT, SOLUTIONS_KEPT_PER_CONNECTION_MAX, TOKENS_PER_USER_MAX,
};
use crate::token::{TokenError, UserTag};
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
fn a_token_declares_once() {
    let mut peer = Peer::ready();
    let token = peer.allocate("alice");
    assert!(matches!(peer.declare(1, &token)[..], [Action::Validate(_)]));
    assert_eq!(token_error(&peer.declare(2, &token)), details(TokenError::Spent));
}

#[test]
fn unknown_foreign_and_forged_tokens_are_refused_and_the_connection_lives() {
    let shared = deps(true, true);
    let mut alice = Peer::new(Arc::clone(&shared));
    alice.set_up(setup());
    let of_alice = alice.allocate("alice");
    let mut bob = Peer::new(shared);
    bob.set_up(setup());
    let of_bob = bob.allocate("bob");
    assert_eq!(token_error(&bob.declare(1, &of_alice)), details(TokenError::Foreign));
    assert_eq!(token_error(&bob.declare(2, b"")), details(TokenError::Unknown));
    assert_eq!(token_error(&bob.declare(3, &[0; 66])), details(TokenError::Unknown));
    assert!(matches!(bob.declare(4, &of_bob)[..], [Action::Validate(_)]));
    assert!(matches!(alice.declare(4, &of_alice)[..], [Action::Validate(_)]), "not spent by bob");
}

#[test]
fn a_token_of_a_living_connection_never_expires() {
    let shared = deps(true, true);
    let mut peer = Peer::new(Arc::clone(&shared));
    peer.set_up(setup());
    let (kept, other) = (peer.allocate("alice"), peer.allocate("alice"));
    let mut second = Peer::new(shared);
    second.set_up(setup());
    second.allocate("alice");

    // A clock that is put right, or days of nothing to declare.
    let days_us = 30 * 86_400_000_000;
    (peer.now.unix_us, second.now.unix_us) =
        (peer.now.unix_us + days_us, second.now.unix_us + days_us);
    assert!(matches!(peer.declare(1, &kept)[..], [Action::Validate(_)]));
    assert_eq!(token_error(&peer.declare(2, &kept)), details(TokenError::Expired), "once only");
    assert_eq!(token_error(&second.declare(3, &other)), details(TokenError::Expired), "elsewhere");
}

#[test]
fn a_token_that_a_mining_connection_used_declares_nothing_however_long_ago_that_was() {
    let shared = deps(true, true);
    let mut peer = Peer::new(Arc::clone(&shared));
    peer.set_up(setup());
    let token = peer.allocate("alice");
    let sequence = shared.mint.open(&token).unwrap().sequence;
    assert!(shared.spent.held().take(sequence));
    shared.spent.spend_own(sequence, peer.now.unix_us).unwrap();
    // Spent tokens are forgotten when they would have expired.
    peer.now.unix_us += 30 * 86_400_000_000;
    shared.spent.spend(peer.now.unix_us, peer.now.unix_us).unwrap();
    assert_eq!(token_error(&peer.declare(1, &token)), details(TokenError::Expired));
}

#[test]
fn tokens_are_held_as_long_as_their_connection() {
    let shared = deps(true, true);
    let mut peer = Peer::new(Arc::clone(&shared));
    peer.set_up(setup());
    let tokens = [peer.allocate("alice"), peer.allocate("bob")];
    let sequences = tokens.map(|token| shared.mint.open(&token).unwrap().sequence);
    assert!(sequences.iter().all(|sequence| shared.spent.held().holds(*sequence)));
    drop(peer);
    assert!(!sequences.iter().any(|sequence| shared.spent.held().holds(*sequence)));
}

#[test]
fn a_flood_of_spent_tokens_costs_others_nothing() {
    let shared = deps(true, true);
    let mut alice = Peer::new(Arc::clone(&shared));
    alice.set_up(setup());
    let kept = alice.allocate("alice");
    let now_us = alice.now.unix_us;
    for sequence in 1..=SPENT_MAX as u64 * 3 {
        shared.spent.spend(now_us + sequence, now_us).unwrap();
    }
    assert!(matches!(alice.declare(1, &kept)[..], [Action::Validate(_)]));
}

#[test]
fn a_token_used_on_another_connection_of_the_user_is_spent() {
    let shared = deps(true, true);
    let mut first = Peer::new(Arc::clone(&shared));
    first.set_up(setup());
    let token = first.allocate("alice");
    let mut second = Peer::new(shared);
    second.set_up(setup());
    second.allocate("alice");
    assert!(matches!(second.declare(1, &token)[..], [Action::Validate(_)]));
    assert_eq!(token_error(&first.declare(1, &token)), details(TokenError::Spent));
}

/// A user has one name, whatever worker it is for.
#[test]
fn a_token_is_of_the_user_and_an_earlier_one_of_the_very_identity() {
    let shared = deps(true, true);
    let mut one = Peer::new(Arc::clone(&shared));
    one.set_up(setup());
    let token = one.allocate("alice.rig1");
    // Given out when tokens were for whole identities.
    let earlier = |name: &[u8]| shared.mint.allocate(UserTag::of(name), one.now.unix_us).1;
    let [of_one, of_other] = [&b"alice.rig1"[..], b"alice.rig2"].map(earlier);
    let mut other = Peer::new(Arc::clone(&shared));
    other.set_up(setup());
    other.allocate("alice.rig2");
    let declared = other.declare(1, &token);
    let [Action::Validate(declaration)] = &declared[..] else { panic!("{declared:?}") };
    assert_eq!((&*declaration.user.name, &*declaration.user.worker), ("alice", "rig2"));
    assert_eq!(token_error(&other.declare(2, &of_one)), details(TokenError::Foreign));
    assert!(matches!(other.declare(3, &of_other)[..], [Action::Validate(_)]));
    assert!(matches!(one.declare(1, &of_one)[..], [Action::Validate(_)]));
}

/// Behind one connection: their tokens are one user's, and which worker one is for can not be told.
#[test]
fn several_workers_of_a_user_are_none_and_all_their_earlier_tokens_stay_good() {
    let shared = deps(true, true);
    let mut peer = Peer::new(Arc::clone(&shared));
    peer.set_up(setup());
    let earlier = |number: usize| {
        let name = format!("alice.rig{number}");
        shared.mint.allocate(UserTag::of(name.as_bytes()), 1_700_000_000_000_000).1
    };
    let first = peer.allocate("alice.rig0");
    let declares = |peer: &mut Peer, request_id: u32, token: &[u8], expected: &str| {
        let declared = peer.declare(request_id, token);
        let [Action::Validate(declaration)] = &declared[..] else { panic!("{declared:?}") };
        let user = &declaration.user;
        assert_eq!((&*user.name, &*user.worker), ("alice", expected));
    };
    declares(&mut peer, 1, &first, "rig0");
    peer.allocate("alice.rig0");
    let [again, of_first] = [peer.allocate("alice.rig0"), earlier(0)];
    let other = peer.allocate("alice.rig1");
    for (request_id, token) in (2..).zip([again, other, of_first, earlier(1)]) {
        declares(&mut peer, request_id, &token, "");
    }
    // Within a bound, the most recent ones.
    for number in 2..=IDENTITIES_PER_USER_MAX {
        peer.allocate(&format!("alice.rig{number}"));
    }
    assert_eq!(token_error(&peer.declare(7, &earlier(0))), details(TokenError::Foreign));
    assert!(matches!(peer.declare(8, &earlier(1))[..], [Action::Validate(_)]));
}

#[test]
fn the_oldest_unused_token_makes_room() {
    let mut peer = Peer::ready();
    let tokens: Vec<Vec<u8>> = (0..=TOKENS_PER_USER_MAX).map(|_| peer.allocate("alice")).collect();
    assert_eq!(token_error(&peer.declare(1, &tokens[0])), details(TokenError::Recycled));
    assert!(matches!(peer.declare(2, &tokens[1])[..], [Action::Validate(_)]));
    assert!(matches!(peer.declare(3, tokens.last().unwrap())[..], [Action::Validate(_)]));
}

#[test]
fn used_tokens_do_not_count_towards_the_cap() {
    let mut peer = Peer::ready();
    let first = peer.allocate("alice");
    for request_id in 0..TOKENS_PER_USER_MAX as u32 * 2 {
        let token = peer.allocate("alice");
        assert!(matches!(peer.declare(request_id, &token)[..], [Action::Validate(_)]));
        let outcome = no_tip();
        peer.input(Input::Validated { request_id, outcome });
    }
    assert!(matches!(peer.declare(0, &first)[..], [Action::Validate(_)]));
}

#[test]
fn a_request_id_in_use_is_refused_without_spending_the_token() {
    let mut peer = Peer::ready();
    let (first, second) = (peer.allocate("alice"), peer.allocate("alice"));
    peer.declare(1, &first);
    let (request_id, code, details) = error_of(&peer.declare(1, &second));
    assert_eq!((request_id, &*code, &*details), (1, "invalid-job", "reason=request-id-in-use"));
    assert!(matches!(peer.declare(2, &second)[..], [Action::Validate(_)]));
    peer.input(Input::Validated { request_id: 1, outcome: no_tip() });
    let third = peer.allocate("alice");
    assert!(matches!(peer.declare(1, &third)[..], [Action::Validate(_)]), "free again");
}

#[test]
fn pending_declarations_are_bounded() {
    let mut peer = Peer::ready();
    for request_id in 0..DECLARATIONS_PENDING_PER_CONNECTION_MAX as u32 {
        let token = peer.allocate("alice");
        assert!(matches!(peer.declare(request_id, &token)[..], [Action::Validate(_)]));
    }
    let token = peer.allocate("alice");
    let (_, code, details) = error_of(&peer.declare(99, &token));
    assert_eq!((&*code, &*details), ("invalid-job", "reason=too-many-pending expected=at-most-8"));
}

#[test]
fn a_rejection_reaches_the_peer_with_code_and_details() {
    let mut peer = Peer::ready();
    let token = peer.allocate("alice");
    peer.declare(7, &token);
    let rejection = Rejection::new(Reason::CoinbaseHeight).expected(101).actual(102);
    let expected = (7, rejection.code.as_str().to_owned(), rejection.details());
    let outcome = Box::new(Outcome::Rejected(rejection));
    let actions = peer.input(Input::Validated { request_id: 7, outcome });
    assert_eq!(error_of(&actions), expected);
    assert!(actions.iter().any(|action| matches!(action, Action::Record(Record::Declared(_)))));
}

#[test]
fn without_a_tip_the_answer_is_one_that_clients_retry_on() {
    let mut peer = Peer::ready();
    let token = peer.allocate("alice");
    peer.declare(7, &token);
    let outcome = no_tip();
    let actions = peer.input(Input::Validated { request_id: 7, outcome });
    let stale = c::ERROR_CODE_DECLARE_MINING_JOB_STALE_CHAIN_TIP;
    assert_eq!(error_of(&actions), (7, stale.into(), "reason=no-tip".into()));
}

#[test]
fn a_declaration_on_a_coinbase_only_connection_is_refused() {
    let mut peer = Peer::new(deps(true, true));
    peer.set_up(SetupConnection { flags: 0, ..setup() });
    let token = peer.allocate("alice");
    let (_, code, details) = error_of(&peer.declare(1, &token));
    assert_eq!((&*code, &*details), ("invalid-job", "reason=coinbase-only-connection"));
}

#[test]
fn transactions_that_do_not_come_are_given_up() {
    let mut peer = Peer::ready();
    peer.declare_unknown(7);
    assert_eq!(peer.session.poll_timeout(), Some(peer.now.instant + MISSING_TXS_TIMEOUT));
    assert!(peer.after(MISSING_TXS_TIMEOUT - Duration::from_millis(1)).is_empty());
    let actions = peer.after(Duration::from_millis(1));
    let (request_id, code, details) = error_of(&peer.given_up(actions));
    assert_eq!((request_id, &*code), (7, c::ERROR_CODE_DECLARE_MINING_JOB_MISSING_TXS));
    assert!(details.starts_with("reason=no-answer-in-time"), "{details}");
    assert_eq!(peer.session.poll_timeout(), None);
}

#[test]
fn transactions_that_are_arriving_are_waited_for_but_not_for_ever() {
    let mut peer = Peer::ready();
    peer.declare_unknown(7);
    let mut waited = MISSING_TXS_TIMEOUT;
    assert!(peer.tick(MISSING_TXS_TIMEOUT, true).is_empty(), "the answer is arriving");
    assert_eq!(peer.session.poll_timeout(), Some(peer.now.instant + MISSING_TXS_EXTENSION));
    let actions = loop {
        let next = peer.session.poll_timeout().expect("a time to look again") - peer.now.instant;
        waited += next;
        let actions = peer.tick(next, true);
        if !actions.is_empty() {
            break actions;
        }
        assert!(waited < MISSING_TXS_TIMEOUT * 10, "waits for ever");
    };
    assert_eq!(error_of(&peer.given_up(actions)).0, 7);
    assert_eq!(waited, MISSING_TXS_TIMEOUT + answer_time_max());

    peer.declare_unknown(8);
    peer.tick(MISSING_TXS_TIMEOUT, true);
    let supplied = ProvideMissingTransactionsSuccess { request_id: 8, transactions: vec![b"tx"] };
    let actions = peer.says(&ClientMessage::ProvideMissingTransactionsSuccess(supplied));
    assert!(matches!(actions[..], [Action::Complete(..)]), "{actions:?}");
}

#[tokio::test]
async fn supplied_transactions_are_counted_until_they_are_judged() {
    let mut peer = Peer::ready();
    peer.declare_unknown(7);
    let shared = ByteBudget::new(1024 * 1024);
    let budget = ConnectionBudget::new(shared.clone());
    let permit = budget.take(CONNECTION_BYTES_ALLOWED + 10 * 1024).await;
    let supplied = ProvideMissingTransactionsSuccess { request_id: 7, transactions: vec![b"tx"] };
    let message = ClientMessage::ProvideMissingTransactionsSuccess(supplied).encode().unwrap();
    let header = FrameHeader {
        extension_type: message.extension_type,
        channel_msg: false,
        msg_type: message.msg_type,
        payload_bytes: message.payload.len(),
    };
    let frame = Frame { header, payload: message.payload };
    let actions = peer.input(Input::Frame(&frame, permit));
    assert!(matches!(actions[..], [Action::Complete(..)]), "{actions:?}");
    assert_eq!(shared.free_bytes(), (1024 - 10) * 1024, "held while they wait");
    drop(actions);
    assert_eq!(shared.free_bytes(), 1024 * 1024);
}

#[test]
fn transactions_that_nobody_asked_for_are_ignored() {
    let mut peer = Peer::ready();
    let supplied = ProvideMissingTransactionsSuccess { request_id: 5, transactions: vec![b"tx"] };
    let actions = peer.says(&ClientMessage::ProvideMissingTransactionsSuccess(supplied));
    assert!(matches!(actions[..], [Action::Record(Record::Ignored(_))]));
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

#[test]
fn oversized_and_malformed_declarations_are_answered_by_request_id() {
    let mut peer = Peer::ready();
    let header = FrameHeader {
        extension_type: 0,
        channel_msg: false,
        msg_type: c::MESSAGE_TYPE_DECLARE_MINING_JOB,
        payload_bytes: 2_000_000,
    };
    let actions = peer.input(Input::Oversized(header, &[5, 0, 0, 0]));
    let (request_id, code, details) = error_of(&actions);
    assert_eq!((request_id, &*code), (5, "invalid-job"));
    assert_eq!(details, "reason=declaration-too-large expected=at-most-750000 actual=2000000");

    let actions = peer.says_raw(0, c::MESSAGE_TYPE_DECLARE_MINING_JOB, vec![6, 0, 0, 0, 255, 1]);
    let (request_id, code, details) = error_of(&actions);
    assert_eq!((request_id, &*code), (6, "invalid-job"));
    assert!(details.starts_with("reason=malformed-message"), "{details}");

    let actions = peer.says_raw(0, c::MESSAGE_TYPE_DECLARE_MINING_JOB, vec![6]);
    assert!(matches!(
        actions[..],
        [Action::Close(CloseReason::Violation(Violation::Malformed(_)))]
    ));
}

#[test]
fn a_solution_is_passed_on_at_once_whatever_else_is_pending() {
    let mut peer = Peer::ready();
    let token = peer.allocate("alice");
    peer.declare(1, &token);
    match &peer.push(4)[..] {
        [Action::Solve(solve)] => {
            assert_eq!(solve.solution.prev_hash, [3; 32]);
            assert_eq!(solve.users.len(), 1);
        }
        other => panic!("{other:?}"),
    }
}

/// Nonces and jobs of the solutions to be tried.
fn solves(actions: &[Action]) -> Vec<(u32, Vec<u64>)> {
    let solve = |action: &Action| match action {
        Action::Solve(solve) => {
            Some((solve.solution.nonce, solve.jobs.iter().map(|job| job.number).collect()))
        }
        _ => None,
    };
    actions.iter().filter_map(solve).collect()
}

#[test]
fn a_solution_is_tried_on_the_jobs_of_the_connection_and_of_its_users_elsewhere() {
    let shared = deps(true, true);
    let mut before = Peer::new(Arc::clone(&shared));
    before.set_up(setup());
    let declaration = before.begin(1);
    let (elsewhere, _) = before.accept(declaration);
    drop(before);
    let mut peer = Peer::new(shared);
    peer.set_up(setup());
    let declaration = peer.begin(1);
    let (first, _) = peer.accept(declaration);
    let declaration = peer.begin(1);
    let (second, _) = peer.accept(declaration);
    let all = vec![second.number, first.number, elsewhere.number];
    assert_eq!(solves(&peer.push(4)), [(4, all)]);
}

#[test]
fn a_solution_that_is_faster_than_our_answer_is_tried_on_the_job_once_it_is_accepted() {
    let mut peer = Peer::ready();
    peer.push(1);
    peer.now.instant += Duration::from_millis(1);
    let (declaration, other) = (peer.begin(1), peer.begin(2));
    for nonce in 2..2 + SOLUTIONS_KEPT_PER_CONNECTION_MAX as u32 + 1 {
        assert_eq!(solves(&peer.push(nonce)), [(nonce, vec![])], "at once, and on no job yet");
    }
    peer.now.instant += SOLUTION_KEPT;
    let (job, actions) = peer.accept(declaration);
    let again: Vec<_> = (3..7).map(|nonce| (nonce, vec![job.number])).collect();
    assert_eq!(solves(&actions), again, "the last few that came after the declaration");
    for action in &actions {
        assert!(!matches!(action, Action::Solve(solve) if !solve.users.is_empty()), "no other job");
    }
    peer.now.instant += Duration::from_millis(1);
    let (_, actions) = peer.accept(other);
    assert_eq!(solves(&actions), [], "too long ago");
}

#[test]
fn solutions_are_kept_only_while_a_declaration_has_no_answer() {
    let mut peer = Peer::ready();
    peer.begin(1);
    peer.push(1);
    peer.input(Input::Validated { request_id: 1, outcome: no_tip() });
    let declaration = peer.begin(2);
    let (_, actions) = peer.accept(declaration);
    assert_eq!(solves(&actions), []);
}
