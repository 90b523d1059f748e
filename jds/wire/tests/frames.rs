//! Frames through the encoder and the decoder, in pieces of any size: what arrives, what it costs in
//! memory, and what happens to bytes that nobody should have sent.

mod common;

use common::pair;
use jds_wire::{
    Admit, EncodeFrameError, Event, Frame, FrameDecoder, FrameError, FrameHeader, PAYLOAD_BYTES_MAX,
};
use proptest::prelude::*;
use rand::{Rng, RngCore};

/// Plain bytes of the largest chunk, and what an encrypted header takes.
const CHUNK: usize = 65_519;
const SEALED_HEADER: usize = 22;

/// Feeds `bytes` in pieces of at most `piece()` and gives back the events, headers left out.
fn decode(
    decoder: &mut FrameDecoder,
    mut bytes: &[u8],
    mut piece: impl FnMut() -> usize,
    admit: Admit,
) -> Result<Vec<Event>, FrameError> {
    let mut events = Vec::new();
    loop {
        match decoder.poll()? {
            Some(Event::Header(_)) => decoder.admit(admit)?,
            Some(event) => events.push(event),
            None if bytes.is_empty() => return Ok(events),
            None => {
                let taken = decoder.push(&bytes[..piece().min(bytes.len())]);
                assert!(taken > 0, "a decoder that wants bytes takes some");
                bytes = &bytes[taken..];
            }
        }
    }
}

/// A pattern whose period divides no chunk, so that a gap or a repeat shows.
fn pattern(seed: u64, count: usize) -> Vec<u8> {
    let mut period = [0; 251];
    common::rng(seed).fill_bytes(&mut period);
    let mut bytes = period.repeat(count.div_ceil(period.len()));
    bytes.truncate(count);
    bytes
}

/// Lengths at and around what divides chunks.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![0_usize..600, CHUNK - 2..CHUNK + 3, 2 * CHUNK - 2..2 * CHUNK + 3, 0_usize..300_000,]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_arrive_whole_whatever_the_pieces(
        lengths in prop::collection::vec(length(), 1..4),
        extension_type in 0_u16..0x8000,
        channel_msg: bool,
        msg_type: u8,
        piece_max in prop_oneof![1_usize..40, 1_usize..200_000],
        seed: u64,
    ) {
        let (mut client, mut server) = pair(seed);
        let (mut wire, mut sent) = (Vec::new(), Vec::new());
        for payload_bytes in lengths {
            let payload = pattern(seed, payload_bytes);
            wire.extend(
                client.encoder.encode_parts(extension_type, channel_msg, msg_type, &payload).unwrap(),
            );
            let header = FrameHeader { extension_type, channel_msg, msg_type, payload_bytes };
            sent.push(Event::Frame(Frame { header, payload }));
        }
        let mut sizes = common::rng(seed);
        let got =
            decode(&mut server.decoder, &wire, || sizes.gen_range(1..=piece_max), Admit::Buffer);
        prop_assert!(got.unwrap() == sent, "the frames differ from those sent");
        prop_assert!(server.decoder.is_idle());
    }

    #[test]
    fn a_cut_frame_is_waited_for(payload_bytes in length(), cut: prop::sample::Index, seed: u64) {
        let (mut client, mut server) = pair(seed);
        let payload = pattern(seed, payload_bytes);
        let wire = client.encoder.encode_parts(0, false, 1, &payload).unwrap();
        let cut = cut.index(wire.len());
        let got = decode(&mut server.decoder, &wire[..cut], || usize::MAX, Admit::Buffer);
        prop_assert_eq!(got.unwrap(), vec![]);
        prop_assert!(server.decoder.want() > 0);
        prop_assert_eq!(server.decoder.is_idle(), cut == 0);
    }

    #[test]
    fn a_changed_byte_is_noticed_and_ends_it(
        payload_bytes in length(),
        position: prop::sample::Index,
        flip in 1_u8..,
        discard: bool,
        seed: u64,
    ) {
        let (mut client, mut server) = pair(seed);
        let payload = pattern(seed, payload_bytes);
        let mut wire = client.encoder.encode_parts(0, false, 1, &payload).unwrap();
        let position = position.index(wire.len());
        wire[position] ^= flip;
        let admit = if discard { Admit::DiscardKeeping(4) } else { Admit::Buffer };
        let error = decode(&mut server.decoder, &wire, || usize::MAX, admit).unwrap_err();
        prop_assert_eq!(error, FrameError::Cipher { in_header: position < SEALED_HEADER });
        prop_assert_eq!(server.decoder.poll().unwrap_err(), FrameError::Dead);
        prop_assert_eq!(server.decoder.held_bytes(), 0);
        prop_assert_eq!(server.decoder.push(&wire), 0);
    }

    #[test]
    fn bytes_of_anybody_are_no_frame(bytes in prop::collection::vec(any::<u8>(), 22..4_000)) {
        let (_, mut server) = pair(5);
        let result = decode(&mut server.decoder, &bytes, || 7, Admit::Buffer);
        prop_assert_eq!(result.unwrap_err(), FrameError::Cipher { in_header: true });
    }

    #[test]
    fn memory_follows_the_bytes_that_came(payload_bytes in length(), piece_max in 1_usize..100_000) {
        let (mut client, mut server) = pair(6);
        let wire = client.encoder.encode_parts(0, false, 1, &vec![3; payload_bytes]).unwrap();
        let sealed_payload = wire.len() - SEALED_HEADER;
        let decoder = &mut server.decoder;
        let mut received = 0;
        loop {
            match decoder.poll().unwrap() {
                Some(Event::Header(_)) => decoder.admit(Admit::Buffer).unwrap(),
                Some(Event::Frame(frame)) => {
                    prop_assert!(frame.payload.capacity() <= sealed_payload.max(SEALED_HEADER));
                    break;
                }
                Some(other) => panic!("{other:?}"),
                None => {
                    let piece = piece_max.min(wire.len() - received);
                    received += decoder.push(&wire[received..received + piece]);
                    let held = decoder.held_bytes();
                    prop_assert!(held <= 2 * received + 4_096, "{held} held for {received}");
                    prop_assert!(held <= sealed_payload.max(SEALED_HEADER));
                }
            }
        }
    }
}

#[test]
fn the_largest_frame_is_read_past_in_one_chunk_of_memory() {
    let (mut client, mut server) = pair(2);
    let payload = pattern(2, PAYLOAD_BYTES_MAX);
    let mut wire = client.encoder.encode_parts(0, false, 0x57, &payload).unwrap();
    wire.extend(client.encoder.encode_parts(0, false, 0x50, b"next").unwrap());
    let (mut rest, mut held_max, mut events) = (wire.as_slice(), 0, Vec::new());
    let decoder = &mut server.decoder;
    while events.len() < 2 {
        match decoder.poll().unwrap() {
            Some(Event::Header(header)) if header.msg_type == 0x57 => {
                decoder.admit(Admit::DiscardKeeping(4)).unwrap();
            }
            Some(Event::Header(_)) => decoder.admit(Admit::Buffer).unwrap(),
            Some(event) => events.push(event),
            None => {
                rest = &rest[decoder.push(rest)..];
                held_max = held_max.max(decoder.held_bytes());
            }
        }
    }
    assert!(held_max <= 65_535, "{held_max} bytes held of a frame that is not kept");
    let Event::Oversized { header, head } = &events[0] else { panic!("{:?}", events[0]) };
    assert_eq!(header.payload_bytes, PAYLOAD_BYTES_MAX);
    assert_eq!(head, &payload[..4]);
    assert!(matches!(&events[1], Event::Frame(frame) if frame.payload == b"next"));
}

#[test]
fn what_is_kept_is_never_more_than_there_is() {
    let (mut client, mut server) = pair(2);
    for (payload, keep, kept) in [(vec![], 4, 0), (vec![9; 3], 4, 3), (vec![9; 100], 999, 64)] {
        let wire = client.encoder.encode_parts(0, false, 0x57, &payload).unwrap();
        let admit = Admit::DiscardKeeping(keep);
        let events = decode(&mut server.decoder, &wire, || 5, admit).unwrap();
        assert!(
            matches!(&events[..], [Event::Oversized { head, .. }] if head == &payload[..kept]),
            "{events:?}"
        );
    }
}

#[test]
fn nothing_is_taken_in_before_it_is_admitted() {
    let (mut client, mut server) = pair(2);
    let wire = client.encoder.encode_parts(0, false, 0x57, &vec![1; 100_000]).unwrap();
    let decoder = &mut server.decoder;
    let mut taken = 0;
    while let Some(piece) = wire.get(taken..).filter(|_| decoder.want() > 0) {
        taken += decoder.push(piece);
    }
    assert_eq!(taken, SEALED_HEADER);
    for _ in 0..2 {
        let event = decoder.poll().unwrap();
        assert!(
            matches!(event, Some(Event::Header(header)) if header.payload_bytes == 100_000),
            "{event:?}"
        );
        assert_eq!(decoder.push(&wire[taken..]), 0);
    }
    assert!(decoder.held_bytes() <= 4_096, "{}", decoder.held_bytes());
    let error = decoder.admit(Admit::Refuse { limit_bytes: 2_000 }).unwrap_err();
    assert!(error.to_string().contains("100000 bytes, where at most 2000"), "{error}");
    assert_eq!(decoder.poll().unwrap_err(), FrameError::Dead);
}

#[test]
fn what_no_header_can_say_is_not_encoded() {
    let (mut client, mut server) = pair(2);
    let encoder = &mut client.encoder;
    let actual = PAYLOAD_BYTES_MAX + 1;
    assert_eq!(
        encoder.encode_parts(0, false, 1, &vec![0; actual]).unwrap_err(),
        EncodeFrameError::TooLong { actual }
    );
    assert_eq!(
        encoder.encode_parts(0x8001, false, 1, b"").unwrap_err(),
        EncodeFrameError::ExtensionType { extension_type: 0x8001 }
    );
    // Neither has used up a nonce: the stream goes on.
    let wire = encoder.encode_parts(0, false, 1, b"still here").unwrap();
    let events = decode(&mut server.decoder, &wire, || usize::MAX, Admit::Buffer).unwrap();
    assert!(matches!(&events[..], [Event::Frame(frame)] if frame.payload == b"still here"));
}

#[test]
fn frames_out_of_order_do_not_decrypt() {
    let (mut client, mut server) = pair(2);
    let first = client.encoder.encode_parts(0, false, 1, b"first").unwrap();
    let second = client.encoder.encode_parts(0, false, 1, b"second").unwrap();
    let swapped = [second, first].concat();
    let error = decode(&mut server.decoder, &swapped, || usize::MAX, Admit::Buffer).unwrap_err();
    assert_eq!(error, FrameError::Cipher { in_header: true });
}
