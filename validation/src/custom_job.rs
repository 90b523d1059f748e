//! What `SetCustomMiningJob` is held to (SV2 5.3.18): the next block's header as our own nodes have
//! it, and the declared coinbase and transactions, or in coinbase-only mode the rules about a
//! coinbase alone.

use std::fmt;

use bitcoin::{BlockHash, CompactTarget, Network};

use crate::block::BlockBody;
use crate::bytes::compact_size_bytes;
use crate::coinbase::CoinbaseParts;
use crate::job::{AcceptedJob, Fees};
use crate::payout::{Paid, check_outputs, check_values};
use crate::precheck::{BLOCK_VERSION_MIN, check_tip, has_commitment};
use crate::rejection::{Reason, Rejection};
use crate::rules::Rules;
use crate::spends::check_final;
use crate::tip::ChainTip;

/// Bits of nVersion that miners may set as they like (BIP 323).
pub const GENERAL_PURPOSE_VERSION_BITS: u32 = 0x1fff_ffe0;
/// How far ahead of our clock a block's time may be, seconds (consensus).
pub const NTIME_AHEAD_MAX_S: u32 = 2 * 60 * 60;
/// Most hashes beside the coinbase's path: a block has at most 16,666 transactions.
pub const MERKLE_PATH_MAX: usize = 15;

/// Blocks between two changes of difficulty (consensus).
const PERIOD_BLOCKS: u32 = 2_016;
/// How far before its parent the first block of a period may be, seconds (BIP 94).
const PERIOD_START_BACK_MAX_S: u32 = 600;

/// What the message says of the job, borrowed from it.
#[derive(Debug, Clone, Copy)]
pub struct CustomJobFields<'a> {
    /// nVersion of the header.
    pub version: u32,
    /// The block that it builds on.
    pub prev_hash: BlockHash,
    /// nTime to begin with, Unix seconds.
    pub min_ntime: u32,
    /// nBits of the header.
    pub nbits: u32,
    /// nVersion of the coinbase.
    pub coinbase_tx_version: u32,
    /// The scriptSig up to the full extranonce.
    pub coinbase_prefix: &'a [u8],
    /// nSequence of the coinbase's input.
    pub coinbase_sequence: u32,
    /// CompactSize count and consensus encoding of the outputs.
    pub coinbase_outputs: &'a [u8],
    /// nLockTime of the coinbase.
    pub coinbase_lock_time: u32,
    /// Hashes beside the coinbase's path in the merkle tree of txids, bottom up, as hashed.
    pub merkle_path: &'a [[u8; 32]],
    /// Full extranonce of the channel, bytes: its prefix and what the miner rolls.
    pub extranonce_len: usize,
}

/// The `error_code` strings of `SetCustomMiningJob.Error` (SV2 5.3.20) that stand for a fault of the
/// job itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CustomJobCode {
    /// It does not build on the tip.
    StaleChainTip,
    /// nTime can not begin there.
    MinNtime,
    /// Not the nBits that consensus demands at min_ntime.
    Nbits,
    /// Another header version, beside the bits that are free.
    Version,
    /// Another coinbase, or one that breaks a rule, in what no other code is for.
    CoinbaseTx,
    /// Another version of the coinbase.
    CoinbaseTxVersion,
    /// Another beginning of the scriptSig, or none that a coinbase can have.
    CoinbasePrefix,
    /// Another nSequence.
    CoinbaseSequence,
    /// Other outputs, or such that break a rule.
    CoinbaseOutputs,
    /// Another nLockTime, or one that forbids the coinbase in the next block.
    CoinbaseLockTime,
    /// Other hashes beside the coinbase, or too many.
    MerklePath,
}

impl CustomJobCode {
    /// Every code.
    pub const ALL: [Self; 11] = [
        Self::StaleChainTip,
        Self::MinNtime,
        Self::Nbits,
        Self::Version,
        Self::CoinbaseTx,
        Self::CoinbaseTxVersion,
        Self::CoinbasePrefix,
        Self::CoinbaseSequence,
        Self::CoinbaseOutputs,
        Self::CoinbaseLockTime,
        Self::MerklePath,
    ];

    /// The string on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StaleChainTip => "stale-chain-tip",
            Self::MinNtime => "invalid-min-ntime",
            Self::Nbits => "invalid-nbits",
            Self::Version => "invalid-version",
            Self::CoinbaseTx => "invalid-coinbase-tx",
            Self::CoinbaseTxVersion => "invalid-coinbase-tx-version",
            Self::CoinbasePrefix => "invalid-coinbase-prefix",
            Self::CoinbaseSequence => "invalid-coinbase-tx-input-n-sequence",
            Self::CoinbaseOutputs => "invalid-coinbase-tx-outputs",
            Self::CoinbaseLockTime => "invalid-coinbase-tx-locktime",
            Self::MerklePath => "invalid-merkle-path",
        }
    }
}

/// A refused custom job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct CustomJobFault {
    /// For the peer.
    pub code: CustomJobCode,
    /// For the operator: what was expected and what came.
    pub detail: String,
}

impl CustomJobFault {
    fn new(code: CustomJobCode, expected: impl fmt::Display, actual: impl fmt::Display) -> Self {
        Self { code, detail: format!("expected={expected} actual={actual}") }
    }

    fn of(code: CustomJobCode, rejection: &Rejection) -> Self {
        Self { code, detail: rejection.details() }
    }
}

/// Holds the header to `tip`, which the job names: `now_unix_s` is our clock, Unix seconds.
///
/// # Errors
/// `stale-chain-tip` for another tip, `invalid-min-ntime`, `invalid-nbits`.
pub fn check_header(
    fields: &CustomJobFields<'_>,
    tip: &ChainTip,
    network: Network,
    now_unix_s: u32,
) -> Result<(), CustomJobFault> {
    if fields.prev_hash != tip.hash {
        return Err(CustomJobFault::new(CustomJobCode::StaleChainTip, tip.hash, fields.prev_hash));
    }
    let (first, last) = (first_ntime(tip, network), now_unix_s.saturating_add(NTIME_AHEAD_MAX_S));
    if !(first..=last).contains(&fields.min_ntime) {
        let range = format_args!("{first}..{last}").to_string();
        return Err(CustomJobFault::new(CustomJobCode::MinNtime, range, fields.min_ntime));
    }
    let due = tip.next_bits.at(fields.min_ntime);
    if CompactTarget::from_consensus(fields.nbits) != due {
        let hex = |bits: CompactTarget| format!("{:08x}", bits.to_consensus());
        let actual = CompactTarget::from_consensus(fields.nbits);
        return Err(CustomJobFault::new(CustomJobCode::Nbits, hex(due), hex(actual)));
    }
    Ok(())
}

/// The earliest time of the next block, Unix seconds: after the median of the last eleven, and on
/// networks with BIP 94 hardly before its parent where a period begins.
pub fn first_ntime(tip: &ChainTip, network: Network) -> u32 {
    let after_median = tip.median_time_past.saturating_add(1);
    if network == Network::Testnet4 && tip.next_height().is_multiple_of(PERIOD_BLOCKS) {
        after_median.max(tip.time.saturating_sub(PERIOD_START_BACK_MAX_S))
    } else {
        after_median
    }
}

/// Holds a job to the declaration that it comes from: every field equals the declared one. `body`
/// is the job's; `tip` is that of [`check_header`], which need not be the tip that the declaration
/// was accepted on.
///
/// # Errors
/// The code of the field.
pub fn check_declared(
    fields: &CustomJobFields<'_>,
    job: &AcceptedJob,
    body: &BlockBody,
    tip: &ChainTip,
) -> Result<(), CustomJobFault> {
    use CustomJobCode as Code;
    let coinbase = job.coinbase();
    check_tip(coinbase, tip)
        .map_err(|rejection| CustomJobFault::of(CustomJobCode::StaleChainTip, &rejection))?;
    if job.prev_hash() != tip.hash {
        // Accepted on another block of this height. What else a tip decides was looked at then.
        for (index, tx) in job.txs().iter().enumerate() {
            check_final(index, tx, tip).map_err(|rejection| {
                CustomJobFault::of(CustomJobCode::StaleChainTip, &rejection)
            })?;
        }
    }
    let hex = |number: u32| format!("{number:08x}");
    let same = |code, declared: u32, actual: u32| {
        if declared == actual {
            return Ok(());
        }
        Err(CustomJobFault::new(code, hex(declared), hex(actual)))
    };
    let fixed = |version: u32| version & !GENERAL_PURPOSE_VERSION_BITS;
    same(Code::Version, fixed(job.version()), fixed(fields.version))?;
    same(Code::CoinbaseTxVersion, coinbase.tx_version() as u32, fields.coinbase_tx_version)?;
    same(Code::CoinbaseSequence, coinbase.sequence().0, fields.coinbase_sequence)?;
    let lock_time = coinbase.lock_time().to_consensus_u32();
    same(Code::CoinbaseLockTime, lock_time, fields.coinbase_lock_time)?;
    let same_bytes = |code, declared: &[u8], actual: &[u8]| {
        if declared == actual {
            return Ok(());
        }
        Err(CustomJobFault::new(code, Bytes(declared), Bytes(actual)))
    };
    if coinbase.extranonce_len() != fields.extranonce_len {
        let expected = format!("extranonce-of-{}-bytes", coinbase.extranonce_len());
        return Err(CustomJobFault::new(Code::CoinbaseTx, expected, fields.extranonce_len));
    }
    same_bytes(Code::CoinbasePrefix, coinbase.script_sig_prefix(), fields.coinbase_prefix)?;
    same_bytes(Code::CoinbaseOutputs, coinbase.counted_outputs_bytes(), fields.coinbase_outputs)?;
    let (declared, actual) = (body.merkle_branch(), fields.merkle_path);
    same_bytes(Code::MerklePath, declared.as_flattened(), actual.as_flattened())
}

/// The coinbase that a job in coinbase-only mode makes, held to all rules that need no transactions,
/// and what it pays, of which what is claimable is unverified.
/// A commitment to witnesses among its outputs gives it the witness reserved value that all mining
/// software uses (32 zero bytes): nobody told us another.
///
/// # Errors
/// The code of the field.
pub fn check_coinbase_only(
    fields: &CustomJobFields<'_>,
    tip: &ChainTip,
    rules: &Rules,
) -> Result<(CoinbaseParts, Paid), CustomJobFault> {
    use CustomJobCode as Code;
    let version = fields.version as i32;
    if version < BLOCK_VERSION_MIN {
        let expected = format!("at-least-{BLOCK_VERSION_MIN}");
        return Err(CustomJobFault::new(Code::Version, expected, version));
    }
    if fields.merkle_path.len() > MERKLE_PATH_MAX {
        let (expected, actual) = (format!("at-most-{MERKLE_PATH_MAX}"), fields.merkle_path.len());
        return Err(CustomJobFault::new(Code::MerklePath, expected, actual));
    }
    // Without a witness whatever follows the outputs in their field can be nothing else.
    let parts = halves(fields, false)?;
    let fault = |rejection: Rejection| CustomJobFault::of(code_of(rejection.reason), &rejection);
    check_tip(&parts, tip).map_err(fault)?;
    check_outputs(&parts, rules).map_err(fault)?;
    let unknown = Fees { total_sat: None, known_sat: 0 };
    let paid = check_values(&parts, rules, unknown).map_err(fault)?;
    let parts = if has_commitment(&parts) { halves(fields, true)? } else { parts };
    Ok((parts, paid))
}

/// Builds both halves of the coinbase and takes them apart again.
fn halves(fields: &CustomJobFields<'_>, witness: bool) -> Result<CoinbaseParts, CustomJobFault> {
    let script_bytes = fields.coinbase_prefix.len().saturating_add(fields.extranonce_len);
    let Some(script_bytes) =
        u8::try_from(script_bytes).ok().filter(|bytes| compact_size_bytes(u64::from(*bytes)) == 1)
    else {
        let expected = "at-most-100-bytes-with-the-extranonce";
        return Err(CustomJobFault::new(CustomJobCode::CoinbasePrefix, expected, script_bytes));
    };
    let marker: &[u8] = if witness { &[0, 1] } else { &[] };
    let prefix: [&[u8]; 7] = [
        &fields.coinbase_tx_version.to_le_bytes(),
        marker,
        &[1],
        &[0; 32],
        &u32::MAX.to_le_bytes(),
        &[script_bytes],
        fields.coinbase_prefix,
    ];
    let mut reserved = vec![1, 32];
    reserved.resize(2 + 32, 0);
    let suffix: [&[u8]; 4] = [
        &fields.coinbase_sequence.to_le_bytes(),
        fields.coinbase_outputs,
        if witness { &reserved } else { &[] },
        &fields.coinbase_lock_time.to_le_bytes(),
    ];
    CoinbaseParts::parse(&prefix.concat(), &suffix.concat())
        .map_err(|rejection| CustomJobFault::of(code_of(rejection.reason), &rejection))
}

/// The code for what is wrong with a coinbase that was built of the message's fields.
fn code_of(reason: Reason) -> CustomJobCode {
    match reason {
        Reason::CoinbaseHeight => CustomJobCode::StaleChainTip,
        Reason::CoinbaseNotFinal => CustomJobCode::CoinbaseLockTime,
        Reason::CoinbaseHeightEncoding | Reason::CoinbaseScriptSize => {
            CustomJobCode::CoinbasePrefix
        }
        // Everything between the sequence and the lock time comes from this field.
        Reason::CoinbaseSuffix
        | Reason::CoinbaseTrailingBytes
        | Reason::CoinbaseEncoding
        | Reason::CoinbaseOutputs
        | Reason::CoinbaseValueRange
        | Reason::CoinbaseValue
        | Reason::PoolUnderpaid
        | Reason::MinerUnderpaid
        | Reason::OperatorUnderpaid
        | Reason::ImposedOutput => CustomJobCode::CoinbaseOutputs,
        _ => CustomJobCode::CoinbaseTx,
    }
}

/// Bytes for a log: how many, and the first of them.
struct Bytes<'a>(&'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-bytes:", self.0.len())?;
        self.0.iter().take(64).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
