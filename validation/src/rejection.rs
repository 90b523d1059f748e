//! Why a job is refused: a stable code for the peer's software, a reason with facts for its owner.

use std::fmt;

use crate::receipt::RejectionProof;

/// The `error_code` strings of `DeclareMiningJob.Error` (SV2 6.4.5) that the ecosystem's clients know.
///
/// After [`ErrorCode::StaleChainTip`] the reference client stays and declares again with its next
/// template; after any other it leaves the pool. So the code is always that of the real cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The token is not genuine, expired, spent, or someone else's.
    InvalidMiningJobToken,
    /// A transaction that was asked for did not come.
    MissingTxs,
    /// The coinbase transaction breaks a rule.
    InvalidCoinbaseTx,
    /// The coinbase's only input breaks a rule.
    InvalidCoinbaseTxInput,
    /// The declared height is not the next one.
    StaleChainTip,
    /// The transactions, or the block as a whole, break a rule.
    InvalidJob,
    /// A fault of ours; says nothing about the job.
    InternalError,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 7] = [
        Self::InvalidMiningJobToken,
        Self::MissingTxs,
        Self::InvalidCoinbaseTx,
        Self::InvalidCoinbaseTxInput,
        Self::StaleChainTip,
        Self::InvalidJob,
        Self::InternalError,
    ];

    /// The string on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidMiningJobToken => "invalid-mining-job-token",
            Self::MissingTxs => "missing-txs",
            Self::InvalidCoinbaseTx => "invalid-coinbase-tx",
            Self::InvalidCoinbaseTxInput => "invalid-coinbase-tx-input",
            Self::StaleChainTip => "stale-chain-tip",
            Self::InvalidJob => "invalid-job",
            Self::InternalError => "internal-error",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Declares [`Reason`] with name, code and documentation of each reason side by side.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal => $code:ident,)+) => {
        /// The one rule that a job broke. Names are stable: they go into events and metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable kebab-case name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means, one sentence for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// The code that goes with it.
            pub const fn code(self) -> ErrorCode {
                match self { $(Self::$variant => ErrorCode::$code,)+ }
            }
        }
    };
}

reasons! {
    // The token; judged by the server, named here so that all reasons share one list.
    /// The token was not made by this server.
    TokenUnknown = "token-unknown" => InvalidMiningJobToken,
    /// The token is older than it may be.
    TokenExpired = "token-expired" => InvalidMiningJobToken,
    /// An earlier declaration or custom job used the token.
    TokenSpent = "token-spent" => InvalidMiningJobToken,
    /// The token belongs to a user who never asked for one on this connection.
    TokenForeign = "token-foreign" => InvalidMiningJobToken,
    /// The user had so many unused tokens that this one, the oldest, made room.
    TokenRecycled = "token-recycled" => InvalidMiningJobToken,

    // The message and its place in the conversation; judged by the server too.
    /// The message can not be read.
    MalformedMessage = "malformed-message" => InvalidJob,
    /// The message is larger than any declaration of a block.
    DeclarationTooLarge = "declaration-too-large" => InvalidJob,
    /// The connection was set up in coinbase-only mode, which declares nothing.
    CoinbaseOnlyConnection = "coinbase-only-connection" => InvalidJob,
    /// A declaration with this request id is still pending on the connection.
    RequestIdInUse = "request-id-in-use" => InvalidJob,
    /// Too many declarations of the connection are pending.
    TooManyPending = "too-many-pending" => InvalidJob,
    /// The transactions that were asked for came in too large a message.
    AnswerTooLarge = "answer-too-large" => MissingTxs,
    /// The transactions that were asked for did not come in time.
    NoAnswerInTime = "no-answer-in-time" => MissingTxs,
    /// No node has told the server a tip yet.
    NoTip = "no-tip" => StaleChainTip,

    // The coinbase as bytes.
    /// The prefix ends before the scriptSig, so that there is no place for the extranonce.
    CoinbasePrefix = "coinbase-prefix" => InvalidCoinbaseTx,
    /// The suffix ends before the transaction does.
    CoinbaseSuffix = "coinbase-suffix" => InvalidCoinbaseTx,
    /// Bytes are left over after the transaction.
    CoinbaseTrailingBytes = "coinbase-trailing-bytes" => InvalidCoinbaseTx,
    /// A length or count is not in its shortest form, or the witness is flagged and absent.
    CoinbaseEncoding = "coinbase-encoding" => InvalidCoinbaseTx,

    // The coinbase's input.
    /// Not exactly one input.
    CoinbaseInputs = "coinbase-inputs" => InvalidCoinbaseTxInput,
    /// The input does not spend the null outpoint.
    CoinbaseOutpoint = "coinbase-outpoint" => InvalidCoinbaseTxInput,
    /// The scriptSig, extranonce included, is not 2 to 100 bytes.
    CoinbaseScriptSize = "coinbase-script-size" => InvalidCoinbaseTxInput,
    /// The extranonce is not 1 to 32 bytes.
    ExtranonceSize = "extranonce-size" => InvalidCoinbaseTxInput,
    /// The scriptSig does not begin with a minimal push of a height (BIP 34).
    CoinbaseHeightEncoding = "coinbase-height-encoding" => InvalidCoinbaseTxInput,
    /// The height is not that of the next block.
    CoinbaseHeight = "coinbase-height" => StaleChainTip,

    // The coinbase's outputs and lock time.
    /// No outputs.
    CoinbaseOutputs = "coinbase-outputs" => InvalidCoinbaseTx,
    /// A value, or their sum, is outside of 0 to 21 million BTC.
    CoinbaseValueRange = "coinbase-value-range" => InvalidCoinbaseTx,
    /// The coinbase takes more than subsidy and fees.
    CoinbaseValue = "coinbase-value" => InvalidCoinbaseTx,
    /// The lock time forbids the coinbase in this block.
    CoinbaseNotFinal = "coinbase-not-final" => InvalidCoinbaseTx,
    /// The pool's script gets less than its share of the claimable value.
    PoolUnderpaid = "pool-underpaid" => InvalidCoinbaseTx,
    /// Solo: the miner's own script gets less than the claimable value minus the stated fee.
    MinerUnderpaid = "miner-underpaid" => InvalidCoinbaseTx,
    /// Solo: the operator's script gets less than the fee that was stated.
    OperatorUnderpaid = "operator-underpaid" => InvalidCoinbaseTx,
    /// An output that was given with the token is absent.
    ImposedOutput = "imposed-output" => InvalidCoinbaseTx,

    // The witness commitment (BIP 141).
    /// There is a commitment, but the coinbase's witness is not one item of 32 bytes.
    CoinbaseWitness = "coinbase-witness" => InvalidCoinbaseTx,
    /// The commitment is not that of the declared wtxids.
    WitnessCommitment = "witness-commitment" => InvalidCoinbaseTx,
    /// Something in the block has a witness, and the coinbase commits to none.
    WitnessWithoutCommitment = "witness-without-commitment" => InvalidCoinbaseTx,

    // The set of transactions.
    /// More transactions than fit any block.
    TooManyTransactions = "too-many-transactions" => InvalidJob,
    /// A wtxid is listed twice.
    DuplicateWtxid = "duplicate-wtxid" => InvalidJob,
    /// A transaction that was asked for did not come, or another came in its place.
    TransactionMissing = "transaction-missing" => MissingTxs,
    /// The answer has more bytes than the transactions of any block.
    SuppliedBytes = "supplied-bytes" => InvalidJob,

    // One transaction by itself.
    /// It does not decode.
    TxDecode = "tx-decode" => InvalidJob,
    /// Bytes are left over after it.
    TxTrailingBytes = "tx-trailing-bytes" => InvalidJob,
    /// It has more bytes than fit a block.
    TxSize = "tx-size" => InvalidJob,
    /// It has no inputs.
    TxNoInputs = "tx-no-inputs" => InvalidJob,
    /// It has no outputs.
    TxNoOutputs = "tx-no-outputs" => InvalidJob,
    /// An output value, or their sum, is outside of 0 to 21 million BTC.
    TxValueRange = "tx-value-range" => InvalidJob,
    /// It spends the null outpoint, as only a coinbase may.
    TxNullOutpoint = "tx-null-outpoint" => InvalidJob,
    /// It spends one output twice.
    TxDuplicateInput = "tx-duplicate-input" => InvalidJob,

    // The transactions together.
    /// Two transactions spend the same output.
    DoubleSpend = "double-spend" => InvalidJob,
    /// It spends an output of a transaction that comes later in the block.
    ParentAfterChild = "parent-after-child" => InvalidJob,
    /// It spends an output that its parent in the block does not have.
    ParentOutputAbsent = "parent-output-absent" => InvalidJob,
    /// It spends an output of a parent in the block that nothing can spend.
    ParentOutputUnspendable = "parent-output-unspendable" => InvalidJob,
    /// Its lock time forbids it in this block (BIP 113).
    TxNotFinal = "tx-not-final" => InvalidJob,
    /// Its sequence demands an age that a parent in the same block does not have (BIP 68).
    SequenceLock = "sequence-lock" => InvalidJob,
    /// All inputs are known, and bring less than the outputs take, or more than 21 million BTC.
    TxInputValue = "tx-input-value" => InvalidJob,

    // The block.
    /// More than 4,000,000 weight units.
    Weight = "weight" => InvalidJob,
    /// A sigop cost of more than 80,000, surely.
    Sigops = "sigops" => InvalidJob,
    /// The version is below 4 as a signed number (BIP 34, 65, 66).
    Version = "version" => InvalidJob,

    // Judged by the server or the node.
    /// The node's consensus check refused the block.
    ConsensusCheck = "consensus-check" => InvalidJob,
    /// The block does not fit the chain as the server's node has it, as when two blocks of one height
    /// are around: try again.
    ChainState = "chain-state" => StaleChainTip,
    /// A newer declaration of the user came on the same connection before the node had checked this one.
    Superseded = "superseded" => StaleChainTip,
    /// A fault of ours.
    Internal = "internal" => InternalError,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused job: what went wrong, where, and what was expected instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// For the peer's software.
    pub code: ErrorCode,
    /// The rule that was broken.
    pub reason: Reason,
    /// Position of the offender: in `wtxid_list` for reasons about a transaction, among the
    /// outputs for reasons about a coinbase output.
    pub index: Option<u32>,
    /// What the rule demands.
    pub expected: Option<String>,
    /// What was found.
    pub actual: Option<String>,
    /// The signature of the server that refused it, over all of the above.
    pub proof: Option<Box<RejectionProof>>,
}

impl Rejection {
    /// A refusal with the reason's own code and no facts yet.
    pub fn new(reason: Reason) -> Self {
        Self { code: reason.code(), reason, index: None, expected: None, actual: None, proof: None }
    }

    /// The refusal of a job that is for a later block than the next, once waiting for our node
    /// was to no avail. `expected` is the next height, `actual` the declared one.
    pub fn ahead_of_tip(expected: u32, actual: u32) -> Self {
        Self::new(Reason::CoinbaseHeight).expected(expected).actual(actual)
    }

    /// The refusal of whatever is declared while no node has told a tip.
    pub fn no_tip() -> Self {
        Self::new(Reason::NoTip)
    }

    /// Names the offender's position.
    #[must_use]
    pub fn at(mut self, index: usize) -> Self {
        self.index = Some(u32::try_from(index).unwrap_or(u32::MAX));
        self
    }

    /// States what the rule demands.
    #[must_use]
    pub fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.expected = Some(one_word(&expected.to_string()));
        self
    }

    /// States what was found.
    #[must_use]
    pub fn actual(mut self, actual: impl fmt::Display) -> Self {
        self.actual = Some(one_word(&actual.to_string()));
        self
    }

    /// What a proof of it is over: the code, a space, and the details without a proof.
    pub fn words(&self) -> String {
        format!("{} {}", self.code, self.facts())
    }

    /// `error_details` of the reply: `reason=… index=… expected=… actual=… proof=…` on one line,
    /// absent facts left out, no space inside a value.
    pub fn details(&self) -> String {
        match &self.proof {
            None => self.facts(),
            Some(proof) => format!("{} proof={proof}", self.facts()),
        }
    }

    fn facts(&self) -> String {
        let mut details = format!("reason={}", self.reason);
        if let Some(index) = self.index {
            details.push_str(&format!(" index={index}"));
        }
        if let Some(expected) = &self.expected {
            details.push_str(&format!(" expected={}", one_word(expected)));
        }
        if let Some(actual) = &self.actual {
            details.push_str(&format!(" actual={}", one_word(actual)));
        }
        details
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

impl std::error::Error for Rejection {}

/// Longest value in [`Rejection::details`], in characters; the rest is cut off.
const DETAIL_CHARS_MAX: usize = 200;

/// A value that can not break the `key=value` line: no white space, no control characters.
fn one_word(value: &str) -> String {
    value
        .chars()
        .take(DETAIL_CHARS_MAX)
        .map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use job_declaration_sv2 as sv2;

    use super::*;

    #[test]
    fn codes_are_those_of_the_protocol_crate() {
        for (ours, theirs) in [
            (
                ErrorCode::InvalidMiningJobToken,
                sv2::ERROR_CODE_DECLARE_MINING_JOB_INVALID_MINING_JOB_TOKEN,
            ),
            (ErrorCode::MissingTxs, sv2::ERROR_CODE_DECLARE_MINING_JOB_MISSING_TXS),
            (ErrorCode::InvalidCoinbaseTx, sv2::ERROR_CODE_DECLARE_MINING_JOB_INVALID_COINBASE_TX),
            (
                ErrorCode::InvalidCoinbaseTxInput,
                sv2::ERROR_CODE_DECLARE_MINING_JOB_INVALID_COINBASE_TX_INPUT,
            ),
            (ErrorCode::InternalError, sv2::ERROR_CODE_DECLARE_MINING_JOB_INTERNAL_ERROR),
            (ErrorCode::StaleChainTip, sv2::ERROR_CODE_DECLARE_MINING_JOB_STALE_CHAIN_TIP),
            (ErrorCode::InvalidJob, sv2::ERROR_CODE_DECLARE_MINING_JOB_INVALID_JOB),
        ] {
            assert_eq!(ours.as_str(), theirs);
        }
        assert_eq!(ErrorCode::ALL.len(), 7);
    }

    /// On purpose: the declaration may be good, and its owner should make another on the next
    /// template. Any other code ends the client's time with this pool.
    const STALE: &[Reason] =
        &[Reason::NoTip, Reason::CoinbaseHeight, Reason::ChainState, Reason::Superseded];

    #[test]
    fn no_reason_is_stale_by_accident() {
        let stale = Reason::ALL.iter().filter(|r| r.code() == ErrorCode::StaleChainTip);
        assert_eq!(
            stale.collect::<Vec<_>>(),
            STALE.iter().collect::<Vec<_>>(),
            "a fault of the job itself must not be answered as stale: the client would repeat it \
             with every template"
        );
    }

    #[test]
    fn reason_names_are_unique_and_kebab_case() {
        let names: HashSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for name in names {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
        }
    }

    #[test]
    fn details_are_one_line_of_pairs() {
        let rejection = Rejection::new(Reason::Weight).expected("at most\n4").actual("5\t6").at(7);
        assert_eq!(rejection.details(), "reason=weight index=7 expected=at_most_4 actual=5_6");
        assert_eq!(rejection.code, ErrorCode::InvalidJob);
        assert_eq!(Rejection::new(Reason::Internal).details(), "reason=internal");
        let long = Rejection::new(Reason::Internal).actual("ä".repeat(100_000));
        assert!(long.details().len() < 1_000);
    }
}
