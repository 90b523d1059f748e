//! What is known of a declaration beside its verdict.

use std::sync::Arc;
use std::time::Duration;

use validation::declared::TemplateHash;
use validation::rules::Rules;

use crate::jobs::User;

/// A declaration, as far as its verdict is recorded.
#[derive(Debug, Clone)]
pub struct Case {
    /// Who declared.
    pub user: Arc<User>,
    /// Address that the peer connects from, without the port.
    pub peer: Arc<str>,
    /// Number of the token that it used up.
    pub token_sequence: u64,
    /// Transactions in the block, the coinbase included.
    pub tx_count: u32,
    /// Size of the declaration, bytes.
    pub bytes: u64,
    /// The terms stated to the user.
    pub rules: Arc<Rules>,
}

/// What the rules found out about a template before they were done.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// Names the template.
    pub template_hash: TemplateHash,
    /// Height that it declares.
    pub height: u32,
}

/// What a verdict took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// The rules themselves.
    pub verdict: Duration,
    /// Transactions that had to be asked for.
    pub missing: usize,
    /// From asking for them to the answer.
    pub fetch: Option<Duration>,
}

impl Timing {
    /// Of the rules, milliseconds.
    pub fn verdict_ms(&self) -> f64 {
        ms(self.verdict)
    }

    /// Of the question for transactions, milliseconds.
    pub fn fetch_ms(&self) -> Option<f64> {
        self.fetch.map(ms)
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
