//! Events of made-up users, and which badges they earn.

use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::{
    AcceptedTemplate, Batch, MinerConnected, NodeStatus, Role, ShareSubmitted, TemplateSource,
    UserTag,
};
use validation::coinbase::CoinbaseParts;
use validation::declared::{Declared, TemplateHash};
use validation::job::{AcceptedJob, Fees, JobParts};
use validation::tip::{ChainTip, NextBits};

use crate::{Awards, THRESHOLD};

/// A moment in 2100, Unix milliseconds: the store's own housekeeping, which goes by the clock, never
/// finds these events old.
const FIRST_MS: u64 = 4_102_444_800_000;

/// Users that come new with each call of [`Feed::events`].
const NEW_USERS: usize = 6;

/// Names that a path, a query, a line or a statement could stumble over.
const AWKWARD: &[&str] =
    &["%2e%2e", "a/b?c#d%20e&f", "o'brien\"; --", "Grüße 矿工", " spaced out ", "+"];

/// See the module.
pub(crate) struct Feed {
    pub(crate) rng: StdRng,
    pub(crate) now_ms: u64,
    users: Vec<String>,
    job: Arc<AcceptedJob>,
    shares: u64,
    /// Accepted templates of each user.
    totals: std::collections::BTreeMap<String, u64>,
    /// What was earned so far.
    pub(crate) earned: Awards,
}

impl Feed {
    /// With another course of events each time. Its seed is printed, and taken from `BADGES_SEED`
    /// if that is set.
    pub(crate) fn new() -> Self {
        let seed = std::env::var("BADGES_SEED")
            .map_or_else(|_| rand::random(), |seed| seed.parse().expect("BADGES_SEED is a number"));
        println!("BADGES_SEED={seed}");
        Self {
            rng: StdRng::seed_from_u64(seed),
            now_ms: FIRST_MS,
            users: AWKWARD.iter().map(ToString::to_string).collect(),
            job: Arc::new(job()),
            shares: 0,
            totals: Default::default(),
            earned: Awards::new(),
        }
    }

    /// So many batches at random, of users old and new.
    pub(crate) fn events(&mut self, batches: usize) -> Vec<Batch> {
        for _ in 0..NEW_USERS {
            self.users.push(format!("user {}", self.users.len()));
        }
        (0..batches).map(|_| self.random_batch()).collect()
    }

    fn random_batch(&mut self) -> Batch {
        let mut batch = self.batch();
        for _ in 0..self.rng.gen_range(1..5) {
            // Mostly the newest, so that something is earned until the end.
            let newest = self.users.len().saturating_sub(3 * NEW_USERS);
            let from = if self.rng.gen_ratio(4, 5) { newest } else { 0 };
            let user = self.users[self.rng.gen_range(from..self.users.len())].clone();
            batch = match self.rng.gen_range(0..5) {
                0 => {
                    let negotiates = self.rng.gen_ratio(1, 3);
                    self.connects(batch, Some(&user), negotiates)
                }
                1 => self.declares(batch, &user),
                2 => {
                    let accepted = self.rng.gen_ratio(2, 3);
                    let source =
                        [TemplateSource::Miner, TemplateSource::Pool][self.rng.gen_range(0..2)];
                    self.shares(batch, &user, accepted, source)
                }
                3 => self.connects(batch, None, true),
                _ => batch.event(NodeStatus {
                    kind: None,
                    node: "main".to_owned(),
                    state: "at_tip".to_owned(),
                    height: Some(800_000),
                    detail: None,
                }),
            };
        }
        batch
    }

    /// An empty batch, later than all before.
    pub(crate) fn batch(&mut self) -> Batch {
        self.now_ms += 1;
        Batch::new(self.now_ms)
    }

    /// A miner connects.
    pub(crate) fn connects(&mut self, batch: Batch, user: Option<&str>, negotiates: bool) -> Batch {
        if let (Some(user), true) = (user, negotiates) {
            self.earn(user, "Node Runner");
        }
        batch.event(MinerConnected {
            user: user.map(ToOwned::to_owned),
            connection_id: 7,
            remote: "192.0.2.1:50000".to_owned(),
            role: Role::JobDeclaration,
            flags: u32::from(negotiates),
            job_negotiation: negotiates,
            reason: None,
        })
    }

    /// A template is accepted.
    pub(crate) fn declares(&mut self, batch: Batch, user: &str) -> Batch {
        let total = self.totals.entry(user.to_owned()).or_default();
        *total += 1;
        if *total == THRESHOLD {
            self.earn(user, "Template Crafter");
        }
        let job = Arc::clone(&self.job);
        batch.accept_template(AcceptedTemplate {
            user: user.into(),
            worker: "".into(),
            user_tag: UserTag([1; 16]),
            job,
            validation_ms: 1.5,
            fetch_ms: None,
            txs_unknown: 0,
            request_bytes: 1_000,
            rules: Arc::new(validation::Rules {
                network: bitcoin::Network::Regtest,
                payout: validation::Payout::Pool {
                    script: bitcoin::ScriptBuf::from_bytes(vec![0x51]),
                    min_share_bp: 9_500,
                },
                imposed_outputs: Vec::new(),
            }),
        })
    }

    /// A share comes: as an event, as a row, or as both, as a server chooses.
    pub(crate) fn shares(
        &mut self,
        batch: Batch,
        user: &str,
        accepted: bool,
        template_source: TemplateSource,
    ) -> Batch {
        if accepted && template_source == TemplateSource::Miner {
            self.earn(user, "Sovereign Miner");
        }
        self.shares += 1;
        let share = ShareSubmitted {
            user: user.to_owned(),
            worker: "rig".to_owned(),
            channel_id: 1,
            job_id: 2,
            accepted,
            error_code: (!accepted).then(|| "difficulty-too-low".to_owned()),
            difficulty: 2.0,
            share_hash: format!("{:064x}", self.shares),
            template_source,
            miner_template_hash: None,
            miner_tx_count: None,
            miner_template_fees_sat: None,
            pool_payout_sat: None,
            claimable_sat: None,
            first_for_user: None,
        };
        match self.rng.gen_range(0..3) {
            0 => batch.share(share),
            1 => batch.event(share),
            _ => batch.share(share.clone()).event(share),
        }
    }

    /// All three badges of a user, in one batch.
    pub(crate) fn earns_all(&mut self, user: &str) -> Batch {
        let mut batch = self.batch();
        batch = self.connects(batch, Some(user), true);
        batch = self.shares(batch, user, true, TemplateSource::Miner);
        for _ in 0..THRESHOLD {
            batch = self.declares(batch, user);
        }
        batch
    }

    /// A badge is earned once; later events change nothing.
    fn earn(&mut self, user: &str, badge: &str) {
        self.earned.entry((user.to_owned(), badge.to_owned())).or_insert(self.now_ms);
    }
}

/// An accepted job without transactions, for a block at height 200.
fn job() -> AcceptedJob {
    let mut prefix = vec![2, 0, 0, 0, 1];
    prefix.extend([0; 32]);
    prefix.extend([0xff; 4]);
    // A scriptSig of the height and eight bytes of extranonce.
    prefix.extend([3 + 8, 2, 200, 0]);
    let mut suffix = vec![0xff; 4];
    suffix.push(1);
    suffix.extend(5_000_000_000_u64.to_le_bytes());
    suffix.extend([1, 0x51, 0, 0, 0, 0]);
    let declared = Declared {
        version: 0x2000_0000,
        coinbase_prefix: &prefix,
        coinbase_suffix: &suffix,
        wtxids: &[],
    };
    AcceptedJob::restore(JobParts {
        template_hash: TemplateHash::of(&declared),
        version: 0x2000_0000,
        coinbase: CoinbaseParts::parse(&prefix, &suffix).unwrap(),
        weight_wu: 1_000,
        txs: Vec::new(),
        tip: ChainTip {
            hash: BlockHash::hash(b"before"),
            height: 199,
            time: 1_693_612_000,
            median_time_past: 1_693_609_000,
            next_bits: NextBits::fixed(CompactTarget::from_consensus(0x207f_ffff)),
        },
        sigop_cost_min: 0,
        fees: Fees { total_sat: Some(0), known_sat: 0 },
        pool_payout_sat: 5_000_000_000,
        miner_payout_sat: 0,
        claimable_sat: 5_000_000_000,
    })
}
