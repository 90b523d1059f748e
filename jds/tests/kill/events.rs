//! The reader of the events: one cursor over all kills and restarts, and what the events told.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use signet::wait;
use store::{
    Cursor, Event, EventData, EventFilter, EventLog, EventLogError, StreamEpoch, SubmissionState,
};

use crate::PATIENCE;
use crate::notes::{Attempt, Verdict};

/// Pause of the reader at the end of the log.
const PAUSE: Duration = Duration::from_millis(20);
/// Events read at once.
const PAGE_EVENTS: usize = 500;

/// Reads all the time, from another process than the server, as a badge engine would.
pub(crate) struct Reader {
    seen: Arc<Mutex<Seen>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    epoch: Option<StreamEpoch>,
    /// Why the log could not be read the last time; at a start that is as it should be.
    trouble: Option<String>,
    /// What must not happen.
    broken: Option<String>,
}

impl Reader {
    pub(crate) fn start(dir: &Path) -> Self {
        let (stop, stopped) = channel();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (dir, shared) = (dir.to_owned(), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let mut cursor = Cursor::START;
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                read_on(&dir, &mut cursor, &shared);
            }
        });
        Self { seen, stop: Some(stop), thread: Some(thread) }
    }

    /// The events from `from` on (0 is the first of all) up to the id `last`, once they are read.
    pub(crate) fn up_to(&self, last: u64, from: usize) -> anyhow::Result<Vec<Event>> {
        let what = format!("the reader of the events to come to {last}");
        let look = || {
            let seen = lock(&self.seen);
            let there = seen.events.last().is_some_and(|event| event.id >= last);
            (there || seen.broken.is_some()).then(|| seen.broken.clone())
        };
        let broken = wait::until(&what, PATIENCE, look).with_context(|| {
            let seen = lock(&self.seen);
            format!("read {} events; {:?}", seen.events.len(), seen.trouble)
        })?;
        if let Some(broken) = broken {
            bail!(broken);
        }
        Ok(lock(&self.seen).events.get(from..).unwrap_or_default().to_vec())
    }

    /// How far it is, and what was in its way the last time.
    pub(crate) fn place(&self) -> String {
        let seen = lock(&self.seen);
        let last = seen.events.last().map(|event| event.id);
        let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        format!("the reader is at {last:?}, ended: {ended}, trouble: {:?}", seen.trouble)
    }

    /// The epoch of all that was read.
    pub(crate) fn epoch(&self) -> Option<StreamEpoch> {
        lock(&self.seen).epoch
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_on(dir: &Path, cursor: &mut Cursor, seen: &Mutex<Seen>) {
    loop {
        let page =
            EventLog::open(dir).and_then(|log| log.after(*cursor, &EventFilter::ALL, PAGE_EVENTS));
        let mut seen = lock(seen);
        let page = match page {
            Ok(page) => page,
            Err(error @ EventLogError::Gone { .. }) => {
                seen.broken = Some(format!("a reader at {cursor} was sent away: {error}"));
                return;
            }
            Err(error) => {
                seen.trouble = Some(error.to_string());
                return;
            }
        };
        for event in page.events {
            let expected = seen.events.last().map_or(1, |last| last.id + 1);
            if event.id != expected {
                seen.broken = Some(format!("after event {} comes {}", expected - 1, event.id));
                return;
            }
            seen.events.push(event);
        }
        *cursor = page.next;
        let epoch = page.next.epoch;
        if seen.epoch.is_some() && seen.epoch != epoch {
            seen.broken = Some(format!("the epoch was {:?} and is {epoch:?}", seen.epoch));
        }
        seen.epoch = epoch;
        if !page.more || seen.broken.is_some() {
            return;
        }
    }
}

/// How often the events told of a template.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    proposed: u32,
    accepted: u32,
    rejected: u32,
}

/// What the events told of a user.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct UserCounts {
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    /// Answers that miners of that name got, and declarations that were never answered.
    acked: [u64; 2],
    unanswered: u64,
}

/// How often the events told of a block.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockCounts {
    found: u32,
    /// Taken by the node.
    pub(crate) accepted: u32,
    /// Buried, or another took its place.
    pub(crate) ended: u32,
}

/// What all events together told, and the answers that they have to agree with.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) events: usize,
    templates: HashMap<String, Counts>,
    pub(crate) users: HashMap<String, UserCounts>,
    pub(crate) blocks: HashMap<String, BlockCounts>,
}

impl Told {
    /// Takes in the next events.
    pub(crate) fn add(&mut self, events: &[Event]) -> anyhow::Result<()> {
        self.events += events.len();
        for event in events {
            let id = event.id;
            match event.typed().with_context(|| format!("event {id}"))? {
                EventData::TemplateProposed(data) => {
                    self.templates.entry(data.template_hash).or_default().proposed += 1;
                }
                EventData::TemplateAccepted(data) => {
                    let counts = self.templates.entry(data.template_hash).or_default();
                    counts.accepted += 1;
                    ensure!(counts.proposed == 1, "event {id} accepts what nobody proposed");
                    let user = self.users.entry(data.user).or_default();
                    user.accepted += 1;
                    let (told, counted) = (data.templates_accepted_total, user.accepted);
                    ensure!(told == counted, "event {id}: total is {told}, counted {counted}");
                }
                EventData::TemplateRejected(data) => {
                    if let Some(hash) = data.template_hash {
                        self.templates.entry(hash).or_default().rejected += 1;
                    }
                    self.users.entry(data.user).or_default().rejected += 1;
                }
                EventData::BlockFound(data) => self.block(data.block_hash).found += 1,
                EventData::BlockSubmitted(data) if data.result == SubmissionState::Accepted => {
                    self.block(data.block_hash).accepted += 1;
                }
                EventData::BlockConfirmed(data) => self.block(data.block_hash).ended += 1,
                EventData::BlockOrphaned(data) => self.block(data.block_hash).ended += 1,
                EventData::FloodAggregate(data) => {
                    bail!("event {id}: the test made too many events at a time: {data:?}");
                }
                _ => {}
            }
        }
        for (hash, counts) in &self.blocks {
            let BlockCounts { found, accepted, ended } = *counts;
            let once = found == 1 && accepted <= 1 && ended <= 1;
            ensure!(once, "block {hash} in the events: {counts:?}");
        }
        Ok(())
    }

    fn block(&mut self, hash: String) -> &mut BlockCounts {
        self.blocks.entry(hash).or_default()
    }

    /// Compares with the answers that miners got, and with the answers of all rounds before.
    pub(crate) fn check(&mut self, attempts: &[Attempt]) -> anyhow::Result<()> {
        for attempt in attempts {
            let user = self.users.entry(attempt.user.to_owned()).or_default();
            match &attempt.verdict {
                Some(Verdict::Accepted) => user.acked[0] += 1,
                Some(Verdict::Rejected { .. }) => user.acked[1] += 1,
                None => user.unanswered += 1,
            }
            let hash = attempt.hash.to_string();
            let told = self.templates.get(&hash).copied().unwrap_or_default();
            let Counts { proposed, accepted, rejected } = told;
            let right = match &attempt.verdict {
                Some(Verdict::Accepted) => (proposed, accepted, rejected) == (1, 1, 0),
                // A template that was turned down early has no name in the events.
                Some(Verdict::Rejected { .. }) => {
                    accepted == 0 && proposed == rejected && rejected <= 1
                }
                None => proposed == accepted + rejected && proposed <= 1,
            };
            let Attempt { user, verdict, .. } = attempt;
            ensure!(right, "template {hash} of {user}, answered {verdict:?}, in events: {told:?}");
        }
        for (name, user) in self.users.iter().filter(|(name, _)| !name.is_empty()) {
            for (told, acked) in [user.accepted, user.rejected].into_iter().zip(user.acked) {
                ensure!(
                    (acked..=acked + user.unanswered).contains(&told),
                    "{name}: {told} in events, {acked} answered, in {user:?}"
                );
            }
        }
        Ok(())
    }

    /// Whether that template was rejected under its name.
    pub(crate) fn rejected_by_name(&self, attempt: &Attempt) -> bool {
        self.templates.get(&attempt.hash.to_string()).is_some_and(|counts| counts.rejected > 0)
    }

    pub(crate) fn accepted_hashes(&self) -> impl Iterator<Item = &String> {
        self.templates.iter().filter(|(_, counts)| counts.accepted > 0).map(|(hash, _)| hash)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
