//! What a start takes back from the store, so that a restart loses nothing: tokens that are used
//! up, accepted jobs that a solution may still come for, and blocks whose end is not known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use store::{
    PageRequest, ReadError, RecoverQuery, Recovered, Store, TemplateFilter, ValidationResult,
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

/// Reads what an earlier run left. Blocks the thread; may take seconds after a busy time.
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
        spent_tokens_max: SPENT_TOKENS_MAX,
    })?;
    for what in &recovered.damaged {
        error!(what, "the store holds something that can not be read back");
    }
    Ok(recovered)
}

/// Puts tokens and jobs back where they were.
pub(crate) fn restore(recovered: Recovered, spent: &SpentTokens, jobs: &Jobs, cache: &TxCache) {
    let start = Instant::now();
    let Recovered { spent_tokens, templates, .. } = recovered;
    let (tokens, accepted) = (spent_tokens.len(), templates.len());
    spent.restore(spent_tokens.into_iter());
    // One connection stands for each user, so that bounds of connections hold for them. The
    // numbers come from the end that living connections never reach.
    let mut users: HashMap<UserTag, (Arc<User>, Declarer)> = HashMap::new();
    let mut numbers = (0..=u64::MAX).rev();
    for template in templates {
        let tag = UserTag::from_bytes(template.user_tag.0);
        let (user, declarer) = users.entry(tag).or_insert_with(|| {
            let user = Arc::new(User { name: template.user, tag });
            (user, Declarer::new(numbers.next().unwrap_or(u64::MAX), GONE_PEER))
        });
        let job = jobs.create(Arc::clone(user), declarer, template.job);
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
