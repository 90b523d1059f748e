//! Tokens that carry their own proof: nothing is stored for a token that was not used.
//!
//! Layout, big endian: version (1 byte), kind (1), sequence (8, microseconds of Unix time, unique
//! and rising), user tag (16), nonce (8), for a job token the template hash (32), MAC (32:
//! HMAC-SHA-256 over all before it, under a key derived from the authority's secret key, so that
//! tokens outlive a restart).

#![deny(clippy::indexing_slicing)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, cmp::fixed_time_eq, sha256};
use rand::RngCore;
use validation::declared::TemplateHash;
use validation::rejection::Reason;

use crate::counts::Gauge;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
const ALLOCATED_BYTES: usize = 2 + 8 + 16 + 8 + MAC_BYTES;
const JOB_BYTES: usize = ALLOCATED_BYTES + 32;
const USER_TAG_BYTES: usize = 16;

/// What a user identifier becomes inside a token: the first half of its tagged SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserTag([u8; USER_TAG_BYTES]);

impl UserTag {
    /// Tag of the identifier as the peer sent it (any bytes).
    pub fn of(user_identifier: &[u8]) -> Self {
        let digest = tagged_hash("jds/user", &[user_identifier]);
        // The digest is longer than the tag, so the tag is always there.
        Self(digest.first_chunk().copied().unwrap_or_default())
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
    unused: Gauge,
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Allocated = 1,
    Job = 2,
}

impl TokenMint {
    /// A mint whose MAC key is derived from the authority's secret key.
    pub fn new(authority_secret: &[u8; 32], lifetime: Duration) -> Self {
        Self {
            mac_key: tagged_hash("jds/token-mac", &[authority_secret]),
            last_sequence: AtomicU64::new(0),
            lifetime,
            unused: Gauge::default(),
        }
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

    /// The token of an accepted job, for `DeclareMiningJob.Success`.
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

    /// Checks a job token, that `DeclareMiningJob.Success` carried and `SetCustomMiningJob` brings
    /// back: that it is genuine, and not expired. It may be used more than once (SV2 5.3.18: one job
    /// for each channel).
    ///
    /// # Errors
    /// [`TokenError::Unknown`], [`TokenError::Expired`].
    pub fn open_job(&self, token: &[u8], now_unix_us: u64) -> Result<GenuineJob, TokenError> {
        let job = self.parse_job(token).ok_or(TokenError::Unknown)?;
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
        if *head != [VERSION, kind as u8] {
            return None;
        }
        let (sequence, rest) = rest.split_first_chunk()?;
        let (user, rest) = rest.split_first_chunk()?;
        let (_nonce, rest) = rest.split_first_chunk::<8>()?;
        Some((Genuine { sequence: u64::from_be_bytes(*sequence), user: UserTag(*user) }, rest))
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
        token.extend_from_slice(&[VERSION, kind as u8]);
        token.extend_from_slice(&sequence.to_be_bytes());
        token.extend_from_slice(&user.0);
        let mut nonce = [0; 8];
        rand::thread_rng().fill_bytes(&mut nonce);
        token.extend_from_slice(&nonce);
        if let Some(template) = template {
            token.extend_from_slice(template.as_bytes());
        }
        let mac = self.mac(&token);
        token.extend_from_slice(&mac);
        token
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

/// SHA-256 under a tag, as BIP 340 defines tagged hashes.
fn tagged_hash(tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    let tag = sha256::Hash::hash(tag.as_bytes());
    let mut engine = sha256::Hash::engine();
    engine.input(tag.as_byte_array());
    engine.input(tag.as_byte_array());
    parts.iter().for_each(|part| engine.input(part));
    sha256::Hash::from_engine(engine).to_byte_array()
}

#[cfg(test)]
mod tests {
    use super::*;

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
