//! Signs verdicts: which key, as which server, and whose receipts are honoured.

mod server_id;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngCore;
use validation::declared::TemplateHash;
use validation::job::AcceptedJob;
use validation::receipt::{
    self, KeyState, ProofFacts, PublishedKey, ReceiptError, ReceiptFacts, ReceiptKey, ServerId,
    SigningKey, UserHash,
};
use validation::rejection::Rejection;

pub use server_id::{ServerIdError, of_directory};

use crate::clock;
use crate::limits::TOKEN_LIFETIME;
use crate::token::UserTag;

/// Signs verdicts and checks receipts.
#[derive(Debug)]
pub struct Receipts {
    signing: SigningKey,
    server: ServerId,
    honoured: Vec<ReceiptKey>,
    published: Vec<PublishedKey>,
    lifetime: Duration,
    last_us: AtomicU64,
}

/// Keys that can not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a key on secp256k1")]
pub struct NotAKey(&'static str);

impl Receipts {
    /// With the keys of the configuration, as this server.
    ///
    /// # Errors
    /// [`NotAKey`] names the setting; the configuration lets no such key through.
    pub fn new(config: &config::Checked, server: ServerId) -> Result<Self, NotAKey> {
        let authority = config.authority.secret_key.expose_bytes();
        let subkey = config.receipts.key.as_ref().map(|(_, key)| key.expose_bytes());
        let retired = config.receipts.retired_keys.iter().map(|key| key.to_bytes());
        Self::with_keys(authority, subkey, retired, server)
    }

    /// With these keys: secret ones of the authority and, if another signs, of that; public ones
    /// that are honoured besides.
    ///
    /// # Errors
    /// [`NotAKey`] names the setting.
    pub fn with_keys(
        authority: &[u8; 32],
        subkey: Option<&[u8; 32]>,
        retired: impl Iterator<Item = [u8; 32]>,
        server: ServerId,
    ) -> Result<Self, NotAKey> {
        let authority = SigningKey::from_bytes(authority).ok_or(NotAKey("authority.secret_key"))?;
        let own = *authority.public();
        let subkey = match subkey {
            Some(secret) => {
                let key = SigningKey::from_bytes(secret).ok_or(NotAKey("receipts.key_file"))?;
                (*key.public() != own).then_some(key)
            }
            None => None,
        };
        let mut published = match &subkey {
            None => vec![PublishedKey { key: own, state: KeyState::Active, endorsement: None }],
            Some(subkey) => vec![
                vouched(&authority, *subkey.public(), KeyState::Active),
                PublishedKey { key: own, state: KeyState::Authority, endorsement: None },
            ],
        };
        for bytes in retired {
            let key = ReceiptKey::from_bytes(&bytes).ok_or(NotAKey("receipts.retired_keys"))?;
            if published.iter().all(|published| published.key != key) {
                published.push(vouched(&authority, key, KeyState::Retired));
            }
        }
        Ok(Self {
            signing: subkey.unwrap_or(authority),
            server,
            honoured: published.iter().map(|published| published.key).collect(),
            published,
            lifetime: TOKEN_LIFETIME,
            last_us: AtomicU64::new(0),
        })
    }

    /// Which server it signs as.
    pub fn server(&self) -> ServerId {
        self.server
    }

    /// The key that signs.
    pub fn key(&self) -> &ReceiptKey {
        self.signing.public()
    }

    /// Every key that somebody may need to check a receipt, the one that signs first.
    pub fn published(&self) -> &[PublishedKey] {
        &self.published
    }

    /// The receipt of an accepted job, as a token. Takes some 30 microseconds: not for the reactor.
    pub fn accept(&self, job: &AcceptedJob, user: UserTag) -> Vec<u8> {
        let accepted_at_us = self.next_us();
        let expires_us = accepted_at_us.saturating_add(self.lifetime.as_micros() as u64);
        let times = (accepted_at_us, expires_us);
        let facts = ReceiptFacts::of(job, self.server, UserHash(user.to_bytes()), times);
        facts.sign(&self.signing, &random()).encode()
    }

    /// Signs a rejection. Takes as long as [`Self::accept`].
    pub fn reject(
        &self,
        mut rejection: Rejection,
        template_hash: Option<TemplateHash>,
        user: UserTag,
    ) -> Rejection {
        let user = UserHash(user.to_bytes());
        let (server, rejected_at_us) = (self.server, self.next_us());
        let facts = ProofFacts { server, rejected_at_us, user, template_hash };
        let proof = facts.sign(&rejection.words(), &self.signing, &random());
        rejection.proof = Some(Box::new(proof));
        rejection
    }

    /// Checks a receipt of any server whose key is honoured here. Its age is another matter.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn open(&self, token: &[u8]) -> Result<ReceiptFacts, ReceiptError> {
        receipt::verify(token, &self.honoured)
    }

    /// Signs what else of this server is to be checked offline, under a tag of its own.
    pub fn sign_tagged(&self, tag: &str, parts: &[&[u8]]) -> [u8; 64] {
        self.signing.sign_tagged(tag, parts, &random())
    }

    /// Now, and later than ever before: no two receipts are the same.
    fn next_us(&self) -> u64 {
        let now = clock::unix_us();
        let next = |last: u64| Some(now.max(last + 1));
        match self.last_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(last) | Err(last) => now.max(last + 1),
        }
    }
}

fn vouched(authority: &SigningKey, key: ReceiptKey, state: KeyState) -> PublishedKey {
    PublishedKey { key, state, endorsement: Some(authority.endorse(&key)) }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::thread_rng().fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use validation::rejection::Reason;

    use super::*;
    use crate::jobs::tests::{HEIGHT, accepted};

    const SERVER: ServerId = ServerId([1; 8]);

    fn with(
        authority: u8,
        subkey: Option<u8>,
        retired: &[&Receipts],
        server: ServerId,
    ) -> Receipts {
        let subkey = subkey.map(|byte| [byte; 32]);
        let retired = retired.iter().map(|receipts| receipts.key().to_bytes());
        Receipts::with_keys(&[authority; 32], subkey.as_ref(), retired, server).unwrap()
    }

    #[test]
    fn receipts_outlive_a_change_of_keys() {
        let (user, job) = (UserTag::of(b"alice"), accepted(HEIGHT, &[]));
        let old = with(1, None, &[], SERVER);
        let receipt = old.accept(&job, user);
        let facts = old.open(&receipt).unwrap();
        assert_eq!(facts.template_hash, job.template_hash());
        assert_eq!((facts.user.0, facts.server), (user.to_bytes(), SERVER));

        let new = with(2, Some(3), &[], SERVER);
        assert_eq!(new.open(&receipt), Err(ReceiptError::OtherKey(old.key().id())));
        let new = with(2, Some(3), &[&old], ServerId([2; 8]));
        assert_eq!(new.open(&receipt), Ok(facts));
        let authority = new.published().iter().find(|key| key.state == KeyState::Authority);
        let authority = authority.unwrap().key;
        assert_eq!(authority, *with(2, None, &[], SERVER).key());
        for published in new.published().iter().filter(|published| published.key != authority) {
            let endorsement = published.endorsement.unwrap();
            assert_eq!(endorsement.verify(&authority, &published.key), Ok(()), "{published:?}");
        }
        let of_subkey = new.open(&new.accept(&job, user)).unwrap();
        assert_eq!(of_subkey.server, ServerId([2; 8]));
    }

    #[test]
    fn no_two_verdicts_have_the_same_time() {
        let (receipts, job) = (with(1, None, &[], SERVER), accepted(HEIGHT, &[]));
        let user = UserTag::of(b"alice");
        let time = |_| receipts.open(&receipts.accept(&job, user)).unwrap().accepted_at_us;
        let times: Vec<u64> = (0..20).map(time).collect();
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
        let rejection = receipts.reject(Rejection::new(Reason::Weight), None, user);
        let proof = rejection.proof.as_ref().unwrap();
        assert_eq!(proof.verify(&rejection.words(), &[*receipts.key()]), Ok(proof.facts()));
        assert!(proof.facts().rejected_at_us > *times.last().unwrap());
    }
}
