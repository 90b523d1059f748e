//! What signed verdicts are checked with.

use axum::Json;
use axum::extract::State;

use crate::app::App;
use crate::problem::ProblemView;
use crate::views::receipt::ReceiptKeysView;

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
