//! Noise, frames and typed messages: bytes in, bytes out.
//!
//! Nothing in here owns a socket, reads a clock, spawns a task or draws randomness on its own: the
//! caller moves the bytes, and passes in the time and the random source. A connection is, in order:
//!
//! 1. [`ServerHandshake`] or [`ClientHandshake`] (SV2 4.5): two messages, giving a [`Transport`].
//! 2. [`FrameDecoder`] and [`FrameEncoder`] (SV2 3.2, 4.6): encrypted bytes to frames and back.
//! 3. [`ClientMessage`] and [`ServerMessage`] (SV2 3.6, 6.4), or those of [`message::template`]
//!    (SV2 7) or [`message::mining`] (SV2 5): payloads to types and back.
//!
//! # Why frames are not decoded by `codec_sv2`
//!
//! A frame's header declares a payload of up to 16 MiB. Whether that much may be buffered depends on
//! the type of the message and on what the connection has proven so far ([`limits`]), so the decision
//! has to fall between the header and the payload. The decoder of `codec_sv2` goes from one to the
//! other without showing the header, and holds the whole encrypted payload before it decrypts. Ours
//! stops after the header, asks, takes memory only in step with the bytes that arrive, and decrypts
//! each chunk where it lies. Tests hold both to the same bytes on the wire.
//!
//! # Why payloads are not decoded by `binary_sv2`
//!
//! Its decoder ignores bytes that follow a message, needs the payload mutable, makes a value per
//! list element, and fails as a whole on an unknown protocol number, which the specification wants
//! answered by name. Ours borrows (the wtxids of a declaration are a `&[[u8; 32]]` into the frame),
//! names the field that is wrong, and refuses left-over bytes that no extension can have put there.
//! Message types, extension numbers and error codes are the constants of the protocol crates, and
//! tests hold both encodings equal.
//!
//! The messages of mining are the exception: they are small, and channels and jobs of the protocol
//! crates take their types as they are. There the codec works on a copy, and left-over bytes are
//! judged here.

mod codec;
mod decoder;
mod encoder;
mod frame;
mod handshake;
pub mod limits;
pub mod message;
mod tail;

pub use decoder::{Event, FrameDecoder, FrameError};
pub use encoder::{EncodeFrameError, FrameEncoder};
pub use frame::{Frame, FrameHeader, PAYLOAD_BYTES_MAX};
pub use handshake::{
    AuthorityKeyError, AuthorityKeys, CLIENT_HELLO_BYTES, CLOCK_LEEWAY_S, ClientHandshake,
    HandshakeError, SERVER_HELLO_BYTES, ServerHandshake, Transport,
};
pub use key_utils::{Secp256k1PublicKey, Secp256k1SecretKey};
pub use limits::Admit;
pub use message::{ClientMessage, EncodedMessage, MessageError, ServerMessage};
