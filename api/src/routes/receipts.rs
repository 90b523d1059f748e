//! What signed verdicts are checked with.

use axum::Json;
use axum::extract::State;

use super::{ListQuery, page_request};
use crate::app::App;
use crate::extract::Query;
use crate::problem::{Problem, ProblemView};
use crate::views::receipt::{HeadsView, ReceiptKeysView};

/// Keys of receipts
///
/// With these a receipt, the proof of a rejection or a head of the event log is checked offline.
#[utoipa::path(
    get, path = "/v1/receipts/keys", tag = "server",
    responses(
        (status = 200, description = "Keys", body = ReceiptKeysView),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn receipt_keys(State(app): State<App>) -> Json<ReceiptKeysView> {
    Json(app.backend.receipt_keys().into())
}

/// Signed heads of the event log
///
/// Newest first. The log is a hash chain: a head is the server's signature over all events up to one.
/// The chain of the events that are kept begins after `anchor`.
#[utoipa::path(
    get, path = "/v1/events/heads", tag = "events",
    params(ListQuery),
    responses(
        (status = 200, description = "Heads", body = HeadsView),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn event_heads(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<HeadsView>, Problem> {
    let page = page_request(query.after, query.limit)?;
    let (ends, heads) = app
        .reader
        .read(move |store| {
            // First: an anchor that moves meanwhile is below the heads.
            let heads = store.event_heads(page)?;
            Ok((store.chain_ends()?, heads))
        })
        .await?;
    Ok(Json(HeadsView::of(app.reader.store.epoch(), ends, heads)))
}
