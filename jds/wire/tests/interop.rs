//! The reference implementation's codec at one end and ours at the other, in both directions.
#![expect(clippy::expect_used, reason = "a test says what it expected")]

#[expect(dead_code, reason = "each test file uses a part of it")]
mod common;

use codec_sv2::{Decrypted, Handshake, NoiseDecoder, NoiseEncoder};
use common::{NOW_UNIX, VALIDITY, rng};
use framing_sv2::framing::SerializedFrame;
use jds_wire::{
    Admit, AuthorityKeys, ClientHandshake, Event, FrameDecoder, SERVER_HELLO_BYTES,
    ServerHandshake, Transport,
};
use noise_sv2::{Initiator, Responder};

const NOW: u32 = NOW_UNIX as u32;
/// Plain bytes of the largest chunk.
const CHUNK: usize = 65_519;
/// No payload, small ones, and such as fill one, two and many chunks exactly or not.
const LENGTHS: [usize; 10] =
    [0, 1, 6, 1_291, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 128_400, 4_200_000];

/// Reference client, our server.
fn reference_client() -> (codec_sv2::Transport, Transport) {
    let mut rng = rng(1);
    let authority = AuthorityKeys::generate(&mut rng);
    let initiator = Initiator::new_with_rng(Some(authority.public().0), &mut rng);
    let (hello, handshake) = Handshake::initiator(initiator).step_0().expect("a hello");
    let hello = hello.payload().try_into().expect("64 bytes");
    let server = ServerHandshake::new(&authority, VALIDITY, &mut rng);
    let (answer, ours) = server.respond(hello, NOW_UNIX, &mut rng).expect("an answer");
    (handshake.step_2_with_now(answer, NOW).expect("a certificate that is valid"), ours)
}

/// Our client, reference server.
fn reference_server() -> (codec_sv2::Transport, Transport) {
    let mut rng = rng(2);
    let secp = secp256k1::Secp256k1::new();
    let authority = secp256k1::Keypair::new(&secp, &mut rng);
    let trusted = jds_wire::Secp256k1PublicKey(authority.x_only_public_key().0);
    let (client, hello) = ClientHandshake::start(Some(trusted), &mut rng).expect("a hello");
    let responder = Responder::new_with_rng(authority, 3_600, &mut rng);
    let (answer, theirs) = Handshake::responder(responder)
        .step_1_with_now_rng(hello, NOW, &mut rng)
        .expect("an answer");
    let answer: [u8; SERVER_HELLO_BYTES] = answer.payload().try_into().expect("its length");
    (theirs, client.finish(answer, NOW_UNIX).expect("a certificate that is valid"))
}

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index % 251) as u8).collect()
}

/// One frame from us to the reference, the way it asks for bytes.
fn to_reference(
    wire: &[u8],
    decoder: &mut NoiseDecoder,
    mut state: codec_sv2::TransportDecryptState,
) -> (SerializedFrame<Vec<u8>>, codec_sv2::TransportDecryptState) {
    let mut rest = wire;
    loop {
        match decoder.next_transport_frame(state).expect("the reference decrypts it") {
            Decrypted::Frame(frame, state) => {
                assert!(rest.is_empty(), "{} bytes too many for the reference", rest.len());
                return (frame, state);
            }
            Decrypted::Incomplete(_, again) => {
                state = again;
                let room = decoder.writable();
                let (now, later) = rest
                    .split_at_checked(room.len())
                    .unwrap_or_else(|| panic!("the reference wants {} more", room.len()));
                room.copy_from_slice(now);
                rest = later;
            }
        }
    }
}

fn from_reference(wire: &[u8], decoder: &mut FrameDecoder) -> jds_wire::Frame {
    let mut rest = wire;
    loop {
        match decoder.poll().expect("we decrypt it") {
            Some(Event::Header(_)) => decoder.admit(Admit::Buffer).expect("admitted"),
            Some(Event::Frame(frame)) => {
                assert!(rest.is_empty(), "{} bytes too many for us", rest.len());
                return frame;
            }
            Some(other) => panic!("{other:?}"),
            None => {
                let taken = decoder.push(rest);
                assert!(taken > 0, "we want {} more", decoder.want());
                rest = rest.get(taken..).unwrap_or_default();
            }
        }
    }
}

fn exchange((theirs, mut ours): (codec_sv2::Transport, Transport)) {
    let (mut encrypt, mut decrypt) = theirs.split();
    let (mut encoder, mut decoder) = (NoiseEncoder::new(), NoiseDecoder::new());
    for (length, channel_msg) in LENGTHS.into_iter().zip([false, true].into_iter().cycle()) {
        let sent = payload(length);
        let wire = ours.encoder.encode_parts(3, channel_msg, 0x57, &sent).expect("it fits");
        let (mut frame, again) = to_reference(&wire, &mut decoder, decrypt);
        decrypt = again;
        assert_eq!(frame.header().ext_type_without_channel_msg(), 3);
        assert_eq!((frame.header().channel_msg(), frame.header().msg_type()), (channel_msg, 0x57));
        assert!(frame.payload() == sent, "{length} bytes arrived changed at the reference");

        let bytes = frame.into_bytes();
        let frame = SerializedFrame::<Vec<u8>>::from_bytes(bytes).expect("a whole frame");
        let wire = encoder.encode_transport(frame, &mut encrypt).expect("it fits");
        let frame = from_reference(wire.as_ref(), &mut ours.decoder);
        assert_eq!(frame.header.extension_type, 3);
        assert_eq!((frame.header.channel_msg, frame.header.msg_type), (channel_msg, 0x57));
        assert!(frame.payload == sent, "{length} bytes arrived changed at ours");
    }
}

#[test]
fn our_server_and_a_reference_client() {
    exchange(reference_client());
}

#[test]
fn our_client_and_a_reference_server() {
    exchange(reference_server());
}
