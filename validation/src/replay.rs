//! A verdict once more, from everything that it was given on.
//!
//! The rules are those that gave it: [`replay`] calls them in the server's order, and adds none.

use std::sync::Arc;

use bitcoin::Wtxid;
use bitcoin::hashes::Hash;

use crate::declared::{Declared, TemplateHash};
use crate::job::AcceptedJob;
use crate::precheck::{Precheck, Prechecked, check_height, precheck};
use crate::rejection::{Reason, Rejection};
use crate::rules::Rules;
use crate::tip::ChainTip;
use crate::tx::Tx;
use crate::verdict::{TxSlots, judge, supplied};

/// Everything that a verdict is a function of.
#[derive(Debug, Clone)]
pub struct VerdictInputs {
    /// nVersion of the block header, as declared.
    pub version: u32,
    /// Coinbase up to the extranonce, as declared.
    pub coinbase_prefix: Vec<u8>,
    /// Coinbase after the extranonce, as declared.
    pub coinbase_suffix: Vec<u8>,
    /// The transactions, as declared.
    pub wtxids: WtxidList,
    /// The terms of the user.
    pub rules: Arc<Rules>,
    /// The tip of the first look; none while no node had told one.
    pub tip: Option<ChainTip>,
    /// The second look, where transactions had to be asked for.
    pub second: Option<SecondLook>,
    /// The transactions, as far as the rules came to look at them, else empty.
    pub txs: TxSlots,
    /// Positions of those that no node had told of.
    pub unvouched: Vec<u16>,
    /// What a node said of the block, where the answer waited for that.
    pub node: Option<NodeWord>,
}

/// The declared transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WtxidList {
    /// All of them, in block order.
    Listed(Arc<[Wtxid]>),
    /// Their number: the rules refused the declaration before they read any. Should they read one all
    /// the same, they meet as many zeros, which are another list.
    Counted(usize),
}

impl WtxidList {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Listed(wtxids) => wtxids.len(),
            Self::Counted(count) => *count,
        }
    }
}

/// What the second look at a declaration is given beside the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondLook {
    /// The tip by then.
    pub tip: Option<ChainTip>,
    /// Positions that were asked for.
    pub asked: Vec<u16>,
    /// What the peer answered; empty where the answer was good, for then the transactions are there.
    pub answer: Vec<Vec<u8>>,
}

/// The word of a node on a block, which decides where it is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeWord {
    /// Invalid on any chain, for this reason.
    Invalid(String),
    /// Does not fit the chain as the node has it, for this reason.
    ChainState(String),
    /// Not asked: a newer declaration of the user came first.
    Superseded,
}

impl NodeWord {
    /// The rejection that follows.
    pub fn rejection(&self) -> Rejection {
        let (reason, actual) = match self {
            Self::Invalid(reason) => (Reason::ConsensusCheck, reason.as_str()),
            Self::ChainState(reason) => (Reason::ChainState, reason.as_str()),
            Self::Superseded => (Reason::Superseded, "a-newer-declaration"),
        };
        Rejection::new(reason).actual(actual)
    }
}

/// What a verdict with some reason is a function of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecidedBy {
    /// The declaration, its transactions, the terms and the tip: it can be replayed.
    Rules,
    /// The same, and the word of a node: it can be replayed.
    Node,
    /// The token, and which tokens had been used up.
    Token,
    /// The conversation on the connection.
    Conversation,
    /// A fault of the server's.
    Fault,
}

/// What a verdict with this reason is a function of.
pub const fn decided_by(reason: Reason) -> DecidedBy {
    use Reason as R;
    match reason {
        R::TokenUnknown | R::TokenExpired | R::TokenSpent | R::TokenForeign | R::TokenRecycled => {
            DecidedBy::Token
        }
        R::MalformedMessage
        | R::DeclarationTooLarge
        | R::CoinbaseOnlyConnection
        | R::RequestIdInUse
        | R::TooManyPending
        | R::AnswerTooLarge
        | R::NoAnswerInTime => DecidedBy::Conversation,
        R::ConsensusCheck | R::ChainState | R::Superseded => DecidedBy::Node,
        R::Internal => DecidedBy::Fault,
        _ => DecidedBy::Rules,
    }
}

/// A verdict that was given again.
#[derive(Debug)]
pub struct Replayed {
    /// What was looked at in turn, and what came of it, in words.
    pub steps: Vec<String>,
    /// Name and height of the template, if it came so far.
    pub named: Option<(TemplateHash, u32)>,
    /// The verdict.
    pub result: Result<AcceptedJob, Rejection>,
}

/// Gives the verdict on these inputs.
pub fn replay(inputs: &VerdictInputs) -> Replayed {
    let (mut steps, mut named) = (Vec::new(), None);
    let result = look(inputs, &mut steps, &mut named);
    Replayed { steps, named, result }
}

fn look(
    inputs: &VerdictInputs,
    steps: &mut Vec<String>,
    named: &mut Option<(TemplateHash, u32)>,
) -> Result<AcceptedJob, Rejection> {
    let mut tip = seen(inputs.tip.as_ref(), steps)?;
    let zeros;
    let wtxids = match &inputs.wtxids {
        WtxidList::Listed(wtxids) => &**wtxids,
        WtxidList::Counted(count) => {
            zeros = vec![Wtxid::all_zeros(); *count];
            zeros.as_slice()
        }
    };
    let declared = Declared {
        version: inputs.version,
        coinbase_prefix: &inputs.coinbase_prefix,
        coinbase_suffix: &inputs.coinbase_suffix,
        wtxids,
    };
    steps.push(format!(
        "declaration: version {:08x}, coinbase of {} and {} bytes, {} transactions",
        inputs.version,
        inputs.coinbase_prefix.len(),
        inputs.coinbase_suffix.len(),
        wtxids.len()
    ));
    let pre = match precheck(&declared, tip, &inputs.rules) {
        Precheck::Ok(pre) => *pre,
        Precheck::Reject(rejection) => return Err(rejection),
        Precheck::WaitForTip { height } => {
            steps.push(format!("height {height} is one ahead, and the tip did not follow in time"));
            return Err(Rejection::ahead_of_tip(tip.next_height(), height));
        }
    };
    *named = Some((pre.template_hash(), pre.height()));
    steps.push(format!("coinbase, list and witness root keep the rules: {}", pre.template_hash()));
    let mut txs = own(inputs);
    if let Some(second) = &inputs.second {
        tip = seen(second.tip.as_ref(), steps)?;
        check_height(pre.height(), tip)?;
        take_answer(&pre, second, &mut txs, steps)?;
    }
    let told = txs.iter().flatten().filter(|tx| tx.node_facts().is_some()).count();
    steps.push(format!("transactions: {}, {told} of them known to a node", txs.len()));
    let job = judge(pre, txs, tip, &inputs.rules)?;
    steps.push(format!(
        "transactions and values keep the rules: {} weight units, {} sat of fees",
        job.weight_wu(),
        job.fees().known_sat
    ));
    match &inputs.node {
        None => Ok(job),
        Some(word) => {
            steps.push(format!("the node's word, as it was given: {word:?}"));
            Err(word.rejection())
        }
    }
}

fn seen<'a>(tip: Option<&'a ChainTip>, steps: &mut Vec<String>) -> Result<&'a ChainTip, Rejection> {
    let Some(tip) = tip else {
        steps.push("tip: none, no node had told one".to_owned());
        return Err(Rejection::no_tip());
    };
    steps.push(format!(
        "tip: {} at height {}, median time {}",
        tip.hash, tip.height, tip.median_time_past
    ));
    Ok(tip)
}

/// The transactions, without what nodes told of them since.
fn own(inputs: &VerdictInputs) -> TxSlots {
    let mut txs = inputs.txs.clone();
    for at in &inputs.unvouched {
        if let Some(Some(tx)) = txs.get_mut(usize::from(*at))
            && tx.node_facts().is_some()
            // It was parsed before.
            && let Ok(untold) = Tx::parse(tx.raw())
        {
            *tx = Arc::new(untold);
        }
    }
    txs
}

fn take_answer(
    pre: &Prechecked,
    second: &SecondLook,
    txs: &mut TxSlots,
    steps: &mut Vec<String>,
) -> Result<(), Rejection> {
    let good = |at: &u16| matches!(txs.get(usize::from(*at)), Some(Some(_)));
    if second.answer.is_empty() && second.asked.iter().all(good) {
        steps.push(format!("asked for {} transactions, which came", second.asked.len()));
        return Ok(());
    }
    steps.push(format!(
        "asked for {} transactions, {} came",
        second.asked.len(),
        second.answer.len()
    ));
    supplied(pre, txs, &second.asked, second.answer.iter().map(Vec::as_slice))
}
