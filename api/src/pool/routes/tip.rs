//! `/v1/pool/tip`: what to build on.

use axum::Json;
use axum::extract::State;
use bitcoin::Network;
use serde::Serialize;
use utoipa::ToSchema;
use validation::custom_job::first_ntime;
use validation::tip::ChainTip;

use crate::pool::app::Pool;
use crate::problem::{Kind, Problem, ProblemView};

/// The block to build on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Tip)]
pub(crate) struct TipView {
    /// Its hash, 64 hex digits as usually printed: `prev_hash` of the next block.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    prev_hash: String,
    /// Height of the next block.
    height: u32,
    /// Earliest time of the next block, Unix seconds.
    min_ntime: u32,
    /// nBits of the next block at that time, 8 hex digits, big endian.
    #[schema(pattern = "^[0-9a-f]{8}$")]
    nbits: String,
    /// On test networks: from this block time on, Unix seconds, the nBits are `late_nbits`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    late_ntime: Option<u32>,
    /// See `late_ntime`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^[0-9a-f]{8}$")]
    late_nbits: Option<String>,
}

impl TipView {
    pub(crate) fn of(tip: &ChainTip, network: Network) -> Self {
        let hex = |bits: bitcoin::CompactTarget| format!("{:08x}", bits.to_consensus());
        let min_ntime = first_ntime(tip, network);
        let late = tip.next_bits.min_difficulty;
        Self {
            prev_hash: tip.hash.to_string(),
            height: tip.next_height(),
            min_ntime,
            nbits: hex(tip.next_bits.at(min_ntime)),
            late_ntime: late.map(|late| late.after.saturating_add(1)),
            late_nbits: late.map(|late| hex(late.bits)),
        }
    }
}

/// The block to build on
///
/// As the server's own nodes have it.
#[utoipa::path(
    get, path = "/v1/pool/tip", tag = "chain",
    security(("token" = [])),
    responses(
        (status = 200, description = "The tip", body = TipView),
        (status = 503, description = "No node has told one yet", body = ProblemView,
            content_type = "application/problem+json"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn tip(State(pool): State<Pool>) -> Result<Json<TipView>, Problem> {
    let tip = *pool.backend.watch_tip().borrow();
    let Some(tip) = tip else {
        return Err(Problem::new(Kind::NoTip, "no node has told a tip yet"));
    };
    Ok(Json(TipView::of(&tip, pool.backend.network())))
}
