//! The small facts of a verdict as JSON: terms, tips, the word of a node.

use bitcoin::{Amount, BlockHash, CompactTarget, Network, ScriptBuf, TxOut};
use serde::{Deserialize, Serialize};
use validation::replay::NodeWord;
use validation::rules::{Payout, Rules};
use validation::tip::{ChainTip, MinDifficulty, NextBits};

/// [`Rules`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Terms {
    network: String,
    payout: Pays,
    imposed: Vec<(u64, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pays {
    Pool { script: String, min_share_bp: u16 },
    Solo { script: String, operator: Option<(String, u16)> },
}

/// [`ChainTip`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tip {
    hash: String,
    height: u32,
    time: u32,
    median_time: u32,
    bits: u32,
    /// Block times after which other bits hold, and these.
    min_difficulty: Option<(u32, u32)>,
}

/// [`NodeWord`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    Invalid(String),
    ChainState(String),
    Superseded,
}

/// What of the inputs of a rejected declaration is small.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) version: u32,
    pub(super) wtxid_count: usize,
    pub(super) rules: Terms,
    pub(super) tip: Option<Tip>,
    pub(super) second: Option<Second>,
    pub(super) node: Option<Word>,
}

/// The second look, without the answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Second {
    pub(super) tip: Option<Tip>,
    pub(super) asked: Vec<u16>,
}

impl From<&Rules> for Terms {
    fn from(rules: &Rules) -> Self {
        let hex = |script: &ScriptBuf| script.to_hex_string();
        let payout = match &rules.payout {
            Payout::Pool { script, min_share_bp } => {
                Pays::Pool { script: hex(script), min_share_bp: *min_share_bp }
            }
            Payout::Solo { script, operator } => Pays::Solo {
                script: hex(script),
                operator: operator.as_ref().map(|(script, fee_bp)| (hex(script), *fee_bp)),
            },
        };
        let imposed = rules.imposed_outputs.iter();
        Self {
            network: rules.network.to_string(),
            payout,
            imposed: imposed.map(|out| (out.value.to_sat(), hex(&out.script_pubkey))).collect(),
        }
    }
}

impl Terms {
    pub(super) fn rules(&self) -> Result<Rules, String> {
        let script =
            |hex: &String| ScriptBuf::from_hex(hex).map_err(|error| format!("a script: {error}"));
        let payout = match &self.payout {
            Pays::Pool { script: hex, min_share_bp } => {
                Payout::Pool { script: script(hex)?, min_share_bp: *min_share_bp }
            }
            Pays::Solo { script: hex, operator } => {
                let operator = match operator {
                    Some((hex, fee_bp)) => Some((script(hex)?, *fee_bp)),
                    None => None,
                };
                Payout::Solo { script: script(hex)?, operator }
            }
        };
        let imposed = self.imposed.iter().map(|(sat, hex)| {
            Ok(TxOut { value: Amount::from_sat(*sat), script_pubkey: script(hex)? })
        });
        let network: Network = self.network.parse().map_err(|error| format!("{error}"))?;
        Ok(Rules { network, payout, imposed_outputs: imposed.collect::<Result<_, String>>()? })
    }
}

impl From<&ChainTip> for Tip {
    fn from(tip: &ChainTip) -> Self {
        let exception = tip.next_bits.min_difficulty;
        Self {
            hash: tip.hash.to_string(),
            height: tip.height,
            time: tip.time,
            median_time: tip.median_time_past,
            bits: tip.next_bits.regular.to_consensus(),
            min_difficulty: exception.map(|it| (it.after, it.bits.to_consensus())),
        }
    }
}

impl Tip {
    pub(super) fn tip(&self) -> Result<ChainTip, String> {
        let hash: BlockHash = self.hash.parse().map_err(|error| format!("a tip: {error}"))?;
        let bits = CompactTarget::from_consensus;
        Ok(ChainTip {
            hash,
            height: self.height,
            time: self.time,
            median_time_past: self.median_time,
            next_bits: NextBits {
                regular: bits(self.bits),
                min_difficulty: self
                    .min_difficulty
                    .map(|(after, easy)| MinDifficulty { after, bits: bits(easy) }),
            },
        })
    }
}

impl From<&NodeWord> for Word {
    fn from(word: &NodeWord) -> Self {
        match word {
            NodeWord::Invalid(reason) => Self::Invalid(reason.clone()),
            NodeWord::ChainState(reason) => Self::ChainState(reason.clone()),
            NodeWord::Superseded => Self::Superseded,
        }
    }
}

impl From<Word> for NodeWord {
    fn from(word: Word) -> Self {
        match word {
            Word::Invalid(reason) => Self::Invalid(reason),
            Word::ChainState(reason) => Self::ChainState(reason),
            Word::Superseded => Self::Superseded,
        }
    }
}
