//! `/v1/templates` and `/v1/declarations`: what was declared, and how that went.

use axum::Json;
use axum::extract::State;
use bitcoin::hex::FromHex;
use serde::Deserialize;
use store::{TemplateFilter, TemplateRef, ValidationResult};
use utoipa::IntoParams;
use validation::TemplateHash;

use super::{moment, page_request, user};
use crate::app::App;
use crate::extract::{Path, Query};
use crate::problem::{Problem, ProblemView};
use crate::views::coinbase::CoinbaseView;
use crate::views::difference::DifferenceView;
use crate::views::template::{
    ContentView, DeclarationView, TemplateDetailView, TemplateView, TimingsView, TxView,
};
use crate::views::{Page, names};

/// Which templates.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TemplatesQuery {
    /// Of this user.
    #[param(min_length = 1, max_length = 1536)]
    user: Option<String>,
    /// With this verdict.
    #[param(value_type = Option<names::TemplateResult>)]
    result: Option<ValidationResult>,
    /// Declared at or after, Unix milliseconds.
    from: Option<u64>,
    /// Declared before, Unix milliseconds.
    until: Option<u64>,
    /// With this hash, 64 hex digits.
    #[param(pattern = "^[0-9a-fA-F]{64}$")]
    template_hash: Option<String>,
    /// `next` of the part before; nothing for the newest.
    after: Option<u64>,
    /// Most items in the answer.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

async fn list<T: Send + 'static>(
    app: &App,
    query: TemplatesQuery,
    view: fn(store::TemplateSummary) -> T,
) -> Result<Json<Page<T>>, Problem> {
    let page = page_request(query.after, query.limit)?;
    let filter = TemplateFilter {
        user: query.user.map(user).transpose()?,
        result: query.result,
        from_ms: query.from.map(|from| moment("from", from)).transpose()?,
        until_ms: query.until.map(|until| moment("until", until)).transpose()?,
        template_hash: query.template_hash.as_deref().map(template_hash).transpose()?,
    };
    let rows = app.reader.read(move |store| store.templates(&filter, page)).await?;
    Ok(Json(Page::of(rows, view)))
}

fn template_hash(text: &str) -> Result<TemplateHash, Problem> {
    <[u8; 32]>::from_hex(text)
        .map(TemplateHash::from_bytes)
        .map_err(|_| Problem::parameter("template hash", "64 hex digits are expected"))
}

/// Declared templates
///
/// Newest first; a template that was declared twice is there twice.
#[utoipa::path(
    get, path = "/v1/templates", tag = "templates",
    params(TemplatesQuery),
    responses(
        (status = 200, description = "Templates", body = Page<TemplateView>),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn templates(
    State(app): State<App>,
    Query(query): Query<TemplatesQuery>,
) -> Result<Json<Page<TemplateView>>, Problem> {
    list(&app, query, TemplateView::from).await
}

/// One template
///
/// With its transactions, its coinbase decoded, its timings, and how it differs from the template
/// of our own node at this moment. Of a template that was declared more than once it is the newest
/// declaration that was accepted.
#[utoipa::path(
    get, path = "/v1/templates/{template_hash}", tag = "templates",
    params(("template_hash" = String, Path, description = "Hash of the template, 64 hex digits",
        pattern = "^[0-9a-fA-F]{64}$")),
    responses(
        (status = 200, description = "The template", body = TemplateDetailView),
        (status = 404, description = "There is no such template", body = ProblemView,
            content_type = "application/problem+json"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn template(
    State(app): State<App>,
    Path(hash): Path<String>,
) -> Result<Json<TemplateDetailView>, Problem> {
    let hash = template_hash(&hash)?;
    let backend = app.backend.clone();
    let network = app.settings.network;
    let view = move |store: &dyn store::Store| {
        let which = TemplateRef::Hash(hash);
        let Some(summary) = store.template_summary(which)? else {
            return Ok(None);
        };
        // By number, so that both are the same declaration.
        let detail = store.template(TemplateRef::Id(summary.id))?;
        let own = backend.own_template();
        Ok(Some(TemplateDetailView {
            timings: TimingsView::of(&summary),
            template: TemplateView::from(summary),
            difference: DifferenceView::new(detail.as_ref(), own.as_deref()),
            content: detail.map(|detail| ContentView {
                version: detail.version,
                sigop_cost_min: detail.sigop_cost_min,
                coinbase: CoinbaseView::new(
                    &detail.coinbase_prefix,
                    &detail.coinbase_suffix,
                    network,
                ),
                transactions: detail.txs.map(|txs| txs.iter().map(TxView::from).collect()),
            }),
        }))
    };
    let found = app.reader.read(view).await?;
    found.map(Json).ok_or_else(|| Problem::not_found(format!("template {hash}")))
}

/// Declarations
///
/// Newest first, with the rule that a rejected one broke, what was expected and what was found.
#[utoipa::path(
    get, path = "/v1/declarations", tag = "templates",
    params(TemplatesQuery),
    responses(
        (status = 200, description = "Declarations", body = Page<DeclarationView>),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn declarations(
    State(app): State<App>,
    Query(query): Query<TemplatesQuery>,
) -> Result<Json<Page<DeclarationView>>, Problem> {
    list(&app, query, DeclarationView::from).await
}

/// One declaration
#[utoipa::path(
    get, path = "/v1/declarations/{id}", tag = "templates",
    params(("id" = u64, Path, description = "Number of the declaration")),
    responses(
        (status = 200, description = "The declaration", body = DeclarationView),
        (status = 404, description = "There is no such declaration", body = ProblemView,
            content_type = "application/problem+json"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn declaration(
    State(app): State<App>,
    Path(id): Path<u64>,
) -> Result<Json<DeclarationView>, Problem> {
    let id = super::within("id", id, 0..=i64::MAX as u64)?;
    let row = app.reader.read(move |store| store.template_summary(TemplateRef::Id(id))).await?;
    let row = row.ok_or_else(|| Problem::not_found(format!("declaration {id}")))?;
    Ok(Json(DeclarationView::from(row)))
}
