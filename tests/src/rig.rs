//! A miner behind a pool that mines what `custom-jobs/verify` answered.

use bitcoin::block::{Header, Version};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{BlockHash, CompactTarget, Target, TxMerkleNode};
use serde_json::{Value, json};

/// The easiest target: every hash meets it.
pub const ANY: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

/// What is mined on.
#[derive(Debug, Clone)]
pub struct Rig {
    /// What it is called at the pool interface.
    pub name: String,
    header: Header,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    path: Vec<[u8; 32]>,
    extranonce_bytes: usize,
    /// How many extranonces were used.
    next: u32,
}

/// A share that was found.
#[derive(Debug, Clone)]
pub struct Mined {
    /// Its header's hash.
    pub hash: BlockHash,
    /// As it is sent, on the job by name and with the easiest target.
    pub json: Value,
}

impl Rig {
    /// Of a verdict's `job`.
    ///
    /// # Panics
    /// When it is none.
    pub fn of(job: &Value) -> Self {
        let text = |field: &str| job[field].as_str().unwrap_or_else(|| panic!("{field} in {job}"));
        let number =
            |field: &str| u32::try_from(job[field].as_u64().expect("a number")).expect("32 bits");
        let bytes = |field: &str| Vec::from_hex(text(field)).expect("hex");
        let path = job["merkle_path"].as_array().expect("a list").iter();
        let path =
            path.map(|hash| <[u8; 32]>::from_hex(hash.as_str().expect("text")).expect("hex"));
        Self {
            name: text("job").to_owned(),
            header: Header {
                version: Version::from_consensus(number("version").cast_signed()),
                prev_blockhash: text("prev_hash").parse().expect("a hash"),
                merkle_root: TxMerkleNode::all_zeros(),
                time: number("min_ntime"),
                bits: CompactTarget::from_unprefixed_hex(text("nbits")).expect("nBits"),
                nonce: 0,
            },
            prefix: bytes("coinbase_prefix"),
            suffix: bytes("coinbase_suffix"),
            path: path.collect(),
            extranonce_bytes: number("extranonce_bytes") as usize,
            next: 0,
        }
    }

    /// The same work with another nVersion and nTime, as a miner has it that changes what it may not.
    #[must_use]
    pub fn changed(&self, version: Option<u32>, ntime: Option<u32>) -> Self {
        let mut changed = self.clone();
        if let Some(version) = version {
            changed.header.version = Version::from_consensus(version.cast_signed());
        }
        changed.header.time = ntime.unwrap_or(changed.header.time);
        changed
    }

    /// Whether this work makes a block of a share that was found on other work.
    pub fn makes_block(&self, share: &Value) -> bool {
        let bytes = share["extranonce"].as_str().and_then(|hex| Vec::from_hex(hex).ok());
        let mut header = self.with_root(&bytes.expect("hex"));
        let nonce = share["nonce"].as_u64().expect("a number");
        header.nonce = u32::try_from(nonce).expect("32 bits");
        Target::from_compact(header.bits).is_met_by(header.block_hash())
    }

    /// The next share that makes a block, or none, as asked for; each with another extranonce.
    pub fn mine(&mut self, block: bool) -> Mined {
        self.next += 1;
        let mut extranonce = vec![0; self.extranonce_bytes];
        extranonce.splice(..4, self.next.to_le_bytes());
        self.mine_with(&extranonce, block)
    }

    /// The same with that extranonce.
    pub fn mine_with(&self, extranonce: &[u8], block: bool) -> Mined {
        let network = Target::from_compact(self.header.bits);
        let mut header = self.with_root(extranonce);
        while network.is_met_by(header.block_hash()) != block {
            header.nonce += 1;
        }
        let json = json!({
            "job": self.name,
            "extranonce": extranonce.to_lower_hex_string(),
            "ntime": header.time,
            "nonce": header.nonce,
            "version": header.version.to_consensus().cast_unsigned(),
            "target": ANY,
        });
        Mined { hash: header.block_hash(), json }
    }

    /// The header with that extranonce.
    fn with_root(&self, extranonce: &[u8]) -> Header {
        let coinbase = [&self.prefix[..], extranonce, &self.suffix].concat();
        let mut root = sha256d::Hash::hash(&coinbase);
        for beside in &self.path {
            root = sha256d::Hash::hash(&[root.as_byte_array(), &beside[..]].concat());
        }
        Header { merkle_root: TxMerkleNode::from_raw_hash(root), ..self.header }
    }
}

/// The same share by receipt instead of by name.
pub fn by_receipt(share: &Value, receipt: &[u8]) -> Value {
    let mut share = share.clone();
    let fields = share.as_object_mut().expect("an object");
    fields.remove("job");
    fields.insert("receipt".to_owned(), receipt.to_lower_hex_string().into());
    share
}

/// A share as a solution.
pub fn solution(share: &Value) -> Value {
    let mut solution = share.clone();
    solution.as_object_mut().expect("an object").remove("target");
    solution
}
