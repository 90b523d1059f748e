//! Random histories of commits, retention and restarts leave a sound store.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{
    KEEP_ALL, NOW_MS, all_events, assert_counted, assert_gap_free, assert_same_job, block, job,
    numbered, rejected, share, template, txs,
};
use proptest::prelude::*;
use store::{
    Batch, BlockState, Change, Keep, RecoverQuery, Retention, Settings, SqliteStore, Store,
    TemplateFilter, TemplateSource, ValidationResult,
};
use validation::job::AcceptedJob;

const DAY_MS: u64 = 86_400_000;
const RECOVER: RecoverQuery = RecoverQuery::ALL;

fn open(dir: &Path, retention: Retention) -> SqliteStore {
    SqliteStore::open(Settings { retention, ..Settings::new(dir) }).unwrap()
}

/// What a random history is made of.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Part>),
    Retain,
    /// A restart, in order or as by a kill.
    Restart {
        orderly: bool,
    },
}

#[derive(Debug, Clone)]
enum Part {
    Event,
    Token(u64),
    Template { user: u8, first: u64, count: u64 },
    Reject,
    Share { accepted: bool, miner: bool },
    Block(u32),
    Settle(u32),
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        3 => Just(Part::Event),
        2 => (0_u64..60).prop_map(Part::Token),
        4 => (0_u8..3, 0_u64..40, 0_u64..30)
            .prop_map(|(user, first, count)| Part::Template { user, first, count }),
        1 => Just(Part::Reject),
        2 => any::<(bool, bool)>().prop_map(|(accepted, miner)| Part::Share { accepted, miner }),
        1 => (0_u32..5).prop_map(Part::Block),
        1 => (0_u32..5).prop_map(Part::Settle),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(part(), 1..4).prop_map(Step::Commit),
        1 => Just(Step::Retain),
        1 => any::<bool>().prop_map(|orderly| Step::Restart { orderly }),
    ]
}

/// What decides whether a batch is refused.
#[derive(Debug, Clone, Default)]
struct Known {
    spent: BTreeSet<u64>,
    found: BTreeSet<u32>,
}

impl Known {
    /// What is known after the batch; `None` when it must be refused.
    fn allows(&self, parts: &[Part]) -> Option<Self> {
        let mut after = self.clone();
        parts
            .iter()
            .all(|part| match part {
                Part::Token(sequence) => after.spent.insert(*sequence),
                Part::Block(number) => {
                    after.found.insert(*number);
                    true
                }
                Part::Settle(number) => after.found.contains(number),
                _ => true,
            })
            .then_some(after)
    }
}

/// A batch, and the jobs in it.
fn batch_of(parts: &[Part], now_ms: u64) -> (Batch, Vec<AcceptedJob>) {
    let mut batch = Batch::new(now_ms);
    let mut jobs = Vec::new();
    for part in parts {
        batch = match part {
            Part::Event => batch.event(numbered(now_ms)),
            Part::Token(sequence) => batch.spend_token(*sequence, now_ms + DAY_MS, "alice".into()),
            Part::Template { user, first, count } => {
                let job = job(200, *first as u32, txs(*first..first + count));
                jobs.push(job.clone());
                batch.accept_template(template(&format!("user-{user}"), job))
            }
            Part::Reject => batch.change(Change::RejectTemplate(rejected(1))),
            Part::Share { accepted, miner } => {
                let source = [TemplateSource::Pool, TemplateSource::Miner][usize::from(*miner)];
                let share = share("alice", now_ms, source);
                batch.share(store::ShareSubmitted { accepted: *accepted, ..share })
            }
            Part::Block(number) => batch.change(Change::FindBlock(block(*number, 300))),
            Part::Settle(number) => batch.change(Change::BlockProgress {
                block_hash: block(*number, 300).block.hash,
                state: BlockState::Orphaned,
                confirmations: 0,
            }),
        };
    }
    (batch, jobs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happens: ids have no gap, what is acknowledged stays until retention takes it,
    /// what is kept is whole, and the counted sizes are right.
    #[test]
    fn any_history_leaves_a_sound_store(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let retention = Retention {
            events: Keep { age_ms: u64::MAX, bytes: 4_000 },
            transactions: Keep { age_ms: 20 * 1_000, bytes: 8_000 },
            templates: Keep { age_ms: 30 * 1_000, bytes: u64::MAX },
            ..KEEP_ALL
        };
        let mut store = open(dir.path(), retention);
        let (mut now_ms, mut last_id, mut accepted) = (NOW_MS, 0, Vec::new());
        let mut known = Known::default();
        for step in &steps {
            now_ms += 1_000;
            match step {
                Step::Commit(parts) => {
                    let (batch, jobs) = batch_of(parts, now_ms);
                    let outcome = store.commit(batch).wait();
                    // Refused when a token was spent before or a block was never found, only then.
                    let allowed = known.allows(parts);
                    prop_assert_eq!(outcome.is_ok(), allowed.is_some(), "{:?}", outcome);
                    if let (Ok(committed), Some(after)) = (outcome, allowed) {
                        known = after;
                        if let Some(first) = committed.first_event_id {
                            prop_assert_eq!(first, last_id + 1);
                        }
                        last_id += u64::from(committed.events);
                        accepted.extend(jobs);
                    }
                }
                Step::Retain => store.retain(now_ms).unwrap(),
                Step::Restart { orderly } => {
                    if *orderly { store.close() } else { store.abandon() }
                    store = open(dir.path(), retention);
                }
            }
        }
        let events = all_events(&store);
        assert_gap_free(&events);
        prop_assert_eq!(store.last_event_id(), last_id);
        prop_assert_eq!(events.last().map_or(0, |event| event.id), last_id);
        let recovered = store.recover(&RECOVER).unwrap();
        prop_assert_eq!(recovered.damaged, Vec::<String>::new());
        // What is left is in order and whole. Retention takes turns among users, so it need not be
        // the newest of all.
        let mut left = accepted.iter().rev();
        for template in recovered.templates.iter().rev() {
            let hash = template.job.template_hash();
            let job = left.find(|job| job.template_hash() == hash);
            prop_assert!(job.is_some(), "{} is not among what was accepted, in order", hash);
            assert_same_job(&template.job, job.unwrap());
        }
        let retained = steps.iter().any(|step| matches!(step, Step::Retain));
        if !retained {
            prop_assert_eq!(recovered.templates.len(), accepted.len());
            prop_assert_eq!(events.len() as u64, last_id);
        }
        let filter = TemplateFilter { result: Some(ValidationResult::Accepted), ..Default::default() };
        let listed = store.templates(&filter, store::PageRequest { after: None, limit: 1_000 });
        prop_assert!(listed.unwrap().items.len() >= recovered.templates.len());
        assert_counted(dir.path(), &store.sizes().unwrap());
    }
}
