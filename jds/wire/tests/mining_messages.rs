//! Every message of mining there and back, with the header that it has to have, and cut or prolonged
//! ones against the error that they deserve.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use binary_sv2::{B032Owned, Seq064KOwned, Seq0255Owned, Sv2OptionOwned, U256Owned};
use jds_wire::message::constants::EXTENSION_TYPE_EXTENSIONS_NEGOTIATION;
use jds_wire::message::mining::{
    CloseChannelOwned, ExtendedShare, MiningClientMessage as Client, MiningServerMessage as Server,
    NewExtendedMiningJobOwned, NewMiningJobOwned, OpenExtendedMiningChannelOwned,
    OpenExtendedMiningChannelSuccessOwned, OpenMiningChannelErrorOwned,
    OpenStandardMiningChannelOwned, OpenStandardMiningChannelSuccessOwned, ReconnectOwned,
    SetCustomMiningJobErrorOwned, SetCustomMiningJobOwned, SetCustomMiningJobSuccessOwned,
    SetExtranoncePrefixOwned, SetGroupChannelOwned, SetNewPrevHashOwned, SetTargetOwned,
    SubmitSharesErrorOwned, SubmitSharesExtendedOwned, SubmitSharesStandardOwned,
    SubmitSharesSuccessOwned, UpdateChannelErrorOwned, UpdateChannelOwned, WORKER_BYTES_MAX,
};
use jds_wire::message::{
    EncodedMessage, RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess,
    SetupConnection, SetupConnectionError, SetupConnectionSuccess,
};
use jds_wire::{
    Admit, FrameHeader, MessageError,
    limits::{
        FROM_MINING_SERVER_BYTES_MAX, SET_CUSTOM_MINING_JOB_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX,
        admit_for_mining, admit_from_mining_server,
    },
};
use proptest::{collection::vec, prelude::*};

fn header(encoded: &EncodedMessage) -> FrameHeader {
    FrameHeader {
        extension_type: encoded.extension_type,
        channel_msg: encoded.channel_msg,
        msg_type: encoded.msg_type,
        payload_bytes: encoded.payload.len(),
    }
}

/// There and back, and every cut of it refused. What is shown of both is the same: some of the types
/// can not be compared.
fn holds<M: std::fmt::Debug>(
    message: &M,
    encoded: &EncodedMessage,
    decode: impl Fn(&FrameHeader, &[u8]) -> Result<String, MessageError>,
) {
    let header = header(encoded);
    assert_eq!(decode(&header, &encoded.payload).unwrap(), format!("{message:?}"));
    for cut in 0..encoded.payload.len().min(400) {
        let error = decode(&header, &encoded.payload[..cut]).unwrap_err();
        let expected =
            matches!(error, MessageError::Malformed { .. } | MessageError::Truncated { .. });
        assert!(expected, "{message:?} cut at {cut}: {error:?}");
    }
    let error = decode(&header, &[encoded.payload.as_slice(), &[0]].concat()).unwrap_err();
    assert!(matches!(error, MessageError::TrailingBytes { extra: 1, .. }), "{error:?}");
    let field_of_an_extension = [7, 0, 9, 2, 0, b'h', b'i'];
    decode(&header, &[encoded.payload.as_slice(), &field_of_an_extension].concat()).unwrap();
}

fn from_client(message: &Client<'_>) -> (u16, u8, bool) {
    let encoded = message.encode().unwrap();
    holds(message, &encoded, |header, payload| {
        Client::decode(header, payload).map(|message| format!("{message:?}"))
    });
    (encoded.extension_type, encoded.msg_type, encoded.channel_msg)
}

fn from_server(message: &Server) -> (u16, u8, bool) {
    let encoded = message.encode().unwrap();
    holds(message, &encoded, |header, payload| {
        Server::decode(header, payload).map(|message| format!("{message:?}"))
    });
    (encoded.extension_type, encoded.msg_type, encoded.channel_msg)
}

fn share(extranonce: &[u8], words: [u32; 6]) -> SubmitSharesExtendedOwned {
    let [channel_id, sequence_number, job_id, nonce, ntime, version] = words;
    let extranonce = B032Owned::try_from(extranonce).unwrap();
    SubmitSharesExtendedOwned {
        channel_id,
        sequence_number,
        job_id,
        nonce,
        ntime,
        version,
        extranonce,
    }
}

fn custom_job(path: &[[u8; 32]], token: &[u8], prefix: &[u8], outputs: &[u8]) -> Client<'static> {
    let path = path.iter().map(|hash| U256Owned::from(*hash)).collect();
    Client::SetCustomMiningJob(SetCustomMiningJobOwned {
        channel_id: 1,
        request_id: 2,
        token: token.try_into().unwrap(),
        version: 3,
        prev_hash: [4; 32].into(),
        min_ntime: 5,
        nbits: 6,
        coinbase_tx_version: 7,
        coinbase_prefix: prefix.try_into().unwrap(),
        coinbase_tx_input_n_sequence: 8,
        coinbase_tx_outputs: outputs.try_into().unwrap(),
        coinbase_tx_locktime: 9,
        merkle_path: Seq0255Owned::new(path).unwrap(),
    })
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn clients_open_and_change_channels(
        request_id: u32, user in "[a-z.]{0,255}", nominal_hash_rate in 0_f32..1e20,
        target: [u8; 32], size: u16,
    ) {
        let user_identity = || user.as_str().try_into().unwrap();
        let header = from_client(&Client::OpenStandardMiningChannel(
            OpenStandardMiningChannelOwned {
                request_id, user_identity: user_identity(), nominal_hash_rate,
                max_target: target.into(),
            },
        ));
        prop_assert_eq!(header, (0, 0x10, false));
        let header = from_client(&Client::OpenExtendedMiningChannel(
            OpenExtendedMiningChannelOwned {
                request_id, user_identity: user_identity(), nominal_hash_rate,
                max_target: target.into(), min_extranonce_size: size,
            },
        ));
        prop_assert_eq!(header, (0, 0x13, false));
        let header = from_client(&Client::UpdateChannel(UpdateChannelOwned {
            channel_id: request_id, nominal_hash_rate, maximum_target: target.into(),
        }));
        prop_assert_eq!(header, (0, 0x16, true));
        let header = from_client(&Client::CloseChannel(CloseChannelOwned {
            channel_id: request_id, reason_code: user_identity(),
        }));
        prop_assert_eq!(header, (0, 0x18, true));
    }

    #[test]
    fn clients_submit_shares(words: [u32; 6], extranonce in bytes(32), worker in bytes(32)) {
        let [channel_id, sequence_number, job_id, nonce, ntime, version] = words;
        let header = from_client(&Client::SubmitSharesStandard(SubmitSharesStandardOwned {
            channel_id, sequence_number, job_id, nonce, ntime, version,
        }));
        prop_assert_eq!(header, (0, 0x1a, true));
        let share = share(&extranonce, words);
        let header = from_client(&Client::SubmitSharesExtended(ExtendedShare {
            share: share.clone(), worker: None,
        }));
        prop_assert_eq!(header, (0, 0x1b, true));
        let named = Client::SubmitSharesExtended(ExtendedShare { share, worker: Some(worker) });
        let encoded = named.encode().unwrap();
        let decoded = Client::decode(&self::header(&encoded), &encoded.payload).unwrap();
        prop_assert_eq!(format!("{decoded:?}"), format!("{named:?}"));
    }

    #[test]
    fn clients_set_custom_jobs(
        token in bytes(255), prefix in bytes(255), outputs in bytes(2_000),
        path in vec(any::<[u8; 32]>(), 0..20),
    ) {
        let header = from_client(&custom_job(&path, &token, &prefix, &outputs));
        prop_assert_eq!(header, (0, 0x22, true));
    }

    #[test]
    fn servers_answer_channels(
        id: u32, other: u32, target: [u8; 32], prefix in bytes(32), size: u16,
        text in "[a-z-]{0,255}", ids in vec(any::<u32>(), 0..100),
    ) {
        let prefix = || prefix.as_slice().try_into().unwrap();
        let code = || text.as_str().try_into().unwrap();
        let messages = [
            (0x11, false, Server::OpenStandardMiningChannelSuccess(
                OpenStandardMiningChannelSuccessOwned {
                    request_id: id, channel_id: other, target: target.into(),
                    extranonce_prefix: prefix(), group_channel_id: id,
                },
            )),
            (0x12, false, Server::OpenMiningChannelError(OpenMiningChannelErrorOwned {
                request_id: id, error_code: code(),
            })),
            (0x14, false, Server::OpenExtendedMiningChannelSuccess(
                OpenExtendedMiningChannelSuccessOwned {
                    request_id: id, channel_id: other, target: target.into(),
                    extranonce_size: size, extranonce_prefix: prefix(), group_channel_id: id,
                },
            )),
            (0x17, true, Server::UpdateChannelError(UpdateChannelErrorOwned {
                channel_id: id, error_code: code(),
            })),
            (0x18, true, Server::CloseChannel(CloseChannelOwned {
                channel_id: id, reason_code: code(),
            })),
            (0x19, true, Server::SetExtranoncePrefix(SetExtranoncePrefixOwned {
                channel_id: id, extranonce_prefix: prefix(),
            })),
            (0x21, true, Server::SetTarget(SetTargetOwned {
                channel_id: id, maximum_target: target.into(),
            })),
            (0x25, false, Server::SetGroupChannel(SetGroupChannelOwned {
                group_channel_id: id, channel_ids: Seq064KOwned::new(ids).unwrap(),
            })),
            (0x04, false, Server::Reconnect(ReconnectOwned { new_host: code(), new_port: size })),
        ];
        for (msg_type, channel_msg, message) in messages {
            prop_assert_eq!(from_server(&message), (0, msg_type, channel_msg));
        }
    }

    #[test]
    fn servers_give_work_and_judge_it(
        words: [u32; 4], sum: u64, hash: [u8; 32], min_ntime: Option<u32>, rolling: bool,
        halves in [bytes(500), bytes(500)], text in "[a-z-]{0,255}",
        path in vec(any::<[u8; 32]>(), 0..20),
    ) {
        let [channel_id, job_id, version, other] = words;
        let code = || text.as_str().try_into().unwrap();
        let path = path.into_iter().map(U256Owned::from).collect();
        let messages = [
            (0x15, Server::NewMiningJob(NewMiningJobOwned {
                channel_id, job_id, min_ntime: Sv2OptionOwned::new(min_ntime), version,
                merkle_root: hash.into(),
            })),
            (0x1c, Server::SubmitSharesSuccess(SubmitSharesSuccessOwned {
                channel_id, last_sequence_number: job_id, new_submits_accepted_count: other,
                new_shares_sum: sum,
            })),
            (0x1d, Server::SubmitSharesError(SubmitSharesErrorOwned {
                channel_id, sequence_number: other, error_code: code(),
            })),
            (0x1f, Server::NewExtendedMiningJob(NewExtendedMiningJobOwned {
                channel_id, job_id, min_ntime: Sv2OptionOwned::new(min_ntime), version,
                version_rolling_allowed: rolling, merkle_path: Seq0255Owned::new(path).unwrap(),
                coinbase_tx_prefix: halves[0].as_slice().try_into().unwrap(),
                coinbase_tx_suffix: halves[1].as_slice().try_into().unwrap(),
            })),
            (0x20, Server::SetNewPrevHash(SetNewPrevHashOwned {
                channel_id, job_id, prev_hash: hash.into(), min_ntime: version, nbits: other,
            })),
            (0x23, Server::SetCustomMiningJobSuccess(SetCustomMiningJobSuccessOwned {
                channel_id, request_id: other, job_id,
            })),
            (0x24, Server::SetCustomMiningJobError(SetCustomMiningJobErrorOwned {
                channel_id, request_id: other, error_code: code(),
            })),
        ];
        for (msg_type, message) in messages {
            prop_assert_eq!(from_server(&message), (0, msg_type, true));
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(
        extension_type in 0_u16..3, msg_type: u8, payload in bytes(300),
    ) {
        let header = FrameHeader {
            extension_type, channel_msg: false, msg_type, payload_bytes: payload.len(),
        };
        let _ = Client::decode(&header, &payload);
        let _ = Server::decode(&header, &payload);
    }

    /// Most random bytes are no message beyond the first length; these are one but for some bytes.
    #[test]
    fn a_damaged_message_is_a_message_or_an_error(
        path in vec(any::<[u8; 32]>(), 0..4), outputs in bytes(40),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut encoded = custom_job(&path, b"token", b"prefix", &outputs).encode().unwrap();
        for (at, byte) in damage {
            *at.get_mut(&mut encoded.payload) = byte;
        }
        for msg_type in 0..=u8::MAX {
            let header = FrameHeader { msg_type, ..header(&encoded) };
            let _ = Client::decode(&header, &encoded.payload);
            let _ = Server::decode(&header, &encoded.payload);
        }
    }
}

#[test]
fn the_messages_of_all_protocols_are_spoken_here_too() {
    let setup = SetupConnection {
        protocol: 0,
        min_version: 2,
        max_version: 2,
        flags: 6,
        endpoint_host: b"pool.example",
        endpoint_port: 3334,
        vendor: b"",
        hardware_version: b"",
        firmware: b"",
        device_id: b"",
    };
    assert_eq!(from_client(&Client::SetupConnection(setup)), (0, 0, false));
    let negotiation = EXTENSION_TYPE_EXTENSIONS_NEGOTIATION;
    let request = RequestExtensions { request_id: 1, requested: vec![2] };
    assert_eq!(from_client(&Client::RequestExtensions(request)), (negotiation, 0, false));
    let success = SetupConnectionSuccess { used_version: 2, flags: 0 };
    assert_eq!(from_server(&Server::SetupConnectionSuccess(success)), (0, 1, false));
    let error = SetupConnectionError { flags: 1, error_code: "unsupported-protocol".into() };
    assert_eq!(from_server(&Server::SetupConnectionError(error)), (0, 2, false));
    let success = RequestExtensionsSuccess { request_id: 1, supported: vec![2] };
    assert_eq!(from_server(&Server::RequestExtensionsSuccess(success)), (negotiation, 1, false));
    let error =
        RequestExtensionsError { request_id: 1, unsupported: vec![3], required: Vec::new() };
    assert_eq!(from_server(&Server::RequestExtensionsError(error)), (negotiation, 2, false));
}

/// The bytes of a share with a worker, in either order of bytes of the extension's numbers: the
/// specification's example has them big endian, the reference implementation little endian.
#[test]
fn a_worker_is_read_in_either_order_of_bytes() {
    let plain = Client::SubmitSharesExtended(ExtendedShare {
        share: share(&[0xaa, 0xbb], [1, 2, 3, 4, 5, 6]),
        worker: None,
    });
    let encoded = plain.encode().unwrap();
    let words = [1, 2, 3, 4, 5, 6_u32].map(u32::to_le_bytes).concat();
    assert_eq!(encoded.payload, [words.as_slice(), &[2, 0xaa, 0xbb]].concat());
    let little = [2, 0, 1, 3, 0, b'r', b'i', b'g'];
    let big = [0, 2, 1, 0, 3, b'r', b'i', b'g'];
    for field in [little, big] {
        let payload = [encoded.payload.as_slice(), &field].concat();
        let Client::SubmitSharesExtended(decoded) =
            Client::decode(&header(&encoded), &payload).unwrap()
        else {
            panic!("not a share");
        };
        assert_eq!(decoded.worker.as_deref(), Some(b"rig".as_slice()));
    }
}

#[test]
fn a_worker_longer_than_its_field_is_no_share() {
    let share = share(&[], [0; 6]);
    let long = vec![b'w'; WORKER_BYTES_MAX + 1];
    let message = ExtendedShare { share: share.clone(), worker: Some(long) };
    Client::SubmitSharesExtended(message).encode().unwrap_err();
    let message = ExtendedShare { share, worker: Some(vec![b'w'; WORKER_BYTES_MAX]) };
    let encoded = Client::SubmitSharesExtended(message).encode().unwrap();
    let at = encoded.payload.len() - WORKER_BYTES_MAX - 2;
    let mut payload = encoded.payload.clone();
    payload[at] += 1;
    payload.push(b'w');
    let error = Client::decode(&header(&encoded), &payload).unwrap_err();
    assert!(matches!(error, MessageError::TooLong { actual: 33, max: 32, .. }), "{error:?}");
}

#[test]
fn only_a_custom_job_may_be_large_and_only_after_set_up() {
    let longest = custom_job(&[[1; 32]; 255], &[1; 255], &[1; 255], &[1; 65_535]);
    let job = header(&longest.encode().unwrap());
    assert!(job.payload_bytes <= SET_CUSTOM_MINING_JOB_BYTES_MAX, "{job:?}");
    assert_eq!(admit_for_mining(true, &job), Admit::Buffer);
    assert!(matches!(admit_for_mining(false, &job), Admit::Refuse { .. }));
    let payload_bytes = SET_CUSTOM_MINING_JOB_BYTES_MAX + 1;
    let longer = FrameHeader { payload_bytes, ..job };
    assert!(matches!(admit_for_mining(true, &longer), Admit::Refuse { .. }));
    let share = FrameHeader { msg_type: 0x1b, payload_bytes: SMALL_MESSAGE_BYTES_MAX + 1, ..job };
    assert!(matches!(admit_for_mining(true, &share), Admit::Refuse { .. }));
    let foreign = FrameHeader { extension_type: 9, payload_bytes: 10_000_000, ..job };
    assert_eq!(admit_for_mining(true, &foreign), Admit::DiscardKeeping(0));
}

#[test]
fn a_client_takes_the_longest_message_of_a_server() {
    let channel_ids = Seq064KOwned::new(vec![1; 65_535]).unwrap();
    let group = SetGroupChannelOwned { group_channel_id: 1, channel_ids };
    let group = header(&Server::SetGroupChannel(group).encode().unwrap());
    assert_eq!(admit_from_mining_server(&group), Admit::Buffer);
    let longer = FrameHeader { payload_bytes: FROM_MINING_SERVER_BYTES_MAX + 1, ..group };
    assert!(matches!(admit_from_mining_server(&longer), Admit::Refuse { .. }));
}
