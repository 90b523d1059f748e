//! The proof of a rejection: who said no to which template when, over the very words.

use std::fmt;

use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::secp256k1::schnorr::Signature;

use super::{
    Fields, KeyId, ReceiptError, ReceiptKey, SIGNATURE_BYTES, ServerId, SigningKey, UserHash,
    VERSION, check_signature, expect_kind, tagged_hash,
};
use crate::declared::TemplateHash;

/// Size of a proof, bytes; it goes over the wire as twice as many hex digits.
pub const PROOF_BYTES: usize = BODY_BYTES + SIGNATURE_BYTES;

const KIND_REJECTED: u8 = b'R';
const BODY_BYTES: usize = 2 + 8 + 8 + 8 + 16 + 32;
const TAG: &str = "sv2-jd/rejection/1";

/// What stands in front of a proof in `error_details`.
const KEY: &str = " proof=";

/// What a proof says, beside the words that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofFacts {
    /// Which server refused it.
    pub server: ServerId,
    /// When: microseconds of Unix time, unique and rising at that server.
    pub rejected_at_us: u64,
    /// Who declared it.
    pub user: UserHash,
    /// The template; `None` where the verdict came before it had a name, as for a stale height.
    pub template_hash: Option<TemplateHash>,
}

impl ProofFacts {
    /// Signs a rejection. `words` are its code, a space and its details without a proof, as
    /// [`crate::Rejection`] prints them; `aux` as for [`super::ReceiptFacts::sign`].
    pub fn sign(self, words: &str, key: &SigningKey, aux: &[u8; 32]) -> RejectionProof {
        let key_id = key.public().id();
        let signature = key.sign(&self.digest(key_id, words), aux);
        RejectionProof { facts: self, key_id, signature }
    }

    fn body(&self, key_id: KeyId) -> Vec<u8> {
        let mut body = Vec::with_capacity(PROOF_BYTES);
        body.extend_from_slice(&[VERSION, KIND_REJECTED]);
        body.extend_from_slice(&key_id.0);
        body.extend_from_slice(&self.server.0);
        body.extend_from_slice(&self.rejected_at_us.to_be_bytes());
        body.extend_from_slice(&self.user.0);
        body.extend_from_slice(
            self.template_hash.as_ref().map_or(&[0; 32], |hash| hash.as_bytes()),
        );
        body
    }

    fn digest(&self, key_id: KeyId, words: &str) -> [u8; 32] {
        // The body has one length, so the words need none.
        tagged_hash(TAG, &[&self.body(key_id), words.as_bytes()])
    }
}

/// Proof that a server refused a template, and why. Not yet checked: see [`Self::verify`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RejectionProof {
    facts: ProofFacts,
    key_id: KeyId,
    signature: Signature,
}

impl RejectionProof {
    /// What it says. Believe it after [`Self::verify`].
    pub fn facts(&self) -> &ProofFacts {
        &self.facts
    }

    /// The key that it says it is signed with.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The [`PROOF_BYTES`] of it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.facts.body(self.key_id);
        bytes.extend_from_slice(self.signature.as_ref());
        bytes
    }

    /// Reads one, and checks nothing but the layout.
    ///
    /// # Errors
    /// [`ReceiptError::Length`], [`ReceiptError::Unknown`], [`ReceiptError::Signature`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        expect_kind(bytes, KIND_REJECTED)?;
        let length = ReceiptError::Length { found: bytes.len(), expected: PROOF_BYTES };
        let mut reader = Fields(bytes);
        let read = |reader: &mut Fields<'_>| {
            let _version_and_kind: [u8; 2] = reader.take()?;
            let key_id = KeyId(reader.take()?);
            let facts = ProofFacts {
                server: ServerId(reader.take()?),
                rejected_at_us: u64::from_be_bytes(reader.take()?),
                user: UserHash(reader.take()?),
                template_hash: Some(reader.take()?)
                    .filter(|bytes| *bytes != [0; 32])
                    .map(TemplateHash::from_bytes),
            };
            Some((key_id, facts, reader.take::<SIGNATURE_BYTES>()?))
        };
        let (key_id, facts, signature) = read(&mut reader).ok_or(length)?;
        if !reader.0.is_empty() {
            return Err(length);
        }
        let signature = Signature::from_slice(&signature).map_err(|_| ReceiptError::Signature)?;
        Ok(Self { facts, key_id, signature })
    }

    /// Reads the hex digits that it prints as.
    ///
    /// # Errors
    /// As [`Self::decode`]; what is not hex has [`ReceiptError::Length`] 0.
    pub fn from_hex(text: &str) -> Result<Self, ReceiptError> {
        let none = ReceiptError::Length { found: 0, expected: PROOF_BYTES };
        Self::decode(&Vec::from_hex(text).map_err(|_| none)?)
    }

    /// Checks that one of `keys` signed it, over these words: the error code, a space and the error
    /// details without the proof.
    ///
    /// # Errors
    /// [`ReceiptError::OtherKey`], [`ReceiptError::Signature`].
    pub fn verify(&self, words: &str, keys: &[ReceiptKey]) -> Result<&ProofFacts, ReceiptError> {
        check_signature(
            keys,
            self.key_id,
            &self.facts.digest(self.key_id, words),
            &self.signature,
        )?;
        Ok(&self.facts)
    }
}

impl fmt::Display for RejectionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.encode().as_hex(), f)
    }
}

impl fmt::Debug for RejectionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RejectionProof({:?} by {})", self.facts, self.key_id)
    }
}

/// The words and the proof of an `error_details`, if it has one.
pub fn split_details(details: &str) -> Option<(&str, &str)> {
    details.rsplit_once(KEY)
}
