//! Pure rules of job declaration: declared job, tip and rules in, verdict out.
//!
//! No IO, no clock, no lock, no log. Every decision is a function of its arguments, and no
//! argument can express a preference about what transactions are *for*: not what they pay, to
//! whom, how much fee they bring, or what data they carry.
//!
//! The way of a job: [`precheck()`] reads the declaration alone; [`missing`] says which transactions
//! to ask for and [`supplied`] takes the answer; [`judge`] gives the verdict; [`assemble`] makes a
//! block of an accepted job and a solution.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod block;
mod bytes;
pub mod coinbase;
pub mod custom_job;
pub mod declared;
mod height;
pub mod identity;
pub mod job;
pub mod keyed;
pub mod merkle;
pub mod payout;
pub mod precheck;
pub mod receipt;
pub mod rejection;
pub mod replay;
pub mod rules;
mod spends;
pub mod tip;
pub mod tx;
pub mod verdict;
pub mod vetted;

pub use block::{
    BlockBody, FoundBlock, Solution, SolutionError, assemble, proposal_block_hex, solution_header,
};
pub use coinbase::{CoinbaseParts, CoinbaseWitness};
pub use declared::{Declared, TemplateHash};
pub use job::{AcceptedJob, Fees, JobParts};
pub use merkle::WitnessRoot;
pub use precheck::{Outline, Precheck, Prechecked, check_height, check_tip, outline, precheck};
pub use receipt::{Receipt, ReceiptError, ReceiptFacts, ReceiptKey, RejectionProof, SigningKey};
pub use rejection::{ErrorCode, Reason, Rejection};
pub use rules::{Payout, Rules, subsidy};
pub use tip::{ChainTip, MinDifficulty, NextBits};
pub use tx::{NodeFacts, Tx, TxError};
pub use verdict::{Refused, TxSlots, judge, judge_keeping, missing, seal_and_judge, supplied};
pub use vetted::{TemplateView, needs_consensus_check};
