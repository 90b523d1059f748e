//! How much a peer may send, by what it has shown and by what it sends.

use jds_wire::{
    Admit, FrameHeader, PAYLOAD_BYTES_MAX,
    limits::{
        BEFORE_SETUP_BYTES_MAX, ConnectionState, DECLARE_MINING_JOB_BYTES_MAX,
        FROM_SERVER_BYTES_MAX, FROM_TEMPLATE_SERVER_BYTES_MAX,
        PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX, REQUEST_ID_BYTES, SMALL_MESSAGE_BYTES_MAX,
        admit, admit_from_server, admit_from_template_provider, admit_from_template_server,
    },
    message::constants::{
        EXTENSION_TYPE_EXTENSIONS_NEGOTIATION, MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN,
        MESSAGE_TYPE_DECLARE_MINING_JOB, MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS_SUCCESS,
        MESSAGE_TYPE_PUSH_SOLUTION, MESSAGE_TYPE_REQUEST_EXTENSIONS, MESSAGE_TYPE_SETUP_CONNECTION,
    },
};
use template_distribution_sv2::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS as TRANSACTION_DATA;

const READY: ConnectionState = ConnectionState::Ready { transactions_asked: false };
const ASKED: ConnectionState = ConnectionState::Ready { transactions_asked: true };
const KEEP_ID: Admit = Admit::DiscardKeeping(REQUEST_ID_BYTES);

fn header(extension_type: u16, msg_type: u8, payload_bytes: usize) -> FrameHeader {
    FrameHeader { extension_type, channel_msg: false, msg_type, payload_bytes }
}

#[test]
fn before_set_up_everything_is_small() {
    let limit_bytes = BEFORE_SETUP_BYTES_MAX;
    for msg_type in 0..=u8::MAX {
        let state = ConnectionState::BeforeSetup;
        assert_eq!(admit(state, &header(0, msg_type, limit_bytes)), Admit::Buffer);
        let refused = Admit::Refuse { limit_bytes };
        assert_eq!(admit(state, &header(0, msg_type, limit_bytes + 1)), refused);
    }
}

#[test]
fn a_declaration_is_large_and_beyond_that_still_answered() {
    let declaration = |bytes| header(0, MESSAGE_TYPE_DECLARE_MINING_JOB, bytes);
    for state in [READY, ASKED] {
        assert_eq!(admit(state, &declaration(DECLARE_MINING_JOB_BYTES_MAX)), Admit::Buffer);
        assert_eq!(admit(state, &declaration(DECLARE_MINING_JOB_BYTES_MAX + 1)), KEEP_ID);
    }
}

#[test]
fn messages_of_unknown_extensions_are_ignored_at_any_size() {
    for (extension_type, msg_type) in [(2, MESSAGE_TYPE_DECLARE_MINING_JOB), (0x7fff, 0), (1, 9)] {
        let foreign = |bytes| header(extension_type, msg_type, bytes);
        assert_eq!(admit(READY, &foreign(SMALL_MESSAGE_BYTES_MAX)), Admit::Buffer);
        for bytes in [SMALL_MESSAGE_BYTES_MAX + 1, PAYLOAD_BYTES_MAX] {
            assert_eq!(admit(READY, &foreign(bytes)), Admit::DiscardKeeping(0));
        }
    }
}

#[test]
fn the_fullest_block_fits() {
    // 16,665 transactions, all coinbase halves and excess data at their largest.
    let declaration = 4 + 256 + 4 + 3 * (2 + 65_535) + 2 + 16_665 * 32;
    assert!(declaration <= DECLARE_MINING_JOB_BYTES_MAX, "{declaration}");
    let transactions = 4 + 2 + 16_665 * 3 + 4_000_000;
    assert!(transactions <= PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX, "{transactions}");
    let setup = 1 + 2 + 2 + 4 + 2 + 5 * 256;
    assert!(setup <= BEFORE_SETUP_BYTES_MAX, "{setup}");
}

#[test]
fn transactions_are_taken_from_those_who_were_asked() {
    let transactions = |bytes| header(0, MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS_SUCCESS, bytes);
    let limit = PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX;
    assert_eq!(admit(ASKED, &transactions(limit)), Admit::Buffer);
    assert_eq!(admit(ASKED, &transactions(limit + 1)), KEEP_ID);
    assert_eq!(admit(READY, &transactions(10)), KEEP_ID);
}

#[test]
fn everything_else_is_small() {
    let limit_bytes = SMALL_MESSAGE_BYTES_MAX;
    for msg_type in [
        MESSAGE_TYPE_SETUP_CONNECTION,
        MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN,
        MESSAGE_TYPE_PUSH_SOLUTION,
        0xee,
    ] {
        assert_eq!(admit(READY, &header(0, msg_type, limit_bytes)), Admit::Buffer);
        let refused = Admit::Refuse { limit_bytes };
        assert_eq!(admit(READY, &header(0, msg_type, limit_bytes + 1)), refused);
    }
    let extensions = header(
        EXTENSION_TYPE_EXTENSIONS_NEGOTIATION,
        MESSAGE_TYPE_REQUEST_EXTENSIONS,
        limit_bytes + 1,
    );
    assert_eq!(admit(READY, &extensions), KEEP_ID);
}

#[test]
fn a_server_may_send_its_longest_message() {
    let longest = [7 + 255 + 65_535, 7 + 255 + 65_535, 6 + 2 * 65_535].into_iter().max().unwrap();
    assert_eq!(admit_from_server(&header(0, 0x55, longest)), Admit::Buffer);
    let refused = Admit::Refuse { limit_bytes: FROM_SERVER_BYTES_MAX };
    assert_eq!(admit_from_server(&header(0, 0x55, FROM_SERVER_BYTES_MAX + 1)), refused);
}

#[test]
fn a_template_server_may_send_a_block_and_a_provider_only_when_it_was_asked() {
    let limit_bytes = FROM_TEMPLATE_SERVER_BYTES_MAX;
    let (most, beyond) =
        (header(0, TRANSACTION_DATA, limit_bytes), header(0, TRANSACTION_DATA, limit_bytes + 1));
    // 16,665 transactions with their lengths, and excess data.
    let fullest = 8 + 2 + 65_535 + 2 + 16_665 * 3 + 4_000_000;
    assert!(fullest <= limit_bytes, "{fullest}");
    let refused = Admit::Refuse { limit_bytes };
    assert_eq!(admit_from_template_server(&most), Admit::Buffer);
    assert_eq!(admit_from_template_server(&beyond), refused);
    assert_eq!(admit_from_template_provider(true, &most), Admit::Buffer);
    assert_eq!(admit_from_template_provider(true, &beyond), refused);
    let small = Admit::Refuse { limit_bytes: SMALL_MESSAGE_BYTES_MAX };
    assert_eq!(admit_from_template_provider(false, &most), small);
    let other = header(0, 0x71, FROM_SERVER_BYTES_MAX + 1);
    let refused = Admit::Refuse { limit_bytes: FROM_SERVER_BYTES_MAX };
    assert_eq!(admit_from_template_provider(true, &other), refused, "whatever was asked for");
}
