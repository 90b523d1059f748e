//! Declarations from their first byte to the answer.

use jds_wire::message::ProvideMissingTransactionsSuccess;

use super::*;
use crate::budget::{ByteBudget, ConnectionBudget};
use crate::limits::{CONNECTION_BYTES_ALLOWED, DECLARATIONS_PENDING_PER_CONNECTION_MAX};

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
