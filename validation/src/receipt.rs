//! Signed verdicts: the receipt of an accepted template, and the proof of a rejected one.
//!
//! Both are fixed layouts with a BIP 340 signature at the end. What is signed is a tagged hash of
//! its own for each, which nothing else that the key signs can equal: the certificate of a Noise
//! handshake is a plain SHA-256 (SV2 4.5.3), and an endorsement of another key has a third tag.
//! Whoever has the public key can check them, without a server, a clock or a network.
//!
//! All numbers are big endian; hashes are bytes as they are hashed, not as they are printed.

mod key;
mod refused;

use bitcoin::BlockHash;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::secp256k1::schnorr::Signature;

pub use key::{
    Endorsement, EndorsementError, KeyId, KeyState, PublishedKey, ReceiptKey, SigningKey,
};
pub use refused::{PROOF_BYTES, ProofFacts, RejectionProof, split_details};

use crate::declared::{Declared, TemplateHash};
use crate::identity::user_of_bytes;
use crate::job::AcceptedJob;
use crate::merkle::WitnessRoot;

/// Size of a receipt, bytes; a token of SV2 has room for 255.
pub const RECEIPT_BYTES: usize = BODY_BYTES + SIGNATURE_BYTES;

/// Version of the layouts here.
const VERSION: u8 = 1;
const KIND_ACCEPTED: u8 = b'A';
const SIGNATURE_BYTES: usize = 64;
const BODY_BYTES: usize = 2 + 8 + 8 + 8 + 8 + 16 + 4 + 3 * 32;

/// Tag of what a receipt's signature is over (as in BIP 340: its own hash, twice, in front).
const TAG: &str = "sv2-jd/receipt/1";

/// Names a server among those that share a key: 8 bytes that it drew at its first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerId(pub [u8; 8]);

/// A user as a receipt names it: the first half of a tagged hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserHash(pub [u8; 16]);

/// Tag of [`UserHash::of`].
const USER_TAG: &str = "jds/user";

impl UserHash {
    /// Of the user in `AllocateMiningJobToken.user_identifier`, see [`crate::identity`]. In receipts of
    /// before users and workers were told apart it is of all of that.
    pub fn of(user: &[u8]) -> Self {
        let digest = tagged_hash(USER_TAG, &[user]);
        // The digest is longer than the name, so it is always there.
        Self(digest.first_chunk().copied().unwrap_or_default())
    }

    /// Whether a receipt about this one is about an identity: about its user, or, an earlier receipt,
    /// about the very same identity.
    pub fn is_of(&self, identity: &[u8]) -> bool {
        [user_of_bytes(identity), identity].into_iter().any(|name| Self::of(name) == *self)
    }
}

/// What a receipt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiptFacts {
    /// Which server accepted it.
    pub server: ServerId,
    /// When: microseconds of Unix time, unique and rising at that server.
    pub accepted_at_us: u64,
    /// Until when the job may be brought with it, microseconds of Unix time. What it proves does not
    /// expire.
    pub expires_us: u64,
    /// Who declared it.
    pub user: UserHash,
    /// Height of the block that the template is for.
    pub height: u32,
    /// The template.
    pub template_hash: TemplateHash,
    /// Root over its wtxids, the coinbase's counted as zero (BIP 141).
    pub wtxid_root: [u8; 32],
    /// The block that it was judged on.
    pub prev_hash: BlockHash,
}

impl ReceiptFacts {
    /// Of an accepted job.
    pub fn of(
        job: &AcceptedJob,
        server: ServerId,
        user: UserHash,
        (accepted_at_us, expires_us): (u64, u64),
    ) -> Self {
        Self {
            server,
            accepted_at_us,
            expires_us,
            user,
            height: job.height(),
            template_hash: job.template_hash(),
            wtxid_root: *job.witness_root().as_bytes(),
            prev_hash: job.prev_hash(),
        }
    }

    /// Signs. `aux` are 32 fresh random bytes (BIP 340: they protect the key, the signature is as
    /// good without).
    pub fn sign(self, key: &SigningKey, aux: &[u8; 32]) -> Receipt {
        let key_id = key.public().id();
        let signature = key.sign(&self.digest(key_id), aux);
        Receipt { facts: self, key_id, signature }
    }

    fn body(&self, key_id: KeyId) -> Vec<u8> {
        let mut body = Vec::with_capacity(RECEIPT_BYTES);
        body.extend_from_slice(&[VERSION, KIND_ACCEPTED]);
        body.extend_from_slice(&key_id.0);
        body.extend_from_slice(&self.server.0);
        body.extend_from_slice(&self.accepted_at_us.to_be_bytes());
        body.extend_from_slice(&self.expires_us.to_be_bytes());
        body.extend_from_slice(&self.user.0);
        body.extend_from_slice(&self.height.to_be_bytes());
        body.extend_from_slice(self.template_hash.as_bytes());
        body.extend_from_slice(&self.wtxid_root);
        body.extend_from_slice(self.prev_hash.as_byte_array());
        body
    }

    fn digest(&self, key_id: KeyId) -> [u8; 32] {
        tagged_hash(TAG, &[&self.body(key_id)])
    }
}

/// A receipt: proof that a server accepted a template. Not yet checked: see [`Self::verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    facts: ReceiptFacts,
    key_id: KeyId,
    signature: Signature,
}

/// Why something is no receipt, or proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Another size than the layout has.
    #[error("has {found} bytes (expected {expected})")]
    Length {
        /// Its size.
        found: usize,
        /// That of the layout.
        expected: usize,
    },
    /// Another version or kind: for instance a token of another making.
    #[error("begins with {version:#04x} {kind:#04x}, which is no version and kind known here")]
    Unknown {
        /// First byte.
        version: u8,
        /// Second byte.
        kind: u8,
    },
    /// None of the keys that were offered is the one that it names.
    #[error("is signed by the key {0}, which was not offered")]
    OtherKey(KeyId),
    /// The signature is not by that key over these bytes.
    #[error("has a signature that does not fit: it was changed, or never given")]
    Signature,
    /// It is about another template.
    #[error("is about the template {receipt}, not {template}")]
    OtherTemplate {
        /// What it names.
        receipt: TemplateHash,
        /// What was offered.
        template: TemplateHash,
    },
}

impl Receipt {
    /// What it says. Believe it after [`Self::verify`].
    pub fn facts(&self) -> &ReceiptFacts {
        &self.facts
    }

    /// The key that it says it is signed with.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// As it goes over the wire, [`RECEIPT_BYTES`] long.
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
        expect_kind(bytes, KIND_ACCEPTED)?;
        let length = ReceiptError::Length { found: bytes.len(), expected: RECEIPT_BYTES };
        let mut reader = Fields(bytes);
        let read = |reader: &mut Fields<'_>| {
            let _version_and_kind: [u8; 2] = reader.take()?;
            let key_id = KeyId(reader.take()?);
            let facts = ReceiptFacts {
                server: ServerId(reader.take()?),
                accepted_at_us: u64::from_be_bytes(reader.take()?),
                expires_us: u64::from_be_bytes(reader.take()?),
                user: UserHash(reader.take()?),
                height: u32::from_be_bytes(reader.take()?),
                template_hash: TemplateHash::from_bytes(reader.take()?),
                wtxid_root: reader.take()?,
                prev_hash: BlockHash::from_byte_array(reader.take()?),
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

    /// Checks that one of `keys` signed it. Says nothing of its age: a receipt proves what was
    /// accepted for ever, see [`ReceiptFacts::expires_us`].
    ///
    /// # Errors
    /// [`ReceiptError::OtherKey`], [`ReceiptError::Signature`].
    pub fn verify(&self, keys: &[ReceiptKey]) -> Result<&ReceiptFacts, ReceiptError> {
        check_signature(keys, self.key_id, &self.facts.digest(self.key_id), &self.signature)?;
        Ok(&self.facts)
    }

    /// Checks that it is about this template.
    ///
    /// # Errors
    /// [`ReceiptError::OtherTemplate`].
    pub fn check_template(&self, declared: &Declared<'_>) -> Result<(), ReceiptError> {
        let root = WitnessRoot::of(declared.wtxids);
        let template = TemplateHash::with_root(declared, &root);
        let receipt = self.facts.template_hash;
        if template == receipt && *root.as_bytes() == self.facts.wtxid_root {
            Ok(())
        } else {
            Err(ReceiptError::OtherTemplate { receipt, template })
        }
    }
}

/// Reads and checks a receipt: [`Receipt::decode`] and [`Receipt::verify`] in one.
///
/// # Errors
/// [`ReceiptError`], except [`ReceiptError::OtherTemplate`].
pub fn verify(token: &[u8], keys: &[ReceiptKey]) -> Result<ReceiptFacts, ReceiptError> {
    Receipt::decode(token)?.verify(keys).copied()
}

/// By any of the keys with that id: 64 bits may collide by ill will.
fn check_signature(
    keys: &[ReceiptKey],
    id: KeyId,
    digest: &[u8; 32],
    signature: &Signature,
) -> Result<(), ReceiptError> {
    let mut named = keys.iter().filter(|key| key.id() == id).peekable();
    if named.peek().is_none() {
        return Err(ReceiptError::OtherKey(id));
    }
    if named.any(|key| key.has_signed(digest, signature)) {
        Ok(())
    } else {
        Err(ReceiptError::Signature)
    }
}

fn expect_kind(bytes: &[u8], expected: u8) -> Result<(), ReceiptError> {
    match bytes.first_chunk() {
        Some([VERSION, kind]) if *kind == expected => Ok(()),
        Some(&[version, kind]) => Err(ReceiptError::Unknown { version, kind }),
        None => Err(ReceiptError::Length { found: bytes.len(), expected: RECEIPT_BYTES }),
    }
}

/// Bytes, field by field.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

/// SHA-256 under a tag, as BIP 340 defines tagged hashes.
pub fn tagged_hash(tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    let tag = sha256::Hash::hash(tag.as_bytes());
    let mut engine = sha256::Hash::engine();
    engine.input(tag.as_byte_array());
    engine.input(tag.as_byte_array());
    parts.iter().for_each(|part| engine.input(part));
    sha256::Hash::from_engine(engine).to_byte_array()
}
