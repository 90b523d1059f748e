//! `/v1/pool/accounting`: what to credit.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use store::{
    Accounted, AccountingCursor, AccountingEntry, AccountingInterval, AccountingPage, ShareOrigin,
    TemplateSource,
};
use utoipa::{IntoParams, ToSchema};

use crate::extract::Query;
use crate::pool::app::Pool;
use crate::pool::limits::ACCOUNTING_ENTRIES_DEFAULT;
use crate::problem::{Problem, ProblemView};
use crate::routes::within;
use crate::views::names;

/// Which part of the feed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AccountingQuery {
    /// `next` of the part before; nothing or 0 for the oldest that is kept.
    #[param(pattern = "^(0|[1-9][0-9]*-[0-9a-fA-F]{16})?$")]
    after: Option<String>,
    /// Most entries in the answer.
    #[param(minimum = 1, maximum = 10000, default = 1000)]
    limit: Option<usize>,
}

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AccountingKind)]
enum Kind {
    /// Accepted shares of a user on one template in one interval.
    Work,
    /// A found block.
    Block,
}

/// How shares came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ShareOrigin)]
enum Origin {
    /// On the server's own mining ports.
    Port,
    /// At `/v1/pool/shares`: the pool has their results already.
    Pool,
}

/// One entry of the feed. It never changes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccountingEntry)]
struct EntryView {
    /// Its number, one more than that of the entry before.
    entry: u64,
    /// Number of its interval.
    interval: u64,
    /// What it is about.
    kind: Kind,
    /// User identity, up to the first dot of what the miner sent.
    user: String,
    /// Whose template was mined on.
    #[schema(value_type = names::Source)]
    template_source: TemplateSource,
    /// The miner's template, 64 hex digits; null for the pool's own and in coinbase-only mode.
    template_hash: Option<String>,
    /// Of `work`: how its shares came. A pool that credits what `/v1/pool/shares` answers does not
    /// credit `pool` here. Absent in entries of versions that did not tell the two apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    origin: Option<Origin>,
    /// Of `work`: how many shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    shares: Option<u64>,
    /// Of `work`: their difficulties together. 2^32 hashes were made for each 1, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    work: Option<f64>,
    /// Of `work` on a miner's template: what its coinbase pays to the pool, satoshi.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pool_payout_sat: Option<u64>,
    /// Of `work` on a miner's template: what its coinbase could have claimed, satoshi; in
    /// coinbase-only mode what it takes, unverified.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    claimable_sat: Option<u64>,
    /// Of `work` on a miner's template: the part of a block that the pool would get, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    payout_share: Option<f64>,
    /// Of `work`: time of the first share, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    first_at: Option<u64>,
    /// Of `work`: time of the last share, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_at: Option<u64>,
    /// Of `block`: its hash, 64 hex digits as usually printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    block_hash: Option<String>,
    /// Of `block`: its height.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    height: Option<u32>,
    /// Of `block`: what its coinbase takes, satoshi.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reward_sat: Option<u64>,
    /// Of `block`: when it was found, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    found_at: Option<u64>,
}

impl From<AccountingEntry> for EntryView {
    fn from(entry: AccountingEntry) -> Self {
        let mut view = Self {
            entry: entry.number,
            interval: entry.interval,
            kind: Kind::Work,
            user: entry.user,
            template_source: entry.template_source,
            template_hash: entry.template_hash,
            origin: None,
            shares: None,
            work: None,
            pool_payout_sat: None,
            claimable_sat: None,
            payout_share: None,
            first_at: None,
            last_at: None,
            block_hash: None,
            height: None,
            reward_sat: None,
            found_at: None,
        };
        match entry.what {
            Accounted::Work {
                origin,
                shares,
                work,
                pool_payout_sat,
                claimable_sat,
                first_at,
                last_at,
            } => {
                view.origin = origin.map(|origin| match origin {
                    ShareOrigin::Port => Origin::Port,
                    ShareOrigin::Pool => Origin::Pool,
                });
                (view.shares, view.work) = (Some(shares), Some(work));
                (view.pool_payout_sat, view.claimable_sat) = (pool_payout_sat, claimable_sat);
                view.payout_share = payout_share(pool_payout_sat, claimable_sat);
                (view.first_at, view.last_at) = (Some(first_at), Some(last_at));
            }
            Accounted::Block { block_hash, height, reward_sat, found_at } => {
                view.kind = Kind::Block;
                (view.block_hash, view.height) = (Some(block_hash), Some(height));
                (view.reward_sat, view.found_at) = (Some(reward_sat), Some(found_at));
            }
        }
        view
    }
}

/// A payout above what is claimable is as good as all of it.
fn payout_share(pool_payout_sat: Option<u64>, claimable_sat: Option<u64>) -> Option<f64> {
    let claimable_sat = claimable_sat.filter(|sat| *sat > 0)?;
    Some((pool_payout_sat? as f64 / claimable_sat as f64).min(1.0))
}

/// A closed interval.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccountingInterval)]
struct IntervalView {
    /// Its number.
    interval: u64,
    /// When its first share or block became durable, Unix milliseconds.
    opened_at: u64,
    /// When it was closed, Unix milliseconds.
    closed_at: u64,
    /// Its shares are those of the events above this one.
    after_event: u64,
    /// Up to this one.
    last_event: u64,
}

impl From<AccountingInterval> for IntervalView {
    fn from(interval: AccountingInterval) -> Self {
        let AccountingInterval { number, opened_at, closed_at, after_event, last_event } = interval;
        Self { interval: number, opened_at, closed_at, after_event, last_event }
    }
}

/// A part of the feed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Accounting)]
pub(crate) struct AccountingView {
    /// Entries in order, of closed intervals alone.
    entries: Vec<EntryView>,
    /// The intervals that they are of. The first and the last may go on in other parts.
    intervals: Vec<IntervalView>,
    /// Where to go on: keep it together with what was credited.
    next: String,
    /// There is more to read at once.
    more: bool,
}

/// What to credit
///
/// Accepted work by user, interval, template and `origin`, and found blocks: each exactly once, in
/// entries that never change. Shares that were handed in at `/v1/pool/shares` are here, too: credit them
/// from here or from their answers, not from both. Keep `next` in the transaction that credits the entries, and ask again with it; a
/// reader that dies in between reads the same entries again.
#[utoipa::path(
    get, path = "/v1/pool/accounting", tag = "accounting",
    security(("token" = [])),
    params(AccountingQuery),
    responses(
        (status = 200, description = "Entries", body = AccountingView),
        (status = 410, description = "The cursor is older than what is kept, or of a history that a \
            backup has replaced", body = ProblemView, content_type = "application/problem+json"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn accounting(
    State(pool): State<Pool>,
    Query(query): Query<AccountingQuery>,
) -> Result<Json<AccountingView>, Problem> {
    let cursor: AccountingCursor = match query.after.as_deref() {
        None | Some("") => AccountingCursor::START,
        Some(text) => text.parse().map_err(|error| Problem::parameter("after", error))?,
    };
    let limit = query.limit.unwrap_or(ACCOUNTING_ENTRIES_DEFAULT);
    let limit = within("limit", limit, 1..=store::limits::ACCOUNTING_ENTRIES_MAX)?;
    let page = pool.reader.read(move |store| store.accounting_after(cursor, limit)).await?;
    let AccountingPage { entries, intervals, next, more } = page;
    Ok(Json(AccountingView {
        entries: entries.into_iter().map(EntryView::from).collect(),
        intervals: intervals.into_iter().map(IntervalView::from).collect(),
        next: next.to_string(),
        more,
    }))
}
