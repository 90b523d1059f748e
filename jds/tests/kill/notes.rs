//! What the miners were told: everything that must still be true after a kill.

use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Wtxid};
use jds::client::template::{MinerTemplate, Solved};
use validation::declared::{Declared, TemplateHash};

use crate::work::Work;

/// One declaration, from the moment that it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) user: &'static str,
    pub(crate) token: Vec<u8>,
    pub(crate) hash: TemplateHash,
    pub(crate) prefix: Vec<u8>,
    pub(crate) suffix: Vec<u8>,
    pub(crate) template: Arc<MinerTemplate>,
    pub(crate) work: Arc<Work>,
    /// `None` until there is an answer.
    pub(crate) verdict: Option<Verdict>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    Rejected { code: String },
}

impl Attempt {
    pub(crate) fn new(
        user: &'static str,
        token: Vec<u8>,
        template: MinerTemplate,
        work: Arc<Work>,
    ) -> Self {
        let (prefix, suffix) = template.halves();
        let wtxids: Vec<Wtxid> =
            template.wtxids().into_iter().map(Wtxid::from_byte_array).collect();
        let hash = TemplateHash::of(&Declared {
            version: template.version,
            coinbase_prefix: &prefix,
            coinbase_suffix: &suffix,
            wtxids: &wtxids,
        });
        let template = Arc::new(template);
        Self { user, token, hash, prefix, suffix, template, work, verdict: None }
    }

    pub(crate) fn is_accepted(&self) -> bool {
        self.verdict == Some(Verdict::Accepted)
    }
}

/// A solution that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Pushed {
    pub(crate) user: &'static str,
    pub(crate) solved: Arc<Solved>,
}

impl Pushed {
    pub(crate) fn hash(&self) -> BlockHash {
        self.solved.block.block_hash()
    }
}

/// Everything that the miners noted between a start and a kill.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) attempts: Vec<Attempt>,
    /// Tokens that were given out and not used.
    pub(crate) unspent: Vec<(&'static str, Vec<u8>)>,
    pub(crate) pushed: Vec<Pushed>,
    /// What went wrong although the server was running.
    pub(crate) failures: Vec<String>,
}

/// Blocks for which a start takes templates back, and one more for a tip that moved meanwhile.
const RECENT_BLOCKS: u32 = 4;

/// [`Notes`] that all miners write to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notebook {
    notes: Arc<Mutex<Notes>>,
    /// What the server may still have a job of, kills or not.
    recent: Arc<Mutex<Vec<Recent>>>,
}

#[derive(Debug)]
struct Recent {
    user: &'static str,
    height: u32,
    template: Arc<MinerTemplate>,
}

impl Notebook {
    /// Changes or reads the notes.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Notes) -> T) -> T {
        act(&mut lock(&self.notes))
    }

    /// Takes them all.
    pub(crate) fn take(&self) -> Notes {
        self.with(std::mem::take)
    }

    /// Notes an attempt; its number until the notes are taken.
    pub(crate) fn note(&self, attempt: Attempt) -> usize {
        let mut recent = lock(&self.recent);
        let height = attempt.work.height;
        recent.retain(|other| other.height + RECENT_BLOCKS >= height);
        let template = Arc::clone(&attempt.template);
        recent.push(Recent { user: attempt.user, height, template });
        self.with(|notes| {
            notes.attempts.push(attempt);
            notes.attempts.len() - 1
        })
    }

    /// Templates of that user that the server may have a job of.
    fn recent(&self, user: &str) -> Vec<Arc<MinerTemplate>> {
        let recent = lock(&self.recent);
        let of_user = recent.iter().filter(|recent| recent.user == user);
        of_user.map(|recent| Arc::clone(&recent.template)).collect()
    }

    /// Solves a template, so that its solution fits no other template of the user.
    pub(crate) fn solve(&self, attempt: &Attempt) -> anyhow::Result<Pushed> {
        let solved = attempt.work.solve(&attempt.template, &self.recent(attempt.user))?;
        Ok(Pushed { user: attempt.user, solved: Arc::new(solved) })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
