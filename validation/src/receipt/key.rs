//! The keys of receipts: how they are named, and how one vouches for another.

use std::fmt;
use std::sync::LazyLock;

use bitcoin::base58;
use bitcoin::hex::DisplayHex;
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{All, Keypair, Message, Secp256k1, XOnlyPublicKey};

use super::{SIGNATURE_BYTES, tagged_hash};

/// Tag of [`KeyId`].
const ID_TAG: &str = "sv2-jd/receipt-key-id/1";
/// Tag of what an endorsement's signature is over.
const ENDORSEMENT_TAG: &str = "sv2-jd/receipt-key/1";

static SECP: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// Names a key: the first 8 bytes of a tagged hash of its 32 bytes. Printed as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0.as_hex(), f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The public half of a key that signs receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiptKey {
    key: XOnlyPublicKey,
    id: KeyId,
}

impl ReceiptKey {
    /// From the 32 bytes of an x-only key (BIP 340); `None` when there is no such key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        XOnlyPublicKey::from_slice(bytes).ok().map(Self::new)
    }

    fn new(key: XOnlyPublicKey) -> Self {
        let digest = tagged_hash(ID_TAG, &[&key.serialize()]);
        // The digest is longer than the id, so it is always there.
        Self { key, id: KeyId(digest.first_chunk().copied().unwrap_or_default()) }
    }

    /// The x-only key.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.key.serialize()
    }

    /// What receipts call it.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn has_signed(&self, digest: &[u8; 32], signature: &Signature) -> bool {
        let message = Message::from_digest(*digest);
        SECP.verify_schnorr(signature, &message, &self.key).is_ok()
    }

    /// Whether it signed `parts` under `tag`, as [`SigningKey::sign_tagged`] does.
    pub fn has_signed_tagged(&self, tag: &str, parts: &[&[u8]], signature: &[u8]) -> bool {
        let digest = tagged_hash(tag, parts);
        Signature::from_slice(signature).is_ok_and(|signature| self.has_signed(&digest, &signature))
    }
}

/// As SV2 writes a public key: base58check of version 1 (u16, little endian) and the 32 bytes.
impl fmt::Display for ReceiptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![1, 0];
        bytes.extend_from_slice(&self.to_bytes());
        f.write_str(&base58::encode_check(&bytes))
    }
}

/// The secret half. Prints as its public one.
pub struct SigningKey {
    pair: Keypair,
    public: ReceiptKey,
}

impl SigningKey {
    /// From the 32 bytes of a secret key; `None` when there is no such key.
    pub fn from_bytes(secret: &[u8; 32]) -> Option<Self> {
        let pair = Keypair::from_seckey_slice(&SECP, secret).ok()?;
        let public = ReceiptKey::new(pair.x_only_public_key().0);
        Some(Self { pair, public })
    }

    /// The public half.
    pub fn public(&self) -> &ReceiptKey {
        &self.public
    }

    pub(super) fn sign(&self, digest: &[u8; 32], aux: &[u8; 32]) -> Signature {
        SECP.sign_schnorr_with_aux_rand(&Message::from_digest(*digest), &self.pair, aux)
    }

    /// Signs `parts` under a tag of the caller's, which is that of nothing else: for what else of
    /// a server is signed, such as the heads of its event log.
    pub fn sign_tagged(&self, tag: &str, parts: &[&[u8]], aux: &[u8; 32]) -> [u8; SIGNATURE_BYTES] {
        self.sign(&tagged_hash(tag, parts), aux).serialize()
    }

    /// Vouches for another key.
    pub fn endorse(&self, other: &ReceiptKey) -> Endorsement {
        // The same for the same key, for ever: nothing about it is secret or new.
        let signature = self.sign(&endorsed(other), &[0; 32]);
        Endorsement(signature.serialize())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public.id).finish()
    }
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.pair.non_secure_erase();
    }
}

/// The word of an authority key for another key: its receipts are as good as those of the former.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Endorsement(pub [u8; SIGNATURE_BYTES]);

/// An endorsement that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key {key} is not endorsed by the authority key {authority}")]
pub struct EndorsementError {
    /// What was to be believed.
    pub key: KeyId,
    /// By whose word.
    pub authority: KeyId,
}

impl Endorsement {
    /// Checks that `authority` vouches for `key`.
    ///
    /// # Errors
    /// It does not.
    pub fn verify(&self, authority: &ReceiptKey, key: &ReceiptKey) -> Result<(), EndorsementError> {
        let signature = Signature::from_slice(&self.0);
        if signature.is_ok_and(|signature| authority.has_signed(&endorsed(key), &signature)) {
            Ok(())
        } else {
            Err(EndorsementError { key: key.id(), authority: authority.id() })
        }
    }
}

impl fmt::Debug for Endorsement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endorsement({})", self.0.as_hex())
    }
}

/// A key that is published, and by whose word it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedKey {
    /// The key.
    pub key: ReceiptKey,
    /// What it is for.
    pub state: KeyState,
    /// The word of the authority key for it; `None` for that key itself.
    pub endorsement: Option<Endorsement>,
}

/// What a published key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Signs now.
    Active,
    /// Signs no receipts, but vouches for the keys that do.
    Authority,
    /// Signed before, or signs elsewhere.
    Retired,
}

impl KeyState {
    /// As it is published.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Authority => "authority",
            Self::Retired => "retired",
        }
    }
}

fn endorsed(key: &ReceiptKey) -> [u8; 32] {
    tagged_hash(ENDORSEMENT_TAG, &[&key.to_bytes()])
}
