//! The Noise NX handshake (SV2 4.5): two messages, after which both sides have their ciphers.
#![deny(clippy::indexing_slicing)]

use std::time::Duration;

use key_utils::{Secp256k1PublicKey, Secp256k1SecretKey};
use noise_sv2::{
    ELLSWIFT_ENCODING_SIZE, INITIATOR_EXPECTED_HANDSHAKE_MESSAGE_SIZE, Initiator, NoiseEngine,
    Responder,
};
use rand::{CryptoRng, Rng};
use secp256k1::{Keypair, Secp256k1};

use crate::{decoder::FrameDecoder, encoder::FrameEncoder};

/// The client's only message: an ElligatorSwift public key. Any 64 bytes are one.
pub const CLIENT_HELLO_BYTES: usize = ELLSWIFT_ENCODING_SIZE;
/// The server's only message: two keys and a certificate, encrypted.
pub const SERVER_HELLO_BYTES: usize = INITIATOR_EXPECTED_HANDSHAKE_MESSAGE_SIZE;

/// How far a client's clock may be outside of the certificate's validity, in seconds (SV2 4.5.3, as
/// the reference implementation applies it).
pub const CLOCK_LEEWAY_S: u32 = 10;

/// The key pair that clients know the server by.
pub struct AuthorityKeys {
    pair: Keypair,
}

/// Why two keys are not a pair.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthorityKeyError {
    /// The secret key belongs to another public key.
    #[error("the authority secret key belongs to the public key {derived}, not to {stated}")]
    Mismatch {
        /// Of the secret key.
        derived: String,
        /// As it was given.
        stated: String,
    },
}

impl AuthorityKeys {
    /// The pair of a secret key.
    pub fn new(secret: Secp256k1SecretKey) -> Self {
        Self { pair: Keypair::from_secret_key(&Secp256k1::signing_only(), &secret.0) }
    }

    /// The pair of a secret key, which has to be that of `public`.
    ///
    /// # Errors
    /// [`AuthorityKeyError::Mismatch`].
    pub fn checked(
        secret: Secp256k1SecretKey,
        public: Secp256k1PublicKey,
    ) -> Result<Self, AuthorityKeyError> {
        let keys = Self::new(secret);
        if keys.public().0 == public.0 {
            return Ok(keys);
        }
        let (derived, stated) = (keys.public().to_string(), public.to_string());
        Err(AuthorityKeyError::Mismatch { derived, stated })
    }

    /// A new random pair.
    pub fn generate<R: Rng + CryptoRng>(rng: &mut R) -> Self {
        Self { pair: Keypair::new(&Secp256k1::signing_only(), rng) }
    }

    /// What clients are given, in base58check when displayed.
    pub fn public(&self) -> Secp256k1PublicKey {
        Secp256k1PublicKey(self.pair.x_only_public_key().0)
    }
}

impl Drop for AuthorityKeys {
    fn drop(&mut self) {
        self.pair.non_secure_erase();
    }
}

impl std::fmt::Debug for AuthorityKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuthorityKeys({})", self.public())
    }
}

/// Why there is no encrypted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The bytes are not what a peer with the same keys would have sent.
    #[error(
        "the handshake message does not decrypt: the other side does not speak Stratum V2 with Noise, or the bytes were changed on the way"
    )]
    Cipher,
    /// The certificate is not one that the authority key signed, or not valid now.
    #[error(
        "the server's certificate (valid from {valid_from_unix} to {not_valid_after_unix}, Unix time) was refused at {now_unix}: \
         either the clocks of client and server differ by more than {CLOCK_LEEWAY_S} s, or the configured authority public key is not this server's"
    )]
    Certificate {
        /// Start of its validity, Unix seconds.
        valid_from_unix: u32,
        /// End of its validity, Unix seconds.
        not_valid_after_unix: u32,
        /// The client's clock, Unix seconds.
        now_unix: u32,
    },
    /// The time does not fit the certificate's field, which ends in the year 2106.
    #[error("Unix time {now_unix} s does not fit the 32 bits that a certificate has for it")]
    Clock {
        /// Unix seconds.
        now_unix: u64,
    },
}

/// The two directions of an encrypted connection.
#[derive(Debug)]
pub struct Transport {
    /// Towards the peer.
    pub encoder: FrameEncoder,
    /// From the peer.
    pub decoder: FrameDecoder,
}

impl From<NoiseEngine> for Transport {
    fn from(engine: NoiseEngine) -> Self {
        let (encryptor, decryptor) = engine.into_split();
        Self { encoder: FrameEncoder::new(encryptor), decoder: FrameDecoder::new(decryptor) }
    }
}

/// The server's side, one for each connection: its ephemeral keys are used once.
#[derive(Debug)]
pub struct ServerHandshake {
    responder: Box<Responder>,
}

impl ServerHandshake {
    /// With fresh ephemeral keys. Certificates count whole seconds, at most 2^32 − 1 of them.
    pub fn new<R: Rng + CryptoRng>(
        authority: &AuthorityKeys,
        cert_validity: Duration,
        rng: &mut R,
    ) -> Self {
        let validity_s = u32::try_from(cert_validity.as_secs()).unwrap_or(u32::MAX);
        Self { responder: Responder::new_with_rng(authority.pair, validity_s, rng) }
    }

    /// Answers the client's message. The certificate is valid from `now_unix` (Unix seconds) on.
    ///
    /// # Errors
    /// [`HandshakeError::Clock`]; no 64 bytes of a client make it fail.
    pub fn respond<R: Rng + CryptoRng>(
        mut self,
        hello: [u8; CLIENT_HELLO_BYTES],
        now_unix: u64,
        rng: &mut R,
    ) -> Result<([u8; SERVER_HELLO_BYTES], Transport), HandshakeError> {
        let now = clock(now_unix)?;
        let (answer, engine) = self
            .responder
            .step_1_with_now_rng(hello, now, rng)
            .map_err(|_| HandshakeError::Cipher)?;
        Ok((answer, engine.into()))
    }
}

/// The client's side.
#[derive(Debug)]
pub struct ClientHandshake {
    initiator: Box<Initiator>,
}

impl ClientHandshake {
    /// Starts one, and returns the message for the server. Without an authority key any server is
    /// believed: that is encryption without knowing who reads.
    ///
    /// # Errors
    /// [`HandshakeError::Cipher`], which a fresh state does not give.
    pub fn start<R: Rng + CryptoRng>(
        authority: Option<Secp256k1PublicKey>,
        rng: &mut R,
    ) -> Result<(Self, [u8; CLIENT_HELLO_BYTES]), HandshakeError> {
        let mut initiator = Initiator::new_with_rng(authority.map(|key| key.0), rng);
        let hello = initiator.step_0().map_err(|_| HandshakeError::Cipher)?;
        Ok((Self { initiator }, hello))
    }

    /// Takes the server's answer, checks its certificate at `now_unix` (Unix seconds).
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub fn finish(
        mut self,
        answer: [u8; SERVER_HELLO_BYTES],
        now_unix: u64,
    ) -> Result<Transport, HandshakeError> {
        let now = clock(now_unix)?;
        match self.initiator.step_2_with_now(answer, now) {
            Ok(engine) => Ok(engine.into()),
            Err(noise_sv2::Error::InvalidCertificate(certificate)) => {
                Err(HandshakeError::Certificate {
                    valid_from_unix: certificate.valid_from,
                    not_valid_after_unix: certificate.not_valid_after,
                    now_unix: now,
                })
            }
            Err(_) => Err(HandshakeError::Cipher),
        }
    }
}

fn clock(now_unix: u64) -> Result<u32, HandshakeError> {
    u32::try_from(now_unix).map_err(|_| HandshakeError::Clock { now_unix })
}
