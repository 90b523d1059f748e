//! Errors as RFC 9457 problem details: one shape for all of them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use store::{AccountingCursor, Cursor, Gone, ReadError};
use utoipa::ToSchema;

/// Media type of problem details.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which a client that met a full queue may come back.
const RETRY_AFTER_S: u64 = 2;

/// Declares the kinds with status, name and title side by side.
macro_rules! kinds {
    ($($(#[$doc:meta])+ $kind:ident = $status:ident, $name:literal, $title:literal;)+) => {
        /// What can go wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind { $($(#[$doc])+ $kind,)+ }

        impl Kind {
            pub(crate) const ALL: &[Self] = &[$(Self::$kind,)+];

            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)+ }
            }

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)+ }
            }
        }
    };
}

kinds! {
    /// A parameter has no meaning.
    BadParameter = BAD_REQUEST, "bad-parameter", "A parameter can not be used";
    /// The body is no JSON.
    BadBody = BAD_REQUEST, "bad-body", "The body can not be read";
    /// What came is no request, and was never seen by a handler.
    BadRequest = BAD_REQUEST, "bad-request", "This is no request of HTTP/1";
    /// No token, or another one.
    Unauthorized = UNAUTHORIZED, "unauthorized", "A token is needed";
    /// No token is configured, so nobody may write.
    WritesDisabled = FORBIDDEN, "writes-disabled", "Writing is not configured";
    /// The token may read only.
    ReadOnlyToken = FORBIDDEN, "read-only-token", "This token may not write";
    /// A Host or Origin that a page of somebody else would send.
    ForeignHost = FORBIDDEN, "foreign-host", "Asked under a name that is not ours";
    /// There is no such thing.
    NotFound = NOT_FOUND, "not-found", "There is no such thing";
    /// The path is there, the method is not.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "The path has no such method";
    /// Nothing that the client takes.
    NotAcceptable = NOT_ACCEPTABLE, "not-acceptable", "None of the accepted media types is had";
    /// The body did not come in time.
    Timeout = REQUEST_TIMEOUT, "timeout", "The request took too long";
    /// It contradicts what is there.
    Conflict = CONFLICT, "conflict", "It contradicts what is there";
    /// The cursor points at what is gone.
    CursorGone = GONE, "cursor-gone", "The cursor points at events that are gone";
    /// The body is too large.
    TooLarge = PAYLOAD_TOO_LARGE, "too-large", "The body is too large";
    /// The address is too long.
    AddressTooLong = URI_TOO_LONG, "address-too-long", "The address is too long";
    /// The head is too large.
    HeadTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "The head is too large";
    /// The body is not declared to be JSON.
    MediaType = UNSUPPORTED_MEDIA_TYPE, "media-type", "The body must be application/json";
    /// The body is JSON, but not what is expected.
    BadContent = UNPROCESSABLE_ENTITY, "bad-content", "The body does not hold what is expected";
    /// Too many at the same time.
    Busy = SERVICE_UNAVAILABLE, "busy", "Too many at the same time";
    /// No node has told us the chain yet.
    NoTip = SERVICE_UNAVAILABLE, "no-tip", "The chain is not known yet";
    /// The store does not answer, or does not write.
    StoreUnavailable = SERVICE_UNAVAILABLE, "store-unavailable", "The store is not available";
    /// A fault of ours.
    Internal = INTERNAL_SERVER_ERROR, "internal", "A fault of this server";
}

/// An error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    /// What happened this time, and what was expected.
    pub(crate) detail: String,
    /// With [`Kind::CursorGone`].
    gone: Option<Gone>,
    /// The same of the accounting feed.
    accounting_gone: Option<AccountingCursor>,
}

/// An error (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemView {
    /// What kind of error: an address on this server that explains it.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference")]
    kind: String,
    /// The kind in words.
    title: &'static str,
    /// Status of the answer.
    status: u16,
    /// What happened this time, and what was expected.
    detail: String,
    /// With `cursor-gone`: the current stream epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    epoch: Option<String>,
    /// With `cursor-gone`: smallest event id that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    earliest_id: Option<u64>,
    /// With `cursor-gone`: the cursor to go on with, in front of what is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    earliest_cursor: Option<String>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), gone: None, accounting_gone: None }
    }

    pub(crate) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(Kind::NotFound, format!("there is no {what}"))
    }

    pub(crate) fn parameter(name: &str, detail: impl std::fmt::Display) -> Self {
        Self::new(Kind::BadParameter, format!("{name}: {detail}"))
    }

    fn gone(gone: Gone) -> Self {
        let detail = format!(
            "events after this cursor are not kept any more, or it belongs to another epoch; the \
             earliest event is {} of epoch {}",
            gone.earliest, gone.epoch
        );
        Self { gone: Some(gone), ..Self::new(Kind::CursorGone, detail) }
    }

    /// Seconds after which it is worth trying again, if it is.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        (self.kind.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_S)
    }

    /// As it is sent.
    pub(crate) fn view(&self) -> ProblemView {
        let before =
            |gone: Gone| Cursor { epoch: Some(gone.epoch), id: gone.earliest.saturating_sub(1) };
        ProblemView {
            kind: format!("/docs#problem-{}", self.kind.name()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: self.detail.clone(),
            epoch: self.gone.map(|gone| gone.epoch.to_string()),
            earliest_id: self.gone.map(|gone| gone.earliest),
            earliest_cursor: match self.accounting_gone {
                Some(earliest) => Some(earliest.to_string()),
                None => self.gone.map(|gone| before(gone).to_string()),
            },
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::Gone(gone) => Self::gone(*gone),
            ReadError::AccountingGone { earliest } => Self {
                accounting_gone: Some(*earliest),
                ..Self::new(
                    Kind::CursorGone,
                    "entries after this cursor are not kept any more, or it belongs to a history \
                     that a backup has replaced: compare what was credited, then go on with \
                     earliest_cursor",
                )
            },
            ReadError::Busy { .. } => Self::new(Kind::Busy, error.to_string()),
            // Paths and SQL are for the log of the operator, not for whoever asks.
            ReadError::Database(_) => {
                tracing::warn!(%error, "a read of the API failed");
                Self::new(Kind::StoreUnavailable, "the store can not be read at the moment")
            }
            ReadError::Damaged(_) => {
                tracing::error!(%error, "a read of the API failed");
                Self::new(Kind::Internal, "what the store holds there is damaged")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let mut response = (status, Json(self.view())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
