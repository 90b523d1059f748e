//! Every message against the reference implementation's encoding, and every wrong payload against the
//! error that it deserves.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use binary_sv2::{Seq064K, to_bytes};
use common_messages_sv2 as common;
use extensions_sv2 as extensions;
use jds_wire::{
    ClientMessage, EncodedMessage, FrameHeader, MessageError, ServerMessage,
    message::{
        AllocateMiningJobToken, AllocateMiningJobTokenSuccess, DeclareMiningJob,
        DeclareMiningJobError, DeclareMiningJobSuccess, FLAG_DECLARE_TX_DATA,
        ProvideMissingTransactions, ProvideMissingTransactionsSuccess, PushSolution,
        RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess, SetupConnection,
        SetupConnectionError, SetupConnectionSuccess,
    },
};
use job_declaration_sv2 as jd;
use proptest::{collection::vec, prelude::*};

fn header(encoded: &EncodedMessage) -> FrameHeader {
    FrameHeader {
        extension_type: encoded.extension_type,
        channel_msg: false,
        msg_type: encoded.msg_type,
        payload_bytes: encoded.payload.len(),
    }
}

/// Our encoding is the reference's, and decodes to what was encoded; cut anywhere or prolonged it is
/// an error that says so.
fn same_from_client(
    ours: &ClientMessage<'_>,
    reference: Vec<u8>,
    extension_type: u16,
    msg_type: u8,
) -> Result<(), TestCaseError> {
    let encoded = ours.encode().unwrap();
    prop_assert_eq!((encoded.extension_type, encoded.msg_type), (extension_type, msg_type));
    prop_assert!(encoded.payload == reference, "{ours:?} is encoded differently");
    let header = header(&encoded);
    prop_assert_eq!(&ClientMessage::decode(&header, &reference).unwrap(), ours);
    wrong_lengths(&reference, |payload| ClientMessage::decode(&header, payload).map(|_| ()))
}

fn same_from_server(
    ours: &ServerMessage,
    reference: Vec<u8>,
    extension_type: u16,
    msg_type: u8,
) -> Result<(), TestCaseError> {
    let encoded = ours.encode().unwrap();
    prop_assert_eq!((encoded.extension_type, encoded.msg_type), (extension_type, msg_type));
    prop_assert!(encoded.payload == reference, "{ours:?} is encoded differently");
    let header = header(&encoded);
    prop_assert_eq!(&ServerMessage::decode(&header, &reference).unwrap(), ours);
    wrong_lengths(&reference, |payload| ServerMessage::decode(&header, payload).map(|_| ()))
}

fn wrong_lengths(
    payload: &[u8],
    decode: impl Fn(&[u8]) -> Result<(), MessageError>,
) -> Result<(), TestCaseError> {
    // All cuts of a short payload, about a hundred of a long one.
    for cut in (0..payload.len()).step_by(payload.len() / 100 + 1) {
        let error = decode(&payload[..cut]).unwrap_err();
        prop_assert!(matches!(error, MessageError::Truncated { .. }), "cut at {cut}: {error:?}");
    }
    let prolonged = [payload, &[0]].concat();
    let error = decode(&prolonged).unwrap_err();
    prop_assert!(matches!(error, MessageError::TrailingBytes { extra: 1, .. }), "{error:?}");
    Ok(())
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=max)
}

fn u16s() -> impl Strategy<Value = Vec<u16>> {
    vec(any::<u16>(), 0..300)
}

fn protocol() -> impl Strategy<Value = common::Protocol> {
    prop_oneof![
        Just(common::Protocol::MiningProtocol),
        Just(common::Protocol::JobDeclarationProtocol),
        Just(common::Protocol::TemplateDistributionProtocol),
    ]
}

proptest! {
    #[test]
    fn setup_connection(
        protocol in protocol(),
        versions: (u16, u16),
        flags: u32,
        endpoint_port: u16,
        strings in prop::array::uniform5(bytes(255)),
    ) {
        let [host, vendor, hardware, firmware, device] = &strings;
        let ours = SetupConnection {
            protocol: protocol as u8,
            min_version: versions.0,
            max_version: versions.1,
            flags,
            endpoint_host: host,
            endpoint_port,
            vendor,
            hardware_version: hardware,
            firmware,
            device_id: device,
        };
        prop_assert_eq!(ours.declares_tx_data(), flags & FLAG_DECLARE_TX_DATA != 0);
        let reference = to_bytes(common::SetupConnection {
            protocol,
            min_version: versions.0,
            max_version: versions.1,
            flags,
            endpoint_host: host.as_slice().try_into().unwrap(),
            endpoint_port,
            vendor: vendor.as_slice().try_into().unwrap(),
            hardware_version: hardware.as_slice().try_into().unwrap(),
            firmware: firmware.as_slice().try_into().unwrap(),
            device_id: device.as_slice().try_into().unwrap(),
        });
        let ours = ClientMessage::SetupConnection(ours);
        same_from_client(&ours, reference.unwrap(), 0, common::MESSAGE_TYPE_SETUP_CONNECTION)?;
    }

    #[test]
    fn request_extensions(request_id: u16, requested in u16s()) {
        let reference = to_bytes(extensions::RequestExtensions {
            request_id,
            requested_extensions: Seq064K::new(requested.clone()).unwrap(),
        });
        let ours = ClientMessage::RequestExtensions(RequestExtensions { request_id, requested });
        same_from_client(
            &ours,
            reference.unwrap(),
            extensions::EXTENSION_TYPE_EXTENSIONS_NEGOTIATION,
            extensions::MESSAGE_TYPE_REQUEST_EXTENSIONS,
        )?;
    }

    #[test]
    fn allocate_mining_job_token(user in bytes(255), request_id: u32) {
        let reference = to_bytes(jd::AllocateMiningJobToken {
            user_identifier: user.as_slice().try_into().unwrap(),
            request_id,
        });
        let ours = AllocateMiningJobToken { user_identifier: &user, request_id };
        let ours = ClientMessage::AllocateMiningJobToken(ours);
        let msg_type = jd::MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN;
        same_from_client(&ours, reference.unwrap(), 0, msg_type)?;
    }

    #[test]
    fn declare_mining_job(
        request_id: u32,
        token in bytes(255),
        version: u32,
        halves in prop::array::uniform2(bytes(2_000)),
        wtxids in vec(prop::array::uniform32(any::<u8>()), 0..40),
        excess_data in bytes(100),
    ) {
        let reference = to_bytes(jd::DeclareMiningJob {
            request_id,
            mining_job_token: token.as_slice().try_into().unwrap(),
            version,
            coinbase_tx_prefix: halves[0].as_slice().try_into().unwrap(),
            coinbase_tx_suffix: halves[1].as_slice().try_into().unwrap(),
            wtxid_list: Seq064K::new(wtxids.iter().map(|id| id.into()).collect()).unwrap(),
            excess_data: excess_data.as_slice().try_into().unwrap(),
        });
        let ours = ClientMessage::DeclareMiningJob(DeclareMiningJob {
            request_id,
            mining_job_token: &token,
            version,
            coinbase_tx_prefix: &halves[0],
            coinbase_tx_suffix: &halves[1],
            wtxids: &wtxids,
            excess_data: &excess_data,
        });
        same_from_client(&ours, reference.unwrap(), 0, jd::MESSAGE_TYPE_DECLARE_MINING_JOB)?;
    }

    #[test]
    fn provide_missing_transactions_success(
        request_id: u32,
        transactions in vec(bytes(500), 0..20),
        large in prop::option::of(Just(vec![6; 70_000])),
    ) {
        let transactions: Vec<_> = transactions.into_iter().chain(large).collect();
        let list = transactions.iter().map(|tx| tx.as_slice().try_into().unwrap()).collect();
        let reference = to_bytes(jd::ProvideMissingTransactionsSuccess {
            request_id,
            transaction_list: Seq064K::new(list).unwrap(),
        });
        let transactions = transactions.iter().map(Vec::as_slice).collect();
        let ours = ClientMessage::ProvideMissingTransactionsSuccess(
            ProvideMissingTransactionsSuccess { request_id, transactions },
        );
        let msg_type = jd::MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS_SUCCESS;
        same_from_client(&ours, reference.unwrap(), 0, msg_type)?;
    }

    #[test]
    fn push_solution(
        extranonce in bytes(32),
        prev_hash in prop::array::uniform32(any::<u8>()),
        numbers: (u32, u32, u32, u32),
    ) {
        let (nonce, ntime, nbits, version) = numbers;
        let reference = to_bytes(jd::PushSolution {
            extranonce: extranonce.as_slice().try_into().unwrap(),
            prev_hash: (&prev_hash).into(),
            nonce,
            ntime,
            nbits,
            version,
        });
        let ours = ClientMessage::PushSolution(PushSolution {
            extranonce: &extranonce,
            prev_hash,
            nonce,
            ntime,
            nbits,
            version,
        });
        same_from_client(&ours, reference.unwrap(), 0, jd::MESSAGE_TYPE_PUSH_SOLUTION)?;
    }

    #[test]
    fn setup_connection_answers(used_version: u16, flags: u32, error_code in "\\PC{0,60}") {
        let reference = to_bytes(common::SetupConnectionSuccess { used_version, flags });
        let ours = SetupConnectionSuccess { used_version, flags };
        let ours = ServerMessage::SetupConnectionSuccess(ours);
        let msg_type = common::MESSAGE_TYPE_SETUP_CONNECTION_SUCCESS;
        same_from_server(&ours, reference.unwrap(), 0, msg_type)?;

        let reference = to_bytes(common::SetupConnectionError {
            flags,
            error_code: error_code.as_str().try_into().unwrap(),
        });
        let ours = SetupConnectionError { flags, error_code: error_code.into() };
        let ours = ServerMessage::SetupConnectionError(ours);
        let msg_type = common::MESSAGE_TYPE_SETUP_CONNECTION_ERROR;
        same_from_server(&ours, reference.unwrap(), 0, msg_type)?;
    }

    #[test]
    fn request_extensions_answers(request_id: u16, first in u16s(), second in u16s()) {
        let extension_type = extensions::EXTENSION_TYPE_EXTENSIONS_NEGOTIATION;
        let reference = to_bytes(extensions::RequestExtensionsSuccess {
            request_id,
            supported_extensions: Seq064K::new(first.clone()).unwrap(),
        });
        let ours = RequestExtensionsSuccess { request_id, supported: first.clone() };
        let ours = ServerMessage::RequestExtensionsSuccess(ours);
        let msg_type = extensions::MESSAGE_TYPE_REQUEST_EXTENSIONS_SUCCESS;
        same_from_server(&ours, reference.unwrap(), extension_type, msg_type)?;

        let reference = to_bytes(extensions::RequestExtensionsError {
            request_id,
            unsupported_extensions: Seq064K::new(first.clone()).unwrap(),
            required_extensions: Seq064K::new(second.clone()).unwrap(),
        });
        let ours = RequestExtensionsError { request_id, unsupported: first, required: second };
        let ours = ServerMessage::RequestExtensionsError(ours);
        let msg_type = extensions::MESSAGE_TYPE_REQUEST_EXTENSIONS_ERROR;
        same_from_server(&ours, reference.unwrap(), extension_type, msg_type)?;
    }

    #[test]
    fn allocate_mining_job_token_success(
        request_id: u32,
        token in bytes(255),
        coinbase_outputs in bytes(1_000),
    ) {
        let reference = to_bytes(jd::AllocateMiningJobTokenSuccess {
            request_id,
            mining_job_token: token.as_slice().try_into().unwrap(),
            coinbase_outputs: coinbase_outputs.as_slice().try_into().unwrap(),
        });
        let ours = ServerMessage::AllocateMiningJobTokenSuccess(AllocateMiningJobTokenSuccess {
            request_id,
            mining_job_token: token,
            coinbase_outputs,
        });
        let msg_type = jd::MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN_SUCCESS;
        same_from_server(&ours, reference.unwrap(), 0, msg_type)?;
    }

    #[test]
    fn declare_mining_job_answers(
        request_id: u32,
        token in bytes(255),
        error_code in "\\PC{0,60}",
        error_details in "\\PC{0,300}",
        positions in u16s(),
    ) {
        let reference = to_bytes(jd::DeclareMiningJobSuccess {
            request_id,
            new_mining_job_token: token.as_slice().try_into().unwrap(),
        });
        let ours = DeclareMiningJobSuccess { request_id, new_mining_job_token: token };
        let ours = ServerMessage::DeclareMiningJobSuccess(ours);
        let msg_type = jd::MESSAGE_TYPE_DECLARE_MINING_JOB_SUCCESS;
        same_from_server(&ours, reference.unwrap(), 0, msg_type)?;

        let reference = to_bytes(jd::DeclareMiningJobError {
            request_id,
            error_code: error_code.as_str().try_into().unwrap(),
            error_details: error_details.as_bytes().try_into().unwrap(),
        });
        let error_code = error_code.into();
        let ours = DeclareMiningJobError { request_id, error_code, error_details };
        let ours = ServerMessage::DeclareMiningJobError(ours);
        let msg_type = jd::MESSAGE_TYPE_DECLARE_MINING_JOB_ERROR;
        same_from_server(&ours, reference.unwrap(), 0, msg_type)?;

        let reference = to_bytes(jd::ProvideMissingTransactions {
            request_id,
            unknown_tx_position_list: Seq064K::new(positions.clone()).unwrap(),
        });
        let ours = ProvideMissingTransactions { request_id, unknown_tx_positions: positions };
        let ours = ServerMessage::ProvideMissingTransactions(ours);
        let msg_type = jd::MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS;
        same_from_server(&ours, reference.unwrap(), 0, msg_type)?;
    }

    /// No bytes end the process, and what does decode is what would have been encoded.
    #[test]
    fn any_payload_is_a_message_or_an_error(
        extension_type in 0_u16..3,
        msg_type in prop_oneof![0_u8..6, 0x50_u8..0x62, any::<u8>()],
        payload in bytes(400),
    ) {
        let header = FrameHeader {
            extension_type,
            channel_msg: false,
            msg_type,
            payload_bytes: payload.len(),
        };
        if let Ok(message) = ClientMessage::decode(&header, &payload) {
            // Behind it there may be fields of an extension.
            prop_assert!(payload.starts_with(&message.encode().unwrap().payload));
        }
        if let Ok(message) = ServerMessage::decode(&header, &payload) {
            prop_assert!(message.encode().is_ok());
        }
    }
}

fn decode(extension_type: u16, msg_type: u8, payload: &[u8]) -> Result<String, MessageError> {
    let payload_bytes = payload.len();
    let header = FrameHeader { extension_type, channel_msg: false, msg_type, payload_bytes };
    ClientMessage::decode(&header, payload).map(|message| format!("{message:?}"))
}

#[test]
fn what_is_not_of_this_protocol_is_named() {
    let unknown = MessageError::UnknownType { msg_type: 0x1a };
    assert_eq!(decode(0, 0x1a, b"").unwrap_err(), unknown);
    // A message of the server is none of a client.
    let msg_type = jd::MESSAGE_TYPE_DECLARE_MINING_JOB_SUCCESS;
    assert_eq!(decode(0, msg_type, b"").unwrap_err(), MessageError::UnknownType { msg_type });
    for (extension_type, msg_type) in [(0x0001, 0x01), (0x0002, 0x00), (0x7fff, 0x57)] {
        let unknown = MessageError::UnknownExtension { extension_type, msg_type };
        assert_eq!(decode(extension_type, msg_type, b"").unwrap_err(), unknown);
    }
}

#[test]
fn an_unknown_protocol_number_can_still_be_answered() {
    let mut payload = vec![200];
    payload.extend([2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let text = decode(0, common::MESSAGE_TYPE_SETUP_CONNECTION, &payload);
    assert!(text.unwrap().contains("protocol: 200"));
}

#[test]
fn an_extranonce_of_33_bytes_is_too_long() {
    let payload = [&[33][..], &[0; 33 + 32 + 16]].concat();
    let error = decode(0, jd::MESSAGE_TYPE_PUSH_SOLUTION, &payload).unwrap_err();
    assert_eq!(error.to_string(), "PushSolution.extranonce has 33 bytes, at most 32 are allowed");
}

#[test]
fn fields_of_extensions_are_ignored_and_nothing_else() {
    let message = ClientMessage::PushSolution(PushSolution {
        extranonce: &[7; 20],
        prev_hash: [8; 32],
        nonce: 1,
        ntime: 2,
        nbits: 3,
        version: 4,
    });
    let solution = message.encode().unwrap().payload;
    let msg_type = jd::MESSAGE_TYPE_PUSH_SOLUTION;
    let with = |behind: &[u8]| decode(0, msg_type, &[&solution, behind].concat());
    let little_endian =
        [2, 0, 1, 10, 0, b'W', b'o', b'r', b'k', b'e', b'r', b'_', b'0', b'0', b'1'];
    let big_endian = [0, 2, 1, 0, 10, b'W', b'o', b'r', b'k', b'e', b'r', b'_', b'0', b'0', b'1'];
    for field in [little_endian, big_endian] {
        assert_eq!(with(&field), with(b""));
        assert_eq!(with(&[field, field].concat()), with(b""));
        for cut in 1..field.len() {
            let error = with(&field[..cut]).unwrap_err();
            assert!(matches!(error, MessageError::TrailingBytes { extra, .. } if extra == cut));
        }
    }
    assert_eq!(with(&[2, 0, 1, 0, 0]), with(b""), "a field may be empty");
    for no_field in [&[0; 5][..], &[0; 100], &[0xff; 100], &[2, 0, 1, 0, 0, 0]] {
        let error = with(no_field).unwrap_err();
        assert!(matches!(error, MessageError::TrailingBytes { .. }), "{error:?}");
    }
}

#[test]
fn a_count_without_its_elements_is_truncated() {
    let mut payload = vec![0; 4 + 1 + 4 + 2 + 2];
    payload.extend([0xff, 0xff]);
    let error = decode(0, jd::MESSAGE_TYPE_DECLARE_MINING_JOB, &payload).unwrap_err();
    let text = "DeclareMiningJob.wtxid_list needs 2097120 bytes, 0 are left";
    assert_eq!(error.to_string(), text);
    let payload = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff];
    let msg_type = jd::MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS_SUCCESS;
    let error = decode(0, msg_type, &payload).unwrap_err();
    let text =
        "ProvideMissingTransactions.Success.transaction_list needs 16777215 bytes, 0 are left";
    assert_eq!(error.to_string(), text);
}

#[test]
fn fields_too_long_to_encode_are_named() {
    let token = [0; 256];
    let message = ServerMessage::DeclareMiningJobSuccess(DeclareMiningJobSuccess {
        request_id: 1,
        new_mining_job_token: token.to_vec(),
    });
    let text = "DeclareMiningJob.Success.new_mining_job_token has 256 bytes or elements, at most 255 can be encoded";
    assert_eq!(message.encode().unwrap_err().to_string(), text);
    let positions = vec![0; 65_536];
    let message = ServerMessage::ProvideMissingTransactions(ProvideMissingTransactions {
        request_id: 1,
        unknown_tx_positions: positions,
    });
    assert_eq!(message.encode().unwrap_err().actual, 65_536);
}

#[test]
fn tokens_and_long_lists_stay_out_of_logs() {
    let message = ClientMessage::DeclareMiningJob(DeclareMiningJob {
        request_id: 9,
        mining_job_token: b"secret",
        version: 0x2000_0000,
        coinbase_tx_prefix: &[1; 60],
        coinbase_tx_suffix: &[2; 90],
        wtxids: &[[3; 32]; 4_000],
        excess_data: b"",
    });
    let text = format!("{message:?}");
    assert!(text.len() < 300 && text.contains("<4000 ids>"), "{text}");
    let message = ServerMessage::AllocateMiningJobTokenSuccess(AllocateMiningJobTokenSuccess {
        request_id: 9,
        mining_job_token: b"secret".to_vec(),
        coinbase_outputs: vec![],
    });
    let text = format!("{message:?}");
    assert!(text.contains("mining_job_token: <6 bytes>"), "{text}");
}
