//! Pure rules of job declaration: declared job, tip and rules in, verdict out.
//!
//! No IO, no clock, no lock, no log. Every decision is a function of its arguments, and no
//! argument can express a preference about what transactions are *for*: not what they pay, to
//! whom, how much fee they bring, or what data they carry.

pub mod tip;
pub mod tx;
