//! Tokens, blocks, shares, miners and nodes.

use axum::Json;
use axum::extract::State;
use bitcoin::BlockHash;
use serde::Deserialize;
use store::{Period, SharesQuery};
use utoipa::IntoParams;

use super::{ListQuery, moment, page_request, user, within};
use crate::app::{App, now_ms};
use crate::extract::{Path, Query};
use crate::limits;
use crate::problem::{Problem, ProblemView};
use crate::views::chain::{BlockView, NodeView, NodesView};
use crate::views::channel::ChannelView;
use crate::views::miner::{
    AggregateView, MinerView, MinersView, SharesView, SpentTokenView, TokensView,
};
use crate::views::{Page, names};

/// Periods that are shown when nobody says from when.
const PERIODS_DEFAULT: u64 = 48;

/// Tokens
///
/// How many are live, and which were used and have not expired, newest first.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "miners",
    params(ListQuery),
    responses(
        (status = 200, description = "Tokens", body = TokensView),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn tokens(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<TokensView>, Problem> {
    let page = page_request(query.after, query.limit)?;
    let spent = app.reader.read(move |store| store.spent_tokens(page)).await?;
    Ok(Json(TokensView {
        live: app.backend.live().tokens,
        next: spent.next,
        spent: spent.items.into_iter().map(SpentTokenView::from).collect(),
    }))
}

/// Blocks
///
/// Newest first, with what each node made of them.
#[utoipa::path(
    get, path = "/v1/blocks", tag = "blocks",
    params(ListQuery),
    responses(
        (status = 200, description = "Blocks", body = Page<BlockView>),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn blocks(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<BlockView>>, Problem> {
    let page = page_request(query.after, query.limit)?;
    let rows = app.reader.read(move |store| store.blocks(page)).await?;
    Ok(Json(Page::of(rows, BlockView::from)))
}

/// One block
#[utoipa::path(
    get, path = "/v1/blocks/{block_hash}", tag = "blocks",
    params(("block_hash" = String, Path, description = "Hash of the block, 64 hex digits",
        pattern = "^[0-9a-fA-F]{64}$")),
    responses(
        (status = 200, description = "The block", body = BlockView),
        (status = 404, description = "We found no such block", body = ProblemView,
            content_type = "application/problem+json"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn block(
    State(app): State<App>,
    Path(hash): Path<String>,
) -> Result<Json<BlockView>, Problem> {
    let hash: BlockHash =
        hash.parse().map_err(|_| Problem::parameter("block_hash", "64 hex digits are expected"))?;
    let row = app.reader.read(move |store| store.block(&hash.to_string())).await?;
    let row = row.ok_or_else(|| Problem::not_found(format!("block {hash} of ours")))?;
    Ok(Json(BlockView::from(row)))
}

/// Which aggregates.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SharesParams {
    /// Of this user; nothing for all users together.
    #[param(min_length = 1, max_length = 1536)]
    user: Option<String>,
    /// By hour or by day.
    #[param(value_type = Option<names::PeriodName>)]
    period: Option<Period>,
    /// Periods that start at or after, Unix milliseconds. Nothing for the last 48 periods.
    from: Option<u64>,
    /// Periods that start before, Unix milliseconds. Nothing for now.
    until: Option<u64>,
}

/// Shares and templates by hour or day
///
/// Split by whose template it was; survives the retention of single shares.
#[utoipa::path(
    get, path = "/v1/shares/summary", tag = "miners",
    params(SharesParams),
    responses(
        (status = 200, description = "Aggregates", body = SharesView),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn shares_summary(
    State(app): State<App>,
    Query(query): Query<SharesParams>,
) -> Result<Json<SharesView>, Problem> {
    let user = query.user.map(user).transpose()?;
    let period = query.period.unwrap_or(Period::Hour);
    let until = moment("until", query.until.unwrap_or_else(now_ms))?;
    let default_from = until.saturating_sub(PERIODS_DEFAULT * period.ms());
    let from = moment("from", query.from.unwrap_or(default_from))?;
    if from > until {
        return Err(Problem::parameter("from", format!("{from} is later than until, {until}")));
    }
    // Each period comes once for each source of templates, and one more may begin in the rest.
    let longest = (store::limits::AGGREGATES_MAX / 2 - 1) as u64;
    super::within("periods between from and until", (until - from) / period.ms(), 0..=longest)?;
    let shares = SharesQuery { user: user.clone(), period, from_ms: from, until_ms: until };
    let rows = app.reader.read(move |store| store.shares_summary(&shares)).await?;
    let periods = rows.into_iter().map(AggregateView::from).collect();
    Ok(Json(SharesView { user, period, from, until, periods }))
}

/// A miner
///
/// Totals since ever, with the progress towards badges.
#[utoipa::path(
    get, path = "/v1/miners/{user}", tag = "miners",
    params(("user" = String, Path, description = "User identity", min_length = 1, max_length = 1536)),
    responses(
        (status = 200, description = "The miner", body = MinerView),
        (status = 404, description = "There is no such miner", body = ProblemView,
            content_type = "application/problem+json"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn miner(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<MinerView>, Problem> {
    let name = user(name)?;
    let asked = name.clone();
    let row = app.reader.read(move |store| store.miner(&asked)).await?;
    let row = row.ok_or_else(|| Problem::not_found(format!("miner {name:?}")))?;
    Ok(Json(MinerView::from(row)))
}

/// Which miners.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct MinersQuery {
    /// `next` of the part before; nothing for the first.
    #[param(max_length = 1536)]
    after: Option<String>,
    /// Most items in the answer.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Miners
///
/// All users with totals, by name.
#[utoipa::path(
    get, path = "/v1/miners", tag = "miners",
    params(MinersQuery),
    responses(
        (status = 200, description = "Miners", body = MinersView),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn miners(
    State(app): State<App>,
    Query(query): Query<MinersQuery>,
) -> Result<Json<MinersView>, Problem> {
    let limit = page_request(None, query.limit)?.limit;
    // A name as it was given out: that of a user of whom there is nothing but a worker is empty.
    let after = query.after;
    let bytes = after.as_ref().map_or(0, String::len);
    within("length of after, bytes", bytes, 0..=limits::USER_BYTES_MAX)?;
    let page = app.reader.read(move |store| store.miners(after.as_deref(), limit)).await?;
    Ok(Json(MinersView::from(page)))
}

/// Open mining channels
///
/// Of miners that are connected now, newest first. A Stratum V1 worker is one. What they did before is
/// in `/v1/miners`, shares that a pool hands in are not here.
#[utoipa::path(
    get, path = "/v1/channels", tag = "miners",
    params(ListQuery),
    responses(
        (status = 200, description = "Channels", body = Page<ChannelView>),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn channels(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ChannelView>>, Problem> {
    let page = page_request(query.after, query.limit)?;
    Ok(Json(Page::of(app.backend.channels(page), ChannelView::from)))
}

/// The nodes
///
/// What each of them does, and which one tip and template come from.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "server",
    responses(
        (status = 200, description = "Nodes", body = NodesView),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn nodes(State(app): State<App>) -> Json<NodesView> {
    Json(NodesView { nodes: app.backend.nodes().into_iter().map(NodeView::from).collect() })
}
