//! Every message of template distribution against the reference implementation's encoding, and cut
//! or prolonged ones against the error that they deserve.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use binary_sv2::{Seq064K, Seq0255, to_bytes};
use jds_wire::{
    Admit, FrameHeader, MessageError,
    limits::{SUBMIT_SOLUTION_BYTES_MAX, admit_for_templates},
    message::{
        EncodeError,
        template::{
            CoinbaseOutputConstraints, NewTemplate, RequestTransactionData,
            RequestTransactionDataError, RequestTransactionDataSuccess, SetNewPrevHash,
            SubmitSolution, TemplateClientMessage, TemplateServerMessage,
        },
    },
};
use proptest::{collection::vec, prelude::*};
use template_distribution_sv2 as td;

fn header(msg_type: u8, payload: &[u8]) -> FrameHeader {
    FrameHeader { extension_type: 0, channel_msg: false, msg_type, payload_bytes: payload.len() }
}

fn same_from_client(
    ours: &TemplateClientMessage<'_>,
    reference: Vec<u8>,
    msg_type: u8,
) -> Result<(), TestCaseError> {
    let encoded = ours.encode().unwrap();
    prop_assert_eq!((encoded.extension_type, encoded.msg_type), (0, msg_type));
    prop_assert!(encoded.payload == reference, "{ours:?} is encoded differently");
    let header = header(msg_type, &reference);
    prop_assert_eq!(&TemplateClientMessage::decode(&header, &reference).unwrap(), ours);
    wrong_lengths(&reference, |payload| TemplateClientMessage::decode(&header, payload).map(drop))
}

fn same_from_server(
    ours: &TemplateServerMessage<'_>,
    reference: Vec<u8>,
    msg_type: u8,
) -> Result<(), TestCaseError> {
    let encoded = ours.encode().unwrap();
    prop_assert_eq!((encoded.extension_type, encoded.msg_type), (0, msg_type));
    prop_assert!(encoded.payload == reference, "{ours:?} is encoded differently");
    let header = header(msg_type, &reference);
    prop_assert_eq!(&TemplateServerMessage::decode(&header, &reference).unwrap(), ours);
    wrong_lengths(&reference, |payload| TemplateServerMessage::decode(&header, payload).map(drop))
}

fn wrong_lengths(
    payload: &[u8],
    decode: impl Fn(&[u8]) -> Result<(), MessageError>,
) -> Result<(), TestCaseError> {
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

proptest! {
    #[test]
    fn from_clients(
        size: u32, sigops: u16, template_id: u64, words: [u32; 3], coinbase in bytes(65_535),
    ) {
        let ours = CoinbaseOutputConstraints {
            max_additional_size: size,
            max_additional_sigops: sigops,
        };
        let reference = to_bytes(td::CoinbaseOutputConstraints {
            coinbase_output_max_additional_size: size,
            coinbase_output_max_additional_sigops: sigops,
        }).unwrap();
        let msg_type = td::MESSAGE_TYPE_COINBASE_OUTPUT_CONSTRAINTS;
        let ours = TemplateClientMessage::CoinbaseOutputConstraints(ours);
        same_from_client(&ours, reference, msg_type)?;

        let reference = to_bytes(td::RequestTransactionData { template_id }).unwrap();
        let ours = RequestTransactionData { template_id };
        let ours = TemplateClientMessage::RequestTransactionData(ours);
        same_from_client(&ours, reference, td::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA)?;

        let [version, header_timestamp, header_nonce] = words;
        let reference = to_bytes(td::SubmitSolution {
            template_id,
            version,
            header_timestamp,
            header_nonce,
            coinbase_tx: coinbase.as_slice().try_into().unwrap(),
        }).unwrap();
        prop_assert!(reference.len() <= SUBMIT_SOLUTION_BYTES_MAX);
        let ours = TemplateClientMessage::SubmitSolution(SubmitSolution {
            template_id, version, header_timestamp, header_nonce, coinbase_tx: &coinbase,
        });
        same_from_client(&ours, reference, td::MESSAGE_TYPE_SUBMIT_SOLUTION)?;
    }

    #[test]
    fn new_template(
        template_id: u64, future_template: bool, value: u64, words: [u32; 5],
        prefix in bytes(255), outputs in bytes(2_000), path in vec(any::<[u8; 32]>(), 0..=255),
    ) {
        let [version, coinbase_version, sequence, count, locktime] = words;
        let hashes = path.iter().map(|hash| hash.into()).collect();
        let reference = to_bytes(td::NewTemplate {
            template_id,
            future_template,
            version,
            coinbase_tx_version: coinbase_version,
            coinbase_prefix: prefix.as_slice().try_into().unwrap(),
            coinbase_tx_input_sequence: sequence,
            coinbase_tx_value_remaining: value,
            coinbase_tx_outputs_count: count,
            coinbase_tx_outputs: outputs.as_slice().try_into().unwrap(),
            coinbase_tx_locktime: locktime,
            merkle_path: Seq0255::new(hashes).unwrap(),
        }).unwrap();
        let ours = TemplateServerMessage::NewTemplate(NewTemplate {
            template_id,
            future_template,
            version,
            coinbase_tx_version: coinbase_version,
            coinbase_prefix: &prefix,
            coinbase_tx_input_sequence: sequence,
            coinbase_tx_value_remaining_sat: value,
            coinbase_tx_outputs_count: count,
            coinbase_tx_outputs: &outputs,
            coinbase_tx_locktime: locktime,
            merkle_path: &path,
        });
        same_from_server(&ours, reference, td::MESSAGE_TYPE_NEW_TEMPLATE)?;
    }

    #[test]
    fn set_new_prev_hash(template_id: u64, hashes: [[u8; 32]; 2], words: [u32; 2]) {
        let ([prev_hash, target], [header_timestamp, n_bits]) = (hashes, words);
        let reference = to_bytes(td::SetNewPrevHash {
            template_id,
            prev_hash: (&prev_hash).into(),
            header_timestamp,
            n_bits,
            target: (&target).into(),
        }).unwrap();
        let ours = SetNewPrevHash { template_id, prev_hash, header_timestamp, n_bits, target };
        let ours = TemplateServerMessage::SetNewPrevHash(ours);
        same_from_server(&ours, reference, td::MESSAGE_TYPE_SET_NEW_PREV_HASH)?;
    }

    #[test]
    fn transaction_data(
        template_id: u64, excess in bytes(1_000), txs in vec(bytes(300), 0..50), text in "[a-z-]{0,255}",
    ) {
        let list = txs.iter().map(|tx| tx.as_slice().try_into().unwrap()).collect();
        let reference = to_bytes(td::RequestTransactionDataSuccess {
            template_id,
            excess_data: excess.as_slice().try_into().unwrap(),
            transaction_list: Seq064K::new(list).unwrap(),
        }).unwrap();
        let transactions = txs.iter().map(Vec::as_slice).collect();
        let ours = RequestTransactionDataSuccess { template_id, excess_data: &excess, transactions };
        let ours = TemplateServerMessage::RequestTransactionDataSuccess(ours);
        same_from_server(&ours, reference, td::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS)?;

        let reference = to_bytes(td::RequestTransactionDataError {
            template_id,
            error_code: text.as_bytes().try_into().unwrap(),
        }).unwrap();
        let ours = RequestTransactionDataError { template_id, error_code: text.into() };
        let ours = TemplateServerMessage::RequestTransactionDataError(ours);
        same_from_server(&ours, reference, td::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_ERROR)?;
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(msg_type: u8, payload in bytes(300)) {
        let header = header(msg_type, &payload);
        let _ = TemplateClientMessage::decode(&header, &payload);
        let _ = TemplateServerMessage::decode(&header, &payload);
    }
}

#[test]
fn fields_longer_than_their_types_are_not_encoded() {
    let long = vec![0; 65_536];
    let solution = SubmitSolution {
        template_id: 1,
        version: 0,
        header_timestamp: 0,
        header_nonce: 0,
        coinbase_tx: &long,
    };
    let error = TemplateClientMessage::SubmitSolution(solution).encode().unwrap_err();
    assert!(matches!(error, EncodeError { field: "coinbase_tx", max: 65_535, .. }), "{error:?}");
}

#[test]
fn only_a_solution_may_be_large_and_only_after_set_up() {
    let solution = |payload_bytes| FrameHeader {
        extension_type: 0,
        channel_msg: false,
        msg_type: td::MESSAGE_TYPE_SUBMIT_SOLUTION,
        payload_bytes,
    };
    assert_eq!(admit_for_templates(true, &solution(65_557)), Admit::Buffer);
    assert!(matches!(admit_for_templates(false, &solution(65_557)), Admit::Refuse { .. }));
    assert!(matches!(admit_for_templates(true, &solution(67_001)), Admit::Refuse { .. }));
    let request =
        FrameHeader { msg_type: td::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA, ..solution(2_001) };
    assert!(matches!(admit_for_templates(true, &request), Admit::Refuse { .. }));
    let extension = FrameHeader { extension_type: 9, ..solution(10_000_000) };
    assert_eq!(admit_for_templates(true, &extension), Admit::DiscardKeeping(0));
}
