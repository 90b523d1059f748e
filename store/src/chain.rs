//! The event log as a hash chain: what its hashes are over, and how it is checked.
//!
//! Each event's hash is over the hash before it and everything that readers get of the event. A head
//! is a server's signature over the hash of one event, and with it over all before. Who keeps a head
//! notices for ever after that an event below it was changed, removed or put in.
//!
//! Numbers are big endian; a text is its length in bytes (4) and its UTF-8.

use std::sync::LazyLock;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use validation::receipt::{KeyId, ReceiptKey, ServerId};

use crate::event::{EventKind, StreamEpochStarted};
use crate::types::StreamEpoch;

/// What stands for the hash before the first event of a chain.
pub const GENESIS: [u8; 32] = [0; 32];

/// Tag of an event's hash (BIP 340: its own hash, twice, in front).
const EVENT_TAG: &str = "sv2-jd/event/1";

/// Tag of what a head's signature is over.
pub const HEAD_TAG: &str = "sv2-jd/event-head/1";

static EVENT_ENGINE: LazyLock<sha256::HashEngine> = LazyLock::new(|| {
    let tag = sha256::Hash::hash(EVENT_TAG.as_bytes());
    let mut engine = sha256::Hash::engine();
    engine.input(tag.as_byte_array());
    engine.input(tag.as_byte_array());
    engine
});

/// An event as it is stored, for checking: nothing of it is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredEvent<'a> {
    /// Its id.
    pub id: u64,
    /// Unix time in milliseconds.
    pub timestamp: u64,
    /// Version of the payload.
    pub schema: u16,
    /// Name of the event.
    pub kind: &'a str,
    /// Installation.
    pub source: &'a str,
    /// `stratum_v2` or `stratum_v1`.
    pub protocol: &'a str,
    /// The payload: JSON, keys in the order of their bytes, no white space.
    pub data: &'a str,
}

impl StoredEvent<'_> {
    /// Its hash, after the event with the hash `previous`.
    pub fn hash(&self, previous: &[u8; 32]) -> [u8; 32] {
        let mut engine = EVENT_ENGINE.clone();
        engine.input(previous);
        engine.input(&self.id.to_be_bytes());
        engine.input(&self.timestamp.to_be_bytes());
        engine.input(&self.schema.to_be_bytes());
        for text in [self.kind, self.source, self.protocol, self.data] {
            engine.input(&(text.len() as u32).to_be_bytes());
            engine.input(text.as_bytes());
        }
        sha256::Hash::from_engine(engine).to_byte_array()
    }
}

/// A place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The event.
    pub id: u64,
    /// Its hash; [`GENESIS`] where it has none.
    pub hash: [u8; 32],
}

/// Where the chain that is kept begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainEnds {
    /// The last event that is not kept any more or has no hash: what is kept comes after it.
    pub anchor: Link,
    /// The newest event.
    pub last: Link,
}

/// A signed head of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// The event whose hash is signed.
    pub link: Link,
    /// The stream epoch at that time.
    pub epoch: StreamEpoch,
    /// When, Unix milliseconds.
    pub signed_at_ms: u64,
    /// Which server.
    pub server: ServerId,
    /// With which key.
    pub key_id: KeyId,
    /// BIP 340 over the tagged hash of [`head_bytes`].
    pub signature: [u8; 64],
}

/// What a head's signature is over, under [`HEAD_TAG`]: server, epoch, event id, hash, time.
pub fn head_bytes(
    server: ServerId,
    epoch: StreamEpoch,
    link: Link,
    signed_at_ms: u64,
) -> [u8; 8 + 8 + 8 + 32 + 8] {
    let mut bytes = [0; 64];
    let fields: [&[u8]; 5] = [
        &server.0,
        &epoch.0.to_be_bytes(),
        &link.id.to_be_bytes(),
        &link.hash,
        &signed_at_ms.to_be_bytes(),
    ];
    let filled = bytes.iter_mut().zip(fields.concat());
    filled.for_each(|(byte, field)| *byte = field);
    bytes
}

impl SignedHead {
    /// Checks that one of `keys` signed it.
    ///
    /// # Errors
    /// [`ChainError::HeadKey`], [`ChainError::HeadSignature`].
    pub fn verify(&self, keys: &[ReceiptKey]) -> Result<(), ChainError> {
        let id = self.link.id;
        let bytes = head_bytes(self.server, self.epoch, self.link, self.signed_at_ms);
        let mut named = keys.iter().filter(|key| key.id() == self.key_id).peekable();
        if named.peek().is_none() {
            return Err(ChainError::HeadKey { id, key_id: self.key_id });
        }
        let signed = |key: &ReceiptKey| key.has_signed_tagged(HEAD_TAG, &[&bytes], &self.signature);
        if named.any(signed) { Ok(()) } else { Err(ChainError::HeadSignature { id }) }
    }
}

/// Where a chain is broken. Each names the event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Events are missing, or stand in another order.
    #[error("event {id} comes after {before}: what was between is missing")]
    Missing {
        /// The event.
        id: u64,
        /// The one before it.
        before: u64,
    },
    /// The hash is another than that of what is stored, or of what is stored before.
    #[error("event {id} is not what was written: its hash does not fit")]
    Changed {
        /// The event.
        id: u64,
    },
    /// An event without a hash after the chain has begun.
    #[error("event {id} has no hash, though the chain began before")]
    Unchained {
        /// The event.
        id: u64,
    },
    /// A head is over another hash than the chain has there.
    #[error("the head signed at event {id} is of another chain")]
    OtherHead {
        /// The event.
        id: u64,
    },
    /// A head is signed with a key that was not offered.
    #[error("the head at event {id} is signed by the key {key_id}, which was not offered")]
    HeadKey {
        /// The event.
        id: u64,
        /// The key.
        key_id: KeyId,
    },
    /// The signature of a head does not fit.
    #[error("the signature of the head at event {id} does not fit")]
    HeadSignature {
        /// The event.
        id: u64,
    },
}

/// What was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChainReport {
    /// Events from before the chain, which nothing is known of.
    pub unchained: u64,
    /// Events of the chain, each with the right hash.
    pub events: u64,
    /// Heads that were checked.
    pub heads: u64,
    /// The last event under a head; later ones are chained, but not signed for yet.
    pub signed_to: Option<u64>,
    /// The last event.
    pub last_id: u64,
}

/// Checks a chain event by event.
#[derive(Debug)]
pub struct ChainCheck {
    at: Link,
    heads: std::iter::Peekable<std::vec::IntoIter<SignedHead>>,
    report: ChainReport,
}

impl ChainCheck {
    /// Of what comes after `anchor`, against heads by ascending event.
    ///
    /// # Errors
    /// A head that none of `keys` signed.
    pub fn new(
        anchor: Link,
        heads: Vec<SignedHead>,
        keys: &[ReceiptKey],
    ) -> Result<Self, ChainError> {
        heads.iter().try_for_each(|head| head.verify(keys))?;
        let heads = heads.into_iter().peekable();
        let mut check = Self { at: anchor, heads, report: ChainReport::default() };
        check.heads_here()?;
        Ok(check)
    }

    /// The next event, with the hash that is stored with it.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn push(
        &mut self,
        event: &StoredEvent<'_>,
        hash: Option<[u8; 32]>,
    ) -> Result<(), ChainError> {
        let (id, before) = (event.id, self.at.id);
        self.report.last_id = id;
        if self.report.events == 0 && id <= before {
            self.report.unchained += 1;
            return Ok(());
        }
        if id != before + 1 && !begins_epoch_after(event, before) {
            return Err(ChainError::Missing { id, before });
        }
        let Some(hash) = hash else { return Err(ChainError::Unchained { id }) };
        if event.hash(&self.at.hash) != hash {
            return Err(ChainError::Changed { id });
        }
        self.at = Link { id, hash };
        self.report.events += 1;
        self.heads_here()
    }

    /// At the end of the log.
    ///
    /// # Errors
    /// [`ChainError::OtherHead`]: a head of an event that is not there.
    pub fn finish(mut self) -> Result<ChainReport, ChainError> {
        match self.heads.next() {
            Some(head) => Err(ChainError::OtherHead { id: head.link.id }),
            None => Ok(self.report),
        }
    }

    fn heads_here(&mut self) -> Result<(), ChainError> {
        while let Some(head) = self.heads.next_if(|head| head.link.id <= self.at.id) {
            if head.link != self.at {
                return Err(ChainError::OtherHead { id: head.link.id });
            }
            self.report.heads += 1;
            self.report.signed_to = Some(head.link.id);
        }
        Ok(())
    }
}

/// The only gap that there is: a restored database goes on above what readers may have seen, and
/// says so.
fn begins_epoch_after(event: &StoredEvent<'_>, before: u64) -> bool {
    event.kind == EventKind::StreamEpochStarted.as_str()
        && serde_json::from_str(event.data).is_ok_and(|started: StreamEpochStarted| {
            let next = started.previous_last_id.max(started.kept_last_id).saturating_add(1);
            // Kept until here; or all of it is lost.
            next == event.id && started.kept_last_id == before
        })
}

#[cfg(test)]
mod tests {
    use validation::receipt::SigningKey;

    use super::*;

    const DATA: &str = r#"{"a":1}"#;

    fn event(id: u64, data: &str) -> StoredEvent<'_> {
        StoredEvent {
            id,
            timestamp: 1_693_612_345_678,
            schema: 1,
            kind: "share_submitted",
            source: "hosted",
            protocol: "stratum_v2",
            data,
        }
    }

    fn head(key: &SigningKey, link: Link) -> SignedHead {
        let (server, epoch) = (ServerId([1; 8]), StreamEpoch(7));
        let bytes = head_bytes(server, epoch, link, 5);
        let signature = key.sign_tagged(HEAD_TAG, &[&bytes], &[0; 32]);
        let key_id = key.public().id();
        SignedHead { link, epoch, signed_at_ms: 5, server, key_id, signature }
    }

    /// Events 1 to 5 with their hashes.
    fn chain() -> Vec<(StoredEvent<'static>, [u8; 32])> {
        let mut previous = GENESIS;
        let link = |id| {
            let event = event(id, DATA);
            previous = event.hash(&previous);
            (event, previous)
        };
        (1..=5).map(link).collect()
    }

    fn check(
        anchor: Link,
        heads: Vec<SignedHead>,
        events: &[(StoredEvent<'_>, [u8; 32])],
    ) -> Result<ChainReport, ChainError> {
        let key = SigningKey::from_bytes(&[3; 32]).unwrap();
        let mut check = ChainCheck::new(anchor, heads, &[*key.public()])?;
        events.iter().try_for_each(|(event, hash)| check.push(event, Some(*hash)))?;
        check.finish()
    }

    const START: Link = Link { id: 0, hash: GENESIS };

    #[test]
    fn a_whole_chain_passes_and_every_change_is_noticed() {
        let (chain, key) = (chain(), SigningKey::from_bytes(&[3; 32]).unwrap());
        let heads = || vec![head(&key, Link { id: 4, hash: chain[3].1 })];
        let report = check(START, heads(), &chain).unwrap();
        assert_eq!((report.events, report.heads, report.signed_to), (5, 1, Some(4)));
        // Below what retention left.
        let anchor = Link { id: 2, hash: chain[1].1 };
        assert_eq!(check(anchor, heads(), &chain[2..]).unwrap().events, 3);

        let mut removed = chain.clone();
        removed.remove(2);
        assert_eq!(check(START, heads(), &removed), Err(ChainError::Missing { id: 4, before: 2 }));
        for changed in [
            StoredEvent { data: r#"{"a":2}"#, ..chain[2].0 },
            StoredEvent { timestamp: 1, ..chain[2].0 },
            StoredEvent { kind: "block_found", ..chain[2].0 },
            StoredEvent { source: "", ..chain[2].0 },
            StoredEvent { protocol: "stratum_v1", ..chain[2].0 },
            StoredEvent { schema: 2, ..chain[2].0 },
        ] {
            let mut other = chain.clone();
            other[2].0 = changed;
            assert_eq!(check(START, heads(), &other), Err(ChainError::Changed { id: 3 }));
        }
        // Somebody writes the whole chain anew: the head tells.
        let mut previous = GENESIS;
        let anew = |(event, _): &(StoredEvent<'static>, _)| {
            let event = StoredEvent { source: "other", ..*event };
            previous = event.hash(&previous);
            (event, previous)
        };
        let anew: Vec<_> = chain.iter().map(anew).collect();
        assert_eq!(check(START, vec![], &anew).unwrap().signed_to, None);
        assert_eq!(check(START, heads(), &anew), Err(ChainError::OtherHead { id: 4 }));
        // The end is cut off.
        assert_eq!(check(START, heads(), &chain[..3]), Err(ChainError::OtherHead { id: 4 }));
    }

    #[test]
    fn a_head_is_signed_as_it_is() {
        let key = SigningKey::from_bytes(&[3; 32]).unwrap();
        let good = head(&key, Link { id: 4, hash: [9; 32] });
        assert_eq!(good.verify(&[*key.public()]), Ok(()));
        assert!(matches!(good.verify(&[]), Err(ChainError::HeadKey { id: 4, .. })));
        for bad in [
            SignedHead { link: Link { id: 5, ..good.link }, ..good.clone() },
            SignedHead { link: Link { hash: [8; 32], ..good.link }, ..good.clone() },
            SignedHead { epoch: StreamEpoch(8), ..good.clone() },
            SignedHead { signed_at_ms: 6, ..good.clone() },
            SignedHead { server: ServerId([2; 8]), ..good.clone() },
        ] {
            let refused = bad.verify(&[*key.public()]);
            assert_eq!(refused, Err(ChainError::HeadSignature { id: bad.link.id }));
        }
    }

    #[test]
    fn the_chain_begins_after_what_has_no_hash_and_goes_on_in_a_new_epoch() {
        let mut check = ChainCheck::new(Link { id: 1, ..START }, vec![], &[]).unwrap();
        check.push(&event(1, DATA), None).unwrap();
        let second = event(2, DATA);
        let hash = second.hash(&GENESIS);
        check.push(&second, Some(hash)).unwrap();
        assert_eq!(check.push(&event(3, DATA), None), Err(ChainError::Unchained { id: 3 }));
        let data = r#"{"epoch":"b","kept_last_id":2,"previous_epoch":"a","previous_last_id":8,"reason":"r"}"#;
        let begin = StoredEvent { kind: "stream_epoch_started", ..event(9, data) };
        let other = data.replace(":2,", ":3,");
        let wrong = StoredEvent { data: &other, ..begin };
        let gap = check.push(&wrong, Some(wrong.hash(&hash)));
        assert_eq!(gap, Err(ChainError::Missing { id: 9, before: 2 }));
        check.push(&begin, Some(begin.hash(&hash))).unwrap();
        let report = check.finish().unwrap();
        assert_eq!((report.unchained, report.events, report.last_id), (1, 2, 9));
    }
}
