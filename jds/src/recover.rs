//! What a start takes back from the store, so that a restart loses nothing: tokens that are used
//! up, accepted jobs that a solution may still come for, and blocks whose end is not known.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use std::{fs, io};

use store::{
    PageRequest, ReadError, RecoverQuery, Recovered, RecoveredBlock, Store, TemplateFilter,
    ValidationResult,
};
use tracing::{error, info};

use crate::clock;
use crate::jobs::{Declarer, Jobs, User};
use crate::limits::{JOB_DEPTH_KEPT_BLOCKS, RECOVERED_TEMPLATES_MAX, SPENT_TOKENS_MAX};
use crate::spent::SpentTokens;
use crate::token::UserTag;
use crate::tx_cache::TxCache;

/// Who declared a job before the restart: a connection that is gone, from nowhere.
const GONE_PEER: &str = "before-restart";

/// Makes the directory, if it is not there, for its owner alone: it holds tokens' names, webhooks'
/// secrets and blocks.
///
/// # Errors
/// The system's.
pub(crate) fn make_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Reads the blocks whose end is not known: little, and quick. Blocks the thread.
///
/// # Errors
/// The store can not be read at all.
pub(crate) fn blocks(store: &dyn Store) -> Result<Vec<RecoveredBlock>, ReadError> {
    // No token expires so late, and no template is so high.
    let only = RecoverQuery {
        now_ms: i64::MAX as u64,
        min_height: u32::MAX,
        templates_max: 0,
        user_templates_max: 0,
        spent_tokens_max: 0,
    };
    let recovered = store.recover(&only)?;
    tell_damage(&recovered);
    Ok(recovered.blocks)
}

/// Reads the rest of what an earlier run left. Blocks the thread; may take seconds after a busy
/// time.
///
/// # Errors
/// The store can not be read at all. Single rows that can not be are named in the log.
pub(crate) fn read(store: &dyn Store) -> Result<Recovered, ReadError> {
    let accepted =
        TemplateFilter { result: Some(ValidationResult::Accepted), ..TemplateFilter::default() };
    let newest = store.templates(&accepted, PageRequest { after: None, limit: 1 })?;
    // Heights are those of our own node: a template for another one is never accepted.
    let height = newest.items.first().and_then(|template| template.height).unwrap_or_default();
    let recovered = store.recover(&RecoverQuery {
        now_ms: clock::unix_us() / 1_000,
        min_height: height.saturating_sub(JOB_DEPTH_KEPT_BLOCKS),
        templates_max: RECOVERED_TEMPLATES_MAX,
        // Users take turns, so one with many leaves room for the others.
        user_templates_max: RECOVERED_TEMPLATES_MAX,
        spent_tokens_max: SPENT_TOKENS_MAX,
    })?;
    tell_damage(&recovered);
    Ok(recovered)
}

fn tell_damage(recovered: &Recovered) {
    for what in &recovered.damaged {
        error!(what, "the store holds something that can not be read back");
    }
}

/// Puts tokens and jobs back where they were.
pub(crate) fn restore(recovered: Recovered, spent: &SpentTokens, jobs: &Jobs, cache: &TxCache) {
    let start = Instant::now();
    let Recovered { spent_tokens, spent_floor, templates, .. } = recovered;
    let (tokens, accepted) = (spent_tokens.len(), templates.len());
    spent.restore(spent_floor, spent_tokens.into_iter());
    // Each job stands for a connection of its own, so that no bound of one connection lets go of
    // what several had declared; the bounds of all jobs together hold. The numbers are at the end
    // that living connections never reach, rising with the age of the job as theirs do.
    let mut users: HashMap<(UserTag, String), Arc<User>> = HashMap::new();
    for (template, number) in templates.into_iter().zip(u64::MAX - accepted as u64..) {
        let tag = UserTag::from_bytes(template.user_tag.0);
        let user = users
            .entry((tag, template.worker.clone()))
            .or_insert_with(|| Arc::new(User::restored(template.user, template.worker, tag)));
        let declarer = Declarer::new(number, GONE_PEER);
        let job = jobs.create(Arc::clone(user), &declarer, template.job);
        if let Some(reason) = template.withdrawn {
            job.withdraw(reason);
        }
        cache.insert_all(job.accepted.txs().iter().cloned());
        jobs.keep(&job);
    }
    if tokens + accepted > 0 {
        info!(
            spent_tokens = tokens,
            templates = accepted,
            ms = start.elapsed().as_millis(),
            "taken back from the store"
        );
    }
}
