//! What the database holds after a kill, looked at in a copy: the server's own files stay as the
//! kill left them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use bitcoin::consensus::serialize;
use jds::token::TokenMint;
use store::{
    Cursor, Event, EventData, EventFilter, PageRequest, RecoverQuery, Recovered, Settings,
    SqliteStore, Store, TemplateFilter, TemplateRef, ValidationResult,
};
use tempfile::TempDir;

use crate::events::Told;
use crate::notes::{Attempt, Notes, Verdict};

/// Blocks below the next one whose templates a start takes back.
const DEPTH_BLOCKS: u32 = 2;

/// What a store says of a copy in which nothing else is wrong.
const COPY: &str = "the database file is a copy";

/// The database as a kill left it, and opened as a start does.
pub(crate) struct Kept {
    store: SqliteStore,
    /// Id of the last event that the server wrote.
    pub(crate) last_event_id: u64,
    /// The server's stream epoch.
    pub(crate) epoch: String,
    // After the store: it writes until it is dropped.
    _dir: TempDir,
}

impl Kept {
    pub(crate) fn copy(data_dir: &Path) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("jds-kill-copy-")?;
        for entry in fs::read_dir(data_dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_shared_memory = name.to_string_lossy().ends_with("-shm");
            if entry.file_type()?.is_file() && !is_shared_memory {
                fs::copy(entry.path(), dir.path().join(name))?;
            }
        }
        let store = SqliteStore::open(Settings::new(dir.path())).context("after the kill")?;
        // A store knows that it was copied, and says so in an event of a new epoch.
        let last = store.last_event_id().saturating_sub(1);
        let after = Cursor { epoch: None, id: last };
        let events = store.events_after(after, &EventFilter::ALL, 1)?.events;
        let event = events.first().context("a copy begins a new epoch")?.typed()?;
        let EventData::StreamEpochStarted(began) = event else { bail!("{event:?}") };
        ensure!(began.reason == COPY, "the copy has less than was seen: {}", began.reason);
        let (last_event_id, epoch) = (began.kept_last_id, began.previous_epoch);
        Ok(Self { store, last_event_id, epoch, _dir: dir })
    }

    /// Everything that was acknowledged since the last kill is there.
    pub(crate) fn check(
        &self,
        notes: &Notes,
        told: &Told,
        mint: &TokenMint,
        next_height: u32,
    ) -> anyhow::Result<()> {
        self.check_tokens(notes, mint, next_height)?;
        for attempt in &notes.attempts {
            let hash = attempt.hash;
            match &attempt.verdict {
                Some(Verdict::Accepted) => self.check_accepted(attempt),
                Some(Verdict::Rejected { code }) if told.rejected_by_name(attempt) => {
                    self.check_rejected(attempt, code)
                }
                Some(Verdict::Rejected { .. }) | None => Ok(()),
            }
            .with_context(|| format!("template {hash} of {}", attempt.user))?;
        }
        for (name, counts) in told.users.iter().filter(|(name, _)| !name.is_empty()) {
            let Some(miner) = self.store.miner(name)? else {
                ensure!(counts.accepted + counts.rejected == 0, "{name} is not known");
                continue;
            };
            let kept = (miner.templates_accepted_total, miner.templates_rejected_total);
            let told = (counts.accepted, counts.rejected);
            ensure!(kept == told, "{name}: kept {kept:?}, in events {told:?}");
        }
        self.check_blocks(told)
    }

    /// Users of all spent tokens by sequence.
    fn spent_tokens(&self) -> anyhow::Result<HashMap<u64, String>> {
        let (mut spent, mut after) = (HashMap::new(), None);
        loop {
            let page = self.store.spent_tokens(PageRequest { after, limit: 1_000 })?;
            spent.extend(page.items.into_iter().map(|token| (token.sequence, token.user)));
            after = page.next;
            if after.is_none() {
                return Ok(spent);
            }
        }
    }

    fn check_tokens(
        &self,
        notes: &Notes,
        mint: &TokenMint,
        next_height: u32,
    ) -> anyhow::Result<()> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        let min_height = next_height.saturating_sub(DEPTH_BLOCKS);
        let query = RecoverQuery { now_ms, min_height, templates_max: 4_096, ..RecoverQuery::ALL };
        let Recovered { damaged, templates, .. } = self.store.recover(&query)?;
        ensure!(damaged.is_empty(), "damaged: {damaged:?}");
        let recovered: HashSet<_> =
            templates.iter().map(|template| template.job.template_hash()).collect();
        let spent = self.spent_tokens()?;
        for attempt in notes.attempts.iter().filter(|attempt| attempt.verdict.is_some()) {
            let token = mint.open(&attempt.token)?.sequence;
            let user = spent.get(&token).map(String::as_str);
            ensure!(user == Some(attempt.user), "token {token} of {}: {user:?}", attempt.user);
            let wanted = attempt.is_accepted() && attempt.work.height >= min_height;
            ensure!(
                !wanted || recovered.contains(&attempt.hash),
                "template {} of {} would not be taken back",
                attempt.hash,
                attempt.user
            );
        }
        for (user, token) in &notes.unspent {
            let token = mint.open(token)?.sequence;
            ensure!(!spent.contains_key(&token), "token {token} of {user} was never used");
        }
        Ok(())
    }

    fn check_accepted(&self, attempt: &Attempt) -> anyhow::Result<()> {
        let which = TemplateRef::Hash(attempt.hash);
        let kept = self.store.template(which)?.context("it was accepted, and is not kept")?;
        let result = kept.summary.result;
        // A node may have found it to be for a chain that is past.
        ensure!(result != ValidationResult::Rejected, "it was accepted, and is kept as {result}");
        ensure!(!kept.summary.acknowledged_volatile, "the store was never out of order");
        ensure!(kept.summary.user == attempt.user, "it is kept as of {}", kept.summary.user);
        let template = &attempt.template;
        ensure!(kept.version == template.version, "version");
        ensure!(kept.coinbase_prefix == attempt.prefix, "coinbase prefix");
        ensure!(kept.coinbase_suffix == attempt.suffix, "coinbase suffix");
        let txs = self.store.template_transactions(which)?.context("without transactions")?;
        let declared: Vec<_> = template.txs.iter().map(serialize).collect();
        let (have, want) = (txs.len(), declared.len());
        ensure!(txs == declared, "its transactions are others: {have} kept, {want} declared");
        Ok(())
    }

    fn check_rejected(&self, attempt: &Attempt, code: &str) -> anyhow::Result<()> {
        let kept = self.store.template_summary(TemplateRef::Hash(attempt.hash))?;
        let kept = kept.context("it was rejected, and that is not kept")?;
        let as_told = kept.result == ValidationResult::Rejected
            && kept.error_code.as_deref() == Some(code)
            && kept.user == attempt.user;
        ensure!(as_told, "it was rejected with {code}, and is kept as {kept:?}");
        Ok(())
    }

    /// Blocks and events tell the same.
    fn check_blocks(&self, told: &Told) -> anyhow::Result<()> {
        let page = PageRequest { after: None, limit: store::limits::PAGE_ITEMS_MAX };
        for block in self.store.blocks(page)?.items {
            let hash = block.block_hash;
            ensure!(told.blocks.contains_key(&hash), "block {hash} is kept, and in no event");
        }
        for hash in told.blocks.keys() {
            ensure!(self.store.block(hash)?.is_some(), "block {hash} is in events, and not kept");
        }
        Ok(())
    }

    /// All that was ever accepted is there, and the events from the first one on are those that
    /// the reader saw while it was all going on.
    pub(crate) fn check_all(&self, told: &Told, seen: &[Event]) -> anyhow::Result<()> {
        let mut kept = HashSet::new();
        let mut page = PageRequest { after: None, limit: store::limits::PAGE_ITEMS_MAX };
        loop {
            let templates = self.store.templates(&TemplateFilter::default(), page)?;
            kept.extend(templates.items.into_iter().filter_map(|kept| kept.template_hash));
            page.after = templates.next;
            if page.after.is_none() {
                break;
            }
        }
        for hash in told.accepted_hashes() {
            ensure!(kept.contains(hash), "template {hash} was accepted, and is not kept");
        }
        let (mut cursor, mut seen) = (Cursor::START, seen.iter());
        loop {
            let page = self.store.events_after(cursor, &EventFilter::ALL, 500)?;
            for event in page.events.iter().filter(|event| event.id <= self.last_event_id) {
                let then = seen.next();
                ensure!(then == Some(event), "the reader saw {then:?}, the log has {event:?}");
            }
            cursor = page.next;
            if !page.more {
                break;
            }
        }
        let lost = seen.next();
        ensure!(lost.is_none(), "the reader saw {lost:?}, the log has it no more");
        Ok(())
    }
}
