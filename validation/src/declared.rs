//! A job as the peer declares it, and the hash that names it.

use std::fmt;

use bitcoin::Wtxid;
use bitcoin::hashes::{Hash, HashEngine, sha256};

use crate::merkle::WitnessRoot;

/// What `DeclareMiningJob` carries (SV2 6.4.4), borrowed from the frame.
#[derive(Debug, Clone, Copy)]
pub struct Declared<'a> {
    /// nVersion of the block header, as the wire has it.
    pub version: u32,
    /// The coinbase transaction up to the extranonce, BIP 141 marker and flag included.
    pub coinbase_prefix: &'a [u8],
    /// The coinbase transaction after the extranonce, witness included.
    pub coinbase_suffix: &'a [u8],
    /// All transactions but the coinbase, in block order.
    pub wtxids: &'a [Wtxid],
}

/// Names a template: a tagged SHA-256 over everything that was declared. The same template
/// declared twice has the same hash; printed as 64 hex digits, first byte first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateHash([u8; 32]);

/// Tag of the hash (as in BIP 340: its own hash, twice, in front).
const TAG: &[u8] = b"sv2-jd/template/1";

impl TemplateHash {
    /// The hash of a declared job. Costs one witness root: use [`crate::Prechecked::template_hash`]
    /// where there is one.
    pub fn of(declared: &Declared<'_>) -> Self {
        Self::with_root(declared, &WitnessRoot::of(declared.wtxids))
    }

    pub(crate) fn with_root(declared: &Declared<'_>, witness_root: &WitnessRoot) -> Self {
        let tag = sha256::Hash::hash(TAG).to_byte_array();
        let mut engine = sha256::Hash::engine();
        engine.input(&tag);
        engine.input(&tag);
        engine.input(&declared.version.to_le_bytes());
        // The lengths are part of it: without them bytes could move between the halves.
        for half in [declared.coinbase_prefix, declared.coinbase_suffix] {
            engine.input(&(half.len() as u64).to_le_bytes());
            engine.input(half);
        }
        engine.input(&(declared.wtxids.len() as u64).to_le_bytes());
        engine.input(witness_root.as_bytes());
        Self(sha256::Hash::from_engine(engine).to_byte_array())
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 32 bytes that [`Self::as_bytes`] gave, for instance out of a store.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for TemplateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TemplateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TemplateHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wtxid(byte: u8) -> Wtxid {
        Wtxid::from_byte_array([byte; 32])
    }

    #[test]
    fn every_field_and_every_boundary_counts() {
        let (a, b, c) = ([wtxid(1), wtxid(2)], [wtxid(2), wtxid(1)], [wtxid(1)]);
        // Three leaves and four with the last one twice have the same merkle root.
        let (odd, even) = ([wtxid(1), wtxid(2)], [wtxid(1), wtxid(2), wtxid(2)]);
        let of = |version, coinbase_prefix, coinbase_suffix, wtxids| {
            TemplateHash::of(&Declared { version, coinbase_prefix, coinbase_suffix, wtxids })
        };
        let base = of(4, &[1, 2], &[3], &a);
        assert_eq!(base, of(4, &[1, 2], &[3], &a));
        for other in [
            of(5, &[1, 2], &[3], &a),
            of(4, &[1], &[2, 3], &a),
            of(4, &[1, 2, 3], &[], &a),
            of(4, &[1, 2], &[4], &a),
            of(4, &[1, 2], &[3], &b),
            of(4, &[1, 2], &[3], &c),
            of(4, &[1, 2], &[3], &[]),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(of(4, &[], &[], &odd), of(4, &[], &[], &even));
        assert_eq!(base.to_string().len(), 64);
        assert_eq!(TemplateHash::from_bytes(*base.as_bytes()), base);
    }

    #[test]
    fn the_hash_is_stable() {
        let hash = TemplateHash::of(&Declared {
            version: 0x2000_0000,
            coinbase_prefix: &[1, 2, 3],
            coinbase_suffix: &[4, 5],
            wtxids: &[wtxid(7)],
        });
        // Stored by servers and named in events: a change here breaks them.
        assert_eq!(
            hash.to_string(),
            "b12ee0193c683a132940c17c5cd02946dfd9551938a6f3b6819ca4f1943bf4c8"
        );
    }
}
