//! Tokens that carry their own proof: nothing is stored for a token that was not used.
//!
//! Layout, big endian: version (1 byte), kind (1), sequence (8, microseconds of Unix time, unique
//! and rising), user tag (16), the id of the server (8; in version 1 a nonce), for a job token the
//! template hash (32), MAC (32: HMAC-SHA-256 over all before it, under a key derived from the
//! authority's secret key, so that tokens outlive a restart). Servers that share the key share the
//! MAC as well: a token is good at the server that it names, where it is remembered once spent.
//!
//! The token of an accepted job is its receipt ([`crate::receipts`]). Job tokens with a MAC are
//! what an earlier version gave out: they stay good until they expire.

#![deny(clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, cmp::fixed_time_eq, sha256};
use rand::RngCore;
use validation::declared::TemplateHash;
use validation::receipt::{ServerId, UserHash, tagged_hash};
use validation::rejection::Reason;

use crate::counts::Gauge;
use crate::receipts::Receipts;

/// With a nonce.
const VERSION_UNNAMED: u8 = 1;
/// With the id of the server in its place.
const VERSION: u8 = 2;
const MAC_BYTES: usize = 32;
const ALLOCATED_BYTES: usize = 2 + 8 + 16 + 8 + MAC_BYTES;
const JOB_BYTES: usize = ALLOCATED_BYTES + 32;
const USER_TAG_BYTES: usize = 16;

/// What a user becomes inside a token: the first half of its tagged SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserTag([u8; USER_TAG_BYTES]);

impl UserTag {
    /// Tag of these bytes: of a user, as [`User`](crate::jobs::User) takes it out of an identity.
    pub fn of(user: &[u8]) -> Self {
        Self(UserHash::of(user).0)
    }

    /// As it is stored.
    pub fn to_bytes(self) -> [u8; USER_TAG_BYTES] {
        self.0
    }

    /// From the store.
    pub fn from_bytes(bytes: [u8; USER_TAG_BYTES]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Display for UserTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for UserTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserTag({self})")
    }
}

/// A token that proved genuine, whatever its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Genuine {
    /// Unique and rising: microseconds of Unix time at allocation.
    pub sequence: u64,
    /// Whose it is.
    pub user: UserTag,
}

/// A job token that proved genuine, whatever its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenuineJob {
    /// The accepted template that it stands for.
    pub template: TemplateHash,
    /// Whose it is.
    pub user: UserTag,
    /// When it was given out: microseconds of Unix time, unique and rising at its server.
    pub issued_us: u64,
    /// Until when it is honoured, microseconds of Unix time.
    pub expires_us: u64,
}

/// Why a token is refused. The peer is told all of it: none helps to guess another token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not of our making: wrong length, version, kind or MAC.
    #[error("not a token of this server")]
    Unknown,
    /// Older than its lifetime.
    #[error("expired")]
    Expired,
    /// An earlier declaration used it.
    #[error("spent")]
    Spent,
    /// Recycled: the user had too many unused ones on this connection.
    #[error("recycled")]
    Recycled,
    /// Belongs to another user.
    #[error("of another user")]
    Foreign,
}

impl From<TokenError> for Reason {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Unknown => Self::TokenUnknown,
            TokenError::Expired => Self::TokenExpired,
            TokenError::Spent => Self::TokenSpent,
            TokenError::Recycled => Self::TokenRecycled,
            TokenError::Foreign => Self::TokenForeign,
        }
    }
}

/// Makes and checks tokens.
pub struct TokenMint {
    mac_key: [u8; 32],
    last_sequence: AtomicU64,
    lifetime: Duration,
    /// Signs and checks receipts; names the server.
    receipts: Option<Arc<Receipts>>,
    unused: Gauge,
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Allocated = 1,
    Job = 2,
}

impl TokenMint {
    /// A mint whose MAC key is derived from the authority's secret key. It names no server, and takes
    /// what names any.
    pub fn new(authority_secret: &[u8; 32], lifetime: Duration) -> Self {
        Self {
            mac_key: tagged_hash("jds/token-mac", &[authority_secret]),
            last_sequence: AtomicU64::new(0),
            lifetime,
            receipts: None,
            unused: Gauge::default(),
        }
    }

    /// The mint of the server that signs with `receipts`, and honours what they honour.
    #[must_use]
    pub fn signing(self, receipts: Arc<Receipts>) -> Self {
        Self { receipts: Some(receipts), ..self }
    }

    /// Tokens that connections hold and have not used. Kept up to date by those who hold them.
    pub fn unused(&self) -> &Gauge {
        &self.unused
    }

    /// A fresh token for `AllocateMiningJobToken.Success`, with its sequence number.
    pub fn allocate(&self, user: UserTag, now_unix_us: u64) -> (u64, Vec<u8>) {
        let sequence = self.next_sequence(now_unix_us);
        (sequence, self.seal(Kind::Allocated, sequence, user, None))
    }

    /// The token of an accepted job as an earlier version made it. Those of this version are receipts:
    /// see [`Receipts::accept`].
    pub fn job(&self, user: UserTag, template: &TemplateHash, now_unix_us: u64) -> Vec<u8> {
        self.seal(Kind::Job, self.next_sequence(now_unix_us), user, Some(template))
    }

    /// Checks that `token` is an allocated token of this mint. Its age is another matter: see
    /// [`Self::check_age`].
    ///
    /// # Errors
    /// [`TokenError::Unknown`].
    pub fn open(&self, token: &[u8]) -> Result<Genuine, TokenError> {
        self.parse(token).ok_or(TokenError::Unknown)
    }

    /// Checks a job token, a receipt of any server that is honoured here, that `DeclareMiningJob.Success` carried and `SetCustomMiningJob` brings
    /// back: that it is genuine, and not expired. It may be used more than once (SV2 5.3.18: one job
    /// for each channel).
    ///
    /// # Errors
    /// [`TokenError::Unknown`], [`TokenError::Expired`].
    pub fn open_job(&self, token: &[u8], now_unix_us: u64) -> Result<GenuineJob, TokenError> {
        let receipt = self.receipts.as_ref().and_then(|receipts| receipts.open(token).ok());
        let job = match receipt {
            Some(facts) => GenuineJob {
                template: facts.template_hash,
                user: UserTag(facts.user.0),
                issued_us: facts.accepted_at_us,
                expires_us: facts.expires_us,
            },
            None => self.parse_job(token).ok_or(TokenError::Unknown)?,
        };
        if now_unix_us > job.expires_us { Err(TokenError::Expired) } else { Ok(job) }
    }

    fn parse(&self, token: &[u8]) -> Option<Genuine> {
        let (genuine, _) = self.unseal(Kind::Allocated, ALLOCATED_BYTES, token)?;
        Some(genuine)
    }

    fn parse_job(&self, token: &[u8]) -> Option<GenuineJob> {
        let (Genuine { sequence, user }, rest) = self.unseal(Kind::Job, JOB_BYTES, token)?;
        let template = TemplateHash::from_bytes(rest.try_into().ok()?);
        let expires_us = sequence.saturating_add(self.lifetime.as_micros() as u64);
        Some(GenuineJob { template, user, issued_us: sequence, expires_us })
    }

    /// What is sealed in a token of this kind and size, and the bytes after the nonce.
    fn unseal<'a>(&self, kind: Kind, bytes: usize, token: &'a [u8]) -> Option<(Genuine, &'a [u8])> {
        let (body, mac) = token.split_last_chunk::<MAC_BYTES>()?;
        if token.len() != bytes || !fixed_time_eq(&self.mac(body), mac) {
            return None;
        }
        let (head, rest) = body.split_first_chunk::<2>()?;
        let [version, found] = *head;
        if found != kind as u8 {
            return None;
        }
        let (sequence, rest) = rest.split_first_chunk()?;
        let (user, rest) = rest.split_first_chunk()?;
        let (name, rest) = rest.split_first_chunk()?;
        let ours = match (version, self.server()) {
            (VERSION_UNNAMED, _) | (VERSION, None) => true,
            (VERSION, Some(server)) => ServerId(*name) == server,
            _ => false,
        };
        ours.then_some((
            Genuine { sequence: u64::from_be_bytes(*sequence), user: UserTag(*user) },
            rest,
        ))
    }

    /// Checks the age of a token that this connection did not give out, or gave out and saw used.
    ///
    /// # Errors
    /// [`TokenError::Expired`].
    pub fn check_age(&self, token: Genuine, now_unix_us: u64) -> Result<(), TokenError> {
        let age_us = now_unix_us.saturating_sub(token.sequence);
        if age_us > self.lifetime.as_micros() as u64 { Err(TokenError::Expired) } else { Ok(()) }
    }

    fn next_sequence(&self, now_unix_us: u64) -> u64 {
        let next = |last: u64| Some(now_unix_us.max(last + 1));
        match self.last_sequence.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(last) | Err(last) => now_unix_us.max(last + 1),
        }
    }

    fn seal(
        &self,
        kind: Kind,
        sequence: u64,
        user: UserTag,
        template: Option<&TemplateHash>,
    ) -> Vec<u8> {
        let mut token = Vec::with_capacity(JOB_BYTES);
        let mut name = [0; 8];
        let version = match self.server() {
            Some(server) => {
                name = server.0;
                VERSION
            }
            None => {
                rand::thread_rng().fill_bytes(&mut name);
                VERSION_UNNAMED
            }
        };
        token.extend_from_slice(&[version, kind as u8]);
        token.extend_from_slice(&sequence.to_be_bytes());
        token.extend_from_slice(&user.0);
        token.extend_from_slice(&name);
        if let Some(template) = template {
            token.extend_from_slice(template.as_bytes());
        }
        let mac = self.mac(&token);
        token.extend_from_slice(&mac);
        token
    }

    fn server(&self) -> Option<ServerId> {
        self.receipts.as_ref().map(|receipts| receipts.server())
    }

    fn mac(&self, body: &[u8]) -> [u8; MAC_BYTES] {
        let mut engine = HmacEngine::<sha256::Hash>::new(&self.mac_key);
        engine.input(body);
        Hmac::from_engine(engine).to_byte_array()
    }
}

impl std::fmt::Debug for TokenMint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenMint").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::tests::{HEIGHT, accepted};

    const NOW_US: u64 = 1_700_000_000_000_000;

    fn mint() -> TokenMint {
        TokenMint::new(&[7; 32], Duration::from_secs(60))
    }

    #[test]
    fn a_fresh_token_opens_to_its_user() {
        let mint = mint();
        let user = UserTag::of(b"alice.rig1");
        let (sequence, token) = mint.allocate(user, NOW_US);
        assert_eq!(mint.open(&token), Ok(Genuine { sequence, user }));
        assert!(token.len() <= 255, "fits B0_255");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mint = mint();
        let (_, token) = mint.allocate(UserTag::of(b"alice"), NOW_US);
        for bit in 0..token.len() * 8 {
            let mut forged = token.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(mint.open(&forged), Err(TokenError::Unknown), "bit {bit}");
        }
    }

    #[test]
    fn tokens_of_another_key_and_job_tokens_are_unknown() {
        let user = UserTag::of(b"alice");
        let (_, foreign) = TokenMint::new(&[8; 32], Duration::from_secs(60)).allocate(user, NOW_US);
        assert_eq!(mint().open(&foreign), Err(TokenError::Unknown));
        let job = mint().job(user, &TemplateHash::from_bytes([1; 32]), NOW_US);
        assert!(job.len() <= 255, "fits B0_255");
        assert_eq!(mint().open(&job), Err(TokenError::Unknown));
        for length in 0..=300 {
            assert_eq!(mint().open(&vec![1; length]), Err(TokenError::Unknown));
            assert_eq!(mint().open_job(&vec![1; length], NOW_US), Err(TokenError::Unknown));
        }
    }

    #[test]
    fn a_job_token_opens_to_its_template_until_it_expires() {
        let (user, template) = (UserTag::of(b"alice"), TemplateHash::from_bytes([1; 32]));
        let token = mint().job(user, &template, NOW_US);
        let expires_us = NOW_US + 60_000_000;
        let genuine = GenuineJob { template, user, issued_us: NOW_US, expires_us };
        assert_eq!(mint().open_job(&token, expires_us), Ok(genuine), "after a restart, and again");
        assert_eq!(mint().open_job(&token, expires_us + 1), Err(TokenError::Expired));
        for bit in 0..token.len() * 8 {
            let mut forged = token.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(mint().open_job(&forged, NOW_US), Err(TokenError::Unknown), "bit {bit}");
        }
        let (_, allocated) = mint().allocate(user, NOW_US);
        assert_eq!(mint().open_job(&allocated, NOW_US), Err(TokenError::Unknown));
    }

    fn signing(server: u8) -> (TokenMint, Arc<Receipts>) {
        let server = ServerId([server; 8]);
        let receipts = Receipts::with_keys(&[7; 32], None, std::iter::empty(), server).unwrap();
        let receipts = Arc::new(receipts);
        (mint().signing(Arc::clone(&receipts)), receipts)
    }

    #[test]
    fn servers_that_share_a_key_spend_their_own_tokens_and_honour_receipts_of_both() {
        let ((one, receipts), (other, _)) = (signing(1), signing(2));
        let (user, job) = (UserTag::of(b"alice"), accepted(HEIGHT, &[]));
        let (sequence, token) = one.allocate(user, NOW_US);
        assert_eq!(one.open(&token), Ok(Genuine { sequence, user }));
        assert_eq!(other.open(&token), Err(TokenError::Unknown));
        let receipt = receipts.accept(&job, user);
        for mint in [&one, &other] {
            let opened = mint.open_job(&receipt, NOW_US).unwrap();
            assert_eq!((opened.template, opened.user), (job.template_hash(), user));
            let late = mint.open_job(&receipt, opened.expires_us + 1);
            assert_eq!(late, Err(TokenError::Expired));
            assert_eq!(mint.open(&receipt), Err(TokenError::Unknown));
        }
    }

    #[test]
    fn tokens_of_an_earlier_version_stay_good() {
        let (user, template) = (UserTag::of(b"alice"), TemplateHash::from_bytes([1; 32]));
        let (_, token) = mint().allocate(user, NOW_US);
        let job = mint().job(user, &template, NOW_US);
        let (now, _) = signing(1);
        assert_eq!(now.open(&token).map(|token| token.user), Ok(user));
        assert_eq!(now.open_job(&job, NOW_US).map(|job| job.template), Ok(template));
    }

    #[test]
    fn a_token_expires_and_survives_a_restart() {
        let (_, token) = mint().allocate(UserTag::of(b"alice"), NOW_US);
        let token = mint().open(&token).expect("another mint, same key");
        assert_eq!(mint().check_age(token, NOW_US + 60_000_000), Ok(()));
        assert_eq!(mint().check_age(token, NOW_US + 60_000_001), Err(TokenError::Expired));
    }

    #[test]
    fn sequences_are_unique_even_when_the_clock_stands_still_or_goes_back() {
        let mint = mint();
        let user = UserTag::of(b"alice");
        let sequences: Vec<u64> =
            [NOW_US, NOW_US, NOW_US - 5].map(|now| mint.allocate(user, now).0).into();
        assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    }
}
