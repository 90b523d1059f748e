//! Miners, their badges, shares and tokens.

use serde::Serialize;
use store::{
    Aggregate, MinerSummary, MinersPage, SpentToken, TEMPLATE_CRAFTER_TEMPLATES, TemplateSource,
};
use utoipa::ToSchema;

use super::names;

/// What is known of a user since ever.
#[derive(Serialize, ToSchema)]
#[schema(as = Miner)]
pub(crate) struct MinerView {
    /// User identity.
    pub(crate) user: String,
    /// Unix milliseconds.
    pub(crate) first_seen: u64,
    /// Unix milliseconds.
    pub(crate) last_seen: u64,
    /// Templates accepted.
    pub(crate) templates_accepted_total: u64,
    /// Templates rejected.
    pub(crate) templates_rejected_total: u64,
    /// Accepted shares on templates of the miner.
    pub(crate) shares_accepted_miner: u64,
    /// Accepted shares on templates of the pool.
    pub(crate) shares_accepted_pool: u64,
    /// Shares that did not count.
    pub(crate) shares_rejected: u64,
    /// Blocks found.
    pub(crate) blocks_found: u64,
    /// Progress towards the badges. Whoever awards them decides by events; this is what they say.
    pub(crate) badges: Vec<BadgeView>,
}

/// Part of the users, by name.
#[derive(Serialize, ToSchema)]
#[schema(as = Miners)]
pub(crate) struct MinersView {
    /// The items.
    pub(crate) items: Vec<MinerView>,
    /// Cursor of the next part, to be given as `after`; null at the end.
    pub(crate) next: Option<String>,
}

impl From<MinersPage> for MinersView {
    fn from(page: MinersPage) -> Self {
        Self { items: page.miners.into_iter().map(MinerView::from).collect(), next: page.next }
    }
}

/// Progress towards a badge.
#[derive(Serialize, ToSchema)]
#[schema(as = Badge)]
pub(crate) struct BadgeView {
    /// `sovereign_miner`, `node_runner` or `template_crafter`.
    pub(crate) badge: &'static str,
    /// Its name.
    pub(crate) title: &'static str,
    /// What it takes, as a condition on events.
    pub(crate) condition: &'static str,
    /// How far the user is.
    pub(crate) progress: u64,
    /// How far it takes.
    pub(crate) goal: u64,
    /// When it was reached, Unix milliseconds.
    pub(crate) reached_at: Option<u64>,
}

impl From<MinerSummary> for MinerView {
    fn from(row: MinerSummary) -> Self {
        let once = |reached: Option<u64>| u64::from(reached.is_some());
        let crafted = row.templates_accepted_total.min(TEMPLATE_CRAFTER_TEMPLATES);
        let badges = vec![
            BadgeView {
                badge: "sovereign_miner",
                title: "Sovereign Miner",
                condition: "first share_submitted with accepted and template_source miner",
                progress: once(row.sovereign_miner_at),
                goal: 1,
                reached_at: row.sovereign_miner_at,
            },
            BadgeView {
                badge: "node_runner",
                title: "Node Runner",
                condition: "first miner_connected with job_negotiation",
                progress: once(row.node_runner_at),
                goal: 1,
                reached_at: row.node_runner_at,
            },
            BadgeView {
                badge: "template_crafter",
                title: "Template Crafter",
                condition: "template_accepted with templates_accepted_total 1000",
                progress: crafted,
                goal: TEMPLATE_CRAFTER_TEMPLATES,
                reached_at: row.template_crafter_at,
            },
        ];
        Self {
            user: row.user,
            first_seen: row.first_seen,
            last_seen: row.last_seen,
            templates_accepted_total: row.templates_accepted_total,
            templates_rejected_total: row.templates_rejected_total,
            shares_accepted_miner: row.shares_accepted_miner,
            shares_accepted_pool: row.shares_accepted_pool,
            shares_rejected: row.shares_rejected,
            blocks_found: row.blocks_found,
            badges,
        }
    }
}

/// Shares and templates over time.
#[derive(Serialize, ToSchema)]
#[schema(as = SharesSummary)]
pub(crate) struct SharesView {
    /// User identity; null for all users together.
    pub(crate) user: Option<String>,
    /// Length of each period.
    #[schema(value_type = names::PeriodName)]
    pub(crate) period: store::Period,
    /// Periods from here, Unix milliseconds.
    pub(crate) from: u64,
    /// Periods up to here, Unix milliseconds.
    pub(crate) until: u64,
    /// Periods in which something happened, oldest first; one for each source of templates.
    pub(crate) periods: Vec<AggregateView>,
}

/// What happened in one period on templates of one source.
#[derive(Serialize, ToSchema)]
#[schema(as = SharesPeriod)]
pub(crate) struct AggregateView {
    /// Start of the period, Unix milliseconds.
    pub(crate) start: u64,
    /// Whose templates.
    #[schema(value_type = names::Source)]
    pub(crate) template_source: TemplateSource,
    /// Shares that count.
    pub(crate) shares_accepted: u64,
    /// Shares that do not.
    pub(crate) shares_rejected: u64,
    /// Difficulty of those that count, added up.
    pub(crate) difficulty: f64,
    /// Templates accepted; 0 for those of the pool.
    pub(crate) templates_accepted: u64,
    /// Templates rejected; 0 for those of the pool.
    pub(crate) templates_rejected: u64,
    /// Blocks found.
    pub(crate) blocks_found: u64,
}

impl From<Aggregate> for AggregateView {
    fn from(row: Aggregate) -> Self {
        Self {
            start: row.start,
            template_source: row.template_source,
            shares_accepted: row.shares_accepted,
            shares_rejected: row.shares_rejected,
            difficulty: row.difficulty,
            templates_accepted: row.templates_accepted,
            templates_rejected: row.templates_rejected,
            blocks_found: row.blocks_found,
        }
    }
}

/// Tokens: how many are live, and which were used.
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
pub(crate) struct TokensView {
    /// Tokens that were given out and not used. They prove themselves, so there is no list of them.
    pub(crate) live: u64,
    /// Tokens that were used and have not expired, newest first.
    pub(crate) spent: Vec<SpentTokenView>,
    /// Cursor of the next part, to be given as `after`; null at the end.
    pub(crate) next: Option<u64>,
}

/// A token that was used.
#[derive(Serialize, ToSchema)]
#[schema(as = SpentToken)]
pub(crate) struct SpentTokenView {
    /// Unique number of the token; not the token itself.
    pub(crate) sequence: u64,
    /// User identity.
    pub(crate) user: String,
    /// When it was used, Unix milliseconds.
    pub(crate) spent_at: u64,
    /// When it would have expired, Unix milliseconds.
    pub(crate) expires_at: u64,
}

impl From<SpentToken> for SpentTokenView {
    fn from(row: SpentToken) -> Self {
        Self {
            sequence: row.sequence,
            user: row.user,
            spent_at: row.spent_at,
            expires_at: row.expires_at,
        }
    }
}
