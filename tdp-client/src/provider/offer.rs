//! What a provider offers to mine, checked as far as it can be.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bitcoin::consensus::deserialize_partial;
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::{Amount, CompactTarget, Network, ScriptBuf, Target, TxOut, Wtxid};
use jds_wire::message::template::{NewTemplate, SetNewPrevHash};
use validation::merkle;
use validation::tip::{ChainTip, NextBits};
use validation::tx::Tx;
use validation::verdict::BLOCK_WEIGHT_MAX_WU;

use crate::limits::{PROVIDER_CLOCK_AHEAD_SECS, PROVIDER_MERKLE_PATH_MAX, PROVIDER_OUTPUTS_MAX};
use crate::node::TxLookup;
use crate::source::{ProviderTemplate, Template};

/// How a witness commitment's script begins (BIP 141).
const COMMITMENT_HEAD: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// What the witness commitment commits to besides the witnesses, by convention (BIP 141).
const WITNESS_RESERVED: [u8; 32] = [0; 32];
/// `coinbase_prefix` has no more (SV2 7.2), bytes.
const PREFIX_BYTES_MAX: usize = 8;

/// What a provider says that can not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Nonsense {
    /// See the text.
    #[error("template {id}: its coinbase_prefix does not begin with a height (BIP 34)")]
    Height {
        /// The template.
        id: u64,
    },
    /// See the text.
    #[error("template {id}: it is for height {actual}, the block after the tip has {expected}")]
    OtherHeight {
        /// The template.
        id: u64,
        /// Height of the block after the tip.
        expected: u32,
        /// Height that the template names.
        actual: u32,
    },
    /// See the text.
    #[error("template {id}: its coinbase claims more than there is")]
    Value {
        /// The template.
        id: u64,
    },
    /// See the text.
    #[error("template {id}: its coinbase outputs do not decode, or are not as many as it says")]
    Outputs {
        /// The template.
        id: u64,
    },
    /// See the text.
    #[error("template {id}: a merkle path of {hashes} hashes, {PROVIDER_MERKLE_PATH_MAX} at most")]
    MerklePath {
        /// The template.
        id: u64,
        /// How many there are.
        hashes: usize,
    },
    /// See the text.
    #[error("SetNewPrevHash names template {id}, which is no future template that was sent")]
    NoSuchFuture {
        /// The template.
        id: u64,
    },
    /// See the text.
    #[error("SetNewPrevHash: nBits {bits:08x} and its target differ, or no network is so easy")]
    Target {
        /// The nBits.
        bits: u32,
    },
    /// See the text.
    #[error("SetNewPrevHash: header_timestamp {time} is too far ahead of our clock ({now})")]
    Time {
        /// Unix seconds.
        time: u32,
        /// Our clock, Unix seconds.
        now: u32,
    },
    /// See the text.
    #[error("template {id}: transactions came that were not asked for")]
    Unasked {
        /// The template.
        id: u64,
    },
    /// See the text.
    #[error("template {id}: a transaction does not decode: {reason}")]
    Transaction {
        /// The template.
        id: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// See the text.
    #[error("template {id}: its transactions are more than a block holds")]
    Weight {
        /// The template.
        id: u64,
    },
    /// See the text.
    #[error("template {id}: its transactions are not those of its merkle path")]
    OtherTransactions {
        /// The template.
        id: u64,
    },
    /// See the text.
    #[error("template {id}: its witness commitment is not that of its transactions")]
    Commitment {
        /// The template.
        id: u64,
    },
}

/// A template without its transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) id: u64,
    /// Of the block to be mined, from 1.
    pub(super) height: u32,
    version: u32,
    value_sat: u64,
    commitment: Option<ScriptBuf>,
    merkle_path: Vec<[u8; 32]>,
    sigops_left: u16,
}

impl Offer {
    /// Takes a template off the wire. `sigops_left` was asked for before.
    pub(super) fn parse(message: &NewTemplate<'_>, sigops_left: u16) -> Result<Self, Nonsense> {
        let id = message.template_id;
        let height = height(message.coinbase_prefix).ok_or(Nonsense::Height { id })?;
        let value_sat = message.coinbase_tx_value_remaining_sat;
        if value_sat > Amount::MAX_MONEY.to_sat() {
            return Err(Nonsense::Value { id });
        }
        let hashes = message.merkle_path.len();
        if hashes > PROVIDER_MERKLE_PATH_MAX {
            return Err(Nonsense::MerklePath { id, hashes });
        }
        let outputs = outputs(message).ok_or(Nonsense::Outputs { id })?;
        let commitment = outputs
            .into_iter()
            .map(|output| output.script_pubkey)
            .rfind(|script| script.as_bytes().starts_with(&COMMITMENT_HEAD));
        Ok(Self {
            id,
            height,
            version: message.version,
            value_sat,
            commitment,
            merkle_path: message.merkle_path.to_vec(),
            sigops_left,
        })
    }

    /// Only the coinbase: there is nothing to ask for.
    pub(super) fn is_empty(&self) -> bool {
        self.merkle_path.is_empty()
    }

    /// The template with its transactions, which have to be those that it commits to. `held`:
    /// transactions of the last one.
    pub(super) fn with(
        &self,
        raw: &[&[u8]],
        on: &Parent,
        lookup: &TxLookup,
        held: &HashMap<Wtxid, Arc<Tx>>,
    ) -> Result<Template, Nonsense> {
        let id = self.id;
        let mut txs = Vec::with_capacity(raw.len());
        for bytes in raw {
            let wtxid = Wtxid::from_raw_hash(sha256d::Hash::hash(bytes));
            txs.push(match lookup(&wtxid).or_else(|| held.get(&wtxid).cloned()) {
                Some(known) => known,
                None => Tx::parse(bytes).map(Arc::new).map_err(|error| {
                    let reason = error.to_string();
                    Nonsense::Transaction { id, reason }
                })?,
            });
        }
        if txs.iter().map(|tx| u64::from(tx.weight_wu())).sum::<u64>() > BLOCK_WEIGHT_MAX_WU {
            return Err(Nonsense::Weight { id });
        }
        let path = merkle::branch_of_first(txs.iter().map(|tx| *tx.txid().as_ref()));
        if path != self.merkle_path {
            return Err(Nonsense::OtherTransactions { id });
        }
        let committed = match &self.commitment {
            Some(script) => *script == commitment(&txs),
            None => !txs.iter().any(|tx| tx.has_witness()),
        };
        if !committed {
            return Err(Nonsense::Commitment { id });
        }
        Ok(Template {
            generation: 0,
            prev_hash: on.tip.hash,
            height: self.height,
            txs,
            coinbase_value_sat: self.value_sat,
            version: self.version as i32,
            curtime: on.header_timestamp,
            mintime: on.header_timestamp,
            bits: on.bits,
            witness_commitment: self.commitment.clone(),
            fetched_at: Instant::now(),
            provider: Some(ProviderTemplate { id, sigops_left: self.sigops_left }),
        })
    }
}

/// The block to build on, as far as a provider tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    /// Its times are bounds, see [`Self::of`].
    pub(super) tip: ChainTip,
    header_timestamp: u32,
    bits: CompactTarget,
}

impl Parent {
    /// What follows from SetNewPrevHash for the height that its template names.
    ///
    /// The protocol tells neither the time of the block nor its median time past. Both follow as
    /// bounds from the time to begin with, which the provider's node takes for the next block: it
    /// is later than the median time past. Taken at its latest, no transaction counts as locked
    /// that is not, and no header begins earlier than the provider said.
    pub(super) fn of(
        message: &SetNewPrevHash,
        template_height: u32,
        network: Network,
        now_unix_s: u32,
    ) -> Result<Self, Nonsense> {
        let bits = CompactTarget::from_consensus(message.n_bits);
        let target = Target::from_compact(bits);
        let easiest = network.params().max_attainable_target;
        let known = target > Target::ZERO && target <= easiest;
        if !known || target.to_le_bytes() != message.target {
            return Err(Nonsense::Target { bits: message.n_bits });
        }
        let time = message.header_timestamp;
        if time > now_unix_s.saturating_add(PROVIDER_CLOCK_AHEAD_SECS) {
            return Err(Nonsense::Time { time, now: now_unix_s });
        }
        let tip = ChainTip {
            hash: bitcoin::BlockHash::from_byte_array(message.prev_hash),
            height: template_height.saturating_sub(1),
            time,
            median_time_past: time.saturating_sub(1),
            next_bits: NextBits::fixed(bits),
        };
        Ok(Self { tip, header_timestamp: time, bits })
    }
}

/// The height that a coinbase's script begins with (BIP 34): the number as scripts write it. What
/// follows is none of our business.
fn height(prefix: &[u8]) -> Option<u32> {
    if prefix.len() > PREFIX_BYTES_MAX {
        return None;
    }
    let (first, rest) = prefix.split_first()?;
    match first {
        // OP_1 to OP_16.
        0x51..=0x60 => Some(u32::from(first - 0x50)),
        1..=4 => {
            let bytes = rest.get(..usize::from(*first))?;
            // A set top bit would make it negative.
            let sign = bytes.last()? & 0x80;
            let number = bytes.iter().rev().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
            (sign == 0 && number > 0).then_some(number)
        }
        _ => None,
    }
}

/// The outputs, when they are as many as the message says.
fn outputs(message: &NewTemplate<'_>) -> Option<Vec<TxOut>> {
    let count = usize::try_from(message.coinbase_tx_outputs_count).ok()?;
    if count > PROVIDER_OUTPUTS_MAX {
        return None;
    }
    let (mut outputs, mut rest) = (Vec::with_capacity(count), message.coinbase_tx_outputs);
    for _ in 0..count {
        let (output, bytes) = deserialize_partial(rest).ok()?;
        outputs.push(output);
        rest = rest.get(bytes..)?;
    }
    rest.is_empty().then_some(outputs)
}

/// The script that commits to the witnesses of these transactions (BIP 141).
fn commitment(txs: &[Arc<Tx>]) -> ScriptBuf {
    let wtxids: Vec<_> = txs.iter().map(|tx| tx.wtxid()).collect();
    let root = merkle::witness_root(&wtxids);
    let hash = sha256d::Hash::hash([root, WITNESS_RESERVED].as_flattened());
    ScriptBuf::from_bytes([&COMMITMENT_HEAD[..], hash.as_byte_array()].concat())
}

#[cfg(test)]
mod tests {
    use bitcoin::script::Builder;

    use super::*;

    #[test]
    fn a_providers_clock_is_ahead_so_much_and_no_more() {
        const NOW_UNIX_S: u32 = 1_700_000_000;
        let bits = 0x207f_ffff;
        let of = |header_timestamp| {
            let target = Target::from_compact(CompactTarget::from_consensus(bits)).to_le_bytes();
            let prev_hash = [7; 32];
            let message = SetNewPrevHash {
                template_id: 1,
                prev_hash,
                header_timestamp,
                n_bits: bits,
                target,
            };
            Parent::of(&message, 300, Network::Regtest, NOW_UNIX_S)
        };
        let last = NOW_UNIX_S + PROVIDER_CLOCK_AHEAD_SECS;
        assert_eq!(of(last).unwrap().tip.time, last);
        let time = last + 1;
        assert_eq!(of(time).unwrap_err(), Nonsense::Time { time, now: NOW_UNIX_S });
    }

    #[test]
    fn heights_are_read_as_scripts_write_them() {
        for number in [1_u32, 2, 16, 17, 127, 128, 255, 256, 32_767, 32_768, 840_000, 8_388_608] {
            let script = Builder::new().push_int(number.into()).into_bytes();
            assert_eq!(height(&script), Some(number));
            // Bitcoin Core adds a byte to the shortest ones.
            assert_eq!(height(&[&script[..], &[0]].concat()), Some(number));
            for end in 0..script.len() {
                assert_eq!(height(&script[..end]), None, "{number} cut to {end} bytes");
            }
        }
        for bad in [&[0][..], &[1, 0x80], &[1, 0], &[5, 1, 1, 1, 1, 1], &[0x4c, 1, 1], &[1; 9]] {
            assert_eq!(height(bad), None, "{bad:?}");
        }
    }
}
