//! A declaration on its way to a verdict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::Wtxid;
use validation::precheck::Prechecked;
use validation::rules::Rules;
use validation::tip::ChainTip;
use validation::verdict::TxSlots;

use crate::budget::Permit;
use crate::jobs::{Declarer, User};
use crate::journal::{Case, Named, Timing};

/// A declaration, taken off the wire.
#[derive(Debug)]
pub struct Declaration {
    /// Of the message; unique among the pending ones of its connection.
    pub request_id: u32,
    /// Who declares.
    pub user: Arc<User>,
    /// On which connection.
    pub declarer: Declarer,
    /// Number of the token that it used up.
    pub token_sequence: u64,
    /// Size of the message, bytes.
    pub bytes: u64,
    /// The terms stated to that user.
    pub rules: Arc<Rules>,
    /// Header version.
    pub version: u32,
    /// Coinbase up to the extranonce.
    pub coinbase_prefix: Vec<u8>,
    /// Coinbase after the extranonce.
    pub coinbase_suffix: Vec<u8>,
    /// The transactions, without the coinbase.
    pub wtxids: Vec<Wtxid>,
    /// When its last byte came.
    pub received: Instant,
    /// Its share of what peers may make us hold.
    pub permit: Permit,
}

/// A declaration that waits for transactions from the peer.
#[derive(Debug)]
pub struct Draft {
    pub(super) declaration: Declaration,
    pub(super) first_tip: ChainTip,
    pub(super) prechecked: Box<Prechecked>,
    pub(super) slots: TxSlots,
    /// What was asked for: positions in the list, ascending.
    pub asked: Vec<u16>,
    /// Transactions that were looked up at a node, count.
    pub(super) looked_up: usize,
    /// Time that the rules took so far.
    pub(super) verdict: Duration,
    pub(super) asked_at: Instant,
}

impl Declaration {
    pub(super) fn case(&self) -> Case {
        Case {
            user: Arc::clone(&self.user),
            peer: Arc::clone(self.declarer.peer()),
            token_sequence: self.token_sequence,
            // A frame holds fewer wtxids than 2^32.
            tx_count: self.wtxids.len() as u32 + 1,
            bytes: self.bytes,
            rules: Arc::clone(&self.rules),
        }
    }
}

impl Draft {
    pub(super) fn case(&self) -> Case {
        self.declaration.case()
    }

    pub(super) fn named(&self) -> Named {
        named(&self.prechecked)
    }

    pub(super) fn timing(&self) -> Timing {
        Timing {
            verdict: self.verdict,
            missing: self.asked.len(),
            fetch: Some(self.asked_at.elapsed()),
        }
    }

    /// The request that this answers.
    pub fn request_id(&self) -> u32 {
        self.declaration.request_id
    }

    /// Adds the share of the budget that the supplied transactions take. It is given back with
    /// that of the declaration, once both are judged.
    pub fn hold(&mut self, permit: Permit) {
        self.declaration.permit.add(permit);
    }

    /// When the declaration came.
    pub fn received(&self) -> Instant {
        self.declaration.received
    }
}

pub(super) fn named(prechecked: &Prechecked) -> Named {
    Named { template_hash: prechecked.template_hash(), height: prechecked.height() }
}
