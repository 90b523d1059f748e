//! A job: everything of a header but what the miner rolls.

use std::fmt;
use std::sync::Arc;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::{Hash, HashEngine, sha256, sha256d};
use bitcoin::{CompactTarget, Target, TxMerkleNode};
use channels_sv2::VERSION_ROLLING_MASK;
use validation::CoinbaseParts;
use validation::merkle::root_from_branch;
use validation::payout::split;
use validation::rules::Rules;
use validation::tip::ChainTip;

use crate::coinbase::{CoinbaseError, pool_coinbase};
use crate::deps::Settings;
use crate::work::{CustomJob, JobSource, PoolWork};

/// A job. Channels that work on the same coinbase share one.
#[derive(Debug)]
pub struct Job {
    /// Unique on its connection.
    id: u32,
    version: u32,
    version_mask: u32,
    min_ntime: u32,
    bits: CompactTarget,
    tip: ChainTip,
    coinbase: Arc<CoinbaseParts>,
    /// SHA-256 after the coinbase's prefix.
    engine: Midstate,
    merkle_path: Arc<[[u8; 32]]>,
    source: JobSource,
}

impl Job {
    /// A job of the pool's for a user. `extranonce_len`: bytes of the full extranonce; `min_ntime`:
    /// Unix seconds, at least the work's.
    ///
    /// # Errors
    /// [`CoinbaseError`]: the template or the outputs are unusable.
    pub fn for_user(
        id: u32,
        work: Arc<PoolWork>,
        rules: &Rules,
        settings: &Settings,
        extranonce_len: usize,
        min_ntime: u32,
    ) -> Result<Self, CoinbaseError> {
        let outputs = split(&rules.payout, work.template.coinbase_tx_value_remaining);
        let coinbase = pool_coinbase(&work.template, &outputs, &settings.pool_tag, extranonce_len)?;
        Ok(Self::of_work(id, work, Arc::new(coinbase), min_ntime))
    }

    /// A job of the pool's. `coinbase` is made of that work; `min_ntime`: Unix seconds, at least the
    /// work's. The bits of BIP 323 are the miner's: see [`Self::with_version_mask`].
    pub fn of_work(
        id: u32,
        work: Arc<PoolWork>,
        coinbase: Arc<CoinbaseParts>,
        min_ntime: u32,
    ) -> Self {
        let merkle_path =
            work.template.merkle_path.as_slice().iter().map(|hash| hash.to_array()).collect();
        Self {
            id,
            version: work.template.version,
            version_mask: VERSION_ROLLING_MASK,
            min_ntime,
            bits: work.tip.next_bits.at(min_ntime),
            tip: work.tip,
            engine: engine_of(&coinbase),
            coinbase,
            merkle_path,
            source: JobSource::Pool(work),
        }
    }

    /// A job that a miner chose.
    ///
    /// # Errors
    /// [`CoinbaseError::Malformed`]: the halves are no coinbase.
    pub fn of_custom(id: u32, custom: Arc<CustomJob>) -> Result<Self, CoinbaseError> {
        let coinbase = CoinbaseParts::parse(&custom.coinbase_prefix, &custom.coinbase_suffix)
            .map_err(CoinbaseError::Malformed)?;
        Ok(Self {
            id,
            version: custom.version,
            version_mask: VERSION_ROLLING_MASK,
            min_ntime: custom.min_ntime,
            bits: custom.tip.next_bits.at(custom.min_ntime),
            tip: custom.tip,
            engine: engine_of(&coinbase),
            coinbase: Arc::new(coinbase),
            merkle_path: Arc::clone(&custom.merkle_path),
            source: JobSource::Miner(custom),
        })
    }

    /// The same job once more, under another number.
    #[must_use]
    pub fn again(&self, id: u32) -> Self {
        Self {
            id,
            coinbase: Arc::clone(&self.coinbase),
            engine: Midstate(self.engine.0.clone()),
            merkle_path: Arc::clone(&self.merkle_path),
            source: self.source.clone(),
            ..*self
        }
    }

    /// The same job once more, under another number and from another time on, Unix seconds, at
    /// least the work's.
    #[must_use]
    pub(crate) fn again_from(&self, id: u32, min_ntime: u32) -> Self {
        Self { min_ntime, bits: self.tip.next_bits.at(min_ntime), ..self.again(id) }
    }

    /// True when it is made of that work.
    pub(crate) fn is_of(&self, work: &Arc<PoolWork>) -> bool {
        matches!(&self.source, JobSource::Pool(own) if Arc::ptr_eq(own, work))
    }

    /// True when one is [`Self::again`] of the other.
    pub(crate) fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.coinbase, &other.coinbase)
    }

    /// With these bits of nVersion for the miner to change, and no others.
    #[must_use]
    pub fn with_version_mask(mut self, version_mask: u32) -> Self {
        self.version_mask = version_mask;
        self
    }

    /// Its number on the connection.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// nVersion.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Bits of nVersion that the miner may change.
    pub fn version_mask(&self) -> u32 {
        self.version_mask
    }

    /// Least nTime, Unix seconds.
    pub fn min_ntime(&self) -> u32 {
        self.min_ntime
    }

    /// nBits as the miner was told it: what consensus demands at [`Self::min_ntime`].
    pub fn bits(&self) -> CompactTarget {
        self.bits
    }

    /// The block that it builds on.
    pub fn tip(&self) -> &ChainTip {
        &self.tip
    }

    /// The coinbase, with a hole for the full extranonce.
    pub fn coinbase(&self) -> &CoinbaseParts {
        &self.coinbase
    }

    /// Hashes beside the coinbase's path, bottom up, as they are hashed.
    pub fn merkle_path(&self) -> &[[u8; 32]] {
        &self.merkle_path
    }

    /// Whose template it is.
    pub fn source(&self) -> &JobSource {
        &self.source
    }

    /// Bytes of memory that it alone holds, about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + 2 * (self.coinbase.prefix().len() + self.coinbase.suffix().len())
            + size_of_val(&*self.merkle_path)
    }

    /// Why nothing may be mined on it any more.
    pub fn withdrawn(&self) -> Option<Arc<str>> {
        match &self.source {
            JobSource::Pool(work) => work.source.withdrawn(),
            JobSource::Miner(custom) => {
                custom.declared.as_ref().and_then(|declared| declared.source.withdrawn())
            }
        }
    }

    /// Root of the merkle tree with an extranonce, which is given in two parts.
    pub fn merkle_root(&self, extranonce: [&[u8]; 2]) -> [u8; 32] {
        let mut engine = self.engine.0.clone();
        extranonce.into_iter().for_each(|part| engine.input(part));
        self.coinbase.stripped_suffix().into_iter().for_each(|part| engine.input(part));
        let txid = sha256::Hash::from_engine(engine).hash_again();
        root_from_branch(txid.to_byte_array(), &self.merkle_path)
    }

    /// The header of a solution.
    pub(crate) fn header(
        &self,
        merkle_root: [u8; 32],
        version: u32,
        ntime: u32,
        nonce: u32,
        bits: CompactTarget,
    ) -> Header {
        Header {
            version: Version::from_consensus(version.cast_signed()),
            prev_blockhash: self.tip.hash,
            merkle_root: TxMerkleNode::from_raw_hash(sha256d::Hash::from_byte_array(merkle_root)),
            time: ntime,
            bits,
            nonce,
        }
    }

    /// nBits and target that consensus demands of a block on the tip at `ntime`.
    pub(crate) fn demanded(&self, ntime: u32) -> (CompactTarget, Target) {
        let bits = self.tip.next_bits.at(ntime);
        (bits, Target::from_compact(bits))
    }
}

struct Midstate(sha256::HashEngine);

impl fmt::Debug for Midstate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Midstate")
    }
}

fn engine_of(coinbase: &CoinbaseParts) -> Midstate {
    let mut engine = sha256::HashEngine::default();
    engine.input(coinbase.stripped_prefix());
    Midstate(engine)
}
