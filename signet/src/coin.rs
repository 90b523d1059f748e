//! Outputs that anyone can spend, yet that Bitcoin Core relays: P2WSH of a script without keys.

use bitcoin::opcodes::all::{OP_DROP, OP_PUSHNUM_1};
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    absolute::LockTime,
};

/// Stack items that [`padded_script`] drops.
const PAD_ITEMS: usize = 3;
/// Largest stack item that relays in a P2WSH input, bytes.
const PAD_ITEM_BYTES_MAX: usize = 80;
/// Most padding a padded coin's witness can carry, bytes.
pub(crate) const PAD_BYTES_MAX: usize = PAD_ITEMS * PAD_ITEM_BYTES_MAX;

/// Witness script `OP_TRUE`: premined signet blocks pay to its P2WSH.
pub fn anyone_can_spend() -> ScriptBuf {
    Builder::new().push_opcode(OP_PUSHNUM_1).into_script()
}

/// Witness script `<tag> OP_DROP OP_TRUE`: as free to spend, but different per tag, so that two
/// nodes which mine at the same moment do not find the very same block.
pub fn anyone_can_spend_tagged(tag: u32) -> ScriptBuf {
    Builder::new()
        .push_slice(tag.to_le_bytes())
        .push_opcode(OP_DROP)
        .push_opcode(OP_PUSHNUM_1)
        .into_script()
}

/// Witness script `OP_DROP OP_DROP OP_DROP OP_TRUE`: anyone can spend it with a witness of up to
/// 240 bytes of their choice, about what signatures and keys take in real transactions.
pub fn padded_script() -> ScriptBuf {
    let mut script = Builder::new();
    for _ in 0..PAD_ITEMS {
        script = script.push_opcode(OP_DROP);
    }
    script.push_opcode(OP_PUSHNUM_1).into_script()
}

/// An output that anyone can spend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it holds, in satoshi.
    pub value_sat: u64,
    /// The script whose P2WSH it pays to.
    pub witness_script: ScriptBuf,
}

impl Coin {
    /// The output script of coins with this witness script.
    pub fn script_pubkey_of(witness_script: &Script) -> ScriptBuf {
        ScriptBuf::new_p2wsh(&witness_script.wscript_hash())
    }

    /// The output that this coin is.
    pub fn txout(&self) -> TxOut {
        TxOut {
            value: Amount::from_sat(self.value_sat),
            script_pubkey: Self::script_pubkey_of(&self.witness_script),
        }
    }

    /// An input that spends the coin with the shortest witness.
    pub fn input(&self) -> TxIn {
        self.input_padded(0, 0)
    }

    /// An input whose witness carries `pad_bytes` bytes (at most 240) that differ with `salt`.
    /// Coins without a padded script take no padding.
    pub fn input_padded(&self, pad_bytes: usize, salt: u64) -> TxIn {
        let mut witness = Witness::new();
        if self.witness_script == padded_script() {
            let mut left = pad_bytes.min(PAD_BYTES_MAX);
            for item in 0..PAD_ITEMS {
                let take = left.min(PAD_ITEM_BYTES_MAX);
                left -= take;
                witness.push(noise(salt.wrapping_add(item as u64), take));
            }
        }
        witness.push(self.witness_script.as_bytes());
        TxIn {
            previous_output: self.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness,
        }
    }

    /// A transaction that spends this coin alone, into `output`.
    pub fn spend(&self, output: Vec<TxOut>) -> Transaction {
        transaction(vec![self.input()], output)
    }
}

/// A version 2 transaction without lock time.
pub(crate) fn transaction(input: Vec<TxIn>, output: Vec<TxOut>) -> Transaction {
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output }
}

/// `len` bytes that look random and are the same for the same `seed` (SplitMix64).
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
